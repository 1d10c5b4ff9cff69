/* plain_change.c - see plain_change.h. */
#include "plain_change.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "autocommit.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "change.h"
#include "control_dir.h"
#include "inode.h"
#include "node.h"
#include "open_file.h"
#include "plain.h"
#include "removal.h"
#include "resave.h"

/* A folder that is moved again and again while a change of it begins: then the kernel may ask. */
#define BEGIN_TRIES 8U
/* A change is tried anew after what was in its way was cleared, each thing once. */
#define CHANGE_TRIES 3U
/* A lease is given up by its holder within milliseconds, or not at all. */
#define LEASE_WAIT_MS 10U
#define LEASE_TRIES 100U

/* --- begin and end ------------------------------------------------------------------------ */

/* place->path, from where the node is thought to be. */
static int put_path(struct fs *fs, const char *name, struct plain_place *place)
{
	int rc = 0;

	ckpt_buf_reset(&place->name);
	ckpt_buf_reset(&place->path);
	if (name)
		rc = plain_stored_name(fs, place->where.data, name, &place->name);
	if (rc == 0 && name)
		ckpt_path_join(&place->path, place->where.data, place->name.data);
	else
		ckpt_buf_add_str(&place->path, place->where.data);
	return rc < 0 ? rc : ckpt_buf_check(&place->path);
}

/* Open the node. -EAGAIN: it is elsewhere, and place->where says where. */
static int open_there(struct fs *fs, struct plain_place *place)
{
	struct ckpt_buf now;
	int rc;

	ckpt_buf_init(&now);
	rc = place->fd = plain_open(fs, place->ino, O_PATH, &now, &place->st);
	if (rc >= 0)
		rc = strcmp(now.data, place->where.data) == 0 ? 0 : -EAGAIN;
	if (rc == -EAGAIN) {
		ckpt_buf_reset(&place->where);
		ckpt_buf_add(&place->where, now.data, now.len_bytes);
	}
	ckpt_buf_release(&now);
	return rc;
}

static void close_there(struct plain_place *place)
{
	if (place->fd >= 0)
		close(place->fd);
	place->fd = -1;
}

/*
 * The path is asked about first, and then found to be the right one: in between nobody can commit
 * the folder and give it another name unseen.
 */
static int try_begin(struct fs *fs, const char *name, struct plain_place *place)
{
	int allowed;
	int rc = put_path(fs, name, place);

	if (rc < 0)
		return rc;
	allowed = change_begin(fs, place->path.data);
	rc = open_there(fs, place);
	if (rc == 0 && allowed == 0 && name && !S_ISDIR(place->st.st_mode))
		rc = -ENOTDIR;
	if (rc == 0 && allowed == 0) {
		place->begun = true;
		return 0;
	}
	close_there(place);
	if (allowed == 0)
		change_end(fs);
	return rc < 0 ? rc : allowed;
}

int plain_begin(struct fs *fs, fuse_ino_t ino, const char *name, struct plain_place *out)
{
	struct inode_key key;
	int rc;

	*out = (struct plain_place){ .ino = ino, .fd = -1 };
	ckpt_buf_init(&out->where);
	ckpt_buf_init(&out->name);
	ckpt_buf_init(&out->path);
	rc = inode_locate(fs->inodes, ino, &out->where, &key);
	if (rc < 0)
		return rc;
	rc = -EAGAIN;
	for (unsigned int i = 0; i < BEGIN_TRIES && rc == -EAGAIN; i++)
		rc = try_begin(fs, name, out);
	return rc == -EAGAIN ? -ESTALE : rc;
}

void plain_end(struct fs *fs, struct plain_place *place)
{
	close_there(place);
	if (place->begun)
		change_end(fs);
	place->begun = false;
	ckpt_buf_release(&place->where);
	ckpt_buf_release(&place->name);
	ckpt_buf_release(&place->path);
}

int plain_made(struct fs *fs, const struct plain_place *place, const struct stat *st, bool is_new,
	       struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){ .attr = *st,
					  .attr_timeout = TIMEOUT_LIVE,
					  .entry_timeout = TIMEOUT_LIVE };
	plain_show(fs, &out->attr);
	return (is_new ? inode_made : inode_remember)(fs->inodes, place->ino, place->name.data, st,
						      &out->ino);
}

/* --- what is committed -------------------------------------------------------------------- */

int refuse_node(struct fs *fs, fuse_ino_t ino, bool makes)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get(fs, node_slot(ino), &cp);

	/* What is being removed lies in the trash: nothing there is opened again. */
	if (rc == 0 && removal_is_active(fs, node_slot(ino))) {
		checkpoint_unref(cp);
		return -EROFS;
	}
	if (rc < 0)
		return rc;
	rc = autocommit_reopen(fs, cp->row.name) == 0 ? -ESTALE : -EROFS;
	checkpoint_unref(cp);
	return rc == -EROFS && makes ? resave_begin(fs, node_slot(ino)) : rc;
}

/* A commit by rule that is under way gives way to whoever writes; no other does. */
static int refuse_frozen(struct fs *fs, const char *name)
{
	struct ckpt_buf by;
	int rc;

	if (autocommit_reopen(fs, name) != 0)
		return -EBUSY;
	ckpt_buf_init(&by);
	rc = change_frozen_by(fs, name, &by) == -ENOENT ? -ESTALE : -EBUSY;
	ckpt_buf_release(&by);
	return rc;
}

static int refuse_committed(struct fs *fs, const char *name, bool makes)
{
	struct checkpoint *cp = NULL;
	int rc = plain_checkpoint(fs, name, &cp);

	if (rc < 0)
		return rc == -ENOENT ? -EROFS : rc;
	rc = refuse_node(fs, node_committed(cp->row.slot, NODE_TOP_LINE), makes);
	checkpoint_unref(cp);
	return rc;
}

/* The checkpoint that is in the way of a change at @path, and why. */
static int find_guard(struct fs *fs, const char *path, enum ckpt_guard *out, struct ckpt_buf *name)
{
	size_t len = 0;
	int rc = change_frozen_by(fs, path, name);

	*out = CKPT_GUARD_FROZEN;
	if (rc != -ENOENT)
		return rc;
	rc = ckpt_guard_of(ckpt_store_fd(fs->store), path, out, &len);
	if (rc == 0 && *out != CKPT_GUARD_FREE)
		ckpt_buf_add(name, path, len);
	return rc < 0 ? rc : ckpt_buf_check(name);
}

int refuse_path(struct fs *fs, const char *path, bool makes)
{
	enum ckpt_guard guard = CKPT_GUARD_FREE;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	rc = find_guard(fs, path, &guard, &name);
	if (rc == 0 && guard == CKPT_GUARD_FROZEN)
		rc = refuse_frozen(fs, name.data);
	else if (rc == 0 && guard == CKPT_GUARD_COMMITTED)
		rc = refuse_committed(fs, name.data, makes);
	else if (rc == 0)
		rc = -EROFS; /* it is the stored file system that cannot be written */
	ckpt_buf_release(&name);
	return rc;
}

int refuse(struct request *rq, fuse_ino_t ino, bool makes)
{
	if (node_class(ino) == NODE_VIRTUAL)
		return control_is_of_checkpoint(ino) ? -EROFS : -EPERM;
	assert(node_class(ino) == NODE_COMMITTED);
	return rq->queued ? refuse_node(rq->fs, ino, makes) : RC_WORKER;
}

/* --- a request that changes something --------------------------------------------------------- */

static int change_once(struct request *rq, const struct plain_act *act, struct plain_place *place)
{
	int rc = plain_begin(rq->fs, rq->ino, act->name, place);

	return rc == 0 ? act->act(rq, place, act->ctx) : rc;
}

int plain_clear(struct request *rq, const char *path, bool makes, int rc)
{
	int refused;

	if (rc != -EROFS && rc != -EBUSY && rc != -ENOSPC)
		return rc;
	if (!rq->queued)
		return RC_WORKER;
	if (rc == -ENOSPC)
		return trash_make_room(rq->fs) ? 0 : -ENOSPC;
	refused = refuse_path(rq->fs, path, makes);
	if (refused == -ESTALE)
		return 0;
	return refused == -EROFS ? rc : refused;
}

int plain_change(struct request *rq, const struct plain_act *act)
{
	struct plain_place place;
	struct ckpt_buf path;
	int rc = 0;

	ckpt_buf_init(&path);
	for (unsigned int i = 0; i < CHANGE_TRIES; i++) {
		rc = change_once(rq, act, &place);
		ckpt_buf_reset(&path);
		ckpt_buf_add_str(&path, place.path.data);
		plain_end(rq->fs, &place);
		if (rc == 0)
			break;
		rc = plain_clear(rq, path.data, act->makes, rc);
		if (rc < 0)
			break;
		/* Another folder has taken its place: the kernel has to look its name up again. */
		rc = -ESTALE;
	}
	ckpt_buf_release(&path);
	return rc;
}

/* --- what is only known by an open descriptor -------------------------------------------------- */

static int link_of(int fd, char out[PATH_MAX])
{
	char link[32];
	ssize_t len;

	if (snprintf(link, sizeof(link), "/proc/self/fd/%d", fd) < 0)
		return -EIO;
	len = readlink(link, out, PATH_MAX - 1);
	if (len < 0)
		return -errno;
	out[len] = '\0';
	return 0;
}

/* Where the kernel says that @fd lies in the store. */
static int place_of(const struct fs *fs, int fd, struct ckpt_buf *out)
{
	char top[PATH_MAX];
	char path[PATH_MAX];
	size_t len;
	int rc = link_of(ckpt_store_fd(fs->store), top);

	if (rc == 0)
		rc = link_of(fd, path);
	if (rc < 0)
		return rc;
	len = strlen(top);
	if (strncmp(path, top, len) != 0 || path[len] != '/')
		return -ESTALE;
	ckpt_buf_add_str(out, path + len + 1);
	return ckpt_buf_check(out);
}

int plain_change_open(struct request *rq, int (*act)(struct request *rq, int fd))
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf path;
	struct stat st = { .st_nlink = 1 };
	int rc = open_file_dup(rq->fs, rq->ino, false, &fd);

	if (rc == 0)
		rc = ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return rc;
	if (st.st_nlink == 0)
		return act(rq, fd);
	ckpt_buf_init(&path);
	rc = place_of(rq->fs, fd, &path);
	if (rc == 0)
		rc = change_begin(rq->fs, path.data);
	if (rc == 0) {
		rc = act(rq, fd);
		change_end(rq->fs);
	}
	ckpt_buf_release(&path);
	return rc;
}

/* --- files ---------------------------------------------------------------------------------- */

/* What open(2) gets of a caller's flags: offsets are the kernel's, so nothing appends here. */
static int stored_flags(int flags)
{
	return (flags & ~(O_DIRECT | O_APPEND | O_CREAT | O_EXCL)) | O_NOFOLLOW | O_NONBLOCK;
}

static int create_there(struct fs *fs, const struct plain_place *place,
			const struct plain_new *what)
{
	struct caller_own own;
	int fd;

	caller_enter(fs, &what->who, &own);
	fd = ckpt_io_openat(place->fd, place->name.data,
			    stored_flags(what->flags) | O_CREAT | O_EXCL, what->mode & 0777);
	caller_leave(&own);
	return fd == -EEXIST && !(what->flags & O_EXCL) ? -ESTALE : fd;
}

int plain_create(struct fs *fs, fuse_ino_t parent, const char *name, const struct plain_new *what,
		 int *out_fd, struct fuse_entry_param *out)
{
	CKPT_CLOSE int fd = -1;
	struct plain_place place;
	struct stat st;
	int rc = plain_begin(fs, parent, name, &place);

	if (rc == 0)
		rc = fd = create_there(fs, &place, what);
	if (rc >= 0)
		rc = ckpt_io_fstat(fd, &st);
	if (rc == 0)
		rc = plain_made(fs, &place, &st, true, out);
	if (rc == 0) {
		autocommit_saw(fs, place.path.data);
		*out_fd = ckpt_steal_fd(&fd);
	}
	plain_end(fs, &place);
	return rc;
}

int plain_open_change(struct fs *fs, fuse_ino_t ino, int flags, struct stat *st)
{
	struct plain_place place;
	int rc = plain_begin(fs, ino, NULL, &place);

	if (rc == 0)
		rc = plain_open(fs, ino, stored_flags(flags), NULL, st);
	plain_end(fs, &place);
	return rc;
}

int plain_wait_lease(const struct request *rq, int rc, unsigned int *tries)
{
	const struct timespec pause = { .tv_nsec = LEASE_WAIT_MS * 1000000L };

	if (rc != -EAGAIN)
		return rc;
	if (!rq->queued)
		return RC_WORKER;
	if (++*tries > LEASE_TRIES || request_given_up(rq))
		return -EBUSY;
	nanosleep(&pause, NULL);
	return -EAGAIN;
}
