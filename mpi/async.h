/*
 * async.h - work that goes on in a thread while the application computes, and
 * the future by which all ranks of a job agree on its end.
 *
 * The thread makes no MPI call. The ranks agree on the end in rounds, as they
 * test or wait (vote.h). When its work is done, the thread stays to keep the
 * writer's session alive until the application comes back.
 */
#ifndef CKPT_MPI_ASYNC_H
#define CKPT_MPI_ASYNC_H

#include <stdbool.h>

#include "job.h"

struct ckpt_async_work {
	enum ckpt_mpi_phase phase; /* that the work is; its fault hook runs in the thread */
	/* In the thread; no MPI call, no other rank. Asks ckpt_job_cancelled() between pieces. */
	int (*work)(void *ctx, struct ckpt_err *err);
	/*
	 * Collective, in the thread that called the library, when the work has ended on all ranks:
	 * the rest of the operation. @rc: what all agreed on, 0 or the code of the failure table's
	 * first row; what it returns is how the operation ended.
	 */
	int (*end)(void *ctx, int rc, struct ckpt_mpi_result *out);
	/* Frees @ctx, after end() or where nothing came of it. */
	void (*release)(void *ctx);
	void *ctx;
};

/**
 * ckpt_async_start - begin the work; collective, within a phase
 * @work: copied; ctx is the future's from here on, in every case
 * @out:  ends by ckpt_mpi_wait(); the job's only one until then
 * Where it cannot begin on some rank, end() and release() have run when it returns what end() said.
 */
int ckpt_async_start(struct ckpt_mpi *job, const struct ckpt_async_work *work,
		     struct ckpt_mpi_future **out) CKPT_MUST_CHECK;

/**
 * ckpt_async_abandon - the job is closed: a future that has not ended is stopped, fails on all
 * ranks, and is freed; collective unless the job is broken. A job without one: nothing.
 */
void ckpt_async_abandon(struct ckpt_mpi *job);

#endif
