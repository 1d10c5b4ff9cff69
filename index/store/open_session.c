/*
 * open_session.c - session files: who writes into an open checkpoint. A session is
 * the file `.ckptfs/session-HOST-PID` with its owner in the first line, touched
 * every 10 seconds. It is dead when its process is known to be gone, or when it
 * was not touched for CKPT_SESSION_DEAD_SECS by the file system's own clock.
 * What stands in it behind the owner is read in session_read.c.
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

/* Written and removed at once, to learn what time the file system's server has. */
#define CLOCK_FILE "clock"
/* Five words, four numbers of 64 bits and a time fit. */
#define PROGRESS_LINE_LEN 192

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

/*
 * As long as any, so that the next one can be written over it: a reader that meets both halves
 * takes neither.
 */
static void print_progress(const struct ckpt_save_progress *progress, struct ckpt_buf *out)
{
	ckpt_buf_printf(out,
			"{\"doing\":\"writing\",\"done\":%llu,\"total\":%llu,\"ranks\":%llu,"
			"\"slowest\":%llu,\"since\":\"%s\"}",
			(unsigned long long)progress->bytes_done,
			(unsigned long long)progress->bytes_total,
			(unsigned long long)progress->rank_count,
			(unsigned long long)progress->slowest_rank, progress->since);
	while (out->len_bytes < PROGRESS_LINE_LEN - 1 && !out->failed)
		ckpt_buf_add_char(out, ' ');
	ckpt_buf_add_char(out, '\n');
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

int ckpt_session_tell_progress(int dirfd, const struct ckpt_save_progress *progress)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_owner self;
	struct ckpt_buf path;
	struct ckpt_buf owner;
	struct ckpt_buf line;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_init(&owner);
	ckpt_buf_init(&line);
	rc = own_path(&path, &self, NULL);
	if (rc == 0) {
		ckpt_owner_print(&self, &owner);
		ckpt_buf_add_char(&owner, '\n');
		print_progress(progress, &line);
		rc = fd = ckpt_io_openat(dirfd, path.data, O_WRONLY | O_NOFOLLOW, 0);
	}
	if (rc >= 0)
		rc = ckpt_buf_check(&owner);
	if (rc == 0)
		rc = ckpt_buf_check(&line);
	if (rc == 0)
		rc = ckpt_io_pwrite_full(fd, line.data, line.len_bytes, owner.len_bytes);
	ckpt_buf_release(&line);
	ckpt_buf_release(&owner);
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

int ckpt_session_each(int dirfd, const char *path, const char *prefix,
		      int (*fn)(void *ctx, int control, const char *name), void *ctx)
{
	size_t prefix_len = strlen(prefix);
	int control = ckpt_io_openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
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
		if (strncmp(name, prefix, prefix_len) != 0)
			continue;
		rc = fn(ctx, control, name);
		if (rc != 0)
			break;
	}
	closedir(dir);
	return rc;
}

bool ckpt_session_is_half_made(const char *name)
{
	size_t len = strlen(name);
	size_t suffix_len = strlen(CKPT_SESSION_TEMP_SUFFIX);

	return len > suffix_len && strcmp(name + len - suffix_len, CKPT_SESSION_TEMP_SUFFIX) == 0;
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
	ckpt_ignore(
		ckpt_session_each(dirfd, CKPT_CONTROL_DIR, CKPT_SESSION_PREFIX, remove_one, NULL));
}

time_t ckpt_session_now(int control)
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

bool ckpt_session_lives(const struct ckpt_session_head *head, time_t now)
{
	return ckpt_owner_alive(&head->owner) && now - head->touched < CKPT_SESSION_DEAD_SECS;
}

struct search {
	const struct ckpt_owner *self;
	bool blind_for_own;
	time_t now; /* 0: not asked yet */
	struct ckpt_session_look *look;
	struct ckpt_buf *holder;
};

/* " (1.2 GiB of 2.8 GiB; rank 3 of 4 is the slowest)" */
static void note_progress(const struct ckpt_save_progress *progress, struct ckpt_buf *out)
{
	char done[16];
	char total[16];

	ckpt_buf_printf(out, " (%s of %s",
			num_format_size(progress->bytes_done, done, sizeof(done)),
			num_format_size(progress->bytes_total, total, sizeof(total)));
	if (progress->rank_count > 1 && progress->bytes_done < progress->bytes_total)
		ckpt_buf_printf(out, "; rank %llu of %llu is the slowest",
				(unsigned long long)progress->slowest_rank,
				(unsigned long long)progress->rank_count);
	ckpt_buf_add_char(out, ')');
}

/* A living one that somebody has to wait for; a writer is the one to name. */
static void note_holder(struct search *search, const struct ckpt_session_head *head)
{
	struct ckpt_session_look *look = search->look;
	bool is_writing = head->doing == CKPT_SESSION_WRITING;

	if (look->writing || (look->summing && !is_writing))
		return;
	look->writing = is_writing;
	look->summing = look->summing || !is_writing;
	ckpt_buf_reset(search->holder);
	ckpt_buf_printf(search->holder, "%s on %s, pid %lld",
			is_writing ? "writer" : "sums being made", head->owner.host,
			(long long)head->owner.pid);
	if (is_writing && head->has_progress && head->progress.bytes_total > 0)
		note_progress(&head->progress, search->holder);
}

/* Session files appear whole, so a damaged one has nobody behind it. */
static int look_at(void *ctx, int control, const char *name)
{
	struct search *search = ctx;
	struct ckpt_session_head head;
	bool own;
	int rc;

	if (ckpt_session_is_half_made(name))
		return 0;
	rc = ckpt_session_head_read(control, name, &head);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0 && rc != -EBADMSG)
		return rc;
	own = rc == 0 && ckpt_owner_is_same(&head.owner, search->self);
	if (own && search->blind_for_own)
		return 0;
	search->look->any = true;
	if (rc == 0 && search->now == 0)
		search->now = ckpt_session_now(control);
	if (rc < 0 || !ckpt_session_lives(&head, search->now))
		search->look->abandoned = search->look->abandoned || rc < 0 ||
					  head.doing != CKPT_SESSION_IDLE;
	/* Nobody waits for sums that he makes himself. */
	else if (head.doing == CKPT_SESSION_WRITING || (head.doing == CKPT_SESSION_SUMMING && !own))
		note_holder(search, &head);
	return 0;
}

int ckpt_session_look(int dirfd, bool blind_for_own, struct ckpt_session_look *out,
		      struct ckpt_buf *holder)
{
	struct ckpt_session_look look = { .any = false };
	struct ckpt_owner self;
	struct search search = {
		.self = &self, .blind_for_own = blind_for_own, .look = &look, .holder = holder
	};
	int rc = ckpt_owner_self(&self, NULL);

	if (rc == 0)
		rc = ckpt_session_each(dirfd, CKPT_CONTROL_DIR, CKPT_SESSION_PREFIX, look_at,
				       &search);
	if (rc == -ENOENT)
		rc = 0;
	if (rc == 0)
		rc = ckpt_buf_check(holder);
	if (rc == 0)
		*out = look;
	return rc;
}

int ckpt_session_holder(int dirfd, bool *out_any, struct ckpt_buf *out)
{
	struct ckpt_session_look look;
	struct ckpt_buf holder;
	int rc;

	ckpt_buf_init(&holder);
	rc = ckpt_session_look(dirfd, false, &look, &holder);
	if (rc == 0) {
		*out_any = look.any;
		ckpt_buf_add(out, holder.data, holder.len_bytes);
		rc = look.writing || look.summing ? ckpt_buf_check(out) : -ENOENT;
	}
	ckpt_buf_release(&holder);
	return rc;
}

static int remove_dead(void *ctx, int control, const char *name)
{
	struct ckpt_session_head head;
	const time_t *now = ctx;
	int rc = ckpt_session_head_read(control, name, &head);

	if (rc == -EBADMSG || (rc == 0 && !ckpt_session_lives(&head, *now)))
		ckpt_ignore(ckpt_io_unlinkat(control, name, 0)); /* as in remove_one */
	return 0;
}

void ckpt_leftovers_drop(const struct ckpt_store *store, const char *name)
{
	CKPT_CLOSE int dirfd =
		ckpt_io_open_beneath(ckpt_store_fd(store), name, O_RDONLY | O_DIRECTORY, 0);
	struct ckpt_buf holder;
	struct stat st;
	time_t now;

	if (dirfd < 0 || ckpt_store_read_only(store))
		return;
	/* A living holder has it at hand this moment, and removes both itself. */
	ckpt_buf_init(&holder);
	if (ckpt_lock_holder(dirfd, &holder) != -ENOENT) {
		ckpt_buf_release(&holder);
		return;
	}
	ckpt_buf_release(&holder);
	if (ckpt_io_fstatat(dirfd, CKPT_COMMIT_LOCK, &st, AT_SYMLINK_NOFOLLOW) == 0)
		ckpt_ignore(ckpt_io_unlinkat(dirfd, CKPT_COMMIT_LOCK, 0)); /* as in remove_one */
	now = time(NULL);
	ckpt_ignore(
		ckpt_session_each(dirfd, CKPT_CONTROL_DIR, CKPT_SESSION_PREFIX, remove_dead, &now));
}
