/*
 * pack_out.c - the pack of a node: the small shards of all its ranks, one
 * behind the other without gaps, in rank order. Both ways to write it put the
 * same bytes at the same offsets; ckpt_pack_out() is in shard_out.h.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "collective.h"
#include "shard_out.h"

/*
 * What a rank writes at a time: far below the 2 GiB where MPI counts end, large enough for the
 * disk.
 */
#define ROUND_BYTES (UINT64_C(16) << 20)
#define NS_PER_SEC INT64_C(1000000000)

_Static_assert(ROUND_BYTES >= CKPT_OWN_FILE_MIN, "every small shard fits in a round");

struct pack {
	struct ckpt_shard_out *out;
	struct ckpt_buf path; /* in the checkpoint */
	uint64_t node_bytes;  /* of all ranks of the node */
	uint64_t at;	      /* where this rank's next bytes go */
	size_t next;	      /* chunk to look at next */
	unsigned char *room;  /* ROUND_BYTES */
	size_t filled;
	MPI_File file;
	int fd;
};

/* The next small chunk this rank writes, from @idx on; plan->chunk_count: none. */
static size_t next_small(const struct ckpt_local_plan *plan, size_t idx)
{
	while (idx < plan->chunk_count &&
	       (!plan->keep[idx] || plan->chunks[idx].size_bytes >= CKPT_OWN_FILE_MIN))
		idx++;
	return idx;
}

/* Bytes in all, and in how many rounds fill() hands them out. */
static uint64_t measure(const struct ckpt_local_plan *plan, uint64_t *out_rounds)
{
	uint64_t total = 0;
	uint64_t in_round = 0;

	*out_rounds = 0;
	for (size_t i = next_small(plan, 0); i < plan->chunk_count; i = next_small(plan, i + 1)) {
		uint64_t bytes = plan->chunks[i].size_bytes;

		if (*out_rounds == 0 || in_round + bytes > ROUND_BYTES) {
			++*out_rounds;
			in_round = 0;
		}
		in_round += bytes;
		total += bytes;
	}
	return total;
}

/* One shard at @pack->filled of the room, with its record. */
static int put_shard(struct pack *pack, const struct ckpt_local_chunk *chunk, struct ckpt_err *err)
{
	struct ckpt_known_shard *record = ckpt_shard_out_record(pack->out, chunk);
	struct ckpt_sums_run *run = ckpt_sums_run_new(chunk->size_bytes);
	struct timespec now;
	const void *data = NULL;
	int rc = record && run ? 0 : -ENOMEM;

	if (rc == 0)
		rc = ckpt_shard_out_bytes(pack->out, chunk, 0, chunk->size_bytes, &data, err);
	if (rc == 0) {
		memcpy(pack->room + pack->filled, data, chunk->size_bytes);
		ckpt_sums_run_update(run, data, chunk->size_bytes);
		rc = ckpt_sums_run_finish(run, &record->shard);
	}
	ckpt_sums_run_free(run);
	if (rc < 0)
		return rc;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	record->shard.size_bytes = chunk->size_bytes;
	record->shard.mode = 0644;
	record->shard.mtime_ns = now.tv_sec * NS_PER_SEC + now.tv_nsec;
	record->shard.pack_offset_bytes = pack->at + pack->filled;
	record->shard.pack = strdup(pack->path.data);
	pack->filled += chunk->size_bytes;
	return record->shard.pack ? 0 : -ENOMEM;
}

/* As many shards as the room holds. */
static int fill(struct pack *pack, struct ckpt_err *err)
{
	const struct ckpt_local_plan *plan = pack->out->plan;
	int rc = ckpt_job_cancelled(pack->out->job, err);

	pack->filled = 0;
	for (; rc == 0; pack->next++) {
		pack->next = next_small(plan, pack->next);
		if (pack->next == plan->chunk_count ||
		    pack->filled + plan->chunks[pack->next].size_bytes > ROUND_BYTES)
			return 0;
		rc = put_shard(pack, &plan->chunks[pack->next], err);
	}
	return rc;
}

static int failed(const struct pack *pack, int rc, const char *what, struct ckpt_err *err)
{
	return ckpt_err_sys(err, rc, "cannot %s pack '%s/%s'", what, pack->out->target->name.data,
			    pack->path.data);
}

/* The node's first rank makes the file at its full size. */
static int create(void *ctx, struct ckpt_err *err)
{
	struct pack *pack = ctx;
	CKPT_CLOSE int fd = ckpt_io_openat(pack->out->target->dirfd, pack->path.data,
					   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
	int rc = fd < 0 ? fd : ckpt_io_fallocate(fd, 0, pack->node_bytes);

	if (rc == -EOPNOTSUPP)
		rc = ckpt_io_ftruncate(fd, pack->node_bytes);
	return rc < 0 ? failed(pack, rc, "make", err) : 0;
}

/* --- pwrite --------------------------------------------------------------------------------- */

static int write_posix(void *ctx, struct ckpt_err *err)
{
	struct pack *pack = ctx;
	int rc = 0;

	pack->fd =
		ckpt_io_openat(pack->out->target->dirfd, pack->path.data, O_WRONLY | O_NOFOLLOW, 0);
	if (pack->fd < 0)
		return failed(pack, pack->fd, "open", err);
	do {
		rc = fill(pack, err);
		if (rc < 0)
			return rc;
		rc = ckpt_io_pwrite_full(pack->fd, pack->room, pack->filled, pack->at);
		if (rc < 0)
			return failed(pack, rc, "write", err);
		pack->at += pack->filled;
	} while (pack->filled > 0);
	rc = ckpt_io_fdatasync(pack->fd);
	return rc < 0 ? failed(pack, rc, "sync", err) : 0;
}

/* --- MPI-IO ------------------------------------------------------------------------------- */

/* MPI's word for what went wrong, as an errno. */
static int mpi_code(int mpi_rc)
{
	int class = MPI_ERR_OTHER;

	if (MPI_Error_class(mpi_rc, &class) != MPI_SUCCESS)
		return -EIO;
	switch (class) {
	case MPI_ERR_NO_SPACE:
		return -ENOSPC;
	case MPI_ERR_QUOTA:
		return -EDQUOT;
	case MPI_ERR_ACCESS:
		return -EACCES;
	case MPI_ERR_READ_ONLY:
		return -EROFS;
	case MPI_ERR_NO_SUCH_FILE:
		return -ENOENT;
	default:
		return -EIO;
	}
}

/* All ranks of the node; all have agreed just before, so that none keeps the others waiting. */
static int open_collective(void *ctx, struct ckpt_err *err)
{
	struct pack *pack = ctx;
	struct ckpt_target *target = pack->out->target;
	struct ckpt_buf folder;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&folder);
	ckpt_buf_init(&path);
	ckpt_path_join(&folder, target->store_path.data, target->name.data);
	ckpt_path_join(&path, folder.data, pack->path.data);
	rc = ckpt_buf_check(&path);
	if (rc == 0) {
		int mpi_rc = MPI_File_open(pack->out->job->node_comm, path.data, MPI_MODE_WRONLY,
					   MPI_INFO_NULL, &pack->file);

		if (mpi_rc != MPI_SUCCESS)
			rc = failed(pack, mpi_code(mpi_rc), "open with MPI-IO", err);
	}
	ckpt_buf_release(&path);
	ckpt_buf_release(&folder);
	return rc;
}

static int write_round(struct pack *pack, struct ckpt_err *err)
{
	MPI_Status status;
	int count = 0;
	int rc = MPI_File_write_at_all(pack->file, (MPI_Offset)pack->at, pack->room,
				       (int)pack->filled, MPI_BYTE, &status);

	if (rc != MPI_SUCCESS)
		return failed(pack, mpi_code(rc), "write with MPI-IO", err);
	/* Success with fewer bytes, or none, has been seen. */
	if (MPI_Get_count(&status, MPI_BYTE, &count) != MPI_SUCCESS ||
	    (size_t)count != pack->filled)
		return ckpt_err_set(
			err, -EIO,
			"cannot write pack '%s/%s': MPI-IO wrote %d of %zu bytes at %llu",
			pack->out->target->name.data, pack->path.data, count, pack->filled,
			(unsigned long long)pack->at);
	pack->at += pack->filled;
	return 0;
}

/*
 * The same number of rounds on every rank of the job; before each, all say whether they are still
 * well.
 */
static int write_rounds(struct pack *pack, uint64_t rounds, struct ckpt_err *err)
{
	struct ckpt_mpi *job = pack->out->job;
	int local = 0;

	for (uint64_t round = 0; round < rounds; round++) {
		uint64_t any_failed;
		int rc;

		if (local == 0)
			local = fill(pack, err);
		rc = ckpt_coll_max(job, local < 0, &any_failed);
		if (rc < 0 || any_failed)
			return rc < 0 ? rc : local;
		if (pack->node_bytes > 0)
			local = write_round(pack, err);
	}
	return local;
}

static int sync_collective(void *ctx, struct ckpt_err *err)
{
	struct pack *pack = ctx;
	int rc = MPI_File_sync(pack->file);
	int close_rc = MPI_File_close(&pack->file);

	if (rc != MPI_SUCCESS)
		return failed(pack, mpi_code(rc), "sync with MPI-IO", err);
	return close_rc != MPI_SUCCESS ? failed(pack, mpi_code(close_rc), "close with MPI-IO", err)
				       : 0;
}

static int write_mpiio(struct pack *pack, uint64_t rounds)
{
	struct ckpt_mpi *job = pack->out->job;
	struct ckpt_err err = CKPT_ERR_INIT;
	bool has_pack = pack->node_bytes > 0;
	int rc = ckpt_job_go_on(job, has_pack, open_collective, pack);

	if (rc == 0)
		rc = ckpt_job_agree(job, write_rounds(pack, rounds, &err), &err);
	if (rc == 0)
		return ckpt_job_go_on(job, has_pack, sync_collective, pack);
	/*
	 * All have just agreed and can close; after a time-out MPI_File_close would wait for the
	 * missing.
	 */
	if (!job->broken && pack->file != MPI_FILE_NULL)
		ckpt_ignore(MPI_File_close(&pack->file)); /* the failure is known already */
	return rc;
}

/* --- both --------------------------------------------------------------------------------- */

static int check_size(void *ctx, struct ckpt_err *err)
{
	struct pack *pack = ctx;
	struct stat st;
	int rc = ckpt_io_fstatat(pack->out->target->dirfd, pack->path.data, &st,
				 AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		return failed(pack, rc, "stat", err);
	if ((uint64_t)st.st_size != pack->node_bytes)
		return ckpt_err_set(
			err, -EIO,
			"pack '%s/%s' has %lld bytes after it was written, should have %llu",
			pack->out->target->name.data, pack->path.data, (long long)st.st_size,
			(unsigned long long)pack->node_bytes);
	return 0;
}

static int write_pack(struct pack *pack, uint64_t rounds)
{
	struct ckpt_mpi *job = pack->out->job;
	bool leads = job->info.local_rank == 0 && pack->node_bytes > 0;
	int rc = ckpt_job_go_on(job, leads, create, pack);

	if (rc == 0)
		rc = job->config.io == CKPT_MPI_IO_MPIIO
			     ? write_mpiio(pack, rounds)
			     : ckpt_job_go_on(job, rounds > 0, write_posix, pack);
	return rc < 0 ? rc : ckpt_job_go_on(job, leads, check_size, pack);
}

/* Sizes and places that all ranks of the node must know. */
static int lay_out(struct pack *pack, uint64_t *out_rounds)
{
	struct ckpt_mpi *job = pack->out->job;
	uint64_t bytes = measure(pack->out->plan, out_rounds);
	int rc = ckpt_coll_node_sum(job, bytes, &pack->node_bytes);

	if (rc == 0)
		rc = ckpt_coll_before(job, true, bytes, &pack->at);
	if (rc == 0 && job->config.io == CKPT_MPI_IO_MPIIO)
		rc = ckpt_coll_max(job, *out_rounds, out_rounds);
	return rc;
}

int ckpt_pack_out(struct ckpt_shard_out *out)
{
	struct pack pack = { .out = out, .file = MPI_FILE_NULL, .fd = -1 };
	uint64_t rounds;
	int rc = lay_out(&pack, &rounds);

	ckpt_buf_init(&pack.path);
	if (rc == 0) {
		ckpt_buf_printf(&pack.path, CKPT_CONTROL_DIR "/pack-%05d", out->job->node_idx);
		pack.room = array_alloc(1, ROUND_BYTES);
		rc = ckpt_job_agree(out->job, pack.room ? ckpt_buf_check(&pack.path) : -ENOMEM,
				    NULL);
	}
	if (rc == 0)
		rc = write_pack(&pack, rounds);
	ckpt_cleanup_close(&pack.fd);
	/* A broken MPI-IO call may still read the room. */
	if (!out->job->broken)
		free(pack.room);
	ckpt_buf_release(&pack.path);
	return rc;
}
