/* lookup.c - names and attributes: lookup, forget, getattr, readlink. */
#include "ops.h"

#include <errno.h>
#include <string.h>

#include "committed.h"
#include "control_dir.h"
#include "inode.h"
#include "node.h"
#include "open_file.h"
#include "plain.h"
#include "request.h"

int node_child(struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *out)
{
	switch (node_class(parent)) {
	case NODE_COMMITTED:
		return committed_child(fs, parent, name, out);
	case NODE_VIRTUAL:
		return control_child(fs, parent, name, out);
	case NODE_PLAIN:
		break;
	}
	return plain_child(fs, parent, name, out);
}

void node_forget(struct fs *fs, fuse_ino_t ino, uint64_t count)
{
	if (node_class(ino) == NODE_PLAIN)
		inode_forget(fs->inodes, ino, count);
}

int node_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	switch (node_class(ino)) {
	case NODE_COMMITTED:
		return committed_attr(fs, ino, out);
	case NODE_VIRTUAL:
		return control_attr(fs, ino, out);
	case NODE_PLAIN:
		break;
	}
	return plain_attr(fs, ino, out);
}

/* The virtual files of one checkpoint never change; the others may. */
static double attr_timeout(fuse_ino_t ino)
{
	switch (node_class(ino)) {
	case NODE_COMMITTED:
		return node_line(ino) == NODE_TOP_LINE ? TIMEOUT_LIVE : TIMEOUT_FOREVER;
	case NODE_VIRTUAL:
		return control_is_live(ino) ? 0 : TIMEOUT_LIVE;
	case NODE_PLAIN:
		break;
	}
	return TIMEOUT_LIVE;
}

/* A node was asked for that the kernel holds: if it is not there, it is gone. */
static int gone(int rc)
{
	return rc == -ENOENT ? -ESTALE : rc;
}

static int run_lookup(struct request *rq)
{
	struct fuse_entry_param entry;
	int rc = node_child(rq->fs, rq->ino, rq->name, &entry);

	if (rc < 0)
		return rc;
	/* Where the reply does not arrive, nobody will forget the node. */
	if (!request_claim(rq) || fuse_reply_entry(rq->req, &entry) < 0)
		node_forget(rq->fs, entry.ino, 1);
	return 0;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request rq;
	size_t len = strlen(name);

	if (len > NAME_MAX) {
		ckpt_ignore(fuse_reply_err(req, ENAMETOOLONG));
		return;
	}
	request_init(&rq, req, parent, run_lookup);
	memcpy(rq.name, name, len + 1);
	request_start(&rq);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	node_forget(fs_of(req), ino, count);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* Asking about a plain node itself is always quick; only names in it may take a look at a group. */
static void start_for_node(struct request *rq)
{
	if (node_class(rq->ino) == NODE_PLAIN)
		request_run(rq);
	else
		request_start(rq);
}

/*
 * A file that is open is there, whatever became of its name, or of what the index knew of it.
 * (fstat(2) does not tell us which open it means.)
 */
static int attr_of(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	int rc = gone(node_attr(fs, ino, out));

	if ((rc == -ESTALE || rc == RC_LOAD_FIRST || rc == RC_VIEWS_FIRST) &&
	    open_file_attr(fs, ino, out) == 0)
		return 0;
	return rc;
}

static int run_getattr(struct request *rq)
{
	struct stat st;
	int rc = attr_of(rq->fs, rq->ino, &st);

	if (rc < 0)
		return rc;
	if (request_claim(rq))
		ckpt_ignore(fuse_reply_attr(rq->req, &st, attr_timeout(rq->ino)));
	return 0;
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;

	(void)fi;
	request_init(&rq, req, ino, run_getattr);
	start_for_node(&rq);
}

static int node_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target)
{
	switch (node_class(ino)) {
	case NODE_COMMITTED:
		return committed_readlink(fs, ino, target);
	case NODE_VIRTUAL:
		return control_readlink(fs, ino, target);
	case NODE_PLAIN:
		break;
	}
	return plain_readlink(fs, ino, target);
}

static int run_readlink(struct request *rq)
{
	struct ckpt_buf target;
	int rc;

	ckpt_buf_init(&target);
	rc = gone(node_readlink(rq->fs, rq->ino, &target));
	if (rc == 0 && request_claim(rq))
		ckpt_ignore(fuse_reply_readlink(rq->req, target.data));
	ckpt_buf_release(&target);
	return rc;
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct request rq;

	request_init(&rq, req, ino, run_readlink);
	start_for_node(&rq);
}
