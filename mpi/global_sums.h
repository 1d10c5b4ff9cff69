/*
 * global_sums.h - layout global: checksums of the windows that this rank
 * writes, and the one record that the coordinator makes of all ranks'.
 */
#ifndef CKPT_MPI_GLOBAL_SUMS_H
#define CKPT_MPI_GLOBAL_SUMS_H

#include "base/hash.h"
#include "global_piece.h"

/* Zeroed on a rank that writes nothing. */
struct ckpt_global_sums {
	uint64_t block_bytes;
	uint64_t *items; /* of this rank's blocks, in the order of the file */
	size_t count;
	struct ckpt_hash128 *whole; /* where one rank writes all: it sees the file in order */
};

/** ckpt_global_sums_init - for aggregator @idx. -ENOMEM; release it all the same. */
int ckpt_global_sums_init(struct ckpt_global_sums *sums, const struct ckpt_global_layout *layout,
			  int idx) CKPT_MUST_CHECK;
void ckpt_global_sums_release(struct ckpt_global_sums *sums);
/** ckpt_global_sums_add - the next of its windows, complete. */
void ckpt_global_sums_add(struct ckpt_global_sums *sums, const struct ckpt_global_window *window);

/**
 * ckpt_global_sums_record - when the file is durable and nobody has it open: check its size, and
 * add its record to the coordinator's. Collective.
 * @aggregators: their ranks
 * The digest of the whole is known only where there is one.
 */
int ckpt_global_sums_record(const struct ckpt_global_sums *sums,
			    const struct ckpt_global_layout *layout, const int *aggregators,
			    struct ckpt_shard_out *out) CKPT_MUST_CHECK;

#endif
