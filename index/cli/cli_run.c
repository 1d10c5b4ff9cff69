/*
 * cli_run.c - run a command with a store mounted, where only the command sees it. Three processes
 * besides the command's: this one waits for the command, and passes signals and its end on; the
 * keeper (keeper.h) ends the daemon, also when this one is killed; and mount.ckptfs itself.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/path.h"
#include "cli/cli.h"
#include "cli/keeper.h"
#include "cli/mounting.h"
#include "cli/namespace.h"
#include "cli/options.h"

/* As env(1), nice(1) and their like: not found, and not to be executed. */
#define EXIT_NOT_FOUND 127
#define EXIT_NOT_EXECUTED 126
#define EXIT_SIGNAL 128

/* One run. */
struct job {
	char **argv;	    /* of the command */
	const char *point;  /* the mount point */
	char cwd[PATH_MAX]; /* "" where it cannot be told */
	sigset_t mask;	    /* as we found it */
	int signal_fd;
	struct keeper keeper;
	pid_t pid; /* the command; 0: not started */
};

/*
 * --- the command -------------------------------------------------------------------------------
 */

static _Noreturn void execute(char **argv)
{
	int rc;

	(void)execvp(argv[0], argv);
	rc = errno;
	cli_error("cannot run '%s': %s", argv[0],
		  rc == ENOENT ? "there is no such command" : strerror(rc));
	_exit(rc == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTED);
}

static _Noreturn void become_command(const struct job *job, pid_t parent)
{
	/* The folder we stand in may be below the mount now: in again, by its path. */
	if (job->cwd[0] != '\0' && ckpt_path_is_below(job->cwd, job->point) &&
	    chdir(job->cwd) < 0) {
		cli_error("cannot go to '%s' in the mount: %s", job->cwd, strerror(errno));
		_exit(EXIT_NOT_EXECUTED);
	}
	(void)sigprocmask(SIG_SETMASK, &job->mask, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_NOT_EXECUTED);
	execute(job->argv);
}

/*
 * The end of a command, as a wrapper passes it on: by the same signal, without a second core file.
 */
static int end_as(int status)
{
	const struct rlimit none = { .rlim_cur = 0 };
	const struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t only;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	ckpt_ignore(setrlimit(RLIMIT_CORE, &none));
	(void)sigaction(WTERMSIG(status), &action, NULL);
	(void)fflush(NULL);
	(void)sigemptyset(&only);
	(void)sigaddset(&only, WTERMSIG(status));
	(void)sigprocmask(SIG_UNBLOCK, &only, NULL);
	(void)raise(WTERMSIG(status));
	return EXIT_SIGNAL + WTERMSIG(status);
}

/*
 * --- signals -------------------------------------------------------------------------------------
 */

/* All that ends or tells a program something, and can be caught. */
static int catch_signals(struct job *job)
{
	static const int numbers[] = { SIGCHLD, SIGTERM, SIGINT,  SIGHUP,    SIGQUIT,
				       SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
				       SIGURG,	SIGIO,	 SIGPWR,  SIGXCPU };
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)sigaddset(&set, numbers[i]);
	if (sigprocmask(SIG_BLOCK, &set, &job->mask) < 0)
		return -errno;
	job->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return job->signal_fd < 0 ? -errno : 0;
}

/* The next signal for the job; 0: none (any more). */
static int next_signal(const struct job *job)
{
	struct signalfd_siginfo info;

	while (read(job->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		/* What a terminal sends, it has sent to the command as well. */
		if (info.ssi_signo != SIGCHLD && info.ssi_code != SI_KERNEL)
			return (int)info.ssi_signo;
		if (info.ssi_signo != SIGCHLD && job->pid == 0)
			return (int)info.ssi_signo;
	}
	return 0;
}

static void wait_for(int fd, int other_fd)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN },
				{ .fd = other_fd, .events = POLLIN } };

	/* Interrupted or not: whoever waits looks again. */
	ckpt_ignore(poll(fds, sizeof(fds) / sizeof(fds[0]), -1));
}

/*
 * --- all together --------------------------------------------------------------------------------
 */

/* Until the mount answers: 0; an exit code, where it does not come to that. */
static int await_mount(const struct job *job, int *out_signal, struct ckpt_err *err)
{
	struct keeper_news news = { .ready = 0 };
	struct pollfd ready = { .fd = job->keeper.ready_fd, .events = POLLIN };

	while (poll(&ready, 1, 0) == 0) {
		*out_signal = next_signal(job);
		if (*out_signal != 0)
			return CLI_FAILED;
		wait_for(job->keeper.ready_fd, job->signal_fd);
	}
	if (read(job->keeper.ready_fd, &news, sizeof(news)) != (ssize_t)sizeof(news))
		return ckpt_err_set(err, -EIO, "the mount of '%s' was ended while it began",
				    job->point);
	if (news.ready)
		return CLI_OK;
	return mounting_code(news.status, err);
}

/* Start the command; its status when it has ended. */
static int run_command(struct job *job, struct ckpt_err *err)
{
	pid_t self = getpid();
	int status = 0;

	(void)fflush(NULL);
	job->pid = fork();
	if (job->pid == 0)
		become_command(job, self);
	if (job->pid < 0)
		return ckpt_err_sys(err, -errno, "cannot start '%s'", job->argv[0]);
	while (waitpid(job->pid, &status, WNOHANG) == 0) {
		int number;

		wait_for(job->signal_fd, -1);
		while ((number = next_signal(job)) != 0)
			(void)kill(job->pid, number);
	}
	return status;
}

static int run_in_mount(const struct mounting *mounting, char *const mount_argv[], struct job *job,
			struct ckpt_err *err)
{
	int number = 0;
	int status = 0;
	int rc = catch_signals(job);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot watch for signals");
	rc = keeper_start(mounting, mount_argv, &job->keeper, err);
	if (rc < 0)
		return rc;
	rc = await_mount(job, &number, err);
	if (rc == CLI_OK) {
		status = run_command(job, err);
		rc = status < 0 ? status : CLI_OK;
	}
	keeper_end(&job->keeper);
	if (number != 0) /* it came before there was a command: ours to die of */
		return end_as(number);
	return rc == CLI_OK ? end_as(status) : rc;
}

static int run_mounted(const struct mounting *mounting, const struct option_list *options,
		       char **argv, struct ckpt_err *err)
{
	static const char *const extra[] = { "--foreground", "-o", "log=syslog", NULL };
	struct job job = { .argv = argv, .point = mounting->point.data, .signal_fd = -1 };
	char **mount_argv;
	int rc;

	(void)fflush(NULL);
	if (mounting->is_mounted)
		execute(argv); /* it sees the mount as it is */
	if (!getcwd(job.cwd, sizeof(job.cwd)))
		job.cwd[0] = '\0';
	rc = namespace_enter(err);
	if (rc < 0)
		return rc;
	mount_argv = mounting_argv(mounting, options, extra);
	if (!mount_argv)
		return ckpt_err_set(err, -ENOMEM, "out of memory");
	rc = run_in_mount(mounting, mount_argv, &job, err);
	mounting_argv_free(mount_argv);
	if (job.signal_fd >= 0)
		close(job.signal_fd);
	return rc;
}

/* How many of @argv stand before the "--" that ends the options of run; @argc: there is none. */
static int find_command(int argc, char **argv)
{
	int at = 1;

	while (at < argc && strcmp(argv[at], "--") != 0)
		at++;
	return at;
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	}
	return false;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct option_list options = { .items = NULL };
	const struct option_row rows[] = {
		{ "options", 'o', OPTION_LIST, &options, "OPT,...",
		  "mount options, as mount.ckptfs(8) has them" },
		OPTION_END,
	};
	int split = find_command(argc, argv);
	struct ckpt_err err = CKPT_ERR_INIT;
	struct mounting mounting;
	struct option_args args;
	int code;

	if (split + 1 >= argc && !wants_help(argc, argv)) {
		cli_error("'run' needs a command behind '--'; usage: ckptfs run %s",
			  cli->command->args);
		return CLI_USAGE;
	}
	if (options_parse(cli, split, argv, rows, &args, &code)) {
		code = mounting_prepare(args.items[0], args.count > 1 ? args.items[1] : NULL,
					&mounting, &err);
		if (code == 0)
			code = run_mounted(&mounting, &options, argv + split + 1, &err);
		mounting_release(&mounting);
		code = code < 0 ? cli_report(&err) : code;
	}
	option_list_release(&options);
	return code;
}

const struct cli_command cli_run_command = {
	.name = "run",
	.args = "STORE [MNT] [-o OPT,...] -- COMMAND [ARG...]",
	.summary = "run a command with a store mounted for it",
	.details =
		"The mount is seen by COMMAND and what it starts only, and ends with it; MNT left\n"
		"out: over STORE itself. Needs neither root nor fusermount3, but a system that lets\n"
		"users make namespaces, and /dev/fuse. Signals are passed on; the exit code is\n"
		"COMMAND's, or 127 and 126 where it is not found or cannot be run, and a COMMAND\n"
		"that dies of a signal makes this die of the same one. If this is killed, so is\n"
		"everything that COMMAND has started. Where the store is mounted on MNT already,\n"
		"COMMAND is just run.\n",
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
