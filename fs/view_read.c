/*
 * view_read.c - see view_read.h.
 *
 * Long runs of verified files are not copied here: the reply is put together from mappings of them,
 * and the kernel moves the bytes once. It finds out by itself that a mapped file was truncated, and
 * answers EIO then. Everything else, short runs and blocks that have to be verified as they are
 * used, is copied by ckpt_view_read().
 */
#include "view_read.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/num.h"
#include "buffers.h"
#include "node.h"
#include "open_file.h"
#include "view_nodes.h"
#include "view_shards.h"
#include "view_trees.h"

/* Parts of one reply: writev(2) takes 1024, one is its header. */
#define PIECES_MAX 1023U
/* Files in one reply. */
#define PINS_MAX 256U
/* Of shorter parts on average a copy is quicker (measured). */
#define PART_MIN_BYTES 2048U
/* So few may be as short as they are. */
#define PARTS_FREE 8U

struct view_open {
	struct view_tree *tree;
	struct ckpt_view_file *file;
	_Atomic bool *mapped; /* the tree's */
};

int view_open_new(struct fs *fs, fuse_ino_t ino, struct view_open **out, struct stat *shown)
{
	struct view_open *view = calloc(1, sizeof(*view));
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = view ? view_attr(fs, ino, shown) : -ENOMEM;

	if (rc == 0)
		rc = views_get(fs, ino, &view->tree);
	if (rc == 0) {
		rc = ckpt_view_file_open(view->tree->views, node_view_idx(ino), &view->file, &err);
		if (rc < 0 && rc != -EISDIR && rc != -ENOENT)
			fs_log_once("%s", err.msg);
	}
	if (rc == 0)
		rc = view_shards_opened(view->tree->shards);
	if (rc < 0) {
		if (view) {
			ckpt_view_file_close(view->file);
			view_tree_unref(view->tree);
		}
		free(view);
		return rc;
	}
	assert(view->tree);
	view->mapped = &view->tree->mapped[node_view_idx(ino)];
	*out = view;
	return 0;
}

void view_open_free(struct view_open *view)
{
	if (!view)
		return;
	view_shards_closed(view->tree->shards);
	ckpt_view_file_close(view->file);
	view_tree_unref(view->tree);
	free(view);
}

uint64_t view_open_generation(const struct view_open *view)
{
	return view->tree->generation;
}

bool view_is_mapped(const struct view_open *view)
{
	return atomic_load(view->mapped);
}

/* --- sent from where they lie --------------------------------------------------------------- */

struct reply {
	struct ckpt_view_piece pieces[PIECES_MAX];
	struct iovec iov[PIECES_MAX];
	size_t count;
	size_t len_bytes;
	struct view_shard *pins[PINS_MAX];
	size_t pin_count;
};

static bool is_worth_it(const struct reply *reply)
{
	for (size_t i = 0; i < reply->count; i++) {
		if (reply->pieces[i].run_count > 1)
			return false;
	}
	return reply->count <= PARTS_FREE || reply->len_bytes / reply->count >= PART_MIN_BYTES;
}

/* The file of a source, pinned once a reply; NULL: it is to be read in the other way. */
static int pin(struct request *rq, struct view_tree *tree, struct reply *reply, uint32_t source,
	       struct view_shard **out)
{
	int rc;

	/* Those of a column by turns: the one before last, and so on. */
	for (size_t i = reply->pin_count; i > 0; i--) {
		*out = reply->pins[i - 1];
		if (view_shard_source(*out) == source)
			return 0;
	}
	*out = NULL;
	if (reply->pin_count == PINS_MAX)
		return 0;
	rc = view_shard_pin(rq, tree, source, out);
	if (rc == 0 && *out)
		reply->pins[reply->pin_count++] = *out;
	return rc;
}

static int gather(struct request *rq, struct view_tree *tree, struct reply *reply, bool *out_all)
{
	*out_all = false;
	for (size_t i = 0; i < reply->count; i++) {
		const struct ckpt_view_piece *piece = &reply->pieces[i];
		struct view_shard *shard = NULL;
		int rc = 0;

		reply->iov[i].iov_len = piece->run_bytes;
		/* iovec has no const. NOLINTNEXTLINE(performance-no-int-to-ptr) */
		reply->iov[i].iov_base = (void *)(uintptr_t)piece->memory;
		if (piece->memory)
			continue;
		rc = pin(rq, tree, reply, piece->source, &shard);
		if (rc != 0 || !shard)
			return rc;
		reply->iov[i].iov_base = view_shard_at(shard, piece->offset_bytes);
	}
	*out_all = true;
	return 0;
}

static void count_read(struct request *rq, size_t len_bytes)
{
	stats_add(&rq->fs->stats.read_requests, 1);
	stats_add(&rq->fs->stats.read_bytes, len_bytes);
}

static void send_gathered(struct request *rq, const struct view_tree *tree,
			  const struct reply *reply)
{
	int rc;

	count_read(rq, reply->len_bytes);
	if (!request_claim(rq))
		return;
	rc = fuse_reply_iov(rq->req, reply->iov, (int)reply->count);
	/* The kernel has answered EIO. */
	if (rc == -EFAULT)
		fs_log_once("a stored file of '%s' became shorter while a view was read; %s",
			    view_shards_label(tree->shards),
			    tree->cp ? "'ckptfs verify' tells which" : "open its views anew");
	view_shards_sent(tree->shards, reply->len_bytes);
}

/* *@out_done: it is answered. */
static int try_gather(struct request *rq, struct view_open *view, size_t len_bytes, bool *out_done)
{
	struct reply *reply = malloc(sizeof(*reply));
	bool all = false;
	int rc = 0;

	*out_done = false;
	if (!reply)
		return -ENOMEM;
	reply->pin_count = 0;
	reply->len_bytes = ckpt_view_map(view->file, rq->offset, len_bytes, reply->pieces,
					 PIECES_MAX, &reply->count);
	if (reply->len_bytes == len_bytes && is_worth_it(reply))
		rc = gather(rq, view->tree, reply, &all);
	if (rc == 0 && all) {
		send_gathered(rq, view->tree, reply);
		*out_done = true;
	}
	while (reply->pin_count > 0)
		view_shard_unpin(view->tree->shards, reply->pins[--reply->pin_count]);
	free(reply);
	return rc;
}

/* --- copied --------------------------------------------------------------------------------- */

/* A block was not what it should be: tell of it as of any damage of a shard. */
static bool tell_damage(struct request *rq, const struct view_open *view, size_t len_bytes)
{
	uint64_t offset = rq->offset;
	uint64_t end = offset + len_bytes;
	struct ckpt_view_piece piece;
	size_t count;

	while (offset < end) {
		offset += ckpt_view_map(view->file, offset, end - offset, &piece, 1, &count);
		if (count == 0)
			break;
		if (!piece.memory &&
		    view_shards_tell_damage(rq->fs, view->tree, piece.source, piece.offset_bytes,
					    piece.offset_bytes +
						    (piece.run_count - 1) * piece.stride_bytes +
						    piece.run_bytes))
			return true;
	}
	return false;
}

static int copy(struct request *rq, struct view_open *view, size_t len_bytes)
{
	struct ckpt_view_room room = { .data = buffer_get(len_bytes), .len_bytes = len_bytes };
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	if (!room.data)
		return -ENOMEM;
	rc = ckpt_view_read(view_shards_reader(view->tree->shards), view->file, rq->offset, &room,
			    &err);
	if (rc == 0) {
		count_read(rq, room.got_bytes);
		if (view->tree->cp)
			stats_add(&rq->fs->stats.verified_bytes, room.got_bytes);
		if (request_claim(rq))
			ckpt_ignore(fuse_reply_buf(rq->req, room.data, room.got_bytes));
	} else if (rc != -EBADMSG || !view->tree->cp || !tell_damage(rq, view, len_bytes)) {
		fs_log_once("%s", err.msg);
	}
	buffer_put(room.data, len_bytes);
	return rc < 0 && rc != -ENOMEM ? -EIO : rc;
}

int view_read(struct request *rq, struct view_open *view)
{
	uint64_t size_bytes = ckpt_view_file_size(view->file);
	uint64_t offset = num_min(rq->offset, size_bytes);
	size_t len_bytes = (size_t)num_min(rq->size_bytes, size_bytes - offset);
	bool done = false;
	int rc;

	/* Reads past the page cache come with their process's lock owner, those of pages do not. */
	if (rq->fi.lock_owner == 0)
		atomic_store(view->mapped, true);
	if (len_bytes == 0) {
		if (request_claim(rq))
			ckpt_ignore(fuse_reply_buf(rq->req, NULL, 0));
		return 0;
	}
	rc = try_gather(rq, view, len_bytes, &done);
	return rc != 0 || done ? rc : copy(rq, view, len_bytes);
}
