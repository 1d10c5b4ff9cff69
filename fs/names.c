/*
 * names.c - see names.h: mknod, mkdir, symlink, link, unlink, rmdir. (rename.c renames.)
 *
 * Each is a quick system call on the stored folder, and runs where it arrives; a worker is asked
 * where something is in the way that may be cleared (plain_change.h), or a checkpoint goes.
 */
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "autocommit.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "inode.h"
#include "node.h"
#include "ops.h"
#include "plain.h"
#include "plain_change.h"
#include "removal.h"
#include "summing.h"

/* This mount's own session in a folder that goes ends a moment after it is told to. */
#define DROP_PAUSE_MS 20U
#define DROP_TRIES 100U

static struct caller caller_of(const struct request *rq)
{
	return (struct caller){ .uid = rq->uid, .gid = rq->gid };
}

bool names_begin(struct request *rq, fuse_req_t req, fuse_ino_t parent, const char *name,
		 size_t arg_bytes, int (*run)(struct request *rq))
{
	size_t len = strlen(name);

	request_init(rq, req, parent, run);
	rq->lane = LANE_WRITES;
	if (len > NAME_MAX) {
		ckpt_ignore(fuse_reply_err(req, ENAMETOOLONG));
		return false;
	}
	memcpy(rq->name, name, len + 1);
	if (arg_bytes == 0)
		return true;
	rq->arg = calloc(1, arg_bytes);
	if (!rq->arg)
		ckpt_ignore(fuse_reply_err(req, ENOMEM));
	return rq->arg != NULL;
}

int names_reply(struct request *rq, int rc)
{
	if (rc == 0)
		request_reply_err(rq, 0);
	return rc;
}

int names_path(struct fs *fs, fuse_ino_t parent, const char *name, struct ckpt_buf *out)
{
	struct inode_key key;
	struct ckpt_buf dir;
	struct ckpt_buf stored;
	int rc;

	ckpt_buf_init(&dir);
	ckpt_buf_init(&stored);
	rc = inode_locate(fs->inodes, parent, &dir, &key);
	if (rc == 0)
		rc = plain_stored_name(fs, dir.data, name, &stored);
	if (rc == 0)
		ckpt_path_join(out, dir.data, stored.data);
	ckpt_buf_release(&dir);
	ckpt_buf_release(&stored);
	return rc < 0 ? rc : ckpt_buf_check(out);
}

int names_check_places(struct fs *fs, const char *from, const char *to)
{
	struct ckpt_buf from_place;
	struct ckpt_buf to_place;
	int rc;

	ckpt_buf_init(&from_place);
	ckpt_buf_init(&to_place);
	rc = ckpt_session_place(fs->store, from, &from_place, NULL);
	if (rc == 0)
		rc = ckpt_session_place(fs->store, to, &to_place, NULL);
	if (rc == 0 && from_place.len_bytes > 0 && to_place.len_bytes > 0 &&
	    strcmp(from_place.data, to_place.data) != 0)
		rc = -EXDEV;
	ckpt_buf_release(&from_place);
	ckpt_buf_release(&to_place);
	return rc;
}

/* --- making ------------------------------------------------------------------------------- */

/* What is made: the request's own part. */
struct making {
	/* Makes it, as the caller. */
	int (*make)(int dirfd, const char *name, const struct making *what);
	mode_t mode;
	fuse_ino_t node; /* link: the file; else 0 */
	char target[];	 /* symlink */
};

static int make_node(int dirfd, const char *name, const struct making *what)
{
	return mknodat(dirfd, name, what->mode, 0) < 0 ? -errno : 0;
}

static int make_dir(int dirfd, const char *name, const struct making *what)
{
	return ckpt_io_mkdirat(dirfd, name, what->mode);
}

static int make_symlink(int dirfd, const char *name, const struct making *what)
{
	return ckpt_io_symlinkat(what->target, dirfd, name);
}

/* Act: @ctx receives the entry. */
static int make_there(struct request *rq, const struct plain_place *place, void *ctx)
{
	const struct making *what = rq->arg;
	const struct caller who = caller_of(rq);
	struct caller_own own;
	struct stat st;
	int rc;

	caller_enter(rq->fs, &who, &own);
	rc = what->make(place->fd, place->name.data, what);
	caller_leave(&own);
	if (rc == 0)
		rc = ckpt_io_fstatat(place->fd, place->name.data, &st, AT_SYMLINK_NOFOLLOW);
	if (rc == 0)
		rc = plain_made(rq->fs, place, &st, true, ctx);
	if (rc == 0)
		autocommit_saw(rq->fs, place->path.data);
	return rc;
}

/* A new name for an open file: a symlink itself, too. */
static int link_fd(int fd, int dirfd, const char *name)
{
	char path[64];

	if (snprintf(path, sizeof(path), "/proc/self/fd/%d", fd) < 0)
		return -EIO;
	return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int link_there(struct request *rq, const struct plain_place *place,
		      const struct plain_place *file, struct fuse_entry_param *out)
{
	struct stat st = { 0 };
	int rc = names_check_places(rq->fs, file->path.data, place->path.data);

	if (rc == 0)
		rc = link_fd(file->fd, place->fd, place->name.data);
	if (rc == 0)
		rc = ckpt_io_fstat(file->fd, &st);
	if (rc < 0)
		return rc;
	summing_restamped(rq->fs, &file->st, &st);
	autocommit_saw(rq->fs, place->path.data);
	return plain_made(rq->fs, place, &st, false, out);
}

/* Act: @ctx receives the entry. */
static int link_act(struct request *rq, const struct plain_place *place, void *ctx)
{
	const struct making *what = rq->arg;
	struct plain_place file;
	int rc = plain_begin(rq->fs, what->node, NULL, &file);

	/* A committed file is no other checkpoint's, nor a group's. */
	if (rc == -EROFS)
		rc = -EXDEV;
	if (rc == 0)
		rc = link_there(rq, place, &file, ctx);
	plain_end(rq->fs, &file);
	return rc;
}

static int make(struct request *rq, struct fuse_entry_param *out)
{
	const struct making *what = rq->arg;
	struct plain_act act = { .name = rq->name, .makes = true, .act = make_there, .ctx = out };

	if (strcmp(rq->name, CKPT_CONTROL_DIR) == 0)
		return -EPERM;
	if (node_class(rq->ino) != NODE_PLAIN)
		return refuse(rq, rq->ino, true);
	if (what->node == 0)
		return plain_change(rq, &act);
	if (node_class(what->node) != NODE_PLAIN)
		return node_class(what->node) == NODE_COMMITTED ? -EXDEV : -EPERM;
	act.act = link_act;
	return plain_change(rq, &act);
}

static int run_make(struct request *rq)
{
	struct fuse_entry_param entry = { 0 };
	int rc = make(rq, &entry);

	if (rc < 0)
		return rc;
	/* Where the reply does not arrive, nobody will forget the node. */
	if (!request_claim(rq) || fuse_reply_entry(rq->req, &entry) < 0)
		node_forget(rq->fs, entry.ino, 1);
	return 0;
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct request rq;
	struct making *what;

	(void)rdev; /* no devices */
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode)) {
		ckpt_ignore(fuse_reply_err(req, EPERM));
		return;
	}
	if (!names_begin(&rq, req, parent, name, sizeof(*what), run_make))
		return;
	what = rq.arg;
	what->make = make_node;
	what->mode = mode & (S_IFMT | 0777);
	request_run(&rq);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct request rq;
	struct making *what;

	if (!names_begin(&rq, req, parent, name, sizeof(*what), run_make))
		return;
	what = rq.arg;
	what->make = make_dir;
	what->mode = mode & 01777;
	request_run(&rq);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	size_t size = strlen(target) + 1;
	struct request rq;
	struct making *what;

	if (!names_begin(&rq, req, parent, name, sizeof(*what) + size, run_make))
		return;
	what = rq.arg;
	what->make = make_symlink;
	memcpy(what->target, target, size);
	request_run(&rq);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct request rq;
	struct making *what;

	if (!names_begin(&rq, req, parent, name, sizeof(*what), run_make))
		return;
	what = rq.arg;
	what->node = ino;
	request_run(&rq);
}

/* --- removing ----------------------------------------------------------------------------- */

/* unlink(2) or rmdir(2); @ctx: the flags. */
static int remove_there(struct request *rq, const struct plain_place *place, void *ctx)
{
	const char *name = place->name.data;
	const int *flags = ctx;
	struct stat before = { 0 };
	struct stat after = { 0 };
	CKPT_CLOSE int fd = ckpt_io_openat(place->fd, name, O_PATH | O_NOFOLLOW, 0);
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &before);

	if (rc == 0)
		rc = ckpt_io_unlinkat(place->fd, name, *flags);
	/* Held open over the call, so that its number can be no other file's. */
	if (rc == 0)
		rc = ckpt_io_fstat(fd, &after);
	if (rc < 0)
		return rc;
	inode_unlinked(rq->fs->inodes, place->ino, name, &after);
	if (S_ISREG(after.st_mode) && after.st_nlink > 0)
		summing_restamped(rq->fs, &before, &after);
	return 0;
}

static int remove_name(struct request *rq, int flags)
{
	const struct plain_act act = { .name = rq->name, .act = remove_there, .ctx = &flags };

	return plain_change(rq, &act);
}

/* May begin the checkpoint's removal. */
static int remove_committed(struct request *rq, bool is_rmdir)
{
	if (strcmp(rq->name, CKPT_CONTROL_DIR) == 0)
		return -EPERM;
	return removal_unlink(rq->fs, rq->ino, rq->name, is_rmdir);
}

static int run_unlink(struct request *rq)
{
	if (node_class(rq->ino) == NODE_COMMITTED)
		return names_reply(rq, remove_committed(rq, false));
	if (node_class(rq->ino) == NODE_VIRTUAL)
		return refuse(rq, rq->ino, false);
	return names_reply(rq, remove_name(rq, 0));
}

/* A removal is made durable before it is answered: no work for a thread of libfuse. */
static void start_removing(struct request *rq)
{
	if (node_class(rq->ino) == NODE_COMMITTED)
		request_submit(rq, LANE_TASKS);
	else
		request_run(rq);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request rq;

	if (names_begin(&rq, req, parent, name, 0, run_unlink))
		start_removing(&rq);
}

/* --- rmdir ------------------------------------------------------------------------------------ */

/* The committed checkpoint that has this name, or had it and is being removed; -ENOENT none. */
static int find_top(struct fs *fs, const char *path, uint64_t *out)
{
	struct checkpoint *cp = NULL;
	int rc;

	*out = removal_find(fs, path);
	if (*out != 0)
		return 0;
	rc = plain_checkpoint(fs, path, &cp);
	if (rc < 0)
		return rc;
	*out = cp->row.slot;
	checkpoint_unref(cp);
	return 0;
}

/* Does the folder hold nothing but its control folder, which nobody sees? */
static int holds_only_control(struct fs *fs, const char *path)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), path,
						 O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	const char *name = NULL;
	bool only = true;
	DIR *dir;
	int rc;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir)
		return -errno;
	ckpt_ignore(ckpt_steal_fd(&fd)); /* closedir() closes it */
	while (only && (rc = ckpt_io_readdir(dir, &name)) > 0)
		only = strcmp(name, CKPT_CONTROL_DIR) == 0;
	closedir(dir);
	return only ? rc : -ENOTEMPTY;
}

/*
 * The folder is empty to whoever sees it. What sessions left in it goes with it; where another
 * process writes or commits there, it stays.
 */
static int drop_open(struct fs *fs, const char *path)
{
	const struct timespec pause = { .tv_nsec = DROP_PAUSE_MS * 1000000L };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf control;
	int rc = 0;

	summing_committed(fs, path);
	for (unsigned int i = 0; i < DROP_TRIES; i++) {
		rc = ckpt_abort_empty(fs->store, path, &err);
		if (rc != -EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	if (rc < 0 && rc != -EINVAL && rc != -ENOTEMPTY)
		fs_log_once("%s", err.msg);
	if (rc != -EINVAL)
		return rc;
	/* No checkpoint (any more): then what lies in its control folder is nobody's. */
	ckpt_buf_init(&control);
	ckpt_path_join(&control, path, CKPT_CONTROL_DIR);
	rc = ckpt_buf_check(&control);
	if (rc == 0)
		rc = ckpt_io_remove_tree(ckpt_store_fd(fs->store), control.data, NULL);
	ckpt_buf_release(&control);
	return rc < 0 ? rc : -EAGAIN;
}

/* rmdir(2) has found something in it. */
static int rmdir_open(struct request *rq, const char *path)
{
	struct stat st;
	int rc = holds_only_control(rq->fs, path);

	if (rc == 0 && !rq->queued)
		return RC_WORKER;
	if (rc == 0)
		rc = ckpt_io_fstatat(ckpt_store_fd(rq->fs->store), path, &st, AT_SYMLINK_NOFOLLOW);
	if (rc == 0)
		rc = drop_open(rq->fs, path);
	if (rc == 0)
		inode_unlinked(rq->fs->inodes, rq->ino, ckpt_path_basename(path), &st);
	return rc == -EAGAIN ? remove_name(rq, AT_REMOVEDIR) : rc;
}

/* A folder that is no committed checkpoint. */
static int rmdir_plain(struct request *rq, const char *path)
{
	int rc = remove_name(rq, AT_REMOVEDIR);

	return rc == -ENOTEMPTY || rc == -EEXIST ? rmdir_open(rq, path) : rc;
}

static int rmdir_in_plain(struct request *rq)
{
	struct ckpt_buf path;
	uint64_t slot = 0;
	int rc;

	if (strcmp(rq->name, CKPT_CONTROL_DIR) == 0)
		return -EPERM;
	ckpt_buf_init(&path);
	rc = names_path(rq->fs, rq->ino, rq->name, &path);
	if (rc == 0)
		rc = find_top(rq->fs, path.data, &slot);
	if (rc == 0)
		rc = rq->queued ? removal_rmdir_top(rq->fs, slot) : RC_WORKER;
	else if (rc == -ENOENT)
		rc = rmdir_plain(rq, path.data);
	ckpt_buf_release(&path);
	return rc;
}

static int run_rmdir(struct request *rq)
{
	if (node_class(rq->ino) == NODE_COMMITTED)
		return names_reply(rq, remove_committed(rq, true));
	if (node_class(rq->ino) == NODE_VIRTUAL)
		return refuse(rq, rq->ino, false);
	return names_reply(rq, rmdir_in_plain(rq));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request rq;

	if (names_begin(&rq, req, parent, name, 0, run_rmdir))
		start_removing(&rq);
}
