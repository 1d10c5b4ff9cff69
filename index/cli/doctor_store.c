/* doctor_store.c - what can be wrong in a store: its index, its checkpoints, its trash. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/doctor.h"
#include "cli/found.h"
#include "cli/tree.h"

#define SIZE_TEXT 32
/* Less than one part in so many free is little: the next checkpoint may not fit. */
#define FREE_PART 20
/* As index/db calls the files it has set aside, and their -wal and -shm. */
#define BROKEN_MAX 100

struct look {
	struct doctor *doctor;
	struct ckpt_store *store;
	const struct ckpt_place *place;
};

/* --- the folder itself --------------------------------------------------------------------- */

static void look_at_folder(const struct look *look)
{
	const char *path = ckpt_store_path(look->store);
	struct statvfs fs;
	struct ckpt_buf fstype;
	char size[SIZE_TEXT];

	ckpt_buf_init(&fstype);
	doctor_fstype(path, &fstype);
	if (ckpt_store_read_only(look->store))
		doctor_tell(look->doctor, DOCTOR_NOTE, "store",
			    "to write in it, be its owner and mount its file system rw",
			    "'%s' on %s cannot be written by this user", path, fstype.data);
	else
		doctor_tell(look->doctor, DOCTOR_OK, "store", "", "'%s' on %s can be written", path,
			    fstype.data);
	ckpt_buf_release(&fstype);
	if (fstatvfs(ckpt_store_fd(look->store), &fs) < 0 || fs.f_blocks == 0)
		return;
	num_format_size((uint64_t)fs.f_bavail * fs.f_frsize, size, sizeof(size));
	if (fs.f_bavail < fs.f_blocks / FREE_PART)
		doctor_tell(look->doctor, DOCTOR_FOUND, "space",
			    "'ckptfs gc --all' empties the trash, 'ckptfs rm PATH' removes more",
			    "only %s are free", size);
	else
		doctor_tell(look->doctor, DOCTOR_OK, "space", "", "%s are free", size);
}

/* --- the index -------------------------------------------------------------------------------- */

struct stale {
	int store_fd;
	uint64_t stale_count;
};

static int compare_row(void *ctx, const struct ckpt_db_checkpoint *row)
{
	struct stale *stale = ctx;
	struct ckpt_buf path;
	struct stat st;
	int rc;

	ckpt_buf_init(&path);
	ckpt_path_join(&path, row->name, CKPT_MANIFEST_FILE);
	rc = ckpt_io_fstatat(stale->store_fd, path.data, &st, AT_SYMLINK_NOFOLLOW);
	ckpt_buf_release(&path);
	if (rc < 0 || (uint64_t)st.st_ino != row->manifest_ino ||
	    (uint64_t)st.st_size != row->manifest_size_bytes ||
	    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec != row->manifest_mtime_ns)
		stale->stale_count++;
	return 0;
}

static int check_index(const struct look *look, struct stale *out, struct ckpt_err *err)
{
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(look->store, &db, err);

	if (rc < 0)
		return rc;
	rc = ckpt_db_check(db, err);
	if (rc == 0)
		rc = ckpt_db_checkpoints(db, "", compare_row, out, err);
	ckpt_store_db_put(look->store, db);
	return rc;
}

static void ignore_problem(void *ctx, const struct ckpt_err *err)
{
	(void)ctx;
	(void)err; /* told where the checkpoints are looked at */
}

static void mend_index(const struct look *look, const struct ckpt_err *why)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t count = 0;

	if (!look->doctor->fix)
		doctor_tell(look->doctor, DOCTOR_FOUND, "index", "'ckptfs reindex' builds it anew",
			    "%s", why->msg);
	else if (ckpt_store_reindex(look->store, "", ignore_problem, NULL, &count, &err) < 0)
		doctor_tell(look->doctor, DOCTOR_FOUND, "index", err.msg, "%s", why->msg);
	else
		doctor_tell(look->doctor, DOCTOR_FIXED, "index", "",
			    "%s; built anew, %" PRIu64 " committed checkpoints", why->msg, count);
}

static void tell_place(const struct look *look)
{
	const char *reason = "";
	const char *place = ckpt_store_index_place(look->store, &reason);
	struct ckpt_buf fstype;

	if (place[0] != '/') {
		doctor_tell(look->doctor, DOCTOR_NOTE, "index",
			    "a home or XDG_CACHE_HOME that can be written keeps one",
			    "each command makes its own in memory, because %s", reason);
		return;
	}
	ckpt_buf_init(&fstype);
	doctor_fstype(place, &fstype);
	doctor_tell(look->doctor, reason[0] ? DOCTOR_NOTE : DOCTOR_OK, "index", "",
		    "'%s' on %s%s%s", place, fstype.data, reason[0] ? "; it is there because " : "",
		    reason);
	ckpt_buf_release(&fstype);
}

static void look_at_index(const struct look *look)
{
	struct stale stale = { .store_fd = ckpt_store_fd(look->store) };
	struct ckpt_err err = CKPT_ERR_INIT;

	if (check_index(look, &stale, &err) < 0) {
		mend_index(look, &err);
		return;
	}
	tell_place(look);
	if (stale.stale_count > 0)
		doctor_tell(look->doctor, DOCTOR_FIXED, "index", "",
			    "%" PRIu64
			    " of its rows did not fit what is on disk; looking at them mends them",
			    stale.stale_count);
}

/* index.db.broken-1, and what belongs to it. */
static void look_at_broken(const struct look *look)
{
	static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
	uint64_t count = 0;
	uint64_t bytes = 0;
	char name[64];
	char size[SIZE_TEXT];
	struct stat st;

	for (unsigned int i = 0; i < BROKEN_MAX * 4; i++) {
		(void)snprintf(name, sizeof(name), CKPT_CONTROL_DIR "/index.db.broken-%u%s",
			       i / 4 + 1, suffixes[i % 4]);
		if (ckpt_io_fstatat(ckpt_store_fd(look->store), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (look->doctor->fix)
			ckpt_ignore(ckpt_io_unlinkat(ckpt_store_fd(look->store), name, 0));
		count++;
		bytes += (uint64_t)st.st_size;
	}
	if (count == 0)
		return;
	num_format_size(bytes, size, sizeof(size));
	doctor_tell(
		look->doctor, look->doctor->fix ? DOCTOR_FIXED : DOCTOR_FOUND, "index",
		look->doctor->fix
			? ""
			: "keep them if you look for the cause; 'ckptfs doctor --fix' removes them",
		"an index was damaged once: %" PRIu64 " files '.ckptfs/index.db.broken-*' (%s)%s",
		count, size, look->doctor->fix ? ", removed" : "");
}

/* --- checkpoints --------------------------------------------------------------------------------- */

/* Seconds since anything in the open checkpoint changed. */
static uint64_t quiet_secs(const struct look *look, const char *name)
{
	struct tree tree = { .committed = false };
	CKPT_CLOSE int fd = -1;
	int64_t newest_ns = 0;
	int64_t secs;
	struct stat st;

	if (ckpt_store_open_checkpoint(look->store, name, &fd, NULL) < 0)
		return 0;
	if (fstat(fd, &st) == 0)
		newest_ns = (int64_t)st.st_mtim.tv_sec * 1000000000;
	if (tree_load_dir(fd, name, &tree, NULL) == 0) {
		for (size_t i = 0; i < tree.count; i++) {
			if (tree.entries[i].mtime_ns > newest_ns)
				newest_ns = tree.entries[i].mtime_ns;
		}
	}
	tree_release(&tree);
	secs = (int64_t)time(NULL) - newest_ns / 1000000000;
	return secs > 0 ? (uint64_t)secs : 0;
}

static void age_text(uint64_t secs, char out[SIZE_TEXT])
{
	if (secs >= UINT64_C(2) * 86400)
		(void)snprintf(out, SIZE_TEXT, "%" PRIu64 " days", secs / 86400);
	else if (secs >= UINT64_C(2) * 3600)
		(void)snprintf(out, SIZE_TEXT, "%" PRIu64 " hours", secs / 3600);
	else
		(void)snprintf(out, SIZE_TEXT, "%" PRIu64 " minutes", secs / 60);
}

/* One that nobody writes any more; returns whether it is one. */
static bool look_at_open(const struct look *look, const struct found *found)
{
	struct ckpt_buf remedy;
	char age[SIZE_TEXT];
	uint64_t secs;

	/* ckpt_state_of() names the writer while one lives. */
	if (strncmp(found->waits_for, "writer on ", 10) == 0)
		return false;
	secs = quiet_secs(look, found->name);
	if (found->state == CKPT_STATE_OPEN && secs < look->doctor->max_age_secs)
		return false;
	age_text(secs, age);
	ckpt_buf_init(&remedy);
	if (found->state == CKPT_STATE_ABORTED)
		ckpt_buf_printf(&remedy,
				"'ckptfs show %s/%s' tells why; 'ckptfs abort %s/%s' drops it",
				look->place->store_path, found->name, look->place->store_path,
				found->name);
	else
		ckpt_buf_printf(&remedy,
				"'ckptfs commit %s/%s' if it is whole, else 'ckptfs abort %s/%s'",
				look->place->store_path, found->name, look->place->store_path,
				found->name);
	doctor_tell(look->doctor, DOCTOR_FOUND,
		    found->state == CKPT_STATE_OPEN ? "open" : "aborted", remedy.data,
		    "'%s': nobody writes it, and nothing in it changed for %s", found->name, age);
	ckpt_buf_release(&remedy);
	return true;
}

static int look_at_checkpoints(const struct look *look, struct ckpt_err *err)
{
	struct found_list list;
	size_t open_count = 0;
	size_t abandoned = 0;
	int rc = found_load(look->place, FOUND_UNREAD | FOUND_WAITS, &list, err);

	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		const struct found *item = &list.items[i];

		if (item->problem && item->state == CKPT_STATE_NONE)
			doctor_tell(look->doctor, DOCTOR_FOUND, "permissions",
				    "look again as its owner", "%s", item->problem);
		else if (item->problem)
			doctor_tell(look->doctor, DOCTOR_FOUND, "checkpoint",
				    "copy it from elsewhere, or remove its folder", "%s",
				    item->problem);
		else if (item->state == CKPT_STATE_OPEN || item->state == CKPT_STATE_ABORTED)
			abandoned += look_at_open(look, item);
		open_count += item->state == CKPT_STATE_OPEN;
	}
	if (rc == 0 && abandoned == 0)
		doctor_tell(look->doctor, DOCTOR_OK, "open", "",
			    "%zu committed checkpoints, %zu open, none abandoned",
			    found_count_state(&list, CKPT_STATE_COMMITTED), open_count);
	found_release(&list);
	return rc;
}

/* --- trash, and what the dead have left ------------------------------------------------------------- */

struct trash {
	uint64_t count;
	uint64_t bytes;
	uint64_t oldest_secs;
	bool overdue; /* some would go, if anybody emptied it */
};

static int count_removed(void *ctx, const struct ckpt_removed *removed)
{
	struct trash *trash = ctx;

	trash->count++;
	trash->bytes += removed->disk_bytes;
	trash->oldest_secs = num_max(trash->oldest_secs, removed->age_secs);
	trash->overdue = trash->overdue ||
			 (!removed->is_kept && removed->age_secs >= CKPT_TRASH_MAX_AGE_SECS);
	return 0;
}

static int look_at_trash(const struct look *look, struct ckpt_err *err)
{
	struct trash trash = { .count = 0 };
	char size[SIZE_TEXT];
	char age[SIZE_TEXT];
	int rc = ckpt_trash_walk(look->store, count_removed, &trash, err);

	if (rc < 0)
		return rc;
	if (trash.count == 0) {
		doctor_tell(look->doctor, DOCTOR_OK, "trash", "", "it is empty");
		return 0;
	}
	age_text(trash.oldest_secs, age);
	doctor_tell(look->doctor, trash.overdue ? DOCTOR_FOUND : DOCTOR_NOTE, "trash",
		    trash.overdue ? "'ckptfs gc' purges what is older than a day" : "",
		    "%" PRIu64 " removed checkpoint%s, %s, the oldest since %s", trash.count,
		    trash.count == 1 ? "" : "s", num_format_size(trash.bytes, size, sizeof(size)),
		    age);
	return 0;
}

static int look_at_leftovers(const struct look *look, struct ckpt_err *err)
{
	const struct ckpt_leftovers_options options = {
		.below = look->place->name,
		.max_age_secs = CKPT_TRASH_MAX_AGE_SECS,
		.dry_run = !look->doctor->fix,
	};
	uint64_t count = 0;
	int rc = ckpt_leftovers_sweep(look->store, &options, &count, err);

	if (rc < 0)
		return rc;
	if (count == 0)
		doctor_tell(look->doctor, DOCTOR_OK, "leftovers", "",
			    "dead processes left nothing");
	else
		doctor_tell(look->doctor, look->doctor->fix ? DOCTOR_FIXED : DOCTOR_FOUND,
			    "leftovers",
			    look->doctor->fix ? ""
					      : "'ckptfs doctor --fix' or 'ckptfs gc' removes them",
			    "%" PRIu64 " locks and sessions of dead processes%s", count,
			    look->doctor->fix ? ", removed" : "");
	return 0;
}

int doctor_store(struct doctor *doctor, const struct ckpt_place *place, struct ckpt_err *err)
{
	struct look look = { .doctor = doctor, .place = place };
	int rc = ckpt_store_open(place->store_path, 0, NULL, &look.store, err);

	if (rc < 0)
		return rc;
	look_at_folder(&look);
	if (cli_place_covered(place)) {
		/* The daemon keeps the control folder to itself. */
		doctor_tell(doctor, DOCTOR_NOTE, "index",
			    "'ckptfs umount' it, then look again, to see these, too",
			    "a mount covers the store: its index and leftovers cannot be seen");
	} else {
		look_at_index(&look);
		/* Behind it: opening a damaged one sets it aside. */
		look_at_broken(&look);
		rc = look_at_leftovers(&look, err);
	}
	if (rc == 0)
		rc = look_at_checkpoints(&look, err);
	if (rc == 0)
		rc = look_at_trash(&look, err);
	ckpt_store_free(look.store);
	return rc;
}
