/*
 * commit_lock.c - commit.lock: who alone may commit, abort or begin an open
 * checkpoint. The file is made with O_EXCL and holds its owner. A dead owner's
 * is taken over; a flock on the control folder, held for the moment of taking,
 * keeps two takers from removing each other's lock, and a reader of the lock
 * from seeing it half written.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

#define LOCK_NAME "commit.lock"
/* The flock is held for a few system calls: who waits longer waits for a stopped process. */
#define GUARD_WAIT_MS 5000
#define GUARD_POLL_NS (5L * 1000 * 1000)
/* Takers that meet each other's leavings go round this often at most. */
#define TAKE_TRIES_MAX 8

/*
 * Making or removing the control folder must not touch the folder's own mtime, by which retention
 * code sorts.
 */
static void restore_mtime(int dirfd, const struct stat *before)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, before->st_mtim };

	/* Not the owner: then the time stays wrong, which harms nothing that is checked. */
	ckpt_ignore(futimens(dirfd, times));
}

/*
 * The control folder that root makes in a user's folder, for a mount, must not keep that user from
 * committing or removing his own.
 */
static void give_to_owner(int control, const struct stat *folder)
{
	/* Not root: then it is the caller's, as all that he makes. */
	if (geteuid() == 0 && folder->st_uid != 0)
		ckpt_ignore(fchown(control, folder->st_uid, folder->st_gid));
}

int ckpt_control_make(int dirfd, const char *label, int *out_fd, struct ckpt_err *err)
{
	struct stat before;
	bool made;
	int fd = -1;
	int rc = ckpt_io_fstat(dirfd, &before);

	if (rc == 0)
		rc = ckpt_io_mkdirat(dirfd, CKPT_CONTROL_DIR, 0777);
	made = rc == 0;
	if (made)
		restore_mtime(dirfd, &before);
	if (rc == 0 || rc == -EEXIST) {
		fd = ckpt_io_openat(dirfd, CKPT_CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
				    0);
		rc = fd;
	}
	if (made && fd >= 0)
		give_to_owner(fd, &before);
	if (rc == -ENOTDIR || rc == -ELOOP)
		return ckpt_err_set(err, rc,
				    "'%s/" CKPT_CONTROL_DIR
				    "' is no folder and in the way; move it away",
				    label);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make the folder '%s/" CKPT_CONTROL_DIR "'",
				    label);
	*out_fd = fd;
	return 0;
}

void ckpt_control_drop_empty(int dirfd)
{
	struct stat before;

	if (ckpt_io_fstat(dirfd, &before) < 0)
		return;
	if (ckpt_io_unlinkat(dirfd, CKPT_CONTROL_DIR, AT_REMOVEDIR) == 0)
		restore_mtime(dirfd, &before);
}

/*
 * flock the control folder; it goes with the descriptor. 0 also where the file system has no such
 * locks.
 */
static int guard(int control, const char *label, struct ckpt_err *err)
{
	const struct timespec poll = { .tv_nsec = GUARD_POLL_NS };
	uint64_t deadline_ms = ckpt_clock_mono_ms() + GUARD_WAIT_MS;

	while (flock(control, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return 0;
		if (ckpt_clock_mono_ms() >= deadline_ms)
			return ckpt_err_set(err, -EBUSY,
					    "cannot lock '%s': another process is at it; try again",
					    label);
		nanosleep(&poll, NULL);
	}
	return 0;
}

/*
 * Create the lock file with this process in it; -EEXIST somebody has it, -ENOENT the control
 * folder has just gone.
 */
static int create(int control)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_owner self;
	struct ckpt_buf text;
	int rc = ckpt_owner_self(&self, NULL);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&text);
	ckpt_owner_print(&self, &text);
	ckpt_buf_add_char(&text, '\n');
	rc = ckpt_buf_check(&text);
	if (rc == 0) {
		fd = ckpt_io_openat(control, LOCK_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
				    0644);
		rc = fd < 0 ? fd : 0;
	}
	if (rc == 0) {
		rc = ckpt_io_pwrite_full(fd, text.data, text.len_bytes, 0);
		if (rc < 0) /* the first failure is the one to tell */
			ckpt_ignore(ckpt_io_unlinkat(control, LOCK_NAME, 0));
	}
	ckpt_buf_release(&text);
	return rc;
}

/* Remove a lock whose owner is dead, or that is damaged (its writer died writing it). */
static int evict(int control, const char *label, struct ckpt_err *err)
{
	struct ckpt_owner owner;
	int rc = ckpt_owner_read(control, LOCK_NAME, &owner);

	if (rc == 0 && ckpt_owner_alive(&owner))
		return ckpt_err_set(
			err, -EBUSY,
			"'%s' is being committed or dropped by process %lld on %s; wait for it, or, if that process is gone, remove '%s/" CKPT_COMMIT_LOCK
			"'",
			label, (long long)owner.pid, owner.host, label);
	if (rc == 0 || rc == -EBADMSG)
		rc = ckpt_io_unlinkat(control, LOCK_NAME, 0);
	if (rc < 0 && rc != -ENOENT)
		return ckpt_err_sys(err, rc, "cannot take over '%s/" CKPT_COMMIT_LOCK "'", label);
	return 0;
}

/* One round: 0 it is ours, -EAGAIN look again, else final. */
static int try_take(int dirfd, const char *label, struct ckpt_err *err)
{
	CKPT_CLOSE int control = -1;
	int rc = ckpt_control_make(dirfd, label, &control, err);

	if (rc == 0)
		rc = guard(control, label, err);
	if (rc < 0)
		return rc;
	rc = create(control);
	if (rc == -ENOENT) /* the last holder has just removed the empty folder */
		return -EAGAIN;
	if (rc == -EEXIST) {
		rc = evict(control, label, err);
		return rc < 0 ? rc : -EAGAIN;
	}
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot create '%s/" CKPT_COMMIT_LOCK "'", label);
	return 0;
}

int ckpt_lock_take(int dirfd, const char *label, struct ckpt_err *err)
{
	int rc = -EAGAIN;

	for (int tries = 0; rc == -EAGAIN && tries < TAKE_TRIES_MAX; tries++)
		rc = try_take(dirfd, label, err);
	if (rc == -EAGAIN)
		return ckpt_err_set(err, -EBUSY,
				    "cannot lock '%s': other processes are at it; try again",
				    label);
	return rc;
}

void ckpt_lock_drop(int dirfd)
{
	/* By no path: a symbolic link may be where its control folder was. */
	CKPT_CLOSE int control =
		ckpt_io_openat(dirfd, CKPT_CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	/* A lock that stays is taken over: its owner is dead once this process ends. */
	if (control >= 0)
		ckpt_ignore(ckpt_io_unlinkat(control, LOCK_NAME, 0));
	ckpt_control_drop_empty(dirfd);
}

int ckpt_lock_holder(int dirfd, struct ckpt_buf *out)
{
	struct ckpt_owner owner;
	int rc = ckpt_owner_read(dirfd, CKPT_COMMIT_LOCK, &owner);

	if (rc == -EBADMSG || (rc == 0 && !ckpt_owner_alive(&owner)))
		return -ENOENT;
	if (rc < 0)
		return rc;
	ckpt_buf_printf(out, "commit on %s, pid %lld", owner.host, (long long)owner.pid);
	return ckpt_buf_check(out);
}
