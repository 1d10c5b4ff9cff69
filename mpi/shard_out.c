/* shard_out.c - see shard_out.h. */
#include "shard_out.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "format/format.h"
#include "job_progress.h"

/*
 * Files that are written before the first of them is synced: the disk then works on many at a
 * time.
 */
#define SYNC_BATCH 64
/*
 * Summed, then written, at a time: small enough that the kernel's copy still finds it in the
 * processor's own cache, which halves the time of that copy.
 */
#define PIECE_BYTES (CKPT_KIB * 256)
/*
 * The disk is set to work when so much is there, and not only when the kernel has more dirty pages
 * than it likes, or at the fdatasync.
 */
#define EARLY_BYTES (CKPT_MIB * 8)

int ckpt_shard_out_init(struct ckpt_shard_out *out, struct ckpt_target *target,
			const struct ckpt_mpi_save_request *request,
			const struct ckpt_local_plan *plan, struct ckpt_record_list *records)
{
	*out = (struct ckpt_shard_out){
		.job = target->job,
		.target = target,
		.request = request,
		.plan = plan,
		.records = records,
		.room = array_alloc(1, CKPT_OWN_FILE_MIN),
		.staged = array_alloc(plan->chunk_count + 1, sizeof(*out->staged)),
	};
	return out->room && out->staged ? 0 : -ENOMEM;
}

void ckpt_shard_out_release(struct ckpt_shard_out *out)
{
	free(out->room);
	free(out->staged);
	free(out->gather_room);
}

bool ckpt_shard_out_has(const struct ckpt_shard_out *out, size_t idx)
{
	return out->plan->keep[idx] &&
	       (out->request->layout == CKPT_MPI_LAYOUT_SHARDS || out->plan->chunks[idx].is_blob);
}

bool ckpt_shard_out_is_small(const struct ckpt_shard_out *out, size_t idx)
{
	uint64_t bytes = out->plan->chunks[idx].size_bytes;

	return ckpt_shard_out_has(out, idx) && bytes > 0 && bytes < CKPT_OWN_FILE_MIN;
}

/* --- bytes ------------------------------------------------------------------------------- */

bool ckpt_shard_out_memory(const struct ckpt_shard_out *out, size_t idx, struct ckpt_strided *box)
{
	const struct ckpt_mpi_save_request *request = out->request;
	const struct ckpt_local_chunk *where = &out->plan->chunks[idx];
	const struct ckpt_mpi_entry *entry;
	const struct ckpt_mpi_chunk *chunk;

	if (where->is_blob) {
		if (box)
			*box = (struct ckpt_strided){ .data = request->blobs[where->entry_idx].data,
						      .element_bytes = 1 };
		return true;
	}
	entry = &request->entries[where->entry_idx];
	chunk = &entry->chunks[where->chunk_idx];
	if (chunk->data && box)
		*box = (struct ckpt_strided){ .data = chunk->data,
					      .size = chunk->size,
					      .strides = chunk->strides,
					      .dim_count = entry->dim_count,
					      .element_bytes = ckpt_dtype_size(entry->dtype) };
	return chunk->data;
}

int ckpt_shard_out_ask(struct ckpt_shard_out *out, size_t idx, uint64_t offset, size_t len,
		       void *to, struct ckpt_err *err)
{
	const struct ckpt_mpi_save_request *request = out->request;
	const struct ckpt_local_chunk *chunk = &out->plan->chunks[idx];
	char message[CKPT_MPI_MESSAGE_MAX] = "";
	const struct ckpt_mpi_piece piece = {
		.entry_idx = chunk->entry_idx,
		.chunk_idx = chunk->chunk_idx,
		.offset = offset,
		.len = len,
		.out = to,
		.message = message,
	};
	int rc = request->read(request->ctx, &piece);

	message[sizeof(message) - 1] = '\0';
	/* A positive code would be taken for success further on. */
	if (rc > 0)
		rc = -EIO;
	if (rc == 0)
		return 0;
	return message[0] ? ckpt_err_set(err, rc, "%s", message)
			  : ckpt_err_sys(err, rc, "cannot read tensor '%s' to be saved",
					 request->entries[chunk->entry_idx].fqn);
}

/* Stored bytes that are wanted, of chunk @idx. */
struct piece {
	size_t idx;
	uint64_t offset;
	size_t len;
};

/* The slab at @offset is in the gather room. */
static int gather(struct ckpt_shard_out *out, const struct ckpt_strided *box, size_t idx,
		  uint64_t offset, struct ckpt_err *err)
{
	struct ckpt_slab *slab = &out->gathered;

	if (out->gather_room && out->gathered_idx == idx && offset >= slab->offset &&
	    offset - slab->offset < slab->len)
		return 0;
	if (!out->gather_room)
		out->gather_room = malloc(CKPT_GATHER_BYTES);
	if (!out->gather_room)
		return ckpt_err_sys(err, -ENOMEM, "cannot gather a chunk with strides");
	ckpt_slab_at(box, offset, CKPT_GATHER_BYTES, slab);
	ckpt_slab_gather(box, slab, out->gather_room);
	out->gathered_idx = idx;
	return 0;
}

/* Bytes of a chunk that lies in memory with gaps, or in another order. */
static int gathered_bytes(struct ckpt_shard_out *out, const struct ckpt_strided *box,
			  const struct piece *want, const void **out_data, struct ckpt_err *err)
{
	for (size_t done = 0; done < want->len;) {
		uint64_t offset = want->offset + done;
		const unsigned char *from;
		uint64_t there;
		int rc = gather(out, box, want->idx, offset, err);

		if (rc < 0)
			return rc;
		from = (unsigned char *)out->gather_room + (offset - out->gathered.offset);
		there = out->gathered.offset + out->gathered.len - offset;
		if (there >= want->len && done == 0) {
			*out_data = from;
			return 0;
		}
		/* It reaches from one slab into the next. */
		there = num_min(there, want->len - done);
		memcpy((unsigned char *)out->room + done, from, there);
		done += there;
	}
	*out_data = out->room;
	return 0;
}

int ckpt_shard_out_bytes(struct ckpt_shard_out *out, size_t idx, uint64_t offset, size_t len,
			 const void **out_data, struct ckpt_err *err)
{
	uint64_t tight[CKPT_DIM_MAX];
	const unsigned char *copy = out->staged[idx];
	struct ckpt_strided box;
	bool in_memory = ckpt_shard_out_memory(out, idx, &box);

	assert(len <= CKPT_OWN_FILE_MIN && offset + len <= out->plan->chunks[idx].size_bytes);
	*out_data = out->room;
	if (!in_memory && !copy)
		return ckpt_shard_out_ask(out, idx, offset, len, out->room, err);
	if (!in_memory || ckpt_strides_are_dense(&box)) {
		*out_data = (copy ? copy : box.data) + offset;
		return 0;
	}
	if (copy) {
		ckpt_strides_tight(&box, tight);
		box.strides = tight;
		box.data = copy;
	}
	return gathered_bytes(out, &box,
			      &(struct piece){ .idx = idx, .offset = offset, .len = len }, out_data,
			      err);
}

struct ckpt_known_shard *ckpt_shard_out_record(struct ckpt_shard_out *out, size_t idx)
{
	struct ckpt_known_shard *record = ckpt_record_add(out->records);
	struct ckpt_buf name;

	if (!record)
		return NULL;
	record->shard.has_rank = true;
	record->shard.rank = (uint64_t)out->job->info.global_rank;
	ckpt_buf_init(&name);
	ckpt_plan_chunk_name(&name, out->request, &out->plan->chunks[idx], record->shard.rank);
	record->shard.path = ckpt_buf_steal(&name);
	return record->shard.path ? record : NULL;
}

/* --- files ------------------------------------------------------------------------------- */

int ckpt_shard_out_folder(struct ckpt_shard_out *out, struct ckpt_err *err)
{
	struct ckpt_buf name;
	bool writes = false;
	int rc = 0;

	for (size_t i = 0; i < out->plan->chunk_count; i++)
		writes = writes || ckpt_shard_out_has(out, i);
	if (!writes)
		return 0;
	ckpt_buf_init(&name);
	ckpt_buf_printf(&name, "rank-%05d", out->job->info.global_rank);
	rc = ckpt_buf_check(&name);
	if (rc == 0)
		rc = ckpt_io_mkdirat(out->target->dirfd, name.data, 0777);
	if (rc < 0)
		rc = ckpt_err_sys(err, rc, "cannot make folder '%s' in '%s'", name.data,
				  out->target->name.data);
	ckpt_buf_release(&name);
	return rc;
}

/* Bytes up to @end are written: a whole stretch more? */
static void start_early(int fd, uint64_t end)
{
	/* A hint: what became of the bytes is asked by fdatasync. */
	if (end % EARLY_BYTES == 0)
		ckpt_ignore(sync_file_range(fd, (off_t)(end - EARLY_BYTES), (off_t)EARLY_BYTES,
					    SYNC_FILE_RANGE_WRITE));
}

static int stream(struct ckpt_shard_out *out, size_t idx, int fd, struct ckpt_sums_run *run,
		  struct ckpt_err *err)
{
	uint64_t size_bytes = out->plan->chunks[idx].size_bytes;

	for (uint64_t done = 0; done < size_bytes;) {
		size_t len = num_min(PIECE_BYTES, size_bytes - done);
		const void *data = NULL;
		int rc = ckpt_job_cancelled(out->job, err);

		if (rc == 0)
			rc = ckpt_shard_out_bytes(out, idx, done, len, &data, err);
		if (rc < 0)
			return rc;
		ckpt_sums_run_update(run, data, len);
		rc = ckpt_io_pwrite_full(fd, data, len, done);
		if (rc < 0)
			return ckpt_err_sys(err, rc, "byte %llu", (unsigned long long)done);
		ckpt_progress_add(out->job, len);
		done += len;
		start_early(fd, done);
	}
	return 0;
}

/*
 * Create the file and reserve its blocks: no room shall show before, not after, the bytes were
 * moved.
 */
static int create(const struct ckpt_shard_out *out, const char *path, uint64_t size_bytes)
{
	CKPT_CLOSE int fd = ckpt_io_openat(out->target->dirfd, path,
					   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
	int rc = fd < 0 || size_bytes == 0 ? fd : ckpt_io_fallocate(fd, 0, size_bytes);

	if (fd < 0 || (rc < 0 && rc != -EOPNOTSUPP))
		return rc;
	return ckpt_steal_fd(&fd);
}

/* Write one shard; *@out_fd is to be synced. */
static int write_file(struct ckpt_shard_out *out, size_t idx, struct ckpt_known_shard *record,
		      int *out_fd, struct ckpt_err *err)
{
	uint64_t size_bytes = out->plan->chunks[idx].size_bytes;
	struct ckpt_sums_run *run = ckpt_sums_run_new(size_bytes);
	CKPT_CLOSE int fd = -1;
	int rc = run ? 0 : -ENOMEM;

	if (rc == 0) {
		fd = create(out, record->shard.path, size_bytes);
		rc = fd < 0 ? ckpt_err_sys(err, fd, "create it with %llu bytes",
					   (unsigned long long)size_bytes)
			    : 0;
	}
	if (rc == 0)
		rc = stream(out, idx, fd, run, err);
	if (rc == 0)
		rc = ckpt_sums_run_finish(run, &record->shard);
	ckpt_sums_run_free(run);
	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot write shard '%s/%s'",
				       out->target->name.data, record->shard.path);
	*out_fd = ckpt_steal_fd(&fd);
	return 0;
}

/* Files that are written and not yet durable. */
struct batch {
	int fds[SYNC_BATCH];
	size_t record_idx[SYNC_BATCH];
	size_t count;
};

/* Make them durable and take their stamps; nothing touches them from here on. */
static int sync_batch(struct ckpt_shard_out *out, struct batch *batch, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < batch->count; i++) {
		struct ckpt_known_shard *record = &out->records->items[batch->record_idx[i]];
		CKPT_CLOSE int fd = batch->fds[i];
		struct stat st;

		if (rc == 0)
			rc = ckpt_job_cancelled(out->job, err);
		if (rc < 0)
			continue;
		rc = ckpt_io_fdatasync(fd);
		if (rc == 0)
			rc = ckpt_io_fstat(fd, &st);
		if (rc == 0)
			ckpt_record_stamp(record, &st);
		else
			rc = ckpt_err_sys(err, rc, "cannot make shard '%s/%s' durable",
					  out->target->name.data, record->shard.path);
	}
	batch->count = 0;
	return rc;
}

int ckpt_shard_out_files(struct ckpt_shard_out *out, struct ckpt_err *err)
{
	struct batch batch = { .count = 0 };
	int sync_rc;
	int rc = 0;

	for (size_t i = 0; i < out->plan->chunk_count && rc == 0; i++) {
		struct ckpt_known_shard *record;

		if (!ckpt_shard_out_has(out, i) || ckpt_shard_out_is_small(out, i))
			continue;
		record = ckpt_shard_out_record(out, i);
		rc = record ? write_file(out, i, record, &batch.fds[batch.count], err) : -ENOMEM;
		if (rc < 0)
			break;
		batch.record_idx[batch.count++] = out->records->count - 1;
		if (batch.count == SYNC_BATCH)
			rc = sync_batch(out, &batch, err);
	}
	/* Also after a failure: it closes what is open. */
	sync_rc = sync_batch(out, &batch, rc < 0 ? NULL : err);
	return rc < 0 ? rc : sync_rc;
}
