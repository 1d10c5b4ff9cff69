/*
 * collective.h - collective calls that cannot wait for ever.
 *
 * Each is the non-blocking MPI call, polled until it is done, the time is up
 * (-ETIMEDOUT, the ranks that did not arrive are in the job's table) or MPI
 * fails: then the roll is called when the time is up, for it may be that some
 * rank is gone (-ETIMEDOUT), or that all are there (-EIO). In these cases the
 * job is broken and what the call was given to send or receive into is never
 * freed: MPI may still write there. A process alone calls no MPI at all.
 */
#ifndef CKPT_MPI_COLLECTIVE_H
#define CKPT_MPI_COLLECTIVE_H

#include "job.h"

/* One call moves at most this much in all: MPI counts are int. */
#define CKPT_COLL_ROUND_BYTES (UINT64_C(1) << 30)

/** ckpt_coll_max - the largest of all ranks' values. */
int ckpt_coll_max(struct ckpt_mpi *job, uint64_t value, uint64_t *out) CKPT_MUST_CHECK;
/** ckpt_coll_sum - the sum of all ranks' values. */
int ckpt_coll_sum(struct ckpt_mpi *job, uint64_t value, uint64_t *out) CKPT_MUST_CHECK;
/**
 * ckpt_coll_before - sum of the values of the ranks before this one, in the job or (@on_node) on
 * this node.
 */
int ckpt_coll_before(struct ckpt_mpi *job, bool on_node, uint64_t value, uint64_t *out)
	CKPT_MUST_CHECK;
/** ckpt_coll_node_sum - the sum over this node. */
int ckpt_coll_node_sum(struct ckpt_mpi *job, uint64_t value, uint64_t *out) CKPT_MUST_CHECK;
/** ckpt_coll_all - every rank's @bytes (as many on each) into @out, in rank order. */
int ckpt_coll_all(struct ckpt_mpi *job, const void *mine, size_t bytes, void *out) CKPT_MUST_CHECK;
/** ckpt_coll_bcast - the coordinator's bytes become everybody's; any length. */
int ckpt_coll_bcast(struct ckpt_mpi *job, struct ckpt_buf *data) CKPT_MUST_CHECK;
/**
 * ckpt_coll_gather - every rank's bytes to the coordinator, into @all (initialised buffers, one a
 * rank); any length.
 */
int ckpt_coll_gather(struct ckpt_mpi *job, const struct ckpt_buf *mine, struct ckpt_buf *all)
	CKPT_MUST_CHECK;
/** ckpt_coll_barrier - the one barrier of a save. */
int ckpt_coll_barrier(struct ckpt_mpi *job) CKPT_MUST_CHECK;
/** ckpt_coll_sum_for_me - the sum of what every rank's @row (a value a rank) holds for this rank. */
int ckpt_coll_sum_for_me(struct ckpt_mpi *job, const uint64_t *row, uint64_t *out) CKPT_MUST_CHECK;

/* --- for other collective calls: begun by the caller, ended here ---------------------------- */

/**
 * ckpt_coll_finish - until @request is done
 * @mpi_rc: what starting it returned
 * @what:   the call's name, for messages
 */
int ckpt_coll_finish(struct ckpt_mpi *job, int mpi_rc, MPI_Request *request, const char *what)
	CKPT_MUST_CHECK;
/**
 * ckpt_coll_failed - MPI failed in a call that was entered: find out who is gone. Takes the rest of
 * the time-out; never returns 0.
 */
int ckpt_coll_failed(struct ckpt_mpi *job, int mpi_rc, const char *what) CKPT_MUST_CHECK;
/** ckpt_coll_no_memory - this rank cannot take part: the job is broken, its row says why. */
int ckpt_coll_no_memory(struct ckpt_mpi *job) CKPT_MUST_CHECK;
/**
 * ckpt_coll_rest - between two looks at something that is waited for: give the processor away, and
 * now and then attend to letters, progress and the session. Errors: as ckpt_roll_poll.
 * @looks: counts; 0 at first
 */
int ckpt_coll_rest(struct ckpt_mpi *job, uint64_t *looks) CKPT_MUST_CHECK;

#endif
