/* keeper.c - see keeper.h. */
#include "cli/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/mounts.h"
#include "cli/namespace.h"

/* While the daemon starts. */
#define POLL_NS 2000000L
/* The daemon ends what it is at first; a disk may be slow. */
#define END_WAIT_MS 60000U

/* The keeper's side. */
struct watch {
	const struct mounting *mounting;
	char *const *argv;
	int life_fd;
	int ready_fd;
	int signal_fd; /* SIGCHLD */
	pid_t daemon;  /* 0: has ended, and was waited for */
	int status;    /* of the daemon, then */
};

/* --- the daemon ------------------------------------------------------------------------------ */

/*
 * Ends on SIGHUP, and by nothing else that whoever manages jobs sends to all processes of one
 * before it kills them: the command shall be able to save what it has. If the keeper is killed it
 * ends as well.
 */
static _Noreturn void become_daemon(const struct watch *watch, pid_t keeper)
{
	const struct sigaction ignored = { .sa_handler = SIG_IGN };
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct ckpt_buf path;
	sigset_t none;

	(void)sigaction(SIGTERM, &ignored, NULL);
	(void)sigaction(SIGINT, &ignored, NULL);
	/* nohup(1) has it ignored, and who ignores it would never end. */
	(void)sigaction(SIGHUP, &usual, NULL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0) {
		ckpt_ignore(dup2(null, STDIN_FILENO));
		ckpt_ignore(dup2(STDERR_FILENO, STDOUT_FILENO));
	}
	/* Without the right to mount, mount.ckptfs asks fusermount3, or says what is missing. */
	ckpt_ignore(namespace_keep_mounting());
	(void)prctl(PR_SET_PDEATHSIG, SIGHUP);
	if (getppid() != keeper)
		_exit(1);
	ckpt_buf_init(&path);
	mounting_program(&path);
	ckpt_ignore((int)syscall(SYS_close_range, 3U, ~0U, 0U));
	(void)execvp(path.data, watch->argv);
	_exit(MOUNTING_NOT_FOUND);
}

static void reap(struct watch *watch)
{
	if (watch->daemon > 0 && waitpid(watch->daemon, &watch->status, WNOHANG) == watch->daemon)
		watch->daemon = 0;
}

/* In the list of mounts; then the first request waits until it is served. */
static bool is_up(const struct mounting *mounting)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	const struct ckpt_mount *mount;
	struct stat st;
	bool up = false;

	if (ckpt_mount_list_read(&list, NULL) < 0)
		return false;
	mount = mounts_at(&list, mounting->point.data);
	if (mount && ckpt_mount_is_ours(mount) &&
	    strcmp(mount->source, mounting->store_path.data) == 0)
		up = stat(mounting->point.data, &st) == 0;
	ckpt_mount_list_release(&list);
	return up;
}

static bool start_daemon(struct watch *watch)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	pid_t self = getpid();
	bool up = false;

	watch->daemon = fork();
	if (watch->daemon == 0)
		become_daemon(watch, self);
	while (watch->daemon > 0 && !up) {
		up = is_up(watch->mounting);
		reap(watch);
		if (!up)
			ckpt_ignore(nanosleep(&pause, NULL)); /* woken early, it looks early */
	}
	return up && watch->daemon > 0;
}

static void end_daemon(struct watch *watch)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	uint64_t deadline_ms = ckpt_clock_mono_ms() + END_WAIT_MS;

	if (watch->daemon > 0)
		(void)kill(watch->daemon, SIGHUP);
	while (watch->daemon > 0 && ckpt_clock_mono_ms() < deadline_ms) {
		reap(watch);
		if (watch->daemon > 0)
			ckpt_ignore(nanosleep(&pause, NULL));
	}
	if (watch->daemon > 0) {
		cli_error("the daemon of the mount '%s' does not end; it is killed",
			  watch->mounting->point.data);
		(void)kill(watch->daemon, SIGKILL);
		(void)waitpid(watch->daemon, &watch->status, 0);
	}
}

/* --- the keeper ------------------------------------------------------------------------------ */

/* True: the command has ended; false: `ckptfs run` was killed. */
static bool wait_for_end(struct watch *watch)
{
	struct pollfd fds[] = { { .fd = watch->life_fd, .events = POLLIN },
				{ .fd = watch->signal_fd, .events = POLLIN } };
	struct signalfd_siginfo info;
	char byte;

	for (;;) {
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0 && errno != EINTR)
			return false;
		if (fds[0].revents != 0)
			return read(watch->life_fd, &byte, 1) == 1;
		if (fds[1].revents == 0 || read(watch->signal_fd, &info, sizeof(info)) < 0)
			continue;
		reap(watch);
		if (watch->daemon == 0) {
			cli_error(
				"the daemon of the mount '%s' has ended: what is read and written there fails from now on",
				watch->mounting->point.data);
			watch->daemon = -1;
		}
	}
}

static void tell(const struct watch *watch, bool ready)
{
	const struct keeper_news news = { .ready = ready, .status = watch->status };

	/* Nobody listens any more: then the life line is cut as well. */
	ckpt_ignore(write(watch->ready_fd, &news, sizeof(news)) < 0 ? -errno : 0);
	close(watch->ready_fd);
}

static _Noreturn void keep(struct watch *watch)
{
	bool ready;

	/* Fails for leaders of a session only, which a new child is not; / is always there. */
	ckpt_ignore((int)setsid());
	ckpt_ignore(chdir("/"));
	ready = start_daemon(watch);
	tell(watch, ready);
	if (ready && !wait_for_end(watch))
		namespace_kill_others(watch->daemon);
	end_daemon(watch);
	_exit(0);
}

/* SIGCHLD alone; and no signal but SIGKILL ends the keeper. */
static int block_signals(void)
{
	sigset_t child;
	sigset_t all;
	int fd;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void close_pair(const int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

int keeper_start(const struct mounting *mounting, char *const argv[], struct keeper *out,
		 struct ckpt_err *err)
{
	struct watch watch = { .mounting = mounting, .argv = argv };
	int ready[2];
	int life[2];

	/* A socket: to write to a keeper that is gone must not be our end. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) < 0)
		return ckpt_err_sys(err, -errno, "cannot start the mount");
	if (pipe2(ready, O_CLOEXEC) < 0) {
		int rc = -errno;

		close_pair(life);
		return ckpt_err_sys(err, rc, "cannot start the mount");
	}
	*out = (struct keeper){ .life_fd = life[1], .ready_fd = ready[0] };
	(void)fflush(NULL);
	out->pid = fork();
	if (out->pid == 0) {
		close(life[1]);
		close(ready[0]);
		watch.life_fd = life[0];
		watch.ready_fd = ready[1];
		watch.signal_fd = block_signals();
		keep(&watch);
	}
	close(life[0]);
	close(ready[1]);
	if (out->pid < 0) {
		int rc = -errno;

		close(life[1]);
		close(ready[0]);
		return ckpt_err_sys(err, rc, "cannot start the mount");
	}
	return 0;
}

void keeper_end(struct keeper *keeper)
{
	/* A keeper that is gone needs no word. */
	ckpt_ignore(send(keeper->life_fd, "", 1, MSG_NOSIGNAL) < 0 ? -errno : 0);
	close(keeper->life_fd);
	close(keeper->ready_fd);
	while (waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}
