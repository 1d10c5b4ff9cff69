/*
 * removal.h - removing a committed checkpoint as tools do it, one entry at a time: the first unlink
 * or rmdir moves the whole folder into the trash; this mount goes on serving what is not unlinked
 * yet, under the old name, until the folder itself is removed. A removal without a further unlink
 * for REMOVAL_STALLED_SECS is undone, and one ends when somebody else brings the checkpoint back.
 * No node changes its number by one.
 */
#ifndef CKPT_FS_REMOVAL_H
#define CKPT_FS_REMOVAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"
#include "fs.h"
#include "removal_tree.h"
#include "slots.h"
#include "trash_room.h"

#define REMOVAL_STALLED_SECS 60

/** removals_new - also starts what keeps room beside the trash (trash_room.h). */
int removals_new(struct fs *fs, struct removals **out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** removals_free - what is under way stays in the trash. */
void removals_free(struct removals *removals);
/** removals_room - borrowed; NULL in a mount that does not write. */
struct trash_room *removals_room(const struct removals *removals);

/**
 * removal_unlink - unlink(2) or rmdir(2) of the entry @name in the committed folder @parent; may
 * begin the removal. In a worker.
 * Errors: -EPERM pinned; -ENOTEMPTY, -EISDIR, -ENOTDIR, -ENOENT as the system calls; RC_LOAD_FIRST;
 * -ESTALE; else system (logged).
 */
int removal_unlink(struct fs *fs, fuse_ino_t parent, const char *name, bool is_rmdir)
	CKPT_MUST_CHECK;
/**
 * removal_rmdir_top - rmdir(2) of the checkpoint's own folder: ends its removal. In a worker.
 * Errors: -ENOTEMPTY; as removal_unlink.
 */
int removal_rmdir_top(struct fs *fs, uint64_t slot) CKPT_MUST_CHECK;

/** removal_find - slot of the checkpoint that had the name @path and is being removed; 0: none. */
uint64_t removal_find(struct fs *fs, const char *path);
/**
 * removal_meet - what a look-up of @path finds, where a checkpoint that had this name is being
 * removed: its folder as it is stored, and itself (checkpoint_unref() it). -ENOENT.
 */
int removal_meet(struct fs *fs, const char *path, struct stat *st, struct checkpoint **out)
	CKPT_MUST_CHECK;

/* A checkpoint under removal, as the listing of its parent shows it. */
struct removal_listed {
	uint64_t id; /* grows from removal to removal */
	uint64_t slot;
	char name[CKPT_COMPONENT_MAX + 1]; /* last component */
};

/** removal_next - the next one of the folder @parent_path, behind the id @after. -ENOENT. */
int removal_next(struct fs *fs, const char *parent_path, uint64_t after, struct removal_listed *out)
	CKPT_MUST_CHECK;

/** removal_each - the name that each had; @fn must not wait for anything. */
void removal_each(struct fs *fs, void (*fn)(void *ctx, const char *name), void *ctx);

/** removal_tree_of - the entries of a checkpoint that is being removed; NULL: nobody removes it. */
struct removal_tree *removal_tree_of(struct fs *fs, uint64_t slot);
/** removal_is_active - is it being removed? */
bool removal_is_active(struct fs *fs, uint64_t slot);
/** removal_open_folder - its stored folder, wherever that lies. -ENOENT: nobody removes it. */
int removal_open_folder(struct fs *fs, uint64_t slot, int *out_fd) CKPT_MUST_CHECK;
/**
 * removal_conflicts - another checkpoint is to have a slot whose nodes lead to one that is being
 * removed, since the index has forgotten that one
 */
bool removal_conflicts(struct fs *fs, const struct ckpt_db_checkpoint *row);
/**
 * removal_times - how often the folder on @line was removed and came back: the kernel keeps a
 * removed folder dead for as long as somebody stands in it, so it comes back in another generation.
 */
uint64_t removal_times(struct fs *fs, uint64_t slot, uint32_t line);

#endif
