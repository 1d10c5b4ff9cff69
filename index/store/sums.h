/*
 * sums.h - block sums: making them, and reading through them.
 */
#ifndef CKPT_STORE_SUMS_H
#define CKPT_STORE_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "store/manifest.h"

/**
 * ckpt_sums_file - read a file once and sum it
 * @fd: readable; @size_bytes: how much of it (a shorter file is -ESTALE)
 * @out: block_bytes, sums, has_xxh128 and xxh128 are filled in; sums is heap
 * @progress: NULL, or called with bytes done since the last call; non-zero cancels (returned as it
 *            is)
 * Errors: -ESTALE the file changed its size; else system. Thread-safe: yes.
 */
int ckpt_sums_file(int fd, uint64_t size_bytes, struct ckpt_shard *out,
		   int (*progress)(void *ctx, uint64_t bytes), void *ctx) CKPT_MUST_CHECK;

/* Sums while writing: feed the bytes of one shard in order. */
struct ckpt_sums_run;
/** ckpt_sums_run_new - for a shard that will have @size_bytes; NULL when memory is out. */
struct ckpt_sums_run *ckpt_sums_run_new(uint64_t size_bytes);
void ckpt_sums_run_free(struct ckpt_sums_run *run);
void ckpt_sums_run_update(struct ckpt_sums_run *run, const void *data, size_t len_bytes);
/**
 * ckpt_sums_run_finish - move the result into @out (as ckpt_sums_file does); -EINVAL when not
 * exactly size_bytes were fed.
 */
int ckpt_sums_run_finish(struct ckpt_sums_run *run, struct ckpt_shard *out) CKPT_MUST_CHECK;

/**
 * ckpt_sums_bytes - sum a shard that lies in memory whole; for many small ones
 * @out: as ckpt_sums_file. -ENOMEM. Thread-safe: yes.
 */
int ckpt_sums_bytes(const void *data, size_t len_bytes, struct ckpt_shard *out) CKPT_MUST_CHECK;

/* One wrong block. */
struct ckpt_damage {
	uint64_t block_idx;
	uint64_t start_bytes; /* in the shard */
	uint64_t end_bytes;   /* first byte behind */
	uint64_t found;	      /* XXH3-64 of what was read */
	uint64_t expected;
};

/**
 * ckpt_damage_print - append the finding as verify prints it, without newline:
 * "NAME/SHARD: block 3 (bytes 3145728-4194303): xxh3-64 is …, should be …" and " in PACK" for a
 * packed shard
 */
void ckpt_damage_print(struct ckpt_buf *out, const char *checkpoint, const struct ckpt_shard *shard,
		       const struct ckpt_damage *damage);

struct ckpt_shard_reader; /* an open shard, read through its sums */

/**
 * ckpt_shard_reader_open - open the stored file behind a shard
 * @dirfd:  the checkpoint's folder; used during the call only
 * @label:  the checkpoint, for messages; copied
 * @shard:  borrowed until close
 * Errors: -ENOENT the file is gone; -ESTALE its size is not what the manifest says, or it is no
 * regular file; else system.
 */
int ckpt_shard_reader_open(int dirfd, const char *label, const struct ckpt_shard *shard,
			   struct ckpt_shard_reader **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_shard_reader_free(struct ckpt_shard_reader *reader);
/**
 * ckpt_shard_reader_fd - the open stored file, for what needs no sums (its stamps, handing it to the kernel)
 * @out_base: NULL, or receives where the shard begins in it. Borrowed: closed by ckpt_shard_reader_free.
 */
int ckpt_shard_reader_fd(const struct ckpt_shard_reader *reader, uint64_t *out_base);

/**
 * ckpt_shard_reader_block - read one whole block and check it
 * @out: at least min(block_bytes, size) bytes; *@out_len: bytes of this block
 * @damage: NULL, or filled in on -EBADMSG
 * Errors: -EBADMSG wrong sum (message as ckpt_damage_print, with the remedy); -ESTALE the file
 * became shorter; else system.
 * Thread-safe: yes, holds no lock and no state.
 */
int ckpt_shard_reader_block(const struct ckpt_shard_reader *reader, uint64_t block_idx, void *out,
			    size_t *out_len, struct ckpt_damage *damage, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/**
 * ckpt_shard_reader_read - any range, every block it touches checked
 * @off: 0 … size (at the end: 0 bytes); *@out_len: bytes stored
 * Keeps the last partly used block, so that small reads in order check each block once. Not
 * thread-safe on one reader.
 */
int ckpt_shard_reader_read(struct ckpt_shard_reader *reader, uint64_t off, size_t len_bytes,
			   void *out, size_t *out_len, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
