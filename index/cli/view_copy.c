/*
 * view_copy.c - see view_copy.h. Every worker takes the next piece of the file at hand, reads it
 * and writes it to its place; one file after the other.
 */
#include "cli/view_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "base/pool.h"
#include "cli/copy_target.h"
#include "cli/progress.h"

/* Enough that a seek, and a block that two pieces share, cost little. */
#define PIECE_BYTES (8 * CKPT_IO_CHUNK)
/* More readers than this only wait for the disk. */
#define WORKERS_MAX 16U
#define FILE_MODE 0644U
#define DIR_MODE 0755U

struct view_copy {
	const struct view_of *view;
	struct ckpt_pool *pool;
	int dir_fd;	  /* where the copy grows … */
	const char *temp; /* … under this name */
	size_t top_len;	  /* of the copied node's path in the checkpoint */
	uint64_t total_bytes;
	struct ckpt_err *err;
	/* The file at hand. */
	struct ckpt_view_file *file;
	const char *path;
	int fd;
	pthread_mutex_t mu;
	/* Protected by mu. */
	uint64_t next_offset;
	uint64_t done_bytes; /* of all files */
	int failure;
	struct ckpt_err why;
};

/* --- one file -------------------------------------------------------------------------------- */

static void fail(struct view_copy *copy, int rc, const struct ckpt_err *why)
{
	pthread_mutex_lock(&copy->mu);
	if (copy->failure == 0) {
		copy->failure = rc;
		copy->why = *why;
	}
	pthread_mutex_unlock(&copy->mu);
}

/* The next piece that nobody has; false: there is none, or it has failed. */
static bool take_piece(struct view_copy *copy, uint64_t *offset)
{
	bool more;

	pthread_mutex_lock(&copy->mu);
	*offset = copy->next_offset;
	more = copy->failure == 0 && *offset < ckpt_view_file_size(copy->file);
	if (more)
		copy->next_offset += PIECE_BYTES;
	pthread_mutex_unlock(&copy->mu);
	return more;
}

static int report(struct view_copy *copy, size_t bytes, struct ckpt_err *err)
{
	uint64_t done;

	pthread_mutex_lock(&copy->mu);
	copy->done_bytes += bytes;
	done = copy->done_bytes;
	pthread_mutex_unlock(&copy->mu);
	if (progress_update(NULL, done, copy->total_bytes) == 0)
		return 0;
	return ckpt_err_set(err, -ECANCELED,
			    "interrupted; what was copied of '%s' is removed again", copy->path);
}

static int move_piece(struct view_copy *copy, uint64_t offset, void *buffer, struct ckpt_err *err)
{
	struct ckpt_view_room room = { .data = buffer, .len_bytes = PIECE_BYTES };
	int rc = ckpt_view_read(copy->view->reader, copy->file, offset, &room, err);

	if (rc < 0)
		return rc;
	rc = ckpt_io_pwrite_full(copy->fd, buffer, room.got_bytes, offset);
	if (rc == -ENOSPC || rc == -EDQUOT)
		return ckpt_err_set(err, rc,
				    "no space left for the copy of '%s'; free some and copy again",
				    copy->path);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot write the copy of '%s'", copy->path);
	return report(copy, room.got_bytes, err);
}

static void work(void *arg)
{
	struct view_copy *copy = arg;
	CKPT_FREE void *buffer = array_alloc(PIECE_BYTES, 1);
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t offset;
	int rc = buffer ? 0
			: ckpt_err_set(&err, -ENOMEM, "out of memory while copying '%s'",
				       copy->path);

	while (rc == 0 && take_piece(copy, &offset))
		rc = move_piece(copy, offset, buffer, &err);
	if (rc < 0)
		fail(copy, rc, &err);
}

static int copy_bytes(struct view_copy *copy)
{
	uint64_t size_bytes = ckpt_view_file_size(copy->file);
	size_t workers =
		(size_t)num_min(ckpt_pool_thread_count(copy->pool), size_bytes / PIECE_BYTES + 1);
	int rc = 0;

	copy->next_offset = 0;
	for (size_t i = 0; rc == 0 && i < workers; i++)
		rc = ckpt_pool_submit(copy->pool, work, copy);
	ckpt_pool_wait(copy->pool);
	if (copy->failure < 0)
		return ckpt_err_set(copy->err, copy->failure, "%s", copy->why.msg);
	return rc < 0 ? ckpt_err_sys(copy->err, rc, "cannot copy '%s'", copy->path) : 0;
}

static int copy_file(struct view_copy *copy, uint32_t node, const char *to_path)
{
	CKPT_CLOSE int fd = ckpt_io_openat(copy->dir_fd, to_path,
					   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return ckpt_err_sys(copy->err, fd, "cannot make '%s'", to_path);
	rc = ckpt_view_file_open(copy->view->views, node, &copy->file, copy->err);
	if (rc < 0)
		return rc;
	copy->fd = fd;
	rc = copy_bytes(copy);
	ckpt_view_file_close(copy->file);
	copy->file = NULL;
	if (rc == 0 && fchmod(fd, FILE_MODE) < 0)
		rc = ckpt_err_sys(copy->err, -errno, "cannot set the mode of '%s'", to_path);
	return rc;
}

/* --- all of them ----------------------------------------------------------------------------- */

static int copy_node(void *ctx, uint32_t node, const struct ckpt_view_node *what, const char *path)
{
	struct view_copy *copy = ctx;
	struct ckpt_buf to;
	int rc;

	ckpt_buf_init(&to);
	ckpt_buf_printf(&to, "%s%s", copy->temp, path + copy->top_len);
	rc = ckpt_buf_check(&to);
	if (rc < 0) {
		ckpt_err_sys(copy->err, rc, "cannot copy '%s'", path);
	} else if (what->is_dir) {
		rc = ckpt_io_mkdirat(copy->dir_fd, to.data, DIR_MODE);
		if (rc < 0)
			ckpt_err_sys(copy->err, rc, "cannot make folder '%s'", to.data);
	} else {
		copy->path = path;
		rc = copy_file(copy, node, to.data);
	}
	ckpt_buf_release(&to);
	return rc;
}

static int fill(void *ctx, int dir_fd, const char *temp, struct ckpt_err *err)
{
	struct view_copy *copy = ctx;

	copy->dir_fd = dir_fd;
	copy->temp = temp;
	copy->err = err;
	return view_of_each(copy->view, copy_node, copy, err);
}

static int count_bytes(void *ctx, uint32_t node, const struct ckpt_view_node *what,
		       const char *path)
{
	struct view_copy *copy = ctx;

	(void)node;
	/* The first is the copied one itself. */
	if (copy->top_len == 0)
		copy->top_len = strlen(path);
	if (!what->is_dir)
		copy->total_bytes += what->size_bytes;
	return 0;
}

static int run_copy(struct view_copy *copy, const struct target *target, struct ckpt_err *err)
{
	struct ckpt_buf label;
	int rc = ckpt_pool_new(num_min(ckpt_cpu_count(), WORKERS_MAX), 0, &copy->pool, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&label);
	ckpt_buf_printf(&label, "copying %s", target->name);
	progress_start(label.data ? label.data : "copying");
	rc = target_fill(target, fill, copy, err);
	progress_end();
	ckpt_buf_release(&label);
	ckpt_pool_free(copy->pool);
	return rc;
}

int view_copy(const struct view_of *view, const char *dest, struct ckpt_err *err)
{
	struct view_copy copy = { .view = view, .mu = PTHREAD_MUTEX_INITIALIZER };
	struct ckpt_view_node top = { .name = NULL };
	struct target target = { .dir = NULL };
	int rc = view_of_each(view, count_bytes, &copy, err);

	if (rc == 0 &&
	    (!ckpt_views_node(view->views, view->node, &top) || top.parent == CKPT_VIEW_NONE))
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is no folder to copy as a whole; copy 'hf', 'tensors' or 'safetensors' in it",
			view->checkpoint->place.inner);
	if (rc == 0)
		rc = target_open(dest, top.name, false, &target, err);
	if (rc == 0)
		rc = run_copy(&copy, &target, err);
	target_release(&target);
	return rc;
}
