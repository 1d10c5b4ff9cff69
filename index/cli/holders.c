/*
 * holders.c - see holders.h. A process holds a mount when one of its links in
 * /proc leads to a file of the mount's device. The kernel is asked for the
 * device without asking the daemon (AT_STATX_DONT_SYNC): a stuck one must not
 * keep us from saying who is in the way.
 */
#include "cli/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "cli/cli.h"

struct on_mount {
	const char *point;
	unsigned int dev_major; /* of every file in it */
	unsigned int dev_minor;
};

static bool is_on_mount(int procfd, const char *link, const struct on_mount *mount)
{
	struct statx stx;

	if (statx(procfd, link, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) < 0)
		return false;
	return stx.stx_dev_major == mount->dev_major && stx.stx_dev_minor == mount->dev_minor;
}

static bool read_link(int procfd, const char *link, char *out, size_t out_size)
{
	ssize_t len = readlinkat(procfd, link, out, out_size - 1);

	out[len > 0 ? len : 0] = '\0';
	return len > 0;
}

/* The links of the process itself; what it does there, NULL for nothing. */
static const char *look_at_links(int procfd, const struct on_mount *mount, char *path,
				 size_t path_size)
{
	static const struct {
		const char *link;
		const char *verb;
	} links[] = { { "cwd", "stands in" }, { "root", "has as its root" }, { "exe", "runs" } };

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		if (is_on_mount(procfd, links[i].link, mount) &&
		    read_link(procfd, links[i].link, path, path_size))
			return links[i].verb;
	}
	return NULL;
}

static const char *look_at_files(int procfd, const struct on_mount *mount, char *path,
				 size_t path_size)
{
	int fd = openat(procfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	const char *verb = NULL;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	while (!verb && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    is_on_mount(fd, entry->d_name, mount) &&
		    read_link(fd, entry->d_name, path, path_size))
			verb = "has open";
	}
	(void)closedir(dir);
	return verb;
}

/*
 * "7f…-7f… r--s 00000000 00:3a 12 /mnt/run1/w": the device is in hex. The path, if it is on the
 * mount; NULL.
 */
static const char *mapped_path(char *line, const struct on_mount *mount)
{
	char *rest = NULL;
	char *field = strtok_r(line, " ", &rest);
	char *minor_text = NULL;

	for (int i = 0; field && i < 3; i++)
		field = strtok_r(NULL, " ", &rest);
	if (!field || strtoul(field, &minor_text, 16) != mount->dev_major || *minor_text != ':' ||
	    strtoul(minor_text + 1, NULL, 16) != mount->dev_minor)
		return NULL;
	if (!strtok_r(NULL, " ", &rest) || !rest)
		return NULL;
	rest += strspn(rest, " ");
	rest[strcspn(rest, "\n")] = '\0';
	return rest;
}

static const char *look_at_maps(int procfd, const struct on_mount *mount, char *path,
				size_t path_size)
{
	int fd = openat(procfd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "re");
	CKPT_FREE char *line = NULL;
	const char *verb = NULL;
	size_t cap = 0;

	if (!file) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	while (!verb && getline(&line, &cap, file) >= 0) {
		const char *mapped = mapped_path(line, mount);

		if (!mapped)
			continue;
		(void)snprintf(path, path_size, "%s", mapped);
		verb = "has mapped";
	}
	(void)fclose(file);
	return verb;
}

static void read_command(int procfd, char out[64])
{
	int fd = openat(procfd, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, out, 63);

	out[len > 0 ? len : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

static bool report_process(int procfd, pid_t pid, const struct on_mount *mount)
{
	char path[PATH_MAX];
	char command[64];
	struct ckpt_buf line;
	const char *verb = look_at_links(procfd, mount, path, sizeof(path));

	if (!verb)
		verb = look_at_files(procfd, mount, path, sizeof(path));
	if (!verb)
		verb = look_at_maps(procfd, mount, path, sizeof(path));
	if (!verb)
		return false;
	read_command(procfd, command);
	ckpt_buf_init(&line);
	ckpt_path_escape(&line, command);
	ckpt_buf_printf(&line, ") %s '", verb);
	ckpt_path_escape(&line, path);
	cli_error("'%s' is busy: process %d (%s'", mount->point, (int)pid, line.data);
	ckpt_buf_release(&line);
	return true;
}

size_t holders_report(const char *point, pid_t but)
{
	struct on_mount mount = { .point = point };
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	struct statx stx;
	size_t count = 0;

	if (statx(AT_FDCWD, point, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) == 0) {
		mount.dev_major = stx.stx_dev_major;
		mount.dev_minor = stx.stx_dev_minor;
	}
	while (dir && (entry = readdir(dir))) {
		CKPT_CLOSE int procfd = -1;
		long pid;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		pid = strtol(entry->d_name, NULL, 10);
		if (pid == but || pid == getpid())
			continue;
		procfd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (procfd >= 0)
			count += report_process(procfd, (pid_t)pid, &mount);
	}
	if (dir)
		(void)closedir(dir);
	return count;
}
