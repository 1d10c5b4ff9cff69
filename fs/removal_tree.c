/* removal_tree.c - see removal_tree.h. */
#include "removal_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "node.h"

/* One entry. The counts are of what lies in it, where it is a folder. */
struct item {
	struct ckpt_db_entry entry;
	uint64_t *sums;
	uint64_t sum_count;
	_Atomic bool marked;
	_Atomic uint32_t live;	    /* entries that are not marked */
	_Atomic uint32_t live_dirs; /* folders among them */
};

struct removal_tree {
	_Atomic uint32_t refs;
	struct checkpoint *cp; /* one reference */
	struct item top;       /* only its counts */
	struct item **items;   /* ordered by (parent, line) */
	size_t count, cap;
	struct item **by_line; /* the same, ordered by line */
	struct item **by_name; /* the same, ordered by (parent, name) */
};

static void item_free(struct item *item)
{
	if (!item)
		return;
	ckpt_db_entry_release(&item->entry);
	free(item->sums);
	free(item);
}

struct removal_tree *removal_tree_ref(struct removal_tree *tree)
{
	atomic_fetch_add(&tree->refs, 1);
	return tree;
}

void removal_tree_unref(struct removal_tree *tree)
{
	if (!tree || atomic_fetch_sub(&tree->refs, 1) != 1)
		return;
	for (size_t i = 0; i < tree->count; i++)
		item_free(tree->items[i]);
	free(tree->items);
	free(tree->by_line);
	free(tree->by_name);
	checkpoint_unref(tree->cp);
	free(tree);
}

struct checkpoint *removal_tree_checkpoint(const struct removal_tree *tree)
{
	return tree->cp;
}

/* --- order -------------------------------------------------------------------------------- */

static int compare(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

static int by_place(const void *a, const void *b)
{
	const struct ckpt_db_entry *left = &(*(struct item *const *)a)->entry;
	const struct ckpt_db_entry *right = &(*(struct item *const *)b)->entry;
	int order = compare(left->parent, right->parent);

	return order != 0 ? order : compare(left->line, right->line);
}

static int by_line(const void *a, const void *b)
{
	return compare((*(struct item *const *)a)->entry.line,
		       (*(struct item *const *)b)->entry.line);
}

static int by_name(const void *a, const void *b)
{
	const struct ckpt_db_entry *left = &(*(struct item *const *)a)->entry;
	const struct ckpt_db_entry *right = &(*(struct item *const *)b)->entry;
	int order = compare(left->parent, right->parent);

	return order != 0 ? order : strcmp(left->name, right->name);
}

/* The item that is @key as far as @order looks; NULL: none. */
static struct item *search(const struct removal_tree *tree, struct item **items,
			   const struct ckpt_db_entry *key,
			   int (*order)(const void *a, const void *b))
{
	struct item wanted = { .entry = *key };
	struct item *at = &wanted;
	struct item **found = NULL;

	if (tree->count > 0)
		found = bsearch(&at, items, tree->count, sizeof(struct item *), order);
	return found ? *found : NULL;
}

static struct item *find_line(const struct removal_tree *tree, uint32_t line)
{
	return search(tree, tree->by_line, &(struct ckpt_db_entry){ .line = line }, by_line);
}

/* Not what is marked: its name is free. */
static struct item *find_name(const struct removal_tree *tree, uint32_t parent, const char *name)
{
	struct ckpt_db_entry key = { .parent = parent };
	struct item *item;
	char *borrowed = NULL;

	/* The comparison does not write to it. */
	memcpy(&borrowed, &name, sizeof(borrowed));
	key.name = borrowed;
	item = search(tree, tree->by_name, &key, by_name);
	return item && !atomic_load(&item->marked) ? item : NULL;
}

static struct item *folder_of(struct removal_tree *tree, uint32_t line)
{
	return line == NODE_TOP_LINE ? &tree->top : find_line(tree, line);
}

/* --- loading ------------------------------------------------------------------------------ */

static int copy_text(const char *from, char **to)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int copy_entry(const struct ckpt_db_entry *from, struct ckpt_db_entry *to)
{
	int rc;

	*to = *from;
	to->name = NULL;
	to->target = NULL;
	to->pack = NULL;
	rc = copy_text(from->name, &to->name);
	if (rc == 0)
		rc = copy_text(from->target, &to->target);
	if (rc == 0)
		rc = copy_text(from->pack, &to->pack);
	if (rc < 0)
		ckpt_db_entry_release(to);
	return rc;
}

static int take_entry(void *ctx, const struct ckpt_db_entry *entry)
{
	struct removal_tree *tree = ctx;
	struct item *item;
	int rc = array_grow(&tree->items, &tree->cap, tree->count, sizeof(struct item *));

	if (rc < 0)
		return rc;
	item = calloc(1, sizeof(*item));
	rc = item ? copy_entry(entry, &item->entry) : -ENOMEM;
	if (rc < 0) {
		free(item);
		return rc;
	}
	tree->items[tree->count++] = item;
	return 0;
}

/* Folder by folder, from the top: what is found is the list of what is still to be looked into. */
static int take_entries(struct removal_tree *tree, struct ckpt_db *db, struct ckpt_err *err)
{
	struct ckpt_db_cursor from = { .slot = tree->cp->row.slot,
				       .parent = NODE_TOP_LINE,
				       .after = NODE_TOP_LINE };
	int rc = ckpt_db_children(db, &from, take_entry, tree, err);

	for (size_t i = 0; rc == 0 && i < tree->count; i++) {
		if (tree->items[i]->entry.kind != CKPT_ENTRY_DIR)
			continue;
		from.parent = tree->items[i]->entry.line;
		rc = ckpt_db_children(db, &from, take_entry, tree, err);
	}
	return rc;
}

static int take_sums(struct removal_tree *tree, struct ckpt_db *db, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < tree->count; i++) {
		struct item *item = tree->items[i];

		if (item->entry.kind == CKPT_ENTRY_SHARD && item->entry.size_bytes > 0)
			rc = ckpt_db_sums(db, tree->cp->row.slot, item->entry.line, &item->sums,
					  &item->sum_count, err);
	}
	return rc;
}

/* The index may be emptied while it is read: then it does not hold what its row says. */
static bool is_whole(const struct removal_tree *tree)
{
	uint64_t shards = 0;

	for (size_t i = 0; i < tree->count; i++)
		shards += tree->items[i]->entry.kind == CKPT_ENTRY_SHARD;
	return shards == tree->cp->row.shard_count;
}

static struct item **sorted(const struct removal_tree *tree,
			    int (*order)(const void *a, const void *b))
{
	struct item **copy = array_alloc(tree->count + 1, sizeof(struct item *));

	if (!copy || tree->count == 0)
		return copy;
	memcpy(copy, tree->items, tree->count * sizeof(struct item *));
	qsort(copy, tree->count, sizeof(struct item *), order);
	return copy;
}

static int put_in_order(struct removal_tree *tree)
{
	tree->by_line = sorted(tree, by_line);
	tree->by_name = sorted(tree, by_name);
	if (!tree->by_line || !tree->by_name)
		return -ENOMEM;
	if (tree->count > 0)
		qsort(tree->items, tree->count, sizeof(struct item *), by_place);
	for (size_t i = 0; i < tree->count; i++) {
		const struct ckpt_db_entry *entry = &tree->items[i]->entry;
		struct item *folder = folder_of(tree, entry->parent);

		if (!folder)
			return RC_LOAD_FIRST;
		atomic_fetch_add(&folder->live, 1);
		atomic_fetch_add(&folder->live_dirs, entry->kind == CKPT_ENTRY_DIR);
	}
	return 0;
}

static int load(struct fs *fs, struct removal_tree *tree)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(fs->store, &db, &err);

	if (rc == 0) {
		rc = take_entries(tree, db, &err);
		if (rc == 0)
			rc = take_sums(tree, db, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc == -ENOENT || (rc == 0 && !is_whole(tree)))
		return RC_LOAD_FIRST;
	if (rc == 0)
		rc = put_in_order(tree);
	else if (err.msg[0] != '\0')
		fs_log_once("%s", err.msg);
	return rc;
}

int removal_tree_load(struct fs *fs, struct checkpoint *cp, struct removal_tree **out)
{
	struct removal_tree *tree = calloc(1, sizeof(*tree));
	int rc;

	if (!tree)
		return -ENOMEM;
	atomic_init(&tree->refs, 1);
	atomic_fetch_add(&cp->refs, 1);
	tree->cp = cp;
	rc = load(fs, tree);
	if (rc < 0)
		removal_tree_unref(tree);
	else
		*out = tree;
	return rc;
}

/* --- asking ------------------------------------------------------------------------------- */

int removal_tree_entry(struct removal_tree *tree, uint32_t line, const char *name,
		       struct ckpt_db_entry *out)
{
	struct item *item = name ? find_name(tree, line, name) : find_line(tree, line);
	int rc = item ? copy_entry(&item->entry, out) : -ENOENT;

	if (rc == 0)
		out->child_dirs = atomic_load(&item->live_dirs);
	return rc;
}

/* Position of the first entry behind @from. */
static size_t first_behind(const struct removal_tree *tree, const struct ckpt_db_cursor *from)
{
	size_t low = 0;
	size_t high = tree->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct ckpt_db_entry *entry = &tree->items[middle]->entry;

		if (entry->parent < from->parent ||
		    (entry->parent == from->parent && entry->line <= from->after))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int removal_tree_children(struct removal_tree *tree, const struct ckpt_db_cursor *from,
			  int (*fn)(void *ctx, const struct ckpt_db_entry *entry), void *ctx)
{
	int rc = 0;

	for (size_t i = first_behind(tree, from); rc == 0 && i < tree->count; i++) {
		struct item *item = tree->items[i];
		struct ckpt_db_entry entry = item->entry; /* its strings are borrowed */

		if (entry.parent != from->parent)
			break;
		entry.child_dirs = atomic_load(&item->live_dirs);
		if (!atomic_load(&item->marked))
			rc = fn(ctx, &entry);
	}
	return rc;
}

/* Folders are as deep as CKPT_ENTRY_DEPTH_MAX. */
static void add_path(const struct removal_tree *tree, const struct item *item, struct ckpt_buf *out)
{
	const struct item *folder = find_line(tree, item->entry.parent);

	if (folder) {
		add_path(tree, folder, out);
		ckpt_buf_add_char(out, '/');
	}
	ckpt_buf_add_str(out, item->entry.name);
}

int removal_tree_place(struct removal_tree *tree, uint32_t line, struct ckpt_shard *out)
{
	const struct item *item = find_line(tree, line);
	struct ckpt_buf path;

	if (!item)
		return -ENOENT;
	ckpt_buf_init(&path);
	add_path(tree, item, &path);
	out->path = ckpt_buf_steal(&path);
	if (!out->path)
		return -ENOMEM;
	if (out->block_bytes == 0 || item->sum_count == 0)
		return 0;
	out->sums = array_alloc(item->sum_count, sizeof(*out->sums));
	if (!out->sums)
		return -ENOMEM;
	memcpy(out->sums, item->sums, item->sum_count * sizeof(*out->sums));
	return 0;
}

uint32_t removal_tree_top_dirs(struct removal_tree *tree)
{
	return atomic_load(&tree->top.live_dirs);
}

/* --- marking ------------------------------------------------------------------------------ */

static int may_unlink(struct item *item, bool is_rmdir)
{
	bool is_dir = item->entry.kind == CKPT_ENTRY_DIR;

	if (is_dir != is_rmdir)
		return is_dir ? -EISDIR : -ENOTDIR;
	return atomic_load(&item->live) > 0 ? -ENOTEMPTY : 0;
}

int removal_tree_mark(struct removal_tree *tree, uint32_t parent, const char *name, bool is_rmdir)
{
	struct item *item = find_name(tree, parent, name);
	int rc = item ? may_unlink(item, is_rmdir) : -ENOENT;
	struct item *folder;

	if (rc < 0)
		return rc;
	folder = folder_of(tree, parent);
	assert(folder && atomic_load(&folder->live) > 0);
	atomic_store(&item->marked, true);
	atomic_fetch_sub(&folder->live, 1);
	if (is_rmdir)
		atomic_fetch_sub(&folder->live_dirs, 1);
	return 0;
}

bool removal_tree_is_marked(struct removal_tree *tree, uint32_t line)
{
	struct item *item = find_line(tree, line);

	return item && atomic_load(&item->marked);
}

bool removal_tree_is_empty(struct removal_tree *tree)
{
	return atomic_load(&tree->top.live) == 0;
}

void removal_tree_each_dir(struct removal_tree *tree,
			   void (*fn)(void *ctx, uint32_t line, bool is_marked), void *ctx)
{
	for (size_t i = 0; i < tree->count; i++) {
		struct item *item = tree->items[i];

		if (item->entry.kind == CKPT_ENTRY_DIR)
			fn(ctx, item->entry.line, atomic_load(&item->marked));
	}
}
