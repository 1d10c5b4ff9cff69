/*
 * view_shards.h - stored files that long runs of a view are sent from: each is opened, and verified
 * as it is when it is opened by itself, when the first byte of it is needed, and mapped. Given up
 * when nobody has a view of the tree open.
 */
#ifndef CKPT_FS_VIEW_SHARDS_H
#define CKPT_FS_VIEW_SHARDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "fs.h"
#include "request.h"
#include "view/view.h"

struct view_tree;
struct view_shards;

/** view_shards_new - @views must outlive it; descriptors of @from are duplicated. -ENOMEM, system. */
int view_shards_new(struct ckpt_views *views, const struct ckpt_views_from *from,
		    struct view_shards **out) CKPT_MUST_CHECK;
void view_shards_free(struct view_shards *shards);
/** view_shards_opened, _closed - somebody has a view open; with the last one all are closed. */
int view_shards_opened(struct view_shards *shards) CKPT_MUST_CHECK;
void view_shards_closed(struct view_shards *shards);

/** view_shards_label - STORE/NAME or DIR/NAME, as messages and their commands name it. */
const char *view_shards_label(const struct view_shards *shards);
/** view_shards_reader - for what cannot be sent so; while somebody has a view open. */
struct ckpt_view_reader *view_shards_reader(const struct view_shards *shards);

/* One that is in use. */
struct view_shard;

/**
 * view_shard_pin - the file of source @source, fit to be sent from
 * @rq:  runs in a worker; on RC_PARKED it waits for the verification
 * @out: view_shard_unpin() it. NULL: bytes of it have to be verified block by block, or it cannot be
 *       mapped: ckpt_view_read() gives them.
 * Errors: -EIO (logged); RC_LOAD_FIRST; -ESTALE; -ENOMEM.
 */
int view_shard_pin(struct request *rq, struct view_tree *tree, uint32_t source,
		   struct view_shard **out) CKPT_MUST_CHECK;
void view_shard_unpin(struct view_shards *shards, struct view_shard *shard);
/** view_shard_source - which one it is. */
uint32_t view_shard_source(const struct view_shard *shard);
/**
 * view_shard_at - its bytes from @offset on, mapped: whoever reads them here, and not by writev(2),
 * dies of a file that was truncated
 */
char *view_shard_at(const struct view_shard *shard, uint64_t offset);
/**
 * view_shards_sent - @len_bytes were sent; now and then pages are given back, so that what was read
 * once does not count as ours
 */
void view_shards_sent(struct view_shards *shards, uint64_t len_bytes);
/**
 * view_shards_tell_damage - look for the damage in these bytes of a shard, and log and count it as
 * that of a shard that is read by itself; false: there is none
 */
bool view_shards_tell_damage(struct fs *fs, const struct view_tree *tree, uint32_t source,
			     uint64_t first_byte, uint64_t end);

#endif
