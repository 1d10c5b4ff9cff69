/*
 * start.h - what happens before the mount: everything that can fail is tried
 * while there is a terminal to tell it to.
 */
#ifndef CKPT_FS_START_H
#define CKPT_FS_START_H

#include "base/err.h"
#include "mount_options.h"

/**
 * start_check - can this store be mounted there?
 * @options: its paths are made absolute and free of symlinks
 * @out_store_fd: the store's folder, O_PATH: it leads there also when the mount covers its path
 * Errors: what is wrong, with the remedy: no store, no permission, a dead mount, a mount point
 * that is missing or busy.
 */
int start_check(struct mount_options *options, int *out_store_fd, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* Where the daemon tells whoever waits for it. */
struct start_pipe {
	int fd; /* -1: nobody waits (--foreground) */
};

/** start_ready - the mount answers: let the waiting parent go, and let go of its terminal. */
void start_ready(struct start_pipe *pipe);
/** start_failed - the mount has failed: tell why (to stderr where nobody waits). */
void start_failed(struct start_pipe *pipe, const struct ckpt_err *err);

/**
 * start_daemon - go to the background
 * In the child: returns 0, with *@out ready to use. In the parent: waits for the child, and exits
 * with its result.
 * Errors (in the parent): system.
 */
int start_daemon(const struct mount_options *options, struct start_pipe *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
