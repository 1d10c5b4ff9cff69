/*
 * exchange.h - messages from any rank to any, of any length, in rounds; no
 * wait is for ever (collective.h).
 */
#ifndef CKPT_MPI_EXCHANGE_H
#define CKPT_MPI_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "job.h"

struct ckpt_exchange {
	struct ckpt_mpi *job;
	/* What this rank sends: append, then ckpt_exchange_address(). */
	struct ckpt_buf out;
	int *counts; /* of the four arrays below, one allocation */
	int *send_counts, *send_offsets;
	int *recv_counts, *recv_offsets;
	unsigned char *in;
	size_t in_cap;
};

/** ckpt_exchange_init - -ENOMEM; release it all the same. */
int ckpt_exchange_init(struct ckpt_exchange *exchange, struct ckpt_mpi *job) CKPT_MUST_CHECK;
/** ckpt_exchange_release - where the job is broken, what MPI may still use is left to it. */
void ckpt_exchange_release(struct ckpt_exchange *exchange);

/** ckpt_exchange_begin - a new round: nothing to send. */
void ckpt_exchange_begin(struct ckpt_exchange *exchange);
/**
 * ckpt_exchange_address - what was appended since the last call goes to @rank, another one, once a
 * round
 * -EOVERFLOW: more than 2 GiB in a round.
 */
int ckpt_exchange_address(struct ckpt_exchange *exchange, int rank) CKPT_MUST_CHECK;
/**
 * ckpt_exchange_run - send and receive; collective
 * @failed: this rank takes no further part
 * @out_any_failed: some rank said so: nothing was moved
 */
int ckpt_exchange_run(struct ckpt_exchange *exchange, bool failed, bool *out_any_failed)
	CKPT_MUST_CHECK;
/** ckpt_exchange_from - what came from @rank, perhaps nothing; borrowed until the next round. */
const void *ckpt_exchange_from(const struct ckpt_exchange *exchange, int rank, size_t *out_bytes);

#endif
