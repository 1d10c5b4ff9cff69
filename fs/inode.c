/*
 * inode.c - see inode.h.
 *
 * Lock order of fs/, listed here and nowhere else:
 *
 *     a listing's stream (dir.c)  →  one of the tables  →  log
 *
 * The tables are: inode table (inode.c), slots (slots.c), groups (group.c), open files
 * (open_file.c), block cache (block_cache.c), checks (shard_check.c), verified shards (verified.c),
 * buffers (buffers.c), watched requests (request.c), changes and freezes (change.c), files to be
 * summed (summing.c), checkpoints to be committed by rule (autocommit.c), removals (removal.c), the
 * room beside the trash (trash_room.c), names written again (resave.c). No two tables are locked at
 * once, but for verified shards below checks. No table is locked across SQLite, disk reads or
 * fuse_reply_*; the stream of one open folder is, because a listing is one sequence of reads and
 * serves one reader at a time.
 */
#include "inode.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "node.h"

/* First size of both hash tables, a power of two; they double when nodes outnumber chains. */
#define CHAINS_MIN 1024U

/*
 * Names that are kept of a file with several (hard links). Of one with more, those met longest ago
 * are forgotten.
 */
#define NAMES_MAX 16U

/* A name that a node was met under. */
struct inode_name {
	struct inode_name *next;
	struct inode *parent; /* counted in its refs */
	char text[];
};

struct inode {
	struct inode *next_by_id;
	struct inode *next_by_key;
	/* The name it was met under last comes first. Of the top: NULL. */
	struct inode_name *names;
	fuse_ino_t id;
	struct inode_key key;
	uint64_t lookups; /* given to the kernel and not given back */
	uint64_t refs;	  /* names that have it as their parent */
	/* Its stored file has no name any more: the number may soon be another file's. */
	bool is_gone;
};

struct inode_table {
	pthread_mutex_t mu;
	/* The rest is protected by mu. */
	struct inode **by_id;
	struct inode **by_key;
	size_t chain_count; /* of each */
	size_t count;	    /* without the top */
	uint64_t last_id;
	struct inode top;
};

static size_t id_chain(const struct inode_table *table, fuse_ino_t id)
{
	return (size_t)id & (table->chain_count - 1);
}

static size_t key_chain(const struct inode_table *table, struct inode_key key)
{
	/* Fibonacci hashing: stored numbers come in runs, devices differ in few bits. */
	uint64_t mixed =
		((uint64_t)key.ino ^ (uint64_t)key.dev << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(mixed >> 32) & (table->chain_count - 1);
}

static bool key_equal(struct inode_key a, struct inode_key b)
{
	return a.dev == b.dev && a.ino == b.ino;
}

static struct inode_key key_of(const struct stat *st)
{
	return (struct inode_key){ .dev = st->st_dev, .ino = st->st_ino };
}

static struct inode *find_id_locked(struct inode_table *table, fuse_ino_t id)
{
	struct inode *inode = table->by_id[id_chain(table, id)];

	if (id == FUSE_ROOT_ID)
		return &table->top;
	while (inode && inode->id != id)
		inode = inode->next_by_id;
	return inode;
}

static struct inode *find_key_locked(struct inode_table *table, struct inode_key key)
{
	struct inode *inode = table->by_key[key_chain(table, key)];

	if (key_equal(key, table->top.key))
		return &table->top;
	while (inode && !key_equal(inode->key, key))
		inode = inode->next_by_key;
	return inode;
}

static void link_locked(struct inode_table *table, struct inode *inode)
{
	struct inode **id_head = &table->by_id[id_chain(table, inode->id)];
	struct inode **key_head = &table->by_key[key_chain(table, inode->key)];

	inode->next_by_id = *id_head;
	*id_head = inode;
	if (inode->is_gone)
		return;
	inode->next_by_key = *key_head;
	*key_head = inode;
}

static void unlink_key_locked(struct inode_table *table, const struct inode *inode)
{
	struct inode **slot = &table->by_key[key_chain(table, inode->key)];

	while (*slot != inode)
		slot = &(*slot)->next_by_key;
	*slot = inode->next_by_key;
}

static void unlink_locked(struct inode_table *table, const struct inode *inode)
{
	struct inode **slot = &table->by_id[id_chain(table, inode->id)];

	while (*slot != inode)
		slot = &(*slot)->next_by_id;
	*slot = inode->next_by_id;
	if (!inode->is_gone)
		unlink_key_locked(table, inode);
}

/* Twice the chains. Without memory they only get longer. */
static void grow_locked(struct inode_table *table)
{
	size_t old_count = table->chain_count;
	struct inode **old = table->by_id;
	struct inode **by_id = array_alloc(old_count * 2, sizeof(struct inode *));
	struct inode **by_key = array_alloc(old_count * 2, sizeof(struct inode *));

	if (!by_id || !by_key) {
		free(by_id);
		free(by_key);
		return;
	}
	free(table->by_key);
	table->by_id = by_id;
	table->by_key = by_key;
	table->chain_count = old_count * 2;
	for (size_t i = 0; i < old_count; i++) {
		while (old[i]) {
			struct inode *inode = old[i];

			old[i] = inode->next_by_id;
			link_locked(table, inode);
		}
	}
	free(old);
}

/* --- names -------------------------------------------------------------------------------- */

static void drop_locked(struct inode_table *table, struct inode *inode);

static struct inode_name *name_new(struct inode *parent, const char *text)
{
	size_t size = strlen(text) + 1;
	struct inode_name *name = malloc(sizeof(*name) + size);

	if (!name)
		return NULL;
	name->next = NULL;
	name->parent = parent;
	memcpy(name->text, text, size);
	parent->refs++;
	return name;
}

/* The parent may go with it. */
static void name_free_locked(struct inode_table *table, struct inode_name *name)
{
	struct inode *parent = name->parent;

	free(name);
	assert(parent->refs > 0);
	parent->refs--;
	drop_locked(table, parent);
}

/* Take the name out of the list; NULL: the node was not met under it. */
static struct inode_name *name_take(struct inode *inode, const struct inode *parent,
				    const char *text)
{
	struct inode_name **slot = &inode->names;
	struct inode_name *name;

	while (*slot && ((*slot)->parent != parent || strcmp((*slot)->text, text) != 0))
		slot = &(*slot)->next;
	name = *slot;
	if (name)
		*slot = name->next;
	return name;
}

static void name_put(struct inode *inode, struct inode_name *name)
{
	name->next = inode->names;
	inode->names = name;
}

/* Forget the names behind the first @count. */
static void names_cut_locked(struct inode_table *table, struct inode *inode, size_t count)
{
	struct inode_name **slot = &inode->names;
	struct inode_name *rest;

	while (*slot && count-- > 0)
		slot = &(*slot)->next;
	rest = *slot;
	*slot = NULL;
	while (rest) {
		struct inode_name *name = rest;

		rest = name->next;
		name_free_locked(table, name);
	}
}

/*
 * Free what nobody holds: the node, then its parent if that was its last child, and so on up to
 * the top, which stays. As deep as the folders are; of a file, which alone has several names,
 * nothing hangs.
 */
static void drop_locked(struct inode_table *table, struct inode *inode)
{
	if (inode == &table->top || inode->lookups > 0 || inode->refs > 0)
		return;
	unlink_locked(table, inode);
	table->count--;
	names_cut_locked(table, inode, 0);
	free(inode);
}

/* Is @inode @ancestor or below it? */
static bool is_below(const struct inode *inode, const struct inode *ancestor)
{
	while (inode != ancestor && inode->names)
		inode = inode->names->parent;
	return inode == ancestor;
}

/* How many names to keep of a file that was just met. */
static size_t names_max(const struct stat *st)
{
	return S_ISDIR(st->st_mode) || st->st_nlink < 2 ? 1 : NAMES_MAX;
}

/* The node was met under this name, which may be another one, or in another folder. */
static int meet_locked(struct inode_table *table, struct inode *inode, struct inode *parent,
		       const char *text, size_t keep)
{
	struct inode_name *name = name_take(inode, parent, text);

	/* A loop would never lead to the top; the kernel asks again. */
	if (!name && is_below(parent, inode))
		return -ESTALE;
	if (!name)
		name = name_new(parent, text);
	if (!name)
		return -ENOMEM;
	name_put(inode, name);
	names_cut_locked(table, inode, keep);
	return 0;
}

static int add_locked(struct inode_table *table, struct inode *parent, const char *text,
		      struct inode_key key, struct inode **out)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (inode)
		inode->names = name_new(parent, text);
	if (!inode || !inode->names) {
		free(inode);
		return -ENOMEM;
	}
	if (table->count >= table->chain_count)
		grow_locked(table);
	inode->id = NODE_PLAIN_BIT | ++table->last_id;
	inode->key = key;
	link_locked(table, inode);
	table->count++;
	*out = inode;
	return 0;
}

static int remember_locked(struct inode_table *table, struct inode *parent, const char *text,
			   const struct stat *st, struct inode **out)
{
	struct inode *inode = find_key_locked(table, key_of(st));
	int rc;

	if (!parent || inode == &table->top)
		return -ESTALE;
	rc = inode ? meet_locked(table, inode, parent, text, names_max(st))
		   : add_locked(table, parent, text, key_of(st), &inode);
	if (rc < 0)
		return rc;
	inode->lookups++;
	*out = inode;
	return 0;
}

int inode_remember(struct inode_table *table, fuse_ino_t parent, const char *name,
		   const struct stat *st, fuse_ino_t *out)
{
	struct inode *inode = NULL;
	int rc;

	pthread_mutex_lock(&table->mu);
	rc = remember_locked(table, find_id_locked(table, parent), name, st, &inode);
	if (rc == 0)
		*out = inode->id;
	pthread_mutex_unlock(&table->mu);
	return rc;
}

int inode_made(struct inode_table *table, fuse_ino_t parent, const char *name,
	       const struct stat *st, fuse_ino_t *out)
{
	struct inode *old;

	pthread_mutex_lock(&table->mu);
	old = find_key_locked(table, key_of(st));
	if (old && old != &table->top) {
		unlink_key_locked(table, old);
		old->is_gone = true;
	}
	pthread_mutex_unlock(&table->mu);
	return inode_remember(table, parent, name, st, out);
}

void inode_relocate(struct inode_table *table, fuse_ino_t parent, const char *name,
		    const struct stat *st)
{
	struct inode *inode;
	struct inode *folder;

	pthread_mutex_lock(&table->mu);
	inode = find_key_locked(table, key_of(st));
	folder = find_id_locked(table, parent);
	/* Without memory, or in a loop, it stays where it was, and answers ESTALE. */
	if (inode && inode != &table->top && folder)
		ckpt_ignore(meet_locked(table, inode, folder, name, names_max(st)));
	pthread_mutex_unlock(&table->mu);
}

/* The node is not found under this name any more, unless it has no other. */
static void leave_locked(struct inode_table *table, struct inode *inode, const struct inode *folder,
			 const char *text)
{
	struct inode_name *name = name_take(inode, folder, text);

	if (name && !inode->names)
		name_put(inode, name); /* it keeps its parent, and answers ESTALE */
	else if (name)
		name_free_locked(table, name);
}

void inode_unlinked(struct inode_table *table, fuse_ino_t parent, const char *name,
		    const struct stat *after)
{
	struct inode *inode;
	struct inode *folder;

	pthread_mutex_lock(&table->mu);
	inode = find_key_locked(table, key_of(after));
	folder = find_id_locked(table, parent);
	if (inode && inode != &table->top && folder) {
		leave_locked(table, inode, folder, name);
		if (S_ISDIR(after->st_mode) || after->st_nlink == 0) {
			unlink_key_locked(table, inode);
			inode->is_gone = true;
		}
	}
	pthread_mutex_unlock(&table->mu);
}

void inode_renamed(struct inode_table *table, const struct inode_place *from,
		   const struct inode_place *to, const struct stat *st)
{
	struct inode *inode;
	struct inode *old_folder;
	struct inode *new_folder;

	pthread_mutex_lock(&table->mu);
	inode = find_key_locked(table, key_of(st));
	old_folder = find_id_locked(table, from->parent);
	new_folder = find_id_locked(table, to->parent);
	if (inode && inode != &table->top && old_folder && new_folder &&
	    meet_locked(table, inode, new_folder, to->name, names_max(st)) == 0)
		leave_locked(table, inode, old_folder, from->name);
	pthread_mutex_unlock(&table->mu);
}

int inode_hold(struct inode_table *table, fuse_ino_t ino)
{
	struct inode *inode;

	pthread_mutex_lock(&table->mu);
	inode = find_id_locked(table, ino);
	if (inode)
		inode->lookups++;
	pthread_mutex_unlock(&table->mu);
	return inode ? 0 : -ESTALE;
}

void inode_forget(struct inode_table *table, fuse_ino_t ino, uint64_t count)
{
	struct inode *inode;

	if (ino == FUSE_ROOT_ID)
		return;
	pthread_mutex_lock(&table->mu);
	inode = find_id_locked(table, ino);
	if (inode) {
		inode->lookups -= num_min(count, inode->lookups);
		drop_locked(table, inode);
	}
	pthread_mutex_unlock(&table->mu);
}

/*
 * The names up to the top, put together from the end of @text; start of the path, NULL when too
 * long.
 */
static const char *path_locked(const struct inode_name *name, char text[PATH_MAX])
{
	size_t at = PATH_MAX - 1;

	text[at] = '\0';
	for (; name; name = name->parent->names) {
		size_t len = strlen(name->text);

		if (len + 1 > at)
			return NULL;
		if (text[at] != '\0')
			text[--at] = '/';
		at -= len;
		memcpy(text + at, name->text, len);
	}
	return text + at;
}

/* -ENOENT: it has no so many names. */
static int locate_locked(struct inode_table *table, const struct inode *inode, size_t idx,
			 char text[PATH_MAX], const char **out)
{
	const struct inode_name *name = inode->names;

	if (inode->is_gone)
		return idx == 0 ? -ESTALE : -ENOENT;
	while (name && idx > 0) {
		name = name->next;
		idx--;
	}
	if (!name && (inode != &table->top || idx > 0))
		return -ENOENT;
	*out = path_locked(name, text);
	return *out ? 0 : -ENAMETOOLONG;
}

int inode_locate_by(struct inode_table *table, fuse_ino_t ino, size_t idx, struct ckpt_buf *path,
		    struct inode_key *key)
{
	char text[PATH_MAX];
	const char *start = NULL;
	const struct inode *inode;
	int rc = -ESTALE;

	pthread_mutex_lock(&table->mu);
	inode = find_id_locked(table, ino);
	if (inode) {
		rc = locate_locked(table, inode, idx, text, &start);
		*key = inode->key;
	}
	pthread_mutex_unlock(&table->mu);
	if (rc < 0)
		return rc;
	ckpt_buf_add_str(path, start);
	return ckpt_buf_check(path);
}

int inode_locate(struct inode_table *table, fuse_ino_t ino, struct ckpt_buf *path,
		 struct inode_key *key)
{
	return inode_locate_by(table, ino, 0, path, key);
}

fuse_ino_t inode_find(struct inode_table *table, const struct stat *st)
{
	const struct inode *inode;
	fuse_ino_t id;

	pthread_mutex_lock(&table->mu);
	inode = find_key_locked(table, key_of(st));
	id = inode ? inode->id : 0;
	pthread_mutex_unlock(&table->mu);
	return id;
}

int inode_parent(struct inode_table *table, fuse_ino_t ino, fuse_ino_t *out)
{
	const struct inode *inode;

	pthread_mutex_lock(&table->mu);
	inode = find_id_locked(table, ino);
	if (inode)
		*out = inode->names ? inode->names->parent->id : FUSE_ROOT_ID;
	pthread_mutex_unlock(&table->mu);
	return inode ? 0 : -ESTALE;
}

size_t inode_table_count(struct inode_table *table)
{
	size_t count;

	pthread_mutex_lock(&table->mu);
	count = table->count;
	pthread_mutex_unlock(&table->mu);
	return count;
}

struct inode_table *inode_table_new(const struct stat *top)
{
	struct inode_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->by_id = array_alloc(CHAINS_MIN, sizeof(struct inode *));
	table->by_key = array_alloc(CHAINS_MIN, sizeof(struct inode *));
	if (!table->by_id || !table->by_key) {
		free(table->by_id);
		free(table->by_key);
		free(table);
		return NULL;
	}
	pthread_mutex_init(&table->mu, NULL);
	table->chain_count = CHAINS_MIN;
	table->last_id = FUSE_ROOT_ID; /* 1 in a virtual node means the top */
	table->top.id = FUSE_ROOT_ID;
	table->top.key = key_of(top);
	return table;
}

void inode_table_free(struct inode_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->chain_count; i++) {
		struct inode *next;

		for (struct inode *inode = table->by_id[i]; inode; inode = next) {
			struct inode_name *name;

			next = inode->next_by_id;
			while ((name = inode->names)) {
				inode->names = name->next;
				free(name);
			}
			free(inode);
		}
	}
	free(table->by_id);
	free(table->by_key);
	pthread_mutex_destroy(&table->mu);
	free(table);
}
