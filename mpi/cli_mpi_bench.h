/*
 * cli_mpi_bench.h - what `ckptfs-mpi bench` saves and loads: tensors of one shape, cut along
 * dimension 0, each rank's part of all of them in one piece of memory.
 */
#ifndef CKPT_MPI_CLI_MPI_BENCH_H
#define CKPT_MPI_CLI_MPI_BENCH_H

#include "base/hash.h"
#include "cli_mpi.h"

struct mpi_bench_state {
	size_t tensor_count;
	uint64_t shape[2];
	uint64_t start[2]; /* of this rank's chunk of each tensor */
	uint64_t size[2];
	uint64_t chunk_bytes;
	uint64_t rank_bytes;
	unsigned char *data; /* rank_bytes */
	char (*names)[32];
	struct ckpt_mpi_chunk *chunks;
	struct ckpt_mpi_entry *entries;
	struct ckpt_mpi_want *wants;
	struct ckpt_digest digest; /* of the data */
};

/**
 * mpi_bench_state_init - as --size or --shards says, filled with bytes that no other rank has.
 * mpi_bench_state_release() it, also after a failure. -EINVAL there is less than a row a rank;
 * -ENOMEM.
 */
int mpi_bench_state_init(struct mpi_bench_state *state, const struct mpi_options *options,
			 const struct ckpt_mpi_rank_info *rank, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void mpi_bench_state_release(struct mpi_bench_state *state);
/** mpi_bench_state_clear - forget the bytes, so that a load must bring them back. */
void mpi_bench_state_clear(struct mpi_bench_state *state);
/** mpi_bench_state_check - has it brought them back? -EBADMSG. */
int mpi_bench_state_check(const struct mpi_bench_state *state, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
