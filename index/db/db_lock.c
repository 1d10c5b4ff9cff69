/*
 * db_lock.c - one writer in all processes, and no database swapped while it is opened.
 *
 * Both are bytes of "<path>.lock", locked by F_OFD_SETLK: such locks belong to
 * the open file, so they end with the process, need no SQLite file to be
 * touched, and tell apart two indexes opened in one process. SQLite has write
 * locks of its own; ours keeps two writers from meeting in the log at all
 * (3.40.1 has the WAL-reset bug) and covers what SQLite knows nothing of:
 * making, emptying and setting aside. It polls, because F_OFD_SETLKW has no
 * time-out.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "db_internal.h"

enum {
	DB_LOCK_WRITER = 0,
	DB_LOCK_OPENING = 1,
};

#define POLL_MIN_NS 500000L
#define POLL_MAX_NS 16000000L

static int open_lock_file(const struct ckpt_db *db)
{
	CKPT_FREE char *name = NULL;
	struct ckpt_buf buf;

	ckpt_buf_init(&buf);
	ckpt_buf_printf(&buf, "%s.lock", db->path);
	name = ckpt_buf_steal(&buf);
	if (!name)
		return -ENOMEM;
	return ckpt_io_openat(AT_FDCWD, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
}

int db_lock_create(struct ckpt_db *db, struct ckpt_err *err)
{
	int fd = open_lock_file(db);

	if (fd == -ELOOP)
		return ckpt_err_set(
			err, fd, "'%s.lock' is a symbolic link, which is not followed; remove it",
			db->label);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s.lock', the index's lock", db->label);
	db->lock_fd = fd;
	return 0;
}

/* One attempt; F_UNLCK always succeeds at the first. */
static int set_lock(int fd, short type, off_t byte)
{
	struct flock range = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	while (fcntl(fd, F_OFD_SETLK, &range) < 0) {
		if (errno != EINTR)
			return errno == EACCES ? -EAGAIN : -errno;
	}
	return 0;
}

static int wait_lock(int fd, short type, off_t byte, unsigned wait_ms)
{
	uint64_t end_ms = ckpt_clock_mono_ms() + wait_ms;
	struct timespec pause = { .tv_nsec = POLL_MIN_NS };
	int rc = set_lock(fd, type, byte);

	while (rc == -EAGAIN && ckpt_clock_mono_ms() < end_ms) {
		nanosleep(&pause, NULL); /* woken early by a signal, it only polls once more */
		pause.tv_nsec = pause.tv_nsec * 2 < POLL_MAX_NS ? pause.tv_nsec * 2 : POLL_MAX_NS;
		rc = set_lock(fd, type, byte);
	}
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

static int lock_failed(const struct ckpt_db *db, int rc, struct ckpt_err *err)
{
	if (rc == -ETIMEDOUT)
		return ckpt_err_set(err, rc,
				    "index '%s' is locked by another process for too long; see"
				    " 'fuser %s.lock' and end it",
				    db->label, db->label);
	return ckpt_err_sys(err, rc, "cannot lock '%s.lock'", db->label);
}

/* Is the descriptor still the file that others would open? */
static bool lock_file_is_current(const struct ckpt_db *db)
{
	CKPT_CLOSE int fd = open_lock_file(db);
	struct stat ours;
	struct stat theirs;

	return fd >= 0 && ckpt_io_fstat(fd, &theirs) == 0 &&
	       ckpt_io_fstat(db->lock_fd, &ours) == 0 && ours.st_dev == theirs.st_dev &&
	       ours.st_ino == theirs.st_ino;
}

/* Somebody removed the lock file: whoever comes now locks another one. */
static int follow_lock_file(struct ckpt_db *db)
{
	int fd = open_lock_file(db);

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&db->opening_mu);
	close(db->lock_fd);
	db->lock_fd = fd;
	pthread_mutex_unlock(&db->opening_mu);
	return 0;
}

int db_lock_writer(struct ckpt_db *db, unsigned wait_ms, struct ckpt_err *err)
{
	int rc = 0;

	if (!db->path)
		return 0;
	for (;;) {
		rc = wait_lock(db->lock_fd, F_WRLCK, DB_LOCK_WRITER, wait_ms);
		if (rc < 0)
			return lock_failed(db, rc, err);
		if (lock_file_is_current(db))
			return 0;
		rc = follow_lock_file(db);
		if (rc < 0)
			return lock_failed(db, rc, err);
	}
}

void db_unlock_writer(struct ckpt_db *db)
{
	if (db->path)
		ckpt_ignore(set_lock(db->lock_fd, F_UNLCK,
				     DB_LOCK_WRITER)); /* cannot fail on our own descriptor */
}

int db_lock_opening(struct ckpt_db *db, bool exclusive, struct ckpt_err *err)
{
	int rc = 0;

	assert(db->path);
	pthread_mutex_lock(&db->opening_mu);
	rc = wait_lock(db->lock_fd, exclusive ? F_WRLCK : F_RDLCK, DB_LOCK_OPENING, DB_BUSY_MS);
	if (rc == 0)
		return 0;
	pthread_mutex_unlock(&db->opening_mu);
	return lock_failed(db, rc, err);
}

void db_unlock_opening(struct ckpt_db *db)
{
	ckpt_ignore(set_lock(db->lock_fd, F_UNLCK, DB_LOCK_OPENING)); /* as above */
	pthread_mutex_unlock(&db->opening_mu);
}
