/* view_shards.c - see view_shards.h. */
#include "view_shards.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "block_cache.h"
#include "committed.h"
#include "node.h"
#include "shard_open.h"
#include "store/store.h"
#include "verified.h"
#include "view_trees.h"

/* Files that stay open beside those in use, of one tree. */
#define OPEN_MAX_COUNT 256U
/* Bytes that are sent before pages are given back. */
#define PAGES_MAX_BYTES (64 * CKPT_MIB)

struct view_shard {
	struct view_shard *next; /* protected by mu, as what follows */
	uint32_t pins;
	uint64_t last_use;
	bool linked;
	/* Fixed once made. */
	uint32_t source;
	int fd;				/* of an unverified one; else -1 */
	struct committed_shard *stored; /* of a committed one; else NULL */
	struct shard_key key;
	struct stamps stamps;
	char *map; /* NULL: an empty file, or one that is part of a pack */
	uint64_t size_bytes;
	_Atomic bool trusted;
};

struct view_shards {
	struct ckpt_views *views;
	char *label;
	int dirfd;
	int group_fd;
	pthread_mutex_t mu;
	/* Protected by mu. */
	struct view_shard *first;
	size_t count;
	size_t users;
	struct ckpt_view_reader *reader; /* while there are users */
	uint64_t clock;
	_Atomic uint64_t sent_bytes;
};

int view_shards_new(struct ckpt_views *views, const struct ckpt_views_from *from,
		    struct view_shards **out)
{
	struct view_shards *shards = calloc(1, sizeof(*shards));

	if (!shards)
		return -ENOMEM;
	shards->views = views;
	pthread_mutex_init(&shards->mu, NULL);
	shards->dirfd = fcntl(from->dirfd, F_DUPFD_CLOEXEC, 0);
	shards->group_fd = from->group_fd < 0 ? -1 : fcntl(from->group_fd, F_DUPFD_CLOEXEC, 0);
	shards->label = strdup(from->label);
	if (!shards->label || shards->dirfd < 0 || (from->group_fd >= 0 && shards->group_fd < 0)) {
		int rc = shards->label ? -errno : -ENOMEM;

		view_shards_free(shards);
		return rc;
	}
	*out = shards;
	return 0;
}

static void shard_free(struct view_shard *shard)
{
	if (shard->map)
		munmap(shard->map, shard->size_bytes);
	if (shard->fd >= 0)
		close(shard->fd);
	committed_shard_unref(shard->stored);
	free(shard);
}

static void unlink_locked(struct view_shards *shards, struct view_shard *shard)
{
	struct view_shard **place = &shards->first;

	while (*place != shard)
		place = &(*place)->next;
	*place = shard->next;
	shard->linked = false;
	shards->count--;
}

/* All of them, but for those in use, which go with their last pin. */
static void drop_all_locked(struct view_shards *shards)
{
	while (shards->first) {
		struct view_shard *shard = shards->first;

		unlink_locked(shards, shard);
		if (shard->pins == 0)
			shard_free(shard);
	}
}

void view_shards_free(struct view_shards *shards)
{
	if (!shards)
		return;
	drop_all_locked(shards);
	ckpt_view_reader_free(shards->reader);
	free(shards->label);
	if (shards->dirfd >= 0)
		close(shards->dirfd);
	if (shards->group_fd >= 0)
		close(shards->group_fd);
	pthread_mutex_destroy(&shards->mu);
	free(shards);
}

int view_shards_opened(struct view_shards *shards)
{
	const struct ckpt_views_from from = {
		.dirfd = shards->dirfd,
		.group_fd = shards->group_fd,
		.label = shards->label,
	};
	int rc = 0;

	pthread_mutex_lock(&shards->mu);
	if (!shards->reader)
		rc = ckpt_view_reader_new(shards->views, &from, &shards->reader, NULL);
	if (rc == 0)
		shards->users++;
	pthread_mutex_unlock(&shards->mu);
	return rc;
}

void view_shards_closed(struct view_shards *shards)
{
	struct ckpt_view_reader *reader = NULL;

	pthread_mutex_lock(&shards->mu);
	assert(shards->users > 0);
	if (--shards->users == 0) {
		drop_all_locked(shards);
		reader = shards->reader;
		shards->reader = NULL;
	}
	pthread_mutex_unlock(&shards->mu);
	/* Whoever reads has the view open: it is used no more. */
	ckpt_view_reader_free(reader);
}

const char *view_shards_label(const struct view_shards *shards)
{
	return shards->label;
}

struct ckpt_view_reader *view_shards_reader(const struct view_shards *shards)
{
	return shards->reader;
}

/* --- opening -------------------------------------------------------------------------------- */

/* Nothing is known to verify it with: it has to be the size it was. */
static int open_unverified(struct view_shards *shards, const struct ckpt_view_source *source,
			   struct view_shard *shard)
{
	struct stat st;
	int rc = ckpt_io_open_beneath(source->is_outside ? shards->group_fd : shards->dirfd,
				      source->path, O_RDONLY | O_NONBLOCK, 0);

	if (rc < 0)
		return rc == -ENOENT ? -ESTALE : rc;
	shard->fd = rc;
	rc = ckpt_io_fstat(shard->fd, &st);
	if (rc == 0 && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != source->size_bytes))
		rc = -ESTALE;
	atomic_store(&shard->trusted, true);
	return rc;
}

/* The node of a shard that bytes come from. */
static fuse_ino_t shard_ino(const struct view_tree *tree, const struct ckpt_view_source *source)
{
	const struct ckpt_manifest *manifest = ckpt_views_manifest(tree->views);
	uint64_t line = NODE_TOP_LINE + 1 + manifest->dir_count + source->shard_idx;

	return node_committed(tree->ref, (uint32_t)line);
}

static int open_verified(struct request *rq, const struct view_tree *tree,
			 const struct ckpt_view_source *source, struct view_shard *shard)
{
	struct open_want want = { .fd = -1 };
	fuse_ino_t ino = shard_ino(tree, source);
	int rc = shard_open(rq, ino, &want);

	if (rc == 0 && strcmp(want.shard->shard.path, source->path) != 0)
		rc = -ESTALE;
	if (rc != 0) {
		committed_shard_unref(want.shard);
		return rc;
	}
	shard->stored = want.shard;
	shard->stamps = want.stamps;
	shard->key = (struct shard_key){ .ino = ino, .generation = want.shard->cp->generation };
	atomic_store(&shard->trusted, want.trusted && !source->shard->pack);
	return 0;
}

static int shard_fd(const struct view_shard *shard)
{
	return shard->stored ? ckpt_shard_reader_fd(shard->stored->reader, NULL) : shard->fd;
}

/* What cannot be mapped is read in another way. */
static void map_it(struct view_shard *shard)
{
	void *map;

	if (shard->size_bytes == 0 || (shard->stored && shard->stored->shard.pack))
		return;
	map = mmap(NULL, shard->size_bytes, PROT_READ, MAP_SHARED, shard_fd(shard), 0);
	shard->map = map == MAP_FAILED ? NULL : map;
}

static int shard_new(struct request *rq, struct view_tree *tree, uint32_t source,
		     struct view_shard **out)
{
	struct view_shard *shard = calloc(1, sizeof(*shard));
	struct ckpt_view_source info;
	int rc;

	if (!shard)
		return -ENOMEM;
	ckpt_views_source(tree->views, source, &info);
	shard->source = source;
	shard->fd = -1;
	shard->size_bytes = info.size_bytes;
	shard->pins = 1;
	rc = info.shard ? open_verified(rq, tree, &info, shard)
			: open_unverified(tree->shards, &info, shard);
	if (rc != 0) {
		shard_free(shard);
		return rc;
	}
	map_it(shard);
	*out = shard;
	return 0;
}

/* --- pins ----------------------------------------------------------------------------------- */

static struct view_shard *find_locked(struct view_shards *shards, uint32_t source)
{
	struct view_shard *shard = shards->first;

	while (shard && shard->source != source)
		shard = shard->next;
	if (shard) {
		shard->pins++;
		shard->last_use = ++shards->clock;
	}
	return shard;
}

/* Close the one that nobody uses that was used longest ago; where all are in use there are more. */
static void make_room_locked(struct view_shards *shards)
{
	struct view_shard *oldest = NULL;

	if (shards->count < OPEN_MAX_COUNT)
		return;
	for (struct view_shard *at = shards->first; at; at = at->next) {
		if (at->pins == 0 && (!oldest || at->last_use < oldest->last_use))
			oldest = at;
	}
	if (oldest) {
		unlink_locked(shards, oldest);
		shard_free(oldest);
	}
}

static void add_locked(struct view_shards *shards, struct view_shard *shard)
{
	make_room_locked(shards);
	shard->last_use = ++shards->clock;
	/* A reader may outlive the last close. */
	if (shards->users == 0)
		return;
	shard->next = shards->first;
	shards->first = shard;
	shard->linked = true;
	shards->count++;
}

/* A large one is verified behind those who read it. */
static bool is_trusted(struct fs *fs, struct view_shard *shard)
{
	if (atomic_load(&shard->trusted))
		return true;
	if (shard->stored->shard.pack || fs->options->verify == VERIFY_READ ||
	    verified_ask(fs->verified, &shard->key, &shard->stamps) != TRUST_GOOD)
		return false;
	atomic_store(&shard->trusted, true);
	return true;
}

/* A stored file that is shorter now is damage; a mapping would show zeros at its end. */
static int check_length(const struct view_tree *tree, const struct view_shard *shard)
{
	struct ckpt_view_source source;
	struct stat st;
	int rc = ckpt_io_fstat(shard_fd(shard), &st);

	if (rc < 0 || (uint64_t)st.st_size >= shard->size_bytes)
		return rc;
	ckpt_views_source(tree->views, shard->source, &source);
	if (tree->cp)
		fs_log_once("shard '%s/%s' has become shorter in the store; run 'ckptfs verify %s'",
			    tree->shards->label, source.path, tree->shards->label);
	else
		fs_log_once("file '%s/%s' has become shorter; open its views anew",
			    tree->shards->label, source.path);
	return -EIO;
}

int view_shard_pin(struct request *rq, struct view_tree *tree, uint32_t source,
		   struct view_shard **out)
{
	struct view_shards *shards = tree->shards;
	struct view_shard *shard;
	int rc = 0;

	*out = NULL;
	pthread_mutex_lock(&shards->mu);
	shard = find_locked(shards, source);
	pthread_mutex_unlock(&shards->mu);
	if (!shard) {
		rc = shard_new(rq, tree, source, &shard);
		if (rc != 0)
			return rc;
		/* Two may open the same one at once; both are kept, and go in their time. */
		pthread_mutex_lock(&shards->mu);
		add_locked(shards, shard);
		pthread_mutex_unlock(&shards->mu);
	}
	if (shard->map && is_trusted(rq->fs, shard))
		rc = check_length(tree, shard);
	if (rc == 0 && shard->map && atomic_load(&shard->trusted))
		*out = shard;
	else
		view_shard_unpin(shards, shard);
	return rc;
}

void view_shard_unpin(struct view_shards *shards, struct view_shard *shard)
{
	bool last;

	pthread_mutex_lock(&shards->mu);
	last = --shard->pins == 0 && !shard->linked;
	pthread_mutex_unlock(&shards->mu);
	if (last)
		shard_free(shard);
}

uint32_t view_shard_source(const struct view_shard *shard)
{
	return shard->source;
}

char *view_shard_at(const struct view_shard *shard, uint64_t offset)
{
	assert(offset < shard->size_bytes);
	return shard->map + offset;
}

void view_shards_sent(struct view_shards *shards, uint64_t len_bytes)
{
	if (atomic_fetch_add(&shards->sent_bytes, len_bytes) + len_bytes < PAGES_MAX_BYTES)
		return;
	atomic_store(&shards->sent_bytes, 0);
	pthread_mutex_lock(&shards->mu);
	for (struct view_shard *shard = shards->first; shard; shard = shard->next) {
		/* They stay in the page cache; who needs them here finds them there. */
		if (shard->map)
			ckpt_ignore(madvise(shard->map, shard->size_bytes, MADV_DONTNEED));
	}
	pthread_mutex_unlock(&shards->mu);
}

bool view_shards_tell_damage(struct fs *fs, const struct view_tree *tree, uint32_t source,
			     uint64_t first_byte, uint64_t end)
{
	/* Numbers of open files are counted up from 1, these down. */
	static _Atomic uint64_t next_id = UINT64_MAX;
	uint64_t id = atomic_fetch_sub(&next_id, 1);
	struct committed_shard *shard = NULL;
	struct ckpt_view_source info;
	int rc = 0;

	ckpt_views_source(tree->views, source, &info);
	if (!info.shard || committed_shard_open(fs, shard_ino(tree, &info), &shard) != 0)
		return false;
	for (uint64_t idx = first_byte / shard->shard.block_bytes;
	     rc == 0 && idx * shard->shard.block_bytes < end; idx++) {
		struct block *block = NULL;

		rc = block_pin(fs, id, shard, idx, &block);
		if (rc == 0)
			block_unpin(fs, block);
	}
	block_cache_drop(fs, id);
	committed_shard_unref(shard);
	return rc < 0;
}
