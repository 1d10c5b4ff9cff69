/*
 * pack_out.h - the pack of a node: the small shards of all its ranks, one
 * behind the other without gaps, in rank order. Both ways to write it put the
 * same bytes at the same offsets.
 */
#ifndef CKPT_MPI_PACK_OUT_H
#define CKPT_MPI_PACK_OUT_H

#include "shard_out.h"

struct ckpt_pack;

/**
 * ckpt_pack_begin - agree on who writes where, and make the file
 * @out_pack: also after a failure: ckpt_pack_free() it
 * Collective, within a phase.
 */
int ckpt_pack_begin(struct ckpt_shard_out *out, struct ckpt_pack **out_pack) CKPT_MUST_CHECK;
/**
 * ckpt_pack_write - write this rank's small shards, durably; with CKPT_MPI_IO_MPIIO nothing, yet
 * Local, without MPI calls.
 */
int ckpt_pack_write(struct ckpt_pack *pack, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_pack_end - what is left when all ranks have written: all of it with CKPT_MPI_IO_MPIIO.
 * Collective, within a phase.
 */
int ckpt_pack_end(struct ckpt_pack *pack) CKPT_MUST_CHECK;
/** ckpt_pack_free - NULL is a no-op. */
void ckpt_pack_free(struct ckpt_pack *pack);

#endif
