/*
 * job.h - inside of the library: the job, its phases, and how ranks agree.
 *
 * The pattern of every operation: a step runs on some or all ranks and touches
 * no other rank; then ckpt_job_agree() makes its outcome known to all. Between
 * two agreements all ranks make the same collective calls (collective.h).
 */
#ifndef CKPT_MPI_JOB_H
#define CKPT_MPI_JOB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "ckptfs_mpi.h"
#include "fault.h"
#include "stage.h"

struct ckpt_mail;     /* mail.c */
struct ckpt_progress; /* job_progress.c */
struct ckpt_roll;     /* rollcall.c */

struct ckpt_mpi {
	MPI_Comm comm;	    /* MPI_COMM_NULL: alone, and MPI is never called */
	MPI_Comm node_comm; /* the ranks of this node, in the same order */
	struct ckpt_mpi_rank_info info;
	int node_idx; /* nodes are numbered by their lowest rank */
	struct ckpt_mpi_config config;
	struct ckpt_fault_set faults;
	char (*hosts)[CKPT_MPI_HOST_MAX]; /* of every rank */
	enum ckpt_mpi_phase phase;	  /* that runs now */
	struct ckpt_mpi_failure *failures;
	size_t failure_count;
	int reporter;
	int broken; /* 0, or why no collective call may follow: -ETIMEDOUT, -EIO */
	struct ckpt_roll *roll;
	struct ckpt_mail *mail;
	struct ckpt_progress *progress;
	pthread_t caller;      /* the thread that called the library; others make no MPI call */
	uint64_t moving_bytes; /* the most that a rank moves in the phase that runs */
	enum ckpt_mpi_phase moving_phase;
	struct ckpt_mpi_future *future; /* that has not ended */
	atomic_bool abandoned;		/* the future shall stop */
	struct ckpt_stage_room stage;	/* of asynchronous saves, kept for the next */
	struct ckpt_buf passed_over;	/* lines of the last ckpt_mpi_latest(), each with its NUL */
	/* Called while a rank waits, and between the pieces it moves: keeps the session alive. */
	void (*tick)(void *ctx);
	void *tick_ctx;
};

/* A step on this rank. */
typedef int (*ckpt_job_step)(void *ctx, struct ckpt_err *err);

bool ckpt_job_is_coordinator(const struct ckpt_mpi *job);

/**
 * ckpt_job_begin - forget the last call's failures; -EIO, -ETIMEDOUT where the job is broken, -EBUSY
 * where a future is not ended.
 */
int ckpt_job_begin(struct ckpt_mpi *job) CKPT_MUST_CHECK;

/**
 * ckpt_job_run - run a phase: the fault hook and the step where @mine, then the agreement
 * @mine: this rank takes part; the others only agree
 * @step: NULL: nothing to do here in this step of the phase, which is this rank's all the same
 * Returns 0 on every rank, or on every rank the code of the table's first row.
 */
int ckpt_job_run(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, bool mine, ckpt_job_step step,
		 void *ctx) CKPT_MUST_CHECK;

/** ckpt_job_go_on - a further step of the phase that runs: no fault hook. */
int ckpt_job_go_on(struct ckpt_mpi *job, bool mine, ckpt_job_step step, void *ctx) CKPT_MUST_CHECK;

/**
 * ckpt_job_agree - the end of a step: @code and @err of this rank become everybody's. Returns as
 * ckpt_job_run.
 */
int ckpt_job_agree(struct ckpt_mpi *job, int code, const struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_job_cancelled - -EINTR when the user wants no more; called between pieces of work; ticks
 * From any thread; only in job->caller it also hears that the others gave up (-ETIMEDOUT), and tells
 * how far this rank is.
 */
int ckpt_job_cancelled(struct ckpt_mpi *job, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_job_moving - a phase that moves bytes starts: waits in it may last so much longer, and
 * progress is counted anew
 * @bytes: that this rank moves; it says so by ckpt_progress_add()
 * Collective. It ends by ckpt_job_moved(), or when another phase runs.
 */
int ckpt_job_moving(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, uint64_t bytes)
	CKPT_MUST_CHECK;
/** ckpt_job_moved - all ranks have moved theirs, and agreed on it; local. */
void ckpt_job_moved(struct ckpt_mpi *job);
/** ckpt_job_limit_secs - how long a wait may last now. */
uint64_t ckpt_job_limit_secs(const struct ckpt_mpi *job);

/** ckpt_job_break - no collective call may follow; keeps the first reason. */
int ckpt_job_break(struct ckpt_mpi *job, int code);

/** ckpt_job_put_failure - one row, made of this process's view (time-outs, MPI errors). */
void ckpt_job_put_failure(struct ckpt_mpi *job, int rank, int code, const char *message);

/** ckpt_job_print_failures - the table as aborted.json and --failures hold it. */
void ckpt_job_print_failures(const struct ckpt_mpi *job, struct ckpt_buf *out);

#endif
