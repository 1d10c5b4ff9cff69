/* stage.c - see stage.h. */
#include "stage.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "shard_out.h"
#include "strides.h"

/* What a large page is on most machines; elsewhere the advice finds nothing to do. */
#define LARGE_PAGE (CKPT_MIB * 2)
/* Copies begin at lines of the cache. */
#define LINE_BYTES 64
/* Copied between two looks at whether the user still wants it. */
#define PIECE_BYTES (CKPT_MIB * 64)

void ckpt_stage_room_release(struct ckpt_stage_room *room)
{
	if (room->data)
		ckpt_ignore(
			munmap(room->data, room->size_bytes)); /* a mapping of ours: it is there */
	*room = (struct ckpt_stage_room){ .data = NULL };
}

/* Whole large pages, which are found and cleared faster than 512 small ones each. */
static int reserve(struct ckpt_stage_room *room, uint64_t bytes)
{
	uint64_t whole;
	unsigned char *data;
	size_t skip;

	if (bytes <= room->size_bytes)
		return 0;
	ckpt_stage_room_release(room);
	if (!num_add(bytes, 2 * LARGE_PAGE, &whole) || whole > SIZE_MAX)
		return -ENOMEM;
	whole -= whole % LARGE_PAGE;
	data = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return -errno;
	skip = (LARGE_PAGE - (uintptr_t)data % LARGE_PAGE) % LARGE_PAGE;
	if (skip > 0)
		ckpt_ignore(munmap(data, skip)); /* never touched: nothing is lost if it stays */
	room->data = data + skip;
	room->size_bytes = whole - skip;
	/* Advice: without it, it is only slower. */
	ckpt_ignore(madvise(room->data, room->size_bytes, MADV_HUGEPAGE));
	return 0;
}

static bool is_staged(const struct ckpt_shard_out *out, size_t idx, enum ckpt_mpi_buffers buffers)
{
	/* Layout global moves its chunks' bytes to who writes them before the thread begins. */
	return ckpt_shard_out_has(out, idx) &&
	       (buffers == CKPT_MPI_COPY || !ckpt_shard_out_memory(out, idx, NULL));
}

/* Bytes of all copies together. */
static int measure(const struct ckpt_shard_out *out, enum ckpt_mpi_buffers buffers, uint64_t *total)
{
	*total = 0;
	for (size_t i = 0; i < out->plan->chunk_count; i++) {
		uint64_t bytes = out->plan->chunks[i].size_bytes;

		if (is_staged(out, i, buffers) &&
		    !(num_add(bytes, LINE_BYTES - 1, &bytes) &&
		      num_add(*total, bytes - bytes % LINE_BYTES, total)))
			return -ENOMEM;
	}
	return 0;
}

/* Bytes that lie in memory as they are stored. */
static int copy_dense(struct ckpt_shard_out *out, const unsigned char *data, uint64_t len,
		      unsigned char *to, struct ckpt_err *err)
{
	int rc = 0;

	for (uint64_t done = 0; done < len && rc == 0; done += num_min(PIECE_BYTES, len - done)) {
		memcpy(to + done, data + done, num_min(PIECE_BYTES, len - done));
		rc = ckpt_job_cancelled(out->job, err);
	}
	return rc;
}

static int ask(struct ckpt_shard_out *out, size_t idx, unsigned char *to, struct ckpt_err *err)
{
	uint64_t size = out->plan->chunks[idx].size_bytes;
	int rc = 0;

	for (uint64_t done = 0; done < size && rc == 0;) {
		size_t len = num_min(CKPT_OWN_FILE_MIN, size - done);

		rc = ckpt_job_cancelled(out->job, err);
		if (rc == 0)
			rc = ckpt_shard_out_ask(out, idx, done, len, to + done, err);
		done += len;
	}
	return rc;
}

static int copy_chunk(struct ckpt_shard_out *out, size_t idx, unsigned char *to,
		      struct ckpt_err *err)
{
	uint64_t tight[CKPT_DIM_MAX];
	struct ckpt_strided box;

	if (!ckpt_shard_out_memory(out, idx, &box))
		return ask(out, idx, to, err);
	if (ckpt_strides_are_dense(&box))
		return copy_dense(out, box.data, out->plan->chunks[idx].size_bytes, to, err);
	ckpt_strides_tight(&box, tight);
	ckpt_strides_copy(&box, tight, to);
	return ckpt_job_cancelled(out->job, err);
}

int ckpt_stage_fill(struct ckpt_shard_out *out, enum ckpt_mpi_buffers buffers,
		    struct ckpt_stage_room *room, struct ckpt_err *err)
{
	const struct ckpt_local_plan *plan = out->plan;
	uint64_t total;
	uint64_t at = 0;
	char text[16];
	int rc = measure(out, buffers, &total);

	if (rc == 0)
		rc = reserve(room, total);
	if (rc < 0)
		return ckpt_err_sys(
			err, rc,
			"cannot hold a copy of the %s that this rank saves; lend the arrays (CKPT_MPI_BORROW), or save without a future",
			num_format_size(total, text, sizeof(text)));
	for (size_t i = 0; i < plan->chunk_count && rc == 0; i++) {
		uint64_t bytes = plan->chunks[i].size_bytes;

		if (!is_staged(out, i, buffers))
			continue;
		assert(at + bytes <= room->size_bytes || bytes == 0);
		rc = copy_chunk(out, i, room->data + at, err);
		out->staged[i] = room->data + at;
		at += num_div_up(bytes, LINE_BYTES) * LINE_BYTES;
	}
	return rc;
}
