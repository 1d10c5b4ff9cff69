/*
 * view_trees.h - the view trees that the mount has met: of committed checkpoints by their slot, and, in a
 * mount of a folder that is no store, of plain folders by their node. A bounded cache: making a tree
 * reads a manifest, or looks into every file of a folder, which may take seconds; so that happens in
 * a worker only, once for all who wait.
 */
#ifndef CKPT_FS_VIEW_TREES_H
#define CKPT_FS_VIEW_TREES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "fs.h"
#include "slots.h"
#include "view/view.h"
#include "view_access.h"
#include "view_shards.h"

/* A tree and what it is read through. Immutable once made, but for its shards. */
struct view_tree {
	_Atomic uint32_t refs;
	uint64_t ref;	       /* the slot, or the counter of the plain folder's node */
	struct checkpoint *cp; /* NULL: of a plain folder */
	uint64_t generation;   /* another one: the same numbers may mean other files */
	uint32_t epoch;	       /* that in few bits, in the nodes of a plain folder; see node.h */
	struct timespec time;  /* that its files show */
	struct view_access access;
	struct ckpt_views *views;
	struct view_shards *shards;
	_Atomic bool *mapped; /* a node each: its pages are worth keeping; see view_read.h */
};

struct views *views_new(void);
void views_free(struct views *views);

/**
 * views_get - the tree that a node belongs to, or whose folder it is
 * @ino: a virtual node with views, a committed node, or a plain folder
 * @out: view_tree_unref() it
 * Errors: RC_VIEWS_FIRST it is to be made first, by views_load(); -ESTALE, also of a view whose plain
 * folder has changed; what became of making it, for a second.
 */
int views_get(struct fs *fs, fuse_ino_t ino, struct view_tree **out) CKPT_MUST_CHECK;
/** views_generation - which tree it is that views_get() gives. Errors: as views_get. */
int views_generation(struct fs *fs, fuse_ino_t ino, uint64_t *out) CKPT_MUST_CHECK;
/** views_load - make it; in a worker. What goes wrong is logged, and kept for views_get(). */
void views_load(struct fs *fs, fuse_ino_t ino);
/** views_are_of - may there be views at the control folder of this node? */
bool views_are_of(const struct fs *fs, fuse_ino_t ino);

struct view_tree *view_tree_ref(struct view_tree *tree);
void view_tree_unref(struct view_tree *tree);

#endif
