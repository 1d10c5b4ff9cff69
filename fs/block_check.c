/* block_check.c - see block_check.h. */
#include "block_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/num.h"

/* Of 64 KiB to 1 MiB the size that measured best, with and without the file in memory. */
#define PIECE_BYTES (256 * CKPT_KIB)

int block_scratch_init(struct block_scratch *scratch, uint64_t max_bytes)
{
	scratch->piece = malloc(num_max(num_min(PIECE_BYTES, max_bytes), 1));
	scratch->hash = ckpt_hash64_new();
	return scratch->piece && scratch->hash ? 0 : -ENOMEM;
}

void block_scratch_release(struct block_scratch *scratch)
{
	free(scratch->piece);
	ckpt_hash64_free(scratch->hash);
}

static int fail(int rc, const struct committed_shard *shard, uint64_t at)
{
	struct ckpt_err err = CKPT_ERR_INIT;

	ckpt_err_sys(&err, rc, "cannot read shard '%s/%s' at byte %" PRIu64, shard->cp->row.name,
		     shard->shard.path, at);
	fs_log_once("%s", err.msg);
	return rc == -ENOMEM ? rc : -EIO;
}

static int fail_short(const struct committed_shard *shard, uint64_t end)
{
	fs_log_once("shard '%s/%s' became shorter: it ends at byte %" PRIu64
		    "; restore it from a copy, then run 'ckptfs verify %s'",
		    shard->cp->row.name, shard->shard.path, end, shard->cp->row.name);
	return -EIO;
}

/* Read and sum the bytes between two places. */
static int sum_bytes(const struct committed_shard *shard, const struct block_scratch *scratch,
		     uint64_t at, uint64_t end, uint64_t *out)
{
	int fd = ckpt_shard_reader_fd(shard->reader, NULL);

	ckpt_hash64_reset(scratch->hash);
	while (at < end) {
		size_t want = num_min(PIECE_BYTES, end - at);
		size_t got = 0;
		int rc = ckpt_io_pread_full(fd, scratch->piece, want, at, &got);

		if (rc < 0)
			return fail(rc, shard, at);
		if (got < want)
			return fail_short(shard, at + got);
		ckpt_hash64_update(scratch->hash, scratch->piece, got);
		at += got;
	}
	*out = ckpt_hash64_digest(scratch->hash);
	return 0;
}

int block_check(struct fs *fs, const struct committed_shard *shard,
		const struct block_scratch *scratch, uint64_t block_idx)
{
	uint64_t block_bytes = shard->shard.block_bytes;
	uint64_t start = block_idx * block_bytes;
	struct ckpt_damage damage = {
		.block_idx = block_idx,
		.start_bytes = start,
		.end_bytes = start + num_min(block_bytes, shard->shard.size_bytes - start),
		.expected = shard->shard.sums[block_idx],
	};
	int rc = sum_bytes(shard, scratch, start, damage.end_bytes, &damage.found);

	if (rc < 0)
		return rc;
	if (damage.found == damage.expected) {
		stats_add(&fs->stats.verified_bytes, damage.end_bytes - start);
		return 0;
	}
	stats_add(&fs->stats.corrupt_blocks, 1);
	committed_log_damage(fs, shard, &damage);
	return -EBADMSG;
}
