/*
 * trash_room.h - room on the disk, at the expense of the trash: what purges removed checkpoints by
 * age, and the oldest of them before a writer meets ENOSPC; and statfs(2), which counts them as free.
 */
#ifndef CKPT_FS_TRASH_ROOM_H
#define CKPT_FS_TRASH_ROOM_H

#include <stdbool.h>

#include "base/err.h"
#include "fs.h"

struct trash_room;

/** trash_room_new - start its thread. */
int trash_room_new(struct fs *fs, struct trash_room **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void trash_room_free(struct trash_room *room);
/** trash_room_changed - something went into the trash, or came out of it: look now. */
void trash_room_changed(struct trash_room *room);

/**
 * trash_make_room - a writer met ENOSPC: purge the oldest. True: something was freed, try again. In
 * a worker: it may take seconds.
 */
bool trash_make_room(struct fs *fs);
/**
 * trash_is_tight - the disk is nearly full, and the trash could make room: who writes now should do
 * it through the daemon, which can answer ENOSPC by trash_make_room(). No system call.
 */
bool trash_is_tight(struct fs *fs);

#endif
