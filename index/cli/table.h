/*
 * table.h - rows under titles, for people or, with --json, for programs.
 *
 * The same cells make both: as text, columns two spaces apart; as JSON, one
 * array of objects whose keys are the columns in lower case, with sizes in
 * bytes. Names are escaped in the text (ckpt_path_escape), so that a control
 * character in one cannot forge a line. On a terminal the last column is cut
 * where the line would wrap; elsewhere nothing is.
 */
#ifndef CKPT_CLI_TABLE_H
#define CKPT_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
	TABLE_RIGHT = 1U << 0,	   /* aligned right */
	TABLE_SIZE = 1U << 1,	   /* a number of bytes: "86.7 MiB" in the text */
	TABLE_JSON_ONLY = 1U << 2, /* too wide or too rare for the text */
};

struct table_column {
	const char *title; /* "NAME"; its lower case is the key */
	unsigned int flags;
};

struct table_cell {
	char *text; /* NULL: nothing known */
	enum {
		TABLE_NONE,
		TABLE_TEXT,
		TABLE_NUMBER,
		TABLE_NOTE,
		TABLE_RAW,
		TABLE_REAL
	} kind;
	uint64_t number;
	double real;
};

struct table {
	const struct table_column *columns; /* borrowed */
	size_t column_count;
	struct table_cell *cells; /* row after row */
	size_t cell_count, cell_cap;
	bool failed; /* out of memory: table_print says so */
};

void table_init(struct table *table, const struct table_column *columns, size_t column_count);
void table_release(struct table *table);

/* Cells are added from left to right. NULL and "not there" show as "-" and null. */
void table_text(struct table *table, const char *text);
void table_number(struct table *table, bool there, uint64_t number);
/** table_real - four digits in the text, all of them in JSON, where what is not finite is null. */
void table_real(struct table *table, bool there, double real);
/** table_note - words in place of a value: shown in the text, null in JSON. */
void table_note(struct table *table, const char *text);
/** table_raw - a JSON value, printed as it is in both. */
void table_raw(struct table *table, const char *json);

/** table_print - to stdout. -ENOMEM when cells were lost. */
int table_print(const struct table *table, bool json, struct ckpt_err *err) CKPT_MUST_CHECK;

/** table_line_width - columns a line on stdout may have; SIZE_MAX where nobody counts. */
size_t table_line_width(void);
/** table_text_width - columns of a terminal that @text takes. */
size_t table_text_width(const char *text);

/**
 * json_text - @text as a JSON string; what is no UTF-8 in it is escaped first, so that the output
 * is valid.
 */
struct ckpt_buf;
void json_text(struct ckpt_buf *out, const char *text);
/** json_real - @real with all its digits; null where JSON has no number for it. */
void json_real(struct ckpt_buf *out, double real);

#endif
