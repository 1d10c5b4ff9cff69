/*
 * inode.c - see inode.h.
 *
 * Lock order of fs/, listed here and nowhere else:
 *
 *     a listing's stream (dir.c)  →  one of the tables  →  log
 *
 * The tables are: inode table (inode.c), slots (slots.c), groups (group.c),
 * open files (open_file.c), block cache (block_cache.c), checks (shard_check.c),
 * verified shards (verified.c), buffers (buffers.c), watched requests
 * (request.c). No two tables are locked at once, but for verified shards below
 * checks. No table is locked across
 * SQLite, disk reads or fuse_reply_*; the stream of one open folder is, because
 * a listing is one sequence of reads and serves one reader at a time.
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

struct inode {
	struct inode *next_by_id;
	struct inode *next_by_key;
	struct inode *parent; /* counted in its refs; NULL for the top */
	char *name;
	fuse_ino_t id;
	struct inode_key key;
	uint64_t lookups; /* given to the kernel and not given back */
	uint64_t refs;	  /* children that name it as their parent */
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
	inode->next_by_key = *key_head;
	*key_head = inode;
}

static void unlink_locked(struct inode_table *table, const struct inode *inode)
{
	struct inode **slot = &table->by_id[id_chain(table, inode->id)];

	while (*slot != inode)
		slot = &(*slot)->next_by_id;
	*slot = inode->next_by_id;
	slot = &table->by_key[key_chain(table, inode->key)];
	while (*slot != inode)
		slot = &(*slot)->next_by_key;
	*slot = inode->next_by_key;
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

/*
 * Free what nobody holds: the node, then its parent if that was its last child, and so on up to
 * the top, which stays.
 */
static void drop_locked(struct inode_table *table, struct inode *inode)
{
	while (inode->parent && inode->lookups == 0 && inode->refs == 0) {
		struct inode *parent = inode->parent;

		unlink_locked(table, inode);
		table->count--;
		free(inode->name);
		free(inode);
		assert(parent->refs > 0);
		parent->refs--;
		inode = parent;
	}
}

/* Is @inode @ancestor or below it? */
static bool is_below(const struct inode *inode, const struct inode *ancestor)
{
	while (inode && inode != ancestor)
		inode = inode->parent;
	return inode != NULL;
}

/* The node was met under another name, or in another folder. */
static int move_locked(struct inode_table *table, struct inode *inode, struct inode *parent,
		       const char *name)
{
	struct inode *old_parent = inode->parent;
	char *copy;

	if (old_parent == parent && strcmp(inode->name, name) == 0)
		return 0;
	/* A loop would never lead to the top; the kernel asks again. */
	if (is_below(parent, inode))
		return -ESTALE;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	free(inode->name);
	inode->name = copy;
	inode->parent = parent;
	parent->refs++;
	old_parent->refs--;
	drop_locked(table, old_parent);
	return 0;
}

static int add_locked(struct inode_table *table, struct inode *parent, const char *name,
		      struct inode_key key, struct inode **out)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (inode)
		inode->name = strdup(name);
	if (!inode || !inode->name) {
		free(inode);
		return -ENOMEM;
	}
	if (table->count >= table->chain_count)
		grow_locked(table);
	inode->id = NODE_PLAIN_BIT | ++table->last_id;
	inode->key = key;
	inode->parent = parent;
	parent->refs++;
	link_locked(table, inode);
	table->count++;
	*out = inode;
	return 0;
}

static int remember_locked(struct inode_table *table, struct inode *parent, const char *name,
			   struct inode_key key, struct inode **out)
{
	struct inode *inode = find_key_locked(table, key);
	int rc;

	if (!parent || inode == &table->top)
		return -ESTALE;
	rc = inode ? move_locked(table, inode, parent, name)
		   : add_locked(table, parent, name, key, &inode);
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
	rc = remember_locked(table, find_id_locked(table, parent), name, key_of(st), &inode);
	if (rc == 0)
		*out = inode->id;
	pthread_mutex_unlock(&table->mu);
	return rc;
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
		ckpt_ignore(move_locked(table, inode, folder, name));
	pthread_mutex_unlock(&table->mu);
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
 * The names from the node up to the top, put together from the end of @text; start of the path,
 * NULL when too long.
 */
static const char *path_locked(const struct inode *inode, char text[PATH_MAX])
{
	size_t at = PATH_MAX - 1;

	text[at] = '\0';
	for (; inode->parent; inode = inode->parent) {
		size_t len = strlen(inode->name);

		if (len + 1 > at)
			return NULL;
		if (text[at] != '\0')
			text[--at] = '/';
		at -= len;
		memcpy(text + at, inode->name, len);
	}
	return text + at;
}

int inode_locate(struct inode_table *table, fuse_ino_t ino, struct ckpt_buf *path,
		 struct inode_key *key)
{
	char text[PATH_MAX];
	const char *start = NULL;
	const struct inode *inode;

	pthread_mutex_lock(&table->mu);
	inode = find_id_locked(table, ino);
	if (inode) {
		start = path_locked(inode, text);
		*key = inode->key;
	}
	pthread_mutex_unlock(&table->mu);
	if (!inode)
		return -ESTALE;
	if (!start)
		return -ENAMETOOLONG;
	ckpt_buf_add_str(path, start);
	return ckpt_buf_check(path);
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
		*out = inode->parent ? inode->parent->id : FUSE_ROOT_ID;
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
			next = inode->next_by_id;
			free(inode->name);
			free(inode);
		}
	}
	free(table->by_id);
	free(table->by_key);
	pthread_mutex_destroy(&table->mu);
	free(table);
}
