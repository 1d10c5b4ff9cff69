/*
 * read_item.h - what a rank wants to read, thing by thing: a box of a tensor,
 * or a blob. Bytes of a box are counted as they are stored: row-major, without
 * gaps.
 */
#ifndef CKPT_MPI_READ_ITEM_H
#define CKPT_MPI_READ_ITEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/box.h"
#include "base/err.h"
#include "box_fill.h"
#include "ckptfs_mpi.h"
#include "strides.h"

/* Of at least one byte; everything borrowed from the manifest and the request. */
struct ckpt_read_item {
	const struct ckpt_tensor *tensor; /* NULL: a blob, and no box and strides */
	const struct ckpt_bytes_entry *blob;
	size_t manifest_idx; /* of the one or the other */
	struct ckpt_box box;
	struct ckpt_fill_to to; /* data NULL: handed out, or only verified */
	size_t want_idx;
	uint64_t bytes;
	bool done; /* another rank of the node read it, or this one for others */
};

struct ckpt_read_list {
	const struct ckpt_mpi_read_request *request;
	struct ckpt_read_item *items;
	size_t count;
	uint64_t bytes; /* of all */
};

/**
 * ckpt_read_list_make - check a request against a checkpoint
 * @label: the checkpoint, for messages
 * @out: ckpt_read_list_release() it, also after a failure
 * Errors: -EINVAL a want that is not in its tensor, or of nothing there is; -EOVERFLOW; -ENOMEM.
 */
int ckpt_read_list_make(const struct ckpt_manifest *manifest, const char *label,
			const struct ckpt_mpi_read_request *request, struct ckpt_read_list *out,
			struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_read_list_release(struct ckpt_read_list *list);

/**
 * ckpt_item_slab - the stretch that holds byte @offset, for memory of @room bytes; those of one item
 * and one room do not overlap
 */
void ckpt_item_slab(const struct ckpt_read_item *item, uint64_t offset, uint64_t room,
		    struct ckpt_slab *out);
/** ckpt_item_load - the bytes of a slab into @out. Errors as ckpt_fill_box. */
int ckpt_item_load(const struct ckpt_read_item *item, struct ckpt_fill *fill,
		   const struct ckpt_slab *slab, void *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_item_place - put the bytes of a slab where they are wanted, or hand them out. Errors: what
 * request->write answers.
 */
int ckpt_item_place(const struct ckpt_read_list *list, const struct ckpt_read_item *item,
		    const struct ckpt_slab *slab, const void *data, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_item_read - all of an item to where it is wanted; @room: CKPT_READ_ROOM bytes, for what goes
 * to no memory
 */
#define CKPT_READ_ROOM (UINT64_C(16) << 20)
int ckpt_item_read(const struct ckpt_read_list *list, const struct ckpt_read_item *item,
		   struct ckpt_fill *fill, void *room, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
