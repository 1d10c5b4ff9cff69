/* view_trees.c - see view_trees.h. */
#include "view_trees.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "committed.h"
#include "node.h"
#include "plain.h"

/* Trees kept beside those that are in use: one of 100,000 tensors takes some 50 MiB. */
#define KEPT_MAX 8U
/* A plain folder is looked at again, and a failure forgotten, after this. */
#define FRESH_MS 1000U
#define NS_PER_SEC INT64_C(1000000000)

/* A place of the cache. All protected by mu. */
struct kept {
	struct views_key {
		bool is_plain;
		uint64_t ref;
	} key;
	bool used;
	bool loading; /* one thread makes it, the others wait */
	struct view_tree *tree;
	int rc;		    /* why there is none */
	uint64_t looked_ms; /* when it was made, or found unchanged */
	uint64_t last_use;
};

struct views {
	pthread_mutex_t mu;
	pthread_cond_t loaded;
	/* Protected by mu. */
	struct kept kept[KEPT_MAX];
	uint64_t clock;
};

struct views *views_new(void)
{
	struct views *views = calloc(1, sizeof(*views));

	if (!views)
		return NULL;
	pthread_mutex_init(&views->mu, NULL);
	pthread_cond_init(&views->loaded, NULL);
	return views;
}

struct view_tree *view_tree_ref(struct view_tree *tree)
{
	atomic_fetch_add(&tree->refs, 1);
	return tree;
}

void view_tree_unref(struct view_tree *tree)
{
	if (!tree || atomic_fetch_sub(&tree->refs, 1) != 1)
		return;
	view_shards_free(tree->shards);
	ckpt_views_unref(tree->views);
	checkpoint_unref(tree->cp);
	free(tree->mapped);
	free(tree);
}

void views_free(struct views *views)
{
	if (!views)
		return;
	for (size_t i = 0; i < KEPT_MAX; i++)
		view_tree_unref(views->kept[i].tree);
	pthread_cond_destroy(&views->loaded);
	pthread_mutex_destroy(&views->mu);
	free(views);
}

/* --- which tree ----------------------------------------------------------------------------- */

static struct views_key key_of(fuse_ino_t ino)
{
	switch (node_class(ino)) {
	case NODE_COMMITTED:
		return (struct views_key){ false, node_slot(ino) };
	case NODE_PLAIN:
		return (struct views_key){ true, ino & NODE_REF_MASK };
	case NODE_VIRTUAL:
		break;
	}
	if (node_is_view(ino))
		return (struct views_key){ node_kind(ino) == VIRTUAL_PLAIN_VIEW,
					   node_view_ref(ino) };
	return (struct views_key){ node_kind(ino) != VIRTUAL_CHECKPOINT_DIR, node_ref(ino) };
}

bool views_are_of(const struct fs *fs, fuse_ino_t ino)
{
	return !key_of(ino).is_plain || ckpt_store_is_bare(fs->store);
}

static struct kept *find_locked(struct views *views, const struct views_key *key)
{
	for (size_t i = 0; i < KEPT_MAX; i++) {
		struct kept *kept = &views->kept[i];

		if (kept->used && kept->key.is_plain == key->is_plain && kept->key.ref == key->ref)
			return kept;
	}
	return NULL;
}

/* Is what is kept good enough to be used now? */
static bool is_fresh(const struct kept *kept, const struct checkpoint *cp)
{
	if (cp && kept->tree)
		return kept->tree->generation == cp->generation;
	return ckpt_clock_mono_ms() - kept->looked_ms < FRESH_MS;
}

/* The checkpoint of the key; NULL for a plain folder. */
static int checkpoint_of(struct fs *fs, const struct views_key *key, struct checkpoint **out)
{
	*out = NULL;
	return key->is_plain ? 0 : slots_get(fs, key->ref, out);
}

int views_get(struct fs *fs, fuse_ino_t ino, struct view_tree **out)
{
	struct views *views = fs->views;
	struct views_key key = key_of(ino);
	struct checkpoint *cp = NULL;
	struct kept *kept;
	int rc = checkpoint_of(fs, &key, &cp);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&views->mu);
	kept = find_locked(views, &key);
	if (!kept || kept->loading || !is_fresh(kept, cp)) {
		rc = RC_VIEWS_FIRST;
	} else {
		rc = kept->rc;
		kept->last_use = ++views->clock;
		/* The kernel asks for the name again then, and gets its number in this tree. */
		if (rc == 0 && node_is_view(ino) && node_view_epoch(ino) != kept->tree->epoch)
			rc = -ESTALE;
		if (rc == 0)
			*out = view_tree_ref(kept->tree);
	}
	pthread_mutex_unlock(&views->mu);
	checkpoint_unref(cp);
	return rc;
}

int views_generation(struct fs *fs, fuse_ino_t ino, uint64_t *out)
{
	struct view_tree *tree = NULL;
	int rc = views_get(fs, ino, &tree);

	if (rc < 0)
		return rc;
	assert(tree);
	*out = tree->generation;
	view_tree_unref(tree);
	return 0;
}

/* --- making one ----------------------------------------------------------------------------- */

/* Where it lies, open. */
struct folder {
	int fd;
	int group_fd; /* -1: there is none */
	struct ckpt_buf name;
	struct stat st;
};

static void folder_release(struct folder *folder)
{
	if (folder->fd >= 0)
		close(folder->fd);
	if (folder->group_fd >= 0)
		close(folder->group_fd);
	ckpt_buf_release(&folder->name);
}

/* The folder above, for companions of hf/; without it there are fewer of them. */
static void open_group(struct fs *fs, struct folder *folder)
{
	char *slash;
	char *above;

	if (folder->name.len_bytes == 0)
		return;
	above = strdup(folder->name.data);
	if (!above)
		return;
	slash = strrchr(above, '/');
	if (slash)
		*slash = '\0';
	folder->group_fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), slash ? above : ".",
						O_RDONLY | O_DIRECTORY, 0);
	free(above);
}

static int folder_open(struct fs *fs, const struct views_key *key, const struct checkpoint *cp,
		       struct folder *folder)
{
	int rc;

	if (cp) {
		ckpt_buf_add_str(&folder->name, cp->row.name);
		rc = committed_open_folder(fs, cp, &folder->fd);
	} else {
		fuse_ino_t ino = key->ref == FUSE_ROOT_ID ? FUSE_ROOT_ID
							  : NODE_PLAIN_BIT | key->ref;

		folder->fd =
			plain_open(fs, ino, O_RDONLY | O_DIRECTORY, &folder->name, &folder->st);
		rc = folder->fd < 0 ? folder->fd : 0;
	}
	if (rc == 0)
		rc = ckpt_buf_check(&folder->name);
	if (rc == 0)
		open_group(fs, folder);
	return rc;
}

static uint64_t add_state(uint64_t state, int dirfd, const char *path)
{
	struct stamps stamps = { 0 };
	struct stat st;

	if (ckpt_io_fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		stamps = stamps_of(&st);
	return state * 31 + ckpt_hash64(&stamps, sizeof(stamps));
}

/* Of the folders on the way to a file, whose modes say who may read it. */
static uint64_t add_dirs(uint64_t state, int dirfd, const char *path)
{
	CKPT_FREE char *dir = strdup(path);

	for (char *at = dir; at && (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		state = add_state(state, dirfd, dir);
		*at = '/';
	}
	return state;
}

/* What a plain folder's tree hangs on: the state of the folder, and of each file it is made of. */
static uint64_t state_of(const struct folder *folder, const struct ckpt_views *views)
{
	struct stamps stamps = stamps_of(&folder->st);
	uint64_t state = ckpt_hash64(&stamps, sizeof(stamps));
	struct ckpt_view_source source;

	for (size_t i = 0; i < ckpt_views_source_count(views); i++) {
		int dirfd;

		ckpt_views_source(views, (uint32_t)i, &source);
		dirfd = source.is_outside ? folder->group_fd : folder->fd;
		state = add_dirs(state, dirfd, source.path);
		state = add_state(state, dirfd, source.path);
	}
	return state;
}

static void set_time(struct view_tree *tree, const struct folder *folder)
{
	if (!tree->cp) {
		tree->time = folder->st.st_mtim;
		return;
	}
	tree->time.tv_sec = tree->cp->row.manifest_mtime_ns / NS_PER_SEC;
	tree->time.tv_nsec = tree->cp->row.manifest_mtime_ns % NS_PER_SEC;
}

/* What messages call it: a path that their commands can be run with. */
static int make_label(struct fs *fs, const struct folder *folder, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, ckpt_store_path(fs->store));
	if (folder->name.len_bytes > 0)
		ckpt_buf_printf(out, "/%s", folder->name.data);
	return ckpt_buf_check(out);
}

static int tree_load(struct view_tree *tree, const struct ckpt_views_from *from,
		     struct ckpt_err *err)
{
	int rc = ckpt_views_load(from, &tree->views, err);

	if (rc == 0)
		rc = view_shards_new(tree->views, from, &tree->shards);
	if (rc == 0)
		rc = view_access_of(tree->views, from, &tree->access);
	if (rc < 0)
		return rc;
	tree->mapped = calloc(ckpt_views_node_count(tree->views) + 1, sizeof(*tree->mapped));
	return tree->mapped ? 0 : -ENOMEM;
}

static int tree_fill(struct fs *fs, struct view_tree *tree, const struct folder *folder,
		     struct ckpt_err *err)
{
	struct ckpt_views_from from = {
		.dirfd = folder->fd,
		.group_fd = folder->group_fd,
		.committed = tree->cp != NULL,
	};
	struct ckpt_buf label;
	int rc;

	ckpt_buf_init(&label);
	rc = make_label(fs, folder, &label);
	from.label = label.data;
	if (rc == 0)
		rc = tree_load(tree, &from, err);
	ckpt_buf_release(&label);
	if (rc < 0)
		return rc;
	tree->generation = tree->cp ? tree->cp->generation : state_of(folder, tree->views);
	set_time(tree, folder);
	return 0;
}

/*
 * Made of the state, so that a tree that was dropped meanwhile, and is the same when it is made
 * again, has the numbers that it had; but never that of the one before it.
 */
static void set_epoch(struct view_tree *tree, const struct view_tree *old)
{
	if (tree->cp)
		return;
	tree->epoch = (uint32_t)(tree->generation % NODE_EPOCHS);
	if (old && old->epoch == tree->epoch)
		tree->epoch = (tree->epoch + 1) % NODE_EPOCHS;
}

/* Takes over @cp on success. @old: what it replaces, or NULL. */
static int tree_new(struct fs *fs, const struct views_key *key, struct checkpoint *cp,
		    const struct folder *folder, const struct view_tree *old,
		    struct view_tree **out)
{
	struct view_tree *tree = calloc(1, sizeof(*tree));
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	if (!tree)
		return -ENOMEM;
	atomic_init(&tree->refs, 1);
	tree->ref = key->ref;
	tree->cp = cp;
	rc = tree_fill(fs, tree, folder, &err);
	if (rc == 0) {
		set_epoch(tree, old);
		*out = tree;
		return 0;
	}
	if (err.msg[0] != '\0')
		fs_log_once("views: %s", err.msg);
	tree->cp = NULL;
	view_tree_unref(tree);
	return rc;
}

/* The tree as it should be now: @old (may be NULL) where nothing has changed. */
static int renew(struct fs *fs, const struct views_key *key, struct view_tree *old,
		 struct view_tree **out)
{
	struct folder folder = { .fd = -1, .group_fd = -1 };
	struct checkpoint *cp = NULL;
	int rc = checkpoint_of(fs, key, &cp);

	ckpt_buf_init(&folder.name);
	if (rc == 0)
		rc = folder_open(fs, key, cp, &folder);
	if (rc == 0 && old &&
	    old->generation == (cp ? cp->generation : state_of(&folder, old->views)))
		*out = view_tree_ref(old);
	else if (rc == 0) {
		rc = tree_new(fs, key, cp, &folder, old, out);
		if (rc == 0)
			cp = NULL;
	}
	checkpoint_unref(cp);
	folder_release(&folder);
	return rc;
}

/* A place for a tree that is to be made; NULL: all are being filled. */
static struct kept *place_locked(struct views *views, const struct views_key *key)
{
	struct kept *place = NULL;

	for (size_t i = 0; i < KEPT_MAX; i++) {
		struct kept *kept = &views->kept[i];

		if (kept->loading)
			continue;
		if (!place || !kept->used || (place->used && kept->last_use < place->last_use))
			place = kept;
		if (!place->used)
			break;
	}
	if (place) {
		view_tree_unref(place->tree);
		*place = (struct kept){ .key = *key, .used = true };
	}
	return place;
}

/* The place to fill, marked as loading; NULL: somebody else has just filled it. */
static struct kept *begin_locked(struct views *views, const struct views_key *key,
				 const struct checkpoint *cp)
{
	struct kept *kept;

	for (;;) {
		kept = find_locked(views, key);
		if (kept && !kept->loading && is_fresh(kept, cp))
			return NULL;
		if (!kept)
			kept = place_locked(views, key);
		if (kept && !kept->loading)
			break;
		pthread_cond_wait(&views->loaded, &views->mu);
	}
	kept->loading = true;
	kept->last_use = ++views->clock;
	return kept;
}

void views_load(struct fs *fs, fuse_ino_t ino)
{
	struct views *views = fs->views;
	struct views_key key = key_of(ino);
	struct view_tree *tree = NULL;
	struct view_tree *old;
	struct checkpoint *cp = NULL;
	struct kept *kept;
	int rc = checkpoint_of(fs, &key, &cp);

	if (rc < 0)
		return; /* views_get() says the same */
	pthread_mutex_lock(&views->mu);
	kept = begin_locked(views, &key, cp);
	pthread_mutex_unlock(&views->mu);
	checkpoint_unref(cp);
	if (!kept)
		return;
	/* Nobody else touches a place that is loading. */
	old = kept->tree;
	rc = renew(fs, &key, old, &tree);
	pthread_mutex_lock(&views->mu);
	kept->tree = tree;
	kept->rc = rc;
	kept->looked_ms = ckpt_clock_mono_ms();
	kept->loading = false;
	pthread_cond_broadcast(&views->loaded);
	pthread_mutex_unlock(&views->mu);
	view_tree_unref(old);
}
