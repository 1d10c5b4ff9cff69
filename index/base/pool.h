/*
 * pool.h - a bounded pool of worker threads with a bounded queue.
 * Jobs are independent; the order of their ends is not defined. Locks: one
 * mutex inside, never held while a job runs.
 */
#ifndef CKPT_BASE_POOL_H
#define CKPT_BASE_POOL_H

#include <stddef.h>

#include "err.h"

struct ckpt_pool;

/**
 * ckpt_pool_new - start threads
 * @thread_count: ≥ 1; 0 means one a processor this process may run on
 * @queue_max:    jobs that may wait; ckpt_pool_submit blocks above that (0: no bound)
 * @out:          ckpt_pool_free() it
 * All signals are blocked in the threads.
 */
int ckpt_pool_new(size_t thread_count, size_t queue_max, struct ckpt_pool **out,
		  struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_pool_free - finish what is queued, end the threads. NULL is a no-op. */
void ckpt_pool_free(struct ckpt_pool *pool);
/** ckpt_pool_submit - queue @fn(@arg); blocks while the queue is full. -ENOMEM. */
int ckpt_pool_submit(struct ckpt_pool *pool, void (*fn)(void *arg), void *arg) CKPT_MUST_CHECK;
/** ckpt_pool_wait - until every job submitted so far has ended. */
void ckpt_pool_wait(struct ckpt_pool *pool);
size_t ckpt_pool_thread_count(const struct ckpt_pool *pool);
/** ckpt_cpu_count - processors this process may run on (sched_getaffinity), at least 1. */
size_t ckpt_cpu_count(void);

#endif
