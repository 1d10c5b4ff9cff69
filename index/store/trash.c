/*
 * trash.c - removing a committed checkpoint, and bringing it back. Both are one rename between
 * folders that are there and durable: a crash leaves it in one place or in the other, whole. Rooms
 * are reached by their path, never by a descriptor: one that a purge has renamed is gone for both.
 * Source: ckptfs-format(5) "The trash".
 */
#include "store/trash.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"
#include "store/trash_internal.h"

/* Copies of one checkpoint in the trash at a time. */
#define ROOMS_OF_ID_MAX 1000
/* A purge may sweep a room away before the checkpoint comes: tried again so often. */
#define MOVE_TRIES_MAX 3

/* One checkpoint on its way. */
struct move {
	struct ckpt_store *store;
	int store_fd;
	const char *name;
	int parent; /* the folder it lies in */
	int dirfd;  /* its own */
	struct ckpt_trash_record record;
	struct ckpt_buf place; /* its folder in the trash, below the store */
};

/* --- rooms ----------------------------------------------------------------------------------- */

int ckpt_trash_prepare(struct ckpt_store *store)
{
	int store_fd = ckpt_store_fd(store);
	struct stat st;
	int rc = ckpt_io_fstatat(store_fd, CKPT_TRASH_DIR, &st, AT_SYMLINK_NOFOLLOW);

	if (rc != -ENOENT)
		return rc;
	rc = ckpt_io_mkdirs(store_fd, CKPT_TRASH_DIR, NULL);
	if (rc == 0)
		ckpt_give_to_owner(store_fd, CKPT_TRASH_DIR);
	return rc;
}

static int set_room(struct ckpt_trash_record *record, const struct ckpt_buf *room)
{
	free(record->room);
	record->room = strdup(room->data);
	return record->room ? 0 : -ENOMEM;
}

/* "ID" or "ID-2" …; behind that the name of one that becomes a bare room. */
static int print_room(const struct move *move, int number, struct ckpt_buf *out)
{
	ckpt_buf_reset(out);
	ckpt_buf_add_str(out, move->record.id);
	if (number > 1)
		ckpt_buf_printf(out, "-%d", number);
	if (move->record.is_bare) {
		ckpt_buf_add_char(out, CKPT_ROOM_BARE);
		ckpt_room_bare_name(out, move->name);
	}
	return ckpt_buf_check(out);
}

/* Call @make with the path of each room that may be free, until one was. */
static int take_room(struct move *move, int (*make)(struct move *move, const char *path))
{
	struct ckpt_buf room;
	struct ckpt_buf path;
	int rc = -EEXIST;

	ckpt_buf_init(&room);
	ckpt_buf_init(&path);
	for (int i = 1; (rc == -EEXIST || rc == -ENOTEMPTY) && i <= ROOMS_OF_ID_MAX; i++) {
		ckpt_buf_reset(&path);
		rc = print_room(move, i, &room);
		ckpt_room_path(&path, room.data);
		if (rc == 0)
			rc = ckpt_buf_check(&path);
		if (rc == 0)
			rc = make(move, path.data);
	}
	if (rc == 0)
		rc = set_room(&move->record, &room);
	ckpt_buf_release(&path);
	ckpt_buf_release(&room);
	return rc;
}

static int make_folder(struct move *move, const char *path)
{
	int rc = ckpt_io_mkdirat(move->store_fd, path, 0777);

	if (rc == 0)
		ckpt_give_to_owner(move->store_fd, path);
	return rc;
}

/* The room as it was: gone. What stays is swept by the next purge. */
static void leave_room(int store_fd, const struct ckpt_trash_record *record)
{
	struct ckpt_buf path;
	size_t len;

	if (record->is_bare || !record->room)
		return;
	ckpt_buf_init(&path);
	ckpt_room_path(&path, record->room);
	len = path.len_bytes;
	ckpt_buf_add_str(&path, "/" CKPT_REMOVED_FILE);
	if (ckpt_buf_check(&path) == 0) {
		ckpt_ignore(ckpt_io_unlinkat(store_fd, path.data, 0));
		path.data[len] = '\0';
		ckpt_ignore(ckpt_io_unlinkat(store_fd, path.data, AT_REMOVEDIR));
	}
	ckpt_buf_release(&path);
}

/* --- into the trash -------------------------------------------------------------------------- */

/*
 * A file system may have done what it says has failed: a server that answered, and was not heard.
 */
static bool has_arrived(const struct move *move)
{
	struct stat here;
	struct stat st;

	return ckpt_io_fstat(move->dirfd, &here) == 0 &&
	       ckpt_io_fstatat(move->store_fd, move->place.data, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_ino == here.st_ino && st.st_dev == here.st_dev;
}

static int rename_in(struct move *move)
{
	const char *base = ckpt_path_basename(move->name);
	int rc = ckpt_io_renameat(move->parent, base, move->store_fd, move->place.data);

	if (has_arrived(move))
		return 0;
	/*
	 * Another one has taken the name between our look and the rename: that goes back. If it
	 * cannot, it lies in the trash, whole, under the name that it had.
	 */
	if (rc == 0 && ckpt_io_renameat(move->store_fd, move->place.data, move->parent, base) == 0)
		rc = -ENOENT;
	return rc;
}

/* A room with its removed.json, durable; then the one rename. -ENOENT: look who was faster. */
static int move_in(struct move *move, struct ckpt_err *err)
{
	int rc = take_room(move, make_folder);

	if (rc == 0)
		rc = ckpt_trash_record_write(move->store_fd, &move->record, err);
	if (rc == 0)
		rc = ckpt_io_sync_dir(move->store_fd, CKPT_TRASH_DIR);
	if (rc == 0) {
		ckpt_buf_reset(&move->place);
		ckpt_room_folder_path(&move->place, move->record.room, move->name);
		rc = ckpt_buf_check(&move->place);
	}
	if (rc == 0)
		rc = rename_in(move);
	if (rc < 0)
		leave_room(move->store_fd, &move->record);
	return rc;
}

static int rename_bare(struct move *move, const char *path)
{
	ckpt_buf_reset(&move->place);
	ckpt_buf_add_str(&move->place, path);
	return ckpt_buf_check(&move->place) < 0 ? -ENOMEM : rename_in(move);
}

static bool is_full(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

/*
 * Removing is what makes room on a full disk, so it must not need any: then the folder becomes its
 * own room. Where even the trash has no place for a name more, the oldest in it goes.
 */
static int move_in_when_full(struct move *move, struct ckpt_err *err)
{
	const struct ckpt_purge_options oldest = { .max_age_secs = UINT64_MAX, .want_bytes = 1 };
	struct ckpt_purge_result purged;
	int rc;

	move->record.is_bare = true;
	rc = take_room(move, rename_bare);
	if (!is_full(rc))
		return rc;
	move->record.is_bare = false;
	/* Whether it helped shows in a moment. */
	ckpt_ignore(ckpt_trash_purge(move->store, &oldest, &purged, NULL));
	return move_in(move, err);
}

/* Back to its name, because it cannot stay. False: it lies in the trash, whole. */
static bool move_back(struct move *move)
{
	if (ckpt_io_renameat(move->store_fd, move->place.data, move->parent,
			     ckpt_path_basename(move->name)) < 0)
		return false;
	leave_room(move->store_fd, &move->record);
	return true;
}

static int cannot_remove(const struct move *move, int rc, struct ckpt_err *err)
{
	if (is_full(rc))
		return ckpt_err_set(
			err, rc,
			"cannot remove '%s': the disk is full and the trash has no room; free some space, or empty the trash with 'ckptfs gc --all %s'",
			move->name, ckpt_store_path(move->store));
	if (rc == -EACCES || rc == -EPERM)
		return ckpt_err_sys(
			err, rc,
			"cannot move '%s' into the trash: its folder, the one it lies in and '%s/" CKPT_TRASH_DIR
			"' must be writable for you",
			move->name, ckpt_store_path(move->store));
	return ckpt_err_sys(err, rc, "cannot move '%s' into the trash", move->name);
}

/* In its room for good: durable, and not pinned meanwhile. */
static int settle(struct move *move, struct ckpt_err *err)
{
	const struct ckpt_trash_record *record = &move->record;
	struct ckpt_buf room;
	int rc = 0;

	/*
	 * Who pins looks behind that whether the checkpoint is still there: one of us sees the
	 * other.
	 */
	if (ckpt_is_pinned(move->store, record->id) && move_back(move))
		return ckpt_err_set(err, -EPERM, "'%s' was pinned this moment", move->name);
	ckpt_buf_init(&room);
	ckpt_room_path(&room, record->room);
	if (!record->is_bare)
		rc = ckpt_io_sync_dir(move->store_fd, room.data);
	if (rc == 0)
		rc = ckpt_io_sync_dir(move->store_fd, CKPT_TRASH_DIR);
	if (rc == 0)
		rc = ckpt_io_sync_dir(move->parent, ".");
	ckpt_buf_release(&room);
	if (rc < 0 && move_back(move))
		return cannot_remove(move, rc, err);
	return rc < 0 ? ckpt_err_sys(err, rc, "'%s' is removed, but may be back after a power cut",
				     move->name)
		      : 0;
}

/* The index finds out at the next look-up; this is that. */
static void tell_index(struct ckpt_store *store, const char *name)
{
	struct ckpt_db_checkpoint row;

	if (ckpt_store_lookup(store, name, &row, NULL) == 0)
		ckpt_db_checkpoint_release(&row);
}

static int move_and_settle(struct move *move, struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = ckpt_trash_prepare(move->store);

	if (rc < 0)
		return cannot_remove(move, rc, err);
	rc = -ENOENT;
	for (int tries = 0; rc == -ENOENT && tries < MOVE_TRIES_MAX; tries++) {
		if (ckpt_open_still_there(move->store, move->name, move->dirfd) < 0)
			return ckpt_err_set(err, -ENOENT, "'%s' was removed this moment",
					    move->name);
		rc = move_in(move, &why);
		if (is_full(rc))
			rc = move_in_when_full(move, &why);
	}
	if (rc < 0)
		return cannot_remove(move, rc, err);
	return settle(move, err);
}

/* --- may it go? ------------------------------------------------------------------------------ */

static int check_state(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	int rc = ckpt_state_of(ckpt_store_fd(store), name, &state, NULL, err);

	if (rc < 0 || state == CKPT_STATE_COMMITTED)
		return rc;
	if (state == CKPT_STATE_NONE)
		return ckpt_err_set(err, -EINVAL, "'%s' is a group; name the checkpoints in it",
				    name);
	return ckpt_err_set(err, -EINVAL,
			    "'%s' is %s, not committed; drop it with 'ckptfs abort %s'", name,
			    ckpt_state_name(state), name);
}

/* Whoever commits it has the lock for a moment longer than there is a manifest. */
static int check_lock(const struct move *move, struct ckpt_err *err)
{
	struct ckpt_buf holder;
	int rc;

	ckpt_buf_init(&holder);
	rc = ckpt_lock_holder(move->dirfd, &holder);
	if (rc == 0)
		rc = ckpt_err_set(
			err, -EBUSY,
			"'%s' is being committed (%s); wait for it, or, if that process is gone, remove '%s/" CKPT_COMMIT_LOCK
			"'",
			move->name, holder.data, move->name);
	else
		rc = 0; /* one that cannot be read keeps nobody from removing what is committed */
	ckpt_buf_release(&holder);
	return rc;
}

static int check_pin(const struct move *move, bool is_damaged, struct ckpt_err *err)
{
	if (!ckpt_is_pinned(move->store, move->record.id) &&
	    !(is_damaged && ckpt_is_pinned_by_name(move->store, move->name)))
		return 0;
	return ckpt_err_set(err, -EPERM, "'%s' is pinned; run 'ckptfs unpin %s' first", move->name,
			    move->name);
}

static int begin(struct move *move, struct ckpt_err *err)
{
	bool is_damaged = false;
	int rc = ckpt_open_folder(move->store, move->name, &move->dirfd, err);

	if (rc == 0)
		rc = check_state(move->store, move->name, err);
	if (rc == 0)
		rc = check_lock(move, err);
	if (rc < 0)
		return rc;
	rc = ckpt_open_parent(move->store, move->name, &move->parent);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot remove '%s'", move->name);
	rc = ckpt_trash_record_of(move->dirfd, move->name, &move->record, &is_damaged, err);
	return rc < 0 ? rc : check_pin(move, is_damaged, err);
}

int ckpt_trash_remove(struct ckpt_store *store, const char *name, struct ckpt_buf *out_room,
		      struct ckpt_err *err)
{
	struct move move = { .store = store,
			     .store_fd = ckpt_store_fd(store),
			     .name = name,
			     .parent = -1,
			     .dirfd = -1 };
	int rc = ckpt_path_check_name(name, err);

	ckpt_buf_init(&move.place);
	if (rc == 0)
		rc = begin(&move, err);
	if (rc == 0)
		rc = move_and_settle(&move, err);
	if (rc == 0) {
		tell_index(store, name);
		if (out_room)
			ckpt_buf_add_str(out_room, move.record.room);
	}
	ckpt_buf_release(&move.place);
	ckpt_trash_record_release(&move.record);
	if (move.parent >= 0)
		close(move.parent);
	if (move.dirfd >= 0)
		close(move.dirfd);
	return rc == 0 && out_room ? ckpt_buf_check(out_room) : rc;
}

/* --- out of the trash ------------------------------------------------------------------------ */

static int read_whole(struct ckpt_store *store, const char *room, struct ckpt_trash_record *out,
		      struct ckpt_err *err)
{
	int rc = ckpt_trash_record_read(ckpt_store_fd(store), room, out, err);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == 0 && out->kind == CKPT_ROOM_WHOLE)
		return 0;
	if (rc == 0)
		ckpt_trash_record_release(out);
	ckpt_err_set(err, -ENOENT,
		     "'%s' is not in the trash (any more); 'ckptfs ls' lists what is removed",
		     room);
	return -ENOENT;
}

int ckpt_trash_folder(struct ckpt_store *store, const char *room, struct ckpt_buf *out,
		      struct ckpt_err *err)
{
	struct ckpt_trash_record record = { .kind = CKPT_ROOM_HALF };
	int rc = read_whole(store, room, &record, err);

	if (rc < 0)
		return rc;
	ckpt_buf_add_str(out, record.folder);
	ckpt_trash_record_release(&record);
	return ckpt_buf_check(out);
}

/* The folders above it, which may have gone with their last checkpoint. */
static int make_above(struct ckpt_store *store, const char *name, int *out_fd, struct ckpt_err *err)
{
	const char *slash = strrchr(name, '/');
	CKPT_FREE char *above = slash ? strndup(name, (size_t)(slash - name)) : NULL;
	int rc = slash && !above ? -ENOMEM : 0;

	if (rc == 0 && above)
		rc = ckpt_io_mkdirs(ckpt_store_fd(store), above, NULL);
	if (rc == 0)
		rc = ckpt_open_parent(store, name, out_fd);
	if (rc == -ENOTDIR || rc == -ELOOP)
		return ckpt_err_set(
			err, -EEXIST,
			"cannot bring '%s' back: something on the way to it is no folder now; move that away",
			name);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot bring '%s' back", name) : 0;
}

static int cannot_rename(const struct ckpt_trash_record *record, int rc, struct ckpt_err *err)
{
	if (rc == -ENOTEMPTY || rc == -EEXIST || rc == -ENOTDIR)
		return ckpt_err_set(
			err, -EEXIST,
			"cannot bring '%s' back: that name is taken; move what has it away, then 'ckptfs undelete %s'",
			record->name, record->room);
	if (rc == -ENOENT)
		return ckpt_err_set(err, rc, "cannot bring '%s' back: it was purged this moment",
				    record->name);
	return ckpt_err_sys(err, rc, "cannot bring '%s' back", record->name);
}

static int move_out(struct ckpt_store *store, const struct ckpt_trash_record *record,
		    struct ckpt_err *err)
{
	const char *base = ckpt_path_basename(record->name);
	int store_fd = ckpt_store_fd(store);
	CKPT_CLOSE int parent = -1;
	int rc = make_above(store, record->name, &parent, err);

	if (rc < 0)
		return rc;
	rc = ckpt_io_renameat(store_fd, record->folder, parent, base);
	if (rc < 0)
		return cannot_rename(record, rc, err);
	rc = ckpt_io_sync_dir(parent, ".");
	/* Not durable is not back; where it cannot return to the trash either, it has its name. */
	if (rc < 0 && ckpt_io_renameat(parent, base, store_fd, record->folder) == 0)
		return cannot_rename(record, rc, err);
	return 0;
}

int ckpt_trash_restore(struct ckpt_store *store, const char *room, struct ckpt_buf *out_name,
		       struct ckpt_err *err)
{
	struct ckpt_trash_record record = { .kind = CKPT_ROOM_HALF };
	int rc = read_whole(store, room, &record, err);

	if (rc < 0)
		return rc;
	/* One that had to be put together from what was found may be none. */
	rc = ckpt_path_check_name(record.name, err);
	if (rc == 0)
		rc = ckpt_open_check_place(store, record.name, err);
	if (rc == 0)
		rc = move_out(store, &record, err);
	if (rc == 0) {
		leave_room(ckpt_store_fd(store), &record);
		/* If this fails, a power cut may leave a room without a checkpoint. */
		ckpt_ignore(ckpt_io_sync_dir(ckpt_store_fd(store), CKPT_TRASH_DIR));
		tell_index(store, record.name);
		ckpt_buf_add_str(out_name, record.name);
		rc = ckpt_buf_check(out_name);
	}
	ckpt_trash_record_release(&record);
	return rc;
}
