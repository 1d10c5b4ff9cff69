/*
 * rename.c - see rename.h: of files and folders that are open, and of committed checkpoints as a
 * whole.
 *
 * A folder moves by one rename of the stored one, whatever it holds; nodes below it follow, since
 * their paths go by their parents. What the index knows below it is told the new name before the
 * reply.
 */
#include "rename.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autocommit.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "change.h"
#include "group.h"
#include "inode.h"
#include "names.h"
#include "node.h"
#include "ops.h"
#include "plain.h"
#include "plain_change.h"
#include "removal.h"
#include "slots.h"
#include "summing.h"

/* Names that are moved again and again while they are renamed: then the kernel may ask. */
#define RENAME_TRIES 8U

/* The request's own part: where to. */
struct renaming {
	fuse_ino_t parent;
	unsigned int flags;
	char name[NAME_MAX + 1];
};

/* --- looking ------------------------------------------------------------------------------ */

static int side_stat(struct fs *fs, struct side *side)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), side->path.data,
						 O_PATH | O_NOFOLLOW, 0);
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &side->st);

	side->exists = rc == 0;
	if (rc == -ENOENT)
		/* A checkpoint that is being removed has its name still. */
		return removal_find(fs, side->path.data) != 0 ? -EBUSY : 0;
	if (rc == 0 && S_ISDIR(side->st.st_mode))
		rc = plain_checkpoint(fs, side->path.data, &side->cp);
	return rc == -ENOENT ? 0 : rc;
}

static int side_look(struct fs *fs, struct side *side)
{
	int rc;

	ckpt_buf_reset(&side->path);
	checkpoint_unref(side->cp);
	side->cp = NULL;
	rc = names_path(fs, side->parent, side->name, &side->path);
	return rc < 0 ? rc : side_stat(fs, side);
}

static void side_init(struct side *side, fuse_ino_t parent, const char *name)
{
	*side = (struct side){ .parent = parent, .name = name };
	ckpt_buf_init(&side->path);
}

static void side_release(struct side *side)
{
	ckpt_buf_release(&side->path);
	checkpoint_unref(side->cp);
}

bool rename_is_open(struct fs *fs, const struct side *side)
{
	enum ckpt_state state = CKPT_STATE_NONE;

	if (!side_is_dir(side) || side->cp || ckpt_path_check_name(side->path.data, NULL) < 0)
		return false;
	return ckpt_state_of(ckpt_store_fd(fs->store), side->path.data, &state, NULL, NULL) == 0 &&
	       (state == CKPT_STATE_OPEN || state == CKPT_STATE_ABORTED);
}

/* --- may it move there? ------------------------------------------------------------------- */

/* May a committed checkpoint, or a group that holds some, be at @path? */
static int check_home(struct fs *fs, const char *path)
{
	if (ckpt_path_is_temporary(path) || plain_lies_in_checkpoint(fs, path))
		return -EPERM;
	return 0;
}

/* A group that moves: what is known below it. */
struct moved_rows {
	size_t old_len;
	const char *new_path;
};

static int check_row(void *ctx, const struct ckpt_db_checkpoint *row)
{
	const struct moved_rows *rows = ctx;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	ckpt_buf_printf(&name, "%s%s", rows->new_path, row->name + rows->old_len);
	rc = ckpt_buf_check(&name);
	if (rc == 0)
		rc = ckpt_path_check_name(name.data, NULL);
	ckpt_buf_release(&name);
	return rc;
}

/* Would what the index knows below the group have a name there? */
static int check_rows(struct fs *fs, const char *from, const char *to)
{
	struct moved_rows rows = { .old_len = strlen(from), .new_path = to };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(fs->store, &db, &err);

	if (rc == 0) {
		rc = ckpt_db_checkpoints(db, from, check_row, &rows, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc < 0 && err.msg[0] != '\0')
		fs_log_once("%s", err.msg);
	return rc < 0 ? rc : 0;
}

static bool holds_committed(struct fs *fs, const char *path)
{
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	rc = ckpt_store_latest(fs->store, path, &name, NULL);
	ckpt_buf_release(&name);
	return rc != -ENOENT; /* what cannot be told is not risked */
}

static int check_folder(struct fs *fs, const struct side *from, const struct side *to)
{
	int rc;

	if (from->cp) {
		rc = check_home(fs, to->path.data);
		return rc < 0 ? rc : ckpt_path_check_name(to->path.data, NULL);
	}
	/* Nothing is committed below these. */
	if (ckpt_path_is_temporary(from->path.data) ||
	    plain_lies_in_checkpoint(fs, from->path.data))
		return 0;
	rc = check_home(fs, to->path.data);
	if (rc < 0)
		return holds_committed(fs, from->path.data) ? rc : 0;
	return check_rows(fs, from->path.data, to->path.data);
}

static int check_side(struct move *move, const struct side *from, const struct side *to)
{
	if (side_is_dir(from))
		return check_folder(move->rq->fs, from, to);
	if (from->parent == to->parent)
		return 0;
	return names_check_places(move->rq->fs, from->path.data, to->path.data);
}

int rename_refuse_target(const struct move *move)
{
	fs_log_once(
		"'%s' is not renamed to '%s', which is a committed checkpoint: remove that first, or "
		"mount with -o resave=replace",
		move->from.path.data, move->to.path.data);
	return -EROFS;
}

static int check_found(struct move *move)
{
	if (!move->from.exists)
		return -ENOENT;
	if (move_is_exchange(move))
		return move->to.exists ? 0 : -ENOENT;
	if ((move->flags & RENAME_NOREPLACE) && move->to.exists)
		return -EEXIST;
	return 0;
}

static int check(struct move *move)
{
	int rc;

	if (!move_is_exchange(move) && side_is_dir(&move->from) && move->to.cp)
		return rename_refuse_target(move);
	rc = check_side(move, &move->from, &move->to);
	if (rc == 0 && move_is_exchange(move))
		rc = check_side(move, &move->to, &move->from);
	return rc;
}

/* --- moving --------------------------------------------------------------------------------- */

/* Begin at one side. A committed checkpoint itself stays as it is: its folder's names change. */
static int side_begin(struct move *move, struct side *side)
{
	struct fs *fs = move->rq->fs;
	int rc = plain_begin(fs, side->parent, side->cp ? NULL : side->name, &side->place);

	if (rc == -EROFS || rc == -EBUSY)
		move->blocked = side;
	/* It was found elsewhere a moment ago. */
	if (rc == 0 && !side->cp && strcmp(side->place.path.data, side->path.data) != 0)
		rc = -EAGAIN;
	if (rc == 0 && side_is_dir(side) && change_is_above_freeze(fs, side->path.data))
		rc = -EBUSY;
	return rc;
}

/* A name that leads to another file by now. */
static int side_stat_again(const struct side *side, struct stat *out)
{
	int rc = ckpt_io_fstatat(side->place.fd, side_name(side), out, AT_SYMLINK_NOFOLLOW);

	if (rc == 0 && (out->st_dev != side->st.st_dev || out->st_ino != side->st.st_ino))
		rc = -EAGAIN;
	return rc == -ENOENT ? -EAGAIN : rc;
}

/* The node of what had the name @from has the name @to now. */
static void tell_moved(struct fs *fs, const struct side *from, const struct side *to,
		       const struct stat *before)
{
	const struct inode_place old_place = { .parent = from->parent, .name = side_name(from) };
	const struct inode_place new_place = { .parent = to->parent, .name = side_name(to) };
	struct stat after;

	/* Gone again: whoever took it away tells. */
	if (ckpt_io_fstatat(to->place.fd, new_place.name, &after, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (after.st_dev != before->st_dev || after.st_ino != before->st_ino)
		return;
	inode_renamed(fs->inodes, &old_place, &new_place, &after);
	if (S_ISREG(after.st_mode))
		summing_restamped(fs, before, &after);
}

static void tell_replaced(struct fs *fs, const struct side *to, int fd)
{
	struct stat after;

	if (fd < 0 || ckpt_io_fstat(fd, &after) < 0)
		return;
	inode_unlinked(fs->inodes, to->parent, side_name(to), &after);
	if (S_ISREG(after.st_mode) && after.st_nlink > 0)
		summing_restamped(fs, &to->st, &after);
}

static int do_rename(const struct move *move)
{
	const char *from = side_name(&move->from);
	const char *to = side_name(&move->to);

	if (move->flags == 0)
		return ckpt_io_renameat(move->from.place.fd, from, move->to.place.fd, to);
	if (renameat2(move->from.place.fd, from, move->to.place.fd, to, move->flags) < 0)
		return -errno;
	return 0;
}

static void tell_tables(struct move *move, const struct stat *before, int replaced_fd)
{
	struct fs *fs = move->rq->fs;

	if (!move_is_exchange(move))
		tell_replaced(fs, &move->to, replaced_fd);
	tell_moved(fs, &move->from, &move->to, before);
	if (move_is_exchange(move))
		tell_moved(fs, &move->to, &move->from, &move->to.st);
}

/* Both sides have begun. */
static int rename_there(struct move *move)
{
	CKPT_CLOSE int replaced = -1;
	struct stat before;
	int rc = side_stat_again(&move->from, &before);

	if (rc < 0)
		return rc;
	/* Held open over the call, so that its number can be no other file's. */
	if (move->to.exists)
		rc = replaced = ckpt_io_openat(move->to.place.fd, side_name(&move->to),
					       O_PATH | O_NOFOLLOW, 0);
	if (rc >= 0)
		rc = do_rename(move);
	if (rc < 0)
		return rc == -ENOENT ? -EAGAIN : rc;
	tell_tables(move, &before, replaced);
	return 0;
}

static int rename_now(struct move *move)
{
	struct fs *fs = move->rq->fs;
	int rc = side_begin(move, &move->from);

	if (rc == 0) {
		rc = side_begin(move, &move->to);
		if (rc == 0)
			rc = rename_there(move);
		plain_end(fs, &move->to.place);
	}
	plain_end(fs, &move->from.place);
	if ((rc == -ENOTEMPTY || rc == -EEXIST) && rename_is_open(fs, &move->to))
		return -EBUSY;
	return rc;
}

/* What the index and others are told, with nothing held. */
static void tell_others(struct move *move)
{
	struct fs *fs = move->rq->fs;

	if (side_is_dir(&move->from))
		slots_renamed(fs, move->from.path.data, move->to.path.data);
	if (move_is_exchange(move) && side_is_dir(&move->to))
		slots_renamed(fs, move->to.path.data, move->from.path.data);
	if (side_is_dir(&move->from) || side_is_dir(&move->to))
		groups_expire(fs->groups);
	autocommit_saw(fs, move->to.path.data);
	if (move_is_exchange(move))
		autocommit_saw(fs, move->from.path.data);
}

/* --- the operation -------------------------------------------------------------------------- */

/* What looks at groups, or changes rows of the index, is no work for a thread of libfuse. */
static bool needs_worker(const struct move *move)
{
	if (side_is_dir(&move->from) && !ckpt_path_is_temporary(move->from.path.data))
		return true;
	return move_is_exchange(move) && side_is_dir(&move->to) &&
	       !ckpt_path_is_temporary(move->to.path.data);
}

/* One try. -EAGAIN: what was found is elsewhere by now. */
static int rename_once(struct move *move)
{
	struct request *rq = move->rq;
	int rc = side_look(rq->fs, &move->from);

	if (rc == 0)
		rc = side_look(rq->fs, &move->to);
	if (rc == 0)
		rc = check_found(move);
	if (rc < 0)
		return rc;
	if (rename_is_commit(move))
		return rename_commit(move);
	if (!rq->queued && needs_worker(move))
		return RC_WORKER;
	rc = check(move);
	/* It was answered with EINTR: then nothing may have happened. */
	if (rc == 0 && request_given_up(rq))
		return 0;
	if (rc == 0)
		rc = rename_now(move);
	if (rc == 0) {
		tell_others(move);
		request_reply_err(rq, 0);
	}
	return rc;
}

/* 0: what was in the way is cleared; try again. */
static int unblock(struct move *move, int rc)
{
	const struct side *side = move->blocked;

	if (rc == -EAGAIN)
		return 0;
	if (!side)
		return rc;
	/* What comes to @to is written there; what leaves @from is not. */
	return plain_clear(move->rq, side->path.data, side == &move->to, rc);
}

static int rename_plain(struct move *move)
{
	int rc = -EAGAIN;

	for (unsigned int i = 0; i < RENAME_TRIES && rc != 0; i++) {
		move->blocked = NULL;
		rc = rename_once(move);
		if (rc == 0)
			return 0;
		rc = unblock(move, rc);
		if (rc < 0)
			return rc;
		rc = -ESTALE;
	}
	return rc;
}

static int run_rename(struct request *rq)
{
	const struct renaming *to = rq->arg;
	struct move move = { .rq = rq, .flags = to->flags };
	int rc;

	if (strcmp(rq->name, CKPT_CONTROL_DIR) == 0 || strcmp(to->name, CKPT_CONTROL_DIR) == 0)
		return -EPERM;
	if (node_class(rq->ino) != NODE_PLAIN)
		return refuse(rq, rq->ino, false);
	if (node_class(to->parent) != NODE_PLAIN)
		return refuse(rq, to->parent, true);
	side_init(&move.from, rq->ino, rq->name);
	side_init(&move.to, to->parent, to->name);
	rc = rename_plain(&move);
	side_release(&move.from);
	side_release(&move.to);
	return rc;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned int flags)
{
	size_t len = strlen(new_name);
	struct request rq;
	struct renaming *to;

	if ((flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
		ckpt_ignore(fuse_reply_err(req, EINVAL));
		return;
	}
	if (len > NAME_MAX) {
		ckpt_ignore(fuse_reply_err(req, ENAMETOOLONG));
		return;
	}
	if (!names_begin(&rq, req, parent, name, sizeof(*to), run_rename))
		return;
	to = rq.arg;
	to->parent = new_parent;
	to->flags = flags;
	memcpy(to->name, new_name, len + 1);
	request_run(&rq);
}
