/*
 * slices.h - work on the bytes of many tensors, cut into slices, on all cores.
 * May be included only by index/view/<anything>.c.
 */
#ifndef CKPT_VIEW_SLICES_H
#define CKPT_VIEW_SLICES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * A slice: long enough that taking the next one costs nothing, short enough to stay in a
 * second-level cache. A multiple of every element's size.
 */
#define CKPT_SLICE_BYTES ((size_t)1 << 20)

struct ckpt_slice {
	size_t item;
	uint64_t offset_bytes; /* in the tensor's row-major bytes */
	size_t len_bytes;      /* at most CKPT_SLICE_BYTES */
	void *room;	       /* the worker's own, 2 * CKPT_SLICE_BYTES */
};

struct ckpt_slices {
	size_t item_count;
	/* Bytes of an item; 0: nothing is to be done for it. */
	uint64_t (*size_bytes)(void *ctx, size_t item);
	/* In several threads at a time; slices of one item come in order, but end in any. */
	int (*work)(void *ctx, const struct ckpt_slice *slice, struct ckpt_err *err);
	/* Bytes done of all, under a lock; non-zero cancels (-ECANCELED). NULL: none. */
	int (*progress)(void *progress_ctx, uint64_t bytes_done, uint64_t bytes_total);
	void *ctx;
	void *progress_ctx;
};

/**
 * ckpt_slices_run - until all is done, or something fails: then the first failure is returned
 * Errors: -ECANCELED; -ENOMEM; what work() returns. No lock is held while it works.
 */
int ckpt_slices_run(const struct ckpt_slices *slices, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
