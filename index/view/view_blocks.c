/*
 * view_blocks.c - see view_blocks.h.
 *
 * A source without sums has blocks, too, for runs that are too short to be read one by one; those
 * are used again only while the file's stamps are the same. One lock, never held while reading; two
 * threads that want one block at once may both read it.
 */
#include "view/view_blocks.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/num.h"
#include "view/view_sources.h"

/* Bytes that are kept of files that are read in long runs, … */
#define KEEP_BYTES ((uint64_t)64 * 1024 * 1024)
/* … and where blocks are used by turns: columns of many ranks, a transposed matrix. */
#define KEEP_BYTES_WIDE ((uint64_t)256 * 1024 * 1024)
/* Blocks of small shards: there may be so many. */
#define KEEP_COUNT 4096
#define BUCKET_COUNT 1024

struct entry {
	uint32_t source;
	uint64_t block_idx;
	struct view_stamp stamp; /* of a source without sums */
	unsigned char *data;
	size_t len_bytes;
	uint32_t pins;
	bool dropped;	    /* to be freed with the last pin */
	struct entry *next; /* in its bucket */
	/* In the order of their use; NULL at the ends. */
	struct entry *newer;
	struct entry *older;
};

struct view_blocks {
	const struct ckpt_views *views;
	struct view_sources *sources;
	pthread_mutex_t mu;
	struct entry *buckets[BUCKET_COUNT]; /* protected by mu, and all below */
	uint64_t kept_bytes;
	size_t kept_count;
	uint64_t keep_bytes;
	struct entry *newest;
	struct entry *oldest;
};

int ckpt_view_blocks_new(const struct ckpt_views *views, const struct ckpt_views_from *from,
			 struct view_blocks **out, struct ckpt_err *err)
{
	struct view_blocks *blocks = calloc(1, sizeof(*blocks));
	int rc;

	if (!blocks)
		return ckpt_err_sys(err, -ENOMEM, "cannot read views of '%s'", from->label);
	rc = ckpt_view_sources_new(views, from, &blocks->sources, err);
	if (rc < 0) {
		free(blocks);
		return rc;
	}
	blocks->views = views;
	blocks->keep_bytes = KEEP_BYTES;
	pthread_mutex_init(&blocks->mu, NULL);
	*out = blocks;
	return 0;
}

static void free_entry(struct entry *entry)
{
	if (entry)
		free(entry->data);
	free(entry);
}

void ckpt_view_blocks_free(struct view_blocks *blocks)
{
	if (!blocks)
		return;
	for (size_t i = 0; i < BUCKET_COUNT; i++) {
		while (blocks->buckets[i]) {
			struct entry *entry = blocks->buckets[i];

			blocks->buckets[i] = entry->next;
			free_entry(entry);
		}
	}
	pthread_mutex_destroy(&blocks->mu);
	ckpt_view_sources_free(blocks->sources);
	free(blocks);
}

/* --- what is kept --------------------------------------------------------------------------- */

static struct entry **bucket_locked(struct view_blocks *blocks, uint32_t source, uint64_t block_idx)
{
	uint64_t mixed = (source * UINT64_C(0x9e3779b97f4a7c15)) ^
			 (block_idx * UINT64_C(0xc2b2ae3d27d4eb4f));

	return &blocks->buckets[(mixed >> 32) % BUCKET_COUNT];
}

static struct entry *find_locked(struct view_blocks *blocks, uint32_t source, uint64_t block_idx)
{
	struct entry *entry = *bucket_locked(blocks, source, block_idx);

	while (entry && (entry->source != source || entry->block_idx != block_idx))
		entry = entry->next;
	return entry;
}

static void unlink_locked(struct view_blocks *blocks, struct entry *entry)
{
	*(entry->newer ? &entry->newer->older : &blocks->newest) = entry->older;
	*(entry->older ? &entry->older->newer : &blocks->oldest) = entry->newer;
}

static void link_locked(struct view_blocks *blocks, struct entry *entry)
{
	entry->newer = NULL;
	entry->older = blocks->newest;
	*(entry->older ? &entry->older->newer : &blocks->oldest) = entry;
	blocks->newest = entry;
}

/* Take it out; it lives on while it is pinned. */
static void drop_locked(struct view_blocks *blocks, struct entry *entry)
{
	struct entry **slot = bucket_locked(blocks, entry->source, entry->block_idx);

	while (*slot != entry)
		slot = &(*slot)->next;
	*slot = entry->next;
	unlink_locked(blocks, entry);
	blocks->kept_bytes -= entry->len_bytes;
	blocks->kept_count--;
	if (entry->pins == 0)
		free_entry(entry);
	else
		entry->dropped = true;
}

/* Those that are in use stay, whatever they come to. */
static void make_room_locked(struct view_blocks *blocks)
{
	struct entry *entry = blocks->oldest;

	while (entry &&
	       (blocks->kept_bytes > blocks->keep_bytes || blocks->kept_count > KEEP_COUNT)) {
		struct entry *newer = entry->newer;

		if (entry->pins == 0)
			drop_locked(blocks, entry);
		entry = newer;
	}
}

/* Use a kept one once more. */
static void pin_locked(struct view_blocks *blocks, struct entry *entry)
{
	entry->pins++;
	if (blocks->newest != entry) {
		unlink_locked(blocks, entry);
		link_locked(blocks, entry);
	}
}

/* Keep @entry; where another thread was faster, its block is used instead. */
static struct entry *keep(struct view_blocks *blocks, struct entry *entry)
{
	struct entry *found;

	pthread_mutex_lock(&blocks->mu);
	found = find_locked(blocks, entry->source, entry->block_idx);
	if (found && memcmp(&found->stamp, &entry->stamp, sizeof(entry->stamp)) == 0) {
		free_entry(entry);
		entry = found;
	} else {
		struct entry **slot = bucket_locked(blocks, entry->source, entry->block_idx);

		if (found) {
			drop_locked(blocks, found);
			slot = bucket_locked(blocks, entry->source, entry->block_idx);
		}
		entry->next = *slot;
		*slot = entry;
		link_locked(blocks, entry);
		blocks->kept_bytes += entry->len_bytes;
		blocks->kept_count++;
	}
	pin_locked(blocks, entry);
	make_room_locked(blocks);
	pthread_mutex_unlock(&blocks->mu);
	return entry;
}

void ckpt_view_blocks_put(struct view_blocks *blocks, const struct view_block *block)
{
	struct entry *entry = block->entry;

	pthread_mutex_lock(&blocks->mu);
	assert(entry->pins > 0);
	if (--entry->pins == 0 && entry->dropped)
		free_entry(entry);
	pthread_mutex_unlock(&blocks->mu);
}

/* --- reading -------------------------------------------------------------------------------- */

static uint64_t block_bytes_of(const struct ckpt_view_source *info)
{
	return info->shard ? info->shard->block_bytes : CKPT_BLOCK_MIN;
}

/* A range of a source without sums. */
static int read_plain(struct view_blocks *blocks, const struct view_source *source,
		      const struct view_span *span, void *out, struct ckpt_err *err)
{
	const char *label = ckpt_view_sources_label(blocks->sources);
	size_t got = 0;
	int rc = ckpt_io_pread_full(source->fd, out, span->len_bytes, span->offset, &got);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s' of '%s' at byte %" PRIu64,
				    source->info.path, label, span->offset);
	if (got < span->len_bytes)
		return ckpt_err_set(err, -ESTALE,
				    "file '%s' of '%s' became shorter: it ends at byte %" PRIu64
				    "; look at the checkpoint anew",
				    source->info.path, label, span->offset + got);
	return 0;
}

static int load(struct view_blocks *blocks, struct view_source *source, uint64_t block_idx,
		const struct view_stamp *stamp, struct entry **out, struct ckpt_err *err)
{
	uint64_t block_bytes = block_bytes_of(&source->info);
	struct view_span span = { .source = source->idx, .offset = block_idx * block_bytes };
	struct entry *entry = calloc(1, sizeof(*entry));
	int rc = -ENOMEM;

	if (entry) {
		entry->source = source->idx;
		entry->block_idx = block_idx;
		entry->stamp = *stamp;
		span.len_bytes = num_min(block_bytes, source->info.size_bytes - span.offset);
		entry->len_bytes = span.len_bytes;
		entry->data = malloc(entry->len_bytes);
	}
	if (!entry || !entry->data)
		ckpt_err_sys(err, rc, "cannot read '%s'", source->info.path);
	else if (source->reader)
		rc = ckpt_shard_reader_block(source->reader, block_idx, entry->data,
					     &entry->len_bytes, NULL, err);
	else
		rc = read_plain(blocks, source, &span, entry->data, err);
	if (rc < 0) {
		free_entry(entry);
		return rc;
	}
	*out = keep(blocks, entry);
	return 0;
}

/* A kept block, pinned; NULL. Of a source without sums only while @stamp is the same. */
static struct entry *find_kept(struct view_blocks *blocks, uint32_t source, uint64_t block_idx,
			       const struct view_stamp *stamp, bool wide)
{
	struct entry *entry;

	pthread_mutex_lock(&blocks->mu);
	if (wide)
		blocks->keep_bytes = KEEP_BYTES_WIDE;
	entry = find_locked(blocks, source, block_idx);
	if (entry && memcmp(&entry->stamp, stamp, sizeof(*stamp)) != 0)
		entry = NULL;
	if (entry)
		pin_locked(blocks, entry);
	pthread_mutex_unlock(&blocks->mu);
	return entry;
}

static void hand_out(struct entry *entry, uint64_t block_bytes, struct view_block *out)
{
	*out = (struct view_block){ .data = entry->data,
				    .start_bytes = entry->block_idx * block_bytes,
				    .len_bytes = entry->len_bytes,
				    .entry = entry };
}

int ckpt_view_blocks_get(struct view_blocks *blocks, uint32_t source, uint64_t offset, bool wide,
			 struct view_block *out, struct ckpt_err *err)
{
	struct view_stamp stamp = { .mtime = { 0 } };
	struct ckpt_view_source info;
	struct view_source *opened = NULL;
	struct entry *entry = NULL;
	uint64_t block_bytes;
	int rc = 0;

	ckpt_views_source(blocks->views, source, &info);
	block_bytes = block_bytes_of(&info);
	if (!info.shard) {
		rc = ckpt_view_source_get(blocks->sources, source, &opened, err);
		if (rc == 0)
			rc = ckpt_view_source_check(blocks->sources, opened, &stamp, err);
	}
	if (rc == 0)
		entry = find_kept(blocks, source, offset / block_bytes, &stamp, wide);
	if (rc == 0 && !entry && !opened)
		rc = ckpt_view_source_get(blocks->sources, source, &opened, err);
	if (rc == 0 && !entry)
		rc = load(blocks, opened, offset / block_bytes, &stamp, &entry, err);
	if (opened)
		ckpt_view_source_put(blocks->sources, opened);
	if (rc == 0)
		hand_out(entry, block_bytes, out);
	return rc;
}

int ckpt_view_blocks_read(struct view_blocks *blocks, const struct view_span *span, void *out,
			  size_t *out_len, struct ckpt_err *err)
{
	struct ckpt_view_source info;
	struct view_source *opened;
	uint64_t block_bytes;
	int rc;

	*out_len = 0;
	ckpt_views_source(blocks->views, span->source, &info);
	block_bytes = block_bytes_of(&info);
	if (info.shard && (span->offset % block_bytes != 0 ||
			   span->len_bytes < num_min(block_bytes, info.size_bytes - span->offset)))
		return 0;
	rc = ckpt_view_source_get(blocks->sources, span->source, &opened, err);
	if (rc < 0)
		return rc;
	if (opened->reader) {
		rc = ckpt_shard_reader_block(opened->reader, span->offset / block_bytes, out,
					     out_len, NULL, err);
	} else {
		rc = read_plain(blocks, opened, span, out, err);
		*out_len = span->len_bytes;
	}
	ckpt_view_source_put(blocks->sources, opened);
	return rc;
}
