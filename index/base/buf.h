/*
 * buf.h - a growing byte buffer, always NUL-terminated behind its bytes.
 *
 * Appends that meet ENOMEM set `failed` and do nothing from then on, so that a
 * long run of appends is checked once, at its end, with ckpt_buf_check().
 */
#ifndef CKPT_BASE_BUF_H
#define CKPT_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct ckpt_buf {
	char *data;	  /* never NULL after init: "" while nothing was appended */
	size_t len_bytes; /* without the final NUL */
	size_t cap_bytes;
	bool failed;
};

/** ckpt_buf_init - empty; allocates nothing. */
void ckpt_buf_init(struct ckpt_buf *buf);
/** ckpt_buf_release - free the bytes; the buffer is as after init. */
void ckpt_buf_release(struct ckpt_buf *buf);
/** ckpt_buf_reset - drop the bytes, keep the memory. */
void ckpt_buf_reset(struct ckpt_buf *buf);
/** ckpt_buf_check - 0, or -ENOMEM when any append since init failed. */
int ckpt_buf_check(const struct ckpt_buf *buf) CKPT_MUST_CHECK;
/**
 * ckpt_buf_steal - the bytes as a heap string (free() it; NULL after a failed append); the buffer
 * is as after init.
 */
char *ckpt_buf_steal(struct ckpt_buf *buf);

void ckpt_buf_add(struct ckpt_buf *buf, const void *data, size_t len_bytes);
void ckpt_buf_add_str(struct ckpt_buf *buf, const char *text);
void ckpt_buf_add_char(struct ckpt_buf *buf, char c);
void ckpt_buf_printf(struct ckpt_buf *buf, const char *fmt, ...) CKPT_PRINTF(2, 3);
void ckpt_buf_vprintf(struct ckpt_buf *buf, const char *fmt, va_list args);
/**
 * ckpt_buf_add_json_str - @text as a JSON string with its quotes; bytes < 0x20, '"' and '\'
 * escaped, the rest as it is.
 */
void ckpt_buf_add_json_str(struct ckpt_buf *buf, const char *text);

#endif
