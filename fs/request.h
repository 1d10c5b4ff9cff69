/*
 * request.h - one request of the kernel, and the way to the workers.
 *
 * A request is run where it arrives, in a thread of libfuse, if that is quick;
 * what reads shards, fills the index, commits, or waits for a disk to write goes
 * to one of three bounded pools. Every request is answered exactly once: a request in a pool may be
 * answered early with EINTR, so whoever wants to answer claims it first.
 *
 * Interrupts: an application that only caught a signal must not see EINTR from
 * stat(2), nor SIGBUS from a mapping whose page was being read. So an
 * interrupted request goes on, and is given up within WATCH_MS once its caller
 * is being killed. An open that waits for a verification is given up as well
 * when its caller has caught a signal and PATIENCE_MS have gone by: Ctrl-C has
 * to reach an interpreter, a profiler's timer should not fail an open. Requests
 * that may say EINTR (a commit) say it at once.
 */
#ifndef CKPT_FS_REQUEST_H
#define CKPT_FS_REQUEST_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/control.h"
#include "fs.h"
#include "stamps.h"

enum lane {
	LANE_READS,
	LANE_TASKS,   /* index loads, removals, looks at groups: seconds at most */
	LANE_COMMITS, /* what may wait for a writer: no look-up ever waits behind it */
	LANE_WRITES,
};

struct request {
	fuse_req_t req; /* may be gone once it is claimed: only for replies, after request_claim */
	struct fs *fs;
	/* Does the work and replies. Returns 0 when it replied (or could not claim), a negative errno to be replied,
	 * RC_WORKER: run again in a worker; RC_LOAD_FIRST: run again when the entries of the
	 * checkpoint that @ino belongs to are in the index,
	 * RC_VIEWS_FIRST: run again when its tree of views is made,
	 * or RC_PARKED: it was left to somebody who will resume it, and must not be touched any
	 * more. */
	int (*run)(struct request *rq);
	fuse_ino_t ino;
	uint64_t offset;
	size_t size_bytes;
	struct fuse_file_info fi;
	/* Owned from request_run(), _start() or _submit() on; NULL where it needs none. The kernel may
	 * release a file or folder before the worker of a killed reader is done with it. */
	struct ckpt_control *control; /* ioctl's argument; heap */
	mode_t mode;		      /* create's */
	void *arg;		      /* what an operation adds of its own; heap */
	struct handle *handle;	      /* of an open file; held */
	struct handle *other_handle;  /* of a copy: where to */
	struct dir_stream *stream;    /* readdir's */
	enum lane lane;		      /* where it goes on after RC_WORKER */
	bool eintr_ok;		      /* the caller expects EINTR from this one */
	bool plus;		      /* readdirplus */
	char name[NAME_MAX + 1];
	/* What a check of its shard has found, when it runs again after request_park(). */
	bool was_checked;
	int checked_rc;
	struct stamps checked_stamps; /* the state of the file that was looked at */
	struct request *next_waiting; /* belongs to the check it waits for */
	uid_t uid;		      /* who asks */
	gid_t gid;
	/* What follows belongs to request.c. */
	bool queued;	  /* runs in a worker; may be read */
	bool needs_views; /* make the views that its node belongs to before it runs */
	uint32_t loads; /* put the checkpoint's entries into the index before it runs; how often so far */
	pid_t pid;
	atomic_bool claimed;
	atomic_bool parked;
	struct request *next_watched; /* protected by watch.mu */
	uint64_t watched_ms;	      /* since then; protected by watch.mu */
	bool watched;		      /* protected by watch.mu */
};

/** request_init - a request of @req for node @ino. */
void request_init(struct request *rq, fuse_req_t req, fuse_ino_t ino,
		  int (*run)(struct request *rq));
/** request_run - run it here; it moves to the tasks by itself when it says RC_LOAD_FIRST. */
void request_run(struct request *rq);
/**
 * request_start - run it here, or in a worker where a look at a whole group may be needed
 * (group.h).
 */
void request_start(struct request *rq);
/** request_submit - run a copy of it in a pool. */
void request_submit(const struct request *rq, enum lane lane);

/**
 * request_claim - true: answer it now, and exactly once; false: it was answered already, undo what
 * was done for it.
 */
bool request_claim(struct request *rq) CKPT_MUST_CHECK;
/** request_given_up - it was answered already; long work may stop. */
bool request_given_up(const struct request *rq);
/**
 * request_park - @rq, which runs in a worker, will wait without one: return RC_PARKED next.
 * request_resume() runs it again, from any thread.
 */
void request_park(struct request *rq);
void request_resume(struct request *rq);
void request_reply_err(struct request *rq, int positive_errno);

/**
 * request_watch_start - start the thread that gives up requests of killed callers;
 * request_watch_stop ends it.
 */
int request_watch_start(struct ckpt_err *err) CKPT_MUST_CHECK;
void request_watch_stop(void);

#endif
