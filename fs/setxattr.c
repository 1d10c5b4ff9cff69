/*
 * setxattr.c - setxattr, removexattr: the user's own attributes of plain files. Those of
 * checkpoints and shards, `user.ckptfs.*`, nobody sets.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "node.h"
#include "ops.h"
#include "plain_change.h"
#include "request.h"
#include "summing.h"

#define USER_PREFIX "user."
#define OUR_PREFIX "user.ckptfs."

/* The request's own part. */
struct xattr_setting {
	bool removes;
	int flags;
	size_t len_bytes;
	char value[];
};

static int set_on(struct request *rq, int fd)
{
	const struct xattr_setting *set = rq->arg;
	char path[64];
	struct stat before;
	struct stat after;
	int rc = ckpt_io_fstat(fd, &before);

	if (rc < 0)
		return rc;
	if (snprintf(path, sizeof(path), "/proc/self/fd/%d", fd) < 0)
		return -EIO;
	rc = set->removes ? removexattr(path, rq->name)
			  : setxattr(path, rq->name, set->value, set->len_bytes, set->flags);
	if (rc < 0)
		return -errno;
	if (S_ISREG(before.st_mode) && ckpt_io_fstat(fd, &after) == 0)
		summing_restamped(rq->fs, &before, &after);
	return 0;
}

static int set_there(struct request *rq, const struct plain_place *place, void *ctx)
{
	(void)ctx;
	return set_on(rq, place->fd);
}

static int run_setxattr(struct request *rq)
{
	const struct plain_act act = { .act = set_there };
	int rc;

	if (node_class(rq->ino) != NODE_PLAIN)
		return refuse(rq, rq->ino, false);
	rc = plain_change(rq, &act);
	if (rc == -ESTALE)
		rc = plain_change_open(rq, set_on);
	/* A stored file system without attributes: to fs_errno() that would be EIO. */
	if (rc == 0 || rc == -ENOTSUP) {
		request_reply_err(rq, -rc);
		rc = 0;
	}
	return rc;
}

/* May anybody set this name? 0, or the answer. */
static int check_name(const char *name)
{
	if (strncmp(name, USER_PREFIX, strlen(USER_PREFIX)) != 0)
		return EOPNOTSUPP;
	if (strncmp(name, OUR_PREFIX, strlen(OUR_PREFIX)) == 0)
		return EPERM;
	return strlen(name) > NAME_MAX ? ERANGE : 0;
}

static void start(fuse_req_t req, fuse_ino_t ino, const char *name, struct xattr_setting *set)
{
	struct request rq;

	request_init(&rq, req, ino, run_setxattr);
	rq.lane = LANE_WRITES;
	rq.arg = set;
	memcpy(rq.name, name, strlen(name) + 1);
	request_run(&rq);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags)
{
	struct xattr_setting *set;
	int refused = check_name(name);

	if (refused != 0) {
		ckpt_ignore(fuse_reply_err(req, refused));
		return;
	}
	set = calloc(1, sizeof(*set) + size);
	if (!set) {
		ckpt_ignore(fuse_reply_err(req, ENOMEM));
		return;
	}
	set->flags = flags;
	set->len_bytes = size;
	memcpy(set->value, value, size);
	start(req, ino, name, set);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct xattr_setting *set;
	int refused = check_name(name);

	if (refused != 0) {
		ckpt_ignore(fuse_reply_err(req, refused));
		return;
	}
	set = calloc(1, sizeof(*set));
	if (!set) {
		ckpt_ignore(fuse_reply_err(req, ENOMEM));
		return;
	}
	set->removes = true;
	start(req, ino, name, set);
}
