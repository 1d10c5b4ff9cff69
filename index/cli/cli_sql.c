/* cli_sql.c - a SELECT on the index, as a table, JSON or CSV. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/table.h"

/* A table is kept until its columns are measured; CSV is not, and has no bound. */
#define CELLS_MAX ((size_t)10 * 1000 * 1000)

struct answer {
	bool json;
	bool csv;
	bool is_wrong;		      /* the statement is, not the store */
	struct table_column *columns; /* owned */
	char **titles;		      /* owned, theirs */
	size_t column_count;
	struct table table;
};

/* --- cells --------------------------------------------------------------------------------------- */

static void add_hex(struct ckpt_buf *out, const struct ckpt_db_cell *cell)
{
	for (size_t i = 0; i < cell->len_bytes; i++)
		ckpt_buf_printf(out, "%02x", cell->bytes[i]);
}

/* As SQLite's own shell prints it; NULL is nothing. */
static void add_plain(struct ckpt_buf *out, const struct ckpt_db_cell *cell)
{
	switch (cell->kind) {
	case CKPT_DB_CELL_INT:
		ckpt_buf_printf(out, "%" PRId64, cell->integer);
		break;
	case CKPT_DB_CELL_REAL:
		ckpt_buf_printf(out, "%.15g", cell->real);
		break;
	case CKPT_DB_CELL_TEXT:
		ckpt_buf_add_str(out, (const char *)cell->bytes);
		break;
	case CKPT_DB_CELL_BLOB:
		add_hex(out, cell);
		break;
	default:
		break;
	}
}

/* --- CSV (RFC 4180, with the line ends of this system) --------------------------------------- */

static void put_csv(const char *text, bool first)
{
	bool quoted = text[strcspn(text, ",\"\r\n")] != '\0';

	(void)fputs(first ? "" : ",", stdout);
	if (!quoted) {
		(void)fputs(text, stdout);
		return;
	}
	(void)putchar('"');
	for (; *text; text++) {
		if (*text == '"')
			(void)putchar('"');
		(void)putchar(*text);
	}
	(void)putchar('"');
}

static int put_csv_row(const struct ckpt_db_cell *cells, size_t count, struct ckpt_err *err)
{
	struct ckpt_buf text;
	int rc = 0;

	ckpt_buf_init(&text);
	for (size_t i = 0; i < count && rc == 0; i++) {
		ckpt_buf_reset(&text);
		add_plain(&text, &cells[i]);
		put_csv(text.data, i == 0);
		rc = ckpt_buf_check(&text);
	}
	(void)putchar('\n');
	ckpt_buf_release(&text);
	if (rc == 0 && ferror(stdout))
		return ckpt_err_set(err, -EIO, "the rest is not printed");
	return rc < 0 ? ckpt_err_set(err, rc, "out of memory while printing a row") : 0;
}

/* --- a table -------------------------------------------------------------------------------------- */

static void add_table_cell(struct answer *answer, size_t column, const struct ckpt_db_cell *cell)
{
	struct ckpt_buf text;

	if (cell->kind == CKPT_DB_CELL_TEXT || cell->kind == CKPT_DB_CELL_BLOB)
		answer->columns[column].flags &= ~(unsigned int)TABLE_RIGHT;
	ckpt_buf_init(&text);
	add_plain(&text, cell);
	answer->table.failed = answer->table.failed || ckpt_buf_check(&text) < 0;
	if (cell->kind == CKPT_DB_CELL_NULL)
		table_text(&answer->table, NULL);
	else if (cell->kind == CKPT_DB_CELL_REAL && answer->json)
		table_real(&answer->table, true, cell->real);
	else if (cell->kind == CKPT_DB_CELL_INT || cell->kind == CKPT_DB_CELL_REAL)
		table_raw(&answer->table, text.data);
	else
		table_text(&answer->table, text.data);
	ckpt_buf_release(&text);
}

static int take_columns(void *ctx, const char *const *names, size_t count, struct ckpt_err *err)
{
	struct answer *answer = ctx;

	if (answer->csv) {
		for (size_t i = 0; i < count; i++)
			put_csv(names[i], i == 0);
		(void)putchar('\n');
		return 0;
	}
	answer->columns = array_alloc(count, sizeof(*answer->columns));
	answer->titles = array_alloc(count, sizeof(*answer->titles));
	if (!answer->columns || !answer->titles)
		return ckpt_err_set(err, -ENOMEM, "out of memory while making the table");
	answer->column_count = count;
	for (size_t i = 0; i < count; i++) {
		char *title = answer->titles[i] = strdup(names[i]);

		if (!title)
			return ckpt_err_set(err, -ENOMEM, "out of memory while making the table");
		for (char *at = title; !answer->json && *at; at++)
			*at = (char)toupper((unsigned char)*at);
		answer->columns[i] = (struct table_column){ title, TABLE_RIGHT };
	}
	table_init(&answer->table, answer->columns, count);
	return 0;
}

static int take_row(void *ctx, const struct ckpt_db_cell *cells, size_t count, struct ckpt_err *err)
{
	struct answer *answer = ctx;

	if (answer->csv)
		return put_csv_row(cells, count, err);
	if (answer->table.cell_count + count > CELLS_MAX)
		return ckpt_err_set(
			err, -E2BIG,
			"more than %zu values are too many for a table; use '--csv', or LIMIT",
			CELLS_MAX);
	for (size_t i = 0; i < count; i++)
		add_table_cell(answer, i, &cells[i]);
	return 0;
}

static bool was_stopped(void *ctx)
{
	(void)ctx;
	return signals_caught() != 0;
}

static void answer_release(struct answer *answer)
{
	if (answer->table.columns)
		table_release(&answer->table);
	for (size_t i = 0; i < answer->column_count; i++)
		free(answer->titles[i]);
	free(answer->titles);
	free(answer->columns);
}

/* --- bringing the index up to date --------------------------------------------------------------- */

struct names {
	char **items;
	size_t count, cap;
};

static int note_name(void *ctx, const struct ckpt_found *found)
{
	struct names *names = ctx;

	if (!found->row)
		return 0;
	if (array_grow(&names->items, &names->cap, names->count, sizeof(*names->items)) < 0)
		return -ENOMEM;
	names->items[names->count] = strdup(found->name);
	return names->items[names->count++] ? 0 : -ENOMEM;
}

/* Are entries asked for? All but the sizes of checkpoints come from them, and those, too. */
static bool wants_entries(const char *statement)
{
	static const char *const words[] = { "shards", "tensors", "chunks", "size", "*" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasestr(statement, words[i]))
			return true;
	}
	return false;
}

/* What cannot be used is missing in the answer, and is told. */
static int load_entries(struct ckpt_store *store, const struct names *names, bool *out_missing)
{
	for (size_t i = 0; i < names->count; i++) {
		struct ckpt_db_checkpoint row = { .slot = 0 };
		struct ckpt_err err = CKPT_ERR_INIT;
		int rc = ckpt_store_lookup(store, names->items[i], &row, &err);

		if (rc == 0) {
			rc = ckpt_store_load_entries(store, &row, &err);
			ckpt_db_checkpoint_release(&row);
		}
		if (rc < 0 && rc != -ENOENT) {
			(void)cli_report(&err);
			*out_missing = true;
		}
		if (signals_caught())
			return -EINTR;
	}
	return 0;
}

static int refresh(struct ckpt_store *store, const char *statement, bool *out_missing,
		   struct ckpt_err *err)
{
	struct names names = { .items = NULL };
	int rc = ckpt_store_walk(store, "", note_name, &names, err);

	if (rc == -ENOMEM)
		ckpt_err_set(err, rc, "out of memory while listing checkpoints");
	if (rc == 0 && wants_entries(statement))
		rc = load_entries(store, &names, out_missing);
	if (rc == -EINTR)
		ckpt_err_set(err, rc, "the query was interrupted");
	for (size_t i = 0; i < names.count; i++)
		free(names.items[i]);
	free(names.items);
	return rc;
}

/* --- the command ------------------------------------------------------------------------------------ */

static int ask(struct ckpt_store *store, const char *statement, struct answer *answer,
	       struct ckpt_err *err)
{
	const struct ckpt_db_sql use = {
		.columns = take_columns, .row = take_row, .stopped = was_stopped, .ctx = answer
	};
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(store, &db, err);

	if (rc < 0)
		return rc;
	rc = ckpt_db_sql(db, statement, &use, err);
	ckpt_store_db_put(store, db);
	answer->is_wrong = rc == -EINVAL || rc == -EPERM;
	if (rc == 0 && answer->columns)
		rc = table_print(&answer->table, answer->json, err);
	return rc;
}

static int ask_at(const struct cli *cli, const char *path, const char *statement,
		  struct answer *answer, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	struct ckpt_store *store = NULL;
	bool missing = false;
	int rc = cli_place(cli, path, &place, err);

	if (rc == 0 && !place.store_path)
		rc = ckpt_err_set(err, -EINVAL, "'%s' is in no store; name one", place.folder);
	if (rc == 0)
		rc = ckpt_store_open(place.store_path, 0, NULL, &store, err);
	if (rc == 0)
		rc = refresh(store, statement, &missing, err);
	if (rc == 0)
		rc = ask(store, statement, answer, err);
	if (rc == 0 && missing)
		rc = CLI_FAILED;
	ckpt_store_free(store);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct answer answer = { .json = false };
	const struct option_row rows[] = {
		{ "json", 0, OPTION_FLAG, &answer.json, NULL, "one JSON array of objects" },
		{ "csv", 0, OPTION_FLAG, &answer.csv, NULL,
		  "comma-separated values, a line of names on top" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	if (answer.json && answer.csv) {
		cli_error("'--json' and '--csv' exclude each other; leave one out");
		return CLI_USAGE;
	}
	signals_catch();
	rc = ask_at(cli, args.count > 1 ? args.items[1] : NULL, args.items[0], &answer, &err);
	answer_release(&answer);
	if (rc < 0)
		rc = cli_report(&err);
	if (answer.is_wrong)
		rc = CLI_USAGE;
	return cli_flush(rc);
}

const struct cli_command cli_sql_command = {
	.name = "sql",
	.args = "[--json | --csv] STATEMENT [PATH]",
	.summary = "ask the index with a SELECT; nothing can be changed",
	.details =
		"STATEMENT is one SELECT of SQLite. The index of the store that PATH (the current\n"
		"folder) lies in is brought up to date first; it holds what is committed. Views:\n"
		"  checkpoints  name id seq step world_size created committed save_seconds writer\n"
		"               meta shards tensors size\n"
		"  shards       checkpoint step path rank size mode mtime xxh128 block pack\n"
		"  tensors      checkpoint step tensor_set tensor_group fqn dtype shape elements\n"
		"  chunks       checkpoint step tensor_set fqn shard rank start size\n"
		"meta is a JSON object: meta ->> '$.loss'. shape, start and size of a chunk are JSON\n"
		"arrays.\n",
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
