/*
 * open.c - open checkpoints: begun under "NAME.partial", kept by a session,
 * marked when their save failed, dropped as a whole. Whoever begins, drops or
 * commits holds commit.lock meanwhile.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

#define TRASH_DIR CKPT_CONTROL_DIR "/trash"
/* Others that begin and drop the same name send us round this often at most. */
#define BEGIN_TRIES_MAX 4

/* --- where a checkpoint may lie ---------------------------------------------------- */

int ckpt_open_folder(struct ckpt_store *store, const char *name, int *out_fd, struct ckpt_err *err)
{
	CKPT_CLOSE int path_fd = -1;
	int fd;
	int rc = ckpt_store_open_checkpoint(store, name, &path_fd, err);

	if (rc < 0)
		return rc;
	fd = ckpt_io_openat(path_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s'", name);
	*out_fd = fd;
	return 0;
}

int ckpt_open_parent(struct ckpt_store *store, const char *name, int *out_fd)
{
	const char *slash = strrchr(name, '/');
	CKPT_FREE char *parent = slash ? strndup(name, (size_t)(slash - name)) : strdup(".");
	int fd = parent ? ckpt_io_open_beneath(ckpt_store_fd(store), parent, O_RDONLY | O_DIRECTORY,
					       0)
			: -ENOMEM;

	if (fd >= 0)
		*out_fd = fd;
	return fd < 0 ? fd : 0;
}

/* Does the folder hold @file in its control folder? */
static bool holds(int dirfd, const char *file)
{
	struct stat st;

	return ckpt_io_fstatat(dirfd, file, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/*
 * Marked by what lies in its control folder: the rules by content are for walks, not for refusing.
 */
static bool is_marked(int dirfd)
{
	struct ckpt_buf holder;
	bool has_session = false;
	int rc;

	if (holds(dirfd, CKPT_MANIFEST_FILE) || holds(dirfd, CKPT_COMMIT_LOCK) ||
	    holds(dirfd, CKPT_ABORTED_FILE))
		return true;
	ckpt_buf_init(&holder);
	rc = ckpt_session_holder(dirfd, &has_session, &holder);
	ckpt_buf_release(&holder);
	return rc == 0 || has_session;
}

int ckpt_open_check_place(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	CKPT_FREE char *above = strdup(name);
	char *slash;

	if (!above)
		return ckpt_err_sys(err, -ENOMEM, "cannot look at '%s'", name);
	while ((slash = strrchr(above, '/'))) {
		CKPT_CLOSE int fd = -1;

		*slash = '\0';
		fd = ckpt_io_open_beneath(ckpt_store_fd(store), above, O_RDONLY | O_DIRECTORY, 0);
		if (fd == -ENOENT)
			continue; /* it will be made */
		if (fd < 0)
			return ckpt_err_sys(err, fd, "cannot look at '%s'", above);
		if (is_marked(fd))
			return ckpt_err_set(
				err, -EINVAL,
				"'%s' lies in the checkpoint '%s', and a checkpoint never contains another; take another name",
				name, above);
	}
	return 0;
}

static int is_empty_folder(int fd, bool *out)
{
	int copy = ckpt_io_openat(fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const char *name;
	int rc;

	if (!dir) {
		rc = copy < 0 ? copy : -errno;
		if (copy >= 0)
			close(copy);
		return rc;
	}
	rc = ckpt_io_readdir(dir, &name);
	closedir(dir);
	if (rc >= 0)
		*out = rc == 0;
	return rc < 0 ? rc : 0;
}

int ckpt_open_check_free(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	CKPT_CLOSE int fd =
		ckpt_io_open_beneath(ckpt_store_fd(store), name, O_RDONLY | O_DIRECTORY, 0);
	bool empty = false;
	int rc;

	if (fd == -ENOENT)
		return 0;
	if (fd == -ENOTDIR || fd == -ELOOP)
		return ckpt_err_set(
			err, -EEXIST,
			"the name '%s' is taken, by something that is no folder; take another name, or move that away",
			name);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot look at '%s'", name);
	if (holds(fd, CKPT_MANIFEST_FILE))
		return ckpt_err_set(
			err, -EEXIST,
			"'%s' is committed already, and a committed checkpoint never changes; take another name",
			name);
	rc = is_empty_folder(fd, &empty);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look into '%s'", name);
	if (!empty)
		return ckpt_err_set(
			err, -EEXIST,
			"'%s' exists and is not empty; commit it, drop it with 'ckptfs abort %s', or take another name",
			name, name);
	return 0;
}

int ckpt_open_still_there(struct ckpt_store *store, const char *name, int dirfd)
{
	CKPT_CLOSE int fd =
		ckpt_io_open_beneath(ckpt_store_fd(store), name, O_PATH | O_DIRECTORY, 0);
	struct stat by_name = { .st_ino = 0 };
	struct stat by_fd = { .st_ino = 0 };
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &by_name);

	if (rc == 0)
		rc = ckpt_io_fstat(dirfd, &by_fd);
	if (rc < 0)
		return rc;
	return by_name.st_ino == by_fd.st_ino && by_name.st_dev == by_fd.st_dev ? 0 : -ENOENT;
}

/* --- dropping ---------------------------------------------------------------------------- */

/* Rename the folder into a place of its own in the trash, durably; @out: where it lies then. */
static int move_to_trash(struct ckpt_store *store, const char *name, struct ckpt_buf *out)
{
	int store_fd = ckpt_store_fd(store);
	CKPT_CLOSE int parent = -1;
	char id[37];
	int rc = ckpt_open_parent(store, name, &parent);

	if (rc == 0)
		rc = ckpt_uuid(id);
	if (rc < 0)
		return rc;
	ckpt_buf_printf(out, TRASH_DIR "/%s", id);
	rc = ckpt_buf_check(out);
	if (rc == 0)
		rc = ckpt_io_mkdirs(store_fd, out->data, NULL);
	if (rc < 0)
		return rc;
	size_t room_len = out->len_bytes;

	ckpt_buf_printf(out, "/%s", ckpt_path_basename(name));
	rc = ckpt_buf_check(out);
	if (rc == 0)
		rc = ckpt_io_renameat(parent, ckpt_path_basename(name), store_fd, out->data);
	out->len_bytes = room_len; /* the room in the trash goes with what is in it */
	out->data[room_len] = '\0';
	if (rc < 0) {
		ckpt_ignore(ckpt_io_unlinkat(store_fd, out->data,
					     AT_REMOVEDIR)); /* an empty room harms nobody */
		return rc;
	}
	rc = ckpt_io_sync_dir(store_fd, out->data);
	return rc < 0 ? rc : ckpt_io_sync_dir(parent, ".");
}

/* Gone as a whole, then removed. The caller holds the lock. */
static int drop(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	struct ckpt_buf trash;
	int rc;

	ckpt_buf_init(&trash);
	rc = move_to_trash(store, name, &trash);
	if (rc == 0)
		rc = ckpt_io_remove_tree(ckpt_store_fd(store), trash.data, err);
	else if (rc == -ENOSPC ||
		 rc == -EDQUOT) /* no room for the trash: dropping is what makes room */
		rc = ckpt_io_remove_tree(ckpt_store_fd(store), name, err);
	else
		ckpt_err_sys(err, rc, "cannot move it into the trash of the store");
	ckpt_buf_release(&trash);
	return rc < 0 ? ckpt_err_prefix(err, rc, "cannot drop '%s'", name) : 0;
}

/* -EBUSY when somebody writes into it, or makes sums of what is in it. */
static int check_sessions(int dirfd, const char *name, struct ckpt_session_look *out,
			  struct ckpt_err *err)
{
	struct ckpt_buf holder;
	int rc;

	ckpt_buf_init(&holder);
	rc = ckpt_session_look(dirfd, false, out, &holder);
	if (rc < 0)
		ckpt_err_sys(err, rc, "cannot look into '%s/" CKPT_CONTROL_DIR "'", name);
	else if (out->writing || out->summing)
		rc = ckpt_err_set(err, -EBUSY, "'%s' is being written: %s; end that first", name,
				  holder.data);
	ckpt_buf_release(&holder);
	return rc;
}

static int refuse_committed(const char *name, struct ckpt_err *err)
{
	return ckpt_err_set(err, -EROFS,
			    "'%s' is committed, and committed checkpoints are never aborted", name);
}

/* Only open ones; and nothing that holds another checkpoint, whatever marks it as open. */
static int check_open(struct ckpt_store *store, const char *name, int dirfd, struct ckpt_err *err)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	bool empty;
	int rc = ckpt_state_of(ckpt_store_fd(store), name, &state, NULL, err);

	if (rc < 0)
		return rc;
	if (state == CKPT_STATE_COMMITTED)
		return refuse_committed(name, err);
	if (state == CKPT_STATE_NONE)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is a group, no open checkpoint; name the checkpoint",
				    name);
	rc = ckpt_tree_check_inside(dirfd, name, &empty, err);
	return rc < 0 ? ckpt_err_prefix(err, rc, "cannot drop '%s'", name) : 0;
}

/*
 * What nobody sees in it goes first; then it is rmdir(2) that says whether there is more, which
 * may have come this moment.
 */
static int drop_empty(struct ckpt_store *store, const char *name, int dirfd, struct ckpt_err *err)
{
	CKPT_CLOSE int parent = -1;
	int rc = ckpt_io_remove_tree(dirfd, CKPT_CONTROL_DIR, err);

	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot drop '%s'", name);
	rc = ckpt_open_parent(store, name, &parent);
	if (rc == 0)
		rc = ckpt_io_unlinkat(parent, ckpt_path_basename(name), AT_REMOVEDIR);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot drop '%s'", name) : 0;
}

static int abort_locked(struct ckpt_store *store, const char *name, int dirfd, bool only_empty,
			struct ckpt_err *err)
{
	struct ckpt_session_look look;
	int rc = ckpt_open_still_there(store, name, dirfd);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot drop '%s'", name);
	/* Between our look and our lock a commit may have ended. */
	if (!ckpt_path_is_temporary(name) && holds(dirfd, CKPT_MANIFEST_FILE))
		return refuse_committed(name, err);
	rc = check_sessions(dirfd, name, &look, err);
	if (rc < 0)
		return rc;
	return only_empty ? drop_empty(store, name, dirfd, err) : drop(store, name, err);
}

static int abort_any(struct ckpt_store *store, const char *name, bool only_empty,
		     struct ckpt_err *err)
{
	CKPT_CLOSE int dirfd = -1;
	bool locked;
	int rc = ckpt_path_check_name(name, err);

	if (rc == 0)
		rc = ckpt_open_folder(store, name, &dirfd, err);
	if (rc == 0)
		rc = check_open(store, name, dirfd, err);
	if (rc < 0)
		return rc;
	rc = ckpt_lock_take(dirfd, name, err);
	locked = rc == 0;
	/* A full disk has no room for a lock file; it must not keep us from making room. */
	if (rc == -ENOSPC || rc == -EDQUOT)
		rc = 0;
	if (rc == 0)
		rc = abort_locked(store, name, dirfd, only_empty, err);
	if (rc < 0 && locked)
		ckpt_lock_drop(dirfd);
	return rc;
}

int ckpt_abort(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	return abort_any(store, name, false, err);
}

int ckpt_abort_empty(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	return abort_any(store, name, true, err);
}

/* --- beginning ------------------------------------------------------------------------------ */

/* Packs count as content: they hold shards. */
static bool has_packs(int dirfd)
{
	/* Packs are numbered from here on. */
	return holds(dirfd, CKPT_CONTROL_DIR "/pack-00000");
}

/*
 * What to do with a folder that is there: 0 use it, -EAGAIN it was dropped.
 * Only what a save of ours left dead behind is dropped; the rest is somebody's.
 */
static int reuse(struct ckpt_store *store, const char *open_name, int dirfd, struct ckpt_err *err)
{
	struct ckpt_session_look look;
	bool empty = false;
	int rc = check_sessions(dirfd, open_name, &look, err);

	if (rc == 0)
		rc = ckpt_tree_check_inside(dirfd, open_name, &empty, err);
	if (rc < 0)
		return rc;
	if (holds(dirfd, CKPT_MANIFEST_FILE))
		return ckpt_err_set(
			err, -EEXIST,
			"'%s' is complete, only its commit was interrupted; finish it with 'ckptfs commit %s', or drop it with 'ckptfs abort %s'",
			open_name, open_name, open_name);
	if (look.abandoned || holds(dirfd, CKPT_ABORTED_FILE)) {
		rc = drop(store, open_name, err);
		return rc < 0 ? rc : -EAGAIN;
	}
	if (!empty || has_packs(dirfd))
		return ckpt_err_set(
			err, -EEXIST,
			"'%s' exists and was not begun by a save that ended; commit it, or drop it with 'ckptfs abort %s'",
			open_name, open_name);
	return 0;
}

/* Make the session and all that leads to it durable. */
static int start_session(struct ckpt_store *store, const char *open_name, int dirfd,
			 struct ckpt_err *err)
{
	CKPT_CLOSE int parent = -1;
	int rc = ckpt_session_start(dirfd, open_name, err);

	if (rc < 0)
		return rc;
	rc = ckpt_io_sync_dir(dirfd, ".");
	if (rc == 0)
		rc = ckpt_open_parent(store, open_name, &parent);
	if (rc == 0)
		rc = ckpt_io_sync_dir(parent, ".");
	if (rc < 0) {
		ckpt_session_end(dirfd);
		ckpt_err_sys(err, rc, "cannot begin '%s'", open_name);
	}
	return rc;
}

/* One round: -EAGAIN look again. */
static int begin_once(struct ckpt_store *store, const char *open_name, struct ckpt_err *err)
{
	CKPT_CLOSE int dirfd = -1;
	int rc = ckpt_io_mkdirat(ckpt_store_fd(store), open_name, 0777);

	if (rc < 0 && rc != -EEXIST)
		return ckpt_err_sys(err, rc, "cannot create the folder '%s'", open_name);
	rc = ckpt_open_folder(store, open_name, &dirfd, err);
	if (rc < 0)
		return rc == -ENOENT ? -EAGAIN : rc;
	rc = ckpt_lock_take(dirfd, open_name, err);
	if (rc < 0)
		return rc;
	/* Between our look and our lock somebody else may have dropped it. */
	rc = ckpt_open_still_there(store, open_name, dirfd) < 0 ? -EAGAIN : 0;
	if (rc == 0)
		rc = reuse(store, open_name, dirfd, err);
	if (rc == 0)
		rc = start_session(store, open_name, dirfd, err);
	ckpt_lock_drop(dirfd);
	return rc;
}

/* The folders above it. */
static int make_parents(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	const char *slash = strrchr(name, '/');
	CKPT_FREE char *parent = slash ? strndup(name, (size_t)(slash - name)) : NULL;

	if (!slash)
		return 0;
	if (!parent)
		return ckpt_err_sys(err, -ENOMEM, "cannot begin '%s'", name);
	return ckpt_io_mkdirs(ckpt_store_fd(store), parent, err);
}

int ckpt_open_begin(struct ckpt_store *store, const char *name, struct ckpt_buf *out_open_name,
		    struct ckpt_err *err)
{
	struct ckpt_buf open_name;
	int rc = ckpt_path_check_name(name, err);

	if (rc == 0 && ckpt_path_is_temporary(name))
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is a temporary name, which is never committed; give the lasting one",
			name);
	if (rc < 0)
		return rc;
	ckpt_buf_init(&open_name);
	ckpt_buf_printf(&open_name, "%s" CKPT_PARTIAL_SUFFIX, name);
	rc = ckpt_buf_check(&open_name);
	if (rc == 0)
		rc = ckpt_path_check_name(open_name.data, err);
	if (rc == 0)
		rc = ckpt_open_check_place(store, name, err);
	if (rc == 0)
		rc = ckpt_open_check_free(store, name, err);
	if (rc == 0)
		rc = make_parents(store, name, err);
	if (rc == 0)
		rc = -EAGAIN;
	for (int tries = 0; rc == -EAGAIN && tries < BEGIN_TRIES_MAX; tries++)
		rc = begin_once(store, open_name.data, err);
	if (rc == -EAGAIN)
		rc = ckpt_err_set(err, -EBUSY,
				  "cannot begin '%s': others begin and drop it; try again", name);
	if (rc == 0) {
		ckpt_running_enter(store, open_name.data);
		ckpt_buf_add_str(out_open_name, open_name.data);
	}
	ckpt_buf_release(&open_name);
	return rc == 0 ? ckpt_buf_check(out_open_name) : rc;
}

/* @progress: NULL, or what to tell. */
static int keep_open(struct ckpt_store *store, const char *open_name,
		     const struct ckpt_save_progress *progress, struct ckpt_err *err)
{
	CKPT_CLOSE int dirfd = -1;
	int rc = ckpt_open_folder(store, open_name, &dirfd, err);

	if (rc < 0)
		return rc;
	rc = progress ? ckpt_session_tell_progress(dirfd, progress) : ckpt_session_touch(dirfd);
	if (rc == -ENOENT)
		return ckpt_err_set(
			err, rc,
			"the session of this process in '%s' is gone: somebody dropped or committed it",
			open_name);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot keep '%s' open", open_name) : 0;
}

int ckpt_open_touch(struct ckpt_store *store, const char *open_name, struct ckpt_err *err)
{
	return keep_open(store, open_name, NULL, err);
}

int ckpt_open_tell(struct ckpt_store *store, const char *open_name,
		   const struct ckpt_save_progress *progress, struct ckpt_err *err)
{
	return keep_open(store, open_name, progress, err);
}

int ckpt_open_mark_aborted(struct ckpt_store *store, const char *open_name, const char *reason_json,
			   struct ckpt_err *err)
{
	CKPT_CLOSE int dirfd = -1;
	CKPT_CLOSE int control = -1;
	struct ckpt_buf text;
	int rc = ckpt_open_folder(store, open_name, &dirfd, err);

	if (rc == 0)
		rc = ckpt_control_make(dirfd, open_name, &control, err);
	if (rc < 0)
		return rc;
	ckpt_buf_init(&text);
	ckpt_buf_printf(&text, "%s\n", reason_json);
	rc = ckpt_buf_check(&text);
	if (rc == 0)
		rc = ckpt_io_publish(dirfd, CKPT_ABORTED_FILE, text.data, text.len_bytes, 0644,
				     err);
	ckpt_buf_release(&text);
	/*
	 * Where the mark could not be left, the session stays: it tells the same once this process
	 * is gone.
	 */
	if (rc == 0) {
		ckpt_session_end(dirfd);
		ckpt_running_leave(store);
	}
	return rc < 0 ? ckpt_err_prefix(err, rc, "cannot mark '%s' as aborted", open_name) : 0;
}
