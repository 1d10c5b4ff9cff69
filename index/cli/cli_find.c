/* cli_find.c - the checkpoints of which an expression holds. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/expr.h"
#include "cli/history.h"
#include "cli/history_print.h"
#include "cli/options.h"
#include "cli/suggest.h"

static const char meta_prefix[] = "meta.";

/* --- names that every checkpoint may have ------------------------------------------------- */

enum name {
	NAME_NAME,
	NAME_STATE,
	NAME_STEP,
	NAME_SEQ,
	NAME_SIZE,
	NAME_SHARDS,
	NAME_TENSORS,
	NAME_WORLD_SIZE,
	NAME_SAVE_SECONDS,
	NAME_CREATED,
	NAME_COMMITTED,
	NAME_REMOVED,
	NAME_WRITER,
	NAME_ID,
	NAME_PINNED,
	NAME_COUNT,
};

static const char *const names[NAME_COUNT] = {
	[NAME_NAME] = "name",
	[NAME_STATE] = "state",
	[NAME_STEP] = "step",
	[NAME_SEQ] = "seq",
	[NAME_SIZE] = "size",
	[NAME_SHARDS] = "shards",
	[NAME_TENSORS] = "tensors",
	[NAME_WORLD_SIZE] = "world_size",
	[NAME_SAVE_SECONDS] = "save_seconds",
	[NAME_CREATED] = "created",
	[NAME_COMMITTED] = "committed",
	[NAME_REMOVED] = "removed",
	[NAME_WRITER] = "writer",
	[NAME_ID] = "id",
	[NAME_PINNED] = "pinned",
};

static size_t name_of(const char *text)
{
	size_t i = 0;

	while (i < NAME_COUNT && strcmp(names[i], text) != 0)
		i++;
	return i;
}

static struct expr_value text_value(bool there, const char *text)
{
	return (struct expr_value){ .is_there = there && text && text[0],
				    .text = text ? text : "" };
}

/* Numbers have a text, too, for '~' and 'like': of one item at a time. */
static struct expr_value number_value(bool there, double number)
{
	static char text[32];

	(void)snprintf(text, sizeof(text), "%.17g", number);
	return (struct expr_value){
		.is_there = there, .is_number = true, .number = number, .text = text
	};
}

static struct expr_value fixed_value(const struct history_item *item, enum name name)
{
	const struct found *found = item->found;
	const struct ckpt_db_checkpoint *row = &found->row;
	bool known = found->has_row || found->removed;

	switch (name) {
	case NAME_NAME:
		return text_value(true, found->name);
	case NAME_STATE:
		return text_value(true, found_word(found));
	case NAME_STEP:
		return number_value(known && row->has_step, (double)row->step);
	case NAME_SEQ:
		return number_value(known, (double)row->seq);
	case NAME_SIZE:
		return number_value(known || found->counted,
				    (double)(known ? row->size_bytes : found->file_bytes));
	case NAME_SHARDS:
		return number_value(known || found->counted,
				    (double)(known ? row->shard_count : found->file_count));
	case NAME_TENSORS:
		return number_value(found->has_row, (double)row->tensor_count);
	case NAME_WORLD_SIZE:
		return number_value(found->has_row && row->has_world_size, (double)row->world_size);
	case NAME_SAVE_SECONDS:
		return number_value(item->has_save_seconds, item->save_seconds);
	case NAME_CREATED:
		return text_value(found->has_row, row->created);
	case NAME_COMMITTED:
		return text_value(found->has_row, row->committed);
	case NAME_REMOVED:
		return text_value(found->removed, found->removed_at);
	case NAME_WRITER:
		return text_value(found->has_row, row->writer);
	case NAME_ID:
		return text_value(known, row->id);
	default:
		return number_value(found->has_row, found->pinned);
	}
}

/* "meta.KEY" is the metadata, also where KEY is one of the names above. */
static const char *meta_key(const char *text)
{
	size_t len = sizeof(meta_prefix) - 1;

	return strncmp(text, meta_prefix, len) == 0 ? text + len : text;
}

static struct expr_value look(void *ctx, const char *text)
{
	const struct history_item *item = ctx;
	const struct history_meta *meta;
	size_t name = name_of(text);

	if (name < NAME_COUNT)
		return fixed_value(item, (enum name)name);
	meta = history_find_meta(item, meta_key(text));
	if (!meta)
		return (struct expr_value){ .is_there = false, .text = "" };
	return (struct expr_value){ .is_there = true,
				    .is_number = meta->is_number,
				    .number = meta->number,
				    .text = meta->text };
}

/* --- names that are not there -------------------------------------------------------------- */

struct vocabulary {
	struct history_keys keys;
	bool asks_state; /* the expression asks for the state, or the time of removal */
};

static int check_name(void *ctx, const char *text)
{
	struct vocabulary *vocabulary = ctx;
	size_t name = name_of(text);
	const char *best = names[0];
	const char *key = meta_key(text);

	if (name == NAME_STATE || name == NAME_REMOVED)
		vocabulary->asks_state = true;
	if (name < NAME_COUNT)
		return 0;
	for (size_t i = 0; i < vocabulary->keys.count; i++) {
		if (strcmp(vocabulary->keys.items[i], key) == 0)
			return 0;
	}
	for (size_t i = 0; i < NAME_COUNT + vocabulary->keys.count; i++) {
		const char *word = i < NAME_COUNT ? names[i]
						  : vocabulary->keys.items[i - NAME_COUNT];

		if (suggest_distance(key, word) < suggest_distance(key, best))
			best = word;
	}
	if (suggest_near(key, suggest_distance(key, best)))
		cli_error("nothing here has '%s'; did you mean '%s'?", text, best);
	else
		cli_error("nothing here has '%s'", text);
	return CLI_USAGE;
}

static void list_names(const struct vocabulary *vocabulary)
{
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	for (size_t i = 0; i < NAME_COUNT; i++)
		ckpt_buf_printf(&line, "%s%s", i > 0 ? ", " : "", names[i]);
	for (size_t i = 0; i < vocabulary->keys.count; i++) {
		ckpt_buf_add_str(&line, i > 0 ? ", " : "; of the metadata: ");
		ckpt_path_escape(&line, vocabulary->keys.items[i]);
	}
	cli_error("there are: %s", line.data);
	ckpt_buf_release(&line);
}

/* --- finding ----------------------------------------------------------------------------------- */

struct find {
	const struct cli *cli;
	const struct expr *expr;
	const char *path;
	const struct ckpt_place *place;
	bool json;
};

static int print_found(const struct find *find, const struct history_item *const *items,
		       size_t count, struct ckpt_err *err)
{
	if (find->json)
		return history_print_json(items, count, err);
	for (size_t i = 0; i < count; i++) {
		struct ckpt_buf path;
		struct ckpt_buf shown;

		ckpt_buf_init(&path);
		ckpt_buf_init(&shown);
		history_path(find->cli, find->place, find->path, items[i]->found->name, &path);
		ckpt_path_escape(&shown, path.data);
		(void)puts(shown.data);
		ckpt_buf_release(&shown);
		ckpt_buf_release(&path);
	}
	return 0;
}

static int find_in(const struct find *find, struct history *history, struct ckpt_err *err)
{
	CKPT_FREE const struct history_item **items =
		array_alloc(num_max(history->count, 1), sizeof(const struct history_item *));
	struct vocabulary vocabulary = { .asks_state = false };
	int rc = history_keys(history, false, &vocabulary.keys);
	size_t count = 0;

	if (rc < 0 || !items)
		return ckpt_err_set(err, -ENOMEM, "out of memory while looking for checkpoints");
	/* In an empty place nobody can say which metadata there will be. */
	if (history->count > 0)
		rc = expr_each_name(find->expr, check_name, &vocabulary);
	for (size_t i = 0; rc == 0 && i < history->count; i++) {
		struct history_item *item = &history->items[i];

		if (item->found->state == CKPT_STATE_NONE &&
		    !(item->found->removed && vocabulary.asks_state))
			continue;
		if (expr_holds(find->expr, look, item))
			items[count++] = item;
	}
	if (rc == CLI_USAGE)
		list_names(&vocabulary);
	if (rc == 0)
		rc = print_found(find, items, count, err);
	history_keys_release(&vocabulary.keys);
	if (rc == 0 && count == 0) {
		cli_error("nothing was found");
		rc = CLI_FAILED;
	}
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct find find = { .cli = cli };
	const struct option_row rows[] = {
		{ "json", 0, OPTION_FLAG, &find.json, NULL,
		  "one JSON array of objects, sizes in bytes" },
		OPTION_END,
	};
	struct ckpt_place place = { .name = NULL };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct history history = { .items = NULL };
	struct expr *expr = NULL;
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	rc = expr_parse(args.items[0], &expr, &err);
	if (rc < 0) {
		cli_error("%s; see 'ckptfs find --help'", err.msg);
		return rc == -EINVAL ? CLI_USAGE : CLI_FAILED;
	}
	find.expr = expr;
	find.path = args.count > 1 ? args.items[1] : NULL;
	find.place = &place;
	rc = history_load(cli, find.path, false, &place, &history, &err);
	if (rc == 0)
		rc = find_in(&find, &history, &err);
	if (rc == 0 && found_report(&history.list) > 0)
		rc = CLI_FAILED;
	history_release(&history);
	ckpt_place_release(&place);
	expr_free(expr);
	return cli_flush(rc < 0 ? cli_report(&err) : rc);
}

const struct cli_command cli_find_command = {
	.name = "find",
	.args = "[--json] EXPRESSION [PATH]",
	.summary = "the checkpoints of which an expression holds",
	.details =
		"Prints the path of every checkpoint at or below PATH (a store or a group; the current\n"
		"folder) of which EXPRESSION holds, a line each: 'loss < 2 and step > 1000'.\n"
		"Comparisons are = != < <= > >=, ~ (extended regular expression) and like (% and _);\n"
		"and, or, not and parentheses join them. Names: name, state, step, seq, size, shards,\n"
		"tensors, world_size, save_seconds, created, committed, removed, writer, id, pinned,\n"
		"and every key of the metadata ('meta.KEY' where it has one of these names). A name\n"
		"alone holds where it is there, and not 0. What a checkpoint does not have compares as\n"
		"false. Values: numbers, sizes (4GiB), words, and text in quotes; times as\n"
		"'2026-11-22T20:41'. Removed checkpoints are looked at only if state or removed is\n"
		"asked for. The exit code is 1 if nothing was found.\n",
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
