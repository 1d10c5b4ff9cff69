/* verify_shared.c - see verify_shared.h. */
#include "verify_shared.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/pool.h"
#include "collective.h"
#include "job_progress.h"
#include "store/store.h"
#include "wire.h"

/* How often the thread that called the library looks around while others read. */
#define LOOK_NS 100000000

/* This rank's part. */
struct part {
	const struct ckpt_verify_shared *whole;
	struct ckpt_buf found; /* each a string */
	struct ckpt_verify_result result;
	uint64_t bytes_told;
	atomic_bool stops;
	int rc;
	struct ckpt_err err;
};

void ckpt_verify_shared_init(struct ckpt_verify_shared *verify, struct ckpt_mpi *job,
			     const char *folder, const char *name)
{
	*verify = (struct ckpt_verify_shared){ .job = job, .folder = folder, .name = name };
}

void ckpt_verify_shared_release(struct ckpt_verify_shared *verify)
{
	int rank_count = verify->job->info.global_world_size;

	free(verify->lines);
	for (int rank = 0; verify->found && rank < rank_count; rank++)
		ckpt_buf_release(&verify->found[rank]);
	free(verify->found);
	*verify = (struct ckpt_verify_shared){ .job = verify->job };
}

/* --- one rank ------------------------------------------------------------------------------- */

static void keep_finding(void *ctx, const char *line)
{
	struct part *part = ctx;

	ckpt_wire_put_str(&part->found, line);
}

static int watch(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	struct part *part = ctx;

	(void)bytes_total;
	ckpt_progress_add(part->whole->job, bytes_done - part->bytes_told);
	part->bytes_told = bytes_done;
	return atomic_load(&part->stops);
}

/* On its share of the node's processors. */
static int verify_part(struct part *part, struct ckpt_err *err)
{
	const struct ckpt_verify_shared *whole = part->whole;
	const struct ckpt_mpi_rank_info *rank = &whole->job->info;
	const struct ckpt_verify_options options = {
		.thread_count = num_max(1, ckpt_cpu_count() / (size_t)rank->local_world_size),
		.finding = keep_finding,
		.progress = watch,
		.ctx = part,
		.part_idx = (uint64_t)rank->global_rank,
		.part_count = (uint64_t)rank->global_world_size,
	};
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, whole->folder, O_RDONLY | O_DIRECTORY, 0);
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open checkpoint '%s'", whole->folder);
	rc = ckpt_verify(fd, whole->name, &options, &part->result, err);
	return rc < 0 ? rc : ckpt_buf_check(&part->found);
}

static void *verify_beside(void *arg)
{
	struct part *part = arg;

	part->rc = verify_part(part, &part->err);
	return NULL;
}

/* Meanwhile this thread, which may call MPI, tells how far it is, and hears whether to go on. */
static int look_after(struct part *part, pthread_t thread, struct ckpt_err *err)
{
	struct timespec until;
	int rc = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	do {
		until.tv_nsec += LOOK_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		if (rc == 0)
			rc = ckpt_job_cancelled(part->whole->job, err);
		if (rc < 0)
			atomic_store(&part->stops, true);
	} while (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
	return rc;
}

/* Failures that say nothing about the files. */
static bool is_ours(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -ECANCELED || rc == -EINTR;
}

static int work(void *ctx, struct ckpt_err *err)
{
	struct part *part = ctx;
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, verify_beside, part);

	if (rc > 0)
		return ckpt_err_sys(err, -rc, "cannot start a thread to verify '%s'",
				    part->whole->name);
	rc = look_after(part, thread, err);
	if (rc < 0 || part->rc == 0)
		return rc;
	if (!part->whole->any_failure_is_damage || is_ours(part->rc))
		return ckpt_err_set(err, part->rc, "%s", part->err.msg);
	ckpt_wire_put_str(&part->found, part->err.msg);
	return ckpt_buf_check(&part->found);
}

/* --- all ranks ------------------------------------------------------------------------------ */

/* Block 9 before block 10. */
static int by_natural_order(const void *a, const void *b)
{
	return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

static int collect_lines(struct ckpt_verify_shared *verify)
{
	size_t cap = 0;
	size_t count = 0;

	for (int rank = 0; rank < verify->job->info.global_world_size; rank++) {
		struct ckpt_wire in = ckpt_wire_over(&verify->found[rank]);

		while (in.at < in.len_bytes) {
			if (array_grow(&verify->lines, &cap, count, sizeof(*verify->lines)) < 0)
				return -ENOMEM;
			verify->lines[count++] = ckpt_wire_str(&in);
		}
	}
	verify->finding_count = count;
	return 0;
}

/* What concerns the whole checkpoint, or a shard that several ranks read, is found more than once. */
static int merge_lines(struct ckpt_verify_shared *verify)
{
	const char **lines;
	uint64_t kept = 0;
	int rc = collect_lines(verify);

	lines = verify->lines;
	if (rc < 0 || verify->finding_count == 0)
		return rc;
	qsort(lines, verify->finding_count, sizeof(*lines), by_natural_order);
	for (uint64_t i = 0; i < verify->finding_count; i++) {
		if (kept == 0 || strcmp(lines[i], lines[kept - 1]) != 0)
			lines[kept++] = lines[i];
	}
	verify->finding_count = kept;
	return 0;
}

static int gather(struct ckpt_verify_shared *verify, const struct part *part)
{
	struct ckpt_mpi *job = verify->job;
	int rc = ckpt_coll_gather(job, &part->found, verify->found);

	if (rc == 0)
		rc = ckpt_coll_sum(job, part->result.shard_count, &verify->shard_count);
	if (rc == 0)
		rc = ckpt_coll_sum(job, part->result.size_bytes, &verify->size_bytes);
	if (rc == 0)
		rc = ckpt_job_agree(job, ckpt_job_is_coordinator(job) ? merge_lines(verify) : 0,
				    NULL);
	/* Only the coordinator has counted. */
	return rc < 0 ? rc : ckpt_coll_max(job, verify->finding_count, &verify->finding_count);
}

/* How much there is to read: the waits depend on it. What cannot be told now is found damaged soon. */
static int tell_size(struct ckpt_verify_shared *verify)
{
	struct ckpt_mpi *job = verify->job;
	uint64_t size_bytes = 0;

	if (ckpt_job_is_coordinator(job)) {
		CKPT_CLOSE int fd =
			ckpt_io_openat(AT_FDCWD, verify->folder, O_RDONLY | O_DIRECTORY, 0);
		struct ckpt_manifest manifest;

		if (fd >= 0 && ckpt_manifest_load(fd, verify->name, &manifest, NULL) == 0) {
			size_bytes = ckpt_manifest_size_bytes(&manifest);
			ckpt_manifest_release(&manifest);
		}
	}
	int rc = ckpt_coll_max(job, size_bytes, &size_bytes);

	return rc < 0 ? rc
		      : ckpt_job_moving(job, CKPT_MPI_READ_DATA,
					size_bytes / (uint64_t)job->info.global_world_size);
}

int ckpt_verify_shared_run(struct ckpt_verify_shared *verify)
{
	struct ckpt_mpi *job = verify->job;
	size_t rank_count = (size_t)job->info.global_world_size;
	struct part part = { .whole = verify };
	int rc;

	job->phase = CKPT_MPI_READ_DATA;
	ckpt_buf_init(&part.found);
	verify->found = array_alloc(rank_count, sizeof(*verify->found));
	for (size_t rank = 0; verify->found && rank < rank_count; rank++)
		ckpt_buf_init(&verify->found[rank]);
	rc = ckpt_job_agree(job, verify->found ? 0 : -ENOMEM, NULL);
	if (rc == 0)
		rc = tell_size(verify);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_READ_DATA, true, work, &part);
	if (rc == 0)
		ckpt_job_moved(job);
	if (rc == 0)
		rc = gather(verify, &part);
	ckpt_buf_release(&part.found);
	return rc;
}
