/*
 * err.h - the one error convention of the tree.
 *
 * A function that can fail returns 0 or a negative errno and, where it takes a
 * `struct ckpt_err *`, leaves a message there that says what failed, which
 * object, why and what to do: lower case, no full stop, names in single
 * quotes. On success the message is untouched. Nothing here allocates, prints
 * or keeps state between calls.
 */
#ifndef CKPT_BASE_ERR_H
#define CKPT_BASE_ERR_H

#include <stddef.h>

/* Longest message kept: two paths of PATH_MAX do not fit, and need not. */
#define CKPT_ERR_MAX 1536

#define CKPT_MUST_CHECK __attribute__((warn_unused_result))
#define CKPT_PRINTF(fmt_idx, args_idx) __attribute__((format(printf, fmt_idx, args_idx)))

struct ckpt_err {
	char msg[CKPT_ERR_MAX];
};

#define CKPT_ERR_INIT     \
	{                 \
		.msg = "" \
	}

/**
 * ckpt_err_set - file a message and hand the code through
 * @err:  receives the message; may be NULL (the code is all that is wanted)
 * @code: negative errno, returned as it is
 * @fmt:  printf format of the whole message, without the errno's text
 * Returns @code, so that `return ckpt_err_set(err, -ENOENT, …)` reads as one act.
 * Thread-safe: yes (distinct @err).
 */
int ckpt_err_set(struct ckpt_err *err, int code, const char *fmt, ...) CKPT_PRINTF(3, 4);

/** ckpt_err_sys - as ckpt_err_set, with ": " and the text of the errno appended. */
int ckpt_err_sys(struct ckpt_err *err, int code, const char *fmt, ...) CKPT_PRINTF(3, 4);

/** ckpt_err_prefix - put "@fmt…: " before a message filed already; returns @code. */
int ckpt_err_prefix(struct ckpt_err *err, int code, const char *fmt, ...) CKPT_PRINTF(3, 4);

/** ckpt_err_name - "EIO" for EIO or -EIO; "E?" for a code that has no name. Static storage. */
const char *ckpt_err_name(int code);

/** ckpt_ignore - drop a result on purpose; the reason stands in a comment beside the call. */
static inline void ckpt_ignore(int rc)
{
	(void)rc;
}

#endif
