/* pack_out.c - see pack_out.h. */
#include "pack_out.h"

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
#include "job_progress.h"
#include "mpiio.h"

/*
 * What a rank hands out at a time. A round of MPI-IO costs agreements; it stays far below the 2 GiB
 * where MPI counts end. The kernel copies what still is in the processor's cache faster.
 */
#define MPIIO_ROUND_BYTES (CKPT_MIB * 16)
#define ROUND_BYTES CKPT_OWN_FILE_MIN
#define NS_PER_SEC INT64_C(1000000000)

struct ckpt_pack {
	struct ckpt_shard_out *out;
	struct ckpt_buf path; /* in the checkpoint */
	uint64_t node_bytes;  /* of all ranks of the node */
	uint64_t rounds;      /* of this rank; MPI-IO: of the one that has most */
	uint64_t at;	      /* where this rank's next bytes go */
	size_t next;	      /* chunk to look at next */
	uint64_t round_bytes;
	unsigned char *room; /* round_bytes */
	size_t filled;
	struct ckpt_mpiio io;
};

/* A process alone does without MPI. */
static bool uses_mpiio(const struct ckpt_pack *pack)
{
	const struct ckpt_mpi *job = pack->out->job;

	return job->config.io == CKPT_MPI_IO_MPIIO && job->comm != MPI_COMM_NULL;
}

/* The next chunk from @idx on that goes into the pack; plan->chunk_count: none. */
static size_t next_small(const struct ckpt_shard_out *out, size_t idx)
{
	while (idx < out->plan->chunk_count && !ckpt_shard_out_is_small(out, idx))
		idx++;
	return idx;
}

/* Bytes in all, and in how many rounds fill() hands them out. */
static uint64_t measure(struct ckpt_pack *pack)
{
	const struct ckpt_shard_out *out = pack->out;
	const struct ckpt_local_plan *plan = out->plan;
	uint64_t total = 0;
	uint64_t in_round = 0;

	pack->rounds = 0;
	for (size_t i = next_small(out, 0); i < plan->chunk_count; i = next_small(out, i + 1)) {
		uint64_t bytes = plan->chunks[i].size_bytes;

		if (pack->rounds == 0 || in_round + bytes > pack->round_bytes) {
			pack->rounds++;
			in_round = 0;
		}
		in_round += bytes;
		total += bytes;
	}
	return total;
}

/* One shard at @pack->filled of the room, with its record. */
static int put_shard(struct ckpt_pack *pack, size_t idx, struct ckpt_err *err)
{
	uint64_t size_bytes = pack->out->plan->chunks[idx].size_bytes;
	struct ckpt_known_shard *record = ckpt_shard_out_record(pack->out, idx);
	unsigned char *to = pack->room + pack->filled;
	struct timespec now;
	const void *data = NULL;
	int rc = record ? 0 : -ENOMEM;

	if (rc == 0)
		rc = ckpt_shard_out_bytes(pack->out, idx, 0, size_bytes, &data, err);
	if (rc == 0) {
		memcpy(to, data, size_bytes);
		rc = ckpt_sums_bytes(to, size_bytes, &record->shard);
	}
	if (rc < 0)
		return rc;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	record->shard.size_bytes = size_bytes;
	record->shard.mode = 0644;
	record->shard.mtime_ns = now.tv_sec * NS_PER_SEC + now.tv_nsec;
	record->shard.pack_offset_bytes = pack->at + pack->filled;
	record->shard.pack = strdup(pack->path.data);
	pack->filled += size_bytes;
	return record->shard.pack ? 0 : -ENOMEM;
}

/* As many shards as the room holds. */
static int fill(struct ckpt_pack *pack, struct ckpt_err *err)
{
	const struct ckpt_local_plan *plan = pack->out->plan;
	int rc = ckpt_job_cancelled(pack->out->job, err);

	pack->filled = 0;
	for (; rc == 0; pack->next++) {
		pack->next = next_small(pack->out, pack->next);
		if (pack->next == plan->chunk_count ||
		    pack->filled + plan->chunks[pack->next].size_bytes > pack->round_bytes)
			return 0;
		rc = put_shard(pack, pack->next, err);
	}
	return rc;
}

static int failed(const struct ckpt_pack *pack, int rc, const char *what, struct ckpt_err *err)
{
	return ckpt_err_sys(err, rc, "cannot %s pack '%s/%s'", what, pack->out->target->name.data,
			    pack->path.data);
}

/* The node's first rank makes the file at its full size. */
static int create(void *ctx, struct ckpt_err *err)
{
	struct ckpt_pack *pack = ctx;
	CKPT_CLOSE int fd = ckpt_io_openat(pack->out->target->dirfd, pack->path.data,
					   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
	int rc = fd < 0 ? fd : ckpt_io_fallocate(fd, 0, pack->node_bytes);

	if (rc == -EOPNOTSUPP)
		rc = ckpt_io_ftruncate(fd, pack->node_bytes);
	return rc < 0 ? failed(pack, rc, "make", err) : 0;
}

/* --- pwrite --------------------------------------------------------------------------------- */

static int write_rest(struct ckpt_pack *pack, int fd, struct ckpt_err *err)
{
	int rc = 0;

	do {
		rc = fill(pack, err);
		if (rc < 0)
			return rc;
		rc = ckpt_io_pwrite_full(fd, pack->room, pack->filled, pack->at);
		if (rc < 0)
			return failed(pack, rc, "write", err);
		ckpt_progress_add(pack->out->job, pack->filled);
		pack->at += pack->filled;
	} while (pack->filled > 0);
	rc = ckpt_io_fdatasync(fd);
	return rc < 0 ? failed(pack, rc, "sync", err) : 0;
}

int ckpt_pack_write(struct ckpt_pack *pack, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;

	if (uses_mpiio(pack) || pack->rounds == 0)
		return 0;
	fd = ckpt_io_openat(pack->out->target->dirfd, pack->path.data, O_WRONLY | O_NOFOLLOW, 0);
	return fd < 0 ? failed(pack, fd, "open", err) : write_rest(pack, fd, err);
}

/* --- MPI-IO ------------------------------------------------------------------------------- */

/* All ranks of the node; all have agreed just before, so that none keeps the others waiting. */
static int open_collective(void *ctx, struct ckpt_err *err)
{
	struct ckpt_pack *pack = ctx;

	pack->io.target = pack->out->target;
	pack->io.path = pack->path.data;
	return ckpt_mpiio_open(&pack->io, pack->out->job->node_comm, err);
}

static int write_round(struct ckpt_pack *pack, struct ckpt_err *err)
{
	int rc = ckpt_mpiio_write(&pack->io, pack->at, pack->room, pack->filled, err);

	if (rc < 0)
		return rc;
	ckpt_progress_add(pack->out->job, pack->filled);
	pack->at += pack->filled;
	return 0;
}

/*
 * The same number of rounds on every rank of the job; before each, all say whether they are still
 * well.
 */
static int write_rounds(struct ckpt_pack *pack, struct ckpt_err *err)
{
	struct ckpt_mpi *job = pack->out->job;
	int local = 0;

	for (uint64_t round = 0; round < pack->rounds; round++) {
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
	struct ckpt_pack *pack = ctx;

	return ckpt_mpiio_end(&pack->io, err);
}

static int write_mpiio(struct ckpt_pack *pack)
{
	struct ckpt_mpi *job = pack->out->job;
	struct ckpt_err err = CKPT_ERR_INIT;
	bool has_pack = pack->node_bytes > 0;
	int rc = ckpt_job_go_on(job, has_pack, open_collective, pack);

	if (rc == 0)
		rc = ckpt_job_agree(job, write_rounds(pack, &err), &err);
	if (rc == 0)
		return ckpt_job_go_on(job, has_pack, sync_collective, pack);
	/* All have just agreed and can close. */
	if (has_pack && pack->io.target)
		ckpt_mpiio_drop(&pack->io);
	return rc;
}

/* --- both --------------------------------------------------------------------------------- */

static int check_size(void *ctx, struct ckpt_err *err)
{
	struct ckpt_pack *pack = ctx;
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

/* Sizes and places that all ranks of the node must know. */
static int lay_out(struct ckpt_pack *pack)
{
	struct ckpt_mpi *job = pack->out->job;
	uint64_t bytes = measure(pack);
	int rc = ckpt_coll_node_sum(job, bytes, &pack->node_bytes);

	if (rc == 0)
		rc = ckpt_coll_before(job, true, bytes, &pack->at);
	if (rc == 0 && uses_mpiio(pack))
		rc = ckpt_coll_max(job, pack->rounds, &pack->rounds);
	return rc;
}

static bool leads(const struct ckpt_pack *pack)
{
	return pack->out->job->info.local_rank == 0 && pack->node_bytes > 0;
}

int ckpt_pack_begin(struct ckpt_shard_out *out, struct ckpt_pack **out_pack)
{
	struct ckpt_pack *pack = array_alloc(1, sizeof(*pack));
	int rc = ckpt_job_agree(out->job, pack ? 0 : -ENOMEM, NULL);

	*out_pack = pack;
	if (rc < 0)
		return rc;
	assert(pack);
	pack->out = out;
	pack->io.file = MPI_FILE_NULL;
	pack->round_bytes = uses_mpiio(pack) ? MPIIO_ROUND_BYTES : ROUND_BYTES;
	ckpt_buf_init(&pack->path);
	ckpt_buf_printf(&pack->path, CKPT_CONTROL_DIR "/pack-%05d", out->job->node_idx);
	rc = lay_out(pack);
	if (rc < 0)
		return rc;
	if (pack->rounds > 0)
		pack->room = malloc(pack->round_bytes);
	rc = ckpt_job_agree(out->job,
			    pack->room || pack->rounds == 0 ? ckpt_buf_check(&pack->path) : -ENOMEM,
			    NULL);
	return rc < 0 ? rc : ckpt_job_go_on(out->job, leads(pack), create, pack);
}

int ckpt_pack_end(struct ckpt_pack *pack)
{
	struct ckpt_mpi *job = pack->out->job;
	int rc = uses_mpiio(pack) ? write_mpiio(pack) : 0;

	return rc < 0 ? rc : ckpt_job_go_on(job, leads(pack), check_size, pack);
}

void ckpt_pack_free(struct ckpt_pack *pack)
{
	if (!pack)
		return;
	/* A broken MPI-IO call may still read the room. */
	if (!pack->out->job->broken)
		free(pack->room);
	ckpt_buf_release(&pack->path);
	free(pack);
}
