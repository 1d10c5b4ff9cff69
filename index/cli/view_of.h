/*
 * view_of.h - views, the files that are stored nowhere: from a path with ".ckptfs" in it to a node
 * of the tree of views.
 */
#ifndef CKPT_CLI_VIEW_OF_H
#define CKPT_CLI_VIEW_OF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli.h"
#include "view/view.h"

struct view_of {
	const struct cli_checkpoint *checkpoint; /* borrowed */
	int group_fd;				 /* -1: none */
	struct ckpt_views *views;
	struct ckpt_view_reader *reader;
	uint32_t node;
};

/** view_is_path - does @inner, a path in a checkpoint, lead to or into the views of a set? */
bool view_is_path(const char *inner);

/**
 * view_of_open - the node that the path in @checkpoint names; view_of_release() it, also after a
 * failure
 * Errors: -ENOENT no tensors in that folder, or no such view (says which there are, and which of
 * them may have been meant); as ckpt_views_load.
 */
int view_of_open(const struct cli_checkpoint *checkpoint, struct view_of *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void view_of_release(struct view_of *view);

/**
 * view_of_each - call @fn with @view->node and, if that is a folder, with all below it, folders
 * before what is in them, by bytes of the names
 * @path: that of the node, as it is in the checkpoint
 * Stops at the first that returns non-zero, and returns it.
 */
int view_of_each(const struct view_of *view,
		 int (*fn)(void *ctx, uint32_t node, const struct ckpt_view_node *what,
			   const char *path),
		 void *ctx, struct ckpt_err *err) CKPT_MUST_CHECK;

/** view_of_cat - the bytes of the file @view->node to stdout. -EISDIR; as ckpt_view_read. */
int view_of_cat(const struct view_of *view, struct ckpt_err *err) CKPT_MUST_CHECK;

/** view_of_list - `ls` of the node */
int view_of_list(const struct view_of *view, bool json, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
