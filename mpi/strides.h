/*
 * strides.h - a box that lies in memory with gaps or in another order, as the
 * bytes that are stored: row-major, without gaps.
 */
#ifndef CKPT_MPI_STRIDES_H
#define CKPT_MPI_STRIDES_H

#include <stddef.h>
#include <stdint.h>

#include "base/box.h"
#include "base/err.h"

/* A box of at least one element in memory; everything borrowed, dim_count extents each. */
struct ckpt_strided {
	const unsigned char *data; /* its first element */
	const uint64_t *size;
	const uint64_t *strides; /* elements; NULL: as it is stored */
	uint32_t dim_count;
	uint64_t element_bytes;
};

/**
 * ckpt_strides_check - can memory hold a box with these strides?
 * @strides: NULL is fine
 * Errors: -EOVERFLOW the last element lies further away than memory reaches; the message says what
 * to look at, the caller which box it was.
 */
int ckpt_strides_check(const struct ckpt_strided *box, struct ckpt_err *err) CKPT_MUST_CHECK;

/** ckpt_strides_are_dense - it lies there as it is stored. */
bool ckpt_strides_are_dense(const struct ckpt_strided *box);

/**
 * ckpt_strides_tight - strides of a copy without gaps that keeps the order in memory, so that making
 * the copy reads and writes forwards
 */
void ckpt_strides_tight(const struct ckpt_strided *box, uint64_t *out);

/**
 * ckpt_strides_copy - copy the box to @out, where its strides are @out_strides
 * They do not make elements overlap, nor offsets that overflow.
 */
void ckpt_strides_copy(const struct ckpt_strided *box, const uint64_t *out_strides, void *out);

/* A stretch of the stored bytes that can be gathered in one go. */
struct ckpt_slab {
	uint64_t offset; /* in the stored bytes */
	uint64_t len;
	uint64_t first[CKPT_DIM_MAX]; /* the box of it, in the box */
	uint64_t size[CKPT_DIM_MAX];
};

/**
 * ckpt_slab_at - the slab that holds the stored byte @offset
 * @room: bytes a slab may have, at least an element. Slabs of one box and one room do not overlap.
 */
void ckpt_slab_at(const struct ckpt_strided *box, uint64_t offset, uint64_t room,
		  struct ckpt_slab *out);
/** ckpt_slab_gather - its bytes, slab->len of them, as they are stored. */
void ckpt_slab_gather(const struct ckpt_strided *box, const struct ckpt_slab *slab, void *out);

#endif
