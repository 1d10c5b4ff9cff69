/*
 * cover.h - do boxes cover a tensor exactly once? And words for what is wrong.
 *
 * The boxes are cut apart along planes that no box crosses, axis after axis, as
 * any mesh of ranks cut them in the first place: O(n log n) a level of cuts.
 * Only what no plane takes apart is compared box by box.
 */
#ifndef CKPT_BASE_COVER_H
#define CKPT_BASE_COVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/box.h"
#include "base/buf.h"
#include "base/err.h"

/* Room for the text of a box or a shape; longer ones end in "...". */
#define CKPT_BOX_TEXT_MAX 320

/** ckpt_box_text - "[0..4)x[8..16)"; "[]" for 0-d. Returns @out, CKPT_BOX_TEXT_MAX bytes. */
const char *ckpt_box_text(const struct ckpt_box *box, uint32_t dim_count, char *out);
/** ckpt_extents_text - "[4, 8]", a shape or an element. Returns @out, CKPT_BOX_TEXT_MAX bytes. */
const char *ckpt_extents_text(const uint64_t *extents, uint32_t dim_count, char *out);
/** ckpt_extents_json - append "[4,8]", of any length, as the index and attributes have it. */
void ckpt_extents_json(const uint64_t *extents, uint32_t dim_count, struct ckpt_buf *out);

/* A box that one rank, or the lowest of several, holds. */
struct ckpt_part {
	struct ckpt_box box;
	int rank; /* where parts->by_ranks */
};

/* A tensor, and the boxes of it: inside it, not empty, no two of them equal. */
struct ckpt_parts {
	const char *fqn;
	const uint64_t *shape;
	uint32_t dim_count;
	struct ckpt_part *items; /* put into another order */
	size_t count;
	bool by_ranks; /* messages name them */
};

/**
 * ckpt_parts_check - each element in exactly one box?
 * Errors: -EINVAL two boxes overlap, or an element is in none; the message names tensor, boxes and
 * ranks, or the element; -ENOMEM.
 */
int ckpt_parts_check(const struct ckpt_parts *parts, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
