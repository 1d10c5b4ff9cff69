/*
 * block_check.h - one block of a stored file compared with its sum, without keeping its bytes: read
 * piece by piece, and hashed while a piece is still in the processor's own cache.
 */
#ifndef CKPT_FS_BLOCK_CHECK_H
#define CKPT_FS_BLOCK_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "committed.h"

struct ckpt_hash64_run;

/* What a thread works with. */
struct block_scratch {
	char *piece;
	struct ckpt_hash64_run *hash;
};

/** block_scratch_init - for shards of up to @max_bytes. Release it also on failure. -ENOMEM. */
int block_scratch_init(struct block_scratch *scratch, uint64_t max_bytes) CKPT_MUST_CHECK;
void block_scratch_release(struct block_scratch *scratch);

/**
 * block_check - read one block of a shard that is a file of its own
 * Errors: -EBADMSG damage; -EIO it cannot be read, or the file became shorter; both logged. -ENOMEM.
 */
int block_check(struct fs *fs, const struct committed_shard *shard,
		const struct block_scratch *scratch, uint64_t block_idx) CKPT_MUST_CHECK;

#endif
