/*
 * bar.h - one line of text that shows how far work is: label, bar, percentage, figures. Plain
 * characters, no colour; where it goes and when is the caller's business.
 */
#ifndef CKPT_BASE_BAR_H
#define CKPT_BASE_BAR_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"

/* Where a terminal does not tell how wide it is. */
#define CKPT_BAR_WIDTH_DEFAULT 80

/* What there is to show. */
struct ckpt_bar {
	const char *label;
	uint64_t bytes_done; /* at most bytes_total */
	uint64_t bytes_total;
	uint64_t ms;	  /* since the work began */
	const char *note; /* behind the figures; "" none */
};

/**
 * ckpt_bar_print - at most @width columns of it, appended to @out, without a line's end
 * What does not fit is left out: first the bar, then the note, then the figures; the percentage
 * stays.
 */
void ckpt_bar_print(const struct ckpt_bar *bar, size_t width, struct ckpt_buf *out);

/** ckpt_bar_width - columns of the terminal @fd, else $COLUMNS, else CKPT_BAR_WIDTH_DEFAULT. */
size_t ckpt_bar_width(int fd);

#endif
