/*
 * side.h - a checkpoint with its tensors ready to be read: what diff and the statistics of show
 * work on.
 */
#ifndef CKPT_CLI_SIDE_H
#define CKPT_CLI_SIDE_H

#include "base/err.h"
#include "cli/cli.h"
#include "view/view.h"

struct side {
	struct cli_checkpoint checkpoint;
	struct ckpt_views *views;
	struct ckpt_view_reader *reader;
};

/* One that may be released. */
#define SIDE_INIT                            \
	{                                    \
		.checkpoint = {.dirfd = -1 } \
	}

/**
 * side_open - the checkpoint that @path names, with its views; side_release() it, also after a
 * failure
 * Errors: -EINVAL @path names something in a checkpoint; as cli_checkpoint_open, ckpt_views_load.
 */
int side_open(const struct cli *cli, const char *path, struct side *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** side_read - the views of a checkpoint that is open already, and stays the caller's */
int side_read(const struct cli_checkpoint *checkpoint, struct side *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void side_release(struct side *side);

#endif
