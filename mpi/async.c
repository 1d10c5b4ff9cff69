/* async.c - see async.h; and ckpt_mpi_test(), ckpt_mpi_wait(). */
#include "async.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "base/num.h"
#include "job_progress.h"
#include "vote.h"

/* How often the thread that has nothing left to do looks after the session. */
#define KEEP_SECS 1
/* How often a rank that waits for its own thread looks at it. */
#define NAP_NS 1000000

/* What a rank says in a vote; the largest is the outcome. */
#define WELL UINT64_C(0)
#define FAILED UINT64_C(1)
#define WORKING UINT64_C(2)

struct ckpt_mpi_future {
	struct ckpt_mpi *job;
	struct ckpt_async_work work;
	pthread_t thread;
	bool has_thread; /* to be joined */
	atomic_bool worked;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	bool dismissed; /* protected by mu */
	int code;	/* of the work, and why; the thread's until it has worked */
	struct ckpt_err err;
	struct ckpt_vote vote;
	bool ended;
	int rc; /* once it has ended */
	struct ckpt_mpi_result result;
};

/* --- the thread ---------------------------------------------------------------------------- */

/* Until the application comes back: a session that nobody touches is taken for dead. */
static void keep_session(struct ckpt_mpi_future *future)
{
	struct ckpt_mpi *job = future->job;

	(void)pthread_mutex_lock(&future->mu);
	while (job->tick && !future->dismissed) {
		struct timespec until;

		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += KEEP_SECS;
		ckpt_ignore(pthread_cond_timedwait(&future->changed, &future->mu, &until));
		if (!future->dismissed)
			job->tick(job->tick_ctx);
	}
	(void)pthread_mutex_unlock(&future->mu);
}

static void *run(void *arg)
{
	struct ckpt_mpi_future *future = arg;
	struct ckpt_mpi *job = future->job;
	int rc = ckpt_fault_hit(&job->faults, future->work.phase, job->info.global_rank,
				&future->err);

	if (rc == 0)
		rc = future->work.work(future->work.ctx, &future->err);
	future->code = rc;
	atomic_store(&future->worked, true);
	keep_session(future);
	return NULL;
}

/* Signals stay the application's: none is delivered to the thread. */
static int start_thread(struct ckpt_mpi_future *future)
{
	sigset_t all;
	sigset_t old;
	int rc;

	(void)sigfillset(&all);
	rc = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (rc == 0) {
		rc = pthread_create(&future->thread, NULL, run, future);
		ckpt_ignore(pthread_sigmask(SIG_SETMASK, &old, NULL)); /* it was valid before */
	}
	future->has_thread = rc == 0;
	return -rc;
}

/* Wait for the work, and end the thread. What it left is this thread's from here on. */
static void join(struct ckpt_mpi_future *future)
{
	if (!future->has_thread)
		return;
	(void)pthread_mutex_lock(&future->mu);
	future->dismissed = true;
	(void)pthread_cond_signal(&future->changed);
	(void)pthread_mutex_unlock(&future->mu);
	(void)pthread_join(future->thread, NULL);
	future->has_thread = false;
}

/* --- beginning and end ----------------------------------------------------------------------- */

static struct ckpt_mpi_future *future_new(struct ckpt_mpi *job, const struct ckpt_async_work *work)
{
	struct ckpt_mpi_future *future = array_alloc(1, sizeof(*future));
	pthread_condattr_t attr;

	if (!future)
		return NULL;
	future->job = job;
	future->work = *work;
	/* With these attributes none of them can fail on Linux. */
	(void)pthread_mutex_init(&future->mu, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&future->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	return future;
}

static void future_free(struct ckpt_mpi_future *future)
{
	if (!future)
		return;
	assert(!future->has_thread);
	future->work.release(future->work.ctx);
	(void)pthread_cond_destroy(&future->changed);
	(void)pthread_mutex_destroy(&future->mu);
	free(future);
}

int ckpt_async_start(struct ckpt_mpi *job, const struct ckpt_async_work *work,
		     struct ckpt_mpi_future **out)
{
	struct ckpt_mpi_future *future = future_new(job, work);
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = future ? start_thread(future) : -ENOMEM;

	if (rc < 0)
		rc = ckpt_err_sys(&err, rc, "cannot start a thread to work in the background");
	rc = ckpt_job_agree(job, rc, &err);
	if (rc == 0) {
		assert(future);
		job->future = future;
		*out = future;
		return 0;
	}
	atomic_store(&job->abandoned, true);
	if (future)
		join(future);
	atomic_store(&job->abandoned, false);
	rc = work->end(work->ctx, rc, NULL);
	if (future)
		future_free(future);
	else
		work->release(work->ctx);
	return rc;
}

static void end(struct ckpt_mpi_future *future, int rc)
{
	future->rc = future->work.end(future->work.ctx, rc, &future->result);
	future->ended = true;
	/* From here on the job may be used again, and closed. */
	future->job->future = NULL;
}

/* All ranks' work has ended: what failed, if anything did, then the rest of the operation. */
static void conclude(struct ckpt_mpi_future *future, int rc, bool any_failed)
{
	struct ckpt_mpi *job = future->job;

	join(future);
	job->phase = future->work.phase;
	if (rc == 0 && any_failed)
		rc = ckpt_job_agree(job, future->code, &future->err);
	end(future, rc);
}

/* End the round that was begun in the last call, if any; *@out: what the ranks said in it. */
static int last_round(struct ckpt_mpi_future *future, uint64_t *out)
{
	*out = WORKING;
	return future->vote.posted ? ckpt_vote_take(future->job, &future->vote, out) : 0;
}

static int next_round(struct ckpt_mpi_future *future)
{
	uint64_t value = WORKING;

	if (atomic_load(&future->worked))
		value = future->code < 0 ? FAILED : WELL;
	return ckpt_vote_post(future->job, &future->vote, value);
}

int ckpt_mpi_test(struct ckpt_mpi_future *future, bool *out_ended)
{
	uint64_t said;
	int rc;

	if (!future->ended) {
		future->job->phase = future->work.phase;
		rc = last_round(future, &said);
		if (rc == 0 && said == WORKING)
			rc = next_round(future);
		if (rc < 0 || said != WORKING)
			conclude(future, rc, said == FAILED);
		else
			ckpt_progress_poll(future->job);
	}
	*out_ended = future->ended;
	return future->ended ? future->rc : 0;
}

/* Until this rank's work has ended; the thread keeps the session alive. */
static void wait_for_work(struct ckpt_mpi_future *future)
{
	while (!atomic_load(&future->worked)) {
		ckpt_progress_poll(future->job);
		(void)nanosleep(&(struct timespec){ .tv_nsec = NAP_NS }, NULL);
	}
	join(future);
}

/* Rounds until no rank is working; others may still make them in ckpt_mpi_test(). */
static int wait_for_all(struct ckpt_mpi_future *future, uint64_t *out_said)
{
	int rc = last_round(future, out_said);

	while (rc == 0 && *out_said == WORKING) {
		rc = next_round(future);
		if (rc == 0)
			rc = last_round(future, out_said);
	}
	return rc;
}

int ckpt_mpi_wait(struct ckpt_mpi_future **slot, struct ckpt_mpi_result *out)
{
	struct ckpt_mpi_future *future = *slot;
	uint64_t said;
	int rc;

	if (!future)
		return 0;
	*slot = NULL;
	if (!future->ended) {
		future->job->phase = future->work.phase;
		wait_for_work(future);
		rc = wait_for_all(future, &said);
		conclude(future, rc, said == FAILED);
	}
	rc = future->rc;
	if (out && future->result.id[0])
		*out = future->result;
	future_free(future);
	return rc;
}

void ckpt_async_abandon(struct ckpt_mpi *job)
{
	struct ckpt_mpi_future *future = job->future;
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t said;
	int rc;

	if (!future)
		return;
	atomic_store(&job->abandoned, true);
	join(future);
	job->phase = future->work.phase;
	/* Rounds may be under way: all ranks leave them together. */
	rc = wait_for_all(future, &said);
	if (rc == 0)
		rc = ckpt_job_agree(
			job,
			ckpt_err_set(
				&err, -ECANCELED,
				"the job was closed before it had ended; call ckpt_mpi_wait() first"),
			&err);
	end(future, rc);
	future_free(future);
}
