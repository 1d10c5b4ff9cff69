/*
 * open_session.c - session files: who writes into an open checkpoint. A session is
 * the file `.ckptfs/session-HOST-PID` with its owner in the first line, touched
 * every 10 seconds. It is dead when its process is known to be gone, or when it
 * was not touched for CKPT_SESSION_DEAD_SECS by the file system's own clock.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

#define PREFIX_LEN (sizeof(CKPT_SESSION_PREFIX) - 1)
/* Written and removed at once, to learn what time the file system's server has. */
#define CLOCK_FILE "clock"

/* ".ckptfs/session-HOST-PID" of this process. */
static int own_path(struct ckpt_buf *out, struct ckpt_owner *self, struct ckpt_err *err)
{
	int rc = ckpt_owner_self(self, err);

	if (rc < 0)
		return rc;
	ckpt_buf_printf(out, CKPT_CONTROL_DIR "/" CKPT_SESSION_PREFIX "%s-%lld", self->host,
			(long long)self->pid);
	return ckpt_buf_check(out);
}

int ckpt_session_start(int dirfd, const char *label, struct ckpt_err *err)
{
	struct ckpt_owner self;
	struct ckpt_buf path;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_init(&text);
	rc = own_path(&path, &self, err);
	if (rc == 0) {
		ckpt_owner_print(&self, &text);
		ckpt_buf_add_char(&text, '\n');
		rc = ckpt_buf_check(&text);
	}
	if (rc == 0) {
		rc = ckpt_io_publish(dirfd, path.data, text.data, text.len_bytes, 0644, err);
		if (rc < 0)
			ckpt_err_prefix(err, rc, "cannot begin '%s'", label);
	}
	ckpt_buf_release(&text);
	ckpt_buf_release(&path);
	return rc;
}

int ckpt_session_touch(int dirfd)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	struct ckpt_owner self;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	rc = own_path(&path, &self, NULL);
	if (rc == 0 && utimensat(dirfd, path.data, now, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	ckpt_buf_release(&path);
	return rc;
}

void ckpt_session_end(int dirfd)
{
	struct ckpt_owner self;
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	/* What stays is dead as soon as this process is. */
	if (own_path(&path, &self, NULL) == 0)
		ckpt_ignore(ckpt_io_unlinkat(dirfd, path.data, 0));
	ckpt_buf_release(&path);
}

/* --- looking at all of them ------------------------------------------------------ */

/*
 * Call @fn for every name in the control folder that begins as a session's; non-zero stops and is
 * returned.
 */
static int each_session(int dirfd, int (*fn)(void *ctx, int control, const char *name), void *ctx)
{
	int control =
		ckpt_io_openat(dirfd, CKPT_CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	const char *name;
	DIR *dir;
	int rc;

	if (control < 0)
		return control;
	dir = fdopendir(control);
	if (!dir) {
		rc = -errno;
		close(control);
		return rc;
	}
	while ((rc = ckpt_io_readdir(dir, &name)) > 0) {
		if (strncmp(name, CKPT_SESSION_PREFIX, PREFIX_LEN) != 0)
			continue;
		rc = fn(ctx, control, name);
		if (rc != 0)
			break;
	}
	closedir(dir);
	return rc;
}

static int remove_one(void *ctx, int control, const char *name)
{
	(void)ctx;
	/* The checkpoint is committed: a file more in its control folder harms nobody. */
	ckpt_ignore(ckpt_io_unlinkat(control, name, 0));
	return 0;
}

void ckpt_session_end_all(int dirfd)
{
	/* As in remove_one. */
	ckpt_ignore(each_session(dirfd, remove_one, NULL));
}

/*
 * Now, by the clock that stamps files here. On a local file system that is
 * ours; a server's is read off a file written this moment. Where that cannot
 * be written ours must do.
 */
static time_t file_system_now(int control)
{
	struct stat st = { .st_mtim = { .tv_sec = 0 } };
	bool is_network = false;
	int fd = -1;

	if (ckpt_io_is_network_fs(control, &is_network) < 0 || !is_network)
		return time(NULL);
	fd = ckpt_io_openat(control, CLOCK_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return time(NULL);
	if (ckpt_io_pwrite_full(fd, "\n", 1, 0) < 0 || ckpt_io_fstat(fd, &st) < 0)
		st.st_mtim.tv_sec = time(NULL);
	close(fd);
	/* Left behind it harms nothing. */
	ckpt_ignore(ckpt_io_unlinkat(control, CLOCK_FILE, 0));
	return st.st_mtim.tv_sec;
}

static bool same_process(const struct ckpt_owner *a, const struct ckpt_owner *b)
{
	return a->pid == b->pid && a->pid_ns == b->pid_ns && a->start_ticks == b->start_ticks &&
	       strcmp(a->boot_id, b->boot_id) == 0 && strcmp(a->host, b->host) == 0;
}

struct search {
	const struct ckpt_owner *but; /* or NULL */
	bool any;
	struct ckpt_buf *out;
};

static bool is_fresh(int control, const char *name)
{
	struct stat st;

	if (ckpt_io_fstatat(control, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return file_system_now(control) - st.st_mtim.tv_sec < CKPT_SESSION_DEAD_SECS;
}

/* 1 when this one lives. Session files appear whole, so a damaged one has nobody behind it. */
static int look(void *ctx, int control, const char *name)
{
	struct search *search = ctx;
	struct ckpt_owner owner;
	int rc = ckpt_owner_read(control, name, &owner);

	if (rc == -ENOENT)
		return 0;
	if (rc < 0 && rc != -EBADMSG)
		return rc;
	if (rc == 0 && search->but && same_process(&owner, search->but))
		return 0;
	search->any = true;
	if (rc < 0 || !ckpt_owner_alive(&owner) || !is_fresh(control, name))
		return 0;
	ckpt_buf_printf(search->out, "writer on %s, pid %lld", owner.host, (long long)owner.pid);
	return 1;
}

int ckpt_session_holder_but(int dirfd, const struct ckpt_owner *but, bool *out_any,
			    struct ckpt_buf *out)
{
	struct search search = { .but = but, .out = out };
	int rc = each_session(dirfd, look, &search);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	*out_any = search.any;
	return rc > 0 ? ckpt_buf_check(out) : -ENOENT;
}

int ckpt_session_holder(int dirfd, bool *out_any, struct ckpt_buf *out)
{
	return ckpt_session_holder_but(dirfd, NULL, out_any, out);
}
