/*
 * global_state.h - tensors of every kind, cut among the ranks in every way, for
 * the tests of layout global. What a byte is depends on its tensor and place alone.
 */
#ifndef CKPT_GLOBAL_STATE_H
#define CKPT_GLOBAL_STATE_H

#include "mpi_test.h"

enum state_cut {
	CUT_ROWS,    /* along dimension 0 */
	CUT_COLUMNS, /* along dimension 1 */
	CUT_MESH,    /* 2 x the rest: dimension 0, then 1 */
	CUT_NOT,     /* all ranks have all of it */
	CUT_ONE,     /* the last rank has all of it */
	CUT_CYCLIC,  /* row i is a chunk of its own, of rank i % size */
	CUT_HALF,    /* the first half of the ranks has nothing */
	CUT_COUNT
};

enum state_source {
	FROM_MEMORY,  /* each chunk without gaps */
	FROM_STRIDES, /* each chunk a part of the whole tensor in memory */
	FROM_READ,    /* asked for */
	SOURCE_COUNT
};

struct state_chunk {
	unsigned char *data; /* as it is stored */
	uint64_t bytes;
	uint64_t next; /* FROM_READ: what is to be asked for next */
};

struct state {
	enum state_source source;
	struct ckpt_mpi_entry *entries;
	struct ckpt_mpi_chunk **chunks; /* an array an entry */
	struct state_chunk **own;	/* the same */
	unsigned char **wholes;
	size_t count;
	uint64_t asked_bytes;
	int fail_at;	   /* FROM_READ: this rank fails after so many pieces; -1 */
	bool out_of_order; /* a piece was asked for that was not the next */
};

const char *state_cut_name(enum state_cut cut);
/** state_new - the part of rank @rank of @size. Exits where memory is out. */
struct state *state_new(int rank, int size, enum state_cut cut, enum state_source source);
void state_free(struct state *state);
/** state_request - everything borrowed from @state. */
struct ckpt_mpi_save_request state_request(struct state *state, const char *path);
/** state_complete - were all pieces asked for, once? */
bool state_complete(const struct state *state);

#endif
