/*
 * write_session.c - this process's sessions: written line by line through a descriptor
 * of the session file itself, so that a checkpoint may be renamed meanwhile, and
 * a session that was removed is noticed. Every write ends with what the process
 * is doing, so that readers find that in the last lines.
 * A session is no journal: nothing in it is synced.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

/* Lines are collected up to here; one of a shard of 65536 blocks is 1 MiB by itself. */
#define WRITE_BYTES (CKPT_IO_CHUNK / 2)

struct ckpt_session {
	struct ckpt_store *store; /* borrowed */
	char *name; /* what its checkpoint was called at the beginning; "" the store's */
	char *file; /* its own name */
	int fd;
	uint64_t owner_len;
	enum ckpt_session_doing doing;
	bool is_torn; /* the last write failed: it may have left half a line */
};

struct ckpt_stamps ckpt_stamps_of(const struct stat *st)
{
	return (struct ckpt_stamps){ .ino = st->st_ino,
				     .size_bytes = (uint64_t)st->st_size,
				     .mtime_ns = ckpt_stamp_ns(st->st_mtim),
				     .ctime_ns = ckpt_stamp_ns(st->st_ctim) };
}

bool ckpt_stamps_equal(const struct ckpt_stamps *a, const struct ckpt_stamps *b)
{
	return a->ino == b->ino && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns;
}

/* --- lines ------------------------------------------------------------------------------------ */

static void print_doing(enum ckpt_session_doing doing, struct ckpt_buf *out)
{
	static const char *const words[] = { [CKPT_SESSION_WRITING] = "writing",
					     [CKPT_SESSION_SUMMING] = "summing",
					     [CKPT_SESSION_IDLE] = "idle" };

	ckpt_buf_printf(out, "{\"doing\":\"%s\"}\n", words[doing]);
}

static void print_sum(const struct ckpt_session_sum *sum, struct ckpt_buf *out)
{
	const struct ckpt_stamps *at = &sum->stamps;
	const struct ckpt_shard *sums = sum->sums;
	uint64_t count = ckpt_block_count(at->size_bytes, sums->block_bytes);
	char hex[CKPT_HEX128_LEN + 1];
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	/* JSON is UTF-8, names need not be; nobody looks the file up by this one. */
	ckpt_path_escape(&path, sum->path);
	ckpt_buf_add_str(out, "{\"file\":");
	ckpt_buf_add_json_str(out, path.data);
	ckpt_buf_release(&path);
	ckpt_buf_printf(out,
			",\"ino\":%llu,\"size\":%llu,\"mtime_ns\":%lld,\"ctime_ns\":%lld,"
			"\"block\":%llu,\"xxh3\":\"",
			(unsigned long long)at->ino, (unsigned long long)at->size_bytes,
			(long long)at->mtime_ns, (long long)at->ctime_ns,
			(unsigned long long)sums->block_bytes);
	for (uint64_t i = 0; i < count; i++)
		ckpt_buf_add(out, ckpt_hex64(sums->sums[i], hex), CKPT_HEX64_LEN);
	if (sums->has_xxh128)
		ckpt_buf_printf(out, "\",\"xxh128\":\"%s", ckpt_hex128(sums->xxh128, hex));
	ckpt_buf_add_str(out, "\"}\n");
}

static int is_gone(const struct ckpt_session *session, struct ckpt_err *err)
{
	return ckpt_err_set(
		err, -ENOENT,
		"the session of this process in '%s' is gone: its checkpoint was committed or dropped",
		*session->name ? session->name : CKPT_SESSIONS_DIR);
}

static int cannot_write(const struct ckpt_session *session, int rc, struct ckpt_err *err)
{
	return ckpt_err_sys(err, rc, "cannot write the session '%s' in '%s'", session->file,
			    *session->name ? session->name : CKPT_SESSIONS_DIR);
}

/* Append whole lines; the file begins anew, with its owner only, where it would be too large. */
static int append(struct ckpt_session *session, const struct ckpt_buf *lines, struct ckpt_err *err)
{
	struct stat st;
	int rc = ckpt_buf_check(lines);

	if (rc == 0)
		rc = ckpt_io_fstat(session->fd, &st);
	if (rc == 0 && st.st_nlink == 0)
		return is_gone(session, err);
	if (rc == 0 && (uint64_t)st.st_size + lines->len_bytes > CKPT_SESSION_MAX) {
		rc = ckpt_io_ftruncate(session->fd, session->owner_len);
		session->is_torn = session->is_torn && rc < 0;
	}
	/* The descriptor appends, wherever the end is by now. */
	if (rc == 0 && session->is_torn)
		rc = ckpt_io_pwrite_full(session->fd, "\n", 1, 0);
	if (rc == 0) {
		session->is_torn = true;
		rc = ckpt_io_pwrite_full(session->fd, lines->data, lines->len_bytes, 0);
	}
	if (rc < 0)
		return cannot_write(session, rc, err);
	session->is_torn = false;
	return 0;
}

int ckpt_session_add(struct ckpt_session *session, const struct ckpt_session_sum *sums,
		     size_t count, struct ckpt_err *err)
{
	struct ckpt_buf lines;
	int rc = 0;

	ckpt_buf_init(&lines);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		print_sum(&sums[i], &lines);
		if (i + 1 < count && lines.len_bytes < WRITE_BYTES && !lines.failed)
			continue;
		print_doing(session->doing, &lines);
		rc = append(session, &lines, err);
		ckpt_buf_reset(&lines);
	}
	ckpt_buf_release(&lines);
	return rc;
}

int ckpt_session_tell(struct ckpt_session *session, enum ckpt_session_doing doing,
		      struct ckpt_err *err)
{
	struct ckpt_buf line;
	int rc;

	ckpt_buf_init(&line);
	print_doing(doing, &line);
	rc = append(session, &line, err);
	ckpt_buf_release(&line);
	if (rc == 0)
		session->doing = doing;
	return rc;
}

int ckpt_session_keep(struct ckpt_session *session)
{
	struct stat st;
	int rc = ckpt_io_fstat(session->fd, &st);

	if (rc == 0 && st.st_nlink == 0)
		return -ENOENT;
	if (rc == 0 && futimens(session->fd, NULL) < 0)
		rc = -errno;
	return rc;
}

/* --- beginning ------------------------------------------------------------------------------ */

/* One that is there is ours if it names this process, and not one that had its pid before. */
static int take_up(struct ckpt_session *session, int control, const struct ckpt_owner *self)
{
	struct ckpt_session_head head;
	CKPT_CLOSE int fd = -1;
	int rc = ckpt_session_head_read(control, session->file, &head);

	if (rc == 0 && !ckpt_owner_is_same(&head.owner, self))
		rc = -ENOENT;
	if (rc < 0)
		return rc == -EBADMSG ? -ENOENT : rc;
	fd = ckpt_io_openat(control, session->file, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	session->fd = ckpt_steal_fd(&fd);
	session->owner_len = head.owner_len;
	session->doing = head.doing;
	/* It may have been left with half a line; an empty one harms nobody. */
	session->is_torn = true;
	return 0;
}

/* Whole as soon as it has its name, but not synced. */
static int create(struct ckpt_session *session, int control, const struct ckpt_owner *self)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf line;
	struct ckpt_buf temp;
	int rc;

	ckpt_buf_init(&line);
	ckpt_buf_init(&temp);
	ckpt_owner_print(self, &line);
	ckpt_buf_add_char(&line, '\n');
	ckpt_buf_printf(&temp, "%s" CKPT_SESSION_TEMP_SUFFIX, session->file);
	rc = ckpt_buf_check(&line);
	if (rc == 0)
		rc = ckpt_buf_check(&temp);
	/* A left-over may be another name of some file: take the name away, write through nothing. */
	if (rc == 0)
		rc = ckpt_io_unlinkat(control, temp.data, 0);
	if (rc == 0 || rc == -ENOENT)
		rc = fd = ckpt_io_openat(control, temp.data,
					 O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	if (rc >= 0)
		rc = ckpt_io_pwrite_full(fd, line.data, line.len_bytes, 0);
	if (rc == 0)
		rc = ckpt_io_renameat(control, temp.data, control, session->file);
	if (rc < 0 && fd >= 0) /* the first failure is the one to tell */
		ckpt_ignore(ckpt_io_unlinkat(control, temp.data, 0));
	if (rc == 0) {
		session->fd = ckpt_steal_fd(&fd);
		session->owner_len = line.len_bytes;
		session->doing = CKPT_SESSION_WRITING;
	}
	ckpt_buf_release(&temp);
	ckpt_buf_release(&line);
	return rc;
}

/* The file in the folder @control, whose names begin with @prefix. */
static int attach(struct ckpt_session *session, int control, const char *prefix,
		  struct ckpt_err *err)
{
	struct ckpt_owner self;
	struct ckpt_buf file;
	int rc = ckpt_owner_self(&self, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&file);
	ckpt_buf_printf(&file, "%s%s-%lld", prefix, self.host, (long long)self.pid);
	session->file = ckpt_buf_steal(&file);
	if (!session->file)
		return ckpt_err_sys(err, -ENOMEM, "cannot begin a session");
	rc = take_up(session, control, &self);
	if (rc == -ENOENT)
		rc = create(session, control, &self);
	return rc < 0 ? cannot_write(session, rc, err) : 0;
}

static bool is_committed(int dirfd, const char *name)
{
	struct stat st;

	return !ckpt_path_is_temporary(name) && ckpt_manifest_stat(dirfd, "", &st) == 0;
}

static int refuse_committed(const char *name, struct ckpt_err *err)
{
	return ckpt_err_set(err, -EROFS,
			    "'%s' is committed, and a committed checkpoint never changes", name);
}

static int open_in_checkpoint(struct ckpt_session *session, struct ckpt_err *err)
{
	CKPT_CLOSE int dirfd = -1;
	CKPT_CLOSE int control = -1;
	int rc = ckpt_open_folder(session->store, session->name, &dirfd, err);

	if (rc == 0 && is_committed(dirfd, session->name))
		rc = refuse_committed(session->name, err);
	if (rc == 0)
		rc = ckpt_control_make(dirfd, session->name, &control, err);
	if (rc == 0)
		rc = attach(session, control, CKPT_SESSION_PREFIX, err);
	/* A commit that ended meanwhile has removed the others, and would not see this one. */
	if (rc == 0 && is_committed(dirfd, session->name)) {
		ckpt_ignore(ckpt_io_unlinkat(control, session->file, 0)); /* it harms nobody */
		rc = refuse_committed(session->name, err);
	}
	return rc;
}

static int open_in_store(struct ckpt_session *session, struct ckpt_err *err)
{
	int store_fd = ckpt_store_fd(session->store);
	CKPT_CLOSE int control = -1;
	int rc = ckpt_io_mkdirat(store_fd, CKPT_SESSIONS_DIR, 0777);

	if (rc == 0 || rc == -EEXIST)
		rc = control = ckpt_io_open_beneath(store_fd, CKPT_SESSIONS_DIR,
						    O_RDONLY | O_DIRECTORY, 0);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make the folder '" CKPT_SESSIONS_DIR "'");
	ckpt_sessions_tidy(store_fd);
	return attach(session, control, "", err);
}

int ckpt_session_open(struct ckpt_store *store, const char *name, struct ckpt_session **out,
		      struct ckpt_err *err)
{
	struct ckpt_session *session = calloc(1, sizeof(*session));
	int rc;

	if (!session)
		return ckpt_err_sys(err, -ENOMEM, "cannot begin a session");
	session->fd = -1;
	session->store = store;
	session->name = strdup(name);
	if (!session->name)
		rc = ckpt_err_sys(err, -ENOMEM, "cannot begin a session");
	else
		rc = *name ? open_in_checkpoint(session, err) : open_in_store(session, err);
	if (rc == 0)
		*out = session;
	else
		ckpt_session_close(session, true);
	return rc;
}

/* --- ending --------------------------------------------------------------------------------- */

/* Under the name that its checkpoint had: elsewhere it stays, idle. */
static void remove_file(const struct ckpt_session *session)
{
	CKPT_CLOSE int dirfd = -1;
	CKPT_CLOSE int control = -1;
	struct stat by_name = { .st_ino = 0 };
	struct stat own = { .st_ino = 0 };

	if (*session->name == '\0') {
		control = ckpt_io_open_beneath(ckpt_store_fd(session->store), CKPT_SESSIONS_DIR,
					       O_RDONLY | O_DIRECTORY, 0);
	} else if (ckpt_open_folder(session->store, session->name, &dirfd, NULL) == 0) {
		control = ckpt_io_openat(dirfd, CKPT_CONTROL_DIR,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (control < 0 || ckpt_io_fstat(session->fd, &own) < 0 ||
	    ckpt_io_fstatat(control, session->file, &by_name, AT_SYMLINK_NOFOLLOW) < 0 ||
	    own.st_ino != by_name.st_ino || own.st_dev != by_name.st_dev)
		return;
	ckpt_ignore(ckpt_io_unlinkat(control, session->file, 0)); /* idle, it harms nobody */
	if (dirfd >= 0)
		ckpt_control_drop_empty(dirfd);
}

void ckpt_session_close(struct ckpt_session *session, bool leave)
{
	if (!session)
		return;
	if (session->fd >= 0 && session->doing != CKPT_SESSION_IDLE) {
		/* What cannot be told is dead when this process is. */
		ckpt_ignore(ckpt_session_tell(session, CKPT_SESSION_IDLE, NULL));
	}
	if (session->fd >= 0 && !leave)
		remove_file(session);
	if (session->fd >= 0)
		close(session->fd);
	free(session->file);
	free(session->name);
	free(session);
}
