/* shard_out.c - see shard_out.h. */
#include "shard_out.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"

/*
 * Files that are written before the first of them is synced: the disk then works on many at a
 * time.
 */
#define SYNC_BATCH 64

int ckpt_shard_out_bytes(struct ckpt_shard_out *out, const struct ckpt_local_chunk *chunk,
			 uint64_t offset, size_t len, const void **out_data, struct ckpt_err *err)
{
	const struct ckpt_mpi_save_request *request = out->request;
	const struct ckpt_mpi_entry *entry = &request->entries[chunk->entry_idx];
	const char *data = entry->chunks[chunk->chunk_idx].data;
	char message[CKPT_MPI_MESSAGE_MAX] = "";
	const struct ckpt_mpi_piece piece = {
		.entry_idx = chunk->entry_idx,
		.chunk_idx = chunk->chunk_idx,
		.offset = offset,
		.len = len,
		.out = out->room,
		.message = message,
	};
	int rc;

	assert(len <= CKPT_OWN_FILE_MIN && offset + len <= chunk->size_bytes);
	if (data) {
		*out_data = data + offset;
		return 0;
	}
	rc = request->read(request->ctx, &piece);
	message[sizeof(message) - 1] = '\0';
	if (rc > 0)
		rc = -EIO;
	if (rc < 0)
		return message[0] ? ckpt_err_set(err, rc, "%s", message)
				  : ckpt_err_sys(err, rc, "cannot read tensor '%s' to be saved",
						 entry->fqn);
	*out_data = out->room;
	return 0;
}

struct ckpt_known_shard *ckpt_shard_out_record(struct ckpt_shard_out *out,
					       const struct ckpt_local_chunk *chunk)
{
	const struct ckpt_mpi_entry *entry = &out->request->entries[chunk->entry_idx];
	struct ckpt_known_shard *record = ckpt_record_add(out->records);
	struct ckpt_buf name;

	if (!record)
		return NULL;
	record->shard.has_rank = true;
	record->shard.rank = (uint64_t)out->job->info.global_rank;
	ckpt_buf_init(&name);
	ckpt_plan_shard_name(&name, record->shard.rank, entry->fqn,
			     entry->chunks[chunk->chunk_idx].start, entry->dim_count);
	record->shard.path = ckpt_buf_steal(&name);
	return record->shard.path ? record : NULL;
}

int ckpt_shard_out_folder(struct ckpt_shard_out *out, struct ckpt_err *err)
{
	struct ckpt_buf name;
	bool writes = false;
	int rc = 0;

	for (size_t i = 0; i < out->plan->chunk_count; i++)
		writes = writes || out->plan->keep[i];
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

static int stream(struct ckpt_shard_out *out, const struct ckpt_local_chunk *chunk, int fd,
		  struct ckpt_sums_run *run, struct ckpt_err *err)
{
	for (uint64_t done = 0; done < chunk->size_bytes;) {
		size_t len = num_min(CKPT_OWN_FILE_MIN, chunk->size_bytes - done);
		const void *data = NULL;
		int rc = ckpt_job_cancelled(out->job, err);

		if (rc == 0)
			rc = ckpt_shard_out_bytes(out, chunk, done, len, &data, err);
		if (rc < 0)
			return rc;
		ckpt_sums_run_update(run, data, len);
		rc = ckpt_io_pwrite_full(fd, data, len, done);
		if (rc < 0)
			return ckpt_err_sys(err, rc, "byte %llu", (unsigned long long)done);
		done += len;
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
	int rc = fd < 0 ? fd : ckpt_io_fallocate(fd, 0, size_bytes);

	if (fd < 0 || (rc < 0 && rc != -EOPNOTSUPP))
		return rc;
	return ckpt_steal_fd(&fd);
}

/* Write one shard; *@out_fd is to be synced. */
static int write_file(struct ckpt_shard_out *out, const struct ckpt_local_chunk *chunk,
		      struct ckpt_known_shard *record, int *out_fd, struct ckpt_err *err)
{
	struct ckpt_sums_run *run = ckpt_sums_run_new(chunk->size_bytes);
	CKPT_CLOSE int fd = -1;
	int rc = run ? 0 : -ENOMEM;

	if (rc == 0) {
		fd = create(out, record->shard.path, chunk->size_bytes);
		rc = fd < 0 ? ckpt_err_sys(err, fd, "create it with %llu bytes",
					   (unsigned long long)chunk->size_bytes)
			    : 0;
	}
	if (rc == 0)
		rc = stream(out, chunk, fd, run, err);
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
		const struct ckpt_local_chunk *chunk = &out->plan->chunks[i];
		struct ckpt_known_shard *record;

		if (!out->plan->keep[i] || chunk->size_bytes < CKPT_OWN_FILE_MIN)
			continue;
		record = ckpt_shard_out_record(out, chunk);
		rc = record ? write_file(out, chunk, record, &batch.fds[batch.count], err)
			    : -ENOMEM;
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
