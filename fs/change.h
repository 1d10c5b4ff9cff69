/*
 * change.h - changes of what is not committed: whether one is allowed, and the
 * agreement between those that change and those that commit.
 *
 * A change holds its folder from change_begin() to change_end(): no commit of this process passes
 * its freeze meanwhile. Writing through a handle that is open needs none: the commit's leases see
 * it. Another process's commit is seen by its lock and its manifest.
 */
#ifndef CKPT_FS_CHANGE_H
#define CKPT_FS_CHANGE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"

struct changes;

struct changes *changes_new(void);
void changes_free(struct changes *changes);

/**
 * change_begin - may what lies at @path, below the store, be made, changed or removed?
 * On 0 change_end() is due, soon, by the same thread: nothing that waits for a client or a disk's
 * queue may happen between. A thread may begin several at a time.
 * Errors: -EROFS it is committed; -EBUSY it is being committed; -EPERM a component is `.ckptfs`;
 * else system.
 */
int change_begin(struct fs *fs, const char *path) CKPT_MUST_CHECK;
void change_end(struct fs *fs);
/**
 * change_is_above_freeze - is a folder frozen that lies below @path? Then @path cannot be moved.
 * Between change_begin() and change_end() no freeze is added that has ended its wait.
 */
bool change_is_above_freeze(struct fs *fs, const char *path);

/** change_frozen_by - the frozen folder that @path is or lies in (appended). -ENOENT: none. */
int change_frozen_by(struct fs *fs, const char *path, struct ckpt_buf *out) CKPT_MUST_CHECK;

/**
 * change_freeze - from now on changes at and below the folder @path answer -EBUSY; waits for those
 * under way
 * Errors: -EBUSY it is frozen already, or a folder above or below it; -ENOMEM. change_thaw() it.
 */
int change_freeze(struct fs *fs, const char *path) CKPT_MUST_CHECK;
void change_thaw(struct fs *fs, const char *path);

#endif
