/*
 * seed_state.h - the state dict of the reference's failure tests, as one rank
 * holds it: "sharded" 20x20 cut along dimension 0, "replicated" 10x10, "bytes".
 */
#ifndef CKPT_SEED_STATE_H
#define CKPT_SEED_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../mpi/ckptfs_mpi.h"

#define SEED_ROWS 20
#define SEED_SMALL 10

struct seed_state {
	float sharded[SEED_ROWS * SEED_ROWS]; /* the whole; only this rank's rows are filled in */
	float replicated[SEED_SMALL * SEED_SMALL];
	unsigned char bytes[4];
	uint64_t start[2]; /* of this rank's rows */
	uint64_t size[2];
	struct ckpt_mpi_chunk chunks[2];
	struct ckpt_mpi_entry entries[2];
	struct ckpt_mpi_blob blob;
	struct ckpt_mpi_want wants[2];
};

/** seed_state_make - what rank @rank of @world_size saves; @state must not move afterwards. */
void seed_state_make(struct seed_state *state, int rank, int world_size);
/** seed_state_save_request - to save it as @path. */
struct ckpt_mpi_save_request seed_state_save_request(const struct seed_state *state,
						     const char *path);
/** seed_state_read_request - to read it into @state, whose numbers become 0 here. */
struct ckpt_mpi_read_request seed_state_read_request(struct seed_state *state,
						     const struct ckpt_mpi_reader *reader);
/** seed_state_is_whole - it holds what seed_state_make() puts there. */
bool seed_state_is_whole(const struct seed_state *state);

#endif
