/* history_print.h - the history as text and as JSON: what log and find print alike. */
#ifndef CKPT_CLI_HISTORY_PRINT_H
#define CKPT_CLI_HISTORY_PRINT_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/history.h"

/* Room for history_took. */
#define HISTORY_TOOK_SIZE 32

/** history_took - "0.42s", "12s", "3m05s", "1h02m" into @out; returns it. */
char *history_took(double seconds, char out[HISTORY_TOOK_SIZE]);
/** history_print_json - an array with all that is known of each of @items, in this order. */
int history_print_json(const struct history_item *const *items, size_t count, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * history_print_spark - a line for each of the first numeric keys: its values from the oldest to
 * the newest of @items (oldest first) as bars, and in figures. Nothing where stdout is no terminal,
 * or one that shows no UTF-8.
 */
int history_print_spark(const struct history *history, const struct history_item *const *items,
			size_t count, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
