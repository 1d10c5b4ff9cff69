/*
 * plain.h - what is not committed: passed through to the plain folder below.
 * Every path is put together anew, opened without following symlinks, and
 * compared with the (dev, ino) that the node stands for.
 */
#ifndef CKPT_FS_PLAIN_H
#define CKPT_FS_PLAIN_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"
#include "slots.h"

/**
 * plain_open - open the stored file of a node. @flags: as open(2); @path: NULL, or receives its
 * path; *@st: the file. Returns the descriptor; -ESTALE.
 */
int plain_open(struct fs *fs, fuse_ino_t ino, int flags, struct ckpt_buf *path, struct stat *st)
	CKPT_MUST_CHECK;

/** plain_show - turn what fstat(2) says of a stored file into what the mount says. */
void plain_show(const struct fs *fs, struct stat *st);

/**
 * plain_checkpoint - is the folder at @path, below the store, a committed checkpoint? *@out:
 * checkpoint_unref() it. -ENOENT no; an unusable manifest is logged.
 */
int plain_checkpoint(struct fs *fs, const char *path, struct checkpoint **out) CKPT_MUST_CHECK;
/** plain_lies_in_checkpoint - is any folder above @path a checkpoint? */
bool plain_lies_in_checkpoint(struct fs *fs, const char *path);
/**
 * plain_stored_name - the stored name that @name in the folder @dir_path stands for (appended):
 * itself, but for a checkpoint that is written again (resave.h).
 */
int plain_stored_name(struct fs *fs, const char *dir_path, const char *name, struct ckpt_buf *out)
	CKPT_MUST_CHECK;

/* A plain folder that names are looked up in. */
struct plain_dir {
	fuse_ino_t ino;
	int fd;		  /* O_PATH will do */
	const char *path; /* below the store */
};

/**
 * plain_entry - look one name up, as a request for it would be answered
 * @out: plain: one look-up of the node was counted (inode_forget undoes it); committed: nothing is
 *       held
 * Errors: -ENOENT, also for what `-o ro` hides; -EBADMSG, -ENOTSUP an unusable manifest (logged);
 * else system.
 */
int plain_entry(struct fs *fs, const struct plain_dir *dir, const char *name,
		struct fuse_entry_param *out) CKPT_MUST_CHECK;

/**
 * plain_peek - inode number that plain_entry would show, and whether it would show anything; holds
 * nothing.
 */
bool plain_peek(struct fs *fs, const struct plain_dir *dir, const char *name, ino_t *out_ino);

/**
 * plain_has_latest - does the folder list the symlink `latest`? Only with -o ro, where nothing
 * real has that name and something is committed.
 */
bool plain_has_latest(struct fs *fs, const struct plain_dir *dir);

int plain_child(struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
int plain_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;
/** plain_readlink - @target receives the target (appended). -EINVAL no symlink. */
int plain_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target) CKPT_MUST_CHECK;

#endif
