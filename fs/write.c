/*
 * write.c - write, fsync, fallocate, lseek, copy_file_range: what the kernel does
 * not do by itself with files that are open.
 *
 * Through passthrough only fsync, fallocate, lseek and copies come here. Else
 * the kernel writes its pages through: one pwrite(2) into the stored file's own
 * pages each, which is what passthrough does in the caller's thread, so it is
 * done in the thread of libfuse it arrives in. What waits for a disk goes to the
 * workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/io_range.h"
#include "base/num.h"
#include "committed.h"
#include "node.h"
#include "open_file.h"
#include "ops.h"
#include "request.h"
#include "trash_room.h"

/*
 * The stored file system makes writers wait when too much is dirty. So many threads of libfuse may
 * be in a write at a time; the others (session.c has ten) go on answering.
 */
#define WRITES_HERE_MAX 5U
/* A copy is given up between pieces of this size, when its caller is being killed. */
#define COPY_PIECE_BYTES (UINT64_C(128) * 1024 * 1024)
/* As much as one copy_file_range(2) does (the kernel's MAX_RW_COUNT): a reply counts in 32 bits. */
#define COPY_MAX_BYTES (UINT64_C(2) * 1024 * 1024 * 1024 - 4096)

/* --- write -------------------------------------------------------------------------------- */

static atomic_uint writes_here;

/* Does every write through it wait for the disk? */
static bool is_synchronous(const struct fuse_file_info *fi)
{
	return (fi->flags & (O_SYNC | O_DSYNC)) != 0;
}

static ssize_t put_once(const struct request *rq, char *data, size_t len_bytes, size_t done)
{
	/*
	 * The kernel has chosen an offset, but who appends means the end as it is now, where others may
	 * have written. Pages of a mapping have their place, whichever handle they come by.
	 */
	if ((rq->fi.flags & O_APPEND) && !rq->fi.writepage)
		return ckpt_io_append(rq->handle->fd, data + done, len_bytes - done);
	return ckpt_io_pwrite(rq->handle->fd, data + done, len_bytes - done, rq->offset + done);
}

/* Bytes written, fewer where an error stands behind them; or that error, if there are none. */
static ssize_t put(const struct request *rq, char *data)
{
	size_t done = 0;

	while (done < rq->size_bytes) {
		ssize_t rc = put_once(rq, data, rq->size_bytes, done);

		if (rc < 0)
			return done > 0 ? (ssize_t)done : rc;
		if (rc == 0) /* never for a regular file; a loop would never end */
			return -EIO;
		done += (size_t)rc;
	}
	return (ssize_t)done;
}

static void reply_write(struct request *rq, size_t count)
{
	stats_add(&rq->fs->stats.written_bytes, count);
	if (request_claim(rq))
		ckpt_ignore(fuse_reply_write(rq->req, count));
}

/* In a worker, with a copy of the bytes. */
static int run_write(struct request *rq)
{
	ssize_t count = put(rq, rq->arg);

	if (count == -ENOSPC && trash_make_room(rq->fs))
		count = put(rq, rq->arg);
	if (count < 0)
		return (int)count;
	reply_write(rq, (size_t)count);
	return 0;
}

static void write_in_worker(struct request *rq, const char *data)
{
	rq->arg = malloc(num_max(rq->size_bytes, 1));
	if (!rq->arg) {
		handle_put(rq->fs, rq->handle);
		ckpt_ignore(fuse_reply_err(rq->req, ENOMEM));
		return;
	}
	memcpy(rq->arg, data, rq->size_bytes);
	request_submit(rq, LANE_WRITES);
}

/* Write here. False: it has to be done in a worker. */
static bool write_here(struct request *rq, char *data)
{
	ssize_t count = put(rq, data);

	/* A mapping has nobody who would try the rest again. */
	if (count == -ENOSPC || (rq->fi.writepage && count >= 0 && (size_t)count < rq->size_bytes))
		return false;
	if (count < 0)
		request_reply_err(rq, fs_errno((int)count));
	else
		reply_write(rq, (size_t)count);
	handle_put(rq->fs, rq->handle);
	return true;
}

void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *data, off_t off,
		  struct fuse_file_info *fi)
{
	struct request rq;
	char *bytes = data->buf[0].mem; /* one piece of memory: session.c has turned splice off */
	bool done = false;

	request_init(&rq, req, ino, run_write);
	rq.fi = *fi;
	rq.offset = (uint64_t)off;
	rq.size_bytes = data->buf[0].size;
	rq.handle = handle_of(fi);
	handle_hold(rq.fs, rq.handle);
	stats_add(&rq.fs->stats.write_requests, 1);
	if (!is_synchronous(fi)) {
		if (atomic_fetch_add(&writes_here, 1) < WRITES_HERE_MAX)
			done = write_here(&rq, bytes);
		atomic_fetch_sub(&writes_here, 1);
	}
	if (!done)
		write_in_worker(&rq, bytes);
}

/* --- fsync -------------------------------------------------------------------------------- */

static int run_fsync(struct request *rq)
{
	int rc = rq->plus ? ckpt_io_fdatasync(rq->handle->fd) : ckpt_io_fsync(rq->handle->fd);

	if (rc == 0)
		request_reply_err(rq, 0);
	return rc;
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct request rq;

	/* What is committed is durable, and a text is in no file. */
	if (handle_of(fi)->fd < 0) {
		ckpt_ignore(fuse_reply_err(req, 0));
		return;
	}
	request_init(&rq, req, ino, run_fsync);
	rq.plus = datasync != 0;
	rq.handle = handle_of(fi);
	handle_hold(rq.fs, rq.handle);
	request_submit(&rq, LANE_WRITES);
}

/* --- fallocate ---------------------------------------------------------------------------- */

static int allocate(const struct request *rq)
{
	return ckpt_io_allocate(rq->handle->fd, (int)rq->mode, rq->offset, rq->size_bytes);
}

static int run_fallocate(struct request *rq)
{
	int rc = allocate(rq);

	if (rc == -ENOSPC && trash_make_room(rq->fs))
		rc = allocate(rq);
	if (rc == 0)
		request_reply_err(rq, 0);
	return rc;
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct request rq;

	request_init(&rq, req, ino, run_fallocate);
	rq.mode = (mode_t)mode;
	rq.offset = (uint64_t)off;
	rq.size_bytes = (size_t)len;
	rq.handle = handle_of(fi);
	handle_hold(rq.fs, rq.handle);
	request_submit(&rq, LANE_WRITES);
}

/* --- lseek -------------------------------------------------------------------------------- */

/* Length of what has no holes. */
static int length_of(const struct open_file *file, uint64_t *out)
{
	struct stat st;
	int rc = 0;

	switch (file->content) {
	case CONTENT_TEXT:
		*out = file->text.len_bytes;
		break;
	case CONTENT_SHARD:
		*out = file->shard ? file->shard->shard.size_bytes : file->stamps.size_bytes;
		break;
	case CONTENT_VIEW:
		*out = file->stamps.size_bytes;
		break;
	case CONTENT_STORED:
		rc = ckpt_io_fstat(file->fd, &st);
		if (rc == 0)
			*out = (uint64_t)st.st_size;
		break;
	}
	return rc;
}

/* All of it is data, and a hole begins at its end. */
static int seek_solid(const struct open_file *file, uint64_t offset, int whence, uint64_t *out)
{
	uint64_t len_bytes = 0;
	int rc = length_of(file, &len_bytes);

	if (rc < 0)
		return rc;
	if (offset >= len_bytes)
		return -ENXIO;
	*out = whence == SEEK_DATA ? offset : len_bytes;
	return 0;
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	const struct handle *handle = handle_of(fi);
	uint64_t found = 0;
	int rc;

	(void)ino;
	/* The kernel asks for these two only. */
	if (off < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE))
		rc = -EINVAL;
	else if (handle->fd >= 0)
		rc = ckpt_io_seek(handle->fd, (uint64_t)off, whence, &found);
	else
		rc = seek_solid(handle->file, (uint64_t)off, whence, &found);
	if (rc < 0)
		ckpt_ignore(fuse_reply_err(req, fs_errno(rc)));
	else
		ckpt_ignore(fuse_reply_lseek(req, (off_t)found));
}

/* --- copy_file_range ---------------------------------------------------------------------- */

struct copy_source {
	int fd;
	uint64_t offset;
	uint64_t len_bytes;
};

/*
 * Where the bytes are taken from. Those that have to be verified, or made, are read: the kernel
 * does that when it hears EOPNOTSUPP.
 */
static int source_of(const struct handle *handle, struct copy_source *out)
{
	const struct open_file *file = handle->file;
	uint64_t base = 0;
	uint64_t size;

	if (handle->fd >= 0) {
		out->fd = handle->fd;
		return 0;
	}
	if (file->content != CONTENT_SHARD || !file->shard || !atomic_load(&file->trusted))
		return -EOPNOTSUPP;
	size = file->shard->shard.size_bytes;
	out->fd = ckpt_shard_reader_fd(file->shard->reader, &base);
	out->len_bytes = num_min(out->len_bytes, size - num_min(out->offset, size));
	out->offset += base;
	return 0;
}

static ssize_t copy_piece(const struct request *rq, const struct copy_source *from, uint64_t done)
{
	return ckpt_io_copy_range(from->fd, from->offset + done, rq->other_handle->fd,
				  rq->offset + done,
				  (size_t)num_min(from->len_bytes - done, COPY_PIECE_BYTES));
}

/* Bytes copied, fewer where an error or the end stands behind them; or that error. */
static ssize_t copy(const struct request *rq, const struct copy_source *from)
{
	uint64_t done = 0;
	ssize_t rc = 1;

	while (rc > 0 && done < from->len_bytes && !request_given_up(rq)) {
		rc = copy_piece(rq, from, done);
		if (rc == -ENOSPC && trash_make_room(rq->fs))
			rc = copy_piece(rq, from, done);
		if (rc > 0)
			done += (uint64_t)rc;
	}
	return done > 0 || rc > 0 ? (ssize_t)done : rc;
}

static int run_copy(struct request *rq)
{
	struct copy_source from = *(const struct copy_source *)rq->arg;
	int rc = source_of(rq->handle, &from);
	ssize_t count = rc < 0 ? rc : copy(rq, &from);

	/* On both the kernel reads and writes instead; the former means damage in fs_errno(). */
	if (count == -EOPNOTSUPP)
		return -EXDEV;
	if (count < 0)
		return (int)count;
	stats_add(&rq->fs->stats.written_bytes, (uint64_t)count);
	if (request_claim(rq))
		ckpt_ignore(fuse_reply_write(rq->req, (size_t)count));
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size): libfuse's parameters */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct copy_source *from = malloc(sizeof(*from));
	struct request rq;

	(void)ino_in;
	/* No flag is defined; and what is no plain file was not opened for writing. */
	if (!from || flags != 0 || handle_of(fi_out)->fd < 0) {
		free(from);
		ckpt_ignore(fuse_reply_err(req, from ? EINVAL : ENOMEM));
		return;
	}
	*from = (struct copy_source){ .fd = -1,
				      .offset = (uint64_t)off_in,
				      .len_bytes = num_min(len, COPY_MAX_BYTES) };
	request_init(&rq, req, ino_out, run_copy);
	rq.arg = from;
	rq.offset = (uint64_t)off_out;
	rq.handle = handle_of(fi_in);
	handle_hold(rq.fs, rq.handle);
	rq.other_handle = handle_of(fi_out);
	handle_hold(rq.fs, rq.other_handle);
	request_submit(&rq, LANE_WRITES);
}
