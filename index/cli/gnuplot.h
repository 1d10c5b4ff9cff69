/* gnuplot.h - panels of curves over one axis as an SVG, drawn by gnuplot(1) where that is installed. */
#ifndef CKPT_CLI_GNUPLOT_H
#define CKPT_CLI_GNUPLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Curves a panel: as many as there are colours that everybody can tell apart. */
#define GNUPLOT_CURVES_MAX 7

struct gnuplot_point {
	double x, y; /* finite */
};

struct gnuplot_curve {
	const char *title; /* any text */
	struct gnuplot_point *points;
	size_t count;
};

struct gnuplot_panel {
	char *label; /* of the y axis, with its unit; any text; heap */
	bool from_zero;
	struct gnuplot_curve *curves; /* as many as there are in the picture */
};

struct gnuplot_picture {
	const char *title;   /* any text */
	const char *x_label; /* any text */
	struct gnuplot_panel *panels;
	size_t panel_count;
	size_t curve_count;
};

/** gnuplot_script - append the commands that draw it; every text is quoted. */
void gnuplot_script(const struct gnuplot_picture *picture, struct ckpt_buf *out);
/**
 * gnuplot_run - let gnuplot draw what @script says; *@out receives what it printed
 * Errors: -ENOENT it is not installed (says how to); -EIO it failed (with its words); system.
 */
int gnuplot_run(const struct ckpt_buf *script, struct ckpt_buf *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
