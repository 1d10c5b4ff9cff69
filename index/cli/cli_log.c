/* cli_log.c - the committed checkpoints of a group, newest first, with their metadata. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/history.h"
#include "cli/history_print.h"
#include "cli/options.h"
#include "cli/table.h"

/* Columns that are always there; those of the metadata stand before the last one. */
enum column {
	LOG_STEP,
	LOG_NAME,
	LOG_COMMITTED,
	LOG_SIZE,
	LOG_SHARDS,
	LOG_WORLD,
	LOG_TOOK,
	LOG_WRITER,
	LOG_FIXED,
};

static const struct table_column fixed_columns[LOG_FIXED] = {
	[LOG_STEP] = { "STEP", TABLE_RIGHT },	  [LOG_NAME] = { "NAME", 0 },
	[LOG_COMMITTED] = { "COMMITTED", 0 },	  [LOG_SIZE] = { "SIZE", TABLE_RIGHT },
	[LOG_SHARDS] = { "SHARDS", TABLE_RIGHT }, [LOG_WORLD] = { "WORLD", TABLE_RIGHT },
	[LOG_TOOK] = { "TOOK", TABLE_RIGHT },	  [LOG_WRITER] = { "WRITER", 0 },
};

/* What a narrow terminal does without, the first first; behind them the metadata but its first. */
static const enum column dispensable[] = { LOG_WRITER, LOG_SHARDS, LOG_WORLD, LOG_TOOK };
static const enum column last_dispensable[] = { LOG_SIZE, LOG_COMMITTED };

struct log {
	const struct history_item **items; /* oldest first */
	size_t count;
	struct history_keys keys;
	size_t *widths; /* of the fixed columns, then of the keys */
	bool *hidden;	/* the same */
	size_t column_count;
};

/* --- cells ------------------------------------------------------------------------------------ */

static void number_text(struct ckpt_buf *out, bool there, uint64_t number)
{
	if (there)
		ckpt_buf_printf(out, "%" PRIu64, number);
	else
		ckpt_buf_add_char(out, '-');
}

static void fixed_text(const struct history_item *item, enum column column, struct ckpt_buf *out)
{
	const struct ckpt_db_checkpoint *row = &item->found->row;
	char took[HISTORY_TOOK_SIZE];
	char size[32];

	switch (column) {
	case LOG_STEP:
		number_text(out, row->has_step, row->step);
		break;
	case LOG_NAME:
		ckpt_buf_add_str(out, item->found->name);
		break;
	case LOG_COMMITTED:
		/* To the second; --json has the rest. */
		ckpt_buf_printf(out, "%.10s %.8s", row->committed, row->committed + 11);
		break;
	case LOG_SIZE:
		ckpt_buf_add_str(out, row->entries_indexed
					      ? num_format_size(row->size_bytes, size, sizeof(size))
					      : "-");
		break;
	case LOG_SHARDS:
		number_text(out, true, row->shard_count);
		break;
	case LOG_WORLD:
		number_text(out, row->has_world_size, row->world_size);
		break;
	case LOG_TOOK:
		ckpt_buf_add_str(
			out, item->has_save_seconds ? history_took(item->save_seconds, took) : "-");
		break;
	default:
		ckpt_buf_add_str(out, row->writer);
		break;
	}
}

/* @column counts the fixed ones, then the keys. */
static void cell_text(const struct log *log, const struct history_item *item, size_t column,
		      struct ckpt_buf *out)
{
	const struct history_meta *meta;

	if (column < LOG_FIXED) {
		fixed_text(item, (enum column)column, out);
		return;
	}
	meta = history_find_meta(item, log->keys.items[column - LOG_FIXED]);
	ckpt_buf_add_str(out, meta ? meta->text : "-");
}

/* --- which columns fit ------------------------------------------------------------------------ */

static const char *title_of(const struct log *log, size_t column)
{
	return column < LOG_FIXED ? fixed_columns[column].title
				  : log->keys.items[column - LOG_FIXED];
}

static size_t shown_width(const char *text)
{
	struct ckpt_buf shown;
	size_t width;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, text);
	width = table_text_width(shown.data);
	ckpt_buf_release(&shown);
	return width;
}

static void measure(struct log *log)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	for (size_t column = 0; column < log->column_count; column++) {
		log->widths[column] = shown_width(title_of(log, column));
		for (size_t i = 0; i < log->count; i++) {
			ckpt_buf_reset(&text);
			cell_text(log, log->items[i], column, &text);
			log->widths[column] = num_max(log->widths[column], shown_width(text.data));
		}
	}
	ckpt_buf_release(&text);
}

static size_t total_width(const struct log *log)
{
	size_t total = 0;

	for (size_t column = 0; column < log->column_count; column++)
		total += log->hidden[column] ? 0 : log->widths[column] + (total > 0 ? 2 : 0);
	return total;
}

static void hide_until_it_fits(struct log *log, size_t line)
{
	size_t i;

	for (i = 0; i < sizeof(dispensable) / sizeof(dispensable[0]) && total_width(log) > line;
	     i++)
		log->hidden[dispensable[i]] = true;
	for (i = log->column_count; i > LOG_FIXED + 1 && total_width(log) > line; i--)
		log->hidden[i - 1] = true;
	for (i = 0;
	     i < sizeof(last_dispensable) / sizeof(last_dispensable[0]) && total_width(log) > line;
	     i++)
		log->hidden[last_dispensable[i]] = true;
	if (log->column_count > LOG_FIXED && total_width(log) > line)
		log->hidden[LOG_FIXED] = true;
}

/* --- printing ------------------------------------------------------------------------------------ */

/* The columns in the order they are shown: the writer comes last, where it may be cut. */
static size_t column_at(const struct log *log, size_t place)
{
	if (place < LOG_WRITER)
		return place;
	return place + 1 < log->column_count ? place + 1 : LOG_WRITER;
}

static int print_text(const struct log *log, bool oldest_first, struct ckpt_err *err)
{
	CKPT_FREE struct table_column *columns = array_alloc(log->column_count, sizeof(*columns));
	struct ckpt_buf text;
	struct table table;
	size_t shown = 0;
	int rc;

	if (!columns)
		return ckpt_err_set(err, -ENOMEM, "out of memory while making the table");
	for (size_t place = 0; place < log->column_count; place++) {
		size_t column = column_at(log, place);

		if (!log->hidden[column])
			columns[shown++] = (struct table_column){
				title_of(log, column),
				column < LOG_FIXED ? fixed_columns[column].flags : TABLE_RIGHT
			};
	}
	ckpt_buf_init(&text);
	table_init(&table, columns, shown);
	for (size_t i = 0; i < log->count; i++) {
		const struct history_item *item = log->items[oldest_first ? i : log->count - 1 - i];

		for (size_t place = 0; place < log->column_count; place++) {
			if (log->hidden[column_at(log, place)])
				continue;
			ckpt_buf_reset(&text);
			cell_text(log, item, column_at(log, place), &text);
			table_text(&table, text.data);
		}
	}
	rc = table_print(&table, false, err);
	table_release(&table);
	ckpt_buf_release(&text);
	return rc;
}

static void turn_around(struct log *log)
{
	for (size_t i = 0; i < log->count / 2; i++) {
		const struct history_item *item = log->items[i];

		log->items[i] = log->items[log->count - 1 - i];
		log->items[log->count - 1 - i] = item;
	}
}

static int print_table(struct log *log, const struct history *history, bool oldest_first,
		       struct ckpt_err *err)
{
	CKPT_FREE size_t *widths = NULL;
	CKPT_FREE bool *hidden = NULL;
	int rc = history_keys(history, false, &log->keys);

	log->column_count = LOG_FIXED + log->keys.count;
	log->widths = widths = array_alloc(log->column_count, sizeof(*widths));
	log->hidden = hidden = array_alloc(log->column_count, sizeof(*hidden));
	if (rc < 0 || !widths || !hidden)
		return ckpt_err_set(err, -ENOMEM, "out of memory while making the table");
	measure(log);
	hide_until_it_fits(log, table_line_width());
	rc = print_text(log, oldest_first, err);
	return rc == 0 ? history_print_spark(history, log->items, log->count, err) : rc;
}

static int print_log(const struct history *history, uint64_t max, bool json, bool oldest_first,
		     struct ckpt_err *err)
{
	CKPT_FREE const struct history_item **items =
		array_alloc(num_max(history->count, 1), sizeof(const struct history_item *));
	size_t skip = history->count > max ? history->count - (size_t)max : 0;
	struct log log = { .items = items };
	int rc;

	if (!items)
		return ckpt_err_set(err, -ENOMEM, "out of memory while listing checkpoints");
	for (size_t i = skip; i < history->count; i++)
		items[log.count++] = &history->items[i];
	if (json) {
		if (!oldest_first)
			turn_around(&log);
		return history_print_json(items, log.count, err);
	}
	rc = print_table(&log, history, oldest_first, err);
	history_keys_release(&log.keys);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct option_number max = { .value = UINT64_MAX };
	bool oldest_first = false;
	bool json = false;
	const struct option_row rows[] = {
		{ "number", 'n', OPTION_NUMBER, &max, "N", "only the N that were committed last" },
		{ "reverse", 0, OPTION_FLAG, &oldest_first, NULL, "oldest first" },
		{ "json", 0, OPTION_FLAG, &json, NULL,
		  "one JSON array of objects, sizes in bytes" },
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
	rc = history_load(cli, args.count > 0 ? args.items[0] : NULL, true, &place, &history, &err);
	if (rc == 0) {
		history_sort(&history);
		rc = print_log(&history, max.value, json, oldest_first, &err);
	}
	if (rc == 0 && found_report(&history.list) > 0)
		rc = CLI_FAILED;
	history_release(&history);
	ckpt_place_release(&place);
	return cli_flush(rc < 0 ? cli_report(&err) : rc);
}

const struct cli_command cli_log_command = {
	.name = "log",
	.args = "[-n N] [--reverse] [--json] [PATH]",
	.summary = "list what was committed, newest first, with its metadata",
	.details =
		"Every committed checkpoint at or below PATH (a store or a group; the current folder),\n"
		"the one that was committed last on top: step, name, time of the commit, size, shards,\n"
		"world size, time from its beginning to the commit, writer, and a column for each key\n"
		"of its metadata, from 'ckptfs commit --meta' or a trainer_state.json in it. A narrow\n"
		"terminal shows fewer columns. A terminal that shows UTF-8 gets a line of bars for\n"
		"up to three numbers of the metadata, oldest on the left.\n",
	.max_args = 1,
	.run = run,
};
