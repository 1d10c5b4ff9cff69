/*
 * expr.h - the small language of `ckptfs find`: comparisons of a name with a
 * value, joined by and, or, not and parentheses.
 *
 *     any   = all { "or" all }
 *     all   = one { "and" one }
 *     one   = "not" one | "(" any ")" | NAME | NAME OP VALUE
 *     OP    = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" | "~" | "like"
 *     VALUE = number | size (4GiB) | word | 'text' | "text"
 *
 * It knows nothing of checkpoints: names are looked up by a callback.
 */
#ifndef CKPT_CLI_EXPR_H
#define CKPT_CLI_EXPR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Longer expressions are made by programs, and those have `ckptfs sql`. */
#define EXPR_LEN_MAX 16384
/* Parentheses and nots inside each other: each takes a stack frame. */
#define EXPR_DEPTH_MAX 100

struct expr;

/* What a name stands for. */
struct expr_value {
	bool is_there;
	bool is_number;
	double number;
	const char *text; /* "" where there is none; numbers may have one, too */
};

/**
 * expr_parse - @out: expr_free() it
 * Errors: -EINVAL with the place and what was expected; -ENOMEM.
 */
int expr_parse(const char *text, struct expr **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void expr_free(struct expr *expr);
/** expr_each_name - call @fn with each name in it until that returns non-zero; returns that. */
int expr_each_name(const struct expr *expr, int (*fn)(void *ctx, const char *name), void *ctx);
/**
 * expr_holds - is it true of what @look knows?
 * A comparison with what is not there is false; so is one of a text with a number by order.
 */
bool expr_holds(const struct expr *expr, struct expr_value (*look)(void *ctx, const char *name),
		void *ctx);

#endif
