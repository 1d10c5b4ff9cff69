/*
 * box.h - boxes of a tensor, and the runs of bytes that a copy between two
 * strided layouts of one box consists of.
 */
#ifndef CKPT_BASE_BOX_H
#define CKPT_BASE_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Tensors of more dimensions do not occur (PyTorch's own limit is 64). */
#define CKPT_DIM_MAX 64

/* Borrowed start and size, dim_count each. */
struct ckpt_box {
	const uint64_t *start;
	const uint64_t *size;
};

/** ckpt_box_volume - elements; 1 for 0-d; -EOVERFLOW. */
int ckpt_box_volume(const uint64_t *size, uint32_t dim_count, uint64_t *out) CKPT_MUST_CHECK;
/** ckpt_box_inside - does the box lie in @shape? */
bool ckpt_box_inside(const struct ckpt_box *box, const uint64_t *shape, uint32_t dim_count);
/**
 * ckpt_box_meet - the common box of @a and @b into @start and @size; false where there is none.
 * 0-d boxes always meet.
 */
bool ckpt_box_meet(const struct ckpt_box *a, const struct ckpt_box *b, uint32_t dim_count,
		   uint64_t *start, uint64_t *size);
/** ckpt_box_strides - row-major strides, in elements, of an array of @size. */
void ckpt_box_strides(const uint64_t *size, uint32_t dim_count, uint64_t *out);

/* A copy of a box between two layouts: run_count runs of run_bytes. */
struct ckpt_copy {
	uint32_t dim_count; /* loops that are left when runs are as long as they can be */
	uint64_t count[CKPT_DIM_MAX];
	uint64_t from_stride[CKPT_DIM_MAX]; /* bytes */
	uint64_t to_stride[CKPT_DIM_MAX];
	uint64_t run_bytes;
	uint64_t run_count;
};

/* The two layouts, in elements. */
struct ckpt_copy_spec {
	const uint64_t *size;
	const uint64_t *from_stride;
	const uint64_t *to_stride;
	uint32_t dim_count;
	uint64_t element_bytes;
};

/**
 * ckpt_copy_plan - the runs, in ascending order of where they are copied from
 * Offsets count from the box's first element on each side. The caller has checked that they do not
 * overflow.
 * Where both layouts are row-major, they ascend on both sides.
 */
void ckpt_copy_plan(const struct ckpt_copy_spec *spec, struct ckpt_copy *out);
/** ckpt_copy_run - where run @idx < run_count begins on both sides. */
void ckpt_copy_run(const struct ckpt_copy *copy, uint64_t idx, uint64_t *out_from,
		   uint64_t *out_to);

#endif
