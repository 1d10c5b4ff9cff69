/*
 * io.c - the system-call seam; see io.h.
 *
 * Every call is made by IO_CALL (io_fault.h). The lower half builds whole files and
 * trees from those calls; it makes none of its own but close(2), whose errors
 * come too late to matter behind an fsync.
 */
#include "io.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "io_fault.h"
#include "num.h"

/* Levels that remove_tree goes down: each holds a descriptor and a 32 KiB readdir buffer. */
#define TREE_DEPTH_MAX 256

/* --- one system call each ------------------------------------------------- */

int ckpt_io_openat(int dirfd, const char *path, int flags, mode_t mode)
{
	return (int)IO_CALL(IO_OPENAT, openat(dirfd, path, flags | O_CLOEXEC, mode));
}

ssize_t ckpt_io_pread(int fd, void *out, size_t len_bytes, uint64_t offset)
{
	off_t at;
	int rc = num_to_off(offset, &at);

	if (rc < 0)
		return rc;
	return IO_CALL(IO_PREAD, pread(fd, out, num_min(len_bytes, CKPT_IO_CHUNK), at));
}

ssize_t ckpt_io_pwrite(int fd, const void *data, size_t len_bytes, uint64_t offset)
{
	off_t at;
	int rc = num_to_off(offset, &at);

	if (rc < 0)
		return rc;
	return IO_CALL(IO_PWRITE, pwrite(fd, data, num_min(len_bytes, CKPT_IO_CHUNK), at));
}

int ckpt_io_fstat(int fd, struct stat *out)
{
	return (int)IO_CALL(IO_FSTAT, fstat(fd, out));
}

int ckpt_io_fstatat(int dirfd, const char *path, struct stat *out, int flags)
{
	return (int)IO_CALL(IO_FSTATAT, fstatat(dirfd, path, out, flags));
}

int ckpt_io_fsync(int fd)
{
	return (int)IO_CALL(IO_FSYNC, fsync(fd));
}

int ckpt_io_fdatasync(int fd)
{
	return (int)IO_CALL(IO_FDATASYNC, fdatasync(fd));
}

int ckpt_io_syncfs(int fd)
{
	return (int)IO_CALL(IO_SYNCFS, syncfs(fd));
}

int ckpt_io_renameat(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path)
{
	return (int)IO_CALL(IO_RENAMEAT, renameat(old_dirfd, old_path, new_dirfd, new_path));
}

int ckpt_io_mkdirat(int dirfd, const char *path, mode_t mode)
{
	return (int)IO_CALL(IO_MKDIRAT, mkdirat(dirfd, path, mode));
}

int ckpt_io_unlinkat(int dirfd, const char *path, int flags)
{
	return (int)IO_CALL(IO_UNLINKAT, unlinkat(dirfd, path, flags));
}

int ckpt_io_symlinkat(const char *target, int dirfd, const char *path)
{
	return (int)IO_CALL(IO_SYMLINKAT, symlinkat(target, dirfd, path));
}

int ckpt_io_ftruncate(int fd, uint64_t len_bytes)
{
	off_t len;
	int rc = num_to_off(len_bytes, &len);

	if (rc < 0)
		return rc;
	return (int)IO_CALL(IO_FTRUNCATE, ftruncate(fd, len));
}

int ckpt_io_fallocate(int fd, uint64_t offset, uint64_t len_bytes)
{
	off_t at;
	off_t len;

	if (num_to_off(offset, &at) < 0 || num_to_off(len_bytes, &len) < 0)
		return -EOVERFLOW;
	return (int)IO_CALL(IO_FALLOCATE, fallocate(fd, 0, at, len));
}

int ckpt_io_is_network_fs(int fd, bool *out)
{
	/* linux/magic.h where it has the name; the others as their own sources have them. */
	static const uint32_t magics[] = {
		NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,   CIFS_SUPER_MAGIC,
		SMB2_SUPER_MAGIC, V9FS_MAGIC,	     AFS_SUPER_MAGIC,
		AFS_FS_MAGIC,	  CEPH_SUPER_MAGIC,  CODA_SUPER_MAGIC,
		FUSE_SUPER_MAGIC, OCFS2_SUPER_MAGIC, 0x0bd00bd0, /* Lustre: LL_SUPER_MAGIC */
		0x47504653,					 /* GPFS (Spectrum Scale) */
		0x19830326,					 /* BeeGFS: BEEGFS_MAGIC */
		0x01161970,					 /* GFS2: GFS2_MAGIC */
	};
	struct statfs fs;
	long rc = IO_CALL(IO_FSTATFS, fstatfs(fd, &fs));
	bool found = false;

	if (rc < 0)
		return (int)rc;
	/* f_type is a signed long on some machines: compare the 32 bits that magics have. */
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		found = found || (uint32_t)fs.f_type == magics[i];
	*out = found;
	return 0;
}

/* --- opening below a folder ----------------------------------------------- */

/* Learned at the first -ENOSYS. Racing threads learn the same, so relaxed order will do. */
static _Atomic bool openat2_is_missing;

/* openat2(2), which glibc does not wrap; -ENOSYS where the kernel has none. */
static int open_resolved(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = creates ? mode & 07777 : 0, /* else the kernel answers EINVAL */
		.resolve = resolve,
	};
	int fd;

	if (atomic_load_explicit(&openat2_is_missing, memory_order_relaxed))
		return -ENOSYS;
	fd = (int)IO_CALL(IO_OPENAT2, syscall(SYS_openat2, dirfd, path, &how, sizeof(how)));
	if (fd == -ENOSYS)
		atomic_store_explicit(&openat2_is_missing, true, memory_order_relaxed);
	return fd;
}

/* Open one component and refuse a symlink with -ELOOP, whatever open(2) calls that. */
static int open_component(int dirfd, const char *name, int flags, mode_t mode)
{
	int fd = ckpt_io_openat(dirfd, name, flags | O_NOFOLLOW, mode);
	struct stat st;
	int rc;

	/*
	 * O_DIRECTORY makes it ENOTDIR; O_PATH without the caller's O_NOFOLLOW opens the link
	 * itself.
	 */
	if (fd == -ENOTDIR) {
		rc = ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
		return rc == 0 && S_ISLNK(st.st_mode) ? -ELOOP : fd;
	}
	if (fd < 0 || !(flags & O_PATH) || (flags & O_NOFOLLOW))
		return fd;
	rc = ckpt_io_fstat(fd, &st);
	if (rc == 0 && S_ISLNK(st.st_mode))
		rc = -ELOOP;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* What openat2 does, by hand: each folder on the way is opened without following a link. */
static int open_walk(int dirfd, const char *path, int flags, mode_t mode)
{
	CKPT_FREE char *copy = strdup(path);
	CKPT_CLOSE int held = -1;
	char *name = copy;
	char *slash;
	int at = dirfd;

	if (!copy)
		return -ENOMEM;
	while ((slash = strchr(name, '/'))) {
		int next;

		*slash = '\0';
		next = open_component(at, *name ? name : ".", O_PATH | O_DIRECTORY, 0);
		if (next < 0)
			return next;
		if (held >= 0)
			close(held);
		held = next;
		at = next;
		name = slash + 1;
	}
	/* "a/" means the folder a. */
	if (*name == '\0' && at != dirfd)
		return open_component(at, ".", flags | O_DIRECTORY, mode);
	return open_component(at, name, flags, mode);
}

/* Does the path leave its folder, or try to? ".." never has a use here. */
static bool leaves(const char *path)
{
	if (*path == '/')
		return true;
	while (*path != '\0') {
		size_t len_bytes = strcspn(path, "/");

		if (len_bytes == 2 && path[0] == '.' && path[1] == '.')
			return true;
		path += len_bytes + (path[len_bytes] == '/');
	}
	return false;
}

int ckpt_io_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	int fd;

	if (leaves(path))
		return -EXDEV; /* what openat2 answers; it would allow "a/../b" */
	fd = open_resolved(dirfd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	/* Old container runtimes answer EPERM for a call they do not know. */
	if (fd == -ENOSYS || fd == -EPERM)
		return open_walk(dirfd, path, flags, mode);
	return fd;
}

/* --- whole files ----------------------------------------------------------- */

int ckpt_io_pread_full(int fd, void *out, size_t len_bytes, uint64_t offset, size_t *out_len)
{
	size_t done = 0;

	while (done < len_bytes) {
		ssize_t got =
			ckpt_io_pread(fd, (char *)out + done, len_bytes - done, offset + done);

		if (got < 0)
			return (int)got;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	*out_len = done;
	return 0;
}

int ckpt_io_pwrite_full(int fd, const void *data, size_t len_bytes, uint64_t offset)
{
	size_t done = 0;

	while (done < len_bytes) {
		ssize_t put = ckpt_io_pwrite(fd, (const char *)data + done, len_bytes - done,
					     offset + done);

		if (put < 0)
			return (int)put;
		if (put == 0) /* never for a regular file; a loop would never end */
			return -EIO;
		done += (size_t)put;
	}
	return 0;
}

/* Append the rest of @fd to @out, at most @max_bytes. */
static int read_to_end(int fd, uint64_t max_bytes, struct ckpt_buf *out)
{
	CKPT_FREE char *chunk = malloc(CKPT_IO_CHUNK);
	uint64_t offset = 0;

	if (!chunk)
		return -ENOMEM;
	for (;;) {
		ssize_t got = ckpt_io_pread(fd, chunk, CKPT_IO_CHUNK, offset);

		if (got < 0)
			return (int)got;
		if (got == 0)
			return ckpt_buf_check(out);
		offset += (uint64_t)got;
		if (offset > max_bytes)
			return -EFBIG;
		ckpt_buf_add(out, chunk, (size_t)got);
	}
}

int ckpt_io_read_file(int dirfd, const char *path, uint64_t max_bytes, struct ckpt_buf *out,
		      struct ckpt_err *err)
{
	/* O_NONBLOCK: opening a FIFO somebody put there must not hang. */
	CKPT_CLOSE int fd = ckpt_io_openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s'", path);
	if (!S_ISREG(st.st_mode))
		return ckpt_err_set(err, -EINVAL, "cannot read '%s': it is not a regular file",
				    path);
	/* A file may grow while it is read, so the size only saves the work. */
	rc = (uint64_t)st.st_size > max_bytes ? -EFBIG : read_to_end(fd, max_bytes, out);
	if (rc == -EFBIG)
		return ckpt_err_set(err, rc, "cannot read '%s': it has more than %llu bytes", path,
				    (unsigned long long)max_bytes);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s'", path);
	return 0;
}

int ckpt_io_sync_dir(int dirfd, const char *path)
{
	CKPT_CLOSE int fd = ckpt_io_openat(dirfd, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);
	int rc = fd < 0 ? fd : ckpt_io_fsync(fd);

	/* EINVAL: this file system has nothing to sync for a folder. */
	return rc == -EINVAL ? 0 : rc;
}

/* Sync the folder that @path lies in. */
static int sync_parent(int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/');
	CKPT_FREE char *parent = NULL;

	if (!slash)
		return ckpt_io_sync_dir(dirfd, ".");
	parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	return parent ? ckpt_io_sync_dir(dirfd, parent) : -ENOMEM;
}

/* Write @tmp as a new file and make its bytes durable. */
static int write_new(int dirfd, const char *tmp, const void *data, size_t len_bytes, mode_t mode)
{
	CKPT_CLOSE int fd = -1;
	/* A left-over may be a link to somewhere: take the name away, write through nothing. */
	int rc = ckpt_io_unlinkat(dirfd, tmp, 0);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	fd = ckpt_io_openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd < 0)
		return fd;
	rc = ckpt_io_pwrite_full(fd, data, len_bytes, 0);
	return rc < 0 ? rc : ckpt_io_fsync(fd);
}

int ckpt_io_publish(int dirfd, const char *path, const void *data, size_t len_bytes, mode_t mode,
		    struct ckpt_err *err)
{
	struct ckpt_buf tmp;
	int rc;

	ckpt_buf_init(&tmp);
	ckpt_buf_printf(&tmp, "%s.tmp", path);
	rc = ckpt_buf_check(&tmp);
	if (rc < 0)
		goto out;
	rc = write_new(dirfd, tmp.data, data, len_bytes, mode);
	if (rc == 0)
		rc = ckpt_io_renameat(dirfd, tmp.data, dirfd, path);
	if (rc < 0) {
		/*
		 * The first failure is the one to tell; a temporary that stays is replaced next
		 * time.
		 */
		ckpt_ignore(ckpt_io_unlinkat(dirfd, tmp.data, 0));
		goto out;
	}
	/* From here on @path is the new file; only whether it outlives a power cut is open. */
	rc = sync_parent(dirfd, path);
out:
	ckpt_buf_release(&tmp);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot write '%s'", path) : 0;
}

/* --- trees ----------------------------------------------------------------- */

/* One folder; made durable if it is new. A folder that is there already is success. */
static int make_dir(int dirfd, const char *path)
{
	int rc = ckpt_io_mkdirat(dirfd, path, 0777);
	struct stat st;

	if (rc == 0)
		return sync_parent(dirfd, path);
	if (rc != -EEXIST)
		return rc;
	rc = ckpt_io_fstatat(dirfd, path, &st, 0);
	if (rc < 0)
		return rc;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int ckpt_io_mkdirs(int dirfd, const char *path, struct ckpt_err *err)
{
	CKPT_FREE char *copy = strdup(path);
	int rc = copy ? 0 : -ENOMEM;

	for (char *at = copy; rc == 0 && *at != '\0';) {
		char *end = at + strspn(at, "/");
		char kept;

		end += strcspn(end, "/");
		kept = *end;
		*end = '\0';
		/* Not where only slashes were left of it. */
		if (end[-1] != '/')
			rc = make_dir(dirfd, copy);
		*end = kept;
		at = end;
	}
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot create the folder '%s'", path) : 0;
}

/* -EXDEV when @fd, a folder in @parent, belongs to another mount. */
static int check_same_mount(int parent, int fd)
{
	struct statx above = { 0 };
	struct statx here = { 0 };
	int rc = (int)IO_CALL(IO_STATX, statx(parent, "", AT_EMPTY_PATH, STATX_INO, &above));

	if (rc < 0)
		return rc;
	rc = (int)IO_CALL(IO_STATX, statx(fd, "", AT_EMPTY_PATH, STATX_INO, &here));
	if (rc < 0)
		return rc;
	if (here.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
		return here.stx_attributes & STATX_ATTR_MOUNT_ROOT ? -EXDEV : 0;
	/* Before Linux 5.8 a bind mount of the same file system is not told apart. */
	if (above.stx_dev_major != here.stx_dev_major || above.stx_dev_minor != here.stx_dev_minor)
		return -EXDEV;
	return 0;
}

/* Open a folder for removal: never through a link, never into another mount. */
static int open_dir_here(int parent, const char *name)
{
	const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
	int fd = open_resolved(parent, name, flags, 0, resolve);
	int rc;

	if (fd != -ENOSYS && fd != -EPERM)
		return fd;
	fd = open_component(parent, name, flags, 0);
	if (fd < 0)
		return fd;
	rc = check_same_mount(parent, fd);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static int remove_entry(int parent, const char *name, int depth);

int ckpt_io_readdir_type(DIR *dir, const char **out_name, unsigned char *out_type)
{
	for (;;) {
		struct dirent *entry = NULL;
		/* readdir tells failure by errno alone. */
		long rc = IO_CALL(
			IO_READDIR,
			(errno = 0, entry = readdir(dir),
			 entry || !errno
				 ? 0
				 : -1)); /* NOLINT(concurrency-mt-unsafe): @dir is ours alone */

		if (rc < 0)
			return (int)rc;
		if (!entry)
			return 0;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		*out_name = entry->d_name;
		*out_type = entry->d_type;
		return 1;
	}
}

int ckpt_io_readdir(DIR *dir, const char **out_name)
{
	unsigned char type;

	return ckpt_io_readdir_type(dir, out_name, &type);
}

/*
 * Remove all that lies in a folder. Some file systems skip names while others go: look until none
 * is left.
 */
static int empty_dir(DIR *dir, int depth)
{
	bool removed;

	do {
		const char *name;
		int rc;

		removed = false;
		rewinddir(dir);
		while ((rc = ckpt_io_readdir(dir, &name)) > 0) {
			rc = remove_entry(dirfd(dir), name, depth + 1);
			if (rc < 0)
				return rc;
			removed = true;
		}
		if (rc < 0)
			return rc;
	} while (removed);
	return 0;
}

static int remove_dir(int parent, const char *name, int depth)
{
	int fd = open_dir_here(parent, name);
	DIR *dir;
	int rc;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		rc = -errno;
		close(fd);
		return rc;
	}
	rc = empty_dir(dir, depth);
	closedir(dir);
	return rc < 0 ? rc : ckpt_io_unlinkat(parent, name, AT_REMOVEDIR);
}

/* Remove a name and what is below it; somebody else having done so is fine. */
static int remove_entry(int parent, const char *name, int depth)
{
	int rc;

	if (depth > TREE_DEPTH_MAX)
		return -ELOOP;
	/* Linux answers EISDIR for a folder, POSIX says EPERM. */
	rc = ckpt_io_unlinkat(parent, name, 0);
	if (rc == -EISDIR || rc == -EPERM) {
		int unlink_rc = rc;

		rc = remove_dir(parent, name, depth);
		if (rc == -ENOTDIR) /* a file that may not go, e.g. chattr +i */
			rc = unlink_rc;
	}
	return rc == -ENOENT ? 0 : rc;
}

int ckpt_io_remove_tree(int dirfd, const char *path, struct ckpt_err *err)
{
	int rc = remove_entry(dirfd, path, 0);

	return rc < 0 ? ckpt_err_sys(err, rc, "cannot remove '%s'", path) : 0;
}
