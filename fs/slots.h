/*
 * slots.h - the committed checkpoints that the mount has met, by slot: their
 * rows of the index. A small cache in front of the index; entries are not in it.
 */
#ifndef CKPT_FS_SLOTS_H
#define CKPT_FS_SLOTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "fs.h"

/* Immutable once made; shared by reference counts. */
struct checkpoint {
	_Atomic uint32_t refs;
	/* Tells the kernel two checkpoints apart that had the same slot one after the other. */
	uint64_t generation;
	/* Sub-folders of the top, for its st_nlink; 0 until the entries are in the index. */
	uint32_t top_dirs;
	struct ckpt_db_checkpoint row;
};

struct slots *slots_new(void);
void slots_free(struct slots *slots);

/**
 * slots_note - keep what ckpt_store_lookup found (what is known already stays); takes over what
 * @row points to, also on failure. *@out: checkpoint_unref() it. -EBUSY the nodes of this slot
 * lead to another one, which is being removed; -ENOMEM.
 */
int slots_note(struct fs *fs, struct ckpt_db_checkpoint *row, struct checkpoint **out)
	CKPT_MUST_CHECK;
/** slots_get - the checkpoint of a slot; checkpoint_unref() it. -ESTALE there is none. */
int slots_get(struct fs *fs, uint64_t slot, struct checkpoint **out) CKPT_MUST_CHECK;
/** slots_get_loaded - the same, if its entries are in the index; else RC_LOAD_FIRST. */
int slots_get_loaded(struct fs *fs, uint64_t slot, struct checkpoint **out) CKPT_MUST_CHECK;
/**
 * slots_load - look again at the checkpoint's folder and put its entries into the index. May take
 * seconds. -ESTALE it is gone.
 */
int slots_load(struct fs *fs, uint64_t slot) CKPT_MUST_CHECK;
/**
 * slots_still_loaded - does the index hold the entries now? It may have been deleted. -ESTALE,
 * RC_LOAD_FIRST: no.
 */
int slots_still_loaded(struct fs *fs, uint64_t slot) CKPT_MUST_CHECK;

/**
 * slots_renamed - this mount has renamed a committed checkpoint, or a group that holds some: what is
 * kept of those below @old_path is looked up again below @new_path. In a worker, before the reply.
 */
void slots_renamed(struct fs *fs, const char *old_path, const char *new_path);
/** slots_drop - the checkpoint of a slot is gone. */
void slots_drop(struct fs *fs, uint64_t slot);

void checkpoint_unref(struct checkpoint *cp);

#endif
