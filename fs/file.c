/*
 * file.c - open, read, release: when a shard is verified, and who reads it.
 *
 * Every read of stored bytes that comes here happens in a worker, with pread(2):
 * a file that is truncated behind the mount answers an error, where a mapping of
 * it would kill the daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/io.h"
#include "base/num.h"
#include "block_cache.h"
#include "buffers.h"
#include "node.h"
#include "open_file.h"
#include "ops.h"
#include "passthrough.h"
#include "request.h"
#include "shard_check.h"
#include "verified.h"

/*
 * Blocks that one read can touch: the kernel asks for 1 MiB at most, a block has at least that.
 * Twice, to be safe.
 */
#define READ_BLOCKS_MAX 4U

static struct open_file *file_of(const struct fuse_file_info *fi)
{
	/* libfuse keeps it as a number. NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (struct open_file *)(uintptr_t)fi->fh;
}

/* --- open --------------------------------------------------------------------------------- */

/* Has every block to be right before the first byte of it is read? */
static bool is_verified_whole(const struct fs *fs, uint64_t size_bytes)
{
	return fs->options->verify == VERIFY_OPEN ||
	       (fs->options->verify == VERIFY_AUTO && size_bytes <= fs->options->verify_open_max);
}

static int verify_whole(struct request *rq, const struct check_order *order, struct open_want *want)
{
	int rc;

	if (rq->was_checked && stamps_equal(&rq->checked_stamps, &want->stamps))
		rc = rq->checked_rc;
	else
		rc = shard_check_wait(order, rq);
	want->trusted = rc == 0;
	return rc;
}

/* Which of its bytes have been verified, and which are to be? */
static int verify_shard(struct request *rq, struct open_want *want)
{
	struct fs *fs = rq->fs;
	const struct ckpt_shard *shard = &want->shard->shard;
	const struct check_order order = {
		.key = { .ino = rq->ino, .generation = want->shard->cp->generation },
		.stamps = want->stamps,
		.shard = want->shard,
	};
	enum trust trust;

	want->trusted = fs->options->verify == VERIFY_OFF || shard->size_bytes == 0;
	if (want->trusted || shard->pack || fs->options->verify == VERIFY_READ)
		return 0;
	trust = verified_ask(fs->verified, &order.key, &want->stamps);
	want->trusted = trust == TRUST_GOOD;
	if (trust != TRUST_NONE)
		return trust == TRUST_BAD ? -EIO : 0;
	/* A thread of libfuse must not read shards. */
	if (!rq->queued)
		return RC_WORKER;
	if (is_verified_whole(fs, shard->size_bytes))
		return verify_whole(rq, &order, want);
	/*
	 * A large one: what is read is verified by the block, and meanwhile all of it behind that.
	 */
	want->direct = true;
	shard_check_behind(fs, &order);
	return 0;
}

static int open_shard(struct request *rq, struct open_want *want)
{
	struct stat st;
	int rc = committed_shard_open(rq->fs, rq->ino, &want->shard);

	if (rc == 0)
		rc = ckpt_io_fstat(ckpt_shard_reader_fd(want->shard->reader, NULL), &st);
	if (rc != 0)
		return rc;
	want->stamps = stamps_of(&st);
	return verify_shard(rq, want);
}

/* What the kernel may do with the bytes by itself. */
static void agree(struct request *rq, const struct open_file *file, const struct open_want *want)
{
	struct fs *fs = rq->fs;
	const struct shard_key key = {
		.ino = rq->ino,
		.generation = want->shard ? want->shard->cp->generation : 0,
	};

	rq->fi.fh = (uintptr_t)file;
	if (file->backing_id > 0) {
		rq->fi.direct_io = want->direct;
		return;
	}
	/*
	 * Else its pages are kept for as long as the stored file does not change: replies past the
	 * page cache are
	 * faster the first time only, and each mapping of the file would fill it anew (measured).
	 */
	rq->fi.direct_io = file->is_live;
	if (file->content == CONTENT_SHARD && fs->options->verify == VERIFY_READ)
		rq->fi.direct_io = passthrough_direct_mmap();
	if (!file->is_live && node_class(rq->ino) != NODE_PLAIN)
		rq->fi.keep_cache =
			verified_keeps_pages(fs->verified, &key,
					     want->shard ? &want->stamps : &file->stamps) &&
			fs->options->verify != VERIFY_READ;
}

static void reply_open(struct request *rq, struct open_file *file, const struct open_want *want)
{
	bool told = false;

	stats_add(file->is_virtual ? &rq->fs->stats.opens_virtual : &rq->fs->stats.opens_file, 1);
	agree(rq, file, want);
	if (request_claim(rq)) {
		told = (file->backing_id > 0
				? passthrough_reply_open(rq->req, &rq->fi, file->backing_id)
				: fuse_reply_open(rq->req, &rq->fi)) >= 0;
	}
	/* Where the reply does not arrive, no release will come. */
	if (!told)
		open_file_put(rq->fs, file);
}

static int run_open(struct request *rq)
{
	struct open_want want = { .direct = (rq->fi.flags & O_DIRECT) != 0 };
	struct open_file *file = NULL;
	int rc = node_class(rq->ino) == NODE_COMMITTED ? open_shard(rq, &want) : 0;

	if (rc == 0)
		rc = open_file_get(rq->fs, rq->ino, &want, &file);
	if (rc == 0)
		reply_open(rq, file, &want);
	committed_shard_unref(want.shard);
	return rc == -ENOENT ? -ESTALE : rc;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;

	if ((fi->flags & O_ACCMODE) != O_RDONLY) {
		ckpt_ignore(fuse_reply_err(req, EROFS));
		return;
	}
	request_init(&rq, req, ino, run_open);
	rq.fi = *fi;
	/* A text may take long to make. What is verified is opened here: as quick as a look-up. */
	if (node_class(ino) == NODE_VIRTUAL)
		request_submit(&rq, LANE_READS);
	else
		request_run(&rq);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	open_file_put(fs_of(req), file_of(fi));
	ckpt_ignore(fuse_reply_err(req, 0));
}

/* --- read --------------------------------------------------------------------------------- */

static void count_read(struct request *rq, size_t len_bytes)
{
	if (rq->file->is_control)
		return;
	stats_add(&rq->fs->stats.read_requests, 1);
	stats_add(&rq->fs->stats.read_bytes, len_bytes);
}

static int read_text(struct request *rq)
{
	const struct ckpt_buf *text = &rq->file->text;
	size_t at = (size_t)num_min(rq->offset, text->len_bytes);

	if (request_claim(rq))
		ckpt_ignore(fuse_reply_buf(rq->req, text->data + at,
					   num_min(rq->size_bytes, text->len_bytes - at)));
	return 0;
}

/* @len_bytes of a stored file at @offset; fewer are an answer where it may end anywhere. */
static int read_bytes(struct request *rq, int fd, uint64_t offset, size_t len_bytes, bool all)
{
	char *data = buffer_get(len_bytes);
	size_t got = 0;
	int rc;

	if (!data)
		return -ENOMEM;
	rc = ckpt_io_pread_full(fd, data, len_bytes, offset, &got);
	if (rc == 0 && all && got < len_bytes)
		rc = -EIO;
	if (rc == 0) {
		count_read(rq, got);
		if (request_claim(rq))
			ckpt_ignore(fuse_reply_buf(rq->req, data, got));
	}
	buffer_put(data, len_bytes);
	return rc;
}

static int read_stored(struct request *rq)
{
	return read_bytes(rq, rq->file->fd, rq->offset, rq->size_bytes, false);
}

/*
 * Verified before it was opened. A stored file that is shorter now is damage: the log names it at
 * the next open.
 */
static int read_trusted(struct request *rq)
{
	const struct committed_shard *shard = rq->file->shard;
	uint64_t at = num_min(rq->offset, shard->shard.size_bytes);
	uint64_t base = 0;
	int fd = ckpt_shard_reader_fd(shard->reader, &base);

	return read_bytes(rq, fd, base + at,
			  (size_t)num_min(rq->size_bytes, shard->shard.size_bytes - at), true);
}

/* A reply that is sent out of the cache itself. */
struct shard_reply {
	struct block *blocks[READ_BLOCKS_MAX];
	struct iovec iov[READ_BLOCKS_MAX];
	int count;
	size_t len_bytes;
};

static int add_block(struct request *rq, uint64_t at, uint64_t end, struct shard_reply *reply)
{
	const struct open_file *file = rq->file;
	uint64_t block_bytes = file->shard->shard.block_bytes;
	struct block *block = NULL;
	size_t skip = (size_t)(at % block_bytes);
	int rc = block_pin(rq->fs, file->id, file->shard, at / block_bytes, &block);

	if (rc < 0)
		return rc;
	reply->blocks[reply->count] = block;
	reply->iov[reply->count].iov_base = block_data(block) + skip;
	reply->iov[reply->count].iov_len = (size_t)num_min(block_len(block) - skip, end - at);
	reply->len_bytes += reply->iov[reply->count].iov_len;
	reply->count++;
	return 0;
}

static int read_shard(struct request *rq)
{
	const struct ckpt_shard *shard = &rq->file->shard->shard;
	uint64_t at = num_min(rq->offset, shard->size_bytes);
	uint64_t end = at + num_min(rq->size_bytes, shard->size_bytes - at);
	struct shard_reply reply = { 0 };
	int rc = 0;

	while (rc == 0 && at + reply.len_bytes < end) {
		rc = reply.count < (int)READ_BLOCKS_MAX
			     ? add_block(rq, at + reply.len_bytes, end, &reply)
			     : -EINVAL;
	}
	if (rc == 0) {
		count_read(rq, reply.len_bytes);
		if (request_claim(rq))
			ckpt_ignore(fuse_reply_iov(rq->req, reply.iov, reply.count));
	}
	while (reply.count > 0)
		block_unpin(rq->fs, reply.blocks[--reply.count]);
	return rc;
}

static int run_read(struct request *rq)
{
	switch (rq->file->content) {
	case CONTENT_TEXT:
		return read_text(rq);
	case CONTENT_SHARD:
		if (!rq->file->shard)
			return -EIO; /* the kernel said it would read by itself */
		return atomic_load(&rq->file->trusted) ? read_trusted(rq) : read_shard(rq);
	case CONTENT_STORED:
		break;
	}
	return read_stored(rq);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct request rq;

	request_init(&rq, req, ino, run_read);
	rq.size_bytes = size;
	rq.offset = (uint64_t)off;
	rq.file = file_of(fi);
	open_file_hold(rq.fs, rq.file);
	if (rq.file->content == CONTENT_TEXT)
		request_run(&rq);
	else
		request_submit(&rq, LANE_READS);
}
