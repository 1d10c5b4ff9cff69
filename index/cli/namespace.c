/*
 * namespace.c - see namespace.h. Sources: user_namespaces(7), mount_namespaces(7), capabilities(7).
 *
 * No PID namespace: ranks on one host find each other by their pids (shared memory of MPI and
 * NCCL), and a session tells by its pid whether its writer lives.
 */
#include "cli/namespace.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/* Rounds of looking for processes to kill: one that forks all the time may get away for one. */
#define KILL_ROUNDS_MAX 100
#define KILL_PAUSE_NS 5000000L

/* --- entering -------------------------------------------------------------------------------- */

static int write_proc(const char *path, const char *text)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, path, O_WRONLY, 0);

	if (fd < 0)
		return fd;
	/* In one write(2), at no offset: the kernel takes a map only so. */
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int map_id(const char *path, unsigned int id)
{
	char text[64];

	if (snprintf(text, sizeof(text), "%u %u 1\n", id, id) < 0)
		return -EINVAL;
	return write_proc(path, text);
}

/* Nobody may map more than himself; and groups that are not mapped must not be left. */
static int map_ids(uid_t uid, gid_t gid)
{
	int rc = write_proc("/proc/self/setgroups", "deny");

	if (rc == 0)
		rc = map_id("/proc/self/uid_map", uid);
	return rc < 0 ? rc : map_id("/proc/self/gid_map", gid);
}

static int refuse(int rc, struct ckpt_err *err)
{
	if (rc == -EPERM || rc == -EACCES || rc == -ENOSPC || rc == -EUSERS || rc == -EINVAL ||
	    rc == -ENOSYS)
		return ckpt_err_set(
			err, -EPERM,
			"this system does not let you make a user and mount namespace (%s); let the administrator allow it (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; in a container its seccomp profile), or use 'ckptfs mount'",
			ckpt_err_name(rc));
	return ckpt_err_sys(err, rc, "cannot make a namespace");
}

int namespace_enter(struct ckpt_err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int rc = unshare(CLONE_NEWNS) < 0 ? -errno : 0;

	if (rc == -EPERM) {
		rc = unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? -errno : 0;
		if (rc == 0)
			rc = map_ids(uid, gid);
	}
	if (rc == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		rc = -errno;
	return rc < 0 ? refuse(rc, err) : 0;
}

int namespace_keep_mounting(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (geteuid() == 0)
		return 0;
	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	data[CAP_TO_INDEX(CAP_SYS_ADMIN)].inheritable |= CAP_TO_MASK(CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &head, data) < 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) < 0)
		return -errno;
	return 0;
}

/* --- killing --------------------------------------------------------------------------------- */

/* Is it a process of the mount namespace @own? A zombie is in none. */
static bool is_ours(int procfd, const char *pid, const struct stat *own)
{
	char path[64];
	struct stat st;

	return snprintf(path, sizeof(path), "%s/ns/mnt", pid) > 0 &&
	       ckpt_io_fstatat(procfd, path, &st, 0) == 0 && st.st_ino == own->st_ino &&
	       st.st_dev == own->st_dev;
}

/* How many were told to die. */
static int kill_round(int spared, const struct stat *own)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int count = 0;

	while (dir && (entry = readdir(dir))) {
		pid_t pid = isdigit((unsigned char)entry->d_name[0])
				    ? (pid_t)strtol(entry->d_name, NULL, 10)
				    : 0;

		if (pid > 0 && pid != getpid() && pid != spared &&
		    is_ours(dirfd(dir), entry->d_name, own) && kill(pid, SIGKILL) == 0)
			count++;
	}
	if (dir)
		(void)closedir(dir);
	return count;
}

void namespace_kill_others(int spared)
{
	const struct timespec pause = { .tv_nsec = KILL_PAUSE_NS };
	struct stat own;

	if (ckpt_io_fstatat(AT_FDCWD, "/proc/self/ns/mnt", &own, 0) < 0)
		return;
	for (int i = 0; i < KILL_ROUNDS_MAX && kill_round(spared, &own) > 0; i++)
		ckpt_ignore(nanosleep(&pause, NULL)); /* woken early, it looks again early */
}
