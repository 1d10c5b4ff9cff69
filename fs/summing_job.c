/*
 * summing_job.c - the workers: a file is read, summed and made durable, and was the same all along.
 *
 * What makes its stamps speak for its bytes from then on:
 * - For a moment a read lease is had, before the first byte is read and after the last: then no
 *   process has it open or mapped for writing, through a mount or not. Who maps it later faults
 *   when it first writes, and that changes mtime and ctime, as write(2) does.
 * - Where there are no leases, fdatasync(2) comes before reading: it write-protects the pages of
 *   mappings, with the same effect.
 * - The ctime is older than the clock's tick before the first byte is read: a change in the same
 *   tick would not show.
 * Reading need not wait for the disk otherwise: what is dirty is what will be written.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/num.h"
#include "base/path.h"
#include "plain.h"
#include "summing_internal.h"

/* Small files that a worker takes at a time. */
#define BATCH_MAX 256U
/*
 * From so many on one syncfs(2) is faster than an fdatasync(2) each, though it waits for what
 * others have written, too (20,000 files: 0.4 s against 5 s, measured).
 */
#define SYNC_ALL_MIN 64U
/* Larger files are synced beside being read: both take long. */
#define SYNC_BESIDE_BYTES (64 * CKPT_MIB)
/* A commit that waits does not insist on a file that goes on changing. */
#define URGENT_TRIES 3U
/* Training comes first: what is summed is no hurry. */
#define WORKER_NICE 5

struct job {
	struct sum_pick pick;
	atomic_bool cancel;
	struct summing *s;
	struct ckpt_buf path; /* below the store, when it was opened */
	int fd;
	bool is_leased; /* nobody could write it when reading began */
	bool is_synced;
	struct stat st; /* before the first byte was read */
	struct ckpt_shard sums;
	/*
	 * 0; -EAGAIN somebody can write it; -ESTALE it has changed; -ENOENT it is gone; -ECANCELED;
	 * else it could not be read or made durable.
	 */
	int rc;
};

/* --- one file ------------------------------------------------------------------------------- */

/* 1: no process has it open for writing, or mapped; 0: this file system cannot tell; -EAGAIN. */
static int probe(int fd)
{
	/* Should the lease be asked back within this moment, its signal must not end us. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return 0;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : 0;
	/* Not held: who opens the file for writing would have to wait. */
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return 1;
}

/* Part of a committed checkpoint by now? Then nobody asks for its sums. */
static bool is_committed(const struct summing *s, const char *path)
{
	enum ckpt_guard guard = CKPT_GUARD_FREE;

	return ckpt_guard_of(ckpt_store_fd(s->fs->store), path, &guard, NULL) == 0 &&
	       guard == CKPT_GUARD_COMMITTED;
}

static int job_open(struct job *job)
{
	int fd = plain_open(job->s->fs, job->pick.node, O_RDONLY, &job->path, &job->st);

	if (fd < 0)
		return fd == -ESTALE ? -ENOENT : fd;
	job->fd = fd;
	if (!S_ISREG(job->st.st_mode) || job->st.st_dev != job->pick.key.dev ||
	    job->st.st_ino != job->pick.key.ino || is_committed(job->s, job->path.data))
		return -ENOENT;
	return 0;
}

static bool is_large(const struct job *job)
{
	return job->rc == 0 && (uint64_t)job->st.st_size >= SUMMING_SMALL_BYTES;
}

static int job_sync(struct job *job)
{
	if (!job->is_synced)
		job->rc = ckpt_io_fdatasync(job->fd);
	job->is_synced = job->rc == 0;
	return job->rc;
}

static bool is_cancelled(const struct job *job)
{
	return atomic_load(&job->cancel) || atomic_load(&job->s->stopping) || job->s->fs->ending;
}

static int on_progress(void *ctx, uint64_t bytes)
{
	(void)bytes;
	return is_cancelled(ctx) ? -ECANCELED : 0;
}

/* From here on the entry's stamps are those that it will be known by, unless it is restamped. */
static bool note_stamps(struct job *job)
{
	struct sum_entry *entry;

	pthread_mutex_lock(&job->s->mu);
	entry = summing_find_stint_locked(job->s, &job->pick);
	if (entry)
		entry->stamps = ckpt_stamps_of(&job->st);
	pthread_mutex_unlock(&job->s->mu);
	return entry != NULL;
}

/* How long ago it was changed; negative where its server's clock is ahead of ours. */
static int64_t age_ms(const struct job *job)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)(now.tv_sec - job->st.st_ctim.tv_sec) * 1000 +
	       (now.tv_nsec - job->st.st_ctim.tv_nsec) / 1000000;
}

/* Changed since wait_out_tick()? Where the clocks differ, having waited has to do. */
static bool is_fresh(const struct job *job)
{
	int64_t age = age_ms(job);

	return age >= 0 && age < (int64_t)SUMMING_RACY_MS;
}

static int job_begin(struct job *job)
{
	int rc = probe(job->fd);

	if (rc < 0)
		return rc;
	job->is_leased = rc == 1;
	if (!job->is_leased && job_sync(job) < 0)
		return job->rc;
	rc = ckpt_io_fstat(job->fd, &job->st);
	if (rc == 0 && is_fresh(job))
		rc = -ESTALE;
	if (rc == 0 && (!note_stamps(job) || is_cancelled(job)))
		rc = -ECANCELED;
	return rc;
}

static void *sync_beside(void *arg)
{
	struct job *job = arg;
	int rc = ckpt_io_fdatasync(job->fd);

	/* A thread's result is a pointer. NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (void *)(intptr_t)-rc;
}

static int read_sums(struct job *job)
{
	return ckpt_sums_file(job->fd, (uint64_t)job->st.st_size, &job->sums, on_progress, job);
}

/* Read it while it goes to the disk. */
static int sum_and_sync(struct job *job)
{
	pthread_t thread;
	void *sync_rc = NULL;
	int rc;

	if (job->is_synced || pthread_create(&thread, NULL, sync_beside, job) != 0)
		return read_sums(job);
	rc = read_sums(job);
	/* Waits for the disk, as its fdatasync(2) by itself would. */
	pthread_join(thread, &sync_rc);
	job->is_synced = sync_rc == NULL;
	return rc < 0 ? rc : -(int)(intptr_t)sync_rc;
}

static void job_sum(struct job *job)
{
	if (job->rc == 0)
		job->rc = job_begin(job);
	if (job->rc == 0)
		job->rc = (uint64_t)job->st.st_size >= SYNC_BESIDE_BYTES ? sum_and_sync(job)
									 : read_sums(job);
}

/* --- many ------------------------------------------------------------------------------------- */

static void wait_out_tick(const struct job *jobs, size_t count)
{
	const struct timespec pause = { .tv_nsec = SUMMING_RACY_MS * 1000000L };
	bool racy = false;

	for (size_t i = 0; i < count && !racy; i++)
		racy = jobs[i].rc == 0 && age_ms(&jobs[i]) < (int64_t)SUMMING_RACY_MS;
	if (racy)
		nanosleep(&pause, NULL);
}

/* One syncfs(2) for all that lie on the store's own file system. */
static void sync_all(struct job *jobs, size_t count)
{
	int fd = -1;
	size_t dirty = 0;

	for (size_t i = 0; i < count; i++) {
		if (jobs[i].rc == 0 && !jobs[i].is_synced &&
		    jobs[i].st.st_dev == jobs[i].s->fs->dev) {
			fd = jobs[i].fd;
			dirty++;
		}
	}
	/* Should it fail, it does not say for which: then each is asked. */
	if (dirty < SYNC_ALL_MIN || ckpt_io_syncfs(fd) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		jobs[i].is_synced = jobs[i].is_synced || jobs[i].st.st_dev == jobs[i].s->fs->dev;
}

static void log_failure(const struct job *job)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, job->path.data);
	ckpt_log(
		"cannot read '%s' or make it durable: %s; its checkpoint cannot be committed through this mount until it is written again",
		shown.data, ckpt_err_name(job->rc));
	ckpt_buf_release(&shown);
}

/* Durable, and the same all along? */
static void job_check(struct job *job, struct ckpt_stamps *out)
{
	struct stat after;

	if (job->rc == 0 && job_sync(job) == 0)
		job->rc = ckpt_io_fstat(job->fd, &after);
	if (job->rc == 0) {
		*out = ckpt_stamps_of(&after);
		if (probe(job->fd) < 0)
			job->rc = -EAGAIN;
	}
}

static void again_locked(struct summing *s, struct sum_entry *entry)
{
	bool soon = entry->urgent && ++entry->tries < URGENT_TRIES;

	entry->wasted += entry->is_large;
	if (entry->urgent && !soon)
		entry->refused = true; /* for those who wait it is as good as open */
	summing_queue_locked(s, entry, soon ? SUMMING_RACY_MS : summing_delay_of(entry));
}

/* Returns the look-up to be given back. */
static fuse_ino_t finish_locked(struct job *job, struct sum_entry *entry,
				const struct ckpt_stamps *after)
{
	struct summing *s = job->s;

	switch (job->rc) {
	case 0:
		if (!ckpt_stamps_equal(&entry->stamps, after)) {
			again_locked(s, entry);
			break;
		}
		summing_turn_locked(s, entry, SUM_SUMMED);
		entry->sums = job->sums;
		job->sums.sums = NULL;
		break;
	case -EAGAIN:
		/* The kernel lets go of what was closed a little after it says so. */
		entry->refused = !entry->urgent || ++entry->tries >= URGENT_TRIES;
		summing_queue_locked(s, entry,
				     entry->refused ? SUMMING_REFUSED_MS : SUMMING_RACY_MS);
		break;
	case -ESTALE:
	case -ECANCELED:
		again_locked(s, entry);
		break;
	case -ENOENT:
		return summing_remove_locked(s, entry);
	default:
		summing_turn_locked(s, entry, SUM_FAILED);
		return summing_unhold_locked(entry);
	}
	return 0;
}

static void job_finish(struct job *job)
{
	struct summing *s = job->s;
	struct ckpt_stamps after = { 0 };
	struct sum_entry *entry;
	fuse_ino_t node = 0;

	job_check(job, &after);
	pthread_mutex_lock(&s->mu);
	entry = summing_find_stint_locked(s, &job->pick);
	if (entry) {
		node = finish_locked(job, entry, &after);
		if (s->lists[SUM_QUEUED].count + s->lists[SUM_RUNNING].count == 0 ||
		    s->settling > 0)
			summing_kick_locked(s);
		pthread_cond_broadcast(&s->advanced);
	}
	pthread_mutex_unlock(&s->mu);
	summing_forget(s, node);
	if (entry && job->rc < 0 && job->rc != -EAGAIN && job->rc != -ESTALE &&
	    job->rc != -ECANCELED && job->rc != -ENOENT)
		log_failure(job);
}

static void job_release(struct job *job)
{
	if (job->fd >= 0)
		close(job->fd);
	free(job->sums.sums);
	ckpt_buf_release(&job->path);
}

/* A large one comes alone, so that other workers have something to do. */
static void give_back(struct job *job)
{
	struct sum_entry *entry;

	pthread_mutex_lock(&job->s->mu);
	entry = summing_find_stint_locked(job->s, &job->pick);
	if (entry) {
		entry->is_large = true;
		summing_queue_locked(job->s, entry, 0);
	}
	pthread_mutex_unlock(&job->s->mu);
	job->rc = -ECANCELED;
}

static void run_batch(struct job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		jobs[i].rc = job_open(&jobs[i]);
		if (count > 1 && is_large(&jobs[i]))
			give_back(&jobs[i]);
	}
	wait_out_tick(jobs, count);
	for (size_t i = 0; i < count; i++)
		job_sum(&jobs[i]);
	sync_all(jobs, count);
	for (size_t i = 0; i < count; i++) {
		job_finish(&jobs[i]);
		job_release(&jobs[i]);
	}
}

/* --- the worker ------------------------------------------------------------------------------- */

static void take_locked(struct summing *s, struct sum_entry *entry, struct job *job)
{
	*job = (struct job){ .s = s, .fd = -1 };
	atomic_init(&job->cancel, false);
	ckpt_buf_init(&job->path);
	summing_turn_locked(s, entry, SUM_RUNNING);
	entry->cancel = &job->cancel;
	entry->refused = false;
	job->pick =
		(struct sum_pick){ .key = entry->key, .node = entry->node, .stint = entry->stint };
}

/* What is due: one large file, or small ones. */
static size_t take_batch_locked(struct summing *s, struct job *jobs)
{
	uint64_t now_ms = ckpt_clock_mono_ms();
	struct sum_entry *entry;
	size_t count = 0;

	while (count < BATCH_MAX && (entry = s->lists[SUM_QUEUED].first) &&
	       entry->due_ms <= now_ms && (count == 0 || !entry->is_large)) {
		bool alone = entry->is_large;

		take_locked(s, entry, &jobs[count++]);
		if (alone)
			break;
	}
	return count;
}

static size_t wait_for_batch(struct summing *s, struct job *jobs)
{
	size_t count = 0;

	pthread_mutex_lock(&s->mu);
	while (!s->stopping && (count = take_batch_locked(s, jobs)) == 0) {
		const struct sum_entry *next = s->lists[SUM_QUEUED].first;

		summing_wait_locked(s, &s->queued, next ? next->due_ms : UINT64_MAX);
	}
	pthread_mutex_unlock(&s->mu);
	return count;
}

void summing_work(struct summing *s)
{
	struct job *jobs = array_alloc(BATCH_MAX, sizeof(*jobs));
	size_t count;

	if (!jobs)
		return; /* commits do without */
	/* Where it may not be given up, it is as quick as the rest. */
	ckpt_ignore(setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE));
	while ((count = wait_for_batch(s, jobs)) > 0)
		run_batch(jobs, count);
	free(jobs);
}
