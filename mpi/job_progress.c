/* job_progress.c - see job_progress.h. */
#include "job_progress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "mail.h"

#define TELL_RANK_0_MS 200
#define TELL_COORDINATOR_MS 1000

struct ckpt_progress {
	int world_size;
	atomic_uint_fast64_t done; /* by this rank */
	bool moving;
	uint32_t epoch; /* letters about earlier movings count for nothing */
	uint64_t told_rank_0_ms;
	uint64_t told_coordinator_ms;
	uint64_t reported_ms;
	enum ckpt_mpi_phase phase;
	uint64_t *todo;	   /* of each rank */
	uint64_t *done_by; /* each rank, as it has told */
	pthread_mutex_t mutex;
	bool is_known;			/* protected by mutex */
	struct ckpt_mpi_progress known; /* protected by mutex */
};

/* What a rank tells. */
struct told {
	uint64_t done;
	uint64_t epoch;
};

struct ckpt_progress *ckpt_progress_new(int world_size)
{
	struct ckpt_progress *it = array_alloc(1, sizeof(*it));

	if (!it)
		return NULL;
	it->world_size = world_size;
	it->todo = array_alloc((size_t)world_size, sizeof(*it->todo));
	it->done_by = array_alloc((size_t)world_size, sizeof(*it->done_by));
	if (it->todo && it->done_by && pthread_mutex_init(&it->mutex, NULL) == 0)
		return it;
	free(it->todo);
	free(it->done_by);
	free(it);
	return NULL;
}

void ckpt_progress_free(struct ckpt_progress *progress)
{
	if (!progress)
		return;
	ckpt_ignore(pthread_mutex_destroy(&progress->mutex)); /* nobody holds it */
	free(progress->todo);
	free(progress->done_by);
	free(progress);
}

void ckpt_progress_add(struct ckpt_mpi *job, uint64_t bytes)
{
	(void)atomic_fetch_add_explicit(&job->progress->done, bytes, memory_order_relaxed);
}

static bool reports(const struct ckpt_mpi *job)
{
	return job->config.progress && job->info.global_rank == 0;
}

static bool knows(const struct ckpt_mpi *job)
{
	return ckpt_job_is_coordinator(job) || reports(job);
}

/* The sums become what is known; rank 0 hands them on. */
static void report(struct ckpt_mpi *job)
{
	struct ckpt_progress *it = job->progress;
	struct ckpt_mpi_progress now = { .phase = it->phase };

	for (int rank = 0; rank < it->world_size; rank++) {
		uint64_t done = num_min(it->done_by[rank], it->todo[rank]);
		uint64_t left = it->todo[rank] - done;

		now.bytes_total += it->todo[rank];
		now.bytes_done += done;
		if (left <= now.slowest_left_bytes)
			continue;
		now.slowest_left_bytes = left;
		now.slowest_rank = rank;
	}
	ckpt_ignore(pthread_mutex_lock(&it->mutex)); /* it is a plain one: it cannot fail */
	it->is_known = true;
	it->known = now;
	ckpt_ignore(pthread_mutex_unlock(&it->mutex));
	if (reports(job))
		job->config.progress(job->config.progress_ctx, &now);
}

void ckpt_progress_begin(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, const uint64_t *bytes)
{
	struct ckpt_progress *it = job->progress;
	uint64_t now_ms = ckpt_clock_mono_ms();

	memcpy(it->todo, bytes, (size_t)it->world_size * sizeof(*bytes));
	memset(it->done_by, 0, (size_t)it->world_size * sizeof(*it->done_by));
	atomic_store(&it->done, 0);
	it->phase = phase;
	it->epoch++;
	it->moving = true;
	it->told_rank_0_ms = now_ms;
	it->told_coordinator_ms = now_ms;
	it->reported_ms = now_ms;
	if (knows(job))
		report(job);
}

void ckpt_progress_end(struct ckpt_mpi *job)
{
	struct ckpt_progress *it = job->progress;

	if (!it->moving)
		return;
	it->moving = false;
	memcpy(it->done_by, it->todo, (size_t)it->world_size * sizeof(*it->todo));
	if (knows(job))
		report(job);
}

void ckpt_progress_forget(struct ckpt_mpi *job)
{
	struct ckpt_progress *it = job->progress;

	it->moving = false;
	ckpt_ignore(pthread_mutex_lock(&it->mutex)); /* as above */
	it->is_known = false;
	ckpt_ignore(pthread_mutex_unlock(&it->mutex));
}

static bool due(uint64_t *last_ms, uint64_t now_ms, uint64_t every_ms)
{
	if (now_ms - *last_ms < every_ms)
		return false;
	*last_ms = now_ms;
	return true;
}

static void tell(struct ckpt_mpi *job, uint64_t now_ms)
{
	struct ckpt_progress *it = job->progress;
	const struct told told = { .done = atomic_load(&it->done), .epoch = it->epoch };
	int coordinator = job->config.coordinator;

	if (job->config.progress && job->info.global_rank != 0 &&
	    due(&it->told_rank_0_ms, now_ms, TELL_RANK_0_MS))
		ckpt_mail_send_once(job, 0, CKPT_MAIL_PROGRESS, &told, sizeof(told));
	if (job->config.progress && coordinator == 0)
		return; /* it has been told */
	if (!ckpt_job_is_coordinator(job) &&
	    due(&it->told_coordinator_ms, now_ms, TELL_COORDINATOR_MS))
		ckpt_mail_send_once(job, coordinator, CKPT_MAIL_PROGRESS, &told, sizeof(told));
}

static void listen(struct ckpt_mpi *job, uint64_t now_ms)
{
	struct ckpt_progress *it = job->progress;
	struct told told;
	int source;

	if (!due(&it->reported_ms, now_ms, TELL_RANK_0_MS))
		return;
	while (job->comm != MPI_COMM_NULL &&
	       ckpt_mail_take(job, CKPT_MAIL_PROGRESS, &told, sizeof(told), &source)) {
		if (told.epoch == it->epoch)
			it->done_by[source] = told.done;
	}
	it->done_by[job->info.global_rank] = atomic_load(&it->done);
	report(job);
}

void ckpt_progress_poll(struct ckpt_mpi *job)
{
	uint64_t now_ms;

	if (!job->progress->moving || job->broken)
		return;
	now_ms = ckpt_clock_mono_ms();
	if (job->comm != MPI_COMM_NULL)
		tell(job, now_ms);
	if (knows(job))
		listen(job, now_ms);
}

bool ckpt_progress_known(const struct ckpt_mpi *job, struct ckpt_mpi_progress *out)
{
	struct ckpt_progress *it = job->progress;
	bool is_known;

	ckpt_ignore(pthread_mutex_lock(&it->mutex));
	is_known = it->is_known;
	if (is_known)
		*out = it->known;
	ckpt_ignore(pthread_mutex_unlock(&it->mutex));
	return is_known;
}
