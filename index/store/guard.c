/*
 * guard.c - may what lies at a path be changed? Asked before every change
 * through a mount, so it costs one fstatat a folder on the way, and more only
 * where a folder has a control folder.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

/* "FOLDER/.ckptfs" is there: what does it say? */
static int look(int store_fd, const char *folder, enum ckpt_guard *out)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf holder;
	struct stat st;
	int rc = ckpt_path_is_temporary(folder) ? -ENOENT
						: ckpt_manifest_stat(store_fd, folder, &st);

	/* A lock beside a manifest is what a killed commit left. */
	if (rc == 0)
		*out = CKPT_GUARD_COMMITTED;
	if (rc != -ENOENT)
		return rc;
	/* No symbolic link is followed: where one leads is none of the path's folders. */
	fd = ckpt_io_open_beneath(store_fd, folder, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR ? 0 : fd;
	ckpt_buf_init(&holder);
	rc = ckpt_lock_holder(fd, &holder);
	ckpt_buf_release(&holder);
	if (rc == 0)
		*out = CKPT_GUARD_FROZEN;
	return rc == -ENOENT ? 0 : rc;
}

/* One folder on the way. 1: there is nothing, or no folder, so nothing lies below it either. */
static int guard_folder(int store_fd, const char *folder, enum ckpt_guard *out)
{
	struct ckpt_buf control;
	struct stat st;
	int rc;

	ckpt_buf_init(&control);
	ckpt_buf_printf(&control, "%s/" CKPT_CONTROL_DIR, folder);
	rc = ckpt_buf_check(&control);
	if (rc == 0)
		rc = ckpt_io_fstatat(store_fd, control.data, &st, AT_SYMLINK_NOFOLLOW);
	ckpt_buf_release(&control);
	if (rc == -ENOENT)
		return 0;
	if (rc == -ENOTDIR || rc == -ELOOP || rc == -ENAMETOOLONG)
		return 1;
	return rc < 0 ? rc : look(store_fd, folder, out);
}

int ckpt_guard_of(int store_fd, const char *path, enum ckpt_guard *out, size_t *out_len)
{
	CKPT_FREE char *folder = strdup(path);
	enum ckpt_guard guard = CKPT_GUARD_FREE;
	size_t len = 0;
	int rc = folder ? 0 : -ENOMEM;

	/* Deeper than a name can be there is no checkpoint's top. */
	for (int depth = 0; rc == 0 && depth < CKPT_NAME_DEPTH_MAX && path[len] != '\0' &&
			    guard == CKPT_GUARD_FREE;
	     depth++) {
		len += path[len] == '/';
		len += strcspn(path + len, "/");
		memcpy(folder, path, len);
		folder[len] = '\0';
		rc = guard_folder(store_fd, folder, &guard);
	}
	if (rc < 0)
		return rc;
	*out = guard;
	if (guard != CKPT_GUARD_FREE && out_len)
		*out_len = len;
	return 0;
}
