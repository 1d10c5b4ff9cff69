/*
 * trash_purge.c - removing for good what lies in the trash. A room is renamed first, durably:
 * nothing that is half gone can be brought back. What was left there by the dead is swept on the
 * way. Source: ckptfs-format(5) "The trash".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/store_internal.h"
#include "store/trash_internal.h"

/* Between making a room and the rename into it, a removal or an abort needs a moment. */
#define FRESH_SECS 60

struct purge {
	struct ckpt_store *store;
	int store_fd;
	const struct ckpt_purge_options *options;
	struct ckpt_group_memo memo;
	struct ckpt_purge_result result;
	int rc; /* of the first that could not be purged */
	struct ckpt_err *err;
};

static void note_failure(struct purge *purge, int rc, const struct ckpt_err *why)
{
	if (purge->rc == 0)
		purge->rc = ckpt_err_set(purge->err, rc, "%s", why->msg);
}

/* --- rooms ----------------------------------------------------------------------------------- */

/* "PREFIXROOM" in place of "ROOM". */
static int rename_room(const struct purge *purge, const char *room, const char *prefix,
		       struct ckpt_buf *out)
{
	struct ckpt_buf from;
	int rc;

	ckpt_buf_init(&from);
	ckpt_room_path(&from, room);
	ckpt_room_path(out, prefix);
	ckpt_buf_add_str(out, room);
	rc = ckpt_buf_check(&from);
	if (rc == 0)
		rc = ckpt_buf_check(out);
	if (rc == 0)
		rc = ckpt_io_renameat(purge->store_fd, from.data, purge->store_fd, out->data);
	ckpt_buf_release(&from);
	return rc;
}

static void remove_tree(struct purge *purge, const char *path)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = ckpt_io_remove_tree(purge->store_fd, path, &why);

	if (rc < 0)
		note_failure(purge, rc, &why);
}

/*
 * A purge takes as long as its disk: what was brought back since we looked, and removed again, lies
 * in a room of the same name and is not due.
 */
static bool is_still(const struct purge *purge, const struct ckpt_trash_record *record)
{
	struct ckpt_trash_record now;
	bool same;

	if (ckpt_trash_record_read(purge->store_fd, record->room, &now, NULL) < 0)
		return false;
	same = now.kind == CKPT_ROOM_WHOLE && strcmp(now.removed, record->removed) == 0;
	ckpt_trash_record_release(&now);
	return same;
}

/* False: it could not be, or was brought back meanwhile. */
static bool purge_room(struct purge *purge, const struct ckpt_trash_record *record)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_buf path;
	int rc;

	if (!is_still(purge, record))
		return false;
	ckpt_buf_init(&path);
	rc = rename_room(purge, record->room, CKPT_ROOM_PURGING, &path);
	if (rc == 0)
		rc = ckpt_io_sync_dir(purge->store_fd, CKPT_TRASH_DIR);
	if (rc == 0) {
		remove_tree(purge, path.data);
		ckpt_catalog_drop(purge->store_fd, record->id);
	} else if (rc != -ENOENT) {
		ckpt_err_sys(&why, rc, "cannot purge '%s'", record->name);
		note_failure(purge, rc, &why);
	}
	ckpt_buf_release(&path);
	return rc == 0;
}

/* Has a checkpoint come into the room after all? By its path nobody can reach it any more. */
static bool is_whole(const struct purge *purge, const char *room)
{
	struct ckpt_trash_record record;
	bool whole;

	if (ckpt_trash_record_read(purge->store_fd, room, &record, NULL) < 0)
		return true; /* what cannot be looked at stays */
	whole = record.kind == CKPT_ROOM_WHOLE;
	ckpt_trash_record_release(&record);
	return whole;
}

/* A room in which nothing lies that could be brought back. */
static void sweep_room(struct purge *purge, const struct ckpt_trash_record *record)
{
	bool is_last_name = record->kind == CKPT_ROOM_DEAD ||
			    ckpt_has_prefix(record->room, CKPT_ROOM_SWEPT);
	struct ckpt_buf path;
	int rc = 0;

	if (record->kind != CKPT_ROOM_DEAD && record->age_secs < FRESH_SECS)
		return;
	purge->result.swept_count++;
	if (purge->options->dry_run)
		return;
	ckpt_buf_init(&path);
	if (is_last_name)
		ckpt_room_path(&path, record->room);
	else
		rc = rename_room(purge, record->room, CKPT_ROOM_SWEPT, &path);
	if (rc == 0 &&
	    (record->kind == CKPT_ROOM_DEAD || !is_whole(purge, ckpt_path_basename(path.data))))
		remove_tree(purge, path.data);
	ckpt_buf_release(&path);
}

/* --- which ----------------------------------------------------------------------------------- */

static bool is_due(const struct purge *purge, const struct ckpt_trash_record *record)
{
	const struct ckpt_purge_options *options = purge->options;

	if (options->below && !ckpt_path_is_below(record->name, options->below))
		return false;
	return (options->max_age_secs != UINT64_MAX && record->age_secs >= options->max_age_secs) ||
	       purge->result.freed_bytes < options->want_bytes;
}

static void purge_if_due(struct purge *purge, const struct ckpt_trash_record *record)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	bool is_kept = false;
	int rc;

	if (!is_due(purge, record))
		return;
	rc = ckpt_trash_record_is_kept(&purge->memo, record, &is_kept, &why);
	if (rc < 0) {
		note_failure(purge, rc, &why);
		return;
	}
	if (is_kept && !purge->options->last_too) {
		purge->result.kept_count++;
		return;
	}
	if (!purge->options->dry_run && !purge_room(purge, record))
		return;
	purge->result.checkpoint_count++;
	purge->result.freed_bytes += record->disk_bytes;
	if (purge->options->purged) {
		struct ckpt_removed removed = ckpt_trash_record_tell(record, is_kept);

		purge->options->purged(purge->options->ctx, &removed);
	}
}

static int purge_all(struct purge *purge)
{
	struct ckpt_trash_record_list list;
	int rc = ckpt_trash_record_list_read(purge->store, &list, purge->err);

	/* The dead first: what they take up counts for nobody. */
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		if (list.items[i].kind != CKPT_ROOM_WHOLE)
			sweep_room(purge, &list.items[i]);
	}
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		if (list.items[i].kind == CKPT_ROOM_WHOLE)
			purge_if_due(purge, &list.items[i]);
	}
	ckpt_removed_list_release(&list);
	return rc < 0 ? rc : purge->rc;
}

/* Held with the descriptor. Where a file system has no such locks, two purges share the work. */
static int lock_trash(int fd, struct ckpt_err *err)
{
	if (flock(fd, LOCK_EX) == 0 || errno != EINTR)
		return 0;
	return ckpt_err_set(err, -EINTR, "interrupted while another purge was at work");
}

int ckpt_trash_purge(struct ckpt_store *store, const struct ckpt_purge_options *options,
		     struct ckpt_purge_result *out, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(ckpt_store_fd(store), CKPT_TRASH_DIR,
						 O_RDONLY | O_DIRECTORY, 0);
	struct purge purge = { .store = store,
			       .store_fd = ckpt_store_fd(store),
			       .options = options,
			       .memo = { .store = store },
			       .err = err };
	int rc = 0;

	*out = purge.result;
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s/" CKPT_TRASH_DIR "'",
				    ckpt_store_path(store));
	if (!options->dry_run)
		rc = lock_trash(fd, err);
	if (rc == 0)
		rc = purge_all(&purge);
	ckpt_group_memo_release(&purge.memo);
	*out = purge.result;
	return rc;
}
