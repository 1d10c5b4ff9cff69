/*
 * removal_tree.h - the entries of a checkpoint that is being removed, in memory: its rows in the
 * index go as soon as anybody looks for its name. Immutable but for the marks on what was
 * unlinked; shared by reference counts.
 */
#ifndef CKPT_FS_REMOVAL_TREE_H
#define CKPT_FS_REMOVAL_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "fs.h"
#include "slots.h"

struct removal_tree;

/**
 * removal_tree_load - take all entries of @cp out of the index, none of them marked
 * removal_tree_unref() @out. Errors: RC_LOAD_FIRST the index does not hold them all; -ENOMEM; else
 * system (logged). Cost: the rows of the checkpoint, and its block sums.
 */
int removal_tree_load(struct fs *fs, struct checkpoint *cp, struct removal_tree **out)
	CKPT_MUST_CHECK;
struct removal_tree *removal_tree_ref(struct removal_tree *tree);
void removal_tree_unref(struct removal_tree *tree);
/** removal_tree_checkpoint - what it was made of; borrowed. */
struct checkpoint *removal_tree_checkpoint(const struct removal_tree *tree);

/**
 * removal_tree_entry - as ckpt_db_entry_by_line, or with @name as ckpt_db_entry_by_name in the
 * folder @line. What is marked still answers by its line: somebody may have it open.
 * -ENOENT; -ENOMEM. ckpt_db_entry_release() @out.
 */
int removal_tree_entry(struct removal_tree *tree, uint32_t line, const char *name,
		       struct ckpt_db_entry *out) CKPT_MUST_CHECK;
/** removal_tree_children - as ckpt_db_children, without what is marked. */
int removal_tree_children(struct removal_tree *tree, const struct ckpt_db_cursor *from,
			  int (*fn)(void *ctx, const struct ckpt_db_entry *entry), void *ctx)
	CKPT_MUST_CHECK;
/**
 * removal_tree_place - path of an entry in its checkpoint, and the block sums of a shard whose
 * @out->block_bytes is set. -ENOENT; -ENOMEM.
 */
int removal_tree_place(struct removal_tree *tree, uint32_t line, struct ckpt_shard *out)
	CKPT_MUST_CHECK;
/** removal_tree_top_dirs - folders at the top that are not marked. */
uint32_t removal_tree_top_dirs(struct removal_tree *tree);

/**
 * removal_tree_mark - the entry @name of the folder @parent is unlinked; one caller at a time
 * Errors: -ENOENT; -ENOTEMPTY, -EISDIR, -ENOTDIR as the system calls.
 */
int removal_tree_mark(struct removal_tree *tree, uint32_t parent, const char *name, bool is_rmdir)
	CKPT_MUST_CHECK;
bool removal_tree_is_marked(struct removal_tree *tree, uint32_t line);
/** removal_tree_is_empty - nothing is left in its top. */
bool removal_tree_is_empty(struct removal_tree *tree);
/** removal_tree_each_dir - every folder but the top: its line, and whether it is marked. */
void removal_tree_each_dir(struct removal_tree *tree,
			   void (*fn)(void *ctx, uint32_t line, bool is_marked), void *ctx);

#endif
