/*
 * commit_sums.c - the sums of a commit: every stored file is read once, on all
 * cores, and made durable. Sums that a writer left are used where the stamps
 * fit; of such a file no byte is read, and nothing is synced: its writer did
 * that before it summed.
 * Memory: a buffer a thread, and 8 bytes a block.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "base/pool.h"
#include "store/commit_internal.h"

/* From here on one syncfs is cheaper than a journal commit for each file. */
#define SYNC_EACH_MAX 256
/* Jobs waiting for a thread: enough to keep them busy. */
#define QUEUE_MAX 64

struct run {
	struct ckpt_commit *commit;
	struct ckpt_pool *pool;
	bool sync_each;
	atomic_bool stop;   /* a job failed: the others need not begin */
	pthread_mutex_t mu; /* protects rc and err */
	int rc;
	struct ckpt_err err;
};

struct job {
	struct run *run;
	struct ckpt_commit_file *file;
};

/* Keep the first failure: the others are mostly its echo. */
static void fail(struct run *run, int rc, const struct ckpt_err *err)
{
	pthread_mutex_lock(&run->mu);
	if (run->rc == 0) {
		run->rc = rc;
		run->err = *err;
	}
	pthread_mutex_unlock(&run->mu);
	atomic_store(&run->stop, true);
}

static int advance(void *ctx, uint64_t bytes)
{
	const struct job *job = ctx;
	struct run *run = job->run;

	if (atomic_load(&run->stop))
		return -ECANCELED;
	/*
	 * Somebody waits in open(2) to write this very file: better to say so now than when all is
	 * read.
	 */
	if (job->file->leased && !ckpt_lease_held(job->file->fd))
		return -EBUSY;
	atomic_fetch_add(&run->commit->bytes_done, bytes);
	return ckpt_commit_tick(run->commit, NULL);
}

/* A gap of a pack holds something: the file is not what its writer described. */
static int gap_is_dirty(void *ctx, const struct ckpt_pack_dirt *dirt)
{
	*(struct ckpt_pack_dirt *)ctx = *dirt;
	return -EBADMSG;
}

static int check_pack(const struct ckpt_commit *commit, const struct ckpt_commit_file *file,
		      struct ckpt_err *err)
{
	CKPT_FREE const struct ckpt_shard **shards =
		array_alloc(file->packed_count, sizeof(void *));
	const struct ckpt_shard *last = &file->packed[file->packed_count - 1]->shard;
	struct ckpt_pack_dirt dirt = { .start_bytes = 0 };
	uint64_t end;
	int rc;

	if (!shards)
		return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", commit->name);
	for (size_t i = 0; i < file->packed_count; i++)
		shards[i] = &file->packed[i]->shard;
	if (!num_add(last->pack_offset_bytes, last->size_bytes, &end) ||
	    end > file->stamp.size_bytes)
		return ckpt_err_set(
			err, -EINVAL,
			"cannot commit '%s': '%s' has %llu bytes and ends before the shard '%s' does; save it again",
			commit->name, file->path, (unsigned long long)file->stamp.size_bytes,
			last->path);
	rc = ckpt_pack_check_gaps(file->fd, shards, file->packed_count, gap_is_dirty, &dirt);
	if (rc == -EBADMSG)
		return ckpt_err_set(
			err, -EINVAL,
			"cannot commit '%s': bytes %llu-%llu of '%s' belong to no shard and are not zero; save it again",
			commit->name, (unsigned long long)dirt.start_bytes,
			(unsigned long long)dirt.end_bytes - 1, file->path);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot read '%s'", commit->name,
				    file->path);
	return 0;
}

static int sum_file(struct job *job, struct ckpt_err *err)
{
	const struct ckpt_commit *commit = job->run->commit;
	struct ckpt_commit_file *file = job->file;
	int rc;

	if (file->packed)
		return check_pack(commit, file, err);
	rc = ckpt_sums_file(file->fd, file->stamp.size_bytes, &file->sums, advance, job);
	if (rc == -EBUSY)
		return ckpt_commit_busy(commit, file->path, err);
	if (rc == -ECANCELED)
		return ckpt_err_set(err, rc, "the commit of '%s' was cancelled; it stays open",
				    commit->name);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot read '%s/%s'",
				    commit->name, commit->name, file->path);
	return 0;
}

static void sum_job(void *arg)
{
	struct job *job = arg;
	struct run *run = job->run;
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	if (atomic_load(&run->stop))
		return;
	if (ckpt_commit_known_fits(job->file))
		return;
	rc = sum_file(job, &err);
	if (rc == 0 && run->sync_each) {
		rc = ckpt_io_fdatasync(job->file->fd);
		if (rc < 0)
			ckpt_err_sys(&err, rc, "cannot commit '%s': cannot make '%s/%s' durable",
				     run->commit->name, run->commit->name, job->file->path);
	}
	if (rc < 0)
		fail(run, rc, &err);
}

static int larger_first(const void *a, const void *b)
{
	uint64_t left = ((const struct job *)a)->file->stamp.size_bytes;
	uint64_t right = ((const struct job *)b)->file->stamp.size_bytes;

	return left > right ? -1 : left < right;
}

/* All files of a slice; the largest first, so that no thread is left alone with one at the end. */
static int sum_slice(struct run *run, size_t start, size_t end, struct ckpt_err *err)
{
	CKPT_FREE struct job *jobs = array_alloc(end - start, sizeof(*jobs));
	int rc = 0;

	if (!jobs)
		return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", run->commit->name);
	for (size_t i = start; i < end; i++)
		jobs[i - start] = (struct job){ .run = run, .file = &run->commit->files[i] };
	qsort(jobs, end - start, sizeof(*jobs), larger_first);
	for (size_t i = 0; rc == 0 && i < end - start; i++)
		rc = ckpt_pool_submit(run->pool, sum_job, &jobs[i]);
	ckpt_pool_wait(run->pool);
	if (run->rc < 0) {
		if (err)
			*err = run->err;
		return run->rc;
	}
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot commit '%s'", run->commit->name) : 0;
}

static int sum_slices(struct run *run, struct ckpt_err *err)
{
	struct ckpt_commit *commit = run->commit;
	size_t end;

	for (size_t start = 0; start < commit->file_count; start = end) {
		int rc = ckpt_commit_open_slice(commit, start, &end, err);

		if (rc == 0)
			rc = sum_slice(run, start, end, err);
		if (rc < 0)
			return rc;
		if (start > 0 || end < commit->file_count)
			ckpt_commit_close_slice(commit, start, end);
	}
	return 0;
}

/* What has to be read: bytes, and the files that have to be synced, too. */
static uint64_t bytes_to_hash(const struct ckpt_commit *commit, size_t *out_files)
{
	uint64_t total = 0;

	*out_files = 0;
	for (size_t i = 0; i < commit->file_count; i++) {
		if (ckpt_commit_known_fits(&commit->files[i]))
			continue;
		++*out_files;
		if (!commit->files[i].packed)
			total += commit->files[i].stamp.size_bytes;
	}
	return total;
}

static int sync_file_system(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = ckpt_io_syncfs(commit->dirfd);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot make its files durable",
				    commit->name);
	commit->file_system_synced = true;
	return 0;
}

int ckpt_commit_sum(struct ckpt_commit *commit, struct ckpt_err *err)
{
	struct run run = { .commit = commit };
	size_t unsynced;
	int rc = ckpt_pool_new(0, QUEUE_MAX, &run.pool, err);

	if (rc < 0)
		return rc;
	pthread_mutex_init(&run.mu, NULL);
	commit->bytes_total = bytes_to_hash(commit, &unsynced);
	run.sync_each = unsynced <= SYNC_EACH_MAX;
	rc = sum_slices(&run, err);
	ckpt_pool_free(run.pool);
	pthread_mutex_destroy(&run.mu);
	return rc == 0 && !run.sync_each ? sync_file_system(commit, err) : rc;
}

/* The folders that the checkpoint lies in: its name must outlive a crash, too. */
static int sync_above(const struct ckpt_commit *commit, const char *name)
{
	CKPT_FREE char *above = strdup(name);
	int rc = above ? ckpt_io_sync_dir(ckpt_store_fd(commit->store), ".") : -ENOMEM;

	while (rc == 0 && strchr(above, '/')) {
		CKPT_CLOSE int fd = -1;

		*strrchr(above, '/') = '\0';
		fd = ckpt_io_open_beneath(ckpt_store_fd(commit->store), above,
					  O_RDONLY | O_DIRECTORY, 0);
		rc = fd < 0 ? fd : ckpt_io_sync_dir(fd, ".");
	}
	return rc;
}

static int sync_dirs(struct ckpt_commit *commit)
{
	const struct ckpt_tree_list *dirs = &commit->tree.dirs;
	int rc = 0;

	/* By path a folder comes before what is in it: backwards is from below. */
	for (size_t i = commit->file_system_synced ? 0 : dirs->count; rc == 0 && i > 0; i--) {
		CKPT_CLOSE int fd = ckpt_io_open_beneath(commit->dirfd, dirs->items[i - 1].path,
							 O_RDONLY | O_DIRECTORY, 0);

		rc = fd < 0 ? fd : ckpt_io_sync_dir(fd, ".");
	}
	if (rc == 0)
		rc = ckpt_io_sync_dir(commit->dirfd, CKPT_CONTROL_DIR);
	if (rc == 0)
		rc = ckpt_io_sync_dir(commit->dirfd, ".");
	if (rc == 0)
		rc = sync_above(commit, commit->name);
	if (rc == 0 && ckpt_commit_is_temporary(commit))
		rc = sync_above(commit, commit->final_name.data);
	return rc;
}

int ckpt_commit_sync_dirs(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = 0;

	if (!commit->file_system_synced && commit->tree.dirs.count > SYNC_EACH_MAX)
		rc = sync_file_system(commit, err);
	if (rc < 0)
		return rc;
	rc = sync_dirs(commit);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot make its folders durable",
				    commit->name);
	return 0;
}
