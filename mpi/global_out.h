/*
 * global_out.h - layout global: all ranks write one model.safetensors.
 *
 * Two phases, in rounds: the ranks send what they have of the round's windows
 * to the ranks that write them, the aggregators, each of which puts its window
 * together, sums its blocks and writes it in one go. So the file is written in
 * large pieces, however the tensors are cut, and no block is read back for its
 * sum. Memory: a window an aggregator, and on every rank what it sends of a
 * round; where the save goes on in the background, all windows of a rank.
 */
#ifndef CKPT_MPI_GLOBAL_OUT_H
#define CKPT_MPI_GLOBAL_OUT_H

#include <stdbool.h>

#include "global_layout.h"
#include "shard_out.h"

struct ckpt_global_out;

/**
 * ckpt_global_out_begin - make the file; collective, within a phase
 * @layout_wire: of ckpt_global_layout_make(), the same on all ranks; borrowed, as is @out
 * @in_background: the chunks' bytes are taken to the aggregators' memory, which all ranks are then,
 *                 as nothing else can be exchanged later; they are not looked at any more
 * @out_global: also after a failure: ckpt_global_out_free() it
 */
int ckpt_global_out_begin(struct ckpt_shard_out *out, const struct ckpt_buf *layout_wire,
			  bool in_background, struct ckpt_global_out **out_global) CKPT_MUST_CHECK;
/** ckpt_global_out_bytes - what ckpt_global_out_write() will move on this rank. */
uint64_t ckpt_global_out_bytes(const struct ckpt_global_out *global);
/**
 * ckpt_global_out_write - in the background: write this rank's windows, durably; else nothing, yet
 * Local, without MPI calls.
 */
int ckpt_global_out_write(struct ckpt_global_out *global, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_global_out_end - what is left when all ranks have done that: all of it where it does not go
 * on in the background. Adds the coordinator's record. Collective, within a phase.
 */
int ckpt_global_out_end(struct ckpt_global_out *global) CKPT_MUST_CHECK;
/** ckpt_global_out_free - NULL is a no-op. */
void ckpt_global_out_free(struct ckpt_global_out *global);

#endif
