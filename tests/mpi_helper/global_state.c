/* global_state.c - see global_state.h. */
#include "global_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIMS 3
#define SMALL_COUNT 40
/* A tensor of more rows is not cut into single ones. */
#define CYCLIC_ROWS_MAX 1000

struct kind {
	const char *fqn;
	const char *dtype;
	uint64_t element_bytes;
	uint32_t dim_count;
	uint64_t shape[DIMS];
};

/* Blocks of sums have 1 MiB: some tensors have several, some blocks several tensors. */
static const struct kind kinds[] = {
	{ "big", "F32", 4, 2, { 600, 1031 } },	 { "columns", "F64", 8, 2, { 301, 700 } },
	{ "cube", "F16", 2, 3, { 37, 41, 43 } }, { "bytes", "U8", 1, 1, { 1000003 } },
	{ "thin", "U8", 1, 2, { 90001, 4 } },	 { "flag", "BOOL", 1, 1, { 1 } },
	{ "scalar", "F32", 4, 0, { 0 } },	 { "empty", "F32", 4, 2, { 0, 7 } },
	{ "hollow", "BF16", 2, 2, { 5, 0 } },	 { "naïve \"name\"", "I64", 8, 1, { 9 } },
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static const struct kind small = { "small", "F16", 2, 2, { 3, 5 } };
static char small_names[SMALL_COUNT][32];

static void *need(size_t bytes)
{
	void *room = calloc(1, bytes + 1);

	if (!room)
		abort();
	return room;
}

static uint64_t extent(const struct kind *kind, uint32_t dim)
{
	return dim < kind->dim_count ? kind->shape[dim] : 1;
}

static unsigned char *make_whole(const struct kind *kind, size_t idx)
{
	uint64_t bytes = kind->element_bytes * extent(kind, 0) * extent(kind, 1) * extent(kind, 2);
	unsigned char *whole = need(bytes);
	uint64_t word = 0x9e3779b97f4a7c15U * (idx + 1);

	for (uint64_t i = 0; i < bytes; i++) {
		word = word * 6364136223846793005U + 1442695040888963407U;
		whole[i] = (unsigned char)(word >> 56);
	}
	return whole;
}

/* The box without gaps. */
static unsigned char *gather(const struct kind *kind, const unsigned char *whole,
			     const uint64_t *start, const uint64_t *size, uint64_t *out_bytes)
{
	uint64_t s[DIMS] = { 0, 0, 0 };
	uint64_t n[DIMS] = { 1, 1, 1 };
	unsigned char *out;
	uint64_t at = 0;

	memcpy(s, start, kind->dim_count * sizeof(*s));
	memcpy(n, size, kind->dim_count * sizeof(*n));
	out = need(n[0] * n[1] * n[2] * kind->element_bytes);
	for (uint64_t i = 0; i < n[0] && n[2] > 0; i++) {
		for (uint64_t j = 0; j < n[1]; j++) {
			uint64_t element =
				((s[0] + i) * extent(kind, 1) + s[1] + j) * extent(kind, 2) + s[2];

			memcpy(out + at, whole + element * kind->element_bytes,
			       n[2] * kind->element_bytes);
			at += n[2] * kind->element_bytes;
		}
	}
	*out_bytes = at;
	return out;
}

/* --- cutting ---------------------------------------------------------------------------------- */

static const char *const cut_names[CUT_COUNT] = { "rows", "columns", "mesh", "not",
						  "one",  "cyclic",  "half" };

const char *state_cut_name(enum state_cut cut)
{
	return cut_names[cut];
}

static void place_on_mesh(const struct kind *kind, int rank, int size, int dim, uint64_t *start,
			  uint64_t *count)
{
	const int both[] = { 0, 1 };
	const int extents[] = { size % 2 == 0 ? 2 : 1, size % 2 == 0 ? size / 2 : size };
	const struct ckpt_mpi_mesh mesh = { extents, both, 2 };
	const struct ckpt_mpi_mesh line = { &size, &dim, 1 };

	if (ckpt_mpi_mesh_chunk(kind->shape, kind->dim_count, dim < 0 ? &mesh : &line, rank, start,
				count) < 0)
		abort();
}

/* Who cuts how. */
struct cutter {
	enum state_cut cut;
	int rank;
	int size;
};

/* Chunk @idx of the rank; false: it has no more. */
static bool cut_chunk(const struct kind *kind, const struct cutter *who, size_t idx,
		      uint64_t *start, uint64_t *count)
{
	enum state_cut cut = who->cut;
	int rank = who->rank;
	int size = who->size;

	memset(start, 0, DIMS * sizeof(*start));
	memcpy(count, kind->shape, DIMS * sizeof(*count));
	if (cut == CUT_CYCLIC && kind->dim_count > 1 && kind->shape[0] < CYCLIC_ROWS_MAX) {
		start[0] = idx * (uint64_t)size + (uint64_t)rank;
		count[0] = 1;
		return start[0] < kind->shape[0];
	}
	if (idx > 0 || (cut == CUT_ONE && rank != size - 1) || (cut == CUT_HALF && rank < size / 2))
		return false;
	if (cut == CUT_ROWS || cut == CUT_COLUMNS || cut == CUT_MESH)
		place_on_mesh(kind, rank, size,
			      cut == CUT_ROWS	   ? 0
			      : cut == CUT_COLUMNS ? 1
						   : -1,
			      start, count);
	if (cut == CUT_HALF)
		place_on_mesh(kind, rank - size / 2, size - size / 2, 0, start, count);
	return true;
}

static const uint64_t *keep_extents(const uint64_t *extents)
{
	uint64_t *copy = need(DIMS * sizeof(*copy));

	memcpy(copy, extents, DIMS * sizeof(*copy));
	return copy;
}

static void add_chunk(struct state *state, size_t e, const struct kind *kind, const uint64_t *start,
		      const uint64_t *size)
{
	struct ckpt_mpi_entry *entry = &state->entries[e];
	size_t idx = entry->chunk_count++;
	struct state_chunk *own;
	const uint64_t strides[DIMS] = {
		extent(kind, 1) * extent(kind, 2),
		extent(kind, 2),
		1,
	};
	uint64_t first = start[0] * strides[0] + start[1] * strides[1] + start[2];

	state->chunks[e] = realloc(state->chunks[e], (idx + 1) * sizeof(**state->chunks));
	state->own[e] = realloc(state->own[e], (idx + 1) * sizeof(**state->own));
	if (!state->chunks[e] || !state->own[e])
		abort();
	own = &state->own[e][idx];
	*own = (struct state_chunk){ .next = 0 };
	own->data = gather(kind, state->wholes[e], start, size, &own->bytes);
	state->chunks[e][idx] = (struct ckpt_mpi_chunk){
		.start = keep_extents(start),
		.size = keep_extents(size),
		.data = state->source == FROM_MEMORY ? own->data
			: state->source == FROM_STRIDES
				? state->wholes[e] + first * kind->element_bytes
				: NULL,
		.strides = state->source == FROM_STRIDES ? keep_extents(strides) : NULL,
	};
	entry->chunks = state->chunks[e];
}

struct state *state_new(int rank, int size, enum state_cut cut, enum state_source source)
{
	struct state *state = need(sizeof(*state));
	const struct cutter who = { cut, rank, size };
	uint64_t start[DIMS];
	uint64_t count[DIMS];

	state->source = source;
	state->fail_at = -1;
	state->count = KIND_COUNT + SMALL_COUNT;
	state->entries = need(state->count * sizeof(*state->entries));
	state->chunks = need(state->count * sizeof(void *));
	state->own = need(state->count * sizeof(void *));
	state->wholes = need(state->count * sizeof(void *));
	for (size_t e = 0; e < state->count; e++) {
		const struct kind *kind = e < KIND_COUNT ? &kinds[e] : &small;

		state->entries[e] = (struct ckpt_mpi_entry){ .fqn = kind->fqn,
							     .dtype = kind->dtype,
							     .shape = kind->shape,
							     .dim_count = kind->dim_count };
		if (e >= KIND_COUNT) {
			(void)snprintf(small_names[e - KIND_COUNT], sizeof(small_names[0]),
				       "small.%zu", e - KIND_COUNT);
			state->entries[e].fqn = small_names[e - KIND_COUNT];
		}
		state->wholes[e] = make_whole(kind, e);
		for (size_t i = 0; cut_chunk(kind, &who, i, start, count); i++)
			add_chunk(state, e, kind, start, count);
	}
	return state;
}

/* What is const for the library was made here. */
static void free_const(const uint64_t *extents)
{
	void *room;

	memcpy(&room, &extents, sizeof(room));
	free(room);
}

void state_free(struct state *state)
{
	for (size_t e = 0; e < state->count; e++) {
		for (size_t c = 0; c < state->entries[e].chunk_count; c++) {
			free(state->own[e][c].data);
			free_const(state->chunks[e][c].start);
			free_const(state->chunks[e][c].size);
			free_const(state->chunks[e][c].strides);
		}
		free(state->chunks[e]);
		free(state->own[e]);
		free(state->wholes[e]);
	}
	free(state->entries);
	free(state->chunks);
	free(state->own);
	free(state->wholes);
	free(state);
}

/* --- saving ----------------------------------------------------------------------------------- */

static int give(void *ctx, const struct ckpt_mpi_piece *piece)
{
	struct state *state = ctx;
	struct state_chunk *own = &state->own[piece->entry_idx][piece->chunk_idx];

	if (piece->offset != own->next || piece->len > own->bytes - own->next)
		state->out_of_order = true;
	if (state->fail_at == 0) {
		(void)snprintf(piece->message, CKPT_MPI_MESSAGE_MAX, "the tape has ended");
		return -ENODATA;
	}
	state->fail_at -= state->fail_at > 0;
	memcpy(piece->out, own->data + piece->offset, piece->len);
	own->next = piece->offset + piece->len;
	state->asked_bytes += piece->len;
	return 0;
}

struct ckpt_mpi_save_request state_request(struct state *state, const char *path)
{
	return (struct ckpt_mpi_save_request){
		.path = path,
		.entries = state->entries,
		.entry_count = state->count,
		.layout = CKPT_MPI_LAYOUT_GLOBAL,
		.read = state->source == FROM_READ ? give : NULL,
		.ctx = state,
	};
}

bool state_complete(const struct state *state)
{
	for (size_t e = 0; e < state->count; e++) {
		for (size_t c = 0; c < state->entries[e].chunk_count; c++) {
			const struct state_chunk *own = &state->own[e][c];

			/* Of what several ranks hold, one was asked. */
			if (own->next != 0 && own->next != own->bytes)
				return false;
		}
	}
	return !state->out_of_order;
}
