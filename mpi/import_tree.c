/* import_tree.c - see import_tree.h. */
#include "import_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"

/* What is done to each entry, in a folder and its copy. */
struct walk {
	/* A folder before it is entered; a symbolic link. */
	int (*folder)(int from_fd, int to_fd, const char *name);
	int (*link)(int from_fd, int to_fd, const char *name);
	/* A folder, open on both sides, when all in it is done. */
	int (*leave)(int from_fd, int to_fd);
	const char *label;
};

static int walk_folder(const struct walk *walk, int from_fd, int to_fd, int depth,
		       struct ckpt_err *err);

static int enter(const struct walk *walk, int from_dir, int to_dir, const char *name, int depth,
		 struct ckpt_err *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
	CKPT_CLOSE int from = ckpt_io_openat(from_dir, name, flags, 0);
	CKPT_CLOSE int to = -1;
	int rc = from < 0 ? from : 0;

	if (rc == 0 && walk->folder)
		rc = walk->folder(from_dir, to_dir, name);
	if (rc == 0) {
		to = ckpt_io_openat(to_dir, name, flags, 0);
		rc = to < 0 ? to : 0;
	}
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot copy folder '%s' of '%s'", name, walk->label);
	rc = walk_folder(walk, from, to, depth, err);
	if (rc == 0 && walk->leave)
		rc = walk->leave(from, to);
	return rc;
}

static int walk_entry(const struct walk *walk, int from_fd, int to_fd, const char *name, int depth,
		      struct ckpt_err *err)
{
	struct stat st;
	int rc;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    (depth == 0 && strcmp(name, CKPT_CONTROL_DIR) == 0))
		return 0;
	rc = ckpt_io_fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc == 0 && S_ISDIR(st.st_mode))
		return enter(walk, from_fd, to_fd, name, depth + 1, err);
	if (rc == 0 && S_ISLNK(st.st_mode) && walk->link)
		rc = walk->link(from_fd, to_fd, name);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot copy '%s' of '%s'", name, walk->label) : 0;
}

static int walk_folder(const struct walk *walk, int from_fd, int to_fd, int depth,
		       struct ckpt_err *err)
{
	int fd = depth > CKPT_ENTRY_DEPTH_MAX
			 ? -ELOOP
			 : ckpt_io_openat(from_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	if (!dir) {
		rc = fd < 0 ? fd : -errno;
		ckpt_cleanup_close(&fd);
		return ckpt_err_sys(err, rc, "cannot list a folder of '%s'", walk->label);
	}
	while (rc == 0) {
		errno = 0;
		entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe): this stream is ours alone */
		if (!entry) {
			rc = errno ? ckpt_err_sys(err, -errno, "cannot list a folder of '%s'",
						  walk->label)
				   : 0;
			break;
		}
		rc = walk_entry(walk, from_fd, to_fd, entry->d_name, depth, err);
	}
	ckpt_ignore(closedir(dir)); /* it was only read */
	return rc;
}

/* Writable for its owner until all is in it. */
static int make_folder(int from_fd, int to_fd, const char *name)
{
	(void)from_fd;
	return ckpt_io_mkdirat(to_fd, name, 0700);
}

static int make_link(int from_fd, int to_fd, const char *name)
{
	struct timespec times[2];
	char target[PATH_MAX + 1];
	struct stat st;
	ssize_t len = readlinkat(from_fd, name, target, sizeof(target) - 1);
	int rc;

	if (len < 0 || fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	target[len] = '\0';
	rc = ckpt_io_symlinkat(target, to_fd, name);
	if (rc < 0)
		return rc;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return utimensat(to_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int seal_folder(int from_fd, int to_fd)
{
	struct timespec times[2];
	struct stat st;

	if (fstat(from_fd, &st) < 0)
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return fchmod(to_fd, st.st_mode & 07777) < 0 || futimens(to_fd, times) < 0 ? -errno : 0;
}

int ckpt_import_make(int from_fd, int to_fd, const char *label, struct ckpt_err *err)
{
	const struct walk walk = { .folder = make_folder, .link = make_link, .label = label };

	return walk_folder(&walk, from_fd, to_fd, 0, err);
}

int ckpt_import_seal(int from_fd, int to_fd, const char *label, struct ckpt_err *err)
{
	const struct walk walk = { .leave = seal_folder, .label = label };
	int rc = walk_folder(&walk, from_fd, to_fd, 0, err);

	if (rc == 0)
		rc = seal_folder(from_fd, to_fd);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot set modes and times of '%s'", label) : 0;
}
