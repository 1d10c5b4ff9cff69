/*
 * verify_pack.c - what lies between the shards of a pack: nothing, or zeros.
 * Anything else is no shard's, so no block sum would ever notice it.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "store/commit_internal.h"

static bool is_zero(const char *data, size_t len_bytes)
{
	/* Zero at its start, and equal to itself moved by one: zero throughout. */
	return len_bytes == 0 || (data[0] == '\0' && memcmp(data, data + 1, len_bytes - 1) == 0);
}

/* Are the bytes [start, end) all zero? The end of the file ends them, too. */
static int range_is_zero(int fd, uint64_t start, uint64_t end, char *chunk, bool *out)
{
	*out = true;
	while (start < end && *out) {
		size_t got;
		int rc = ckpt_io_pread_full(fd, chunk, num_min(CKPT_IO_CHUNK, end - start), start,
					    &got);

		if (rc < 0)
			return rc;
		if (got == 0)
			break;
		*out = is_zero(chunk, got);
		start += got;
	}
	return 0;
}

int ckpt_pack_check_gaps(int fd, const struct ckpt_shard *const *shards, size_t count,
			 int (*fn)(void *ctx, const struct ckpt_pack_dirt *dirt), void *ctx)
{
	CKPT_FREE char *chunk = malloc(CKPT_IO_CHUNK);
	uint64_t at = 0;
	struct stat st;
	int rc = chunk ? ckpt_io_fstat(fd, &st) : -ENOMEM;

	/* One round more than there are shards: the last gap ends with the file. */
	for (size_t i = 0; rc == 0 && i <= count; i++) {
		uint64_t next = i < count ? shards[i]->pack_offset_bytes : (uint64_t)st.st_size;
		bool zero = true;

		if (next > at)
			rc = range_is_zero(fd, at, next, chunk, &zero);
		if (rc == 0 && !zero)
			rc = fn(ctx,
				&(struct ckpt_pack_dirt){ .start_bytes = at, .end_bytes = next });
		if (i < count)
			at = num_max(at, next + shards[i]->size_bytes);
	}
	return rc;
}
