/*
 * daemon.c - see daemon.h. mount.ckptfs keeps its command line, so the process
 * is the one called "mount.ckptfs STORE MNT …" whose MNT is the mount point.
 * Only where none is found so (a mount point given relative to a folder that
 * the daemon has left) is the mount's own stats file asked: it is served by the
 * daemon, which may be stuck.
 */
#include "cli/daemon.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"

static const char *const program = "mount.ckptfs";
static const char *const stats_key = "\nckptfs_daemon_pid ";
/* Longer command lines are no mount's. */
#define CMDLINE_MAX 16384
#define STATS_MAX CKPT_MIB
#define POLL_NS 5000000
/* Long enough for an init that reaps, so that the pid is gone as well when we return. */
#define REAP_WAIT_MS 200

/* A small file of /proc, which has no size to go by. */
static bool read_proc(int dirfd, const char *name, struct ckpt_buf *out)
{
	CKPT_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	char chunk[1024];
	ssize_t got = -1;

	while (fd >= 0 && out->len_bytes < CMDLINE_MAX &&
	       (got = read(fd, chunk, sizeof(chunk))) > 0)
		ckpt_buf_add(out, chunk, (size_t)got);
	return got >= 0 && ckpt_buf_check(out) == 0;
}

/* Is the argument @arg of a process the folder @point? */
static bool names_point(int procfd, const char *arg, const char *point)
{
	char cwd[4096];
	struct ckpt_buf whole;
	ssize_t len;
	bool same;

	if (arg[0] == '/')
		return strcmp(arg, point) == 0;
	len = readlinkat(procfd, "cwd", cwd, sizeof(cwd) - 1);
	if (len <= 0)
		return false;
	cwd[len] = '\0';
	ckpt_buf_init(&whole);
	ckpt_path_join(&whole, cwd, arg);
	same = strcmp(whole.data, point) == 0;
	ckpt_buf_release(&whole);
	return same;
}

static bool serves(int procfd, const char *point)
{
	struct ckpt_buf cmdline;
	bool found = false;

	ckpt_buf_init(&cmdline);
	if (read_proc(procfd, "cmdline", &cmdline) &&
	    strcmp(ckpt_path_basename(cmdline.data), program) == 0) {
		const char *end = cmdline.data + cmdline.len_bytes;

		for (const char *arg = cmdline.data; !found && arg < end; arg += strlen(arg) + 1)
			found = names_point(procfd, arg, point);
	}
	ckpt_buf_release(&cmdline);
	return found;
}

/* Fields 3 and 22 of /proc/PID/stat; the name before them may hold blanks and parentheses. */
static bool read_stat(pid_t pid, char *state, uint64_t *start_ticks)
{
	struct ckpt_buf text;
	char path[64];
	char *rest = NULL;
	char *field;
	bool found = false;
	int number = 3;

	ckpt_buf_init(&text);
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	field = read_proc(AT_FDCWD, path, &text) ? strrchr(text.data, ')') : NULL;
	if (field)
		field = strtok_r(field + 1, " \n", &rest);
	*state = 'X';
	if (field)
		*state = *field;
	for (; field && !found; field = strtok_r(NULL, " \n", &rest), number++)
		found = number == 22 && num_parse_u64(field, start_ticks) == 0;
	ckpt_buf_release(&text);
	return found;
}

static pid_t pid_by_cmdline(const char *point)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	pid_t pid = 0;

	while (dir && pid == 0 && (entry = readdir(dir))) {
		CKPT_CLOSE int procfd = -1;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		procfd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (procfd >= 0 && serves(procfd, point))
			pid = (pid_t)strtol(entry->d_name, NULL, 10);
	}
	if (dir)
		(void)closedir(dir);
	return pid;
}

static pid_t pid_by_stats(const char *point)
{
	struct ckpt_buf path;
	struct ckpt_buf text;
	const char *line;
	pid_t pid = 0;

	ckpt_buf_init(&path);
	ckpt_buf_init(&text);
	ckpt_path_join(&path, point, CKPT_CONTROL_DIR "/stats");
	ckpt_buf_add_char(&text, '\n');
	if (ckpt_io_read_file(AT_FDCWD, path.data, STATS_MAX, &text, NULL) == 0) {
		line = strstr(text.data, stats_key);
		pid = line ? (pid_t)strtol(line + strlen(stats_key), NULL, 10) : 0;
	}
	ckpt_buf_release(&text);
	ckpt_buf_release(&path);
	return pid;
}

struct daemon daemon_find(const char *point)
{
	struct daemon daemon = { .pid = pid_by_cmdline(point) };
	char state;

	if (daemon.pid == 0)
		daemon.pid = pid_by_stats(point);
	if (daemon.pid > 0 && !read_stat(daemon.pid, &state, &daemon.start_ticks))
		daemon.pid = 0;
	return daemon;
}

enum life {
	RUNNING,
	ENDED,
	GONE
};

static enum life look(const struct daemon *daemon)
{
	uint64_t start_ticks = 0;
	char state = 'Z';

	if (!read_stat(daemon->pid, &state, &start_ticks) || start_ticks != daemon->start_ticks)
		return GONE;
	return state == 'Z' || state == 'X' ? ENDED : RUNNING;
}

bool daemon_wait(const struct daemon *daemon, uint64_t wait_ms)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	uint64_t deadline_ms = ckpt_clock_mono_ms() + wait_ms;
	bool ended = false;

	for (;;) {
		enum life life = look(daemon);

		if (life == GONE)
			return true;
		/* A zombie has ended: whether its parent ever asks for it is not our matter. */
		if (life == ENDED && !ended) {
			ended = true;
			deadline_ms = ckpt_clock_mono_ms() + REAP_WAIT_MS;
		}
		if (ckpt_clock_mono_ms() >= deadline_ms)
			return ended;
		/* Woken early: looked again early. */
		ckpt_ignore(nanosleep(&pause, NULL));
	}
}
