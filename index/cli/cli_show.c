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
#include "cli/options.h"
#include "cli/table.h"
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

/* --- the tensors ---------------------------------------------------------------------------- */

static const struct table_column tensor_columns[] = {
	{ "FQN", 0 },
	{ "DTYPE", 0 },
	{ "SHAPE", 0 },
	{ "BYTES", TABLE_RIGHT },
	{ "CHUNKS", TABLE_RIGHT },
	{ "SET", TABLE_JSON_ONLY },
	{ "GROUP", TABLE_JSON_ONLY },
};

/* The FQN, with its set before it where there is more than the top's. */
static void add_fqn(struct table *table, const struct inventory_item *item, bool json)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	if (!json && item->set[0])
		ckpt_buf_printf(&text, "%s:", item->set);
	ckpt_buf_add_str(&text, item->fqn);
	table_text(table, text.data);
	ckpt_buf_release(&text);
}

static int print_tensors(const struct inventory *inventory, bool json, struct ckpt_err *err)
{
	struct table table;
	int rc;

	table_init(&table, tensor_columns, sizeof(tensor_columns) / sizeof(tensor_columns[0]));
	for (size_t i = 0; i < inventory->item_count; i++) {
		const struct inventory_item *item = &inventory->items[i];

		add_fqn(&table, item, json);
		table_text(&table, item->dtype);
		table_raw(&table, item->shape);
		table_number(&table, true, item->size_bytes);
		table_number(&table, true, item->chunk_count);
		table_text(&table, item->set);
		table_text(&table, item->group);
	}
	rc = table_print(&table, json, err);
	table_release(&table);
	return rc;
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
	SHOW_WHY,
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
	if (rc == 0)
		rc = what == SHOW_TENSORS ? print_tensors(&inventory, show->json, err)
					  : print_all(show, err);
	show->tree = NULL;
	show->inventory = NULL;
	inventory_release(&inventory);
	tree_release(&tree);
	return rc;
}

static int show_checkpoint(const struct cli_checkpoint *checkpoint, enum show_what what, bool json,
			   struct ckpt_err *err)
{
	struct show show = { .checkpoint = checkpoint,
			     .aborted = read_aborted(checkpoint),
			     .json = json };
	int rc;

	ckpt_buf_init(&show.out);
	rc = what == SHOW_WHY ? print_why(&show, err) : show_contents(&show, what, err);
	free(show.aborted);
	ckpt_buf_release(&show.out);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	bool json = false;
	bool tensors = false;
	bool why = false;
	const struct option_row rows[] = {
		{ "tensors", 0, OPTION_FLAG, &tensors, NULL,
		  "list the tensors: FQN DTYPE SHAPE BYTES CHUNKS" },
		{ "why", 0, OPTION_FLAG, &why, NULL,
		  "of an open one: what it waits for, and by which completion rule" },
		{ "json", 0, OPTION_FLAG, &json, NULL,
		  "one JSON array of objects, sizes in bytes" },
		OPTION_END,
	};
	struct cli_checkpoint checkpoint;
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	if (tensors && why) {
		cli_error("'--tensors' and '--why' exclude each other; give one of them");
		return CLI_USAGE;
	}
	rc = cli_checkpoint_open(cli, args.items[0], &checkpoint, &err);
	if (rc == 0 && checkpoint.place.kind == CKPT_PLACE_ENTRY)
		rc = ckpt_err_set(
			&err, -EINVAL,
			"'%s' is a part of checkpoint '%s'; show the checkpoint, or list the part with 'ckptfs ls'",
			args.items[0], checkpoint.place.name);
	if (rc == 0)
		rc = show_checkpoint(&checkpoint,
				     why       ? SHOW_WHY
				     : tensors ? SHOW_TENSORS
					       : SHOW_ALL,
				     json, &err);
	cli_checkpoint_release(&checkpoint);
	return cli_flush(rc < 0 ? cli_report(&err) : CLI_OK);
}

const struct cli_command cli_show_command = {
	.name = "show",
	.args = "[--tensors|--why] [--json] PATH",
	.summary = "what is known of a checkpoint, and its tensors",
	.details =
		"Lines of 'key: value', then the tensor sets and their groups with counts and\n"
		"bytes, then the safetensors files that are not understood.\n"
		"--why: the completion rule that applies to an open checkpoint, the files it goes\n"
		"by, whether they are there, and for how many seconds nothing has changed.\n",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
