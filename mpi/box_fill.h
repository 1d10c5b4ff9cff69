/* box_fill.h - a box of a tensor out of the chunks it was cut into, every block verified. */
#ifndef CKPT_MPI_BOX_FILL_H
#define CKPT_MPI_BOX_FILL_H

#include <stddef.h>

#include "base/err.h"
#include "box.h"
#include "store/store.h"

struct ckpt_fill;

/**
 * ckpt_fill_new - read from a checkpoint
 * @dirfd: its folder; borrowed, as are @label (for messages) and @manifest, until ckpt_fill_free
 * NULL when memory is out.
 */
struct ckpt_fill *ckpt_fill_new(int dirfd, const char *label, const struct ckpt_manifest *manifest);
/** ckpt_fill_free - NULL is a no-op. */
void ckpt_fill_free(struct ckpt_fill *fill);

/**
 * ckpt_fill_box - read a box, row-major, into @out
 * @box: inside the tensor, of at least one element, its bytes below 2^63
 * Errors: -EBADMSG a block does not fit its sum, or chunks do not cover the box exactly; -ENOENT,
 * -ESTALE a shard is gone or short; else system.
 */
int ckpt_fill_box(struct ckpt_fill *fill, const struct ckpt_tensor *tensor,
		  const struct ckpt_box *box, void *out, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
