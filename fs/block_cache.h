/*
 * block_cache.h - verified blocks of shards, shared by all readers: a block is
 * read and checked once, also when several want it at the same time, for as
 * long as the stored file does not change. Only whole blocks that fit their sums
 * are ever handed out.
 */
#ifndef CKPT_FS_BLOCK_CACHE_H
#define CKPT_FS_BLOCK_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "committed.h"

/*
 * What it keeps beside the blocks that are being read or sent: enough for some streams side by
 * side.
 */
#define BLOCK_CACHE_BYTES ((size_t)16 * 1024 * 1024)

/* A pinned block: its bytes stay until block_unpin(). */
struct block;

struct block_cache *block_cache_new(void);
void block_cache_free(struct block_cache *cache);

/**
 * block_pin - one block, read and verified now or before
 * @file_id: number of the open shard, never used again for another one
 * @shard:   borrowed until the call returns
 * Errors: -EIO damage or a file that became shorter (logged once a block); -ENOMEM; else system.
 * Waits for another thread that reads the same block; so it belongs into a worker.
 */
int block_pin(struct fs *fs, uint64_t file_id, const struct committed_shard *shard,
	      uint64_t block_idx, struct block **out) CKPT_MUST_CHECK;
void block_unpin(struct fs *fs, struct block *block);
/** block_data - its bytes, to be read only: iovec has no const. */
char *block_data(struct block *block);
size_t block_len(const struct block *block);

/** block_cache_drop - forget the blocks of a shard that nobody has open any more. */
void block_cache_drop(struct fs *fs, uint64_t file_id);

#endif
