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

#define CKPT_CONTROL_VERSION 2
/* 8 components of 255 bytes, joined. */
#define CKPT_CONTROL_NAME_MAX 2048
#define CKPT_CONTROL_META_MAX 4096

/*
 * Names are paths below the store, as the mount shows them. What stands behind `;` comes back,
 * besides rc and msg.
 */
enum ckpt_control_op {
	CKPT_CONTROL_COMMIT =
		1, /* name, has_step, step, meta, REPLACE; name, id, seq, shard_count, size_bytes */
	CKPT_CONTROL_ABORT = 2,	  /* name */
	CKPT_CONTROL_REFRESH = 3, /* name: look again now, drop what the kernel caches of it */
	CKPT_CONTROL_REINDEX = 4, /* name, "" all; shard_count (checkpoints) */
	CKPT_CONTROL_REMOVE = 5,  /* name */
	CKPT_CONTROL_RESTORE = 6, /* name that it had, or its id; name */
	CKPT_CONTROL_PIN = 7,	  /* name; was */
	CKPT_CONTROL_UNPIN = 8,	  /* name; was */
	/*
	 * name, "" all, step (seconds: older ones), size_bytes (wanted), LAST_TOO, DRY_RUN;
	 * shard_count (checkpoints), size_bytes (freed), seq (kept)
	 */
	CKPT_CONTROL_PURGE = 9,
	CKPT_CONTROL_SETTLE =
		10, /* name: sum what this mount wrote there, and write the sums down */
};

enum {
	CKPT_CONTROL_REPLACE =
		1U << 0, /* a committed checkpoint of the lasting name goes to the trash */
	CKPT_CONTROL_LAST_TOO = 1U << 1, /* also the last ones of their groups */
	CKPT_CONTROL_DRY_RUN = 1U << 2,	 /* only say what it would do */
	CKPT_CONTROL_NO_CRC = 1U << 3,	 /* also where a CRC-32 in an archive is wrong */
};

struct ckpt_control {
	uint32_t version;
	uint32_t op;
	int32_t rc;	/* 0 or negative errno */
	uint32_t flags; /* CKPT_CONTROL_* */
	uint32_t has_step;
	uint32_t was; /* it was so already */
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
