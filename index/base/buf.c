/* buf.c - a growing byte buffer; see buf.h. */
#include "buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "num.h"

/* The first allocation: a path or a message fits. */
#define BUF_CAP_MIN 64

/* What `data` points to while nothing is allocated (cap_bytes is 0); never written. */
static char nothing[1];

void ckpt_buf_init(struct ckpt_buf *buf)
{
	*buf = (struct ckpt_buf){ .data = nothing };
}

void ckpt_buf_release(struct ckpt_buf *buf)
{
	if (buf->cap_bytes > 0)
		free(buf->data);
	ckpt_buf_init(buf);
}

void ckpt_buf_reset(struct ckpt_buf *buf)
{
	buf->len_bytes = 0;
	if (buf->cap_bytes > 0)
		buf->data[0] = '\0';
}

int ckpt_buf_check(const struct ckpt_buf *buf)
{
	return buf->failed ? -ENOMEM : 0;
}

/* Room for @more bytes and the NUL; false (and `failed`) when there is none. */
static bool reserve(struct ckpt_buf *buf, size_t more)
{
	uint64_t need;
	uint64_t cap;
	char *grown;

	assert(buf->cap_bytes == 0 || buf->len_bytes < buf->cap_bytes);
	if (buf->failed)
		return false;
	if (!num_add(buf->len_bytes, more, &need) || !num_add(need, 1, &need))
		goto out_failed;
	if (need <= buf->cap_bytes)
		return true;
	if (!num_mul(buf->cap_bytes, 2, &cap))
		goto out_failed;
	cap = num_max(num_max(cap, need), BUF_CAP_MIN);
	grown = realloc(buf->cap_bytes > 0 ? buf->data : NULL, cap);
	if (!grown)
		goto out_failed;
	buf->data = grown;
	buf->cap_bytes = cap;
	return true;

out_failed:
	buf->failed = true;
	return false;
}

char *ckpt_buf_steal(struct ckpt_buf *buf)
{
	char *text = NULL;

	if (reserve(buf, 0)) {
		buf->data[buf->len_bytes] = '\0';
		text = buf->data;
		ckpt_buf_init(buf);
	}
	ckpt_buf_release(buf);
	return text;
}

void ckpt_buf_add(struct ckpt_buf *buf, const void *data, size_t len_bytes)
{
	if (len_bytes == 0 || !reserve(buf, len_bytes))
		return;
	memcpy(buf->data + buf->len_bytes, data, len_bytes);
	buf->len_bytes += len_bytes;
	buf->data[buf->len_bytes] = '\0';
}

void ckpt_buf_add_str(struct ckpt_buf *buf, const char *text)
{
	ckpt_buf_add(buf, text, strlen(text));
}

void ckpt_buf_add_char(struct ckpt_buf *buf, char c)
{
	ckpt_buf_add(buf, &c, 1);
}

void ckpt_buf_printf(struct ckpt_buf *buf, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	ckpt_buf_vprintf(buf, fmt, args);
	va_end(args);
}

void ckpt_buf_vprintf(struct ckpt_buf *buf, const char *fmt, va_list args)
{
	va_list again;
	int len_bytes;

	va_copy(again, args);
	len_bytes = vsnprintf(NULL, 0, fmt, args);
	if (len_bytes < 0) {
		buf->failed = true;
	} else if (reserve(buf, (size_t)len_bytes)) {
		/* The same format and arguments, so the same length. */
		(void)vsnprintf(buf->data + buf->len_bytes, (size_t)len_bytes + 1, fmt, again);
		buf->len_bytes += (size_t)len_bytes;
	}
	va_end(again);
}

/* The letter behind the backslash where JSON has a short form; 0 where not. */
static char json_short_escape(char c)
{
	switch (c) {
	case '"':
	case '\\':
		return c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

void ckpt_buf_add_json_str(struct ckpt_buf *buf, const char *text)
{
	const char *plain = text; /* start of the run that needs no escape */

	ckpt_buf_add_char(buf, '"');
	for (; *text != '\0'; text++) {
		char letter = json_short_escape(*text);

		if (letter == 0 && (unsigned char)*text >= 0x20)
			continue;
		ckpt_buf_add(buf, plain, (size_t)(text - plain));
		plain = text + 1;
		if (letter != 0)
			ckpt_buf_printf(buf, "\\%c", letter);
		else
			ckpt_buf_printf(buf, "\\u%04x", (unsigned)(unsigned char)*text);
	}
	ckpt_buf_add(buf, plain, (size_t)(text - plain));
	ckpt_buf_add_char(buf, '"');
}
