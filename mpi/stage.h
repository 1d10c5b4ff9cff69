/*
 * stage.h - copies of what an asynchronous save writes, so that the application
 * can go on and change the originals.
 */
#ifndef CKPT_MPI_STAGE_H
#define CKPT_MPI_STAGE_H

#include <stddef.h>

#include "base/err.h"
#include "ckptfs_mpi.h"

struct ckpt_shard_out;

/*
 * The memory of the copies. A job keeps it for its next save: the kernel hands pages out, and
 * clears them, only once. Zeroed: none.
 */
struct ckpt_stage_room {
	unsigned char *data;
	size_t size_bytes;
};

/** ckpt_stage_room_release - give it back; may be called again. */
void ckpt_stage_room_release(struct ckpt_stage_room *room);

/**
 * ckpt_stage_fill - copy what this rank writes, and ask for what is not in memory
 * @buffers: CKPT_MPI_BORROW: only what must be asked for is copied
 * @room:    grown where it is too small
 * @out:     out->staged is filled in; the copies stay in @room
 * A strided chunk keeps its order in memory, without gaps: that copy is the fastest; it is turned
 * when it is written. Errors: -ENOMEM says what to do; else what request->read answers.
 */
int ckpt_stage_fill(struct ckpt_shard_out *out, enum ckpt_mpi_buffers buffers,
		    struct ckpt_stage_room *room, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
