/*
 * mountinfo.h - what is mounted where, as this process sees it.
 * Source: proc(5) "/proc/PID/mountinfo". Thread-safe.
 */
#ifndef CKPT_BASE_MOUNTINFO_H
#define CKPT_BASE_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

/* The file system type of our mounts. */
#define CKPT_MOUNT_FSTYPE "fuse.ckptfs"

struct ckpt_mount {
	char *root; /* folder of the file system that forms the top of this mount: "/" unless bound */
	char *point;  /* where it is mounted, absolute */
	char *fstype; /* "ext4", "fuse.ckptfs" */
	char *source; /* what was mounted; of ours: the store's path */
};

struct ckpt_mount_list {
	struct ckpt_mount *mounts; /* in the order they were mounted */
	size_t count, cap;
};

/**
 * ckpt_mount_list_read - the mounts now; ckpt_mount_list_release() them. Errors: system (no
 * /proc).
 */
int ckpt_mount_list_read(struct ckpt_mount_list *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_mount_list_release(struct ckpt_mount_list *list);
/**
 * ckpt_mount_list_find - the mount that the absolute, real @path lies in: the longest mount point
 * above it, of several there the last; NULL: none. Borrowed.
 */
const struct ckpt_mount *ckpt_mount_list_find(const struct ckpt_mount_list *list, const char *path);
/** ckpt_mount_is_ours - a mount of a ckptfs store. */
bool ckpt_mount_is_ours(const struct ckpt_mount *mount);

#endif
