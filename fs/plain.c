/* plain.c - see plain.h. */
#include "plain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/path.h"
#include "committed.h"
#include "control_dir.h"
#include "group.h"
#include "inode.h"
#include "node.h"
#include "own_ids.h"
#include "removal.h"
#include "resave.h"
#include "slots.h"

/* What a look at one name in a plain folder found. */
struct met {
	struct stat st;
	struct checkpoint *cp; /* NULL: it is not committed */
};

/* A path that led to the node and leads nowhere now, or to something else. */
static int stale(int rc)
{
	return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP ? -ESTALE : rc;
}

/* Open what one name of a node leads to, if it is the node's stored file. */
static int open_name(struct fs *fs, const char *path, int flags, const struct inode_key *key,
		     struct stat *st)
{
	/*
	 * O_NONBLOCK: should a FIFO have taken the file's place, opening it must not wait, nor for
	 * whoever holds a lease on it. openat2(2) refuses it beside O_PATH.
	 */
	int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), *path ? path : ".",
				      flags | O_NOFOLLOW | (flags & O_PATH ? 0 : O_NONBLOCK), 0);
	int rc;

	if (fd < 0)
		return stale(fd);
	rc = ckpt_io_fstat(fd, st);
	if (rc == 0 && (st->st_dev != key->dev || st->st_ino != key->ino))
		rc = -ESTALE;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int plain_open(struct fs *fs, fuse_ino_t ino, int flags, struct ckpt_buf *path, struct stat *st)
{
	struct inode_key key;
	struct ckpt_buf at;
	int rc;

	ckpt_buf_init(&at);
	/* A file with hard links may have lost the name it was met under last. */
	for (size_t idx = 0;; idx++) {
		ckpt_buf_reset(&at);
		rc = inode_locate_by(fs->inodes, ino, idx, &at, &key);
		if (rc < 0)
			break;
		rc = open_name(fs, at.data, flags, &key, st);
		if (rc != -ESTALE)
			break;
	}
	if (rc == -ENOENT)
		rc = -ESTALE; /* no name is left to try */
	if (rc >= 0 && path) {
		ckpt_buf_add(path, at.data, at.len_bytes);
		if (ckpt_buf_check(path) < 0) {
			close(rc);
			rc = -ENOMEM;
		}
	}
	ckpt_buf_release(&at);
	return rc;
}

void plain_show(const struct fs *fs, struct stat *st)
{
	if (st->st_dev != fs->dev) {
		/*
		 * Another file system is mounted inside the store: its numbers may be taken here.
		 */
		uint64_t key[2] = { st->st_dev, st->st_ino };

		st->st_ino = NODE_PLAIN_BIT | ckpt_hash64(key, sizeof(key)) >> 2;
	} else if (st->st_ino >> 32 != 0) {
		st->st_ino = NODE_PLAIN_BIT | (st->st_ino & ~NODE_VIRTUAL_BITS);
	}
	if (!S_ISDIR(st->st_mode))
		st->st_mode &= ~(mode_t)(S_ISUID | S_ISGID | S_ISVTX);
	own_ids_show(st);
}

/* --- names ------------------------------------------------------------------------------------ */

static size_t depth_of(const char *path)
{
	size_t depth = *path != '\0';

	for (; *path != '\0'; path++)
		depth += *path == '/';
	return depth;
}

int plain_checkpoint(struct fs *fs, const char *path, struct checkpoint **out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db_checkpoint row;
	int rc;

	if (depth_of(path) > CKPT_NAME_DEPTH_MAX || ckpt_path_check_name(path, NULL) < 0)
		return -ENOENT;
	rc = ckpt_store_lookup(fs->store, path, &row, &err);
	if (rc < 0 && rc != -ENOENT)
		fs_log_once("%s", err.msg);
	return rc < 0 ? rc : slots_note(fs, &row, out);
}

bool plain_lies_in_checkpoint(struct fs *fs, const char *path)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	CKPT_FREE char *above = strdup(path);
	char *slash = above ? strchr(above, '/') : NULL;

	for (; slash && state == CKPT_STATE_NONE; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (ckpt_state_of(ckpt_store_fd(fs->store), above, &state, NULL, NULL) < 0)
			return false;
		*slash = '/';
	}
	return state != CKPT_STATE_NONE;
}

/* With -o ro only groups on the way to something committed are shown. */
static bool is_hidden(struct fs *fs, const char *path)
{
	struct ckpt_buf latest;
	bool hidden;

	if (!fs->options->read_only)
		return false;
	ckpt_buf_init(&latest);
	hidden = group_latest(fs, path, &latest) < 0;
	ckpt_buf_release(&latest);
	return hidden;
}

static int meet_folder(struct fs *fs, const char *path, struct met *out)
{
	int rc = plain_checkpoint(fs, path, &out->cp);

	/* It may have gone into the trash this moment. */
	if (rc == -ENOENT && removal_meet(fs, path, &out->st, &out->cp) == 0)
		return 0;
	if (rc == -ENOENT)
		rc = is_hidden(fs, path) ? -ENOENT : 0;
	return rc;
}

/* @path: of @name */
static int meet_path(struct fs *fs, const struct plain_dir *dir, const char *name, const char *path,
		     struct met *out)
{
	int rc = ckpt_io_fstatat(dir->fd, name, &out->st, AT_SYMLINK_NOFOLLOW);

	if (rc == -ENOENT)
		return removal_meet(fs, path, &out->st, &out->cp);
	if (rc < 0 || !S_ISDIR(out->st.st_mode))
		return rc;
	return meet_folder(fs, path, out);
}

/* checkpoint_unref() @out->cp. */
static int meet(struct fs *fs, const struct plain_dir *dir, const char *name, struct met *out)
{
	struct ckpt_buf path;
	int rc;

	out->cp = NULL;
	ckpt_buf_init(&path);
	ckpt_path_join(&path, dir->path, name);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = meet_path(fs, dir, name, path.data, out);
	ckpt_buf_release(&path);
	return rc;
}

int plain_stored_name(struct fs *fs, const char *dir_path, const char *name, struct ckpt_buf *out)
{
	int rc = resave_redirect(fs, dir_path, name, out);

	if (rc == -ENOENT) {
		ckpt_buf_add_str(out, name);
		rc = ckpt_buf_check(out);
	}
	return rc;
}

static int entry_of(struct fs *fs, const struct plain_dir *dir, const char *name,
		    struct fuse_entry_param *out)
{
	struct met met;
	int rc = meet(fs, dir, name, &met);

	if (rc < 0)
		return rc;
	*out = (struct fuse_entry_param){ .attr = met.st,
					  .attr_timeout = TIMEOUT_LIVE,
					  .entry_timeout = TIMEOUT_LIVE };
	if (met.cp) {
		committed_fill_top(fs, met.cp, &met.st, out);
		/*
		 * Who was in the folder before its commit may stay in it, whatever it was called
		 * then.
		 */
		inode_relocate(fs->inodes, dir->ino, name, &met.st);
	} else {
		rc = inode_remember(fs->inodes, dir->ino, name, &met.st, &out->ino);
		plain_show(fs, &out->attr);
	}
	checkpoint_unref(met.cp);
	return rc;
}

int plain_entry(struct fs *fs, const struct plain_dir *dir, const char *name,
		struct fuse_entry_param *out)
{
	struct ckpt_buf stored;
	int rc;

	ckpt_buf_init(&stored);
	rc = plain_stored_name(fs, dir->path, name, &stored);
	if (rc == 0)
		rc = entry_of(fs, dir, stored.data, out);
	ckpt_buf_release(&stored);
	return rc;
}

static bool peek_stored(struct fs *fs, const struct plain_dir *dir, const char *name,
			ino_t *out_ino)
{
	struct met met = { .cp = NULL };
	int rc = meet(fs, dir, name, &met);

	/* What is there but cannot be used is listed: looking it up says why. */
	if (rc < 0)
		return rc != -ENOENT;
	plain_show(fs, &met.st);
	*out_ino = met.cp ? node_committed(met.cp->row.slot, NODE_TOP_LINE) : met.st.st_ino;
	checkpoint_unref(met.cp);
	return true;
}

bool plain_peek(struct fs *fs, const struct plain_dir *dir, const char *name, ino_t *out_ino)
{
	struct ckpt_buf stored;
	bool is_shown;

	ckpt_buf_init(&stored);
	is_shown = plain_stored_name(fs, dir->path, name, &stored) == 0 &&
		   peek_stored(fs, dir, stored.data, out_ino);
	ckpt_buf_release(&stored);
	return is_shown;
}

bool plain_has_latest(struct fs *fs, const struct plain_dir *dir)
{
	struct stat st;

	return fs->options->read_only &&
	       ckpt_io_fstatat(dir->fd, "latest", &st, AT_SYMLINK_NOFOLLOW) == -ENOENT &&
	       !is_hidden(fs, dir->path);
}

/*
 * The control folder of a group, or of what was one when the kernel met it, and is committed by
 * now.
 */
static int control_dir(struct fs *fs, fuse_ino_t parent, struct fuse_entry_param *out)
{
	struct checkpoint *cp = NULL;
	struct inode_key key;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	rc = inode_locate(fs->inodes, parent, &path, &key);
	if (rc == 0)
		rc = plain_checkpoint(fs, path.data, &cp);
	ckpt_buf_release(&path);
	if (rc == -ENOENT)
		return control_dir_of_group(fs, parent, out);
	if (rc < 0 || !cp)
		return rc;
	rc = control_dir_of_checkpoint(fs, cp->row.slot, out);
	checkpoint_unref(cp);
	return rc;
}

int plain_child(struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *out)
{
	struct plain_dir dir = { .ino = parent };
	struct ckpt_buf path;
	struct stat st;
	int rc;

	if (strcmp(name, CKPT_CONTROL_DIR) == 0)
		return control_dir(fs, parent, out);
	ckpt_buf_init(&path);
	dir.fd = plain_open(fs, parent, O_PATH | O_DIRECTORY, &path, &st);
	dir.path = path.data;
	rc = dir.fd < 0 ? dir.fd : plain_entry(fs, &dir, name, out);
	if (rc == -ENOENT && strcmp(name, "latest") == 0 && plain_has_latest(fs, &dir))
		rc = control_latest_listed(fs, parent, out);
	if (dir.fd >= 0)
		close(dir.fd);
	ckpt_buf_release(&path);
	return rc;
}

int plain_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	CKPT_CLOSE int fd = plain_open(fs, ino, O_PATH, NULL, out);

	if (fd < 0)
		return fd;
	/*
	 * The store's control folder is not shown. File systems that do not count sub-folders say
	 * 1.
	 */
	if (ino == FUSE_ROOT_ID && out->st_nlink > 2)
		out->st_nlink--;
	plain_show(fs, out);
	return 0;
}

int plain_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target)
{
	struct stat st = { 0 };
	char text[PATH_MAX];
	CKPT_CLOSE int fd = plain_open(fs, ino, O_PATH, NULL, &st);
	ssize_t len;

	if (fd < 0)
		return fd;
	if (!S_ISLNK(st.st_mode))
		return -EINVAL;
	len = readlinkat(fd, "", text, sizeof(text));
	if (len < 0)
		return -errno;
	ckpt_buf_add(target, text, (size_t)len);
	return ckpt_buf_check(target);
}
