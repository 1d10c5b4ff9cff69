/*
 * node.h - node numbers: what the kernel calls a file or folder of the mount.
 *
 *   bit 63 clear, high word 0    the top of the mount (1)
 *   bit 63 clear, high word > 0  committed: the checkpoint's slot, low word the line in its
 *   manifest (1: its top)
 *   bit 63 set, bit 62 clear     plain: passed through to the folder below; the rest is a counter
 *   (inode.h)
 *   bits 63 and 62 set           virtual: a control folder or what lies in one; bits 56-61 the
 *   kind, the rest
 *                                the slot of its checkpoint or the counter of its group (1: the
 *                                top); of a view: that in 31 bits, and below it the node of the
 *                                view tree in 25. Kinds from 32 on are all views of a plain folder:
 *                                the rest of the kind is the epoch of its tree, for the same number
 *                                is another file when the folder has changed
 *
 * A slot has 31 bits, so bit 62 alone cannot tell plain from committed: copies have slots from
 * 2^30 on.
 * The inode numbers that stat(2) shows are the node numbers, but for plain ones the stored number.
 */
#ifndef CKPT_FS_NODE_H
#define CKPT_FS_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "fuse_api.h"

_Static_assert(sizeof(fuse_ino_t) == sizeof(uint64_t), "node numbers need 64 bits");

#define NODE_PLAIN_BIT (UINT64_C(1) << 63)
#define NODE_VIRTUAL_BITS (UINT64_C(3) << 62)
#define NODE_KIND_SHIFT 56
#define NODE_REF_MASK ((UINT64_C(1) << NODE_KIND_SHIFT) - 1)
#define NODE_VIEW_BITS 25
#define NODE_EPOCHS 32U
/* The line that stands for a checkpoint's own folder: the manifest's header. */
#define NODE_TOP_LINE 1U

enum node_class {
	NODE_PLAIN,
	NODE_COMMITTED,
	NODE_VIRTUAL,
};

enum virtual_kind {
	VIRTUAL_TOP_DIR = 1,	/* MNT/.ckptfs */
	VIRTUAL_GROUP_DIR,	/* GROUP/.ckptfs */
	VIRTUAL_CHECKPOINT_DIR, /* CHECKPOINT/.ckptfs */
	VIRTUAL_LATEST,		/* the symlink in a control folder */
	VIRTUAL_LATEST_LISTED,	/* GROUP/latest, with -o ro */
	VIRTUAL_STORE_JSON,
	VIRTUAL_README,
	VIRTUAL_STATS,
	VIRTUAL_STATUS,
	VIRTUAL_MANIFEST,
	VIRTUAL_SUMS,
	VIRTUAL_VIEW, /* of a committed checkpoint: a view or a folder of views */
	/* The same of a plain folder, in a mount of a folder that is no store; an epoch is added. */
	VIRTUAL_PLAIN_VIEW = 32,
};

static inline enum node_class node_class(fuse_ino_t ino)
{
	if ((ino & NODE_VIRTUAL_BITS) == NODE_VIRTUAL_BITS)
		return NODE_VIRTUAL;
	return (ino & NODE_PLAIN_BIT) || ino >> 32 == 0 ? NODE_PLAIN : NODE_COMMITTED;
}

static inline fuse_ino_t node_committed(uint64_t slot, uint32_t line)
{
	return slot << 32 | line;
}

static inline uint64_t node_slot(fuse_ino_t ino)
{
	return ino >> 32;
}

static inline uint32_t node_line(fuse_ino_t ino)
{
	return (uint32_t)ino;
}

static inline fuse_ino_t node_virtual(enum virtual_kind kind, uint64_t ref)
{
	return NODE_VIRTUAL_BITS | (uint64_t)kind << NODE_KIND_SHIFT | (ref & NODE_REF_MASK);
}

static inline enum virtual_kind node_kind(fuse_ino_t ino)
{
	uint32_t kind = (uint32_t)(ino >> NODE_KIND_SHIFT & 0x3f);

	return kind >= VIRTUAL_PLAIN_VIEW ? VIRTUAL_PLAIN_VIEW : (enum virtual_kind)kind;
}

/* The slot or the group's counter in a virtual node. */
static inline uint64_t node_ref(fuse_ino_t ino)
{
	return ino & NODE_REF_MASK;
}

static inline bool node_is_view(fuse_ino_t ino)
{
	return node_class(ino) == NODE_VIRTUAL &&
	       (node_kind(ino) == VIRTUAL_VIEW || node_kind(ino) == VIRTUAL_PLAIN_VIEW);
}

static inline fuse_ino_t node_view(uint64_t ref, uint32_t idx)
{
	return node_virtual(VIRTUAL_VIEW, ref << NODE_VIEW_BITS | idx);
}

/* @epoch: below NODE_EPOCHS */
static inline fuse_ino_t node_plain_view(uint64_t ref, uint32_t epoch, uint32_t idx)
{
	return node_virtual((enum virtual_kind)(VIRTUAL_PLAIN_VIEW + epoch),
			    ref << NODE_VIEW_BITS | idx);
}

/* 0 for those of committed checkpoints. */
static inline uint32_t node_view_epoch(fuse_ino_t ino)
{
	return node_kind(ino) == VIRTUAL_PLAIN_VIEW
		       ? (uint32_t)(ino >> NODE_KIND_SHIFT & (NODE_EPOCHS - 1))
		       : 0;
}

/* The slot, or the counter of the plain folder, in a view's node. */
static inline uint64_t node_view_ref(fuse_ino_t ino)
{
	return node_ref(ino) >> NODE_VIEW_BITS;
}

/* Which node of the view tree it is. */
static inline uint32_t node_view_idx(fuse_ino_t ino)
{
	return (uint32_t)(ino & ((UINT64_C(1) << NODE_VIEW_BITS) - 1));
}

/* The plain folder that a group's virtual node belongs to. */
static inline fuse_ino_t node_group(fuse_ino_t ino)
{
	return node_ref(ino) == FUSE_ROOT_ID ? FUSE_ROOT_ID : NODE_PLAIN_BIT | node_ref(ino);
}

#endif
