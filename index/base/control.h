/*
 * control.h - what a command says to the daemon of a mount: one ioctl(2) on the
 * mount's top folder. Used where the store itself cannot be reached beside the
 * mount (it is mounted over itself), and to make a commit show at once.
 * Only the store's owner, the daemon's user and root are answered (else -EPERM).
 */
#ifndef CKPT_BASE_CONTROL_H
#define CKPT_BASE_CONTROL_H

#include <stdint.h>
#include <sys/ioctl.h>

#include "err.h"

#define CKPT_CONTROL_VERSION 1
/* 8 components of 255 bytes, joined. */
#define CKPT_CONTROL_NAME_MAX 2048
#define CKPT_CONTROL_META_MAX 4096

enum ckpt_control_op {
	CKPT_CONTROL_COMMIT =
		1, /* name, has_step, step, meta in; rc, msg, name, id, seq, shard_count, size_bytes out */
	CKPT_CONTROL_ABORT = 2,	  /* name in; rc, msg out */
	CKPT_CONTROL_REFRESH = 3, /* name in: look again now, drop what the kernel caches of it */
	CKPT_CONTROL_REINDEX = 4, /* name in ("" all); rc, msg, shard_count (checkpoints) out */
};

struct ckpt_control {
	uint32_t version;
	uint32_t op;
	int32_t rc; /* 0 or negative errno */
	uint32_t has_step;
	uint64_t step;
	uint64_t seq;
	uint64_t shard_count;
	uint64_t size_bytes;
	char id[40];
	char name[CKPT_CONTROL_NAME_MAX]; /* path below the store, NUL-terminated */
	char meta[CKPT_CONTROL_META_MAX]; /* JSON object or "" */
	char msg[CKPT_ERR_MAX];
};
/* ioctl numbers carry the size in 14 bits; FUSE moves fixed-size arguments by it. */
_Static_assert(sizeof(struct ckpt_control) < (1U << 14), "ioctl argument too large");

#define CKPT_IOC_CONTROL _IOWR('k', 1, struct ckpt_control)

#endif
