/* err.c - messages of fixed size; see err.h. */
#include "err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Format first, store after: the arguments may point into the old message. */
static void store(struct ckpt_err *err, const char *text)
{
	size_t len_bytes = strnlen(text, CKPT_ERR_MAX - 1);

	memmove(err->msg, text, len_bytes);
	err->msg[len_bytes] = '\0';
}

static void format(char out[CKPT_ERR_MAX], const char *fmt, va_list args) CKPT_PRINTF(2, 0);

static void format(char out[CKPT_ERR_MAX], const char *fmt, va_list args)
{
	if (vsnprintf(out, CKPT_ERR_MAX, fmt, args) < 0)
		out[0] = '\0';
}

/* Append @text, cut where the room ends. */
static void append(char out[CKPT_ERR_MAX], const char *text)
{
	size_t used = strlen(out);
	size_t len_bytes;

	assert(used < CKPT_ERR_MAX);
	len_bytes = strnlen(text, CKPT_ERR_MAX - 1 - used);
	memcpy(out + used, text, len_bytes);
	out[used + len_bytes] = '\0';
}

int ckpt_err_set(struct ckpt_err *err, int code, const char *fmt, ...)
{
	char text[CKPT_ERR_MAX];
	va_list args;

	assert(code < 0);
	if (!err)
		return code;
	va_start(args, fmt);
	format(text, fmt, args);
	va_end(args);
	store(err, text);
	return code;
}

int ckpt_err_sys(struct ckpt_err *err, int code, const char *fmt, ...)
{
	const char *reason = strerrordesc_np(code < 0 ? -code : code);
	char text[CKPT_ERR_MAX];
	va_list args;

	assert(code < 0);
	if (!err)
		return code;
	va_start(args, fmt);
	format(text, fmt, args);
	va_end(args);
	append(text, ": ");
	append(text, reason ? reason : "unknown error");
	store(err, text);
	return code;
}

int ckpt_err_prefix(struct ckpt_err *err, int code, const char *fmt, ...)
{
	char text[CKPT_ERR_MAX];
	va_list args;

	assert(code < 0);
	if (!err)
		return code;
	va_start(args, fmt);
	format(text, fmt, args);
	va_end(args);
	append(text, ": ");
	append(text, err->msg);
	store(err, text);
	return code;
}

const char *ckpt_err_name(int code)
{
	const char *name = strerrorname_np(code < 0 ? -code : code);

	return name && code != 0 ? name : "E?";
}
