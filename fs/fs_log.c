/* fs_log.c - the edge between our codes and what applications and the log see. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "fs.h"

/* Messages remembered: a power of two. Two that share a place only cost a repeated line. */
#define REMEMBERED 4096U

static _Atomic uint64_t remembered[REMEMBERED];

int fs_errno(int rc)
{
	switch (-rc) {
	case EBADMSG: /* a checksum does not fit */
	case EUCLEAN: /* the index is damaged */
	case ENOTSUP: /* a manifest of a newer format */
	case EILSEQ:
		return EIO;
	default:
		return -rc;
	}
}

void fs_log_once(const char *fmt, ...)
{
	char text[CKPT_ERR_MAX];
	uint64_t hash;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (len < 0)
		return;
	hash = ckpt_hash64(text, strlen(text));
	if (atomic_exchange(&remembered[hash % REMEMBERED], hash) != hash)
		ckpt_log("%s", text);
}
