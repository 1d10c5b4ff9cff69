/* cli_plot.c - size, time of the save and metadata over steps, as a picture. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/gnuplot.h"
#include "cli/history.h"
#include "cli/norms.h"
#include "cli/options.h"
#include "cli/suggest.h"

/* Of the metadata, unless somebody says which: more panels than this are no overview. */
#define META_PANELS_MAX 6

/* What is asked for besides size and time. */
struct plot_wanted {
	struct option_list metas;   /* none: those there are */
	struct option_list tensors; /* FQNs */
};

struct plot {
	const struct history *history;
	const struct norms *norms;
	char **groups; /* owned; the folders the checkpoints lie in, each a curve */
	size_t group_count, group_cap;
	bool by_step;	  /* else by seq: nobody has a step */
	const char *unit; /* of sizes */
	double unit_bytes;
	struct gnuplot_picture picture;
	size_t panel_cap;
};

/* --- groups -------------------------------------------------------------------------------- */

/* How much of @name is its group. */
static size_t group_len(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? (size_t)(slash - name) : 0;
}

static bool is_in_group(const struct history_item *item, const char *group)
{
	size_t len = group_len(item->found->name);

	return strlen(group) == len && strncmp(item->found->name, group, len) == 0;
}

static int add_group(struct plot *plot, const struct history_item *item)
{
	for (size_t i = 0; i < plot->group_count; i++) {
		if (is_in_group(item, plot->groups[i]))
			return 0;
	}
	if (array_grow(&plot->groups, &plot->group_cap, plot->group_count, sizeof(char *)) < 0)
		return -ENOMEM;
	plot->groups[plot->group_count] = strndup(item->found->name, group_len(item->found->name));
	return plot->groups[plot->group_count++] ? 0 : -ENOMEM;
}

static int find_groups(struct plot *plot, struct ckpt_err *err)
{
	for (size_t i = 0; i < plot->history->count; i++) {
		const struct history_item *item = &plot->history->items[i];

		if (add_group(plot, item) < 0)
			return ckpt_err_set(err, -ENOMEM, "out of memory while plotting");
		plot->by_step = plot->by_step || item->found->row.has_step;
	}
	if (plot->group_count > GNUPLOT_CURVES_MAX)
		return ckpt_err_set(
			err, -E2BIG,
			"%zu groups are more than the %d that can be told apart in one picture; name one of them",
			plot->group_count, GNUPLOT_CURVES_MAX);
	return 0;
}

/* --- points ---------------------------------------------------------------------------------- */

/* What a panel shows. */
enum quantity {
	PLOT_SIZE,
	PLOT_SECONDS,
	PLOT_META,
	PLOT_NORM,
};

/* A panel's quantity; @key and @tensor say which metadata, which norm. */
struct measure {
	enum quantity quantity;
	const char *key;
	size_t tensor; /* in the norms */
};

static bool value_of(const struct plot *plot, const struct history_item *item,
		     const struct measure *measure, double *out)
{
	const struct history_meta *meta;
	size_t idx = (size_t)(item - plot->history->items);

	switch (measure->quantity) {
	case PLOT_SIZE:
		*out = (double)item->found->row.size_bytes / plot->unit_bytes;
		return item->found->row.entries_indexed;
	case PLOT_SECONDS:
		*out = item->save_seconds;
		return item->has_save_seconds;
	case PLOT_NORM:
		*out = plot->norms->values[idx * plot->norms->tensor_count + measure->tensor];
		return isfinite(*out);
	default:
		meta = history_find_meta(item, measure->key);
		*out = meta ? meta->number : 0;
		return meta && meta->is_number && isfinite(meta->number);
	}
}

static int by_x(const void *a, const void *b)
{
	const struct gnuplot_point *left = a;
	const struct gnuplot_point *right = b;

	return (left->x > right->x) - (left->x < right->x);
}

static int fill_curve(const struct plot *plot, const char *group, const struct measure *measure,
		      struct gnuplot_curve *out)
{
	const struct history *history = plot->history;
	struct gnuplot_point *points = array_alloc(num_max(history->count, 1), sizeof(*points));
	size_t count = 0;

	if (!points)
		return -ENOMEM;
	for (size_t i = 0; i < history->count; i++) {
		const struct history_item *item = &history->items[i];
		const struct ckpt_db_checkpoint *row = &item->found->row;

		if (!is_in_group(item, group) || (plot->by_step && !row->has_step))
			continue;
		points[count].x = plot->by_step ? (double)row->step : (double)row->seq;
		if (value_of(plot, item, measure, &points[count].y))
			count++;
	}
	qsort(points, count, sizeof(*points), by_x);
	*out = (struct gnuplot_curve){ .title = group[0] ? group : "(top)",
				       .points = points,
				       .count = count };
	return 0;
}

/* --- panels ---------------------------------------------------------------------------------- */

static bool has_points(const struct plot *plot, const struct gnuplot_panel *panel)
{
	for (size_t i = 0; i < plot->group_count; i++) {
		if (panel->curves[i].count > 0)
			return true;
	}
	return false;
}

static void panel_release(const struct plot *plot, struct gnuplot_panel *panel)
{
	for (size_t i = 0; panel->curves && i < plot->group_count; i++)
		free(panel->curves[i].points);
	free(panel->curves);
	free(panel->label);
}

/* A panel without a point is left out. Takes ownership of @label. */
static int add_panel(struct plot *plot, char *label, const struct measure *measure)
{
	struct gnuplot_picture *picture = &plot->picture;
	struct gnuplot_panel panel = { .label = label,
				       .from_zero = measure->quantity == PLOT_SIZE ||
						    measure->quantity == PLOT_SECONDS };
	int rc = label ? 0 : -ENOMEM;

	panel.curves = array_alloc(plot->group_count, sizeof(*panel.curves));
	if (!panel.curves)
		rc = -ENOMEM;
	for (size_t i = 0; rc == 0 && i < plot->group_count; i++)
		rc = fill_curve(plot, plot->groups[i], measure, &panel.curves[i]);
	if (rc == 0 && has_points(plot, &panel))
		rc = array_grow(&picture->panels, &plot->panel_cap, picture->panel_count,
				sizeof(panel));
	if (rc == 0 && has_points(plot, &panel))
		picture->panels[picture->panel_count++] = panel;
	else
		panel_release(plot, &panel);
	return rc;
}

static void choose_unit(struct plot *plot)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	uint64_t most = 0;
	size_t unit = 0;

	for (size_t i = 0; i < plot->history->count; i++)
		most = num_max(most, plot->history->items[i].found->row.size_bytes);
	plot->unit_bytes = 1;
	while (unit + 1 < sizeof(units) / sizeof(units[0]) &&
	       (double)most >= plot->unit_bytes * 1024) {
		plot->unit_bytes *= 1024;
		unit++;
	}
	plot->unit = units[unit];
}

static char *size_label(const struct plot *plot)
{
	struct ckpt_buf label;

	ckpt_buf_init(&label);
	ckpt_buf_printf(&label, "size (%s)", plot->unit);
	return ckpt_buf_steal(&label);
}

static int add_meta_panels(struct plot *plot, const struct option_list *wanted,
			   const struct history_keys *keys)
{
	size_t count = wanted->count > 0 ? wanted->count : num_min(keys->count, META_PANELS_MAX);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		const struct measure measure = {
			.quantity = PLOT_META,
			.key = wanted->count > 0 ? wanted->items[i] : keys->items[i],
		};

		rc = add_panel(plot, strdup(measure.key), &measure);
	}
	return rc;
}

static int add_norm_panels(struct plot *plot, const struct option_list *fqns)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < fqns->count; i++) {
		const struct measure measure = { .quantity = PLOT_NORM, .tensor = i };
		struct ckpt_buf label;

		ckpt_buf_init(&label);
		ckpt_buf_printf(&label, "L2 norm of %s", fqns->items[i]);
		rc = add_panel(plot, ckpt_buf_steal(&label), &measure);
	}
	return rc;
}

/* Every --meta must be a number somewhere. */
static int check_wanted(const struct option_list *wanted, const struct history_keys *keys,
			struct ckpt_err *err)
{
	for (size_t i = 0; i < wanted->count; i++) {
		const char *best = keys->count > 0 ? keys->items[0] : NULL;
		bool known = false;

		for (size_t j = 0; j < keys->count; j++) {
			known = known || strcmp(keys->items[j], wanted->items[i]) == 0;
			if (suggest_distance(wanted->items[i], keys->items[j]) <
			    suggest_distance(wanted->items[i], best))
				best = keys->items[j];
		}
		if (!known && best)
			return ckpt_err_set(
				err, -ENOENT,
				"no checkpoint here has a number '%s' in its metadata; there is '%s'%s",
				wanted->items[i], best,
				keys->count > 1 ? " and more, see 'ckptfs log'" : "");
		if (!known)
			return ckpt_err_set(
				err, -ENOENT,
				"no checkpoint here has a number '%s' in its metadata; give some with 'ckptfs commit --meta'",
				wanted->items[i]);
	}
	return 0;
}

static int make_picture(struct plot *plot, const struct plot_wanted *wanted, struct ckpt_err *err)
{
	const struct measure size = { .quantity = PLOT_SIZE };
	const struct measure seconds = { .quantity = PLOT_SECONDS };
	struct history_keys keys;
	int rc = history_keys(plot->history, true, &keys);

	choose_unit(plot);
	if (rc == 0)
		rc = check_wanted(&wanted->metas, &keys, err);
	if (rc == 0)
		rc = add_panel(plot, size_label(plot), &size);
	if (rc == 0)
		rc = add_panel(plot, strdup("save time (s)"), &seconds);
	if (rc == 0)
		rc = add_meta_panels(plot, &wanted->metas, &keys);
	if (rc == 0)
		rc = add_norm_panels(plot, &wanted->tensors);
	if (rc == -ENOMEM)
		ckpt_err_set(err, rc, "out of memory while plotting");
	history_keys_release(&keys);
	plot->picture.curve_count = plot->group_count;
	plot->picture.x_label = plot->by_step ? "step" : "seq (the order of commits)";
	return rc;
}

static void plot_release(struct plot *plot)
{
	for (size_t i = 0; i < plot->picture.panel_count; i++)
		panel_release(plot, &plot->picture.panels[i]);
	free(plot->picture.panels);
	for (size_t i = 0; i < plot->group_count; i++)
		free(plot->groups[i]);
	free(plot->groups);
}

/* --- writing ----------------------------------------------------------------------------------- */

static int write_all(int fd, const struct ckpt_buf *data)
{
	size_t done = 0;

	while (done < data->len_bytes) {
		ssize_t got = write(fd, data->data + done, data->len_bytes - done);

		if (got < 0 && errno != EINTR)
			return -errno;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

/* Whole or not at all: under another name first. */
static int write_file(const char *path, const struct ckpt_buf *data, struct ckpt_err *err)
{
	struct ckpt_buf partial;
	int fd;
	int rc = 0;

	ckpt_buf_init(&partial);
	ckpt_buf_printf(&partial, "%s.partial", path);
	fd = open(partial.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		rc = -errno;
	if (rc == 0)
		rc = write_all(fd, data);
	if (fd >= 0 && close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(partial.data, path) < 0)
		rc = -errno;
	if (rc < 0 && fd >= 0)
		(void)unlink(partial.data);
	ckpt_buf_release(&partial);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot write '%s'", path) : 0;
}

static int draw(const struct plot *plot, const char *path, struct ckpt_err *err)
{
	struct ckpt_buf script;
	struct ckpt_buf svg;
	int rc;

	ckpt_buf_init(&script);
	ckpt_buf_init(&svg);
	gnuplot_script(&plot->picture, &script);
	rc = ckpt_buf_check(&script);
	if (rc < 0)
		ckpt_err_set(err, rc, "out of memory while plotting");
	if (rc == 0)
		rc = gnuplot_run(&script, &svg, err);
	if (rc == 0)
		rc = strcmp(path, "-") == 0 ? cli_write(svg.data, svg.len_bytes, err)
					    : write_file(path, &svg, err);
	ckpt_buf_release(&svg);
	ckpt_buf_release(&script);
	return rc;
}

static int plot_history(const struct history *history, const struct ckpt_place *place,
			const struct plot_wanted *wanted, const char *out_path,
			struct ckpt_err *err)
{
	struct norms norms = { .values = NULL };
	struct plot plot = { .history = history, .norms = &norms };
	struct ckpt_buf title;
	int rc;

	if (history->count == 0)
		return ckpt_err_set(
			err, -ENOENT,
			"nothing is committed at or below '%s', so there is nothing to plot",
			place->folder);
	ckpt_buf_init(&title);
	ckpt_buf_printf(&title, "%s: %zu committed checkpoint%s",
			place->name[0] ? place->name : ckpt_path_basename(place->store_path),
			history->count, history->count == 1 ? "" : "s");
	plot.picture.title = title.data;
	rc = find_groups(&plot, err);
	if (rc == 0)
		rc = norms_load(place, history, &wanted->tensors, &norms, err);
	if (rc == 0)
		rc = make_picture(&plot, wanted, err);
	if (rc == 0)
		rc = draw(&plot, out_path, err);
	plot_release(&plot);
	norms_release(&norms);
	ckpt_buf_release(&title);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct plot_wanted wanted = { .metas = { .items = NULL } };
	const char *out_path = NULL;
	const struct option_row rows[] = {
		{ "output", 'o', OPTION_TEXT, &out_path, "FILE",
		  "the SVG to write; - is standard output" },
		{ "meta", 0, OPTION_LIST, &wanted.metas, "KEY",
		  "only this of the metadata; may be given more than once" },
		{ "tensor", 0, OPTION_LIST, &wanted.tensors, "FQN",
		  "the L2 norm of this tensor, too; may be given more than once" },
		OPTION_END,
	};
	struct ckpt_place place = { .name = NULL };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct history history = { .items = NULL };
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	if (!out_path) {
		cli_error("where to? give a file with '-o FILE.svg'");
		return CLI_USAGE;
	}
	rc = history_load(cli, args.count > 0 ? args.items[0] : NULL, true, &place, &history, &err);
	if (rc == 0)
		rc = plot_history(&history, &place, &wanted, out_path, &err);
	if (rc == 0 && found_report(&history.list) > 0)
		rc = CLI_FAILED;
	history_release(&history);
	ckpt_place_release(&place);
	option_list_release(&wanted.metas);
	option_list_release(&wanted.tensors);
	return cli_flush(rc < 0 ? cli_report(&err) : rc);
}

const struct cli_command cli_plot_command = {
	.name = "plot",
	.args = "-o FILE [--meta KEY]... [--tensor FQN]... [PATH]",
	.summary = "draw size, save time and metadata over steps",
	.details =
		"An SVG with a panel for the size of each committed checkpoint at or below PATH (a\n"
		"store or a group; the current folder), one for the time from its beginning to its\n"
		"commit, and one for each number of the metadata (up to six), over the step; with\n"
		"--tensor one for the norm of that tensor, which is read in every checkpoint. Each\n"
		"group is a curve. gnuplot, which must be installed, draws it.\n",
	.max_args = 1,
	.run = run,
};
