/* table.c - see table.h. */
#include "cli/table.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"

#define GAP 2

void table_init(struct table *table, const struct table_column *columns, size_t column_count)
{
	assert(column_count > 0);
	*table = (struct table){ .columns = columns, .column_count = column_count };
}

void table_release(struct table *table)
{
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i].text);
	free(table->cells);
	table_init(table, table->columns, table->column_count);
}

/* Takes ownership of cell.text. */
static void add_cell(struct table *table, struct table_cell cell)
{
	if (array_grow(&table->cells, &table->cell_cap, table->cell_count, sizeof(cell)) < 0) {
		table->failed = true;
		free(cell.text);
		return;
	}
	table->cells[table->cell_count++] = cell;
}

static void add_text(struct table *table, struct table_cell cell, const char *text)
{
	if (text) {
		cell.text = strdup(text);
		table->failed = table->failed || !cell.text;
	} else {
		cell.kind = TABLE_NONE;
	}
	add_cell(table, cell);
}

void table_text(struct table *table, const char *text)
{
	add_text(table, (struct table_cell){ .kind = TABLE_TEXT }, text);
}

void table_note(struct table *table, const char *text)
{
	add_text(table, (struct table_cell){ .kind = TABLE_NOTE }, text);
}

void table_raw(struct table *table, const char *json)
{
	add_text(table, (struct table_cell){ .kind = TABLE_RAW }, json);
}

void table_number(struct table *table, bool there, uint64_t number)
{
	add_cell(table, (struct table_cell){ .kind = there ? TABLE_NUMBER : TABLE_NONE,
					     .number = number });
}

void table_real(struct table *table, bool there, double real)
{
	add_cell(table,
		 (struct table_cell){ .kind = there ? TABLE_REAL : TABLE_NONE, .real = real });
}

/* --- text --------------------------------------------------------------------- */

static void add_cell_text(struct ckpt_buf *out, const struct table_column *column,
			  const struct table_cell *cell)
{
	char size[32];

	switch (cell->kind) {
	case TABLE_NONE:
		ckpt_buf_add_char(out, '-');
		break;
	case TABLE_NUMBER:
		if (column->flags & TABLE_SIZE)
			ckpt_buf_add_str(out, num_format_size(cell->number, size, sizeof(size)));
		else
			ckpt_buf_printf(out, "%" PRIu64, cell->number);
		break;
	case TABLE_REAL:
		ckpt_buf_printf(out, "%.4g", cell->real);
		break;
	case TABLE_TEXT:
	case TABLE_NOTE:
	case TABLE_RAW:
		ckpt_path_escape(out, cell->text);
		break;
	}
}

/* Columns of a terminal that the next character of @text takes; *@bytes: how long it is. */
static size_t char_width(const char *text, mbstate_t *state, size_t *bytes)
{
	wchar_t wide;
	size_t len = mbrtowc(&wide, text, strlen(text), state);
	int width;

	/* A locale that does not know it: a byte is a column. */
	if (len == (size_t)-1 || len == (size_t)-2 || len == 0) {
		memset(state, 0, sizeof(*state));
		*bytes = 1;
		return 1;
	}
	*bytes = len;
	width = wcwidth(wide);
	return width < 0 ? 1 : (size_t)width;
}

size_t table_text_width(const char *text)
{
	mbstate_t state = { 0 };
	size_t width = 0;
	size_t bytes;

	for (; *text; text += bytes)
		width += char_width(text, &state, &bytes);
	return width;
}

/* How many bytes of @text fit into @width columns. */
static size_t text_fit(const char *text, size_t width)
{
	mbstate_t state = { 0 };
	size_t used = 0;
	size_t at = 0;
	size_t bytes;

	while (text[at]) {
		used += char_width(text + at, &state, &bytes);
		if (used > width)
			break;
		at += bytes;
	}
	return at;
}

/* Columns a line may have; SIZE_MAX where nobody counts. */
size_t table_line_width(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ||
	    size.ws_col == 0)
		return SIZE_MAX;
	return size.ws_col;
}

static bool is_shown(const struct table *table, size_t column)
{
	return !(table->columns[column].flags & TABLE_JSON_ONLY);
}

static size_t last_shown(const struct table *table)
{
	size_t last = table->column_count - 1;

	while (last > 0 && !is_shown(table, last))
		last--;
	return last;
}

struct layout {
	size_t *widths; /* one a column */
	size_t last;	/* the column nothing is padded behind */
	size_t line;	/* columns there are */
};

/* One value in its place; @used: columns taken before it. */
static void put_padded(const struct table *table, const struct layout *layout, size_t column,
		       const char *text, size_t used)
{
	size_t width = table_text_width(text);
	size_t pad = layout->widths[column] - width;
	bool right = table->columns[column].flags & TABLE_RIGHT;

	if (column == layout->last && used + width > layout->line && used + 1 < layout->line) {
		/* A dot, not an ellipsis: it is there in every locale. */
		(void)printf("%.*s.\n", (int)text_fit(text, layout->line - used - 1), text);
		return;
	}
	(void)printf("%*s%s", right ? (int)pad : 0, "", text);
	if (column == layout->last)
		(void)putchar('\n');
	else
		(void)printf("%*s", (int)((right ? 0 : pad) + GAP), "");
}

/* The line of row @row; row -1 is the titles. Prints with @layout, else measures into it. */
static void each_cell(const struct table *table, size_t row, struct layout *layout, bool print)
{
	struct ckpt_buf text;
	size_t used = 0;

	ckpt_buf_init(&text);
	for (size_t column = 0; column < table->column_count; column++) {
		if (!is_shown(table, column))
			continue;
		ckpt_buf_reset(&text);
		if (row == SIZE_MAX)
			/* Titles may be keys of metadata. */
			ckpt_path_escape(&text, table->columns[column].title);
		else
			add_cell_text(&text, &table->columns[column],
				      &table->cells[row * table->column_count + column]);
		if (print)
			put_padded(table, layout, column, text.data, used);
		else
			layout->widths[column] =
				num_max(layout->widths[column], table_text_width(text.data));
		used += layout->widths[column] + GAP;
	}
	ckpt_buf_release(&text);
}

static int print_text(const struct table *table)
{
	CKPT_FREE size_t *widths = array_alloc(table->column_count, sizeof(*widths));
	struct layout layout = { .widths = widths,
				 .last = last_shown(table),
				 .line = table_line_width() };
	size_t row_count = table->cell_count / table->column_count;

	if (!widths)
		return -ENOMEM;
	each_cell(table, SIZE_MAX, &layout, false);
	for (size_t row = 0; row < row_count; row++)
		each_cell(table, row, &layout, false);
	each_cell(table, SIZE_MAX, &layout, true);
	for (size_t row = 0; row < row_count; row++)
		each_cell(table, row, &layout, true);
	return 0;
}

/* --- JSON --------------------------------------------------------------------- */

void json_text(struct ckpt_buf *out, const char *text)
{
	struct ckpt_buf escaped;

	if (ckpt_path_is_utf8(text, strlen(text))) {
		ckpt_buf_add_json_str(out, text);
		return;
	}
	ckpt_buf_init(&escaped);
	ckpt_path_escape(&escaped, text);
	ckpt_buf_add_json_str(out, escaped.data);
	ckpt_buf_release(&escaped);
}

static void add_key(struct ckpt_buf *out, const char *title)
{
	ckpt_buf_add_char(out, '"');
	for (; *title; title++)
		ckpt_buf_add_char(out, (char)tolower((unsigned char)*title));
	ckpt_buf_add_str(out, "\":");
}

void json_real(struct ckpt_buf *out, double real)
{
	char text[32];

	if (!isfinite(real)) {
		ckpt_buf_add_str(out, "null");
		return;
	}
	/* The shortest that is read back as the same: 2.7, not 2.7000000000000002. */
	for (int digits = 15; digits <= 17; digits++) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, real);
		if (strtod(text, NULL) == real)
			break;
	}
	ckpt_buf_add_str(out, text);
}

static void add_cell_json(struct ckpt_buf *out, const struct table_cell *cell)
{
	switch (cell->kind) {
	case TABLE_NONE:
	case TABLE_NOTE:
		ckpt_buf_add_str(out, "null");
		break;
	case TABLE_NUMBER:
		ckpt_buf_printf(out, "%" PRIu64, cell->number);
		break;
	case TABLE_TEXT:
		json_text(out, cell->text);
		break;
	case TABLE_RAW:
		ckpt_buf_add_str(out, cell->text);
		break;
	case TABLE_REAL:
		json_real(out, cell->real);
		break;
	}
}

static int print_json(const struct table *table)
{
	size_t row_count = table->cell_count / table->column_count;
	struct ckpt_buf line;
	int rc = 0;

	ckpt_buf_init(&line);
	(void)fputs("[", stdout);
	for (size_t row = 0; row < row_count; row++) {
		ckpt_buf_reset(&line);
		ckpt_buf_add_str(&line, row > 0 ? ",\n{" : "\n{");
		for (size_t column = 0; column < table->column_count; column++) {
			if (column > 0)
				ckpt_buf_add_char(&line, ',');
			add_key(&line, table->columns[column].title);
			add_cell_json(&line, &table->cells[row * table->column_count + column]);
		}
		ckpt_buf_add_char(&line, '}');
		(void)fputs(line.data, stdout);
	}
	(void)fputs(row_count > 0 ? "\n]\n" : "]\n", stdout);
	rc = ckpt_buf_check(&line);
	ckpt_buf_release(&line);
	return rc;
}

int table_print(const struct table *table, bool json, struct ckpt_err *err)
{
	int rc;

	assert(table->failed || table->cell_count % table->column_count == 0);
	if (table->failed)
		return ckpt_err_set(err, -ENOMEM, "out of memory while making the table");
	rc = json ? print_json(table) : print_text(table);
	if (rc < 0)
		return ckpt_err_set(err, rc, "out of memory while printing the table");
	return 0;
}
