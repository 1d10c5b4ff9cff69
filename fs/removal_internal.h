/*
 * removal_internal.h - the table of removals.
 * May be included only by fs/removal.c and fs/removal_undo.c.
 */
#ifndef CKPT_FS_REMOVAL_INTERNAL_H
#define CKPT_FS_REMOVAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "removal.h"

enum stage {
	BEGINNING, /* its folder is being moved */
	UNDER_WAY,
	UNDOING,
};

struct removal {
	struct removal *next;
	uint64_t id;
	uint64_t slot;
	enum stage stage;
	char *name; /* it had */
	char *room; /* its place in the trash; NULL while it is beginning */
	int fd;	    /* its folder */
	struct stat folder;
	struct removal_tree *tree;
	uint64_t last_ms; /* of the last unlink */
};

/* Folders that were removed and may come back. */
struct reborn {
	uint64_t slot;
	uint32_t line; /* 0: every folder of the checkpoint */
};

struct removals {
	struct fs *fs;
	struct trash_room *room;
	_Atomic size_t count; /* of removals; read without the lock: nearly always 0 */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mu;
	pthread_cond_t settled; /* some removal has left BEGINNING or UNDOING */
	pthread_cond_t wake;	/* of the thread */
	/* The rest is protected by mu. */
	struct removal *first; /* ordered by id */
	struct removal *over;  /* the checkpoint is there again: what the kernel keeps is to go */
	uint64_t last_id;
	bool stopping;
	struct reborn *reborn;
	size_t reborn_count, reborn_cap;
};

/* removal.c */
void removal_free(struct removal *removal);
struct removal *removal_by_slot_locked(struct removals *removals, uint64_t slot);
/** removal_unlink_locked - take it out of the table. */
void removal_unlink_locked(struct removals *removals, const struct removal *removal);

/* removal_undo.c */
/**
 * removal_end_if_back - end the removal of @slot, if somebody has brought its checkpoint back: what
 * he has is not to lose an entry here only. One look at the disk.
 */
void removal_end_if_back(struct removals *removals, uint64_t slot);
/** removal_note_reborn_locked - @line: 0, or a folder. */
void removal_note_reborn_locked(struct removals *removals, uint64_t slot, uint32_t line);
/** removal_thread - what undoes removals that have stalled; @arg: the table. */
void *removal_thread(void *arg);

#endif
