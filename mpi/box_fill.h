/* box_fill.h - a box of a tensor out of the chunks it was cut into, every block verified. */
#ifndef CKPT_MPI_BOX_FILL_H
#define CKPT_MPI_BOX_FILL_H

#include <stddef.h>

#include "base/box.h"
#include "base/err.h"
#include "store/store.h"

struct ckpt_fill;

/* Where bytes are read from, and who is told how far it is. Everything borrowed until the end. */
struct ckpt_fill_from {
	int dirfd;	   /* of the checkpoint's folder */
	const char *label; /* of the checkpoint, for messages */
	const struct ckpt_manifest *manifest;
	/* Bytes that were read since the last call, about a MiB; non-zero ends the reading. */
	int (*moved)(void *ctx, uint64_t bytes, struct ckpt_err *err);
	void *ctx;
};

/** ckpt_fill_new - NULL when memory is out. One thread at a time. */
struct ckpt_fill *ckpt_fill_new(const struct ckpt_fill_from *from);
/** ckpt_fill_free - NULL is a no-op. */
void ckpt_fill_free(struct ckpt_fill *fill);

/* Memory that receives a box. */
struct ckpt_fill_to {
	unsigned char *data;	 /* its first element */
	const uint64_t *strides; /* elements; NULL: row-major without gaps */
};

/**
 * ckpt_fill_box - read a box
 * @box: inside the tensor, of at least one element, its bytes below 2^63
 * Whole blocks go where they are wanted without a copy; of others each is read once for a chunk.
 * Errors: -EBADMSG a block does not fit its sum, or chunks do not cover the box exactly; -ENOENT,
 * -ESTALE a shard is gone or short; what ->moved answers; else system.
 */
int ckpt_fill_box(struct ckpt_fill *fill, const struct ckpt_tensor *tensor,
		  const struct ckpt_box *box, const struct ckpt_fill_to *to, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/** ckpt_fill_blob - bytes [@offset, + @len) of a blob into @out. Errors as ckpt_fill_box. */
int ckpt_fill_blob(struct ckpt_fill *fill, const struct ckpt_bytes_entry *blob, uint64_t offset,
		   uint64_t len, void *out, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
