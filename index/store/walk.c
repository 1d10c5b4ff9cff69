/*
 * walk.c - find the checkpoints of a store by looking at its folders, and bring
 * the index up to date with what was found.
 *
 * First all names are collected, then they are sorted: the order by bytes of
 * whole names is not the order of a walk ("a-b" comes before "a/b", and after
 * "a"). No symlink is followed, no control folder entered, no checkpoint
 * entered, whatever its state. A folder that this process may not read is passed
 * over, and told of behind all others in no state: one user's private group must
 * not spoil `ls` for all others, but who verifies wants to know. What the index
 * holds below such a folder stays.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_index.h"
#include "store/store_internal.h"

struct item {
	char *name;
	enum ckpt_state state;
};

struct name_list {
	char **names;
	size_t count, cap;
};

struct walk {
	struct ckpt_store *store;
	const char *below;
	struct item *items; /* checkpoints */
	size_t count, cap;
	struct name_list unread; /* folders passed over */
	struct ckpt_err *err;
};

static int no_memory(struct ckpt_err *err)
{
	ckpt_err_sys(err, -ENOMEM, "cannot list the checkpoints");
	return -ENOMEM;
}

static int names_add(struct name_list *list, const char *name)
{
	int rc = array_grow(&list->names, &list->cap, list->count, sizeof(*list->names));

	if (rc < 0)
		return rc;
	list->names[list->count] = strdup(name);
	if (!list->names[list->count])
		return -ENOMEM;
	list->count++;
	return 0;
}

static void names_release(struct name_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
	*list = (struct name_list){ 0 };
}

static void walk_release(struct walk *walk)
{
	for (size_t i = 0; i < walk->count; i++) {
		free(walk->items[i].name);
	}
	free(walk->items);
	names_release(&walk->unread);
}

/* --- collecting --------------------------------------------------------------------- */

static int add_item(struct walk *walk, const char *name, enum ckpt_state state)
{
	struct item item = { .state = state };

	if (array_grow(&walk->items, &walk->cap, walk->count, sizeof(item)) < 0)
		return no_memory(walk->err);
	item.name = strdup(name);
	if (!item.name)
		return no_memory(walk->err);
	walk->items[walk->count++] = item;
	return 0;
}

static int collect_below(struct walk *walk, const char *name, int depth);

/*
 * Look at the folder @name: a checkpoint is taken down, a group is entered. @depth: components of
 * @name.
 */
static int collect(struct walk *walk, const char *name, int depth)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	int rc = ckpt_state_of(walk->store->fd, name, &state, NULL, walk->err);

	if (rc == 0 && state != CKPT_STATE_NONE)
		rc = add_item(walk, name, state);
	else if (rc == 0)
		rc = collect_below(walk, name, depth);
	return rc;
}

static int collect_entry(struct walk *walk, DIR *dir, const char *above, const char *name,
			 unsigned char type, int depth)
{
	struct ckpt_buf path;
	bool is_dir = false;
	int rc = ckpt_dirent_is_dir(dirfd(dir), name, type, &is_dir);

	if (rc == -ENOENT || (rc == 0 && !is_dir) || strcmp(name, CKPT_CONTROL_DIR) == 0)
		return 0;
	if (rc < 0)
		return ckpt_err_sys(walk->err, rc, "cannot look at '%s' in '%s'", name, above);
	ckpt_buf_init(&path);
	ckpt_path_join(&path, above, name);
	rc = ckpt_buf_check(&path) < 0 ? no_memory(walk->err) : collect(walk, path.data, depth);
	/* Gone, or something else, since its name was read. */
	if (rc == -ENOENT || rc == -ENOTDIR)
		rc = 0;
	ckpt_buf_release(&path);
	return rc;
}

/* Recursion is as deep as the longest name of a checkpoint. */
static int collect_below(struct walk *walk, const char *name, int depth)
{
	unsigned char type;
	const char *entry;
	DIR *dir;
	int rc;

	if (depth >= CKPT_NAME_DEPTH_MAX)
		return 0;
	rc = ckpt_dir_open(walk->store->fd, name, &dir);
	/* One that was asked for by name is another matter. */
	if (rc == -EACCES && strcmp(name, walk->below) != 0)
		return names_add(&walk->unread, name) < 0 ? no_memory(walk->err) : 0;
	if (rc < 0)
		return ckpt_err_sys(walk->err, rc, "cannot read the folder '%s' of the store '%s'",
				    name, walk->store->path);
	while ((rc = ckpt_io_readdir_type(dir, &entry, &type)) > 0) {
		rc = collect_entry(walk, dir, name, entry, type, depth + 1);
		if (rc < 0)
			break;
	}
	closedir(dir);
	return rc;
}

static int depth_of(const char *name)
{
	int depth = *name != '\0';

	for (; *name != '\0'; name++)
		depth += *name == '/';
	return depth;
}

static int by_name(const void *a, const void *b)
{
	const struct item *left = a;
	const struct item *right = b;

	return strcmp(left->name, right->name);
}

/* All checkpoints at or below @below, in order. Inside of a checkpoint there is none. */
static int collect_all(struct walk *walk)
{
	const char *below = walk->below;
	struct ckpt_buf above;
	int rc;

	ckpt_buf_init(&above);
	rc = ckpt_state_find_above(walk->store->fd, below, &above, walk->err);
	ckpt_buf_release(&above);
	if (rc == -ENOENT)
		rc = *below ? collect(walk, below, depth_of(below)) : collect_below(walk, below, 0);
	if (walk->count > 0)
		qsort(walk->items, walk->count, sizeof(*walk->items), by_name);
	return rc;
}

/* --- the index's side ------------------------------------------------------------------ */

static int name_and_item(const void *name, const void *item)
{
	return strcmp(name, ((const struct item *)item)->name);
}

static bool was_found(const struct walk *walk, const char *name)
{
	const struct item *found = NULL;

	if (walk->count > 0)
		found = bsearch(name, walk->items, walk->count, sizeof(*found), name_and_item);
	return found && found->state == CKPT_STATE_COMMITTED;
}

static bool is_below_unread(const struct walk *walk, const char *name)
{
	for (size_t i = 0; i < walk->unread.count; i++) {
		if (ckpt_path_is_below(name, walk->unread.names[i]))
			return true;
	}
	return false;
}

/* Rows that the walk did not meet. */
struct missed {
	const struct walk *walk;
	struct name_list names;
};

static int note_missed(void *ctx, const struct ckpt_db_checkpoint *row)
{
	struct missed *missed = ctx;

	if (was_found(missed->walk, row->name) || is_below_unread(missed->walk, row->name))
		return 0;
	return names_add(&missed->names, row->name);
}

static int list_missed(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	struct missed *missed = ctx;
	int rc;

	names_release(&missed->names);
	rc = ckpt_db_checkpoints(db, missed->walk->below, note_missed, missed, err);
	return rc == -ENOMEM ? no_memory(err) : rc;
}

/*
 * Drop the rows of what is gone. Each is looked up again: it may have been committed while we
 * walked.
 */
static int drop_missed(struct walk *walk)
{
	struct missed missed = { .walk = walk };
	int rc = ckpt_index_read(walk->store, list_missed, &missed, walk->err);

	for (size_t i = 0; rc == 0 && i < missed.names.count; i++) {
		struct ckpt_db_checkpoint row;

		rc = ckpt_store_lookup(walk->store, missed.names.names[i], &row, NULL);
		if (rc == 0)
			ckpt_db_checkpoint_release(&row);
		/* What cannot be judged now is judged when somebody asks for it. */
		rc = 0;
	}
	names_release(&missed.names);
	return rc;
}

/* --- telling ----------------------------------------------------------------------------- */

/* The caller's function. */
struct listener {
	int (*fn)(void *ctx, const struct ckpt_found *found);
	void *ctx;
};

static int tell(const struct listener *listener, const struct ckpt_found *found)
{
	return listener->fn ? listener->fn(listener->ctx, found) : 0;
}

static int tell_committed(struct walk *walk, const struct item *item,
			  const struct listener *listener)
{
	struct ckpt_found found = { .name = item->name, .state = item->state };
	struct ckpt_err problem = CKPT_ERR_INIT;
	struct ckpt_db_checkpoint row;
	int rc = ckpt_store_lookup(walk->store, item->name, &row, &problem);

	if (rc == 0) {
		found.row = &row;
		rc = tell(listener, &found);
		ckpt_db_checkpoint_release(&row);
		return rc;
	}
	if (rc == -ENOENT && ckpt_path_check_name(item->name, &problem) == 0)
		return 0; /* gone since */
	if (rc == -ENOMEM)
		return no_memory(walk->err);
	found.problem = &problem;
	return tell(listener, &found);
}

static int tell_item(struct walk *walk, const struct item *item, const struct listener *listener)
{
	if (item->state == CKPT_STATE_COMMITTED)
		return tell_committed(walk, item, listener);
	return tell(listener, &(struct ckpt_found){ .name = item->name, .state = item->state });
}

/* What was passed over. */
static int tell_unread(const char *name, const struct listener *listener)
{
	struct ckpt_err problem = CKPT_ERR_INIT;

	ckpt_err_sys(&problem, -EACCES, "cannot look into the folder '%s'", name);
	return tell(listener, &(struct ckpt_found){ .name = name,
						    .state = CKPT_STATE_NONE,
						    .problem = &problem });
}

int ckpt_store_walk(struct ckpt_store *store, const char *below,
		    int (*fn)(void *ctx, const struct ckpt_found *found), void *ctx,
		    struct ckpt_err *err)
{
	const struct listener listener = { .fn = fn, .ctx = ctx };
	struct ckpt_err why = CKPT_ERR_INIT;
	struct walk walk = { .store = store, .below = below, .err = &why };
	int rc = collect_all(&walk);
	bool is_gone = rc == -ENOENT || rc == -ENOTDIR;

	for (size_t i = 0; rc == 0 && i < walk.count; i++)
		rc = tell_item(&walk, &walk.items[i], &listener);
	for (size_t i = 0; rc == 0 && i < walk.unread.count; i++)
		rc = tell_unread(walk.unread.names[i], &listener);
	/*
	 * Behind the look-ups: by its old row one that was renamed is known again. Where @below is
	 * gone, too.
	 */
	if (store->index && (rc == 0 || is_gone)) {
		int drop_rc = drop_missed(&walk);

		rc = drop_rc < 0 ? drop_rc : rc;
	}
	walk_release(&walk);
	return rc < 0 ? ckpt_err_set(err, rc, "%s", why.msg) : rc;
}

/* --- the latest ---------------------------------------------------------------------------- */

/* The newest so far. */
struct newest {
	struct ckpt_buf name;
	uint64_t seq;
	char committed[CKPT_RFC3339_SIZE];
	char id[37];
	bool any;
};

/* By (seq, committed, id): the clock of one writer alone would not do. */
static bool is_newer(const struct newest *newest, const struct ckpt_db_checkpoint *row)
{
	int order;

	if (!newest->any || row->seq != newest->seq)
		return !newest->any || row->seq > newest->seq;
	order = strcmp(row->committed, newest->committed);
	if (order == 0)
		order = strcmp(row->id, newest->id);
	return order > 0;
}

static int note_newest(void *ctx, const struct ckpt_found *found)
{
	struct newest *newest = ctx;

	if (!found->row || !is_newer(newest, found->row))
		return 0;
	newest->any = true;
	newest->seq = found->row->seq;
	memcpy(newest->committed, found->row->committed, sizeof(newest->committed));
	memcpy(newest->id, found->row->id, sizeof(newest->id));
	ckpt_buf_reset(&newest->name);
	ckpt_buf_add_str(&newest->name, found->name);
	return ckpt_buf_check(&newest->name);
}

int ckpt_store_latest(struct ckpt_store *store, const char *below, struct ckpt_buf *out,
		      struct ckpt_err *err)
{
	struct newest newest = { .any = false };
	int rc;

	ckpt_buf_init(&newest.name);
	rc = ckpt_store_walk(store, below, note_newest, &newest, err);
	if (rc == -ENOMEM)
		no_memory(err);
	if (rc == 0 && !newest.any)
		rc = ckpt_err_set(
			err, -ENOENT,
			"no checkpoint is committed in '%s%s%s' yet; 'ckptfs ls' shows what is open",
			store->path, *below ? "/" : "", below);
	if (rc == 0)
		ckpt_buf_add_str(out, newest.name.data);
	ckpt_buf_release(&newest.name);
	return rc < 0 ? rc : ckpt_buf_check(out);
}
