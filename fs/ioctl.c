/*
 * ioctl.c - what a command asks of the daemon, base/control.h: it works on the
 * daemon's own store handle, which reaches the store also where the mount
 * covers it. Runs in a worker: a commit takes its time, and the kernel must not
 * be told to forget names by a thread that it waits for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "group.h"
#include "inode.h"
#include "ops.h"
#include "request.h"

/* The plain node of a folder; 0: the kernel holds none. */
static fuse_ino_t node_of_folder(struct fs *fs, const char *path)
{
	struct stat st;
	CKPT_CLOSE int fd = -1;

	if (*path == '\0')
		return FUSE_ROOT_ID;
	fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), path, O_PATH | O_DIRECTORY, 0);
	if (fd < 0 || ckpt_io_fstat(fd, &st) < 0)
		return 0;
	return inode_find(fs->inodes, &st);
}

/* What has this name now may have had another one before. */
static void relocate(struct fs *fs, fuse_ino_t parent, const char *path)
{
	struct stat st;
	CKPT_CLOSE int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), path, O_PATH, 0);

	if (fd >= 0 && ckpt_io_fstat(fd, &st) == 0)
		inode_relocate(fs->inodes, parent, ckpt_path_basename(path), &st);
}

/* Have the kernel ask again for the name @path. */
static void forget_name(struct fs *fs, const char *path)
{
	const char *base = ckpt_path_basename(path);
	CKPT_FREE char *above = strdup(path);
	fuse_ino_t parent;

	/*
	 * The kernel may have to wait for a look-up in that folder, which nobody answers at the
	 * end.
	 */
	if (!above || *path == '\0' || fs->ending)
		return;
	above[base == path ? 0 : (size_t)(base - path) - 1] = '\0';
	parent = node_of_folder(fs, above);
	if (parent == 0)
		return;
	relocate(fs, parent, path);
	/* It fails where the kernel does not know the name: then there is nothing to forget. */
	ckpt_ignore(fuse_lowlevel_notify_inval_entry(fs->session, parent, base, strlen(base)));
}

static void forget_state(struct fs *fs, const char *path)
{
	groups_expire(fs->groups);
	forget_name(fs, path);
}

/* --- the requests ------------------------------------------------------------------------- */

static int progress(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	const struct request *rq = ctx;

	(void)bytes_done;
	(void)bytes_total;
	return request_given_up(rq) || rq->fs->ending ? -ECANCELED : 0;
}

static int copy_name(char *to, size_t room, const char *from)
{
	size_t len = strlen(from);

	if (len >= room)
		return -ENAMETOOLONG;
	memcpy(to, from, len + 1);
	return 0;
}

static int do_commit(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_control *control = rq->control;
	const struct ckpt_commit_options options = {
		.has_step = control->has_step != 0,
		.step = control->step,
		.meta = control->meta[0] != '\0' ? control->meta : NULL,
		.progress = progress,
		.progress_ctx = rq,
	};
	struct ckpt_commit_result result = { 0 };
	int rc = ckpt_commit(rq->fs->store, control->name, &options, &result, err);

	forget_state(rq->fs, control->name);
	if (rc < 0)
		return rc;
	forget_state(rq->fs, result.name);
	control->seq = result.seq;
	control->shard_count = result.shard_count;
	control->size_bytes = result.size_bytes;
	memcpy(control->id, result.id, sizeof(result.id));
	rc = copy_name(control->name, sizeof(control->name), result.name);
	free(result.name);
	return rc;
}

static int do_abort(struct request *rq, struct ckpt_err *err)
{
	int rc = ckpt_abort(rq->fs->store, rq->control->name, err);

	forget_state(rq->fs, rq->control->name);
	return rc;
}

static int do_refresh(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_db_checkpoint row;
	int rc = ckpt_store_lookup(rq->fs->store, rq->control->name, &row, err);

	if (rc == 0)
		ckpt_db_checkpoint_release(&row);
	forget_state(rq->fs, rq->control->name);
	/* What is not committed (any more) is refreshed by being forgotten. */
	return rc == -ENOENT ? 0 : rc;
}

static void log_problem(void *ctx, const struct ckpt_err *problem)
{
	(void)ctx;
	ckpt_log("%s", problem->msg);
}

static int do_reindex(struct request *rq, struct ckpt_err *err)
{
	int rc = ckpt_store_reindex(rq->fs->store, rq->control->name, log_problem, NULL,
				    &rq->control->shard_count, err);

	groups_expire(rq->fs->groups);
	return rc;
}

static int carry_out(struct request *rq, struct ckpt_err *err)
{
	switch (rq->control->op) {
	case CKPT_CONTROL_COMMIT:
		return do_commit(rq, err);
	case CKPT_CONTROL_ABORT:
		return do_abort(rq, err);
	case CKPT_CONTROL_REFRESH:
		return do_refresh(rq, err);
	case CKPT_CONTROL_REINDEX:
		return do_reindex(rq, err);
	default:
		return ckpt_err_set(err, -EINVAL,
				    "the mount does not know request %u; its daemon is older than "
				    "this command: unmount and mount again",
				    rq->control->op);
	}
}

static int run_ioctl(struct request *rq)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_control *control = rq->control;

	control->rc = carry_out(rq, &err);
	/* Both are arrays of CKPT_ERR_MAX bytes. */
	memcpy(control->msg, err.msg, sizeof(control->msg));
	if (control->rc >= 0)
		control->msg[0] = '\0';
	if (request_claim(rq))
		ckpt_ignore(fuse_reply_ioctl(rq->req, 0, control, sizeof(*control)));
	return 0;
}

/* --- the operation ------------------------------------------------------------------------ */

/* Root, the store's owner and the daemon's user may. */
static bool may_control(const struct fs *fs, uid_t uid)
{
	return uid == 0 || uid == fs->owner_uid || uid == geteuid();
}

/* The argument with its strings ended; NULL: it is none, *@out_rc says why. */
static struct ckpt_control *take_argument(const void *in, int *out_rc)
{
	struct ckpt_control *control = malloc(sizeof(*control));

	*out_rc = -ENOMEM;
	if (!control)
		return NULL;
	memcpy(control, in, sizeof(*control));
	if (control->version == CKPT_CONTROL_VERSION &&
	    memchr(control->name, '\0', sizeof(control->name)) &&
	    memchr(control->meta, '\0', sizeof(control->meta)))
		return control;
	*out_rc = -EINVAL;
	free(control);
	return NULL;
}

/* NOLINTNEXTLINE(readability-function-size): libfuse sets the parameters */
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_bytes,
	      size_t out_bytes)
{
	struct request rq;
	int rc = 0;

	(void)arg;
	(void)fi;
	if (cmd != CKPT_IOC_CONTROL || ino != FUSE_ROOT_ID || (flags & FUSE_IOCTL_COMPAT) ||
	    in_bytes != sizeof(struct ckpt_control) || out_bytes != sizeof(struct ckpt_control))
		rc = -ENOTTY;
	else if (!may_control(fs_of(req), fuse_req_ctx(req)->uid))
		rc = -EPERM;
	request_init(&rq, req, ino, run_ioctl);
	if (rc == 0)
		rq.control = take_argument(in, &rc);
	if (!rq.control) {
		ckpt_ignore(fuse_reply_err(req, -rc));
		return;
	}
	rq.eintr_ok = true;
	request_submit(&rq, LANE_TASKS);
}
