/* cli_diff.c - which tensors of two checkpoints differ, and by how much; which shards are equal. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/box.h"
#include "base/cleanup.h"
#include "base/cover.h"
#include "base/io.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/side.h"
#include "cli/signals.h"
#include "cli/table.h"
#include "cli/tree.h"
#include "view/view.h"

/* --- cells --------------------------------------------------------------------------------- */

/* "[4, 8]"; with @b "[4, 8] -> [8, 4]". */
static void add_shapes(struct table *table, const struct ckpt_tensor *a,
		       const struct ckpt_tensor *b)
{
	char text[CKPT_BOX_TEXT_MAX];
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_buf_add_str(&shown, ckpt_extents_text(a->shape, a->dim_count, text));
	if (b)
		ckpt_buf_printf(&shown, " -> %s", ckpt_extents_text(b->shape, b->dim_count, text));
	table_text(table, shown.data);
	ckpt_buf_release(&shown);
}

static void add_dtypes(struct table *table, const char *a, const char *b)
{
	char text[2 * sizeof(((struct ckpt_tensor *)NULL)->dtype) + sizeof(" -> ")];

	ckpt_ignore(snprintf(text, sizeof(text), b ? "%s -> %s" : "%s", a, b));
	table_text(table, text);
}

static void add_shape_json(struct table *table, const struct ckpt_tensor *tensor)
{
	char text[CKPT_BOX_TEXT_MAX];

	if (tensor)
		table_raw(table, ckpt_extents_text(tensor->shape, tensor->dim_count, text));
	else
		table_text(table, NULL);
}

/* --- tensors -------------------------------------------------------------------------------- */

static const struct table_column tensor_columns[] = {
	{ "FQN", 0 },
	{ "CHANGE", 0 },
	{ "DTYPE", 0 },
	{ "SHAPE", 0 },
	{ "REL_L2", TABLE_RIGHT },
	{ "MAX_ABS", TABLE_RIGHT },
	{ "CHANGED", TABLE_RIGHT },
	{ "SET", TABLE_JSON_ONLY },
	{ "NAN_CHANGED", TABLE_JSON_ONLY },
	{ "A_DTYPE", TABLE_JSON_ONLY },
	{ "B_DTYPE", TABLE_JSON_ONLY },
	{ "A_SHAPE", TABLE_JSON_ONLY },
	{ "B_SHAPE", TABLE_JSON_ONLY },
};

static void add_item(struct table *table, const struct ckpt_diff_item *item)
{
	const struct ckpt_tensor *any = item->a ? item->a : item->b;
	bool has_figures = item->kind == CKPT_DIFF_CHANGED || item->kind == CKPT_DIFF_RECAST;
	bool is_recast = item->a && item->b && strcmp(item->a->dtype, item->b->dtype) != 0;

	table_text(table, any->fqn);
	table_text(table, ckpt_diff_word(item->kind));
	add_dtypes(table, any->dtype, is_recast ? item->b->dtype : NULL);
	add_shapes(table, any, item->kind == CKPT_DIFF_RESHAPED ? item->b : NULL);
	table_real(table, has_figures, item->rel_l2);
	table_real(table, has_figures, item->max_abs);
	table_number(table, has_figures, item->changed_count);
	table_text(table, any->set);
	table_number(table, has_figures, item->nan_count);
	table_text(table, item->a ? item->a->dtype : NULL);
	table_text(table, item->b ? item->b->dtype : NULL);
	add_shape_json(table, item->a);
	add_shape_json(table, item->b);
}

static int print_tensors(const struct ckpt_diff *diff, bool json, struct ckpt_err *err)
{
	struct table table;
	int rc = 0;

	if (diff->differ_count == 0 && !json)
		return 0;
	table_init(&table, tensor_columns, sizeof(tensor_columns) / sizeof(tensor_columns[0]));
	for (size_t i = 0; i < diff->item_count; i++) {
		if (diff->items[i].kind != CKPT_DIFF_EQUAL)
			add_item(&table, &diff->items[i]);
	}
	rc = table_print(&table, json, err);
	table_release(&table);
	return rc;
}

/* --- shards --------------------------------------------------------------------------------- */

/* How a path of both sides compares. */
enum shard_state {
	SHARD_EQUAL,
	SHARD_DIFFERS,
	SHARD_ADDED,
	SHARD_REMOVED,
	SHARD_STATES,
};

static const char *const shard_words[SHARD_STATES] = { "equal", "differs", "added", "removed" };

static const struct table_column shard_columns[] = {
	{ "SHARD", 0 },
	{ "STATE", 0 },
	{ "SIZE", TABLE_RIGHT | TABLE_SIZE },
};

/* The shards of both sides, and what came out so far. */
struct shard_walk {
	const struct side *a;
	const struct side *b;
	struct tree a_tree;
	struct tree b_tree;
	struct table table;
	uint64_t counts[SHARD_STATES];
};

/* The sums of a file that was never committed: it is read. */
static int sum_up(const struct side *side, const struct tree_entry *entry, struct ckpt_shard *out,
		  struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(side->checkpoint.dirfd, entry->path,
						 O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int rc = fd < 0 ? fd : ckpt_sums_file(fd, entry->size_bytes, out, NULL, NULL);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s' in '%s'", entry->path,
				    side->checkpoint.place.name);
	out->size_bytes = entry->size_bytes;
	return 0;
}

static int shard_of(const struct side *side, const struct tree_entry *entry,
		    struct ckpt_shard *summed, const struct ckpt_shard **out, struct ckpt_err *err)
{
	*out = entry->shard ? entry->shard : summed;
	return entry->shard ? 0 : sum_up(side, entry, summed, err);
}

static int compare_shards(const struct shard_walk *walk, const struct tree_entry *a_entry,
			  const struct tree_entry *b_entry, enum shard_state *out,
			  struct ckpt_err *err)
{
	struct ckpt_shard a_summed = { .sums = NULL };
	struct ckpt_shard b_summed = { .sums = NULL };
	const struct ckpt_shard *a = NULL;
	const struct ckpt_shard *b = NULL;
	int rc = 0;

	*out = SHARD_DIFFERS;
	if (a_entry->size_bytes != b_entry->size_bytes)
		return 0;
	rc = shard_of(walk->a, a_entry, &a_summed, &a, err);
	if (rc == 0)
		rc = shard_of(walk->b, b_entry, &b_summed, &b, err);
	if (rc == 0 && ckpt_shards_equal(a, b))
		*out = SHARD_EQUAL;
	free(a_summed.sums);
	free(b_summed.sums);
	return rc;
}

/* Either may be NULL. */
static int walk_pair(struct shard_walk *walk, const struct tree_entry *a,
		     const struct tree_entry *b, struct ckpt_err *err)
{
	const struct tree_entry *any = a ? a : b;
	enum shard_state state = a ? SHARD_REMOVED : SHARD_ADDED;
	int rc = 0;

	assert(any);
	if (any->kind != TREE_FILE)
		return 0;
	if (a && b)
		rc = compare_shards(walk, a, b, &state, err);
	if (rc < 0)
		return rc;
	if (signals_caught())
		return ckpt_err_set(err, -ECANCELED, "interrupted");
	walk->counts[state]++;
	table_text(&walk->table, any->path);
	table_text(&walk->table, shard_words[state]);
	table_number(&walk->table, true, any->size_bytes);
	return 0;
}

/* Both lists are in order by path. A file and a folder of one name are two things. */
static int walk_all(struct shard_walk *walk, struct ckpt_err *err)
{
	size_t i = 0;
	size_t k = 0;
	int rc = 0;

	while (rc == 0 && (i < walk->a_tree.count || k < walk->b_tree.count)) {
		const struct tree_entry *a = i < walk->a_tree.count ? &walk->a_tree.entries[i]
								    : NULL;
		const struct tree_entry *b = k < walk->b_tree.count ? &walk->b_tree.entries[k]
								    : NULL;
		int which = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);

		if (which == 0 && a->kind != b->kind) {
			rc = walk_pair(walk, a, NULL, err);
			if (rc == 0)
				rc = walk_pair(walk, NULL, b, err);
		} else {
			rc = walk_pair(walk, which <= 0 ? a : NULL, which >= 0 ? b : NULL, err);
		}
		i += which <= 0;
		k += which >= 0;
	}
	return rc;
}

/* *@out_differ: some shard is not on both sides with the same bytes. */
static int print_shards(const struct side *a, const struct side *b, bool json, bool *out_differ,
			struct ckpt_err *err)
{
	struct shard_walk walk = { .a = a, .b = b };
	int rc = tree_load(&a->checkpoint, &walk.a_tree, err);

	table_init(&walk.table, shard_columns, sizeof(shard_columns) / sizeof(shard_columns[0]));
	if (rc == 0)
		rc = tree_load(&b->checkpoint, &walk.b_tree, err);
	if (rc == 0)
		rc = walk_all(&walk, err);
	progress_end();
	if (rc == 0)
		rc = table_print(&walk.table, json, err);
	if (rc == 0 && !json)
		ckpt_ignore(printf("shards: %" PRIu64 " equal, %" PRIu64 " differ, %" PRIu64
				   " only in the second, %" PRIu64 " only in the first\n",
				   walk.counts[SHARD_EQUAL], walk.counts[SHARD_DIFFERS],
				   walk.counts[SHARD_ADDED], walk.counts[SHARD_REMOVED]));
	*out_differ =
		walk.counts[SHARD_DIFFERS] + walk.counts[SHARD_ADDED] + walk.counts[SHARD_REMOVED] >
		0;
	table_release(&walk.table);
	tree_release(&walk.b_tree);
	tree_release(&walk.a_tree);
	return rc;
}

/* --- the command ---------------------------------------------------------------------------- */

static bool has_tensors(const struct side *side)
{
	return ckpt_views_contents(side->views)->tensor_count > 0;
}

static int print_diff(const struct side *a, const struct side *b, bool json, bool *out_differ,
		      struct ckpt_err *err)
{
	const struct ckpt_diff_options options = { .progress = progress_update };
	const struct ckpt_diff_side left = { .views = a->views, .reader = a->reader };
	const struct ckpt_diff_side right = { .views = b->views, .reader = b->reader };
	struct ckpt_diff diff = { .items = NULL };
	int rc = ckpt_diff_run(&left, &right, &options, &diff, err);

	progress_end();
	if (rc < 0)
		return rc;
	ckpt_diff_sort(&diff);
	rc = print_tensors(&diff, json, err);
	if (rc == 0 && !json)
		ckpt_ignore(printf("tensors: %zu equal, %zu differ\n",
				   diff.item_count - diff.differ_count, diff.differ_count));
	*out_differ = diff.differ_count > 0;
	ckpt_diff_release(&diff);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	bool json = false;
	bool shards = false;
	const struct option_row rows[] = {
		{ "shards", 0, OPTION_FLAG, &shards, NULL,
		  "compare the shards, file by file, instead of the tensors" },
		{ "json", 0, OPTION_FLAG, &json, NULL,
		  "one JSON array with an object for each tensor that differs (--shards: each shard)" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	struct side a = SIDE_INIT;
	struct side b = SIDE_INIT;
	struct option_args args;
	bool differ = false;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	signals_catch();
	progress_start("comparing");
	rc = side_open(cli, args.items[0], &a, &err);
	if (rc == 0)
		rc = side_open(cli, args.items[1], &b, &err);
	if (rc == 0 && (shards || (!has_tensors(&a) && !has_tensors(&b))))
		rc = print_shards(&a, &b, json, &differ, &err);
	else if (rc == 0)
		rc = print_diff(&a, &b, json, &differ, &err);
	progress_end();
	side_release(&b);
	side_release(&a);
	if (rc < 0)
		return cli_flush(cli_report(&err));
	return cli_flush(differ ? CLI_FAILED : CLI_OK);
}

const struct cli_command cli_diff_command = {
	.name = "diff",
	.args = "[--shards] [--json] PATH PATH",
	.summary = "which tensors of two checkpoints differ, and by how much",
	.details =
		"A line for each tensor that is added, removed, reshaped, recast or changed, the most\n"
		"changed first: REL_L2 is the L2 norm of the difference over that of the first one's,\n"
		"MAX_ABS the largest difference, CHANGED how many elements differ. How the two are\n"
		"sharded, on how many ranks, in which store or in none does not matter; what the sums\n"
		"prove equal is not read. Without tensors on both sides the shards are compared.\n"
		"Exit code 1 if they differ.\n",
	.min_args = 2,
	.max_args = 2,
	.run = run,
};
