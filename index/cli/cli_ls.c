/* cli_ls.c - list the checkpoints of a store or group, or what is in a checkpoint, views too. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/found.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/tree.h"
#include "cli/view_of.h"

/* --- a store or group ------------------------------------------------------------- */

enum {
	STORE_WAITS_FOR = 7
};

static const struct table_column store_columns[] = {
	{ "NAME", 0 },
	{ "STATE", 0 },
	{ "STEP", TABLE_RIGHT },
	{ "SEQ", TABLE_RIGHT },
	{ "SHARDS", TABLE_RIGHT },
	{ "SIZE", TABLE_RIGHT | TABLE_SIZE },
	{ "COMMITTED", 0 },
	[STORE_WAITS_FOR] = { "WAITS_FOR", TABLE_JSON_ONLY },
	{ "ID", TABLE_JSON_ONLY },
	{ "REMOVED", TABLE_JSON_ONLY },
};

/* The last column of one that is, or was, committed. */
static void add_when(struct table *table, const struct found *found)
{
	struct ckpt_buf note;

	if (!found->removed) {
		table_text(table, found->row.committed);
		return;
	}
	ckpt_buf_init(&note);
	ckpt_buf_printf(&note, "removed %s", found->removed_at);
	table_note(table, note.data);
	ckpt_buf_release(&note);
}

/* Also a removed one. */
static void add_committed(struct table *table, const struct found *found)
{
	const struct ckpt_db_checkpoint *row = &found->row;

	table_text(table, found->name);
	table_text(table, found_word(found));
	table_number(table, row->has_step, row->step);
	table_number(table, true, row->seq);
	table_number(table, true, row->shard_count);
	table_number(table, row->entries_indexed, row->size_bytes);
	add_when(table, found);
	table_text(table, NULL);
	table_text(table, row->id);
	table_text(table, found->removed ? found->removed_at : NULL);
}

/* Open or aborted, or committed with a manifest that cannot be used. */
static void add_other(struct table *table, const struct found *found)
{
	struct ckpt_buf note;

	ckpt_buf_init(&note);
	if (found->waits_for[0])
		ckpt_buf_printf(&note, "waits for %s", found->waits_for);
	table_text(table, found->name);
	table_text(table, ckpt_state_name(found->state));
	table_number(table, false, 0); /* the step is decided at the commit */
	table_number(table, false, 0);
	table_number(table, found->counted, found->file_count);
	table_number(table, found->counted, found->file_bytes);
	table_note(table, note.len_bytes > 0 ? note.data : NULL);
	table_text(table, found->waits_for[0] ? found->waits_for : NULL);
	table_text(table, NULL);
	table_text(table, NULL);
	ckpt_buf_release(&note);
}

/* CLI_FAILED: the list was printed, and what is wrong in it was said. */
static int list_store(const struct ckpt_place *place, bool json, struct ckpt_err *err)
{
	struct found_list list;
	struct table table;
	int rc = found_load(place, FOUND_COUNT | FOUND_WAITS | FOUND_REMOVED, &list, err);

	table_init(&table, store_columns, sizeof(store_columns) / sizeof(store_columns[0]));
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		if (list.items[i].has_row || list.items[i].removed)
			add_committed(&table, &list.items[i]);
		else
			add_other(&table, &list.items[i]);
	}
	if (rc == 0)
		rc = table_print(&table, json, err);
	/* What could not be used is told behind the table, and makes it a failure. */
	if (rc == 0 && found_report(&list) > 0)
		rc = CLI_FAILED;
	table_release(&table);
	found_release(&list);
	return rc;
}

/* --- a checkpoint ------------------------------------------------------------------- */

static const struct table_column entry_columns[] = {
	{ "MODE", 0 },
	{ "SIZE", TABLE_RIGHT | TABLE_SIZE },
	{ "RANK", TABLE_RIGHT },
	{ "PATH", 0 },
	{ "TARGET", TABLE_JSON_ONLY },
	{ "XXH128", TABLE_JSON_ONLY },
	{ "PACK", TABLE_JSON_ONLY },
};

/* "-rw-r--r--", as ls -l shows it. */
static void format_mode(const struct tree_entry *entry, char out[11])
{
	static const char kinds[] = {
		[TREE_DIR] = 'd', [TREE_FILE] = '-', [TREE_SYMLINK] = 'l', [TREE_OTHER] = '?'
	};
	static const char letters[] = "rwxrwxrwx";

	out[0] = kinds[entry->kind];
	for (unsigned int i = 0; i < 9; i++) {
		out[i + 1] = '-';
		if (entry->mode & (0400U >> i))
			out[i + 1] = letters[i];
	}
	out[10] = '\0';
}

static void add_path(struct table *table, const struct tree_entry *entry, bool json)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	ckpt_buf_add_str(&text, entry->path);
	if (!json && entry->kind == TREE_DIR)
		ckpt_buf_add_char(&text, '/');
	if (!json && entry->kind == TREE_SYMLINK)
		ckpt_buf_printf(&text, " -> %s", entry->target);
	table_text(table, text.data);
	ckpt_buf_release(&text);
}

static void add_entry(struct table *table, const struct tree_entry *entry, bool json)
{
	const struct ckpt_shard *shard = entry->shard;
	char digest[CKPT_HEX128_LEN + 1];
	char mode[11];

	format_mode(entry, mode);
	table_text(table, mode);
	table_number(table, entry->kind == TREE_FILE, entry->size_bytes);
	table_number(table, shard && shard->has_rank, shard ? shard->rank : 0);
	add_path(table, entry, json);
	table_text(table, entry->target);
	table_text(table, shard && shard->has_xxh128 ? ckpt_hex128(shard->xxh128, digest) : NULL);
	table_text(table, shard ? shard->pack : NULL);
}

static int list_entries(const struct cli_checkpoint *checkpoint, bool json, struct ckpt_err *err)
{
	const char *inner = checkpoint->place.inner;
	struct tree tree = { .committed = false };
	struct table table;
	int rc = tree_load(checkpoint, &tree, err);

	table_init(&table, entry_columns, sizeof(entry_columns) / sizeof(entry_columns[0]));
	if (rc == 0 && inner[0] && !tree_find(&tree, inner))
		rc = ckpt_err_set(err, -ENOENT,
				  "there is no '%s' in '%s'; see what is with 'ckptfs ls %s'",
				  inner, checkpoint->place.name, checkpoint->place.folder);
	for (size_t i = 0; rc == 0 && i < tree.count; i++) {
		if (ckpt_path_is_below(tree.entries[i].path, inner))
			add_entry(&table, &tree.entries[i], json);
	}
	if (rc == 0)
		rc = table_print(&table, json, err);
	table_release(&table);
	tree_release(&tree);
	return rc;
}

static int list_views(const struct cli_checkpoint *checkpoint, bool json, struct ckpt_err *err)
{
	struct view_of view;
	int rc = view_of_open(checkpoint, &view, err);

	if (rc == 0)
		rc = view_of_list(&view, json, err);
	view_of_release(&view);
	return rc;
}

static int list_checkpoint(const struct cli *cli, const char *path, bool json, struct ckpt_err *err)
{
	struct cli_checkpoint checkpoint;
	int rc = cli_checkpoint_open(cli, path, &checkpoint, err);

	if (rc == 0)
		rc = view_is_path(checkpoint.place.inner) ? list_views(&checkpoint, json, err)
							  : list_entries(&checkpoint, json, err);
	cli_checkpoint_release(&checkpoint);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	bool json = false;
	const struct option_row rows[] = {
		{ "json", 0, OPTION_FLAG, &json, NULL,
		  "one JSON array of objects, sizes in bytes" },
		OPTION_END,
	};
	struct ckpt_place place = { .name = NULL };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	const char *path;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	path = args.count > 0 ? args.items[0] : NULL;
	rc = cli_place_look(cli, path, &place, &err);
	if (rc == 0) {
		if (place.kind == CKPT_PLACE_STORE || place.kind == CKPT_PLACE_GROUP)
			rc = list_store(&place, json, &err);
		else
			rc = list_checkpoint(cli, path, json, &err);
		ckpt_place_release(&place);
	}
	return cli_flush(rc < 0 ? cli_report(&err) : rc);
}

const struct cli_command cli_ls_command = {
	.name = "ls",
	.args = "[--json] [PATH]",
	.summary = "list checkpoints, or what is in one",
	.details =
		"Of a store or a group: every checkpoint below it, at any depth, also removed ones\n"
		"that lie in the trash. An open one says in the last column what it waits for.\n"
		"Of a checkpoint or a folder in it: every folder, shard and symbolic link, sorted by\n"
		"the bytes of the path. Of .ckptfs in a checkpoint, or in a folder of it that holds a\n"
		"tensor set: the views, which are stored nowhere.\n"
		"PATH left out is the folder you stand in.\n",
	.max_args = 1,
	.run = run,
};
