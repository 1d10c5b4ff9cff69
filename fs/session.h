/* session.h - the FUSE session: what is agreed with the kernel, the threads, and the end. */
#ifndef CKPT_FS_SESSION_H
#define CKPT_FS_SESSION_H

#include "base/err.h"
#include "mount_options.h"
#include "start.h"

/* Exit codes of mount(8). */
#define EXIT_USAGE 1
#define EXIT_SYSTEM 2
#define EXIT_MOUNT_FAILED 32

/**
 * session_run - mount the store, serve until it is unmounted or a signal comes, take everything
 * down
 * @store_fd: the store's folder; borrowed
 * @pipe: told when the mount answers, or why there will be none
 * Returns the exit code of the program.
 */
int session_run(const struct mount_options *options, int store_fd, struct start_pipe *pipe);

#endif
