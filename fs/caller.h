/*
 * caller.h - acting for the caller of a request: what a call makes belongs to
 * who asked for it, from its first moment on (a chown afterwards could hit
 * another file, should somebody swap the name behind the mount).
 */
#ifndef CKPT_FS_CALLER_H
#define CKPT_FS_CALLER_H

#include <stdbool.h>
#include <sys/types.h>

#include "fs.h"

/* Who asks: the caller of a request. */
struct caller {
	uid_t uid;
	gid_t gid;
};

/* What caller_leave() puts back. */
struct caller_own {
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool has_umask;
	bool has_ids;
};

/**
 * caller_enter - until caller_leave(), what this thread makes is the caller's, with the very mode
 * it is given: the kernel has applied the caller's umask, and checked what the caller may do
 * Where the daemon is not root, its own user is all it can give.
 */
void caller_enter(const struct fs *fs, const struct caller *who, struct caller_own *own);
void caller_leave(const struct caller_own *own);

#endif
