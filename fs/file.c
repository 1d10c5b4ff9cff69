/*
 * file.c - open, read, release. Every read of stored bytes happens in a worker,
 * with pread(2): a file that is truncated behind the mount answers an error, where
 * a mapping of it would kill the daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/io.h"
#include "base/num.h"
#include "block_cache.h"
#include "open_file.h"
#include "ops.h"
#include "request.h"

/* Blocks that one read can touch: the kernel asks for 1 MiB at most, a block has at least that. Twice, to be safe. */
#define READ_BLOCKS_MAX 4U

static struct open_file *file_of(const struct fuse_file_info *fi)
{
	/* libfuse keeps it as a number. NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (struct open_file *)(uintptr_t)fi->fh;
}

/* --- open -------------------------------------------------------------------------------------------- */

static int run_open(struct request *rq)
{
	struct open_file *file = NULL;
	int rc = open_file_get(rq->fs, rq->ino, &file);

	if (rc < 0)
		return rc == -ENOENT ? -ESTALE : rc;
	stats_add(file->is_virtual ? &rq->fs->stats.opens_virtual : &rq->fs->stats.opens_file, 1);
	rq->fi.fh = (uintptr_t)file;
	rq->fi.keep_cache = file->keep_cache;
	rq->fi.direct_io = file->direct_io;
	/* Where the reply does not arrive, no release will come. */
	if (!request_claim(rq) || fuse_reply_open(rq->req, &rq->fi) < 0)
		open_file_put(rq->fs, file);
	return 0;
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
	request_submit(&rq, LANE_READS);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	open_file_put(fs_of(req), file_of(fi));
	ckpt_ignore(fuse_reply_err(req, 0));
}

/* --- read -------------------------------------------------------------------------------------------- */

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

static int read_stored(struct request *rq)
{
	char *data = malloc(rq->size_bytes);
	size_t got = 0;
	int rc;

	if (!data)
		return -ENOMEM;
	rc = ckpt_io_pread_full(rq->file->fd, data, rq->size_bytes, rq->offset, &got);
	if (rc == 0) {
		count_read(rq, got);
		if (request_claim(rq))
			ckpt_ignore(fuse_reply_buf(rq->req, data, got));
	}
	free(data);
	return rc;
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
	uint64_t block_bytes = file->shard.shard.block_bytes;
	struct block *block = NULL;
	size_t skip = (size_t)(at % block_bytes);
	int rc = block_pin(rq->fs, file->id, &file->shard, at / block_bytes, &block);

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
	const struct ckpt_shard *shard = &rq->file->shard.shard;
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
		return read_shard(rq);
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
