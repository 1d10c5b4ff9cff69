/* test_errno.c - make one call and print the errno it answers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/control.h"
#include "ckpt_test.h"

static int open_close(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		return -1;
	return close(fd);
}

static int call_open(char **args)
{
	return open_close(args[0], O_RDONLY);
}

static int call_open_write(char **args)
{
	return open_close(args[0], O_WRONLY);
}

static int call_open_rw(char **args)
{
	return open_close(args[0], O_RDWR);
}

static int call_open_truncate(char **args)
{
	return open_close(args[0], O_RDONLY | O_TRUNC);
}

static int call_open_direct(char **args)
{
	return open_close(args[0], O_RDONLY | O_DIRECT);
}

static int call_create(char **args)
{
	return open_close(args[0], O_WRONLY | O_CREAT);
}

static int call_create_new(char **args)
{
	return open_close(args[0], O_WRONLY | O_CREAT | O_EXCL);
}

static int call_opendir(char **args)
{
	return open_close(args[0], O_RDONLY | O_DIRECTORY);
}

static int call_read(char **args)
{
	char byte;
	int fd = open(args[0], O_RDONLY | O_CLOEXEC);
	ssize_t got;
	int code;

	if (fd < 0)
		return -1;
	got = read(fd, &byte, 1);
	code = errno;
	(void)close(fd);
	errno = code;
	return got < 0 ? -1 : 0;
}

static int call_stat(char **args)
{
	struct stat st;

	return stat(args[0], &st);
}

static int call_statfs(char **args)
{
	struct statfs st;

	return statfs(args[0], &st);
}

static int call_mkdir(char **args)
{
	return mkdir(args[0], 0755);
}

static int call_mkfifo(char **args)
{
	return mkfifo(args[0], 0644);
}

static int call_unlink(char **args)
{
	return unlink(args[0]);
}

static int call_rmdir(char **args)
{
	return rmdir(args[0]);
}

static int call_rename(char **args)
{
	return rename(args[0], args[1]);
}

/* FROM TO noreplace|exchange|whiteout */
static int call_rename2(char **args)
{
	unsigned int flags = RENAME_NOREPLACE;

	if (strcmp(args[2], "exchange") == 0)
		flags = RENAME_EXCHANGE;
	else if (strcmp(args[2], "whiteout") == 0)
		flags = RENAME_WHITEOUT;
	return renameat2(AT_FDCWD, args[0], AT_FDCWD, args[1], flags);
}

static int call_link(char **args)
{
	return link(args[0], args[1]);
}

static int call_symlink(char **args)
{
	return symlink(args[1], args[0]);
}

static int call_chmod(char **args)
{
	return chmod(args[0], 0600);
}

static int call_chown(char **args)
{
	return chown(args[0], 1, 1);
}

static int call_truncate(char **args)
{
	return truncate(args[0], 1);
}

static int call_utimens(char **args)
{
	return utimensat(AT_FDCWD, args[0], NULL, 0);
}

static int call_access_write(char **args)
{
	return access(args[0], W_OK);
}

static int call_getxattr(char **args)
{
	char value[4096];

	return getxattr(args[0], args[1], value, sizeof(value)) < 0 ? -1 : 0;
}

/* A buffer that is too small must say ERANGE, not cut the value. */
static int call_getxattr_small(char **args)
{
	char value[1];

	return getxattr(args[0], args[1], value, sizeof(value)) < 0 ? -1 : 0;
}

static int call_setxattr(char **args)
{
	return setxattr(args[0], args[1], "x", 1, 0);
}

static int call_removexattr(char **args)
{
	return removexattr(args[0], args[1]);
}

static const struct {
	const char *name;
	int args; /* with the path */
	int (*make)(char **args);
} calls[] = {
	{ "open", 1, call_open },
	{ "open-write", 1, call_open_write },
	{ "open-rw", 1, call_open_rw },
	{ "open-truncate", 1, call_open_truncate },
	{ "open-direct", 1, call_open_direct },
	{ "create", 1, call_create },
	{ "create-new", 1, call_create_new },
	{ "opendir", 1, call_opendir },
	{ "read", 1, call_read },
	{ "stat", 1, call_stat },
	{ "statfs", 1, call_statfs },
	{ "mkdir", 1, call_mkdir },
	{ "mkfifo", 1, call_mkfifo },
	{ "unlink", 1, call_unlink },
	{ "rmdir", 1, call_rmdir },
	{ "rename", 2, call_rename },
	{ "rename2", 3, call_rename2 },
	{ "link", 2, call_link },
	{ "symlink", 2, call_symlink },
	{ "chmod", 1, call_chmod },
	{ "chown", 1, call_chown },
	{ "truncate", 1, call_truncate },
	{ "utimens", 1, call_utimens },
	{ "access-write", 1, call_access_write },
	{ "getxattr", 2, call_getxattr },
	{ "getxattr-small", 2, call_getxattr_small },
	{ "setxattr", 2, call_setxattr },
	{ "removexattr", 2, call_removexattr },
};

int test_errno(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strcmp(argv[1], calls[i].name) != 0)
			continue;
		if (argc - 2 != calls[i].args) {
			(void)test_failed(0, "wrong number of arguments for", argv[1]);
			return 2;
		}
		puts(calls[i].make(argv + 2) == 0 ? "OK" : ckpt_err_name(errno));
		return 0;
	}
	(void)test_failed(0, "unknown call", argv[1]);
	return 2;
}

int test_lease(int argc, char **argv)
{
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);

	(void)argc;
	if (fd < 0)
		return test_failed(errno, "cannot open", argv[1]);
	puts(fcntl(fd, F_SETLEASE, F_RDLCK) == 0 ? "OK" : ckpt_err_name(errno));
	return close(fd) == 0 ? 0 : 1;
}

int test_control(int argc, char **argv)
{
	struct ckpt_control *control = calloc(1, sizeof(*control));
	int fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (fd < 0 || !control) {
		free(control);
		return test_failed(errno, "cannot open", argv[1]);
	}
	control->version = argc > 4 ? (uint32_t)test_number(argv[4]) : CKPT_CONTROL_VERSION;
	control->op = (uint32_t)test_number(argv[2]);
	(void)snprintf(control->name, sizeof(control->name), "%s", argv[3]);
	rc = ioctl(fd, CKPT_IOC_CONTROL, control);
	if (rc < 0)
		printf("ioctl %s\n", ckpt_err_name(errno));
	else
		printf("%s %s\n", control->rc == 0 ? "OK" : ckpt_err_name(control->rc),
		       control->msg);
	(void)close(fd);
	free(control);
	return 0;
}
