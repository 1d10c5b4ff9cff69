/* found.c - see found.h. */
#include "cli/found.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/tree.h"

struct collect {
	unsigned int flags;
	struct found_list *list;
	struct ckpt_err *err;
};

/*
 * Rows are taken in the second pass: the walk's are borrowed, and must not be written to
 * meanwhile.
 */
static int collect_one(void *ctx, const struct ckpt_found *found)
{
	struct collect *collect = ctx;
	struct found_list *list = collect->list;
	struct found item = { .state = found->state, .has_row = found->row != NULL };

	if (found->state == CKPT_STATE_NONE && !(collect->flags & FOUND_UNREAD))
		return 0;
	if (array_grow(&list->items, &list->cap, list->count, sizeof(item)) < 0)
		return ckpt_err_set(collect->err, -ENOMEM,
				    "out of memory while listing checkpoints");
	item.name = strdup(found->name);
	item.waits_for = strdup("");
	item.problem = found->problem && !found->row ? strdup(found->problem->msg) : NULL;
	list->items[list->count++] = item;
	if (!item.name || !item.waits_for)
		return ckpt_err_set(collect->err, -ENOMEM,
				    "out of memory while listing checkpoints");
	return 0;
}

/* Cut where it is too long, which only a damaged trash can make it. */
static void copy_text(char *to, size_t room, const char *from)
{
	size_t len = strnlen(from, room - 1);

	memcpy(to, from, len);
	to[len] = '\0';
}

static void set_problem(struct found *item, const struct ckpt_err *err)
{
	free(item->problem);
	item->problem = strdup(err->msg);
}

static void load_row(struct ckpt_store *store, struct found *item, unsigned int flags)
{
	struct ckpt_err err = CKPT_ERR_INIT;

	item->has_row = false;
	if (ckpt_store_lookup(store, item->name, &item->row, &err) < 0) {
		set_problem(item, &err);
		return;
	}
	item->has_row = true;
	item->pinned = ckpt_is_pinned(store, item->row.id);
	if ((flags & FOUND_COUNT) && ckpt_store_load_entries(store, &item->row, &err) < 0)
		set_problem(item, &err);
}

/* What lies in an open one at this moment. */
static void count_files(const struct ckpt_store *store, struct found *item)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct tree tree = { .committed = false };
	CKPT_CLOSE int fd = -1;
	int rc = ckpt_store_open_checkpoint(store, item->name, &fd, &err);

	if (rc == 0)
		rc = tree_load_dir(fd, item->name, &tree, &err);
	if (rc == 0) {
		tree_sum(&tree, "", &item->file_count, &item->file_bytes);
		item->counted = true;
	}
	tree_release(&tree);
}

static void ask_waits(const struct ckpt_store *store, struct found *item)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	struct ckpt_buf waits_for;
	char *text = NULL;

	ckpt_buf_init(&waits_for);
	if (ckpt_state_of(ckpt_store_fd(store), item->name, &state, &waits_for, NULL) == 0 &&
	    state == item->state)
		text = ckpt_buf_steal(&waits_for);
	if (text) {
		free(item->waits_for);
		item->waits_for = text;
	}
	ckpt_buf_release(&waits_for);
}

static void look_at_open(const struct ckpt_store *store, struct found *item, unsigned int flags)
{
	if (flags & FOUND_COUNT)
		count_files(store, item);
	if (flags & FOUND_WAITS)
		ask_waits(store, item);
}

/* --- removed ones --------------------------------------------------------------------- */

struct collect_removed {
	const char *below;
	struct collect *collect;
};

static int collect_one_removed(void *ctx, const struct ckpt_removed *removed)
{
	const struct collect_removed *wanted = ctx;
	struct found_list *list = wanted->collect->list;
	struct found item = { .state = CKPT_STATE_NONE, .removed = true, .counted = true };

	if (!ckpt_path_is_below(removed->name, wanted->below))
		return 0;
	item.row = (struct ckpt_db_checkpoint){
		.seq = removed->seq,
		.has_step = removed->has_step,
		.step = removed->step,
		.shard_count = removed->shard_count,
		.size_bytes = removed->size_bytes,
		.entries_indexed = true,
	};
	copy_text(item.row.id, sizeof(item.row.id), removed->id);
	copy_text(item.removed_at, sizeof(item.removed_at), removed->removed);
	if (array_grow(&list->items, &list->cap, list->count, sizeof(item)) < 0)
		return -ENOMEM;
	item.name = strdup(removed->name);
	item.waits_for = strdup("");
	list->items[list->count++] = item;
	return item.name && item.waits_for ? 0 : -ENOMEM;
}

/* By name; where one lies at the name again, the removed ones come behind, as they were removed. */
static int by_name(const void *a, const void *b)
{
	const struct found *left = a;
	const struct found *right = b;
	int order = strcmp(left->name, right->name);

	if (order == 0 && left->removed != right->removed)
		order = left->removed ? 1 : -1;
	return order ? order : strcmp(left->removed_at, right->removed_at);
}

static int load_removed(struct ckpt_store *store, const char *below, struct collect *collect)
{
	struct collect_removed wanted = { .below = below, .collect = collect };
	struct found_list *list = collect->list;
	int rc = ckpt_trash_walk(store, collect_one_removed, &wanted, collect->err);

	if (rc == -ENOMEM)
		ckpt_err_set(collect->err, rc, "out of memory while listing checkpoints");
	if (list->count > 0)
		qsort(list->items, list->count, sizeof(*list->items), by_name);
	return rc;
}

const char *found_word(const struct found *found)
{
	if (found->removed)
		return "removed";
	return found->pinned ? "pinned" : ckpt_state_name(found->state);
}

int found_load(const struct ckpt_place *place, unsigned int flags, struct found_list *out,
	       struct ckpt_err *err)
{
	struct collect collect = { .flags = flags, .list = out, .err = err };
	struct ckpt_store *store = NULL;
	int rc;

	*out = (struct found_list){ .items = NULL };
	rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);
	if (rc == 0)
		rc = ckpt_store_walk(store, place->name, collect_one, &collect, err);
	for (size_t i = 0; rc == 0 && i < out->count; i++) {
		if (out->items[i].has_row)
			load_row(store, &out->items[i], flags);
		else if (!out->items[i].problem)
			look_at_open(store, &out->items[i], flags);
	}
	if (rc == 0 && (flags & FOUND_REMOVED))
		rc = load_removed(store, place->name, &collect);
	ckpt_store_free(store);
	return rc;
}

void found_release(struct found_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].name);
		free(list->items[i].waits_for);
		free(list->items[i].problem);
		if (list->items[i].has_row)
			ckpt_db_checkpoint_release(&list->items[i].row);
	}
	free(list->items);
	*list = (struct found_list){ .items = NULL };
}

size_t found_problems(const struct found_list *list)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		count += list->items[i].problem != NULL;
	return count;
}

size_t found_report(const struct found_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].problem)
			cli_error("%s", list->items[i].problem);
	}
	return found_problems(list);
}

size_t found_count_state(const struct found_list *list, enum ckpt_state state)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		count += list->items[i].state == state;
	return count;
}
