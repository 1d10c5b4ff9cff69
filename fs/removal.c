/*
 * removal.c - see removal.h.
 *
 * A removal is in the table from before its folder is moved until its last entry is gone: whoever
 * does not find the folder under its name finds it here. It holds the folder open, so that nobody
 * has to know where it lies.
 */
#include "removal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "committed.h"
#include "group.h"
#include "node.h"

void removal_free(struct removal *removal)
{
	if (!removal)
		return;
	if (removal->fd >= 0)
		close(removal->fd);
	removal_tree_unref(removal->tree);
	free(removal->name);
	free(removal->room);
	free(removal);
}

/* --- the table ---------------------------------------------------------------------------- */

struct removal *removal_by_slot_locked(struct removals *removals, uint64_t slot)
{
	struct removal *removal = removals->first;

	while (removal && removal->slot != slot)
		removal = removal->next;
	return removal;
}

static struct removal *find_name_locked(struct removals *removals, const char *name)
{
	struct removal *removal = removals->first;

	while (removal && strcmp(removal->name, name) != 0)
		removal = removal->next;
	return removal;
}

static void link_locked(struct removals *removals, struct removal *removal)
{
	struct removal **slot = &removals->first;

	/* By id, which is the order of listings. */
	while (*slot)
		slot = &(*slot)->next;
	removal->id = ++removals->last_id;
	*slot = removal;
	atomic_fetch_add(&removals->count, 1);
}

void removal_unlink_locked(struct removals *removals, const struct removal *removal)
{
	struct removal **slot = &removals->first;

	while (*slot != removal)
		slot = &(*slot)->next;
	*slot = removal->next;
	atomic_fetch_sub(&removals->count, 1);
	pthread_cond_broadcast(&removals->settled);
}

static bool is_idle(const struct fs *fs)
{
	return atomic_load(&fs->removals->count) == 0;
}

uint64_t removal_find(struct fs *fs, const char *path)
{
	struct removals *removals = fs->removals;
	const struct removal *removal;
	uint64_t slot;

	if (is_idle(fs))
		return 0;
	pthread_mutex_lock(&removals->mu);
	removal = find_name_locked(removals, path);
	slot = removal ? removal->slot : 0;
	pthread_mutex_unlock(&removals->mu);
	return slot;
}

int removal_meet(struct fs *fs, const char *path, struct stat *st, struct checkpoint **out)
{
	struct removals *removals = fs->removals;
	const struct removal *removal;
	struct checkpoint *cp = NULL;

	if (is_idle(fs))
		return -ENOENT;
	pthread_mutex_lock(&removals->mu);
	removal = find_name_locked(removals, path);
	if (removal) {
		*st = removal->folder;
		cp = removal_tree_checkpoint(removal->tree);
		atomic_fetch_add(&cp->refs, 1);
	}
	pthread_mutex_unlock(&removals->mu);
	if (!cp)
		return -ENOENT;
	*out = cp;
	return 0;
}

/* Is @name the last component of a path in the folder @parent? */
static const char *name_in(const char *path, const char *parent)
{
	size_t len = strlen(parent);
	const char *base = ckpt_path_basename(path);
	size_t above = base == path ? 0 : (size_t)(base - path) - 1;

	return above == len && strncmp(path, parent, len) == 0 ? base : NULL;
}

int removal_next(struct fs *fs, const char *parent_path, uint64_t after, struct removal_listed *out)
{
	struct removals *removals = fs->removals;
	const struct removal *removal;
	const char *base = NULL;

	if (is_idle(fs))
		return -ENOENT;
	pthread_mutex_lock(&removals->mu);
	for (removal = removals->first; removal; removal = removal->next) {
		base = removal->id > after ? name_in(removal->name, parent_path) : NULL;
		if (base)
			break;
	}
	if (removal) {
		out->id = removal->id;
		out->slot = removal->slot;
		/* A checked name: no component is longer. */
		memcpy(out->name, base, strlen(base) + 1);
	}
	pthread_mutex_unlock(&removals->mu);
	return removal ? 0 : -ENOENT;
}

void removal_each(struct fs *fs, void (*fn)(void *ctx, const char *name), void *ctx)
{
	struct removals *removals = fs->removals;

	pthread_mutex_lock(&removals->mu);
	for (const struct removal *at = removals->first; at; at = at->next)
		fn(ctx, at->name);
	pthread_mutex_unlock(&removals->mu);
}

struct removal_tree *removal_tree_of(struct fs *fs, uint64_t slot)
{
	struct removals *removals = fs->removals;
	struct removal_tree *tree = NULL;
	const struct removal *removal;

	if (is_idle(fs))
		return NULL;
	pthread_mutex_lock(&removals->mu);
	removal = removal_by_slot_locked(removals, slot);
	if (removal)
		tree = removal_tree_ref(removal->tree);
	pthread_mutex_unlock(&removals->mu);
	return tree;
}

bool removal_is_active(struct fs *fs, uint64_t slot)
{
	struct removal_tree *tree = removal_tree_of(fs, slot);

	removal_tree_unref(tree);
	return tree != NULL;
}

int removal_open_folder(struct fs *fs, uint64_t slot, int *out_fd)
{
	struct removals *removals = fs->removals;
	const struct removal *removal;
	int fd = -ENOENT;

	if (is_idle(fs))
		return -ENOENT;
	pthread_mutex_lock(&removals->mu);
	removal = removal_by_slot_locked(removals, slot);
	if (removal) {
		fd = fcntl(removal->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			fd = -errno;
	}
	pthread_mutex_unlock(&removals->mu);
	if (fd < 0)
		return fd;
	*out_fd = fd;
	return 0;
}

bool removal_conflicts(struct fs *fs, const struct ckpt_db_checkpoint *row)
{
	struct removal_tree *tree = removal_tree_of(fs, row->slot);
	const struct ckpt_db_checkpoint *removed;
	bool conflicts;

	if (!tree)
		return false;
	removed = &removal_tree_checkpoint(tree)->row;
	conflicts = removed->manifest_ino != row->manifest_ino || strcmp(removed->id, row->id) != 0;
	removal_tree_unref(tree);
	return conflicts;
}

/* --- the beginning ------------------------------------------------------------------------- */

static int refuse_pinned(const struct fs *fs, const char *name)
{
	fs_log_once("cannot remove '%s': it is pinned; run 'ckptfs unpin %s/%s' first", name,
		    ckpt_store_path(fs->store), name);
	return -EPERM;
}

static int removal_new(struct fs *fs, struct checkpoint *cp, struct removal **out)
{
	struct removal *removal = calloc(1, sizeof(*removal));
	int rc;

	if (!removal)
		return -ENOMEM;
	removal->slot = cp->row.slot;
	removal->fd = -1;
	removal->last_ms = ckpt_clock_mono_ms();
	removal->name = strdup(cp->row.name);
	rc = removal->name ? committed_open_folder(fs, cp, &removal->fd) : -ENOMEM;
	if (rc == 0)
		rc = ckpt_io_fstat(removal->fd, &removal->folder);
	if (rc == 0)
		rc = removal_tree_load(fs, cp, &removal->tree);
	if (rc < 0)
		removal_free(removal);
	else
		*out = removal;
	return rc;
}

/* Put it into the table. -EAGAIN: somebody else has begun. */
static int enter(struct removals *removals, struct removal *removal)
{
	int rc = 0;

	pthread_mutex_lock(&removals->mu);
	if (removal_by_slot_locked(removals, removal->slot))
		rc = -EAGAIN;
	else
		link_locked(removals, removal);
	pthread_mutex_unlock(&removals->mu);
	return rc;
}

/* Its folder lies in the trash now, or could not be moved: then @removal is gone. */
static void settle(struct removals *removals, struct removal *removal, char *room)
{
	pthread_mutex_lock(&removals->mu);
	if (room) {
		removal->room = room;
		removal->stage = UNDER_WAY;
		removal->last_ms = ckpt_clock_mono_ms();
		pthread_cond_broadcast(&removals->settled);
		pthread_cond_signal(&removals->wake);
	} else {
		removal_unlink_locked(removals, removal);
	}
	pthread_mutex_unlock(&removals->mu);
	if (!room)
		removal_free(removal);
}

static int move(struct fs *fs, const char *name, char **out_room)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf room;
	int rc;

	ckpt_buf_init(&room);
	rc = ckpt_trash_remove(fs->store, name, &room, &err);
	if (rc == 0) {
		*out_room = ckpt_buf_steal(&room);
		/* It lies in the trash, and this mount cannot serve the rest of it. */
		rc = *out_room ? 0 : -ENOMEM;
	}
	ckpt_buf_release(&room);
	/* Another one was quicker: for the caller it is not there. */
	if (rc < 0 && rc != -ENOENT)
		fs_log_once("%s", err.msg);
	return rc;
}

/* Begin to remove @cp. -EAGAIN: look again. */
static int begin_checkpoint(struct fs *fs, struct checkpoint *cp)
{
	struct removal *removal = NULL;
	char *room = NULL;
	int rc;

	if (ckpt_is_pinned(fs->store, cp->row.id))
		return refuse_pinned(fs, cp->row.name);
	rc = removal_new(fs, cp, &removal);
	if (rc < 0)
		return rc;
	rc = enter(fs->removals, removal);
	if (rc < 0) {
		removal_free(removal);
		return rc;
	}
	rc = move(fs, cp->row.name, &room);
	settle(fs->removals, removal, room);
	if (rc < 0)
		return rc;
	ckpt_log("'%s' is being removed: it lies in the trash", cp->row.name);
	groups_expire(fs->groups);
	trash_room_changed(fs->removals->room);
	return -EAGAIN;
}

static int begin(struct fs *fs, uint64_t slot)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get_loaded(fs, slot, &cp);

	if (rc < 0)
		return rc;
	rc = begin_checkpoint(fs, cp);
	checkpoint_unref(cp);
	return rc;
}

/* --- unlink and rmdir ---------------------------------------------------------------------- */

static int stop_at_first(void *ctx, const struct ckpt_db_entry *entry)
{
	bool *any = ctx;

	(void)entry;
	*any = true;
	return 1;
}

/* -ENOTEMPTY, where the folder holds something. */
static int check_empty(struct fs *fs, uint64_t slot, uint32_t line)
{
	struct ckpt_db_cursor from = { .slot = slot, .parent = line, .after = NODE_TOP_LINE };
	bool any = false;
	int rc = committed_children(fs, &from, stop_at_first, &any);

	return rc < 0 ? rc : any ? -ENOTEMPTY : 0;
}

/* Would the system call succeed? Asked before anything is moved. */
static int check_entry(struct fs *fs, fuse_ino_t parent, const char *name, bool is_rmdir)
{
	struct ckpt_db_entry entry = { 0 };
	bool is_dir;
	int rc = committed_entry_named(fs, parent, name, &entry);

	if (rc < 0)
		return rc;
	is_dir = entry.kind == CKPT_ENTRY_DIR;
	if (is_dir != is_rmdir)
		rc = is_dir ? -EISDIR : -ENOTDIR;
	else if (is_dir)
		rc = check_empty(fs, node_slot(parent), entry.line);
	ckpt_db_entry_release(&entry);
	return rc;
}

/* The removal of @slot that is under way; waits for one that begins or is being undone. */
static struct removal *await_locked(struct removals *removals, uint64_t slot)
{
	struct removal *removal;

	while ((removal = removal_by_slot_locked(removals, slot)) && removal->stage != UNDER_WAY)
		pthread_cond_wait(&removals->settled, &removals->mu);
	return removal;
}

/* One try at an unlink. -EAGAIN: it is not being removed. */
static int mark(struct removals *removals, fuse_ino_t parent, const char *name, bool is_rmdir)
{
	struct removal *removal;
	int rc = -EAGAIN;

	pthread_mutex_lock(&removals->mu);
	removal = await_locked(removals, node_slot(parent));
	if (removal) {
		rc = removal_tree_mark(removal->tree, node_line(parent), name, is_rmdir);
		removal->last_ms = ckpt_clock_mono_ms();
	}
	pthread_mutex_unlock(&removals->mu);
	return rc;
}

static void look_whether_back(struct fs *fs, uint64_t slot)
{
	if (!is_idle(fs))
		removal_end_if_back(fs->removals, slot);
}

int removal_unlink(struct fs *fs, fuse_ino_t parent, const char *name, bool is_rmdir)
{
	uint64_t slot = node_slot(parent);
	int rc;

	look_whether_back(fs, slot);
	rc = mark(fs->removals, parent, name, is_rmdir);
	while (rc == -EAGAIN) {
		rc = check_entry(fs, parent, name, is_rmdir);
		if (rc == 0)
			rc = begin(fs, slot);
		if (rc == -EAGAIN)
			rc = mark(fs->removals, parent, name, is_rmdir);
	}
	return rc;
}

/* One try at the end. *@out: what is over. -EAGAIN: it is not being removed. */
static int take_empty(struct removals *removals, uint64_t slot, struct removal **out)
{
	struct removal *removal;
	int rc = -EAGAIN;

	pthread_mutex_lock(&removals->mu);
	removal = await_locked(removals, slot);
	if (removal)
		rc = removal_tree_is_empty(removal->tree) ? 0 : -ENOTEMPTY;
	if (rc == 0) {
		removal_unlink_locked(removals, removal);
		removal_note_reborn_locked(removals, slot, 0);
		*out = removal;
	}
	pthread_mutex_unlock(&removals->mu);
	return rc;
}

int removal_rmdir_top(struct fs *fs, uint64_t slot)
{
	struct removal *removal = NULL;
	int rc;

	look_whether_back(fs, slot);
	rc = take_empty(fs->removals, slot, &removal);
	while (rc == -EAGAIN) {
		/* Without an entry its own folder is the first that is removed. */
		rc = check_empty(fs, slot, NODE_TOP_LINE);
		if (rc == 0)
			rc = begin(fs, slot);
		if (rc == -EAGAIN)
			rc = take_empty(fs->removals, slot, &removal);
	}
	if (rc < 0)
		return rc;
	slots_drop(fs, slot);
	ckpt_log("'%s' is removed; 'ckptfs undelete %s/%s' brings it back until it is purged",
		 removal->name, ckpt_store_path(fs->store), removal->name);
	removal_free(removal);
	return 0;
}

/* --- all of them ---------------------------------------------------------------------------- */

struct trash_room *removals_room(const struct removals *removals)
{
	return removals->room;
}

static int start(struct removals *removals, struct ckpt_err *err)
{
	sigset_t all;
	sigset_t old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&removals->thread, NULL, removal_thread, removals);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return ckpt_err_sys(err, -rc, "cannot start a thread");
	removals->has_thread = true;
	return 0;
}

/* With -o ro the kernel lets nobody remove anything. */
static int start_all(struct removals *removals, struct ckpt_err *err)
{
	int rc;

	if (removals->fs->options->read_only)
		return 0;
	rc = start(removals, err);
	return rc < 0 ? rc : trash_room_new(removals->fs, &removals->room, err);
}

int removals_new(struct fs *fs, struct removals **out, struct ckpt_err *err)
{
	struct removals *removals = calloc(1, sizeof(*removals));
	pthread_condattr_t attr;
	int rc;

	if (!removals)
		return ckpt_err_sys(err, -ENOMEM, "cannot mount '%s'", fs->options->store_path);
	removals->fs = fs;
	pthread_mutex_init(&removals->mu, NULL);
	pthread_cond_init(&removals->settled, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&removals->wake, &attr);
	pthread_condattr_destroy(&attr);
	rc = start_all(removals, err);
	if (rc < 0)
		removals_free(removals);
	else
		*out = removals;
	return rc;
}

static void free_list(struct removal *removal)
{
	while (removal) {
		struct removal *next = removal->next;

		removal_free(removal);
		removal = next;
	}
}

void removals_free(struct removals *removals)
{
	if (!removals)
		return;
	pthread_mutex_lock(&removals->mu);
	removals->stopping = true;
	pthread_cond_signal(&removals->wake);
	pthread_mutex_unlock(&removals->mu);
	if (removals->has_thread)
		pthread_join(removals->thread, NULL);
	trash_room_free(removals->room);
	free_list(removals->first);
	free_list(removals->over);
	free(removals->reborn);
	pthread_cond_destroy(&removals->wake);
	pthread_cond_destroy(&removals->settled);
	pthread_mutex_destroy(&removals->mu);
	free(removals);
}
