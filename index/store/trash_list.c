/*
 * trash_list.c - all that lies in the trash, and which of it is never purged unasked: those whose
 * group has no committed checkpoint left, for one of them may be all that is left of a run.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_internal.h"
#include "store/trash_internal.h"

/* --- rooms ----------------------------------------------------------------------------------- */

void ckpt_removed_list_release(struct ckpt_trash_record_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		ckpt_trash_record_release(&list->items[i]);
	free(list->items);
	*list = (struct ckpt_trash_record_list){ .items = NULL };
}

/* What cannot be a room, or is gone by now, is passed over. */
static int add_room(struct ckpt_store *store, struct ckpt_trash_record_list *list, const char *room,
		    struct ckpt_err *err)
{
	int rc = array_grow(&list->items, &list->cap, list->count, sizeof(*list->items));

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look into the trash");
	rc = ckpt_trash_record_read(ckpt_store_fd(store), room, &list->items[list->count], err);
	if (rc == 0)
		list->count++;
	return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -EACCES ? 0 : rc;
}

static int by_removal(const void *a, const void *b)
{
	const struct ckpt_trash_record *left = a;
	const struct ckpt_trash_record *right = b;
	int order = strcmp(left->removed, right->removed);

	return order != 0 ? order : strcmp(left->room, right->room);
}

int ckpt_trash_record_list_read(struct ckpt_store *store, struct ckpt_trash_record_list *out,
				struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	const char *name;
	DIR *dir;
	int rc;

	*out = (struct ckpt_trash_record_list){ .items = NULL };
	rc = ckpt_dir_open(ckpt_store_fd(store), CKPT_TRASH_DIR, &dir);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look into '%s/" CKPT_TRASH_DIR "'",
				    ckpt_store_path(store));
	while ((rc = ckpt_io_readdir(dir, &name)) > 0) {
		rc = add_room(store, out, name, &why);
		if (rc < 0)
			break;
	}
	closedir(dir);
	if (rc < 0)
		return ckpt_err_set(err, rc, "%s",
				    why.msg[0] != '\0' ? why.msg : "cannot read the trash");
	if (out->count > 0)
		qsort(out->items, out->count, sizeof(*out->items), by_removal);
	return 0;
}

/* --- groups ---------------------------------------------------------------------------------- */

/* One whose manifest cannot be used is none that is left. */
static int note_committed(void *ctx, const struct ckpt_found *found)
{
	bool *has_committed = ctx;

	*has_committed = *has_committed || found->row != NULL;
	return *has_committed ? 1 : 0;
}

static int look_at_group(struct ckpt_store *store, const char *group, bool *out,
			 struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	*out = false;
	rc = ckpt_store_walk(store, group, note_committed, out, &why);
	/* A group that is gone has nothing left. */
	if (rc == 1 || rc == -ENOENT || rc == -ENOTDIR)
		return 0;
	return rc < 0 ? ckpt_err_set(err, rc, "%s", why.msg) : 0;
}

int ckpt_trash_record_is_kept(struct ckpt_group_memo *memo, const struct ckpt_trash_record *record,
			      bool *out, struct ckpt_err *err)
{
	const char *base = ckpt_path_basename(record->name);
	size_t len = base == record->name ? 0 : (size_t)(base - record->name) - 1;
	struct ckpt_group_look look = { .has_committed = false };
	int rc;

	for (size_t i = 0; i < memo->count; i++) {
		if (strlen(memo->groups[i].name) == len &&
		    memcmp(memo->groups[i].name, record->name, len) == 0) {
			*out = !memo->groups[i].has_committed;
			return 0;
		}
	}
	look.name = strndup(record->name, len);
	rc = look.name ? array_grow(&memo->groups, &memo->cap, memo->count, sizeof(look)) : -ENOMEM;
	if (rc < 0)
		ckpt_err_sys(err, rc, "cannot look into the trash");
	else
		rc = look_at_group(memo->store, look.name, &look.has_committed, err);
	if (rc < 0) {
		free(look.name);
		return rc;
	}
	memo->groups[memo->count++] = look;
	*out = !look.has_committed;
	return 0;
}

void ckpt_group_memo_release(struct ckpt_group_memo *memo)
{
	for (size_t i = 0; i < memo->count; i++)
		free(memo->groups[i].name);
	free(memo->groups);
	*memo = (struct ckpt_group_memo){ .store = memo->store };
}

/* --- telling --------------------------------------------------------------------------------- */

struct ckpt_removed ckpt_trash_record_tell(const struct ckpt_trash_record *record, bool is_kept)
{
	assert(record->kind == CKPT_ROOM_WHOLE);
	return (struct ckpt_removed){
		.room = record->room,
		.name = record->name,
		.id = record->id,
		.seq = record->seq,
		.has_step = record->has_step,
		.step = record->step,
		.shard_count = record->shard_count,
		.size_bytes = record->size_bytes,
		.disk_bytes = record->disk_bytes,
		.removed = record->removed,
		.age_secs = record->age_secs,
		.is_kept = is_kept,
	};
}

int ckpt_trash_walk(struct ckpt_store *store,
		    int (*fn)(void *ctx, const struct ckpt_removed *removed), void *ctx,
		    struct ckpt_err *err)
{
	struct ckpt_group_memo memo = { .store = store };
	struct ckpt_trash_record_list list;
	int rc = ckpt_trash_record_list_read(store, &list, err);

	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		struct ckpt_removed removed;
		bool is_kept = false;

		if (list.items[i].kind != CKPT_ROOM_WHOLE)
			continue;
		rc = ckpt_trash_record_is_kept(&memo, &list.items[i], &is_kept, err);
		if (rc < 0)
			break;
		removed = ckpt_trash_record_tell(&list.items[i], is_kept);
		rc = fn(ctx, &removed);
	}
	ckpt_group_memo_release(&memo);
	ckpt_removed_list_release(&list);
	return rc;
}

int ckpt_trash_bytes(struct ckpt_store *store, uint64_t *out, struct ckpt_err *err)
{
	struct ckpt_group_memo memo = { .store = store };
	struct ckpt_trash_record_list list;
	uint64_t total = 0;
	int rc = ckpt_trash_record_list_read(store, &list, err);

	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		bool is_kept = false;

		if (list.items[i].kind != CKPT_ROOM_WHOLE)
			continue;
		rc = ckpt_trash_record_is_kept(&memo, &list.items[i], &is_kept, err);
		total += is_kept ? 0 : list.items[i].disk_bytes;
	}
	ckpt_group_memo_release(&memo);
	ckpt_removed_list_release(&list);
	if (rc == 0)
		*out = total;
	return rc;
}

/* --- by what people call it ------------------------------------------------------------------ */

/* Exactly the id, or the room, whatever is behind a '~' in it. */
static bool has_id(const struct ckpt_trash_record *record, const char *text)
{
	return strcmp(record->id, text) == 0 || strcmp(record->room, text) == 0;
}

int ckpt_trash_find(struct ckpt_store *store, const char *text, struct ckpt_buf *out_room,
		    struct ckpt_err *err)
{
	const struct ckpt_trash_record *found = NULL;
	struct ckpt_trash_record_list list;
	int rc = ckpt_trash_record_list_read(store, &list, err);

	/* The last in the list was removed last; a name goes before an id. */
	for (size_t i = list.count; rc == 0 && !found && i > 0; i--) {
		const struct ckpt_trash_record *record = &list.items[i - 1];

		if (record->kind == CKPT_ROOM_WHOLE && strcmp(record->name, text) == 0)
			found = record;
	}
	for (size_t i = list.count; rc == 0 && !found && i > 0; i--) {
		const struct ckpt_trash_record *record = &list.items[i - 1];

		if (record->kind == CKPT_ROOM_WHOLE && has_id(record, text))
			found = record;
	}
	if (rc == 0 && !found)
		rc = ckpt_err_set(
			err, -ENOENT,
			"no removed checkpoint is called '%s', nor has that id; 'ckptfs ls %s' lists what is in the trash",
			text, ckpt_store_path(store));
	if (found) {
		ckpt_buf_add_str(out_room, found->room);
		rc = ckpt_buf_check(out_room);
	}
	ckpt_removed_list_release(&list);
	return rc;
}
