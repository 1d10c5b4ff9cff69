/* expr.c - see expr.h: a recursive descent into a tree, and a walk over it. */
#include "cli/expr.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/num.h"

enum kind {
	EXPR_AND,
	EXPR_OR,
	EXPR_NOT,
	EXPR_IS_THERE,
	EXPR_EQUAL,
	EXPR_UNEQUAL,
	EXPR_LESS,
	EXPR_LESS_EQUAL,
	EXPR_GREATER,
	EXPR_GREATER_EQUAL,
	EXPR_MATCHES,
	EXPR_LIKE,
};

struct expr {
	enum kind kind;
	struct expr *left; /* of AND, OR, NOT */
	struct expr *right;
	char *name; /* of the others */
	char *text; /* what it is compared with */
	bool is_number;
	double number;
	bool has_regex;
	regex_t regex;
};

struct parser {
	const char *text;
	const char *at;
	unsigned int depth;
	struct ckpt_err *err;
};

static const struct {
	const char *word;
	enum kind kind;
} operators[] = {
	/* Longer ones first: "<" begins some. */
	{ "==", EXPR_EQUAL },	   { "!=", EXPR_UNEQUAL },	 { "<>", EXPR_UNEQUAL },
	{ "<=", EXPR_LESS_EQUAL }, { ">=", EXPR_GREATER_EQUAL }, { "=", EXPR_EQUAL },
	{ "<", EXPR_LESS },	   { ">", EXPR_GREATER },	 { "~", EXPR_MATCHES },
};

void expr_free(struct expr *expr)
{
	if (!expr)
		return;
	expr_free(expr->left);
	expr_free(expr->right);
	free(expr->name);
	free(expr->text);
	if (expr->has_regex)
		regfree(&expr->regex);
	free(expr);
}

/* --- reading -------------------------------------------------------------------------------- */

static int expected(struct parser *parser, const char *what)
{
	size_t at = (size_t)(parser->at - parser->text);

	if (*parser->at == '\0')
		return ckpt_err_set(parser->err, -EINVAL,
				    "the expression ends where %s is expected", what);
	return ckpt_err_set(parser->err, -EINVAL, "%s is expected at character %zu, not '%.40s'",
			    what, at + 1, parser->at);
}

static int no_memory(struct parser *parser)
{
	return ckpt_err_set(parser->err, -ENOMEM, "out of memory while reading the expression");
}

static void skip_blanks(struct parser *parser)
{
	parser->at += strspn(parser->at, " \t\r\n");
}

/* What words are made of: names, numbers and what stands for itself. */
static size_t word_len(const char *at)
{
	size_t len = 0;

	while (isalnum((unsigned char)at[len]) || (unsigned char)at[len] >= 0x80 ||
	       (at[len] && strchr("_.-/+:%*", at[len])))
		len++;
	return len;
}

/* Take the keyword @word, in whatever case. */
static bool take_word(struct parser *parser, const char *word)
{
	size_t len = strlen(word);

	skip_blanks(parser);
	if (word_len(parser->at) != len || strncasecmp(parser->at, word, len) != 0)
		return false;
	parser->at += len;
	return true;
}

static bool take_char(struct parser *parser, char c)
{
	skip_blanks(parser);
	if (*parser->at != c)
		return false;
	parser->at++;
	return true;
}

/* 'text' or "text", a quote doubled in it; *@out is heap. */
static int read_quoted(struct parser *parser, char **out)
{
	char quote = *parser->at;
	char *to = malloc(strlen(parser->at) + 1);
	const char *from = parser->at + 1;
	size_t len = 0;

	if (!to)
		return no_memory(parser);
	for (; *from && (*from != quote || from[1] == quote); from++) {
		if (*from == quote)
			from++;
		to[len++] = *from;
	}
	to[len] = '\0';
	*out = to;
	if (*from != quote)
		return ckpt_err_set(parser->err, -EINVAL, "the text that begins %.40s has no end",
				    parser->at);
	parser->at = from + 1;
	return 0;
}

/* A name or an unquoted value. */
static int read_word(struct parser *parser, const char *what, char **out)
{
	size_t len;

	skip_blanks(parser);
	if (*parser->at == '\'' || *parser->at == '"')
		return read_quoted(parser, out);
	len = word_len(parser->at);
	if (len == 0)
		return expected(parser, what);
	*out = strndup(parser->at, len);
	parser->at += len;
	return *out ? 0 : no_memory(parser);
}

static void read_number(struct expr *expr)
{
	char *end = NULL;
	uint64_t size;

	if (num_parse_size(expr->text, &size) == 0) {
		expr->number = (double)size;
		expr->is_number = true;
		return;
	}
	expr->number = strtod(expr->text, &end);
	expr->is_number = end != expr->text && *end == '\0' && !isnan(expr->number);
}

static int read_operator(struct parser *parser, enum kind *out)
{
	*out = EXPR_IS_THERE;
	if (take_word(parser, "like")) {
		*out = EXPR_LIKE;
		return 0;
	}
	skip_blanks(parser);
	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
		size_t len = strlen(operators[i].word);

		if (strncmp(parser->at, operators[i].word, len) != 0)
			continue;
		parser->at += len;
		*out = operators[i].kind;
		return 0;
	}
	return 0;
}

static int compile_regex(struct parser *parser, struct expr *expr)
{
	char why[128];
	int code = regcomp(&expr->regex, expr->text, REG_EXTENDED | REG_NOSUB);

	if (code == 0) {
		expr->has_regex = true;
		return 0;
	}
	(void)regerror(code, &expr->regex, why, sizeof(why));
	return ckpt_err_set(parser->err, -EINVAL, "'%s' is no extended regular expression: %s",
			    expr->text, why);
}

static int read_comparison(struct parser *parser, struct expr *expr)
{
	bool quoted;
	int rc = read_word(parser, "a name", &expr->name);

	if (rc == 0)
		rc = read_operator(parser, &expr->kind);
	if (rc < 0 || expr->kind == EXPR_IS_THERE)
		return rc;
	skip_blanks(parser);
	quoted = *parser->at == '\'' || *parser->at == '"';
	rc = read_word(parser, "a value", &expr->text);
	if (rc == 0 && !quoted)
		read_number(expr);
	if (rc == 0 && expr->kind == EXPR_MATCHES)
		rc = compile_regex(parser, expr);
	return rc;
}

static int read_any(struct parser *parser, struct expr **out);

/* Into the new *@out, which its caller frees also after a failure. */
static int read_one(struct parser *parser, struct expr **out)
{
	int rc = 0;

	if (parser->depth++ >= EXPR_DEPTH_MAX)
		return ckpt_err_set(parser->err, -EINVAL,
				    "more than %d parentheses and nots inside each other",
				    EXPR_DEPTH_MAX);
	if (take_char(parser, '(')) {
		rc = read_any(parser, out);
		if (rc == 0 && !take_char(parser, ')'))
			rc = expected(parser, "')', 'and' or 'or'");
	} else {
		*out = calloc(1, sizeof(**out));
		if (!*out)
			return no_memory(parser);
		if (take_word(parser, "not")) {
			(*out)->kind = EXPR_NOT;
			rc = read_one(parser, &(*out)->left);
		} else {
			rc = read_comparison(parser, *out);
		}
	}
	parser->depth--;
	return rc;
}

/* @next, joined by @word into a chain to the left. */
static int read_chain(struct parser *parser, const char *word, enum kind kind,
		      int (*next)(struct parser *parser, struct expr **out), struct expr **out)
{
	int rc = next(parser, out);

	while (rc == 0 && take_word(parser, word)) {
		struct expr *join = calloc(1, sizeof(*join));

		if (!join)
			return no_memory(parser);
		join->kind = kind;
		join->left = *out;
		*out = join;
		rc = next(parser, &join->right);
	}
	return rc;
}

static int read_all(struct parser *parser, struct expr **out)
{
	return read_chain(parser, "and", EXPR_AND, read_one, out);
}

static int read_any(struct parser *parser, struct expr **out)
{
	return read_chain(parser, "or", EXPR_OR, read_all, out);
}

int expr_parse(const char *text, struct expr **out, struct ckpt_err *err)
{
	struct parser parser = { .text = text, .at = text, .err = err };
	struct expr *expr = NULL;
	int rc;

	/* A chain to the left is as deep as it is long, and is freed and walked by recursion. */
	if (strlen(text) > EXPR_LEN_MAX)
		return ckpt_err_set(err, -EINVAL, "the expression is longer than %d characters",
				    EXPR_LEN_MAX);
	rc = read_any(&parser, &expr);
	skip_blanks(&parser);
	if (rc == 0 && *parser.at)
		rc = expected(&parser, "'and' or 'or'");
	if (rc < 0)
		expr_free(expr);
	else
		*out = expr;
	return rc;
}

/* --- using ---------------------------------------------------------------------------------- */

int expr_each_name(const struct expr *expr, int (*fn)(void *ctx, const char *name), void *ctx)
{
	int rc = 0;

	if (expr->name)
		return fn(ctx, expr->name);
	rc = expr_each_name(expr->left, fn, ctx);
	return rc == 0 && expr->right ? expr_each_name(expr->right, fn, ctx) : rc;
}

/* SQL's LIKE: '%' any characters, '_' one byte, whatever the case of ASCII letters. */
static bool is_like(const char *text, const char *pattern)
{
	const char *again_text = NULL; /* where the last '%' goes on, if the rest does not fit */
	const char *again = NULL;

	while (*text) {
		if (*pattern == '%') {
			again = ++pattern;
			again_text = text;
		} else if (*pattern && (*pattern == '_' || tolower((unsigned char)*pattern) ==
								   tolower((unsigned char)*text))) {
			pattern++;
			text++;
		} else if (again) {
			pattern = again;
			text = ++again_text;
		} else {
			return false;
		}
	}
	return pattern[strspn(pattern, "%")] == '\0';
}

static bool holds_order(enum kind kind, int order)
{
	switch (kind) {
	case EXPR_EQUAL:
		return order == 0;
	case EXPR_UNEQUAL:
		return order != 0;
	case EXPR_LESS:
		return order < 0;
	case EXPR_LESS_EQUAL:
		return order <= 0;
	case EXPR_GREATER:
		return order > 0;
	default:
		assert(kind == EXPR_GREATER_EQUAL);
		return order >= 0;
	}
}

static bool compare(const struct expr *expr, const struct expr_value *value)
{
	bool by_order = expr->kind != EXPR_EQUAL && expr->kind != EXPR_UNEQUAL;

	switch (expr->kind) {
	case EXPR_IS_THERE:
		return !value->is_number || value->number != 0;
	case EXPR_MATCHES:
		return regexec(&expr->regex, value->text, 0, NULL, 0) == 0;
	case EXPR_LIKE:
		return is_like(value->text, expr->text);
	default:
		break;
	}
	/* Not a number: neither equal to anything, nor below or above it. */
	if (value->is_number && expr->is_number)
		return isnan(value->number)
			       ? expr->kind == EXPR_UNEQUAL
			       : holds_order(expr->kind, (value->number > expr->number) -
								 (value->number < expr->number));
	if (by_order && (value->is_number || expr->is_number))
		return false;
	return holds_order(expr->kind, strcmp(value->text, expr->text));
}

bool expr_holds(const struct expr *expr, struct expr_value (*look)(void *ctx, const char *name),
		void *ctx)
{
	struct expr_value value;

	switch (expr->kind) {
	case EXPR_AND:
		return expr_holds(expr->left, look, ctx) && expr_holds(expr->right, look, ctx);
	case EXPR_OR:
		return expr_holds(expr->left, look, ctx) || expr_holds(expr->right, look, ctx);
	case EXPR_NOT:
		return !expr_holds(expr->left, look, ctx);
	default:
		value = look(ctx, expr->name);
		return value.is_there && compare(expr, &value);
	}
}
