/* sums.c - block sums and whole digest of a shard, in one pass over its bytes; see sums.h. */
#include "store/sums.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"

struct ckpt_sums_run {
	uint64_t size_bytes;
	uint64_t block_bytes;
	uint64_t fed_bytes; /* may exceed size_bytes: finish tells */
	uint64_t *sums;	    /* of the blocks that are full */
	struct ckpt_hash64_run *block;
	struct ckpt_hash128 *whole;
};

struct ckpt_sums_run *ckpt_sums_run_new(uint64_t size_bytes)
{
	struct ckpt_sums_run *run = calloc(1, sizeof(*run));
	uint64_t count;

	if (!run)
		return NULL;
	run->size_bytes = size_bytes;
	run->block_bytes = ckpt_block_bytes_for(size_bytes);
	count = ckpt_block_count(size_bytes, run->block_bytes);
	run->sums = array_alloc(num_max(count, 1), sizeof(*run->sums));
	run->block = ckpt_hash64_new();
	run->whole = ckpt_hash128_new();
	if (run->sums && run->block && run->whole)
		return run;
	ckpt_sums_run_free(run);
	return NULL;
}

void ckpt_sums_run_free(struct ckpt_sums_run *run)
{
	if (!run)
		return;
	free(run->sums);
	ckpt_hash64_free(run->block);
	ckpt_hash128_free(run->whole);
	free(run);
}

/* The block at hand ends with what was fed: keep its sum. */
static void end_block(struct ckpt_sums_run *run)
{
	run->sums[(run->fed_bytes - 1) / run->block_bytes] = ckpt_hash64_digest(run->block);
	ckpt_hash64_reset(run->block);
}

/* Bytes of one block only. */
static void feed_block(struct ckpt_sums_run *run, const char *bytes, size_t len_bytes)
{
	ckpt_hash64_update(run->block, bytes, len_bytes);
	ckpt_hash128_update(run->whole, bytes, len_bytes);
	run->fed_bytes += len_bytes;
	if (run->fed_bytes % run->block_bytes == 0 || run->fed_bytes == run->size_bytes)
		end_block(run);
}

void ckpt_sums_run_update(struct ckpt_sums_run *run, const void *data, size_t len_bytes)
{
	const char *bytes = data;

	assert(data || len_bytes == 0);
	while (len_bytes > 0) {
		uint64_t room = run->block_bytes - run->fed_bytes % run->block_bytes;
		size_t take = num_min(len_bytes, room);

		if (run->fed_bytes >= run->size_bytes || take > run->size_bytes - run->fed_bytes) {
			run->fed_bytes = UINT64_MAX; /* too many bytes: nothing more is summed */
			return;
		}
		feed_block(run, bytes, take);
		bytes += take;
		len_bytes -= take;
	}
}

int ckpt_sums_run_finish(struct ckpt_sums_run *run, struct ckpt_shard *out)
{
	if (run->fed_bytes != run->size_bytes)
		return -EINVAL;
	out->block_bytes = run->block_bytes;
	out->has_xxh128 = true;
	out->xxh128 = ckpt_hash128_digest(run->whole);
	out->sums = run->size_bytes > 0 ? ckpt_steal_ptr(&run->sums) : NULL;
	return 0;
}

int ckpt_sums_bytes(const void *data, size_t len_bytes, struct ckpt_shard *out)
{
	uint64_t block_bytes = ckpt_block_bytes_for(len_bytes);
	uint64_t count = ckpt_block_count(len_bytes, block_bytes);
	uint64_t *sums = array_alloc(num_max(count, 1), sizeof(*sums));

	if (!sums)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = i * block_bytes;

		sums[i] =
			ckpt_hash64((const char *)data + at, num_min(block_bytes, len_bytes - at));
	}
	out->block_bytes = block_bytes;
	out->has_xxh128 = true;
	out->xxh128 = ckpt_hash128(data, len_bytes);
	out->sums = sums;
	return 0;
}

/* Feed @size_bytes of @fd. */
static int feed_file(int fd, uint64_t size_bytes, struct ckpt_sums_run *run,
		     int (*progress)(void *ctx, uint64_t bytes), void *ctx)
{
	CKPT_FREE char *chunk = malloc(num_max(num_min(CKPT_IO_CHUNK, size_bytes), 1));

	if (!chunk)
		return -ENOMEM;
	for (uint64_t at = 0; at < size_bytes;) {
		size_t want = num_min(CKPT_IO_CHUNK, size_bytes - at);
		size_t got = 0;
		int rc = ckpt_io_pread_full(fd, chunk, want, at, &got);

		if (rc < 0)
			return rc;
		if (got < want)
			return -ESTALE;
		ckpt_sums_run_update(run, chunk, got);
		at += got;
		rc = progress ? progress(ctx, got) : 0;
		if (rc != 0)
			return rc;
	}
	return 0;
}

int ckpt_sums_file(int fd, uint64_t size_bytes, struct ckpt_shard *out,
		   int (*progress)(void *ctx, uint64_t bytes), void *ctx)
{
	struct ckpt_sums_run *run = ckpt_sums_run_new(size_bytes);
	int rc;

	if (!run)
		return -ENOMEM;
	/* A hint: what the kernel makes of it changes no result. */
	ckpt_ignore(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	rc = feed_file(fd, size_bytes, run, progress, ctx);
	if (rc == 0)
		rc = ckpt_sums_run_finish(run, out);
	ckpt_sums_run_free(run);
	return rc;
}

void ckpt_damage_print(struct ckpt_buf *out, const char *checkpoint, const struct ckpt_shard *shard,
		       const struct ckpt_damage *damage)
{
	char found[CKPT_HEX64_LEN + 1];
	char expected[CKPT_HEX64_LEN + 1];

	ckpt_buf_printf(out,
			"%s/%s: block %" PRIu64 " (bytes %" PRIu64 "-%" PRIu64
			"): xxh3-64 is %s, should be %s",
			checkpoint, shard->path, damage->block_idx, damage->start_bytes,
			damage->end_bytes - 1, ckpt_hex64(damage->found, found),
			ckpt_hex64(damage->expected, expected));
	if (shard->pack)
		ckpt_buf_printf(out, " in %s", shard->pack);
}
