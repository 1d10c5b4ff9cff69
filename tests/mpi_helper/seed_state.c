/* seed_state.c - see seed_state.h. */
#include "seed_state.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const uint64_t sharded_shape[] = { SEED_ROWS, SEED_ROWS };
static const uint64_t replicated_shape[] = { SEED_SMALL, SEED_SMALL };
static const uint64_t origin[] = { 0, 0 };

static void fill(struct seed_state *state)
{
	for (uint64_t i = 0; i < state->size[0] * SEED_ROWS; i++)
		state->sharded[state->start[0] * SEED_ROWS + i] =
			(float)(state->start[0] * SEED_ROWS + i);
	for (int i = 0; i < SEED_SMALL * SEED_SMALL; i++)
		state->replicated[i] = (float)-i;
}

void seed_state_make(struct seed_state *state, int rank, int world_size)
{
	memset(state, 0, sizeof(*state));
	ckpt_mpi_cut(SEED_ROWS, rank, world_size, &state->start[0], &state->size[0]);
	state->size[1] = SEED_ROWS;
	fill(state);
	memcpy(state->bytes, (unsigned char[]){ 1, 2, 3, 4 }, sizeof(state->bytes));
	state->chunks[0] = (struct ckpt_mpi_chunk){
		.start = state->start,
		.size = state->size,
		.data = state->sharded + state->start[0] * SEED_ROWS,
	};
	state->chunks[1] = (struct ckpt_mpi_chunk){
		.start = origin,
		.size = replicated_shape,
		.data = state->replicated,
	};
	state->entries[0] =
		(struct ckpt_mpi_entry){ "sharded", "F32", sharded_shape, 2, &state->chunks[0], 1 };
	state->entries[1] = (struct ckpt_mpi_entry){ "replicated",	"F32", replicated_shape, 2,
						     &state->chunks[1], 1 };
	state->blob = (struct ckpt_mpi_blob){ "bytes", state->bytes, sizeof(state->bytes) };
}

struct ckpt_mpi_save_request seed_state_save_request(const struct seed_state *state,
						     const char *path)
{
	return (struct ckpt_mpi_save_request){
		.path = path,
		.entries = state->entries,
		.entry_count = 2,
		.blobs = &state->blob,
		.blob_count = 1,
	};
}

/* The number of tensor @fqn; the tests' checkpoints have it. */
static size_t find(const struct ckpt_mpi_reader *reader, const char *fqn)
{
	struct ckpt_mpi_tensor tensor;
	size_t idx = ckpt_mpi_reader_tensor_count(reader);

	while (idx > 0) {
		ckpt_mpi_reader_tensor(reader, --idx, &tensor);
		if (strcmp(tensor.fqn, fqn) == 0)
			break;
	}
	return idx;
}

struct ckpt_mpi_read_request seed_state_read_request(struct seed_state *state,
						     const struct ckpt_mpi_reader *reader)
{
	memset(state->sharded, 0, sizeof(state->sharded));
	memset(state->replicated, 0, sizeof(state->replicated));
	state->wants[0] = (struct ckpt_mpi_want){
		.tensor_idx = find(reader, "sharded"),
		.start = state->start,
		.size = state->size,
		.data = state->sharded + state->start[0] * SEED_ROWS,
	};
	state->wants[1] = (struct ckpt_mpi_want){
		.tensor_idx = find(reader, "replicated"),
		.start = origin,
		.size = replicated_shape,
		.data = state->replicated,
	};
	return (struct ckpt_mpi_read_request){ .wants = state->wants, .want_count = 2 };
}

static bool are_same(const float *is, const float *should, size_t count)
{
	size_t i = 0;

	while (i < count && is[i] == should[i])
		i++;
	return i == count;
}

bool seed_state_is_whole(const struct seed_state *state)
{
	struct seed_state should = { .start = { state->start[0] }, .size = { state->size[0] } };

	fill(&should);
	return are_same(state->sharded, should.sharded, COUNT(should.sharded)) &&
	       are_same(state->replicated, should.replicated, COUNT(should.replicated));
}
