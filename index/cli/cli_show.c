/* cli_show.c - what is known of one checkpoint. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/inventory.h"
#include "cli/numbers.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/tensor_list.h"
#include "cli/tree.h"

/*
 * Where a failed writer left why (ckptfs-format(5) "States"); a table of a million ranks is
 * shorter.
 */
#define ABORTED_FILE CKPT_CONTROL_DIR "/aborted.json"
#define ABORTED_MAX (256 * CKPT_MIB)

struct show {
	const struct cli_checkpoint *checkpoint;
	const struct tree *tree;
	const struct inventory *inventory;
	char *aborted; /* JSON; NULL: it was not */
	bool json;
	struct ckpt_buf out;
	bool first; /* JSON: no comma is due */
};

/* --- key: value, as text or JSON ------------------------------------------------------ */

static void add_key(struct show *show, const char *key)
{
	if (!show->json) {
		ckpt_buf_printf(&show->out, "%s: ", key);
		return;
	}
	ckpt_buf_add_str(&show->out, show->first ? "" : ",\n ");
	show->first = false;
	ckpt_buf_printf(&show->out, "\"%s\":", key);
}

static void end_value(struct show *show)
{
	if (!show->json)
		ckpt_buf_add_char(&show->out, '\n');
}

static void add_text(struct show *show, const char *key, const char *text)
{
	add_key(show, key);
	if (show->json)
		json_text(&show->out, text);
	else
		ckpt_path_escape(&show->out, text);
	end_value(show);
}

static void add_raw(struct show *show, const char *key, const char *json)
{
	add_key(show, key);
	ckpt_buf_add_str(&show->out, json);
	end_value(show);
}

static void add_number(struct show *show, const char *key, uint64_t number)
{
	add_key(show, key);
	ckpt_buf_printf(&show->out, "%" PRIu64, number);
	end_value(show);
}

/* What is not known is left out of the text, and null in JSON. */
static void add_optional(struct show *show, const char *key, bool there, uint64_t number)
{
	if (there)
		add_number(show, key, number);
	else if (show->json)
		add_raw(show, key, "null");
}

static void add_size_text(struct ckpt_buf *out, uint64_t bytes)
{
	char human[32];

	ckpt_buf_printf(out, "%" PRIu64 " bytes", bytes);
	if (bytes >= CKPT_KIB)
		ckpt_buf_printf(out, " (%s)", num_format_size(bytes, human, sizeof(human)));
}

static void add_size(struct show *show, const char *key, uint64_t bytes)
{
	if (show->json) {
		add_number(show, key, bytes);
		return;
	}
	add_key(show, key);
	add_size_text(&show->out, bytes);
	end_value(show);
}

/* --- the parts -------------------------------------------------------------------------- */

static void add_head(struct show *show)
{
	const struct ckpt_manifest_head *head = &show->tree->manifest.head;
	const struct ckpt_store *store = show->checkpoint->store;
	bool pinned = store && ckpt_is_pinned(store, head->id);

	add_text(show, "id", head->id);
	add_text(show, "state", pinned ? "pinned" : ckpt_state_name(show->checkpoint->state));
	add_optional(show, "step", head->has_step, head->step);
	add_number(show, "seq", head->seq);
	add_optional(show, "world_size", head->has_world_size, head->world_size);
	add_text(show, "created", head->created);
	add_text(show, "committed", head->committed);
	add_text(show, "writer", head->writer);
	add_raw(show, "meta", head->meta);
	if (strcmp(head->name, show->checkpoint->place.name) != 0)
		add_text(show, "committed_as", head->name);
}

static void add_open(struct show *show)
{
	add_text(show, "state", ckpt_state_name(show->checkpoint->state));
	if (show->checkpoint->waits_for.len_bytes > 0)
		add_text(show, "waits_for", show->checkpoint->waits_for.data);
	if (show->aborted)
		add_raw(show, "aborted", show->aborted);
}

/* Counts of the tensors that share a set, or a set and a group. */
struct sum {
	uint64_t tensor_count;
	uint64_t entry_count; /* opaque ones */
	uint64_t size_bytes;
};

/* An item of the inventory, to be sorted another way. */
struct item_ref {
	const struct inventory_item *item;
};

static void count_item(struct sum *sum, const struct inventory_item *item)
{
	if (item->dtype)
		sum->tensor_count++;
	else
		sum->entry_count++;
	sum->size_bytes += item->size_bytes;
}

/*
 * "103 tensors, 2 bytes entries, 90852864 bytes (86.6 MiB)", or the same as members of an object.
 */
static void add_sum(struct show *show, const struct sum *sum)
{
	struct ckpt_buf *out = &show->out;

	if (show->json) {
		ckpt_buf_printf(out,
				"\"tensors\":%" PRIu64 ",\"bytes_entries\":%" PRIu64
				",\"bytes\":%" PRIu64,
				sum->tensor_count, sum->entry_count, sum->size_bytes);
		return;
	}
	ckpt_buf_printf(out, "%" PRIu64 " tensors, ", sum->tensor_count);
	if (sum->entry_count > 0)
		ckpt_buf_printf(out, "%" PRIu64 " bytes entries, ", sum->entry_count);
	add_size_text(out, sum->size_bytes);
}

static int compare_group(const char *a, const char *b)
{
	if (!a || !b)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

static int by_set_and_group(const void *a, const void *b)
{
	const struct inventory_item *left = ((const struct item_ref *)a)->item;
	const struct inventory_item *right = ((const struct item_ref *)b)->item;
	int order = strcmp(left->set, right->set);

	return order ? order : compare_group(left->group, right->group);
}

/* The groups of items[from … to), which are one set. */
static void add_groups(struct show *show, const struct item_ref *items, size_t from, size_t to)
{
	const char *comma = "";

	for (size_t end = from; from < to; from = end) {
		const char *group = items[from].item->group;
		struct sum sum = { 0 };

		while (end < to && compare_group(items[end].item->group, group) == 0)
			count_item(&sum, items[end++].item);
		if (show->json) {
			ckpt_buf_printf(&show->out, "%s{\"group\":", comma);
			if (group)
				json_text(&show->out, group);
			else
				ckpt_buf_add_str(&show->out, "null");
			ckpt_buf_add_char(&show->out, ',');
		} else if (group) {
			ckpt_buf_add_str(&show->out, "  group ");
			ckpt_path_escape(&show->out, group);
			ckpt_buf_add_str(&show->out, ": ");
		} else {
			continue; /* what is in no group is the set's own line */
		}
		add_sum(show, &sum);
		ckpt_buf_add_str(&show->out, show->json ? "}" : "\n");
		comma = ",";
	}
}

static void add_set(struct show *show, const struct item_ref *items, size_t from, size_t to)
{
	const char *set = items[from].item->set;
	struct sum sum = { 0 };

	for (size_t i = from; i < to; i++)
		count_item(&sum, items[i].item);
	if (show->json) {
		ckpt_buf_add_str(&show->out, from > 0 ? ",\n  {\"set\":" : "\n  {\"set\":");
		json_text(&show->out, set);
		ckpt_buf_add_char(&show->out, ',');
		add_sum(show, &sum);
		ckpt_buf_add_str(&show->out, ",\"groups\":[");
		add_groups(show, items, from, to);
		ckpt_buf_add_str(&show->out, "]}");
		return;
	}
	ckpt_buf_add_str(&show->out, "tensor set ");
	ckpt_path_escape(&show->out, set[0] ? set : ".");
	ckpt_buf_add_str(&show->out, ": ");
	add_sum(show, &sum);
	ckpt_buf_add_char(&show->out, '\n');
	add_groups(show, items, from, to);
}

static int add_sets(struct show *show, struct ckpt_err *err)
{
	const struct inventory *inventory = show->inventory;
	struct item_ref *items = array_alloc(inventory->item_count, sizeof(*items));

	if (!items)
		return ckpt_err_set(err, -ENOMEM, "out of memory while counting tensors");
	for (size_t i = 0; i < inventory->item_count; i++)
		items[i].item = &inventory->items[i];
	qsort(items, inventory->item_count, sizeof(*items), by_set_and_group);
	if (show->json) {
		add_key(show, "sets");
		ckpt_buf_add_char(&show->out, '[');
	}
	for (size_t from = 0, to = 0; from < inventory->item_count; from = to) {
		while (to < inventory->item_count &&
		       strcmp(items[to].item->set, items[from].item->set) == 0)
			to++;
		add_set(show, items, from, to);
	}
	if (show->json)
		ckpt_buf_add_char(&show->out, ']');
	free(items);
	return 0;
}

static void add_notes(struct show *show)
{
	const struct inventory *inventory = show->inventory;

	if (show->json) {
		add_key(show, "not_understood");
		ckpt_buf_add_char(&show->out, '[');
	}
	for (size_t i = 0; i < inventory->note_count; i++) {
		if (show->json) {
			ckpt_buf_add_str(&show->out, i > 0 ? ",\n  {\"file\":" : "\n  {\"file\":");
			json_text(&show->out, inventory->notes[i].file);
			ckpt_buf_add_str(&show->out, ",\"reason\":");
			json_text(&show->out, inventory->notes[i].reason);
			ckpt_buf_add_char(&show->out, '}');
			continue;
		}
		ckpt_buf_add_str(&show->out, "not understood: ");
		ckpt_path_escape(&show->out, inventory->notes[i].file);
		ckpt_buf_printf(&show->out, ": %s\n", inventory->notes[i].reason);
	}
	if (show->json)
		ckpt_buf_add_char(&show->out, ']');
}

/* So many of them are named. */
#define LEFT_OUT_NAMED 10U

/* What no safetensors view can hold. */
static void add_left_out(struct show *show)
{
	const struct inventory *inventory = show->inventory;
	size_t count = 0;

	if (show->json)
		add_key(show, "left_out_of_safetensors");
	for (size_t i = 0; i < inventory->item_count; i++) {
		const char *dtype = inventory->items[i].dtype;

		if (!dtype || dtype[0] != 'C')
			continue;
		if (show->json) {
			ckpt_buf_add_char(&show->out, count == 0 ? '[' : ',');
			json_text(&show->out, inventory->items[i].fqn);
		} else if (count < LEFT_OUT_NAMED) {
			ckpt_buf_add_str(
				&show->out,
				count == 0 ? "complex tensors are left out of safetensors views: "
					   : ", ");
			ckpt_path_escape(&show->out, inventory->items[i].fqn);
		}
		count++;
	}
	if (show->json)
		ckpt_buf_add_str(&show->out, count == 0 ? "[]" : "]");
	else if (count > LEFT_OUT_NAMED)
		ckpt_buf_printf(&show->out, " and %zu more", count - LEFT_OUT_NAMED);
	if (!show->json && count > 0)
		ckpt_buf_add_char(&show->out, '\n');
}

static int put_out(const struct show *show, struct ckpt_err *err)
{
	if (ckpt_buf_check(&show->out) < 0)
		return ckpt_err_set(err, -ENOMEM, "out of memory while printing '%s'",
				    show->checkpoint->place.name);
	(void)fputs(show->out.data, stdout);
	return 0;
}

static int print_all(struct show *show, struct ckpt_err *err)
{
	uint64_t files;
	uint64_t bytes;
	int rc;

	tree_sum(show->tree, "", &files, &bytes);
	if (show->json)
		ckpt_buf_add_str(&show->out, "[\n{");
	show->first = true;
	add_text(show, "name", show->checkpoint->place.name);
	if (show->tree->committed)
		add_head(show);
	else
		add_open(show);
	add_number(show, "shards", files);
	add_size(show, "size", bytes);
	rc = add_sets(show, err);
	add_left_out(show);
	add_notes(show);
	if (show->json)
		ckpt_buf_add_str(&show->out, "}\n]\n");
	return rc == 0 ? put_out(show, err) : rc;
}

/* --- why it is open ------------------------------------------------------------------------- */

/* Which rule applies, what it goes by, and since when nothing has changed. */
static int add_rule(struct show *show, struct ckpt_err *err)
{
	const struct cli_checkpoint *checkpoint = show->checkpoint;
	int store_fd = ckpt_store_fd(checkpoint->store);
	struct ckpt_rule_verdict verdict;
	struct ckpt_calm calm;
	int rc = ckpt_rules_judge(store_fd, checkpoint->place.name, &verdict, NULL, err);

	if (rc < 0)
		return rc;
	add_text(show, "rule", verdict.rule ? verdict.rule : "none");
	if (verdict.rule)
		add_text(show, "proof", verdict.proof);
	add_raw(show, "complete", verdict.complete ? "true" : "false");
	rc = ckpt_calm_of(store_fd, checkpoint->place.name, &calm);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look into '%s'", checkpoint->place.name);
	add_number(show, "quiet_secs", ckpt_calm_secs(&calm));
	return 0;
}

static int print_why(struct show *show, struct ckpt_err *err)
{
	const struct cli_checkpoint *checkpoint = show->checkpoint;
	int rc = 0;

	if (show->json)
		ckpt_buf_add_str(&show->out, "[\n{");
	show->first = true;
	add_text(show, "name", checkpoint->place.name);
	if (checkpoint->state == CKPT_STATE_COMMITTED)
		add_text(show, "state", ckpt_state_name(checkpoint->state));
	else
		add_open(show);
	if (checkpoint->state == CKPT_STATE_OPEN)
		rc = add_rule(show, err);
	if (show->json)
		ckpt_buf_add_str(&show->out, "}\n]\n");
	return rc == 0 ? put_out(show, err) : rc;
}

/* --- the command ------------------------------------------------------------------------------ */

/* Why it was aborted, as one line of JSON; what is no JSON is left out. */
static char *read_aborted(const struct cli_checkpoint *checkpoint)
{
	struct ckpt_json *root = NULL;
	struct ckpt_buf text;
	struct ckpt_buf line;
	char *out = NULL;

	if (checkpoint->state != CKPT_STATE_ABORTED)
		return NULL;
	ckpt_buf_init(&text);
	ckpt_buf_init(&line);
	if (ckpt_io_read_file(checkpoint->dirfd, ABORTED_FILE, ABORTED_MAX, &text, NULL) == 0 &&
	    ckpt_json_parse(text.data, text.len_bytes, &root, NULL) == 0) {
		ckpt_json_print(root, &line);
		ckpt_json_free(root);
		out = ckpt_buf_steal(&line);
	}
	ckpt_buf_release(&line);
	ckpt_buf_release(&text);
	return out;
}

/* What is asked for. */
enum show_what {
	SHOW_ALL,
	SHOW_TENSORS,
	SHOW_TREE,
	SHOW_STATS,
	SHOW_SOME,
	SHOW_WHY,
};

/* The options that say it. */
struct show_options {
	bool tensors, tree, stats, why, json;
	struct option_list fqns;
};

static int show_contents(struct show *show, enum show_what what, struct ckpt_err *err)
{
	struct tree tree = { .committed = false };
	struct inventory inventory = { .items = NULL };
	int rc = tree_load(show->checkpoint, &tree, err);

	if (rc == 0)
		rc = inventory_load(show->checkpoint, &tree, &inventory, err);
	show->tree = &tree;
	show->inventory = &inventory;
	if (rc == 0 && what == SHOW_TENSORS)
		rc = tensor_list_print(&inventory, show->json, err);
	else if (rc == 0 && what == SHOW_TREE)
		rc = tensor_list_print_tree(&inventory, show->json, err);
	else if (rc == 0)
		rc = print_all(show, err);
	show->tree = NULL;
	show->inventory = NULL;
	inventory_release(&inventory);
	tree_release(&tree);
	return rc;
}

static int show_checkpoint(const struct cli_checkpoint *checkpoint, enum show_what what,
			   const struct show_options *options, struct ckpt_err *err)
{
	struct show show = { .checkpoint = checkpoint, .json = options->json };
	int rc;

	if (what == SHOW_STATS)
		return numbers_print_all(checkpoint, options->json, err);
	if (what == SHOW_SOME)
		return numbers_print_some(checkpoint, &options->fqns, options->json, err);
	show.aborted = read_aborted(checkpoint);
	ckpt_buf_init(&show.out);
	rc = what == SHOW_WHY ? print_why(&show, err) : show_contents(&show, what, err);
	free(show.aborted);
	ckpt_buf_release(&show.out);
	return rc;
}

/* False: more than one thing, and said. */
static bool choose(const struct show_options *options, enum show_what *out)
{
	const struct {
		bool given;
		enum show_what what;
	} all[] = { { options->tensors, SHOW_TENSORS },
		    { options->tree, SHOW_TREE },
		    { options->stats, SHOW_STATS },
		    { options->fqns.count > 0, SHOW_SOME },
		    { options->why, SHOW_WHY } };
	size_t count = 0;

	*out = SHOW_ALL;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].given)
			*out = all[i].what;
		count += all[i].given;
	}
	if (count > 1)
		cli_error(
			"'--tensors', '--tree', '--stats', '--tensor' and '--why' exclude each other; give one of them");
	return count <= 1;
}

static int show_path(struct cli *cli, const char *path, enum show_what what,
		     const struct show_options *options, struct ckpt_err *err)
{
	struct cli_checkpoint checkpoint;
	int rc = cli_checkpoint_open(cli, path, &checkpoint, err);

	if (rc == 0 && checkpoint.place.kind == CKPT_PLACE_ENTRY)
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is a part of checkpoint '%s'; show the checkpoint, or list the part with 'ckptfs ls'",
			path, checkpoint.place.name);
	if (rc == 0)
		rc = show_checkpoint(&checkpoint, what, options, err);
	cli_checkpoint_release(&checkpoint);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct show_options options = { .json = false };
	const struct option_row rows[] = {
		{ "tensors", 0, OPTION_FLAG, &options.tensors, NULL,
		  "list the tensors: FQN DTYPE SHAPE BYTES CHUNKS" },
		{ "tree", 0, OPTION_FLAG, &options.tree, NULL,
		  "the tensors by the parts of their names, with counts and bytes" },
		{ "stats", 0, OPTION_FLAG, &options.stats, NULL,
		  "read every tensor: MIN MAX MEAN STD NAN INF SPARSITY" },
		{ "tensor", 0, OPTION_LIST, &options.fqns, "FQN",
		  "the same of one, with a histogram; may be given more than once" },
		{ "why", 0, OPTION_FLAG, &options.why, NULL,
		  "of an open one: what it waits for, and by which completion rule" },
		{ "json", 0, OPTION_FLAG, &options.json, NULL,
		  "one JSON array of objects, sizes in bytes" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	enum show_what what;
	struct option_args args;
	int code;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		goto out;
	code = CLI_USAGE;
	if (!choose(&options, &what))
		goto out;
	code = CLI_OK;
	if (show_path(cli, args.items[0], what, &options, &err) < 0)
		code = cli_report(&err);
	code = cli_flush(code);
out:
	option_list_release(&options.fqns);
	return code;
}

const struct cli_command cli_show_command = {
	.name = "show",
	.args = "[--tensors|--tree|--stats|--tensor FQN...|--why] [--json] PATH",
	.summary = "what is known of a checkpoint, and its tensors",
	.details =
		"Lines of 'key: value', then the tensor sets and their groups with counts and\n"
		"bytes, then the files that are not understood.\n"
		"--stats and --tensor decode every element, bf16 and fp8 too, on all cores, and\n"
		"verify what they read; figures are of the finite elements.\n"
		"--why: the completion rule that applies to an open checkpoint, the files it goes\n"
		"by, whether they are there, and for how many seconds nothing has changed.\n",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
