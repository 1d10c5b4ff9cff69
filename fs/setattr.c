/*
 * setattr.c - setattr: chmod, chown, truncate, utimensat.
 *
 * A file whose name is gone is changed through a descriptor that somebody has of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "node.h"
#include "open_file.h"
#include "ops.h"
#include "plain.h"
#include "plain_change.h"
#include "request.h"
#include "summing.h"

#define SET_OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)
#define SET_TIMES                                                              \
	(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | \
	 FUSE_SET_ATTR_MTIME_NOW)

/* The request's own part. */
struct setting {
	struct stat attr;
	int to_set;
};

/* --- mode, owner, times ----------------------------------------------------------------------- */

/* Descriptors of O_PATH take no fchmod(2). Set-user-ID does nothing here, and is not passed on. */
static int set_mode(int fd, const struct stat *is, mode_t mode)
{
	char path[64];

	if (snprintf(path, sizeof(path), "/proc/self/fd/%d", fd) < 0)
		return -EIO;
	return chmod(path, mode & (S_ISDIR(is->st_mode) ? 03777 : 0777)) < 0 ? -errno : 0;
}

static int set_owner(int fd, const struct setting *set)
{
	uid_t uid = set->to_set & FUSE_SET_ATTR_UID ? set->attr.st_uid : (uid_t)-1;
	gid_t gid = set->to_set & FUSE_SET_ATTR_GID ? set->attr.st_gid : (gid_t)-1;

	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static struct timespec time_for(int to_set, int to_this, int to_now, struct timespec at)
{
	if (to_set & to_now)
		at.tv_nsec = UTIME_NOW;
	else if (!(to_set & to_this))
		at.tv_nsec = UTIME_OMIT;
	return at;
}

static int set_times(int fd, const struct setting *set)
{
	const struct timespec times[2] = {
		time_for(set->to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW,
			 set->attr.st_atim),
		time_for(set->to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW,
			 set->attr.st_mtim),
	};

	return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_on(struct fs *fs, int fd, const struct setting *set)
{
	struct stat before;
	struct stat after;
	int rc = ckpt_io_fstat(fd, &before);

	if (rc == 0 && (set->to_set & FUSE_SET_ATTR_MODE))
		rc = set_mode(fd, &before, set->attr.st_mode);
	if (rc == 0 && (set->to_set & SET_OWNER))
		rc = set_owner(fd, set);
	if (rc == 0 && (set->to_set & SET_TIMES))
		rc = set_times(fd, set);
	/* Also where only the first of them was done. */
	if (ckpt_io_fstat(fd, &after) == 0 && S_ISREG(after.st_mode))
		summing_restamped(fs, &before, &after);
	return rc;
}

static int set_there(struct request *rq, const struct plain_place *place, void *ctx)
{
	(void)ctx;
	return set_on(rq->fs, place->fd, rq->arg);
}

static int set_open(struct request *rq, int fd)
{
	return set_on(rq->fs, fd, rq->arg);
}

static int set_attributes(struct request *rq)
{
	const struct setting *set = rq->arg;
	const struct plain_act act = { .act = set_there };
	int rc;

	if (!(set->to_set & (FUSE_SET_ATTR_MODE | SET_OWNER | SET_TIMES)))
		return 0;
	rc = plain_change(rq, &act);
	return rc == -ESTALE ? plain_change_open(rq, set_open) : rc;
}

/* --- size --------------------------------------------------------------------------------- */

static int set_size_on(struct request *rq, int fd)
{
	const struct setting *set = rq->arg;
	struct stat st;
	int rc = ckpt_io_ftruncate(fd, (uint64_t)set->attr.st_size);

	if (rc < 0 || rq->uid == 0)
		return rc;
	/* What a write by anybody but root takes away. */
	rc = ckpt_io_fstat(fd, &st);
	if (rc == 0 && (st.st_mode & (S_ISUID | S_ISGID)))
		rc = fchmod(fd, st.st_mode & 0777) < 0 ? -errno : 0;
	return rc;
}

/* As if it were opened, truncated and closed: sums are told, and a commit sees a writer. */
static int set_size_there(struct request *rq, const struct plain_place *place, void *ctx)
{
	struct open_want want = { .writes = true, .can_write = true };
	struct handle *handle = NULL;
	int rc;

	(void)ctx;
	(void)place;
	rc = want.fd = plain_open(rq->fs, rq->ino, O_WRONLY, NULL, &want.st);
	if (rc < 0)
		return rc;
	rc = handle_open(rq->fs, rq->ino, &want, &handle);
	if (rc < 0) {
		close(want.fd);
		return rc;
	}
	rc = set_size_on(rq, handle->fd);
	handle_put(rq->fs, handle);
	return rc;
}

static int set_size_open(struct request *rq)
{
	CKPT_CLOSE int fd = -1;
	int rc = open_file_dup(rq->fs, rq->ino, true, &fd);

	return rc < 0 ? rc : set_size_on(rq, fd);
}

static int set_size(struct request *rq)
{
	const struct setting *set = rq->arg;
	const struct plain_act act = { .makes = true, .act = set_size_there };
	unsigned int tries = 0;
	int rc;

	if (!(set->to_set & FUSE_SET_ATTR_SIZE))
		return 0;
	/* Through a handle: whoever commits sees it by its lease. */
	if (rq->handle && rq->handle->can_write)
		return set_size_on(rq, rq->handle->fd);
	do {
		rc = plain_change(rq, &act);
		rc = plain_wait_lease(rq, rc, &tries);
	} while (rc == -EAGAIN);
	return rc == -ESTALE ? set_size_open(rq) : rc;
}

/* --- the operation -------------------------------------------------------------------------- */

static int run_setattr(struct request *rq)
{
	const struct setting *set = rq->arg;
	struct stat st;
	int rc;

	if (node_class(rq->ino) != NODE_PLAIN)
		return refuse(rq, rq->ino, (set->to_set & FUSE_SET_ATTR_SIZE) != 0);
	rc = set_size(rq);
	if (rc == 0)
		rc = set_attributes(rq);
	if (rc == 0) {
		rc = plain_attr(rq->fs, rq->ino, &st);
		if (rc == -ESTALE)
			rc = open_file_attr(rq->fs, rq->ino, &st);
	}
	if (rc == 0 && request_claim(rq))
		ckpt_ignore(fuse_reply_attr(rq->req, &st, TIMEOUT_LIVE));
	return rc;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct request rq;
	struct setting *set;

	request_init(&rq, req, ino, run_setattr);
	rq.lane = LANE_WRITES;
	rq.arg = set = calloc(1, sizeof(*set));
	if (!set) {
		ckpt_ignore(fuse_reply_err(req, ENOMEM));
		return;
	}
	set->attr = *attr;
	set->to_set = to_set;
	if (fi && node_class(ino) == NODE_PLAIN) {
		rq.handle = handle_of(fi);
		handle_hold(rq.fs, rq.handle);
	}
	request_run(&rq);
}
