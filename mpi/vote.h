/*
 * vote.h - is everybody done? Asked again and again while the application
 * computes, in rounds: each call begins a round and ends the one before.
 *
 * All ranks see the same round end in the same call, counted from the first:
 * an application whose ranks exchange messages between two calls never finds
 * one rank in here, waiting for the others, and another out there, waiting for
 * that rank. In return a call waits till all ranks have made the one before it.
 */
#ifndef CKPT_MPI_VOTE_H
#define CKPT_MPI_VOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "job.h"

/* Start from a zeroed struct. */
struct ckpt_vote {
	bool posted; /* a round was begun and not ended */
	int mpi_rc;
	uint64_t *numbers; /* sent and received; MPI's until the round has ended */
	MPI_Request request;
};

/** ckpt_vote_post - begin a round with this rank's value; waits for nobody. */
int ckpt_vote_post(struct ckpt_mpi *job, struct ckpt_vote *vote, uint64_t value) CKPT_MUST_CHECK;
/** ckpt_vote_take - end the round: the largest of all ranks' values. Errors: as collective.h. */
int ckpt_vote_take(struct ckpt_mpi *job, struct ckpt_vote *vote, uint64_t *out) CKPT_MUST_CHECK;

#endif
