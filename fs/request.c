/* request.c - see request.h. */
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "control_dir.h"
#include "dir.h"
#include "node.h"
#include "open_file.h"
#include "slots.h"
#include "view_trees.h"

/*
 * How often interrupted requests are looked at: a killed caller waits that long, and 100 ms is
 * promised.
 */
#define WATCH_MS 40
/* How long an open goes on waiting for a verification after its caller has caught a signal. */
#define PATIENCE_MS 1000U
/*
 * How often a request looks again for entries that the index has lost: others may delete it at any
 * time.
 */
#define LOADS_MAX 4U

static struct {
	pthread_mutex_t mu;
	pthread_cond_t wake;
	pthread_t thread;
	/* Protected by mu. */
	struct request *first;
	bool stopping;
} watch = { .mu = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

void request_init(struct request *rq, fuse_req_t req, fuse_ino_t ino,
		  int (*run)(struct request *rq))
{
	memset(rq, 0, sizeof(*rq));
	rq->req = req;
	rq->fs = fs_of(req);
	rq->ino = ino;
	rq->run = run;
	rq->uid = fuse_req_ctx(req)->uid;
	rq->gid = fuse_req_ctx(req)->gid;
	atomic_init(&rq->claimed, false);
	atomic_init(&rq->parked, false);
}

bool request_claim(struct request *rq)
{
	if (!rq->queued)
		return true;
	if (atomic_exchange(&rq->claimed, true))
		return false;
	/* Waits for an interrupt that is being handled; from here on none finds us. */
	fuse_req_interrupt_func(rq->req, NULL, NULL);
	return true;
}

bool request_given_up(const struct request *rq)
{
	return rq->queued && atomic_load(&rq->claimed);
}

void request_reply_err(struct request *rq, int positive_errno)
{
	/* A reply fails when the kernel has given up the request: nothing hangs on an error. */
	if (request_claim(rq))
		ckpt_ignore(fuse_reply_err(rq->req, positive_errno));
}

/* --- interrupts ------------------------------------------------------------------------ */

static void on_interrupt(fuse_req_t req, void *data)
{
	struct request *rq = data;

	if (rq->eintr_ok) {
		/* libfuse holds the request's own lock here, so no claim: the exchange alone. */
		if (!atomic_exchange(&rq->claimed, true))
			ckpt_ignore(fuse_reply_err(req, EINTR));
		return;
	}
	pthread_mutex_lock(&watch.mu);
	if (!rq->watched && !atomic_load(&rq->claimed)) {
		rq->watched = true;
		rq->watched_ms = ckpt_clock_mono_ms();
		rq->next_watched = watch.first;
		watch.first = rq;
		pthread_cond_signal(&watch.wake);
	}
	pthread_mutex_unlock(&watch.mu);
}

static void unwatch_locked(struct request *rq)
{
	struct request **slot = &watch.first;

	if (!rq->watched)
		return;
	while (*slot != rq)
		slot = &(*slot)->next_watched;
	*slot = rq->next_watched;
	rq->watched = false;
}

/* The signal sets of one line of /proc/PID/status hold SIGKILL. */
static bool line_has_kill(const char *status, const char *key)
{
	const char *line = strstr(status, key);
	uint64_t set;

	/* Hexadecimal, as the kernel prints it; errors read as an empty set. */
	set = line ? strtoull(line + strlen(key), NULL, 16) : 0;
	return set >> (SIGKILL - 1) & 1;
}

/*
 * The calling thread is gone or has been sent SIGKILL (which is what any deadly signal turns
 * into).
 */
static bool is_dying(pid_t pid)
{
	char path[64];
	char status[4096];
	ssize_t got;
	int fd;

	if (snprintf(path, sizeof(path), "/proc/%d/status", (int)pid) < 0)
		return false;
	fd = ckpt_io_openat(AT_FDCWD, path, O_RDONLY, 0);
	if (fd < 0)
		return fd == -ENOENT;
	got = ckpt_io_pread(fd, status, sizeof(status) - 1, 0);
	close(fd);
	if (got < 0)
		return got == -ESRCH;
	status[got] = '\0';
	return line_has_kill(status, "SigPnd:") || line_has_kill(status, "ShdPnd:");
}

/* Nothing can be known of a caller in a foreign pid namespace (0). */
static bool may_give_up(const struct request *rq)
{
	if (atomic_load(&rq->parked) && ckpt_clock_mono_ms() - rq->watched_ms >= PATIENCE_MS)
		return true;
	return rq->pid != 0 && is_dying(rq->pid);
}

/* Take one watched request that is to be given up; NULL when there is none (left). */
static fuse_req_t next_to_give_up(void)
{
	fuse_req_t req = NULL;
	struct request *rq;

	pthread_mutex_lock(&watch.mu);
	for (rq = watch.first; rq && !req; rq = rq->next_watched) {
		if (!atomic_load(&rq->claimed) && may_give_up(rq) &&
		    !atomic_exchange(&rq->claimed, true))
			req = rq->req;
	}
	pthread_mutex_unlock(&watch.mu);
	return req;
}

/* Sleep until something is watched, then WATCH_MS; false: the mount ends. */
static bool wait_for_watched(void)
{
	const struct timespec pause = { .tv_nsec = WATCH_MS * 1000000L };
	bool stopping;

	pthread_mutex_lock(&watch.mu);
	while (!watch.first && !watch.stopping)
		pthread_cond_wait(&watch.wake, &watch.mu);
	stopping = watch.stopping;
	pthread_mutex_unlock(&watch.mu);
	if (!stopping)
		nanosleep(&pause, NULL);
	return !stopping;
}

static void *watch_main(void *arg)
{
	fuse_req_t req;

	do {
		while ((req = next_to_give_up())) {
			struct fs *fs = fs_of(req);

			stats_add(&fs->stats.interrupted_requests, 1);
			fuse_req_interrupt_func(req, NULL, NULL);
			ckpt_ignore(fuse_reply_err(req, EINTR));
		}
	} while (wait_for_watched());
	return arg;
}

int request_watch_start(struct ckpt_err *err)
{
	sigset_t all;
	sigset_t old;
	int rc;

	watch.stopping = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&watch.thread, NULL, watch_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return ckpt_err_sys(err, -rc, "cannot start a thread");
	return 0;
}

void request_watch_stop(void)
{
	pthread_mutex_lock(&watch.mu);
	watch.stopping = true;
	pthread_cond_signal(&watch.wake);
	pthread_mutex_unlock(&watch.mu);
	pthread_join(watch.thread, NULL);
}

/* --- running ------------------------------------------------------------------------------ */

static struct ckpt_pool *pool_of(const struct fs *fs, enum lane lane)
{
	switch (lane) {
	case LANE_READS:
		return fs->reads;
	case LANE_WRITES:
		return fs->writes;
	case LANE_COMMITS:
		return fs->commits;
	case LANE_TASKS:
		break;
	}
	return fs->tasks;
}

/* What a request owns. */
static void give_back(const struct request *rq)
{
	free(rq->control);
	free(rq->arg);
	if (rq->handle)
		handle_put(rq->fs, rq->handle);
	if (rq->other_handle)
		handle_put(rq->fs, rq->other_handle);
	if (rq->stream)
		dir_stream_put(rq->stream);
}

static void request_free(struct request *rq)
{
	pthread_mutex_lock(&watch.mu);
	unwatch_locked(rq);
	pthread_mutex_unlock(&watch.mu);
	give_back(rq);
	free(rq);
}

/* The checkpoint that a node belongs to; 0: none. */
static uint64_t slot_of(fuse_ino_t ino)
{
	if (node_class(ino) == NODE_COMMITTED)
		return node_slot(ino);
	if (node_class(ino) == NODE_VIRTUAL && node_is_view(ino))
		return node_kind(ino) == VIRTUAL_VIEW ? node_view_ref(ino) : 0;
	if (node_class(ino) == NODE_VIRTUAL && control_is_of_checkpoint(ino))
		return node_ref(ino);
	return 0;
}

/*
 * The index has no entries (any more), or was deleted or emptied under us: loading them opens it
 * anew.
 */
static bool wants_load(int rc)
{
	return rc == RC_LOAD_FIRST || rc == RC_VIEWS_FIRST || rc == -EUCLEAN;
}

static int load(struct request *rq)
{
	int rc = 0;

	/* Where there are none, the next look-up opens the index anew. */
	if (rq->loads > 0 && slot_of(rq->ino) != 0)
		rc = slots_load(rq->fs, slot_of(rq->ino));
	if (rc == 0 && rq->needs_views)
		views_load(rq->fs, rq->ino);
	rq->needs_views = false;
	return rc;
}

static void work(void *arg)
{
	struct request *rq = arg;
	int rc = 0;

	if (!request_given_up(rq)) {
		rc = load(rq);
		if (rc == 0)
			rc = rq->run(rq);
	}
	if (rc == RC_PARKED)
		return; /* it may be running in another worker by now */
	if (wants_load(rc) && rq->loads < LOADS_MAX) {
		rq->loads++;
		rq->needs_views = rc == RC_VIEWS_FIRST;
		rc = ckpt_pool_submit(rq->fs->tasks, work, rq);
		if (rc == 0)
			return;
	}
	if (rc == RC_LOAD_FIRST || rc == RC_VIEWS_FIRST)
		rc = -ESTALE; /* loaded, and gone again: the checkpoint was removed or replaced */
	if (rc < 0)
		request_reply_err(rq, fs_errno(rc));
	request_free(rq);
}

void request_park(struct request *rq)
{
	assert(rq->queued);
	rq->was_checked = true;
	atomic_store(&rq->parked, true);
}

void request_resume(struct request *rq)
{
	int rc;

	atomic_store(&rq->parked, false);
	rc = ckpt_pool_submit(rq->fs->reads, work, rq);
	if (rc == 0)
		return;
	request_reply_err(rq, -rc);
	request_free(rq);
}

void request_submit(const struct request *rq, enum lane lane)
{
	struct request *copy = malloc(sizeof(*copy));
	int rc;

	if (!copy) {
		give_back(rq);
		ckpt_ignore(fuse_reply_err(rq->req, ENOMEM));
		return;
	}
	*copy = *rq;
	atomic_init(&copy->claimed, false);
	atomic_init(&copy->parked, false);
	copy->queued = true;
	copy->pid = fuse_req_ctx(rq->req)->pid;
	/* An interrupt may answer it at once: from here on copy->req is only for who claims it. */
	fuse_req_interrupt_func(copy->req, on_interrupt, copy);
	rc = ckpt_pool_submit(pool_of(copy->fs, lane), work, copy);
	if (rc < 0) {
		request_reply_err(copy, -rc);
		request_free(copy);
	}
}

/*
 * With -o ro a group is shown if something is committed below it; `latest` asks that in any mount.
 */
static bool may_ask_group(const struct request *rq)
{
	switch (node_class(rq->ino)) {
	case NODE_PLAIN:
		return rq->fs->options->read_only;
	case NODE_VIRTUAL:
		return control_asks_group(rq->ino);
	case NODE_COMMITTED:
		break;
	}
	return false;
}

void request_start(struct request *rq)
{
	if (may_ask_group(rq))
		request_submit(rq, LANE_TASKS);
	else
		request_run(rq);
}

void request_run(struct request *rq)
{
	int rc;

	assert(!rq->queued);
	rc = rq->run(rq);
	if (rc == RC_WORKER) {
		request_submit(rq, rq->lane);
		return;
	}
	if (wants_load(rc)) {
		rq->loads = 1;
		rq->needs_views = rc == RC_VIEWS_FIRST;
		request_submit(rq, LANE_TASKS);
		return;
	}
	if (rc < 0)
		request_reply_err(rq, fs_errno(rc));
	give_back(rq);
}
