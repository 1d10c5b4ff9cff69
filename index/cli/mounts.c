/* mounts.c - see mounts.h. */
#include "cli/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"

const struct ckpt_mount *mounts_at(const struct ckpt_mount_list *list, const char *point)
{
	const struct ckpt_mount *mount = ckpt_mount_list_find(list, point);

	return mount && strcmp(mount->point, point) == 0 ? mount : NULL;
}

const struct ckpt_mount *mounts_of(const struct ckpt_mount_list *list, const char *store_path)
{
	for (size_t i = 0; i < list->count; i++) {
		if (ckpt_mount_is_ours(&list->mounts[i]) &&
		    strcmp(list->mounts[i].source, store_path) == 0)
			return &list->mounts[i];
	}
	return NULL;
}

int mounts_absolute(const char *path, struct ckpt_buf *out, struct ckpt_err *err)
{
	CKPT_FREE char *whole = realpath(path, NULL);
	CKPT_FREE char *trimmed = NULL;
	CKPT_FREE char *dir = NULL;
	char *slash;
	size_t len = strlen(path);

	if (whole) {
		ckpt_buf_add_str(out, whole);
		return 0;
	}
	while (len > 1 && path[len - 1] == '/')
		len--;
	trimmed = strndup(path, len);
	if (!trimmed)
		return ckpt_err_set(err, -ENOMEM, "out of memory");
	/* The last component of a dead mount does not answer, but the folder it lies in does. */
	slash = strrchr(trimmed, '/');
	if (slash)
		*slash = '\0';
	dir = realpath(slash ? (slash > trimmed ? trimmed : "/") : ".", NULL);
	if (!dir)
		return ckpt_err_sys(err, -errno, "cannot find '%s'", path);
	ckpt_path_join(out, strcmp(dir, "/") == 0 ? "" : dir, slash ? slash + 1 : trimmed);
	if (strcmp(dir, "/") == 0) {
		ckpt_buf_reset(out);
		ckpt_buf_printf(out, "/%s", slash ? slash + 1 : trimmed);
	}
	return 0;
}

bool mounts_is_dead(const char *point)
{
	struct statx stx;

	/* Past the base's seam: this asks the kernel about a mount, not a store about a file. FORCE_SYNC:
	   for a second after its daemon has died, the kernel would answer from what it remembers. */
	return statx(AT_FDCWD, point, AT_STATX_FORCE_SYNC, STATX_MODE, &stx) < 0 &&
	       (errno == ENOTCONN || errno == ECONNABORTED);
}

/* What fusermount3 says goes into @said; returns its exit code, or a negative errno. */
static int run_fusermount(const char *point, bool lazy, struct ckpt_buf *said)
{
	char chunk[512];
	int pipe_fds[2];
	int status = 0;
	ssize_t got;
	pid_t child;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		/* The words are looked at below: they must be the untranslated ones. */
		(void)setenv("LC_ALL", "C", 1);
		(void)dup2(pipe_fds[1], STDERR_FILENO);
		if (lazy)
			(void)execlp("fusermount3", "fusermount3", "-u", "-z", "--", point,
				     (char *)NULL);
		else
			(void)execlp("fusermount3", "fusermount3", "-u", "--", point, (char *)NULL);
		_exit(127);
	}
	close(pipe_fds[1]);
	while (child > 0 && (got = read(pipe_fds[0], chunk, sizeof(chunk))) > 0)
		ckpt_buf_add(said, chunk, (size_t)got);
	close(pipe_fds[0]);
	if (child < 0)
		return -EAGAIN;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int detach_as_user(const char *point, bool lazy, struct ckpt_err *err)
{
	struct ckpt_buf said;
	int rc;

	ckpt_buf_init(&said);
	rc = run_fusermount(point, lazy, &said);
	while (said.len_bytes > 0 && said.data[said.len_bytes - 1] == '\n')
		said.data[--said.len_bytes] = '\0';
	if (rc == 127)
		rc = ckpt_err_set(
			err, -EPERM,
			"cannot unmount '%s': fusermount3 is not installed, and only root can do without it",
			point);
	else if (rc < 0)
		rc = ckpt_err_sys(err, rc, "cannot run fusermount3 to unmount '%s'", point);
	else if (rc > 0 && strstr(said.data, "busy"))
		rc = ckpt_err_set(err, -EBUSY, "'%s' is busy", point);
	else if (rc > 0)
		rc = ckpt_err_set(
			err, -EPERM,
			"cannot unmount '%s', which only root and the user who mounted it may do: %s",
			point, said.data);
	ckpt_buf_release(&said);
	return rc;
}

int mounts_detach(const char *point, bool lazy, struct ckpt_err *err)
{
	/*
	 * A thread of a killed daemon may wait for a folder that a client holds, which waits for the
	 * daemon: force ends that, for what nobody serves any more.
	 */
	if (umount2(point, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH | MNT_FORCE : 0)) == 0)
		return 0;
	if (errno == EPERM)
		return detach_as_user(point, lazy, err);
	if (errno == EBUSY)
		return ckpt_err_set(err, -EBUSY, "'%s' is busy", point);
	return ckpt_err_sys(err, -errno, "cannot unmount '%s'", point);
}
