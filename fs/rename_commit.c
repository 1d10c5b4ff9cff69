/*
 * rename_commit.c - the rename that commits: an open checkpoint goes from a temporary to a lasting
 * name. mv waits for it, and may be interrupted; the commit itself is gesture.h's.
 */
#include "rename.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "change.h"
#include "gesture.h"
#include "group.h"
#include "inode.h"

#define THAW_PAUSE_MS 20U
#define THAW_TRIES 50U

static bool given_up(void *ctx)
{
	return request_given_up(ctx);
}

/* What mv is told; the log says why it stays open. */
static int commit_failed(struct request *rq, int rc)
{
	if (rc == -ECANCELED)
		rc = -EINTR;
	if (rc == -EEXIST)
		rc = -ENOTEMPTY;
	/* To the application a name that cannot be committed is no damage. */
	request_reply_err(rq, rc == -EILSEQ ? EILSEQ : fs_errno(rc));
	return 0;
}

static void commit_done(struct move *move)
{
	struct fs *fs = move->rq->fs;
	const struct inode_place from = { .parent = move->from.parent,
					  .name = side_name(&move->from) };
	const struct inode_place to = { .parent = move->to.parent, .name = side_name(&move->to) };

	inode_renamed(fs->inodes, &from, &to, &move->from.st);
	groups_expire(fs->groups);
	request_reply_err(move->rq, 0);
}

/* A commit of it that was interrupted a moment ago, or one by rule, is waited for a little. */
static void await_thaw(const struct move *move)
{
	const struct timespec pause = { .tv_nsec = THAW_PAUSE_MS * 1000000L };
	struct ckpt_buf by;

	ckpt_buf_init(&by);
	for (unsigned int i = 0; i < THAW_TRIES && !request_given_up(move->rq); i++) {
		if (change_frozen_by(move->rq->fs, move->from.path.data, &by) != 0)
			break;
		nanosleep(&pause, NULL);
	}
	ckpt_buf_release(&by);
}

static int commit(struct move *move)
{
	struct request *rq = move->rq;
	struct fs *fs = rq->fs;
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_commit_result result = { 0 };
	const struct gesture gesture = {
		.name = move->from.path.data,
		.final_name = move->to.path.data,
		.replace = fs->options->resave_replace,
		.given_up = given_up,
		.ctx = rq,
	};
	int rc;

	await_thaw(move);
	rc = gesture_commit(fs, &gesture, &result, &err);
	free(result.name);
	if (rc < 0)
		return commit_failed(rq, rc);
	commit_done(move);
	return 0;
}

/* Is the folder there, and something in it? */
static bool is_occupied(struct fs *fs, const struct side *side)
{
	const char *name = NULL;
	bool occupied;
	DIR *dir;
	int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), side->path.data,
				      O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return true;
	}
	occupied = ckpt_io_readdir(dir, &name) != 0;
	closedir(dir);
	return occupied;
}

int rename_commit(struct move *move)
{
	struct request *rq = move->rq;

	if (move->to.cp && !rq->fs->options->resave_replace)
		return rename_refuse_target(move);
	if (rename_is_open(rq->fs, &move->to) && is_occupied(rq->fs, &move->to))
		return -EBUSY;
	if (!rq->queued) {
		/* mv waits for it, and may be interrupted. */
		rq->lane = LANE_COMMITS;
		rq->eintr_ok = true;
		return RC_WORKER;
	}
	return commit(move);
}

bool rename_is_commit(const struct move *move)
{
	return !move_is_exchange(move) && side_is_dir(&move->from) && !move->from.cp &&
	       gesture_is_rename(move->rq->fs, move->from.path.data, move->to.path.data);
}
