/*
 * rename.h - what rename.c and rename_commit.c share: one rename, as it was found.
 */
#ifndef CKPT_FS_RENAME_H
#define CKPT_FS_RENAME_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"
#include "fs.h"
#include "plain_change.h"
#include "request.h"
#include "slots.h"

/* One side of a rename, as it was found. */
struct side {
	fuse_ino_t parent;
	const char *name; /* as the caller has it */
	struct ckpt_buf path;
	bool exists;
	struct stat st;
	struct checkpoint *cp; /* a committed one; else NULL */
	struct plain_place place;
};

struct move {
	struct request *rq;
	unsigned int flags;
	struct side from;
	struct side to;
	const struct side *blocked; /* what may not be changed now; NULL: that is not what failed */
};

static inline bool side_is_dir(const struct side *side)
{
	return side->exists && S_ISDIR(side->st.st_mode);
}

/* Its stored name in its folder. */
static inline const char *side_name(const struct side *side)
{
	return ckpt_path_basename(side->path.data);
}

static inline bool move_is_exchange(const struct move *move)
{
	return (move->flags & RENAME_EXCHANGE) != 0;
}

/** rename_is_open - is there an open checkpoint? */
bool rename_is_open(struct fs *fs, const struct side *side);
/** rename_refuse_target - -EROFS, with the reason in the log: what is at @move->to is committed. */
int rename_refuse_target(const struct move *move) CKPT_MUST_CHECK;

/** rename_is_commit - is it the rename that commits a checkpoint? */
bool rename_is_commit(const struct move *move);
/** rename_commit - commit it, and reply; long. RC_WORKER. */
int rename_commit(struct move *move) CKPT_MUST_CHECK;

#endif
