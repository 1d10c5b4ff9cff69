/*
 * removal_undo.c - how a removal ends that does not run to its end: one that has stalled is undone,
 * and one whose checkpoint somebody brought back is over. Then the checkpoint is served as any other
 * again, and the kernel forgets what it keeps of its folders: their listings and counts of links
 * are those of before.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/num.h"
#include "group.h"
#include "node.h"
#include "removal_internal.h"

/* How often removals under way are looked at: what others bring back shows within a second. */
#define LOOK_MS 500U

/* --- folders that come back --------------------------------------------------------------- */

uint64_t removal_times(struct fs *fs, uint64_t slot, uint32_t line)
{
	struct removals *removals = fs->removals;
	uint64_t times = 0;

	pthread_mutex_lock(&removals->mu);
	for (size_t i = 0; i < removals->reborn_count; i++) {
		const struct reborn *reborn = &removals->reborn[i];

		times += reborn->slot == slot && (reborn->line == 0 || reborn->line == line);
	}
	pthread_mutex_unlock(&removals->mu);
	return times;
}

/* Without memory a folder in which somebody stands stays dead until he leaves it. */
void removal_note_reborn_locked(struct removals *removals, uint64_t slot, uint32_t line)
{
	if (array_grow(&removals->reborn, &removals->reborn_cap, removals->reborn_count,
		       sizeof(*removals->reborn)) < 0)
		return;
	removals->reborn[removals->reborn_count++] = (struct reborn){ .slot = slot, .line = line };
}

struct folder_note {
	struct removals *removals;
	uint64_t slot;
};

static void note_marked_dir(void *ctx, uint32_t line, bool is_marked)
{
	const struct folder_note *note = ctx;

	if (is_marked)
		removal_note_reborn_locked(note->removals, note->slot, line);
}

static void forget_dir(void *ctx, uint32_t line, bool is_marked)
{
	const struct folder_note *note = ctx;
	struct fs *fs = note->removals->fs;

	/* It fails where the kernel does not know the folder; at the end nobody answers it. */
	if (!is_marked && !fs->ending)
		ckpt_ignore(fuse_lowlevel_notify_inval_inode(
			fs->session, node_committed(note->slot, line), 0, 0));
}

/* --- the end ------------------------------------------------------------------------------- */

/* From now on the checkpoint is served from its folder; the thread does the rest. */
static void finish_locked(struct removals *removals, struct removal *removal)
{
	struct folder_note note = { .removals = removals, .slot = removal->slot };

	removal_unlink_locked(removals, removal);
	removal_tree_each_dir(removal->tree, note_marked_dir, &note);
	removal->next = removals->over;
	removals->over = removal;
	pthread_cond_signal(&removals->wake);
}

/* Only in the thread: the kernel may have to wait for requests before it forgets. */
static void let_go(struct removals *removals, struct removal *removal)
{
	struct folder_note note = { .removals = removals, .slot = removal->slot };

	forget_dir(&note, NODE_TOP_LINE, false);
	removal_tree_each_dir(removal->tree, forget_dir, &note);
	groups_expire(removals->fs->groups);
	trash_room_changed(removals->room);
	removal_free(removal);
}

static void let_go_of_all(struct removals *removals)
{
	struct removal *removal;

	do {
		pthread_mutex_lock(&removals->mu);
		removal = removals->over;
		if (removal)
			removals->over = removal->next;
		pthread_mutex_unlock(&removals->mu);
		if (removal)
			let_go(removals, removal);
	} while (removal);
}

/* Does the name lead to the folder? Then somebody has brought it back. */
static bool is_back(const struct fs *fs, const char *name, const struct stat *folder)
{
	struct stat st;

	return ckpt_io_fstatat(ckpt_store_fd(fs->store), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == folder->st_dev && st.st_ino == folder->st_ino;
}

void removal_end_if_back(struct removals *removals, uint64_t slot)
{
	CKPT_FREE char *name = NULL;
	struct removal *removal;
	struct stat folder;

	pthread_mutex_lock(&removals->mu);
	removal = removal_by_slot_locked(removals, slot);
	if (removal && removal->stage == UNDER_WAY) {
		name = strdup(removal->name);
		folder = removal->folder;
	}
	pthread_mutex_unlock(&removals->mu);
	if (!name || !is_back(removals->fs, name, &folder))
		return;
	pthread_mutex_lock(&removals->mu);
	removal = removal_by_slot_locked(removals, slot);
	if (removal && removal->stage == UNDER_WAY) {
		ckpt_log("the removal of '%s' is over: it was brought back from the trash", name);
		finish_locked(removals, removal);
	}
	pthread_mutex_unlock(&removals->mu);
}

/* The caller has made its stage UNDOING: it is ours. */
static void undo(struct removals *removals, struct removal *removal)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	rc = ckpt_trash_restore(removals->fs->store, removal->room, &name, &err);
	if (rc == 0)
		ckpt_log("the removal of '%s' has stalled for %d s: it is undone, the checkpoint "
			 "is whole again",
			 removal->name, REMOVAL_STALLED_SECS);
	else if (rc != -ENOENT) /* purged meanwhile: nothing is left to undo */
		ckpt_log("the removal of '%s' has stalled and cannot be undone: %s; it lies in "
			 "the trash, whole",
			 removal->name, err.msg);
	ckpt_buf_release(&name);
	pthread_mutex_lock(&removals->mu);
	finish_locked(removals, removal);
	pthread_mutex_unlock(&removals->mu);
}

/* --- the thread ---------------------------------------------------------------------------- */

/* The first removal behind the id @after that is under way; *@out_stalled: it is ours to undo. */
static struct removal *next_locked(struct removals *removals, uint64_t after, bool *out_stalled)
{
	struct removal *removal = removals->first;

	while (removal && (removal->id <= after || removal->stage != UNDER_WAY))
		removal = removal->next;
	*out_stalled = removal && ckpt_clock_mono_ms() - removal->last_ms >
					  (uint64_t)REMOVAL_STALLED_SECS * 1000U;
	if (*out_stalled)
		removal->stage = UNDOING;
	return removal;
}

static void look_at_all(struct removals *removals)
{
	struct removal *removal;
	uint64_t after = 0;
	uint64_t slot = 0;
	bool stalled;

	do {
		pthread_mutex_lock(&removals->mu);
		removal = next_locked(removals, after, &stalled);
		if (removal) {
			after = removal->id;
			slot = removal->slot;
		}
		pthread_mutex_unlock(&removals->mu);
		if (removal && stalled)
			undo(removals, removal);
		else if (removal) /* it may be gone by now: only its slot is used */
			removal_end_if_back(removals, slot);
	} while (removal);
	let_go_of_all(removals);
}

/* Until something is being removed, then LOOK_MS at most; false: the mount ends. */
static bool wait_for_removals(struct removals *removals)
{
	struct timespec until;
	bool stopping;

	pthread_mutex_lock(&removals->mu);
	while (!removals->first && !removals->over && !removals->stopping)
		pthread_cond_wait(&removals->wake, &removals->mu);
	/* CLOCK_MONOTONIC is always there; the condition goes by it. */
	ckpt_ignore(clock_gettime(CLOCK_MONOTONIC, &until));
	until.tv_nsec += LOOK_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	while (!removals->over && !removals->stopping &&
	       pthread_cond_timedwait(&removals->wake, &removals->mu, &until) != ETIMEDOUT)
		;
	stopping = removals->stopping;
	pthread_mutex_unlock(&removals->mu);
	return !stopping;
}

void *removal_thread(void *arg)
{
	struct removals *removals = arg;

	while (wait_for_removals(removals))
		look_at_all(removals);
	return NULL;
}
