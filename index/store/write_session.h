/*
 * write_session.h - sums made while writing: what a process leaves beside the files it
 * writes, so that no commit reads their bytes again, in whatever process or on
 * whatever host it runs. Source: ckptfs-format(5) "Sessions".
 *
 * A session is a file of JSON lines: its owner, then a line for each file that
 * was summed and made durable, and lines that tell what the writer is doing. It
 * lies in the open checkpoint where that is known to be one
 * (`.ckptfs/session-HOST-PID`), else in the store (`.ckptfs/sessions/HOST-PID`):
 * a session in a folder makes that an open checkpoint.
 */
#ifndef CKPT_STORE_WRITE_SESSION_H
#define CKPT_STORE_WRITE_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "store/manifest.h"

struct ckpt_store;

/* A write within one tick of the file system's clock leaves no trace in the stamps. */
#define CKPT_SESSION_SETTLE_MS 20
/* Touched this often while its process lives. */
#define CKPT_SESSION_TOUCH_SECS 10

/* What tells that a file is still the same, unchanged: path and device may differ. */
struct ckpt_stamps {
	uint64_t ino;
	uint64_t size_bytes;
	int64_t mtime_ns;
	int64_t ctime_ns;
};

struct ckpt_stamps ckpt_stamps_of(const struct stat *st);
bool ckpt_stamps_equal(const struct ckpt_stamps *a, const struct ckpt_stamps *b);

/*
 * A file whose bytes were summed, and synced before that, in the state of @stamps: taken at least
 * CKPT_SESSION_SETTLE_MS after the ctime in them, and found unchanged behind the last byte read.
 */
struct ckpt_session_sum {
	const char *path; /* below the folder of the session, for people: files are found by inode */
	struct ckpt_stamps stamps;
	/* block_bytes, sums, has_xxh128 and xxh128 count; borrowed. */
	const struct ckpt_shard *sums;
};

enum ckpt_session_doing {
	CKPT_SESSION_WRITING, /* files are open for writing: a commit waits a moment, then is EBUSY */
	CKPT_SESSION_SUMMING, /* all are closed, and not all are summed: a commit waits for it */
	CKPT_SESSION_IDLE,    /* a commit need not wait */
};

/* How far a save is, over all its ranks. */
struct ckpt_save_progress {
	uint64_t bytes_done;
	uint64_t bytes_total; /* 0: not known yet */
	uint64_t rank_count;
	uint64_t slowest_rank;	       /* the one with most left to do */
	char since[CKPT_RFC3339_SIZE]; /* when it began */
};

struct ckpt_session;

/**
 * ckpt_session_open - this process's session in an open checkpoint; there is one a process and
 * folder, which is taken up again
 * @name: the open checkpoint; "": the store's own
 * @out: ckpt_session_close() it. It holds no descriptor of the checkpoint's folder itself.
 * Errors: -ENOENT; -EROFS it is committed; -EACCES; else system. Thread-safe: yes, as all of these
 * on different sessions.
 */
int ckpt_session_open(struct ckpt_store *store, const char *name, struct ckpt_session **out,
		      struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_session_add - append the lines of @count files, as many in one write as fit well
 * Not durable: what a crash loses is summed again. What would make the file larger than 64 MiB
 * begins it anew. -ENOENT as below.
 */
int ckpt_session_add(struct ckpt_session *session, const struct ckpt_session_sum *sums,
		     size_t count, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_session_tell - say what the process is doing there. -ENOENT the session was dropped, or its
 * checkpoint committed.
 */
int ckpt_session_tell(struct ckpt_session *session, enum ckpt_session_doing doing,
		      struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_session_keep - say that the process lives; due every CKPT_SESSION_TOUCH_SECS. -ENOENT as
 * above.
 */
int ckpt_session_keep(struct ckpt_session *session) CKPT_MUST_CHECK;
/**
 * ckpt_session_close - @leave: the file stays, idle, for a later commit; else it is removed. NULL
 * is a no-op.
 */
void ckpt_session_close(struct ckpt_session *session, bool leave);

/**
 * ckpt_session_place - in which open checkpoint does a session for the file or folder @path belong?
 * @path: below the store, as of now
 * @out: its name, "" where only the store's own will do (appended): the topmost folder with a
 *       temporary name; else the topmost with a numbered name that is an open checkpoint
 */
int ckpt_session_place(struct ckpt_store *store, const char *path, struct ckpt_buf *out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
