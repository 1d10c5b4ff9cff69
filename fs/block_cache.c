/* block_cache.c - see block_cache.h. */
#include "block_cache.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/num.h"
#include "stamps.h"

enum block_state {
	BLOCK_READING,
	BLOCK_READY,
	BLOCK_FAILED,
};

struct block {
	/* Fixed once made. */
	uint64_t file_id;
	uint64_t idx;
	int64_t ctime_ns; /* of the stored file: what was read in another state of it is read again */
	/* Protected by the cache's mu. */
	struct block *next;
	enum block_state state;
	int rc; /* of BLOCK_FAILED */
	uint32_t pins;
	bool linked; /* in the list; else freed at the last unpin */
	uint64_t last_use;
	/* Written by the one that reads it, before BLOCK_READY; constant from then on. */
	size_t len_bytes;
	size_t cap_bytes;
	char *data;
};

struct block_cache {
	pthread_mutex_t mu;
	pthread_cond_t read; /* a block left BLOCK_READING */
	/* The rest is protected by mu. */
	struct block *first; /* a few dozen at most: searched one by one */
	size_t bytes;
	uint64_t clock; /* counts uses */
};

struct block_cache *block_cache_new(void)
{
	struct block_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	pthread_mutex_init(&cache->mu, NULL);
	pthread_cond_init(&cache->read, NULL);
	return cache;
}

static void block_free(struct block *block)
{
	free(block->data);
	free(block);
}

void block_cache_free(struct block_cache *cache)
{
	struct block *next;

	if (!cache)
		return;
	for (struct block *block = cache->first; block; block = next) {
		next = block->next;
		block_free(block);
	}
	pthread_cond_destroy(&cache->read);
	pthread_mutex_destroy(&cache->mu);
	free(cache);
}

static void unlink_locked(struct block_cache *cache, struct block *block)
{
	struct block **slot = &cache->first;

	while (*slot != block)
		slot = &(*slot)->next;
	*slot = block->next;
	block->linked = false;
	cache->bytes -= block->cap_bytes;
	if (block->pins == 0)
		block_free(block);
}

/* The block nobody uses that was used longest ago; NULL: all are in use. */
static struct block *oldest_locked(const struct block_cache *cache)
{
	struct block *oldest = NULL;

	for (struct block *block = cache->first; block; block = block->next) {
		if (block->pins == 0 && (!oldest || block->last_use < oldest->last_use))
			oldest = block;
	}
	return oldest;
}

/* Blocks in use may go beyond the limit: there are no more of them than workers hold. */
static void make_room_locked(struct block_cache *cache, size_t wanted_bytes)
{
	while (cache->bytes + wanted_bytes > BLOCK_CACHE_BYTES) {
		struct block *block = oldest_locked(cache);

		if (!block)
			return;
		unlink_locked(cache, block);
	}
}

/* Which block, in which state of its file. */
struct block_key {
	uint64_t file_id;
	uint64_t idx;
	int64_t ctime_ns;
};

static struct block *find_locked(const struct block_cache *cache, const struct block_key *key)
{
	struct block *block = cache->first;

	while (block && (block->file_id != key->file_id || block->idx != key->idx ||
			 block->ctime_ns != key->ctime_ns))
		block = block->next;
	return block;
}

/* A new block in state reading, pinned by us; NULL: no memory. */
static struct block *add_locked(struct block_cache *cache, const struct block_key *key,
				size_t cap_bytes)
{
	struct block *block = calloc(1, sizeof(*block));

	make_room_locked(cache, cap_bytes);
	if (block)
		block->data = malloc(cap_bytes);
	if (!block || !block->data) {
		free(block);
		return NULL;
	}
	block->file_id = key->file_id;
	block->idx = key->idx;
	block->ctime_ns = key->ctime_ns;
	block->cap_bytes = cap_bytes;
	block->pins = 1;
	block->linked = true;
	block->next = cache->first;
	cache->first = block;
	cache->bytes += cap_bytes;
	return block;
}

static int read_block(struct fs *fs, const struct committed_shard *shard, struct block *block)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_damage damage = { 0 };
	int rc = ckpt_shard_reader_block(shard->reader, block->idx, block->data, &block->len_bytes,
					 &damage, &err);

	if (rc == 0) {
		stats_add(&fs->stats.verified_bytes, block->len_bytes);
		return 0;
	}
	if (rc == -EBADMSG) {
		stats_add(&fs->stats.corrupt_blocks, 1);
		committed_log_damage(fs, shard, &damage);
	} else {
		fs_log_once("%s", err.msg);
	}
	return rc == -ENOMEM ? rc : -EIO;
}

static void settle(struct block_cache *cache, struct block *block, int rc)
{
	pthread_mutex_lock(&cache->mu);
	block->state = rc == 0 ? BLOCK_READY : BLOCK_FAILED;
	block->rc = rc;
	/* What failed is tried anew by who comes next; those who wait hold a pin. */
	if (rc < 0)
		unlink_locked(cache, block);
	pthread_cond_broadcast(&cache->read);
	pthread_mutex_unlock(&cache->mu);
}

static void unpin_locked(struct block *block)
{
	assert(block->pins > 0);
	if (--block->pins == 0 && !block->linked)
		block_free(block);
}

/* Wait for the one that reads it. */
static int wait_locked(struct block_cache *cache, struct block *block)
{
	int rc;

	while (block->state == BLOCK_READING)
		pthread_cond_wait(&cache->read, &cache->mu);
	rc = block->state == BLOCK_FAILED ? block->rc : 0;
	if (rc < 0)
		unpin_locked(block);
	return rc;
}

static int find_state(const struct committed_shard *shard, struct block_key *key)
{
	struct stat st;
	int rc = ckpt_io_fstat(ckpt_shard_reader_fd(shard->reader, NULL), &st);

	if (rc == 0)
		key->ctime_ns = stamps_of(&st).ctime_ns;
	return rc;
}

int block_pin(struct fs *fs, uint64_t file_id, const struct committed_shard *shard,
	      uint64_t block_idx, struct block **out)
{
	struct block_cache *cache = fs->blocks;
	size_t cap_bytes = (size_t)num_min(shard->shard.block_bytes, shard->shard.size_bytes);
	struct block_key key = { .file_id = file_id, .idx = block_idx };
	struct block *block;
	bool found;
	int rc = find_state(shard, &key);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&cache->mu);
	block = find_locked(cache, &key);
	found = block != NULL;
	if (found) {
		block->pins++;
		rc = wait_locked(cache, block);
	} else {
		block = add_locked(cache, &key, cap_bytes);
	}
	if (block && rc == 0)
		block->last_use = ++cache->clock;
	pthread_mutex_unlock(&cache->mu);
	stats_add(found ? &fs->stats.block_hits : &fs->stats.block_misses, 1);
	if (!block)
		return -ENOMEM;
	if (!found) {
		rc = read_block(fs, shard, block);
		settle(cache, block, rc);
		if (rc < 0)
			block_unpin(fs, block);
	}
	if (rc == 0)
		*out = block;
	return rc;
}

void block_unpin(struct fs *fs, struct block *block)
{
	pthread_mutex_lock(&fs->blocks->mu);
	unpin_locked(block);
	pthread_mutex_unlock(&fs->blocks->mu);
}

char *block_data(struct block *block)
{
	return block->data;
}

size_t block_len(const struct block *block)
{
	return block->len_bytes;
}

void block_cache_drop(struct fs *fs, uint64_t file_id)
{
	struct block_cache *cache = fs->blocks;
	struct block *next;

	pthread_mutex_lock(&cache->mu);
	for (struct block *block = cache->first; block; block = next) {
		next = block->next;
		if (block->file_id == file_id)
			unlink_locked(cache, block);
	}
	pthread_mutex_unlock(&cache->mu);
}
