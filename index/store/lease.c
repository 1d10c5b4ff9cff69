/*
 * lease.c - read leases: the kernel's answer to "does anybody have this file
 * open or mapped for writing?", which also counts mappings whose descriptor is
 * closed and processes behind a mount that died. While a lease is held, who
 * opens the file for writing waits for us.
 * A lease being asked for back sends a signal: it must never end the process.
 * Source: fcntl(2) "Leases", kernel fs/locks.c check_conflicting_open().
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/num.h"
#include "store/commit_internal.h"

/* Enough for any checkpoint of files worth having; the kernel keeps some KiB for each. */
#define SLICE_MAX 65536
/* Descriptors left to the rest of the process, where there are that many. */
#define RESERVE UINT64_C(192)

size_t ckpt_lease_slice_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return RESERVE;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = { .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };

		/* It is not lowered again: another thread's commit may count on it. */
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= SLICE_MAX + RESERVE)
		return SLICE_MAX;
	return limit.rlim_cur > 2 * RESERVE ? limit.rlim_cur - RESERVE : limit.rlim_cur / 4 + 1;
}

int ckpt_lease_take(int fd)
{
	/*
	 * Before the lease: from its first moment its signal is one that is ignored by default
	 * (SIGIO kills).
	 */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return -errno;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
		/*
		 * EINVAL, EOPNOTSUPP, ENOLCK: not here; EACCES: not for files of others. The
		 * stamps decide then.
		 */
		return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : 0;
	}
	/*
	 * After it, because taking the lease names us the owner: from now on there is no signal at
	 * all.
	 */
	if (fcntl(fd, F_SETOWN, 0) < 0)
		return -errno;
	return 1;
}

bool ckpt_lease_held(int fd)
{
	return fcntl(fd, F_GETLEASE) == F_RDLCK;
}
