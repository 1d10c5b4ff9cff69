/* pool.c - worker threads and a bounded queue; see pool.h. */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "num.h"

/* More threads than this is a mistake in a caller or an option. */
#define POOL_THREAD_MAX 1024

struct job {
	struct job *next;
	void (*fn)(void *arg);
	void *arg;
};

struct ckpt_pool {
	pthread_mutex_t mu;
	pthread_cond_t work;  /* a job was queued, or `stopping` set */
	pthread_cond_t room;  /* a job was taken off the queue */
	pthread_cond_t quiet; /* `pending` reached 0 */
	/* The rest up to `stopping` is protected by mu. */
	struct job *head;
	struct job **tail;
	size_t queued;	/* waiting */
	size_t pending; /* waiting or running */
	bool stopping;
	size_t queue_max; /* from here on fixed after ckpt_pool_new */
	size_t thread_count;
	pthread_t *threads;
};

/* Next job, or NULL when the pool stops and the queue is empty. */
static struct job *take_locked(struct ckpt_pool *pool)
{
	struct job *job;

	while (!pool->head && !pool->stopping)
		pthread_cond_wait(&pool->work, &pool->mu);
	job = pool->head;
	if (!job)
		return NULL;
	pool->head = job->next;
	if (!pool->head)
		pool->tail = &pool->head;
	pool->queued--;
	pthread_cond_signal(&pool->room);
	return job;
}

static void *work(void *arg)
{
	struct ckpt_pool *pool = arg;
	struct job *job;

	pthread_mutex_lock(&pool->mu);
	while ((job = take_locked(pool))) {
		pthread_mutex_unlock(&pool->mu);
		job->fn(job->arg);
		free(job);
		pthread_mutex_lock(&pool->mu);
		assert(pool->pending > 0);
		if (--pool->pending == 0)
			pthread_cond_broadcast(&pool->quiet);
	}
	pthread_mutex_unlock(&pool->mu);
	return NULL;
}

/* Start @wanted threads with all signals blocked; thread_count says how many came. */
static int start_threads(struct ckpt_pool *pool, size_t wanted)
{
	sigset_t all;
	sigset_t before;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before); /* a new thread inherits the mask */
	while (rc == 0 && pool->thread_count < wanted) {
		rc = pthread_create(&pool->threads[pool->thread_count], NULL, work, pool);
		if (rc == 0)
			pool->thread_count++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

int ckpt_pool_new(size_t thread_count, size_t queue_max, struct ckpt_pool **out,
		  struct ckpt_err *err)
{
	size_t wanted = num_min(thread_count ? thread_count : ckpt_cpu_count(), POOL_THREAD_MAX);
	struct ckpt_pool *pool = calloc(1, sizeof(*pool));
	int rc;

	if (!pool)
		return ckpt_err_sys(err, -ENOMEM, "cannot start %zu threads", wanted);
	pthread_mutex_init(&pool->mu, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->room, NULL);
	pthread_cond_init(&pool->quiet, NULL);
	pool->tail = &pool->head;
	pool->queue_max = queue_max;
	pool->threads = array_alloc(wanted, sizeof(*pool->threads));
	rc = pool->threads ? start_threads(pool, wanted) : -ENOMEM;
	if (rc < 0) {
		ckpt_pool_free(pool);
		return ckpt_err_sys(err, rc, "cannot start %zu threads", wanted);
	}
	*out = pool;
	return 0;
}

void ckpt_pool_free(struct ckpt_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->mu);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mu);
	for (size_t i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	assert(!pool->head);
	free(pool->threads);
	pthread_cond_destroy(&pool->quiet);
	pthread_cond_destroy(&pool->room);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->mu);
	free(pool);
}

int ckpt_pool_submit(struct ckpt_pool *pool, void (*fn)(void *arg), void *arg)
{
	struct job *job = malloc(sizeof(*job));

	if (!job)
		return -ENOMEM;
	*job = (struct job){ .fn = fn, .arg = arg };
	pthread_mutex_lock(&pool->mu);
	assert(!pool->stopping);
	while (pool->queue_max > 0 && pool->queued >= pool->queue_max)
		pthread_cond_wait(&pool->room, &pool->mu);
	*pool->tail = job;
	pool->tail = &job->next;
	pool->queued++;
	pool->pending++;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->mu);
	return 0;
}

void ckpt_pool_wait(struct ckpt_pool *pool)
{
	pthread_mutex_lock(&pool->mu);
	while (pool->pending > 0)
		pthread_cond_wait(&pool->quiet, &pool->mu);
	pthread_mutex_unlock(&pool->mu);
}

size_t ckpt_pool_thread_count(const struct ckpt_pool *pool)
{
	return pool->thread_count;
}

size_t ckpt_cpu_count(void)
{
	cpu_set_t set;
	long online;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		return (size_t)CPU_COUNT(&set);
	/* More processors than a cpu_set_t holds. */
	online = sysconf(_SC_NPROCESSORS_ONLN);
	return online > 0 ? (size_t)online : 1;
}
