/* mount_ioctl.h - asking the daemon of a mount to do something (base/control.h). */
#ifndef CKPT_CLI_MOUNT_IOCTL_H
#define CKPT_CLI_MOUNT_IOCTL_H

#include "base/control.h"
#include "base/err.h"
#include "store/store.h"

/**
 * mount_ioctl - send @request to the daemon of the mount at @mount_path
 * @request: op and its arguments filled in, all else zero; the answer comes back in it
 * @name: a checkpoint's, or "" for the whole store
 * Errors: -EPERM not the store's owner; -EINTR; what the operation answered; system.
 */
int mount_ioctl(const char *mount_path, struct ckpt_control *request, const char *name,
		struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * mount_refresh - if the user's path ran through a mount: let it show at once what was changed in
 * @name.
 */
void mount_refresh(const struct ckpt_place *place, const char *name);

/**
 * mount_settle_all - have every mount of the store that this process sees finish the sums of what
 * was written through it into @name, so that a commit here reads nothing again A mount that cannot
 * be asked (somebody else's, another version, dead) is passed over.
 * Errors: -EIO a file could not be made durable; -EINTR.
 */
int mount_settle_all(const char *store_path, const char *name, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
