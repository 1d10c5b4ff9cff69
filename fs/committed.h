/*
 * committed.h - committed checkpoints: answered from the index, bytes from the
 * stored files through their sums. What the index says is checked before it
 * reaches the kernel (names), and the folder is checked to be the same
 * checkpoint still before a file in it is opened.
 */
#ifndef CKPT_FS_COMMITTED_H
#define CKPT_FS_COMMITTED_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"
#include "slots.h"

/**
 * committed_show_top - what the mount says of a checkpoint's own folder; @st: the stored folder's.
 */
void committed_show_top(struct fs *fs, const struct checkpoint *cp, struct stat *st);
/** committed_fill_top - the answer to a look-up of it. */
void committed_fill_top(struct fs *fs, const struct checkpoint *cp, const struct stat *st,
			struct fuse_entry_param *out);
/** committed_show - what the mount says of an entry. */
void committed_show(uint64_t slot, const struct ckpt_db_entry *entry, struct stat *out);
/**
 * committed_check_name - may the kernel be told this name? -EIO (logged) for what no manifest can
 * hold.
 */
int committed_check_name(const struct checkpoint *cp, const struct ckpt_db_entry *entry)
	CKPT_MUST_CHECK;

/**
 * committed_entry - the entry of a node that is not the top; ckpt_db_entry_release() it.
 * RC_LOAD_FIRST; -ESTALE.
 */
int committed_entry(struct fs *fs, fuse_ino_t ino, struct ckpt_db_entry *out) CKPT_MUST_CHECK;
/** committed_entry_named - the same of a name in a folder. -ENOENT. */
int committed_entry_named(struct fs *fs, fuse_ino_t parent, const char *name,
			  struct ckpt_db_entry *out) CKPT_MUST_CHECK;
/**
 * committed_children - as ckpt_db_children, of a checkpoint that is being removed, too: then without
 * what was unlinked. Errors are logged.
 */
int committed_children(struct fs *fs, const struct ckpt_db_cursor *from,
		       int (*fn)(void *ctx, const struct ckpt_db_entry *entry), void *ctx)
	CKPT_MUST_CHECK;
/**
 * committed_open_folder - the checkpoint's stored folder, in the trash where it is being removed; -ESTALE when it is gone or holds another
 * manifest now. Caller closes.
 */
int committed_open_folder(struct fs *fs, const struct checkpoint *cp, int *out_fd) CKPT_MUST_CHECK;
/** committed_fill - the answer to a look-up of @entry. */
void committed_fill(struct fs *fs, const struct checkpoint *cp, const struct ckpt_db_entry *entry,
		    struct fuse_entry_param *out);

/**
 * committed_child - @out->ino stays 0 where there is no such name, which the kernel may keep.
 * RC_LOAD_FIRST.
 */
int committed_child(struct fs *fs, fuse_ino_t parent, const char *name,
		    struct fuse_entry_param *out) CKPT_MUST_CHECK;
int committed_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;
int committed_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target) CKPT_MUST_CHECK;

/**
 * committed_stored_open - the stored file or folder behind a node, opened with @flags; -ENOTSUP:
 * it lies in a pack. Caller closes.
 */
int committed_stored_open(struct fs *fs, fuse_ino_t ino, int flags, int *out_fd) CKPT_MUST_CHECK;

/* A shard that is open, read through its sums. Immutable once made; shared by reference counts. */
struct committed_shard {
	_Atomic uint32_t refs;
	struct checkpoint *cp;
	struct ckpt_shard shard;
	struct ckpt_shard_reader *reader;
};

/**
 * committed_shard_open - open a shard; what is wrong with its stored file is -EIO, and logged.
 * committed_shard_unref() it. RC_LOAD_FIRST; -ESTALE; -EISDIR; -ELOOP a symlink.
 */
int committed_shard_open(struct fs *fs, fuse_ino_t ino, struct committed_shard **out)
	CKPT_MUST_CHECK;
struct committed_shard *committed_shard_ref(struct committed_shard *shard);
void committed_shard_unref(struct committed_shard *shard);
/**
 * committed_log_damage - one line a block: which shard, which bytes, both sums, and the command to
 * run.
 */
void committed_log_damage(struct fs *fs, const struct committed_shard *shard,
			  const struct ckpt_damage *damage);

#endif
