/* mount_ioctl.c - see mount_ioctl.h. */
#include "cli/mount_ioctl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/mountinfo.h"

int mount_ioctl(const char *mount_path, struct ckpt_control *request, const char *name,
		struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, mount_path, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open mount '%s'", mount_path);
	if (strlen(name) >= sizeof(request->name))
		return ckpt_err_set(err, -ENAMETOOLONG, "'%s' is too long for the mount '%s'", name,
				    mount_path);
	request->version = CKPT_CONTROL_VERSION;
	memcpy(request->name, name, strlen(name) + 1);
	if (ioctl(fd, CKPT_IOC_CONTROL, request) < 0) {
		if (errno == ENOTTY || errno == EINVAL)
			return ckpt_err_set(
				err, -errno,
				"the daemon of mount '%s' is of another version than this command: 'ckptfs umount %s' and mount again",
				mount_path, mount_path);
		if (errno == EPERM || errno == EACCES)
			return ckpt_err_set(
				err, -errno,
				"the daemon of mount '%s' does this only for the store's owner and root",
				mount_path);
		return ckpt_err_sys(
			err, -errno,
			"cannot ask the daemon of mount '%s'; 'ckptfs umount %s' and try again without it",
			mount_path, mount_path);
	}
	request->msg[sizeof(request->msg) - 1] = '\0';
	request->name[sizeof(request->name) - 1] = '\0';
	request->id[sizeof(request->id) - 1] = '\0';
	if (request->rc < 0)
		return ckpt_err_set(err, request->rc, "%s", request->msg);
	return 0;
}

void mount_refresh(const struct ckpt_place *place, const char *name)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_REFRESH };

	/* The mount sees it by itself within a second; this only makes it sooner. */
	if (place->mount_path)
		ckpt_ignore(mount_ioctl(place->mount_path, &request, name, NULL));
}

/*
 * A mount that cannot be asked has sums that the commit makes itself; what counts is a file that
 * could not be made durable.
 */
static int settle_one(const char *mount_path, const char *name, struct ckpt_err *err)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_SETTLE };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = mount_ioctl(mount_path, &request, name, &why);

	if (rc == -EINTR || rc == -ECANCELED || request.rc == -EIO)
		return ckpt_err_set(err, rc, "%s", why.msg);
	return 0;
}

int mount_settle_all(const char *store_path, const char *name, struct ckpt_err *err)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	int rc = 0;

	/* Without /proc nothing is known of mounts. */
	if (ckpt_mount_list_read(&list, NULL) < 0)
		return 0;
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		const struct ckpt_mount *mount = &list.mounts[i];

		/* One that is bound elsewhere as well is asked at its own place. */
		if (ckpt_mount_is_ours(mount) && strcmp(mount->source, store_path) == 0 &&
		    strcmp(mount->root, "/") == 0)
			rc = settle_one(mount->point, name, err);
	}
	ckpt_mount_list_release(&list);
	return rc;
}
