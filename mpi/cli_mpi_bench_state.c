/* cli_mpi_bench_state.c - see cli_mpi_bench.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli_mpi_bench.h"

/* A large tensor has at most so many bytes a rank, in rows of so many. */
#define CHUNK_MAX (64 * CKPT_MIB)
#define ROW_BYTES (4 * CKPT_KIB)
/* --shards */
#define SMALL_BYTES UINT64_C(256)
#define ELEMENT_BYTES sizeof(float)

/* Rows of a rank in each tensor. */
static void set_shape(struct mpi_bench_state *state, uint64_t rows, uint64_t row_bytes,
		      const struct ckpt_mpi_rank_info *rank)
{
	state->shape[0] = rows * (uint64_t)rank->global_world_size;
	state->shape[1] = row_bytes / ELEMENT_BYTES;
	state->start[0] = rows * (uint64_t)rank->global_rank;
	state->start[1] = 0;
	state->size[0] = rows;
	state->size[1] = state->shape[1];
	state->chunk_bytes = rows * row_bytes;
	state->rank_bytes = state->chunk_bytes * state->tensor_count;
}

static int lay_out(struct mpi_bench_state *state, const struct mpi_options *options,
		   const struct ckpt_mpi_rank_info *rank, struct ckpt_err *err)
{
	uint64_t share = options->size_bytes / (uint64_t)rank->global_world_size;

	if (options->shard_count > 0) {
		state->tensor_count = options->shard_count;
		set_shape(state, 1, SMALL_BYTES, rank);
		return 0;
	}
	if (share < ROW_BYTES)
		return ckpt_err_set(err, -EINVAL,
				    "option '--size': give at least 4 KiB a rank, %llu in all",
				    (unsigned long long)ROW_BYTES *
					    (unsigned long long)rank->global_world_size);
	state->tensor_count = num_div_up(share, CHUNK_MAX);
	set_shape(state, share / state->tensor_count / ROW_BYTES, ROW_BYTES, rank);
	return 0;
}

/* xorshift64*: bytes that neither compress nor repeat. */
static void fill(struct mpi_bench_state *state, int rank)
{
	uint64_t x = UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)rank + 1);

	for (uint64_t at = 0; at < state->rank_bytes; at += sizeof(x)) {
		uint64_t word;

		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		word = x * UINT64_C(0x2545f4914f6cdd1d);
		memcpy(state->data + at, &word, sizeof(word));
	}
	state->digest = ckpt_hash128(state->data, state->rank_bytes);
}

/* Names sort as the tensors are numbered, so that a reader numbers them alike. */
static void describe(struct mpi_bench_state *state, size_t idx)
{
	unsigned char *data = state->data + idx * state->chunk_bytes;

	(void)snprintf(state->names[idx], sizeof(state->names[idx]), "tensor.%010zu", idx);
	state->chunks[idx] =
		(struct ckpt_mpi_chunk){ .start = state->start, .size = state->size, .data = data };
	state->entries[idx] = (struct ckpt_mpi_entry){ .fqn = state->names[idx],
						       .dtype = "F32",
						       .shape = state->shape,
						       .dim_count = 2,
						       .chunks = &state->chunks[idx],
						       .chunk_count = 1 };
	state->wants[idx] = (struct ckpt_mpi_want){
		.tensor_idx = idx, .start = state->start, .size = state->size, .data = data
	};
}

int mpi_bench_state_init(struct mpi_bench_state *state, const struct mpi_options *options,
			 const struct ckpt_mpi_rank_info *rank, struct ckpt_err *err)
{
	int rc;

	*state = (struct mpi_bench_state){ .data = NULL };
	rc = lay_out(state, options, rank, err);
	if (rc < 0)
		return rc;
	state->data = malloc(state->rank_bytes);
	state->names = array_alloc(state->tensor_count, sizeof(*state->names));
	state->chunks = array_alloc(state->tensor_count, sizeof(*state->chunks));
	state->entries = array_alloc(state->tensor_count, sizeof(*state->entries));
	state->wants = array_alloc(state->tensor_count, sizeof(*state->wants));
	if (!state->data || !state->names || !state->chunks || !state->entries || !state->wants)
		return ckpt_err_set(
			err, -ENOMEM,
			"memory is out: each of the ranks needs its part of --size; give less");
	fill(state, rank->global_rank);
	for (size_t i = 0; i < state->tensor_count; i++)
		describe(state, i);
	return 0;
}

void mpi_bench_state_release(struct mpi_bench_state *state)
{
	free(state->data);
	free(state->names);
	free(state->chunks);
	free(state->entries);
	free(state->wants);
}

void mpi_bench_state_clear(struct mpi_bench_state *state)
{
	memset(state->data, 0, state->rank_bytes);
}

int mpi_bench_state_check(const struct mpi_bench_state *state, struct ckpt_err *err)
{
	if (ckpt_digest_equal(ckpt_hash128(state->data, state->rank_bytes), state->digest))
		return 0;
	return ckpt_err_set(err, -EBADMSG,
			    "what was loaded is not what was saved; check the memory of this host");
}
