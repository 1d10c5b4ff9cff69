/*
 * job.h - inside of the library: the job, its phases, and how ranks agree.
 *
 * The pattern of every operation: a step runs on some or all ranks and touches
 * no other rank; then ckpt_job_agree() makes its outcome known to all. Between
 * two agreements all ranks make the same collective calls (collective.h).
 */
#ifndef CKPT_MPI_JOB_H
#define CKPT_MPI_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "ckptfs_mpi.h"
#include "fault.h"

struct ckpt_roll; /* rollcall.c */

struct ckpt_mpi {
	MPI_Comm comm;
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
	/* Called while a rank waits, and between the pieces it moves: keeps the session alive. */
	void (*tick)(void *ctx);
	void *tick_ctx;
};

/* A step on this rank. */
typedef int (*ckpt_job_step)(void *ctx, struct ckpt_err *err);

bool ckpt_job_is_coordinator(const struct ckpt_mpi *job);

/** ckpt_job_begin - forget the last call's failures; -EIO, -ETIMEDOUT where the job is broken. */
int ckpt_job_begin(struct ckpt_mpi *job) CKPT_MUST_CHECK;

/**
 * ckpt_job_run - run a phase: the fault hook and the step where @mine, then the agreement
 * @mine: this rank takes part; the others only agree
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
 * ckpt_job_cancelled - -EINTR when the user wants no more; called between pieces of work; ticks.
 */
int ckpt_job_cancelled(struct ckpt_mpi *job, struct ckpt_err *err) CKPT_MUST_CHECK;

/** ckpt_job_break - no collective call may follow; keeps the first reason. */
int ckpt_job_break(struct ckpt_mpi *job, int code);

/** ckpt_job_put_failure - one row, made of this process's view (time-outs, MPI errors). */
void ckpt_job_put_failure(struct ckpt_mpi *job, int rank, int code, const char *message);

/** ckpt_job_print_failures - the table as aborted.json and --failures hold it. */
void ckpt_job_print_failures(const struct ckpt_mpi *job, struct ckpt_buf *out);

#endif
