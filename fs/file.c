/*
 * file.c - open, create, read, release: when a shard is verified, and who reads it. Writing is in
 * write.c.
 *
 * Every read of stored bytes that comes here happens in a worker, with pread(2):
 * a file that is truncated behind the mount answers an error, where a mapping of
 * it would kill the daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "block_cache.h"
#include "buffers.h"
#include "inode.h"
#include "node.h"
#include "open_file.h"
#include "ops.h"
#include "passthrough.h"
#include "plain.h"
#include "plain_change.h"
#include "request.h"
#include "shard_check.h"
#include "shard_open.h"
#include "trash_room.h"
#include "verified.h"
#include "view_read.h"
#include "view_trees.h"

/*
 * Blocks that one read can touch: the kernel asks for 1 MiB at most, a block has at least that.
 * Twice, to be safe.
 */
#define READ_BLOCKS_MAX 4U

/* What a stored file is opened with, of the flags of its opener; the kernel sees to the rest. */
#define STORED_FLAGS (O_ACCMODE | O_TRUNC | O_SYNC)
/* How often what stands in the way of a change is cleared. */
#define CHANGE_TRIES 3U

/* --- shards ------------------------------------------------------------------------------- */

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
static int verify_shard(struct request *rq, fuse_ino_t ino, struct open_want *want)
{
	struct fs *fs = rq->fs;
	const struct ckpt_shard *shard = &want->shard->shard;
	const struct check_order order = {
		.key = { .ino = ino, .generation = want->shard->cp->generation },
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

int shard_open(struct request *rq, fuse_ino_t ino, struct open_want *want)
{
	struct stat st;
	int rc = committed_shard_open(rq->fs, ino, &want->shard);

	if (rc == 0)
		rc = ckpt_io_fstat(ckpt_shard_reader_fd(want->shard->reader, NULL), &st);
	if (rc != 0)
		return rc;
	want->stamps = stamps_of(&st);
	return verify_shard(rq, ino, want);
}

/* --- plain files -------------------------------------------------------------------------- */

/* Can bytes change by an open with these flags? */
static bool is_change(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

static bool can_write(int flags)
{
	return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

/*
 * A file that lost its name, opened once more by /proc/PID/fd. Where the name was taken by another
 * file behind the mount, that one is meant: the kernel looks it up again.
 */
static int reopen(struct fs *fs, fuse_ino_t ino, int flags, struct stat *st)
{
	CKPT_CLOSE int fd = -1;
	struct inode_key key;
	struct ckpt_buf path;
	char link[32];
	int rc;

	ckpt_buf_init(&path);
	rc = inode_locate(fs->inodes, ino, &path, &key);
	ckpt_buf_release(&path);
	if (rc != -ESTALE || open_file_dup(fs, ino, false, &fd) < 0 ||
	    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd) < 0)
		return -ESTALE;
	rc = ckpt_io_fstat(fd, st);
	/* With a name somewhere it may be part of a committed checkpoint: it is opened by that. */
	if (rc == 0 && st->st_nlink > 0)
		rc = -ESTALE;
	return rc < 0 ? rc : ckpt_io_openat(AT_FDCWD, link, flags, 0);
}

static int open_descriptor(struct request *rq, struct stat *st)
{
	int flags = rq->fi.flags & STORED_FLAGS;
	int fd = is_change(flags) ? plain_open_change(rq->fs, rq->ino, flags, st)
				  : plain_open(rq->fs, rq->ino, flags, NULL, st);

	return fd == -ESTALE ? reopen(rq->fs, rq->ino, flags, st) : fd;
}

/* As plain_clear(), for the node @ino. */
static int clear_node(struct request *rq, fuse_ino_t ino, int failed)
{
	struct inode_key key;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	rc = inode_locate(rq->fs->inodes, ino, &path, &key);
	if (rc == 0)
		rc = plain_clear(rq, path.data, true, failed);
	ckpt_buf_release(&path);
	return rc;
}

/*
 * Writers other than root take these bits off a file. The kernel would see to it, but is not shown
 * them (plain_show), and what it passes through it writes as the daemon.
 */
static int drop_privileges(const struct request *rq, int fd, struct stat *st)
{
	mode_t drop = S_ISUID | (st->st_mode & S_IXGRP ? S_ISGID : 0);

	if (rq->uid == 0 || (st->st_mode & drop) == 0)
		return 0;
	if (fchmod(fd, st->st_mode & 07777 & ~drop) < 0)
		return -errno;
	return ckpt_io_fstat(fd, st);
}

static int open_once(struct request *rq, struct open_want *want)
{
	unsigned int tries = 0;
	int fd;

	do {
		fd = open_descriptor(rq, &want->st);
		fd = plain_wait_lease(rq, fd, &tries);
	} while (fd == -EAGAIN);
	return fd;
}

static int open_plain(struct request *rq, struct open_want *want)
{
	bool changes = is_change(rq->fi.flags);
	CKPT_CLOSE int fd = -1;
	int rc = 0;

	for (unsigned int i = 0; rc == 0 && fd < 0; i++) {
		fd = open_once(rq, want);
		if (fd < 0)
			rc = changes && i < CHANGE_TRIES ? clear_node(rq, rq->ino, fd) : fd;
	}
	if (rc < 0)
		return rc;
	if (!S_ISREG(want->st.st_mode))
		return S_ISDIR(want->st.st_mode) ? -EISDIR : -ESTALE;
	if (changes)
		rc = drop_privileges(rq, fd, &want->st);
	if (rc < 0)
		return rc;
	want->writes = changes;
	want->can_write = can_write(rq->fi.flags);
	/* What the kernel writes by itself, it answers by itself: also that there is no room. */
	want->direct |= want->can_write && trash_is_tight(rq->fs);
	want->fd = ckpt_steal_fd(&fd);
	return 0;
}

/* --- open, create ------------------------------------------------------------------------- */

/*
 * Through its page cache the kernel cuts a write(2) at the end of a page, and between the two parts
 * another mount could append: such a handle does without, unless then it could not be mapped.
 */
static bool appends_whole(int flags)
{
	return (flags & O_APPEND) && can_write(flags) &&
	       ((flags & O_ACCMODE) == O_WRONLY || passthrough_direct_mmap());
}

/* What the kernel may do with the bytes by itself. */
static void agree(struct request *rq, struct handle *handle, const struct open_want *want)
{
	const struct open_file *file = handle->file;
	struct fs *fs = rq->fs;
	const struct shard_key key = {
		.ino = file->ino,
		.generation = want->shard ? want->shard->cp->generation : 0,
	};

	rq->fi.fh = (uintptr_t)handle;
	if (file->backing_id > 0) {
		rq->fi.direct_io = want->direct;
		return;
	}
	/*
	 * Else its pages are kept for as long as the stored file does not change: replies past the
	 * page cache are
	 * faster the first time only, and each mapping of the file would fill it anew (measured).
	 */
	rq->fi.direct_io = file->is_live || appends_whole(rq->fi.flags);
	/*
	 * Views are read once, as a rule, and quickest past the page cache (measured). Each mapping
	 * through such an open fills the cache anew: from the second on its pages are kept.
	 */
	if (file->content == CONTENT_VIEW)
		rq->fi.direct_io = passthrough_direct_mmap() && !view_is_mapped(file->view);
	if (file->content == CONTENT_SHARD && fs->options->verify == VERIFY_READ)
		rq->fi.direct_io = passthrough_direct_mmap();
	if (!file->is_live && node_class(file->ino) != NODE_PLAIN)
		rq->fi.keep_cache =
			verified_keeps_pages(fs->verified, &key,
					     want->shard ? &want->stamps : &file->stamps) &&
			fs->options->verify != VERIFY_READ;
}

/* @entry: of a file that was created, else NULL. False: nobody heard of it. */
static bool tell_kernel(struct request *rq, const struct fuse_entry_param *entry, int32_t id)
{
	int rc;

	if (!request_claim(rq))
		return false;
	if (entry)
		rc = id > 0 ? passthrough_reply_create(rq->req, entry, &rq->fi, id)
			    : fuse_reply_create(rq->req, entry, &rq->fi);
	else
		rc = id > 0 ? passthrough_reply_open(rq->req, &rq->fi, id)
			    : fuse_reply_open(rq->req, &rq->fi);
	return rc >= 0;
}

static void reply_open(struct request *rq, struct handle *handle, const struct open_want *want,
		       const struct fuse_entry_param *entry)
{
	const struct open_file *file = handle->file;

	stats_add(file->is_virtual ? &rq->fs->stats.opens_virtual : &rq->fs->stats.opens_file, 1);
	agree(rq, handle, want);
	/* Where the reply does not arrive, no release and no forget will come. */
	if (tell_kernel(rq, entry, file->backing_id))
		return;
	handle_put(rq->fs, handle);
	if (entry)
		node_forget(rq->fs, entry->ino, 1);
}

static int prepare_open(struct request *rq, struct open_want *want)
{
	switch (node_class(rq->ino)) {
	case NODE_PLAIN:
		return open_plain(rq, want);
	case NODE_COMMITTED:
		return is_change(rq->fi.flags) ? refuse(rq, rq->ino, true)
					       : shard_open(rq, rq->ino, want);
	case NODE_VIRTUAL:
		break;
	}
	if (is_change(rq->fi.flags))
		return refuse(rq, rq->ino, true);
	return node_is_view(rq->ino) ? views_generation(rq->fs, rq->ino, &want->generation) : 0;
}

static int run_open(struct request *rq)
{
	struct open_want want = { .direct = (rq->fi.flags & O_DIRECT) != 0, .fd = -1 };
	struct handle *handle = NULL;
	int rc = prepare_open(rq, &want);

	if (rc == 0) {
		rc = handle_open(rq->fs, rq->ino, &want, &handle);
		if (rc == 0)
			reply_open(rq, handle, &want, NULL);
		else if (want.fd >= 0)
			close(want.fd);
	}
	committed_shard_unref(want.shard);
	return rc == -ENOENT ? -ESTALE : rc;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;

	request_init(&rq, req, ino, run_open);
	rq.fi = *fi;
	if (is_change(fi->flags))
		rq.lane = LANE_WRITES;
	/* A text may take long to make. What is verified is opened here: as quick as a look-up. */
	if (node_class(ino) == NODE_VIRTUAL)
		request_submit(&rq, LANE_READS);
	else
		request_run(&rq);
}

static int create(struct request *rq, struct open_want *want, struct fuse_entry_param *entry)
{
	const struct plain_new what = {
		.who = { .uid = rq->uid, .gid = rq->gid },
		.mode = rq->mode,
		.flags = rq->fi.flags & (STORED_FLAGS | O_EXCL),
	};
	int rc = -ESTALE;

	for (unsigned int i = 0; i < CHANGE_TRIES; i++) {
		rc = plain_create(rq->fs, rq->ino, rq->name, &what, &want->fd, entry);
		if (rc == 0)
			break;
		rc = clear_node(rq, rq->ino, rc);
		if (rc < 0)
			return rc;
		/* Another folder may have taken the parent's place: the kernel looks it up again. */
		rc = -ESTALE;
	}
	return rc < 0 ? rc : ckpt_io_fstat(want->fd, &want->st);
}

static int run_create(struct request *rq)
{
	struct open_want want = {
		.direct = (rq->fi.flags & O_DIRECT) != 0 || trash_is_tight(rq->fs),
		.writes = true,
		.can_write = can_write(rq->fi.flags),
		.fd = -1,
	};
	struct fuse_entry_param entry = { 0 };
	struct handle *handle = NULL;
	int rc;

	if (node_class(rq->ino) != NODE_PLAIN)
		return refuse(rq, rq->ino, true);
	rc = create(rq, &want, &entry);
	if (rc == 0)
		rc = handle_open(rq->fs, entry.ino, &want, &handle);
	if (rc == 0) {
		reply_open(rq, handle, &want, &entry);
		return 0;
	}
	if (want.fd >= 0)
		close(want.fd);
	if (entry.ino != 0)
		node_forget(rq->fs, entry.ino, 1);
	return rc;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct request rq;

	request_init(&rq, req, parent, run_create);
	rq.fi = *fi;
	rq.mode = mode;
	rq.lane = LANE_WRITES;
	(void)snprintf(rq.name, sizeof(rq.name), "%s", name); /* the kernel's names are no longer */
	request_run(&rq);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_put(fs_of(req), handle_of(fi));
	ckpt_ignore(fuse_reply_err(req, 0));
}

/* --- read --------------------------------------------------------------------------------- */

static void count_read(struct request *rq, size_t len_bytes)
{
	if (rq->handle->file->is_control)
		return;
	stats_add(&rq->fs->stats.read_requests, 1);
	stats_add(&rq->fs->stats.read_bytes, len_bytes);
}

static int read_text(struct request *rq)
{
	const struct ckpt_buf *text = &rq->handle->file->text;
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
	const struct handle *handle = rq->handle;
	int fd = handle->fd >= 0 ? handle->fd : handle->file->fd;

	return read_bytes(rq, fd, rq->offset, rq->size_bytes, false);
}

/*
 * Verified before it was opened. A stored file that is shorter now is damage: the log names it at
 * the next open.
 */
static int read_trusted(struct request *rq)
{
	const struct committed_shard *shard = rq->handle->file->shard;
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
	const struct open_file *file = rq->handle->file;
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
	const struct ckpt_shard *shard = &rq->handle->file->shard->shard;
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
	const struct open_file *file = rq->handle->file;

	switch (file->content) {
	case CONTENT_TEXT:
		return read_text(rq);
	case CONTENT_SHARD:
		if (!file->shard)
			return -EIO; /* the kernel said it would read by itself */
		return atomic_load(&file->trusted) ? read_trusted(rq) : read_shard(rq);
	case CONTENT_VIEW:
		return view_read(rq, file->view);
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
	rq.fi = *fi;
	rq.handle = handle_of(fi);
	handle_hold(rq.fs, rq.handle);
	if (rq.handle->file->content == CONTENT_TEXT)
		request_run(&rq);
	else
		request_submit(&rq, LANE_READS);
}
