/*
 * open_again.c - a committed name is to be written again: its files go to
 * "NAME.partial", as those of a new checkpoint do, and the commit of that puts
 * the old one into the trash. Several hosts may write one checkpoint, so
 * what a living process holds open there is joined; what was begun here by one
 * that is dead is dropped; what nobody is known to have begun is somebody's.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

/* Others that begin and drop the same name send us round this often at most. */
#define TRIES_MAX 4

/* Who has been at work in the folder. */
struct met {
	time_t now;
	bool living; /* also idle ones */
	bool dead;
};

static int meet(void *ctx, int control, const char *name)
{
	struct ckpt_session_head head;
	struct met *met = ctx;
	int rc;

	if (ckpt_session_is_half_made(name))
		return 0;
	rc = ckpt_session_head_read(control, name, &head);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0 && rc != -EBADMSG)
		return rc;
	if (met->now == 0)
		met->now = ckpt_session_now(control);
	if (rc == 0 && ckpt_session_lives(&head, met->now))
		met->living = true;
	else
		met->dead = true;
	return 0;
}

static bool holds(int dirfd, const char *file)
{
	struct stat st;

	return ckpt_io_fstatat(dirfd, file, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What to do with the folder that is there: 0 write into it, 1 drop it. */
static int judge(int dirfd, const char *open_name, struct ckpt_err *err)
{
	struct met met = { .now = 0 };
	bool empty = false;
	int rc;

	if (holds(dirfd, CKPT_MANIFEST_FILE))
		return ckpt_err_set(
			err, -EBUSY,
			"'%s' is complete, only its commit was interrupted; finish it with 'ckptfs commit %s', or drop it with 'ckptfs abort %s'",
			open_name, open_name, open_name);
	rc = ckpt_session_each(dirfd, CKPT_CONTROL_DIR, CKPT_SESSION_PREFIX, meet, &met);
	if (rc < 0 && rc != -ENOENT)
		return ckpt_err_sys(err, rc, "cannot look into '%s'", open_name);
	if (met.living)
		return 0;
	/* Without the mark it is not ours to drop: somebody may have written it by hand. */
	if ((met.dead && holds(dirfd, CKPT_REPLACES_FILE)) || holds(dirfd, CKPT_ABORTED_FILE))
		return 1;
	rc = ckpt_tree_check_inside(dirfd, open_name, &empty, err);
	if (rc < 0 || empty)
		return rc;
	return ckpt_err_set(
		err, -EBUSY,
		"'%s' exists and was not begun by a save that ended; commit it, or drop it with 'ckptfs abort %s'",
		open_name, open_name);
}

/* Like the folder it will replace. Only root may give it away: for others it is theirs. */
static int make_alike(struct ckpt_store *store, const char *name, int dirfd, struct ckpt_err *err)
{
	struct stat st = { .st_mode = 0 };
	int rc = ckpt_io_fstatat(ckpt_store_fd(store), name, &st, AT_SYMLINK_NOFOLLOW);

	if (rc == 0 && fchown(dirfd, st.st_uid, st.st_gid) < 0 && errno != EPERM)
		rc = -errno;
	if (rc == 0 && fchmod(dirfd, st.st_mode & 07777) < 0)
		rc = -errno;
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot begin to write '%s' again", name) : 0;
}

/* What tells a later one that this folder was begun here, whatever became of its writer. */
static int leave_mark(int dirfd, const char *name, struct ckpt_err *err)
{
	CKPT_CLOSE int control = -1;
	int rc = ckpt_control_make(dirfd, name, &control, err);

	if (rc < 0)
		return rc;
	return ckpt_io_publish(control, ckpt_path_basename(CKPT_REPLACES_FILE), "\n", 1, 0644, err);
}

/* By it others know, and we later, that a save has begun here. */
static int leave_session(struct ckpt_store *store, const char *open_name, struct ckpt_err *err)
{
	struct ckpt_session *session = NULL;
	int rc = ckpt_session_open(store, open_name, &session, err);

	if (rc == 0)
		ckpt_session_close(session, true);
	return rc;
}

/* One round: -EAGAIN look again. */
static int begin_once(struct ckpt_store *store, const char *name, const char *open_name,
		      struct ckpt_err *err)
{
	CKPT_CLOSE int dirfd = -1;
	int made = ckpt_io_mkdirat(ckpt_store_fd(store), open_name, 0700);
	int rc;

	if (made < 0 && made != -EEXIST)
		return ckpt_err_sys(err, made, "cannot create the folder '%s'", open_name);
	rc = ckpt_open_folder(store, open_name, &dirfd, err);
	if (rc < 0)
		return rc == -ENOENT ? -EAGAIN : rc;
	rc = made == 0 ? make_alike(store, name, dirfd, err) : judge(dirfd, open_name, err);
	if (rc == 0 && made == 0)
		rc = leave_mark(dirfd, open_name, err);
	if (rc > 0) {
		rc = ckpt_abort(store, open_name, err);
		return rc == 0 || rc == -ENOENT ? -EAGAIN : rc;
	}
	return rc < 0 ? rc : leave_session(store, open_name, err);
}

int ckpt_open_again(struct ckpt_store *store, const char *name, struct ckpt_buf *out_open_name,
		    struct ckpt_err *err)
{
	struct ckpt_buf open_name;
	int rc;

	ckpt_buf_init(&open_name);
	ckpt_buf_printf(&open_name, "%s" CKPT_PARTIAL_SUFFIX, name);
	rc = ckpt_buf_check(&open_name);
	if (rc == 0)
		rc = ckpt_path_check_name(open_name.data, err);
	if (rc == 0)
		rc = -EAGAIN;
	for (int tries = 0; rc == -EAGAIN && tries < TRIES_MAX; tries++)
		rc = begin_once(store, name, open_name.data, err);
	if (rc == -EAGAIN)
		rc = ckpt_err_set(err, -EBUSY,
				  "cannot begin '%s': others begin and drop it; try again", name);
	if (rc == 0) {
		ckpt_buf_add_str(out_open_name, open_name.data);
		rc = ckpt_buf_check(out_open_name);
	}
	ckpt_buf_release(&open_name);
	return rc;
}
