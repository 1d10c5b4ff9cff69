/* view_nodes.h - names and attributes of views: what lies in a control folder beside its own files. */
#ifndef CKPT_FS_VIEW_NODES_H
#define CKPT_FS_VIEW_NODES_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/err.h"
#include "fs.h"
#include "view_trees.h"

/**
 * view_child - a view, or a folder of views, by its name
 * @dir: a control folder, or a folder of views
 * Errors: -ENOENT; RC_VIEWS_FIRST; RC_LOAD_FIRST; -ESTALE.
 */
int view_child(struct fs *fs, fuse_ino_t dir, const char *name, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
/**
 * view_control_dir - the control folder of a sub-folder that holds a tensor set
 * @line: of the sub-folder, in the manifest of the checkpoint with this slot. Errors: as view_child.
 */
int view_control_dir(struct fs *fs, uint64_t slot, uint32_t line, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
int view_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;

/**
 * view_tensor - the tensor that a view is
 * @out: borrowed from @out_tree, which view_tree_unref() takes
 * Errors: -ENODATA it is a folder, or no single tensor; as view_attr.
 */
int view_tensor(struct fs *fs, fuse_ino_t ino, struct view_tree **out_tree,
		const struct ckpt_tensor **out) CKPT_MUST_CHECK;

/**
 * view_list - what lies in a folder, by bytes of the name
 * @after: 0: from the first on; else the position that @fn was told last
 * @fn:    returns false to stop
 */
int view_list(struct fs *fs, fuse_ino_t dir, uint64_t after,
	      bool (*fn)(void *ctx, const char *name, const struct fuse_entry_param *entry,
			 uint64_t position),
	      void *ctx) CKPT_MUST_CHECK;

#endif
