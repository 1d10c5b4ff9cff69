/* history_print.c - see history_print.h. */
#include "cli/history_print.h"

#include <errno.h>
#include <langinfo.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/table.h"

/* Lines of bars below a table: more would be a picture, and `ckptfs plot` makes those. */
#define SPARK_KEYS_MAX 3
/* Bars a line: on a wide terminal the eye follows no more. */
#define SPARK_BARS_MAX 100

char *history_took(double seconds, char out[HISTORY_TOOK_SIZE])
{
	uint64_t whole = seconds < 1e15 ? (uint64_t)seconds : UINT64_C(1000000000000000);

	if (seconds < 10)
		(void)snprintf(out, HISTORY_TOOK_SIZE, "%.2fs", seconds);
	else if (whole < 60)
		(void)snprintf(out, HISTORY_TOOK_SIZE, "%us", (unsigned int)whole);
	else if (whole < 3600)
		(void)snprintf(out, HISTORY_TOOK_SIZE, "%um%02us", (unsigned int)(whole / 60),
			       (unsigned int)(whole % 60));
	else
		(void)snprintf(out, HISTORY_TOOK_SIZE, "%lluh%02um",
			       (unsigned long long)(whole / 3600), (unsigned int)(whole / 60 % 60));
	return out;
}

/* --- JSON ------------------------------------------------------------------------------------ */

static const struct table_column json_columns[] = {
	{ "NAME", 0 },	     { "STATE", 0 },   { "STEP", 0 },	   { "SEQ", 0 },
	{ "ID", 0 },	     { "CREATED", 0 }, { "COMMITTED", 0 }, { "SAVE_SECONDS", 0 },
	{ "WORLD_SIZE", 0 }, { "SHARDS", 0 },  { "TENSORS", 0 },   { "SIZE", 0 },
	{ "WRITER", 0 },     { "META", 0 },
};

static void add_meta_object(struct table *table, const struct history_item *item)
{
	struct ckpt_buf object;

	ckpt_buf_init(&object);
	for (size_t i = 0; i < item->meta_count; i++) {
		const struct history_meta *meta = &item->metas[i];

		ckpt_buf_add_char(&object, i > 0 ? ',' : '{');
		json_text(&object, meta->key);
		ckpt_buf_add_char(&object, ':');
		if (!meta->is_number)
			json_text(&object, meta->text);
		else if (strcmp(meta->text, "true") == 0 || strcmp(meta->text, "false") == 0)
			ckpt_buf_add_str(&object, meta->text);
		else
			json_real(&object, meta->number);
	}
	ckpt_buf_add_str(&object, item->meta_count > 0 ? "}" : "{}");
	table->failed = table->failed || ckpt_buf_check(&object) < 0;
	table_raw(table, object.data);
	ckpt_buf_release(&object);
}

static void add_json_row(struct table *table, const struct history_item *item)
{
	const struct found *found = item->found;
	const struct ckpt_db_checkpoint *row = &found->row;
	bool has_seq = found->has_row || found->removed;

	table_text(table, found->name);
	table_text(table, found_word(found));
	table_number(table, has_seq && row->has_step, row->step);
	table_number(table, has_seq, row->seq);
	table_text(table, has_seq ? row->id : NULL);
	table_text(table, found->has_row ? row->created : NULL);
	table_text(table, found->has_row ? row->committed : NULL);
	table_real(table, item->has_save_seconds, item->save_seconds);
	table_number(table, found->has_row && row->has_world_size, row->world_size);
	table_number(table, has_seq || found->counted,
		     has_seq ? row->shard_count : found->file_count);
	table_number(table, found->has_row, row->tensor_count);
	table_number(table, has_seq || found->counted,
		     has_seq ? row->size_bytes : found->file_bytes);
	table_text(table, found->has_row ? row->writer : NULL);
	add_meta_object(table, item);
}

int history_print_json(const struct history_item *const *items, size_t count, struct ckpt_err *err)
{
	struct table table;
	int rc;

	table_init(&table, json_columns, sizeof(json_columns) / sizeof(json_columns[0]));
	for (size_t i = 0; i < count; i++)
		add_json_row(&table, items[i]);
	rc = table_print(&table, true, err);
	table_release(&table);
	return rc;
}

/* --- bars ------------------------------------------------------------------------------------ */

struct series {
	double *values; /* of those that have one that is finite */
	size_t count;
	double least, most;
};

static int read_series(const struct history_item *const *items, size_t count, const char *key,
		       struct series *out)
{
	*out = (struct series){ .values = array_alloc(num_max(count, 1), sizeof(double)) };
	if (!out->values)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct history_meta *meta = history_find_meta(items[i], key);

		if (!meta || !isfinite(meta->number))
			continue;
		if (out->count == 0)
			out->least = out->most = meta->number;
		out->least = fmin(out->least, meta->number);
		out->most = fmax(out->most, meta->number);
		out->values[out->count++] = meta->number;
	}
	return 0;
}

/* The mean of what falls into bar @bar of @bars. */
static double bar_value(const struct series *series, size_t bar, size_t bars)
{
	size_t first = bar * series->count / bars;
	size_t end = (bar + 1) * series->count / bars;
	double sum = 0;

	for (size_t i = first; i < end; i++)
		sum += series->values[i] / (double)(end - first);
	return sum;
}

static void print_bars(const char *key, size_t key_width, const struct series *series, size_t bars)
{
	static const char *const heights[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	double range = series->most - series->least;
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	ckpt_path_escape(&line, key);
	(void)printf("%s%*s  ", line.data, (int)(key_width - table_text_width(line.data)), "");
	ckpt_buf_release(&line);
	for (size_t i = 0; i < bars; i++) {
		double share = range > 0 ? (bar_value(series, i, bars) - series->least) / range
					 : 0.5;

		(void)fputs(heights[(size_t)fmin(7, fmax(0, share * 8))], stdout);
	}
	(void)printf("  %.4g → %.4g\n", series->values[0], series->values[series->count - 1]);
}

static size_t widest_key(const struct history_keys *keys, size_t count)
{
	size_t width = 0;

	for (size_t i = 0; i < count; i++) {
		struct ckpt_buf shown;

		ckpt_buf_init(&shown);
		ckpt_path_escape(&shown, keys->items[i]);
		width = num_max(width, table_text_width(shown.data));
		ckpt_buf_release(&shown);
	}
	return width;
}

static int print_keys(const struct history_keys *keys, const struct history_item *const *items,
		      size_t count, size_t line_width)
{
	/* Two blanks twice, and two numbers with an arrow. */
	const size_t others = 4 + 2 * 10 + 3;
	size_t key_count = num_min(keys->count, SPARK_KEYS_MAX);
	size_t key_width = widest_key(keys, key_count);
	bool any = false;

	if (line_width < key_width + others + 2)
		return 0;
	for (size_t i = 0; i < key_count; i++) {
		struct series series;
		int rc = read_series(items, count, keys->items[i], &series);

		if (rc < 0)
			return rc;
		if (series.count >= 2) {
			size_t bars = num_min(series.count, line_width - key_width - others);

			(void)fputs(any ? "" : "\n", stdout);
			print_bars(keys->items[i], key_width, &series,
				   num_min(bars, SPARK_BARS_MAX));
			any = true;
		}
		free(series.values);
	}
	return 0;
}

int history_print_spark(const struct history *history, const struct history_item *const *items,
			size_t count, struct ckpt_err *err)
{
	size_t line_width = table_line_width();
	struct history_keys keys;
	int rc;

	if (!isatty(STDOUT_FILENO) || line_width == SIZE_MAX ||
	    strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		return 0;
	rc = history_keys(history, true, &keys);
	if (rc == 0)
		rc = print_keys(&keys, items, count, line_width);
	history_keys_release(&keys);
	return rc < 0 ? ckpt_err_set(err, rc, "out of memory while drawing bars") : 0;
}
