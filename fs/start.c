/* start.c - see start.h. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/mountinfo.h"
#include "base/path.h"
#include "session.h"
#include "start_bare.h"
#include "store/store.h"

/* --- checks ------------------------------------------------------------------------------- */

/* Asked of the daemon itself: attributes that the kernel keeps would hide its end for a while. */
static bool is_dead(const char *path)
{
	struct statfs st;

	return statfs(path, &st) < 0 && errno == ENOTCONN;
}

static int refuse_dead(const char *path, struct ckpt_err *err)
{
	return ckpt_err_set(err, -ENOTCONN,
			    "'%s' is a dead mount: its daemon has ended; run 'ckptfs umount %s'",
			    path, path);
}

static int resolve(char **path, const char *what, struct ckpt_err *err)
{
	char *real = realpath(*path, NULL);
	int rc = -errno;

	if (real) {
		free(*path);
		*path = real;
		return 0;
	}
	switch (rc) {
	case -ENOTCONN:
		return refuse_dead(*path, err);
	case -ENOENT:
		return ckpt_err_set(err, rc, "%s '%s' does not exist; %s", what, *path,
				    strcmp(what, "store") == 0 ? "make one with 'ckptfs init'"
							       : "make the folder first");
	default:
		return ckpt_err_sys(err, rc, "cannot use the %s '%s'", what, *path);
	}
}

/* Mounted at exactly this path, as the last one there; NULL: nothing. */
static const struct ckpt_mount *mounted_at(const struct ckpt_mount_list *list, const char *path)
{
	const struct ckpt_mount *mount = ckpt_mount_list_find(list, path);

	return mount && strcmp(mount->point, path) == 0 ? mount : NULL;
}

static int check_not_mounted(const struct ckpt_mount_list *list, const char *path,
			     struct ckpt_err *err)
{
	const struct ckpt_mount *mount = mounted_at(list, path);

	if (!mount || !ckpt_mount_is_ours(mount))
		return 0;
	if (is_dead(path))
		return refuse_dead(path, err);
	return ckpt_err_set(
		err, -EBUSY,
		"'%s' is busy: the store '%s' is mounted there; run 'ckptfs umount %s' first", path,
		mount->source, path);
}

/* A store is mounted from its own folder, not from a mount of it. */
static int check_not_in_mount(const struct ckpt_mount_list *list, const char *path,
			      struct ckpt_err *err)
{
	const struct ckpt_mount *mount = ckpt_mount_list_find(list, path);

	if (!mount || !ckpt_mount_is_ours(mount))
		return 0;
	if (is_dead(mount->point))
		return refuse_dead(mount->point, err);
	return ckpt_err_set(
		err, -EBUSY,
		"'%s' lies in a mount of the store '%s' (at '%s'); run 'ckptfs umount %s' first",
		path, mount->source, mount->point, mount->point);
}

static int check_places(const struct mount_options *options, struct ckpt_err *err)
{
	struct ckpt_mount_list list;
	int rc = ckpt_mount_list_read(&list, err);

	if (rc < 0)
		return rc;
	rc = check_not_mounted(&list, options->mount_point, err);
	if (rc == 0)
		rc = check_not_in_mount(&list, options->store_path, err);
	ckpt_mount_list_release(&list);
	return rc;
}

static int check_mount_point(const struct mount_options *options, struct ckpt_err *err)
{
	struct stat st;
	int rc = ckpt_io_fstatat(AT_FDCWD, options->mount_point, &st, 0);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot use the mount point '%s'",
				    options->mount_point);
	if (!S_ISDIR(st.st_mode))
		return ckpt_err_set(err, -ENOTDIR,
				    "the mount point '%s' is not a folder; give one that is",
				    options->mount_point);
	/* The mount would show itself, without end. */
	if (strcmp(options->mount_point, options->store_path) != 0 &&
	    ckpt_path_is_below(options->mount_point, options->store_path))
		return ckpt_err_set(
			err, -EINVAL,
			"the mount point '%s' lies inside the %s '%s'; choose one outside, or the %s itself",
			options->mount_point, options->bare ? "folder" : "store",
			options->store_path, options->bare ? "folder" : "store");
	return 0;
}

/* An index that was asked for is no cache that may lie elsewhere instead: it is tried. */
static int check_index(struct ckpt_store *store, struct ckpt_err *err)
{
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(store, &db, err);

	if (rc == 0)
		ckpt_store_db_put(store, db);
	return rc;
}

/* What is no store must at least lie in none, to be shown as it is. */
static int check_in_no_store(const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(path, NULL, &place, err);

	if (rc == -ENXIO)
		return 0;
	if (rc == 0 && place.store_path)
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' lies in the store '%s', of which only the whole can be mounted: 'ckptfs mount %s'",
			path, place.store_path, place.store_path);
	ckpt_place_release(&place);
	return rc;
}

static int open_bare(struct mount_options *options, int fd, struct ckpt_store **out,
		     struct ckpt_err *err)
{
	int rc = check_in_no_store(options->store_path, err);

	if (rc < 0)
		return rc;
	options->bare = true;
	options->autocommit_ms = 0;
	return ckpt_store_open_fd(fd, options->store_path, CKPT_STORE_BARE, options->index_path,
				  out, err);
}

/*
 * Open the store as the daemon will, and close it: an open index must not be carried over fork().
 */
static int check_store(struct mount_options *options, int *out_fd, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, options->store_path, O_PATH | O_DIRECTORY, 0);
	struct ckpt_store *store = NULL;
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open the store '%s'", options->store_path);
	rc = ckpt_store_open_fd(fd, options->store_path, 0, options->index_path, &store, err);
	if (rc == -ENOENT)
		rc = open_bare(options, fd, &store, err);
	if (rc == 0 && options->index_path)
		rc = check_index(store, err);
	ckpt_store_free(store);
	if (rc == 0)
		*out_fd = ckpt_steal_fd(&fd);
	return rc;
}

static int check_device(struct ckpt_err *err)
{
	if (access("/dev/fuse", F_OK) == 0)
		return 0;
	return ckpt_err_set(
		err, -ENODEV,
		"there is no /dev/fuse; load the kernel module 'fuse', or give the container the device");
}

int start_check(struct mount_options *options, int *out_store_fd, struct ckpt_err *err)
{
	int rc = resolve(&options->store_path, "store", err);

	if (rc == 0)
		rc = resolve(&options->mount_point, "mount point", err);
	if (rc == 0)
		rc = check_places(options, err);
	if (rc == 0)
		rc = check_store(options, out_store_fd, err);
	if (rc == 0)
		rc = check_mount_point(options, err);
	return rc < 0 ? rc : check_device(err);
}

/* --- going to the background -------------------------------------------------------------- */

#define READY "+"

/* The parent may have been killed: then nobody waits, and that is no failure. */
static void tell(struct start_pipe *pipe, const char *text)
{
	if (write(pipe->fd, text, strlen(text)) < 0 && errno != EPIPE)
		(void)fprintf(stderr, "mount.ckptfs: %s\n", text);
	close(pipe->fd);
	pipe->fd = -1;
}

static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		ckpt_ignore(dup2(null, fd)); /* what stays open only keeps the terminal busy */
	if (null > STDERR_FILENO)
		close(null);
}

void start_ready(struct start_pipe *pipe)
{
	if (pipe->fd < 0)
		return;
	leave_terminal();
	tell(pipe, READY);
}

void start_failed(struct start_pipe *pipe, const struct ckpt_err *err)
{
	if (pipe->fd >= 0)
		tell(pipe, err->msg);
	else
		(void)fprintf(stderr, "mount.ckptfs: %s\n", err->msg);
}

/* All that the child says until it lets go of the pipe. */
static void read_all(int fd, char *out, size_t room)
{
	size_t len = 0;
	ssize_t got;

	do {
		got = read(fd, out + len, room - 1 - len);
		if (got > 0)
			len += (size_t)got;
	} while (len < room - 1 && (got > 0 || (got < 0 && errno == EINTR)));
	out[len] = '\0';
}

/* Does the mount answer? A first request goes through all of it. */
static int check_answer(const struct mount_options *options)
{
	struct stat st;
	int rc = ckpt_io_fstatat(AT_FDCWD, options->mount_point, &st, 0);

	if (rc == 0) {
		start_tell_bare(options);
		return EXIT_SUCCESS;
	}
	(void)fprintf(stderr, "mount.ckptfs: the mount '%s' does not answer; see the log\n",
		      options->mount_point);
	return EXIT_MOUNT_FAILED;
}

static _Noreturn void wait_for_daemon(const struct mount_options *options, int fd)
{
	char text[CKPT_ERR_MAX];

	read_all(fd, text, sizeof(text));
	if (strcmp(text, READY) == 0)
		_exit(check_answer(options));
	(void)fprintf(stderr, "mount.ckptfs: %s\n",
		      text[0] != '\0' ? text
				      : "the daemon ended before the mount answered; see the log");
	_exit(EXIT_MOUNT_FAILED);
}

int start_daemon(const struct mount_options *options, struct start_pipe *out, struct ckpt_err *err)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return ckpt_err_sys(err, -errno, "cannot start the daemon");
	child = fork();
	if (child < 0) {
		int rc = -errno;

		close(ends[0]);
		close(ends[1]);
		return ckpt_err_sys(err, rc, "cannot start the daemon");
	}
	if (child > 0) {
		close(ends[1]);
		wait_for_daemon(options, ends[0]);
	}
	close(ends[0]);
	/* Fails for leaders of a session only, which a new child is not; / is always there. */
	ckpt_ignore((int)setsid());
	ckpt_ignore(chdir("/"));
	out->fd = ends[1];
	return 0;
}
