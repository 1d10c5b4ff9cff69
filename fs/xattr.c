/*
 * xattr.c - getxattr, listxattr: what is known of checkpoints, shards and views of tensors as
 * `user.ckptfs.*`, the user's own attributes of stored files as they are.
 *
 * `ls -l` asks two names of every file (security.selinux, system.posix_acl_access).
 * They are answered here without any look-up, and with EOPNOTSUPP rather than
 * ENODATA: then it asks once for a whole folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/cover.h"
#include "base/path.h"
#include "committed.h"
#include "inode.h"
#include "node.h"
#include "ops.h"
#include "plain.h"
#include "request.h"
#include "view_nodes.h"

#define USER_PREFIX "user."
#define OUR_PREFIX "user.ckptfs."

static const char *const checkpoint_names[] = { "state", "step", "world_size", "id", NULL };
static const char *const shard_names[] = {
	"xxh128", "rank", "fqn", "dtype", "shape", "chunk", NULL
};
static const char *const view_names[] = { "fqn", "dtype", "shape", NULL };

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* --- our own, by the part behind the prefix; -ENODATA: not known -------------------------- */

static int add_text(struct ckpt_buf *out, const char *text)
{
	if (!text || text[0] == '\0')
		return -ENODATA;
	ckpt_buf_add_str(out, text);
	return 0;
}

static int add_number(struct ckpt_buf *out, bool has, uint64_t number)
{
	if (!has)
		return -ENODATA;
	ckpt_buf_printf(out, "%" PRIu64, number);
	return 0;
}

static int checkpoint_value(struct fs *fs, uint64_t slot, const char *key, struct ckpt_buf *out)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get(fs, slot, &cp);

	if (rc < 0)
		return rc;
	if (strcmp(key, "state") == 0)
		rc = add_text(out, ckpt_state_name(CKPT_STATE_COMMITTED));
	else if (strcmp(key, "id") == 0)
		rc = add_text(out, cp->row.id);
	else if (strcmp(key, "step") == 0)
		rc = add_number(out, cp->row.has_step, cp->row.step);
	else if (strcmp(key, "world_size") == 0)
		rc = add_number(out, cp->row.has_world_size, cp->row.world_size);
	else
		rc = -ENODATA;
	checkpoint_unref(cp);
	return rc;
}

static int tensor_value(struct fs *fs, fuse_ino_t ino, const char *key, struct ckpt_buf *out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db_shard_tensor tensor = { 0 };
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(fs->store, &db, &err);

	if (rc == 0) {
		rc = ckpt_db_shard_tensor(db, node_slot(ino), node_line(ino), &tensor, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc == -ENOENT)
		return -ENODATA;
	if (rc < 0) {
		fs_log_once("%s", err.msg);
		return rc;
	}
	if (strcmp(key, "fqn") == 0)
		rc = add_text(out, tensor.fqn);
	else if (strcmp(key, "dtype") == 0)
		rc = add_text(out, tensor.dtype);
	else if (strcmp(key, "shape") == 0)
		rc = add_text(out, tensor.shape);
	else if (strcmp(key, "chunk") == 0)
		rc = add_text(out, tensor.chunk);
	else
		rc = -ENODATA;
	ckpt_db_shard_tensor_release(&tensor);
	return rc;
}

static int shard_value(struct fs *fs, fuse_ino_t ino, const char *key, struct ckpt_buf *out)
{
	char hex[CKPT_HEX128_LEN + 1];
	struct ckpt_db_entry entry = { 0 };
	int rc = committed_entry(fs, ino, &entry);

	if (rc < 0)
		return rc;
	if (entry.kind != CKPT_ENTRY_SHARD)
		rc = -ENODATA;
	else if (strcmp(key, "rank") == 0)
		rc = add_number(out, entry.has_rank, entry.rank);
	else if (strcmp(key, "xxh128") == 0)
		rc = add_text(out, entry.has_xxh128 ? ckpt_hex128(entry.xxh128, hex) : NULL);
	else
		rc = tensor_value(fs, ino, key, out);
	ckpt_db_entry_release(&entry);
	return rc;
}

/* Of the tensor itself: a view of bfloat16 looks like uint16 to who reads it. */
static int view_value(struct fs *fs, fuse_ino_t ino, const char *key, struct ckpt_buf *out)
{
	const struct ckpt_tensor *tensor = NULL;
	struct view_tree *tree = NULL;
	int rc = view_tensor(fs, ino, &tree, &tensor);

	if (rc < 0)
		return rc;
	if (strcmp(key, "fqn") == 0)
		rc = add_text(out, tensor->fqn);
	else if (strcmp(key, "dtype") == 0)
		rc = add_text(out, tensor->dtype);
	else if (strcmp(key, "shape") == 0)
		ckpt_extents_json(tensor->shape, tensor->dim_count, out);
	else
		rc = -ENODATA;
	view_tree_unref(tree);
	return rc;
}

/* The state of an open checkpoint: of its own folder, not of those in it. */
static int open_value(struct fs *fs, const char *path, struct ckpt_buf *out)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	int rc = 0;

	if (ckpt_path_check_name(path, NULL) == 0)
		rc = ckpt_state_of(ckpt_store_fd(fs->store), path, &state, NULL, NULL);
	/* A file, or a folder that went: it has no state. */
	if (rc == -ENOTDIR || rc == -ENOENT)
		rc = 0;
	if (rc == 0 && state != CKPT_STATE_NONE && plain_lies_in_checkpoint(fs, path))
		state = CKPT_STATE_NONE;
	return rc < 0 ? rc
		      : add_text(out, state == CKPT_STATE_NONE ? NULL : ckpt_state_name(state));
}

static int plain_value(struct fs *fs, fuse_ino_t ino, const char *key, struct ckpt_buf *out)
{
	struct inode_key inode_key;
	struct ckpt_buf path;
	int rc;

	if (strcmp(key, "state") != 0)
		return -ENODATA;
	ckpt_buf_init(&path);
	rc = inode_locate(fs->inodes, ino, &path, &inode_key);
	if (rc == 0)
		rc = open_value(fs, path.data, out);
	ckpt_buf_release(&path);
	return rc;
}

/*
 * The node whose attributes are shown for @ino: itself, but for a folder that was plain when the
 * kernel met it, and is a committed checkpoint by now.
 */
static int shown_node(struct fs *fs, fuse_ino_t *ino)
{
	struct checkpoint *cp = NULL;
	struct inode_key key;
	struct ckpt_buf path;
	int rc;

	if (node_class(*ino) != NODE_PLAIN)
		return 0;
	ckpt_buf_init(&path);
	rc = inode_locate(fs->inodes, *ino, &path, &key);
	if (rc == 0)
		rc = plain_checkpoint(fs, path.data, &cp);
	ckpt_buf_release(&path);
	if (rc < 0 || !cp)
		return rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
	*ino = node_committed(cp->row.slot, NODE_TOP_LINE);
	checkpoint_unref(cp);
	return 0;
}

static int our_value(struct fs *fs, fuse_ino_t ino, const char *key, struct ckpt_buf *out)
{
	int rc = -ENODATA;

	if (node_class(ino) == NODE_PLAIN)
		rc = plain_value(fs, ino, key, out);
	else if (node_is_view(ino))
		rc = view_value(fs, ino, key, out);
	else if (node_class(ino) == NODE_COMMITTED && node_line(ino) == NODE_TOP_LINE)
		rc = checkpoint_value(fs, node_slot(ino), key, out);
	else if (node_class(ino) == NODE_COMMITTED)
		rc = shard_value(fs, ino, key, out);
	return rc < 0 ? rc : ckpt_buf_check(out);
}

static int shown_value(struct fs *fs, fuse_ino_t ino, const char *key, struct ckpt_buf *out)
{
	int rc = shown_node(fs, &ino);

	return rc < 0 ? rc : our_value(fs, ino, key, out);
}

/* --- those of stored files ---------------------------------------------------------------- */

/*
 * Where the xattr calls find the stored file: they do not take descriptors of O_PATH. -ENODATA: it
 * has none.
 */
static int stored_path(struct fs *fs, fuse_ino_t ino, int *out_fd, char path[64])
{
	struct stat st;
	int fd = -1;
	int rc = 0;

	if (node_class(ino) == NODE_PLAIN)
		rc = fd = plain_open(fs, ino, O_PATH, NULL, &st);
	else if (node_class(ino) == NODE_COMMITTED)
		rc = committed_stored_open(fs, ino, O_PATH, &fd);
	/* In a pack, virtual, or a folder that only holds what lies in packs. */
	if (rc == -ENOTSUP || rc == -ENOENT || (rc >= 0 && fd < 0))
		return -ENODATA;
	if (rc < 0)
		return rc;
	*out_fd = fd;
	return snprintf(path, 64, "/proc/self/fd/%d", fd) < 0 ? -EIO : 0;
}

static int stored_value(struct fs *fs, fuse_ino_t ino, const char *name, struct ckpt_buf *out)
{
	char path[64];
	CKPT_FREE char *value = NULL;
	CKPT_CLOSE int fd = -1;
	ssize_t len;
	int rc = stored_path(fs, ino, &fd, path);

	if (rc < 0)
		return rc;
	value = malloc(XATTR_SIZE_MAX);
	if (!value)
		return -ENOMEM;
	len = getxattr(path, name, value, XATTR_SIZE_MAX);
	if (len < 0)
		return -errno;
	ckpt_buf_add(out, value, (size_t)len);
	return ckpt_buf_check(out);
}

static int stored_names(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *out)
{
	char path[64];
	CKPT_FREE char *names = NULL;
	CKPT_CLOSE int fd = -1;
	ssize_t len;
	int rc = stored_path(fs, ino, &fd, path);

	if (rc < 0)
		return rc == -ENODATA ? 0 : rc;
	names = malloc(XATTR_LIST_MAX);
	if (!names)
		return -ENOMEM;
	len = listxattr(path, names, XATTR_LIST_MAX);
	if (len < 0)
		return errno == ENOTSUP || errno == EACCES ? 0 : -errno;
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		if (has_prefix(names + at, USER_PREFIX) && !has_prefix(names + at, OUR_PREFIX))
			ckpt_buf_add(out, names + at, strlen(names + at) + 1);
	}
	return ckpt_buf_check(out);
}

/* --- the operations ----------------------------------------------------------------------- */

static int reply(struct request *rq, const struct ckpt_buf *value)
{
	if (rq->size_bytes != 0 && value->len_bytes > rq->size_bytes)
		return -ERANGE;
	if (!request_claim(rq))
		return 0;
	if (rq->size_bytes == 0)
		ckpt_ignore(fuse_reply_xattr(rq->req, value->len_bytes));
	else
		ckpt_ignore(fuse_reply_buf(rq->req, value->data, value->len_bytes));
	return 0;
}

static int run_getxattr(struct request *rq)
{
	struct ckpt_buf value;
	int rc;

	ckpt_buf_init(&value);
	rc = has_prefix(rq->name, OUR_PREFIX)
		     ? shown_value(rq->fs, rq->ino, rq->name + strlen(OUR_PREFIX), &value)
		     : stored_value(rq->fs, rq->ino, rq->name, &value);
	if (rc == 0) {
		rc = reply(rq, &value);
	} else if (rc == -ENOTSUP) {
		/*
		 * A stored file system without attributes: what fs_errno() calls EIO is a plain
		 * answer here.
		 */
		request_reply_err(rq, EOPNOTSUPP);
		rc = 0;
	}
	ckpt_buf_release(&value);
	return rc;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct request rq;

	if (!has_prefix(name, USER_PREFIX)) {
		ckpt_ignore(fuse_reply_err(req, EOPNOTSUPP));
		return;
	}
	if ((node_class(ino) == NODE_VIRTUAL && !node_is_view(ino)) || strlen(name) > NAME_MAX) {
		ckpt_ignore(fuse_reply_err(req, ENODATA));
		return;
	}
	request_init(&rq, req, ino, run_getxattr);
	rq.size_bytes = size;
	memcpy(rq.name, name, strlen(name) + 1);
	request_run(&rq);
}

/* Those of @keys that have a value. */
static int our_names(struct fs *fs, fuse_ino_t ino, const char *const *keys, struct ckpt_buf *out)
{
	struct ckpt_buf value;
	int rc = 0;

	ckpt_buf_init(&value);
	for (; *keys && (rc == 0 || rc == -ENODATA); keys++) {
		ckpt_buf_reset(&value);
		rc = our_value(fs, ino, *keys, &value);
		if (rc == 0) {
			ckpt_buf_add_str(out, OUR_PREFIX);
			ckpt_buf_add(out, *keys, strlen(*keys) + 1);
		}
	}
	ckpt_buf_release(&value);
	return rc == -ENODATA ? 0 : rc;
}

/* Those that a node of this kind may have. */
static const char *const *our_keys(fuse_ino_t ino)
{
	if (node_is_view(ino))
		return view_names;
	return node_line(ino) == NODE_TOP_LINE ? checkpoint_names : shard_names;
}

static int run_listxattr(struct request *rq)
{
	fuse_ino_t shown = rq->ino;
	struct ckpt_buf names;
	int rc;

	ckpt_buf_init(&names);
	rc = shown_node(rq->fs, &shown);
	/*
	 * The state of what is open answers by name and is not listed: rsync -X removes from its
	 * target what its source does not have, and would fail.
	 */
	if (rc == 0 && (node_class(shown) == NODE_COMMITTED || node_is_view(shown)))
		rc = our_names(rq->fs, shown, our_keys(shown), &names);
	if (rc == 0)
		rc = stored_names(rq->fs, rq->ino, &names);
	if (rc == 0)
		rc = reply(rq, &names);
	ckpt_buf_release(&names);
	return rc;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct request rq;

	request_init(&rq, req, ino, run_listxattr);
	rq.size_bytes = size;
	request_run(&rq);
}
