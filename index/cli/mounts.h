/* mounts.h - finding, naming and taking off mounts, on top of base/mountinfo.h. */
#ifndef CKPT_CLI_MOUNTS_H
#define CKPT_CLI_MOUNTS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mountinfo.h"

/** mounts_at - the topmost mount at exactly @point; NULL: none. Borrowed. */
const struct ckpt_mount *mounts_at(const struct ckpt_mount_list *list, const char *point);
/** mounts_of - a mount of ours whose store is @store_path; NULL: none. Borrowed. */
const struct ckpt_mount *mounts_of(const struct ckpt_mount_list *list, const char *store_path);

/**
 * mounts_absolute - @path as the kernel spells mount points: absolute, no symlinks
 * The last component need not answer: a dead mount does not.
 * Errors: -ENOENT its folder does not exist; system.
 */
int mounts_absolute(const char *path, struct ckpt_buf *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** mounts_is_dead - the mount at @point has lost its daemon. */
bool mounts_is_dead(const char *point);
/**
 * mounts_detach - take a mount off, as root by umount2(2), else by fusermount3(1). @lazy: even if
 * it is in use. Errors: -EBUSY; -EPERM; system.
 */
int mounts_detach(const char *point, bool lazy, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
