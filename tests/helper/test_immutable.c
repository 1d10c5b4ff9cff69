/* test_immutable.c - every call that changes something, made on a committed checkpoint. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "base/err.h"
#include "ckpt_test.h"

/*
 * Where the calls are made: the working folder is the checkpoint, as made by make_files (see
 * tests/helpers/common.bash), with the attribute user.mine on FILE; outside is a group with the
 * file `loose`.
 */
#define FILE_NAME "sub/block.bin"
#define FOLDER "sub/deep"
#define LINK_NAME "link"
#define NEW_NAME "sub/new"

static struct {
	int file;  /* FILE_NAME, open for reading */
	int top;   /* the checkpoint */
	int inner; /* "sub" */
	int outside;
} at;

/* --- opening -------------------------------------------------------------------------------- */

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		return -1;
	return close(fd);
}

static int open_write(void)
{
	return try_open(FILE_NAME, O_WRONLY);
}

static int open_rw(void)
{
	return try_open(FILE_NAME, O_RDWR);
}

static int open_append(void)
{
	return try_open(FILE_NAME, O_WRONLY | O_APPEND);
}

static int open_truncate(void)
{
	return try_open(FILE_NAME, O_WRONLY | O_TRUNC);
}

static int open_read_truncate(void)
{
	return try_open(FILE_NAME, O_RDONLY | O_TRUNC);
}

static int open_create_there(void)
{
	return try_open(FILE_NAME, O_RDWR | O_CREAT);
}

static int open_create(void)
{
	return try_open(NEW_NAME, O_WRONLY | O_CREAT);
}

static int open_create_new(void)
{
	return try_open("new", O_RDWR | O_CREAT | O_EXCL);
}

static int call_creat(void)
{
	int fd = creat(FILE_NAME, 0644);

	return fd < 0 ? -1 : close(fd);
}

static int openat_create(void)
{
	int fd = openat(at.inner, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : close(fd);
}

/* Through the descriptor that could only read. */
static int open_again(void)
{
	char path[64];

	if (snprintf(path, sizeof(path), "/proc/self/fd/%d", at.file) < 0)
		return -1;
	return try_open(path, O_RDWR);
}

static int call_tmpfile(void)
{
	return try_open("sub", O_TMPFILE | O_RDWR);
}

static int map_write(void)
{
	void *bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, at.file, 0);

	return bytes == MAP_FAILED ? -1 : munmap(bytes, 4096);
}

/* --- size ----------------------------------------------------------------------------------- */

static int call_truncate(void)
{
	return truncate(FILE_NAME, 1);
}

static int truncate_longer(void)
{
	return truncate(FILE_NAME, 100000000);
}

static int truncate_same(void)
{
	return truncate(FILE_NAME, 1048576);
}

/* --- making --------------------------------------------------------------------------------- */

static int call_mkdir(void)
{
	return mkdir(NEW_NAME, 0755);
}

static int call_mkdirat(void)
{
	return mkdirat(at.top, "new", 0755);
}

static int mknod_regular(void)
{
	return mknod(NEW_NAME, S_IFREG | 0644, 0);
}

static int mknod_fifo(void)
{
	return mkfifo(NEW_NAME, 0644);
}

static int mknod_socket(void)
{
	return mknod(NEW_NAME, S_IFSOCK | 0644, 0);
}

static int bind_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = NEW_NAME };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc = bind(fd, (const struct sockaddr *)&address, sizeof(address));
	int code = errno;

	(void)close(fd);
	errno = code;
	return rc;
}

static int call_symlink(void)
{
	return symlink("target", NEW_NAME);
}

static int call_symlinkat(void)
{
	return symlinkat("target", at.top, "new");
}

static int link_inside(void)
{
	return link(FILE_NAME, NEW_NAME);
}

static int link_into(void)
{
	return linkat(at.outside, "loose", at.inner, "new", 0);
}

static int link_out(void)
{
	return linkat(at.top, FILE_NAME, at.outside, "linked", 0);
}

/* --- renaming ------------------------------------------------------------------------------- */

static int rename_inside(void)
{
	return rename(FILE_NAME, NEW_NAME);
}

static int rename_over(void)
{
	return rename("empty", FILE_NAME);
}

static int rename_folder(void)
{
	return rename("sub", "other");
}

static int rename_out(void)
{
	return renameat(at.top, FILE_NAME, at.outside, "moved");
}

static int rename_folder_out(void)
{
	return renameat(at.top, "sub", at.outside, "moved");
}

static int rename_into(void)
{
	return renameat(at.outside, "loose", at.top, "new");
}

static int rename_into_over(void)
{
	return renameat(at.outside, "loose", at.top, FILE_NAME);
}

static int rename_noreplace(void)
{
	return renameat2(at.top, FILE_NAME, at.inner, "new", RENAME_NOREPLACE);
}

static int rename_exchange(void)
{
	return renameat2(at.top, "empty", at.top, FILE_NAME, RENAME_EXCHANGE);
}

static int rename_exchange_out(void)
{
	return renameat2(at.outside, "loose", at.top, FILE_NAME, RENAME_EXCHANGE);
}

/* --- attributes ----------------------------------------------------------------------------- */

static int call_chmod(void)
{
	return chmod(FILE_NAME, 0600);
}

static int call_fchmod(void)
{
	return fchmod(at.file, 0600);
}

static int chmod_folder(void)
{
	return fchmodat(at.top, FOLDER, 0700, 0);
}

static int chmod_top(void)
{
	return fchmod(at.top, 0700);
}

static int call_chown(void)
{
	return chown(FILE_NAME, geteuid(), getegid());
}

static int call_fchown(void)
{
	return fchown(at.file, geteuid(), getegid());
}

static int call_lchown(void)
{
	return lchown(LINK_NAME, geteuid(), getegid());
}

static int chown_top(void)
{
	return fchown(at.top, geteuid(), getegid());
}

static const struct timespec some_times[2] = { { .tv_sec = 1 }, { .tv_sec = 2 } };

static int call_utimensat(void)
{
	return utimensat(AT_FDCWD, FILE_NAME, some_times, 0);
}

static int utimensat_now(void)
{
	return utimensat(AT_FDCWD, FILE_NAME, NULL, 0);
}

static int utimensat_link(void)
{
	return utimensat(AT_FDCWD, LINK_NAME, some_times, AT_SYMLINK_NOFOLLOW);
}

static int call_futimens(void)
{
	return futimens(at.file, some_times);
}

static int utimens_top(void)
{
	return futimens(at.top, NULL);
}

static int call_utime(void)
{
	return utime(FOLDER, NULL);
}

static int call_utimes(void)
{
	return utimes(FILE_NAME, NULL);
}

static int call_setxattr(void)
{
	return setxattr(FILE_NAME, "user.new", "x", 1, 0);
}

static int setxattr_replace(void)
{
	return setxattr(FILE_NAME, "user.mine", "x", 1, XATTR_REPLACE);
}

static int call_fsetxattr(void)
{
	return fsetxattr(at.file, "user.new", "x", 1, 0);
}

static int setxattr_top(void)
{
	return fsetxattr(at.top, "user.new", "x", 1, 0);
}

static int setxattr_ours(void)
{
	return setxattr(FILE_NAME, "user.ckptfs.rank", "7", 1, 0);
}

static int setxattr_acl(void)
{
	return setxattr(FILE_NAME, "system.posix_acl_access", "x", 1, 0);
}

static int call_removexattr(void)
{
	return removexattr(FILE_NAME, "user.mine");
}

static int call_fremovexattr(void)
{
	return fremovexattr(at.file, "user.mine");
}

static int set_flags(void)
{
	int flags = FS_IMMUTABLE_FL;

	return ioctl(at.file, FS_IOC_SETFLAGS, &flags);
}

/* --- the control folder --------------------------------------------------------------------- */

static int control_write(void)
{
	return try_open(".ckptfs/manifest.jsonl", O_WRONLY);
}

static int control_create(void)
{
	return try_open(".ckptfs/new", O_WRONLY | O_CREAT);
}

static int control_rename(void)
{
	return rename(".ckptfs/manifest.jsonl", "moved");
}

static int control_mkdir(void)
{
	return mkdir(".ckptfs/new", 0755);
}

/* --- the table ------------------------------------------------------------------------------ */

/* @code: what each has to answer; @other: what the kernel may say before it asks anybody. */
static const struct {
	const char *name;
	int (*make)(void);
	int code;
	int other;
} calls[] = {
	{ "open O_WRONLY", open_write, EROFS, 0 },
	{ "open O_RDWR", open_rw, EROFS, 0 },
	{ "open O_APPEND", open_append, EROFS, 0 },
	{ "open O_TRUNC", open_truncate, EROFS, 0 },
	{ "open O_RDONLY|O_TRUNC", open_read_truncate, EROFS, 0 },
	{ "open O_CREAT of what is there", open_create_there, EROFS, 0 },
	{ "open O_CREAT", open_create, EROFS, 0 },
	{ "open O_CREAT|O_EXCL", open_create_new, EROFS, 0 },
	{ "creat", call_creat, EROFS, 0 },
	{ "openat O_CREAT", openat_create, EROFS, 0 },
	{ "open of /proc/self/fd", open_again, EROFS, 0 },
	{ "open O_TMPFILE", call_tmpfile, EROFS, EOPNOTSUPP },
	{ "mmap for writing", map_write, EACCES, 0 },
	{ "truncate", call_truncate, EROFS, 0 },
	{ "truncate, longer", truncate_longer, EROFS, 0 },
	{ "truncate, the same size", truncate_same, EROFS, 0 },
	{ "mkdir", call_mkdir, EROFS, 0 },
	{ "mkdirat", call_mkdirat, EROFS, 0 },
	{ "mknod, regular", mknod_regular, EROFS, 0 },
	{ "mkfifo", mknod_fifo, EROFS, 0 },
	{ "mknod, socket", mknod_socket, EROFS, 0 },
	{ "bind", bind_socket, EROFS, 0 },
	{ "symlink", call_symlink, EROFS, 0 },
	{ "symlinkat", call_symlinkat, EROFS, 0 },
	{ "link", link_inside, EROFS, 0 },
	{ "linkat, into it", link_into, EROFS, 0 },
	{ "linkat, out of it", link_out, EXDEV, 0 },
	{ "rename", rename_inside, EROFS, 0 },
	{ "rename over a shard", rename_over, EROFS, 0 },
	{ "rename of a folder", rename_folder, EROFS, 0 },
	{ "renameat, out of it", rename_out, EROFS, 0 },
	{ "renameat of a folder, out of it", rename_folder_out, EROFS, 0 },
	{ "renameat, into it", rename_into, EROFS, 0 },
	{ "renameat, into it over a shard", rename_into_over, EROFS, 0 },
	{ "renameat2 NOREPLACE", rename_noreplace, EROFS, 0 },
	{ "renameat2 EXCHANGE", rename_exchange, EROFS, 0 },
	{ "renameat2 EXCHANGE with one outside", rename_exchange_out, EROFS, 0 },
	{ "chmod", call_chmod, EROFS, 0 },
	{ "fchmod", call_fchmod, EROFS, 0 },
	{ "fchmodat of a folder", chmod_folder, EROFS, 0 },
	{ "fchmod of the checkpoint", chmod_top, EROFS, 0 },
	{ "chown", call_chown, EROFS, 0 },
	{ "fchown", call_fchown, EROFS, 0 },
	{ "lchown", call_lchown, EROFS, 0 },
	{ "fchown of the checkpoint", chown_top, EROFS, 0 },
	{ "utimensat", call_utimensat, EROFS, 0 },
	{ "utimensat, now", utimensat_now, EROFS, 0 },
	{ "utimensat of a symlink", utimensat_link, EROFS, 0 },
	{ "futimens", call_futimens, EROFS, 0 },
	{ "futimens of the checkpoint", utimens_top, EROFS, 0 },
	{ "utime", call_utime, EROFS, 0 },
	{ "utimes", call_utimes, EROFS, 0 },
	{ "setxattr", call_setxattr, EROFS, 0 },
	{ "setxattr XATTR_REPLACE", setxattr_replace, EROFS, 0 },
	{ "fsetxattr", call_fsetxattr, EROFS, 0 },
	{ "fsetxattr of the checkpoint", setxattr_top, EROFS, 0 },
	{ "setxattr user.ckptfs.*", setxattr_ours, EPERM, 0 },
	{ "setxattr of an access list", setxattr_acl, EOPNOTSUPP, EINVAL },
	{ "removexattr", call_removexattr, EROFS, 0 },
	{ "fremovexattr", call_fremovexattr, EROFS, 0 },
	{ "ioctl FS_IOC_SETFLAGS", set_flags, ENOTTY, EPERM },
	{ "open O_WRONLY of the manifest", control_write, EROFS, EACCES },
	{ "open O_CREAT in the control folder", control_create, EROFS, EACCES },
	{ "rename of the manifest", control_rename, EROFS, EACCES },
	{ "mkdir in the control folder", control_mkdir, EROFS, EACCES },
};

/* True where the call did what it must. */
static bool is_refused(size_t idx)
{
	int rc = calls[idx].make();
	int code = rc < 0 ? errno : 0;

	if (code != 0 && (code == calls[idx].code || code == calls[idx].other))
		return true;
	printf("%s: %s, should be %s\n", calls[idx].name, code == 0 ? "OK" : ckpt_err_name(code),
	       ckpt_err_name(calls[idx].code));
	return false;
}

/* CHECKPOINT OUTSIDE */
int test_immutable(int argc, char **argv)
{
	const size_t count = sizeof(calls) / sizeof(calls[0]);
	size_t wrong = 0;

	(void)argc;
	at.outside = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at.outside < 0 || chdir(argv[1]) < 0)
		return test_failed(errno, "cannot open", argv[1]);
	at.top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	at.inner = open("sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	at.file = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
	if (at.top < 0 || at.inner < 0 || at.file < 0)
		return test_failed(errno, "cannot open what lies in", argv[1]);
	for (size_t i = 0; i < count; i++)
		wrong += !is_refused(i);
	printf("%zu calls, %zu wrong\n", count, wrong);
	return wrong > 0;
}
