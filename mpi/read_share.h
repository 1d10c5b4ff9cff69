/*
 * read_share.h - what several ranks of a node want alike is read there once and
 * handed round.
 *
 * The ranks tell each other what they want, and each works out alike who reads
 * which part of it. Then they go in rounds: each reads what fits into a slot
 * that the others see, all agree that they have done so, and each takes what it
 * wants of all slots, while the next round fills the other slot of each.
 *
 * A rank that fails ends the rounds for its node, and alone has an error.
 */
#ifndef CKPT_MPI_READ_SHARE_H
#define CKPT_MPI_READ_SHARE_H

#include <stdbool.h>

#include "job.h"
#include "read_item.h"

struct ckpt_read_share;

/**
 * ckpt_read_share_plan - find out what is wanted by several, and who reads it; collective
 * @list: borrowed until the end
 * @out: NULL where no node has anything to hand round
 */
int ckpt_read_share_plan(struct ckpt_mpi *job, struct ckpt_read_list *list,
			 struct ckpt_read_share **out) CKPT_MUST_CHECK;
/* How it went on this rank. */
struct ckpt_read_share_end {
	int code;   /* this rank's own failure, to be agreed on; its message in err */
	bool ended; /* some rank of this node failed: there is no need to read more */
};

/**
 * ckpt_read_share_run - read it and hand it round; collective. What was, is marked as done in the
 * list. Where ranks cannot see each other's memory it does nothing. Returns 0, or what all ranks
 * know already.
 */
int ckpt_read_share_run(struct ckpt_read_share *share, struct ckpt_fill *fill,
			struct ckpt_read_share_end *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_read_share_free - NULL is a no-op. */
void ckpt_read_share_free(struct ckpt_read_share *share);

#endif
