/*
 * diff.h - which tensors of two checkpoints differ, and by how much: part of the layer header
 * view.h. It does not matter how either is sharded, or where it lies.
 */
#ifndef CKPT_VIEW_DIFF_H
#define CKPT_VIEW_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ckpt_shard;
struct ckpt_tensor;
struct ckpt_views;
struct ckpt_view_reader;

enum ckpt_diff_kind {
	CKPT_DIFF_EQUAL,    /* every element has the same bits */
	CKPT_DIFF_CHANGED,  /* the same shape and type, other elements */
	CKPT_DIFF_RECAST,   /* the same shape, another type; elements are compared as numbers */
	CKPT_DIFF_RESHAPED, /* another shape */
	CKPT_DIFF_ADDED,    /* only in b */
	CKPT_DIFF_REMOVED,  /* only in a */
};

/* One FQN of the two. */
struct ckpt_diff_item {
	enum ckpt_diff_kind kind;
	const struct ckpt_tensor *a; /* NULL: ADDED. Borrowed from the views */
	const struct ckpt_tensor *b; /* NULL: REMOVED */
	size_t a_idx, b_idx;	     /* in ckpt_views_contents() */
	/* Of CHANGED and RECAST. */
	uint64_t changed_count; /* elements that differ; two NaNs do not, nor do 0 and -0 of RECAST */
	uint64_t nan_count; /* of those, elements of which exactly one is NaN: in no figure below */
	double rel_l2;	    /* ||b - a|| / ||a||; infinite where a is all zero */
	double max_abs;	    /* the largest |b - a| */
};

struct ckpt_diff {
	struct ckpt_diff_item *items; /* by (set, FQN); after ckpt_diff_sort() by how much changed */
	size_t item_count;
	size_t differ_count; /* that are not EQUAL */
	uint64_t read_bytes; /* of a: the rest was known to be equal by its sums */
};

/* A side: its views, and how they are read. Borrowed. */
struct ckpt_diff_side {
	struct ckpt_views *views;
	struct ckpt_view_reader *reader;
};

struct ckpt_diff_options {
	/* Bytes compared of all; non-zero cancels (-ECANCELED). NULL: none. */
	int (*progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
	void *progress_ctx;
};

/**
 * ckpt_diff_run - compare two checkpoints, tensor by tensor, on all cores
 * @out: ckpt_diff_release() it before the views
 * Tensors are found by set and FQN; where each side has one set, whatever it is called, by FQN.
 * Chunks of committed checkpoints that are the same box at the same place of shards with equal sums
 * are equal unread.
 * Errors: as ckpt_view_read; -ECANCELED.
 */
int ckpt_diff_run(const struct ckpt_diff_side *a, const struct ckpt_diff_side *b,
		  const struct ckpt_diff_options *options, struct ckpt_diff *out,
		  struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_diff_sort - what is only on one side, reshaped or recast first, then by rel_l2 descending. */
void ckpt_diff_sort(struct ckpt_diff *diff);
void ckpt_diff_release(struct ckpt_diff *diff);
/** ckpt_shards_equal - have two shards, whose sums are known, the same bytes? */
bool ckpt_shards_equal(const struct ckpt_shard *a, const struct ckpt_shard *b);
/** ckpt_diff_word - "equal", "changed", "recast", "reshaped", "added", "removed". */
const char *ckpt_diff_word(enum ckpt_diff_kind kind);

#endif
