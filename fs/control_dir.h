/*
 * control_dir.h - the control folders `.ckptfs`: of the top, of groups and of
 * committed checkpoints, and what lies in them. They answer by name and are
 * not listed in their parent. Their nodes hold no memory: node.h tells what a
 * number means, the rest is looked up.
 */
#ifndef CKPT_FS_CONTROL_DIR_H
#define CKPT_FS_CONTROL_DIR_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"
#include "node.h"

/*
 * Answers to look-ups of `.ckptfs` in a plain folder, in a checkpoint's top, and of `latest` in a
 * group.
 */
int control_dir_of_group(struct fs *fs, fuse_ino_t group, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
int control_dir_of_checkpoint(struct fs *fs, uint64_t slot, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
int control_latest_listed(struct fs *fs, fuse_ino_t group, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;

int control_child(struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
int control_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;
int control_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target) CKPT_MUST_CHECK;
/** control_is_dir - a control folder itself. */
bool control_is_dir(fuse_ino_t ino);
/** control_is_of_checkpoint - it belongs to a committed checkpoint, whose slot node_ref() is. */
bool control_is_of_checkpoint(fuse_ino_t ino);
/** control_asks_group - answering about this node may need group_latest(). */
bool control_asks_group(fuse_ino_t ino);
/** control_list - name of entry @idx of a control folder (0 is the first); NULL behind the last. */
const char *control_list(fuse_ino_t dir, size_t idx);

/** control_is_stored - a stored file shown as it is; else its text is made. */
bool control_is_stored(fuse_ino_t ino);
/**
 * control_is_live - its text changes from open to open, so each open makes its own and nothing of
 * it is cached.
 */
bool control_is_live(fuse_ino_t ino);
/** control_open_stored - descriptor of the stored file. -ESTALE. */
int control_open_stored(struct fs *fs, fuse_ino_t ino, int *out_fd) CKPT_MUST_CHECK;
/** control_text - make the text (appended). RC_LOAD_FIRST; -ESTALE. */
int control_text(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *out) CKPT_MUST_CHECK;

#endif
