/*
 * cli_mpi_hook.c - see cli_mpi_hook.h. A command is a process group of its own, so that a time-out
 * ends all of it; what it says on stderr is passed on as it comes, and its last line is the reason
 * in the failure table.
 */
#include "cli_mpi_hook.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/num.h"
#include "cli_mpi_progress.h"
#include "job.h"

/* Between two looks at whether it has ended, and whether anybody still wants it. */
#define LOOK_MS 20
/* What is kept of the last line. */
#define LINE_MAX_BYTES 512

struct running {
	const struct mpi_hooks *hooks;
	const struct ckpt_mpi_hook_call *call;
	char *message; /* of the failure table */
	pid_t pid;
	int from_fd; /* its stderr */
	char line[LINE_MAX_BYTES];
	size_t line_len;
	bool line_ended; /* the next byte begins another */
};

int mpi_hooks_init(struct mpi_hooks *hooks, const struct mpi_options *options)
{
	const struct mpi_pair_list *pairs = &options->hook_args;

	*hooks = (struct mpi_hooks){
		.pre_commit = options->pre_commit,
		.post_commit = options->post_commit,
		.timeout_secs = options->timeout_secs,
		.args = array_alloc(pairs->count + 1, sizeof(*hooks->args)),
		.arg_count = pairs->count,
	};
	for (size_t i = 0; hooks->args && i < pairs->count; i++)
		hooks->args[i] = (struct ckpt_mpi_arg){ .key = pairs->items[i].key,
							.value = pairs->items[i].value };
	return hooks->args ? 0 : -ENOMEM;
}

void mpi_hooks_release(struct mpi_hooks *hooks)
{
	free(hooks->args);
	hooks->args = NULL;
}

/* --- its environment ---------------------------------------------------------------------- */

/* A vector of "NAME=VALUE": pointers into one text. */
struct env {
	struct ckpt_buf text;
	char **vector;
};

static void add_number(struct ckpt_buf *out, const char *name, int value)
{
	ckpt_buf_printf(out, "%s=%d", name, value);
	ckpt_buf_add_char(out, '\0');
}

static void add_text(struct ckpt_buf *out, const char *name, const char *value)
{
	ckpt_buf_printf(out, "%s=%s", name, value);
	ckpt_buf_add_char(out, '\0');
}

static size_t add_ours(struct ckpt_buf *out, const struct ckpt_mpi_hook_call *call)
{
	add_text(out, "CKPTFS_PATH", call->path);
	add_number(out, "CKPTFS_RANK", call->rank->global_rank);
	add_number(out, "CKPTFS_WORLD_SIZE", call->rank->global_world_size);
	for (size_t i = 0; i < call->arg_count; i++) {
		ckpt_buf_add_str(out, "CKPTFS_ARG_");
		add_text(out, call->args[i].key, call->args[i].value);
	}
	return 3 + call->arg_count;
}

/* What a hook that runs this program inherits is its own caller's. */
static bool is_ours(const char *text)
{
	static const char *const prefixes[] = { "CKPTFS_PATH=", "CKPTFS_RANK=",
						"CKPTFS_WORLD_SIZE=", "CKPTFS_ARG_" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	return false;
}

static int make_env(struct env *env, const struct ckpt_mpi_hook_call *call)
{
	size_t count = add_ours(&env->text, call);
	size_t inherited = 0;
	char *at = env->text.data;

	while (environ[inherited])
		inherited++;
	env->vector = array_alloc(count + inherited + 1, sizeof(*env->vector));
	if (!env->vector || ckpt_buf_check(&env->text) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
		env->vector[i] = at;
	for (size_t i = 0; i < inherited; i++) {
		if (!is_ours(environ[i]))
			env->vector[count++] = environ[i];
	}
	return 0;
}

/* --- starting ----------------------------------------------------------------------------- */

/* The checkpoint's folder, no input, stderr to us, and nothing of MPI's descriptors. */
static int set_actions(posix_spawn_file_actions_t *actions, const char *folder, int err_fd)
{
	int rc = posix_spawn_file_actions_addchdir_np(actions, folder);

	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY,
						      0);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(actions, err_fd, STDERR_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
	return rc;
}

static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none;
	sigset_t all;
	int rc;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						    POSIX_SPAWN_SETSIGDEF);
	if (rc == 0)
		rc = posix_spawnattr_setpgroup(attr, 0);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(attr, &none);
	return rc ? rc : posix_spawnattr_setsigdefault(attr, &all);
}

/* @command is not changed: that argv is not const is posix_spawn's way. */
static int spawn(struct running *run, char *command, int err_fd, char **env)
{
	char shell[] = "sh";
	char dash_c[] = "-c";
	char *argv[] = { shell, dash_c, command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	rc = posix_spawnattr_init(&attr);
	if (rc == 0) {
		rc = set_actions(&actions, run->call->folder, err_fd);
		if (rc == 0)
			rc = set_attributes(&attr);
		if (rc == 0)
			rc = posix_spawn(&run->pid, "/bin/sh", &actions, &attr, argv, env);
		(void)posix_spawnattr_destroy(&attr);
	}
	(void)posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

static int start(struct running *run, const char *command)
{
	CKPT_CLOSE int to_fd = -1;
	struct env env = { .vector = NULL };
	struct ckpt_buf text;
	int fds[2];
	int rc;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	run->from_fd = fds[0];
	to_fd = fds[1];
	if (fcntl(run->from_fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	ckpt_buf_init(&env.text);
	ckpt_buf_init(&text);
	ckpt_buf_add_str(&text, command);
	rc = ckpt_buf_check(&text);
	if (rc == 0)
		rc = make_env(&env, run->call);
	if (rc == 0)
		rc = spawn(run, text.data, to_fd, env.vector);
	free(env.vector);
	ckpt_buf_release(&text);
	ckpt_buf_release(&env.text);
	return rc;
}

/* --- while it runs -------------------------------------------------------------------------- */

/* The last line that is not empty is kept, its end where it is long. */
static void keep_line(struct running *run, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n') {
			run->line_ended = true;
			continue;
		}
		if (run->line_ended)
			run->line_len = 0;
		run->line_ended = false;
		if (run->line_len == sizeof(run->line) - 1) {
			memmove(run->line, run->line + 1, sizeof(run->line) - 2);
			run->line_len--;
		}
		/* It becomes one line of the table, and text of a JSON file. */
		run->line[run->line_len++] = text[i];
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			run->line[run->line_len - 1] = ' ';
	}
}

/* What there is; false at the end. */
static bool drain(struct running *run)
{
	char room[4096];
	ssize_t got;

	while ((got = read(run->from_fd, room, sizeof(room))) > 0) {
		mpi_progress_erase();
		(void)fwrite(room, 1, (size_t)got, stderr);
		keep_line(run, room, (size_t)got);
	}
	(void)fflush(stderr);
	return got < 0 && (errno == EAGAIN || errno == EINTR);
}

static int fail_killed(const struct running *run, int code, const char *why)
{
	(void)snprintf(run->message, CKPT_MPI_MESSAGE_MAX, "the command of --%s was killed: %s",
		       run->call->phase == CKPT_MPI_PRE_COMMIT ? "pre-commit" : "post-commit", why);
	return code;
}

/*
 * Sooner than the others would give up on this rank: they began to wait when the command began to
 * run.
 */
static uint64_t limit_ms(uint32_t timeout_secs)
{
	uint64_t ms = (uint64_t)timeout_secs * 1000;

	return ms - num_min(ms / 4, 1000);
}

/* 0 it has ended by itself, *@out_status tells how. */
static int wait_for(struct running *run, int *out_status)
{
	uint64_t began_ms = ckpt_clock_mono_ms();
	bool is_open = true;
	char why[64];
	pid_t got;

	for (;;) {
		struct pollfd look = { .fd = is_open ? run->from_fd : -1, .events = POLLIN };

		(void)poll(&look, 1, LOOK_MS);
		is_open = is_open && drain(run);
		got = waitpid(run->pid, out_status, WNOHANG);
		if (got != 0)
			break;
		/* Between the looks, the checkpoint's session is kept alive. */
		if (ckpt_job_cancelled(run->hooks->job, NULL) < 0) {
			(void)kill(-run->pid, SIGKILL);
			(void)waitpid(run->pid, out_status, 0);
			return fail_killed(run, -EINTR, "interrupted by a signal");
		}
		if (ckpt_clock_mono_ms() - began_ms >= limit_ms(run->hooks->timeout_secs)) {
			(void)kill(-run->pid, SIGKILL);
			(void)waitpid(run->pid, out_status, 0);
			(void)snprintf(why, sizeof(why), "it did not end within --timeout %u",
				       run->hooks->timeout_secs);
			return fail_killed(run, -ETIMEDOUT, why);
		}
	}
	/* What it left in the background may hold the pipe open, and is not waited for. */
	if (is_open)
		(void)drain(run);
	return got < 0 ? -errno : 0;
}

/* --- its end ---------------------------------------------------------------------------------- */

static int judge(const struct running *run, int status)
{
	const char *option = run->call->phase == CKPT_MPI_PRE_COMMIT ? "pre-commit" : "post-commit";
	char how[64];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		(void)snprintf(how, sizeof(how), "ended by signal %d (SIG%s)", WTERMSIG(status),
			       sigabbrev_np(WTERMSIG(status)));
	else
		(void)snprintf(how, sizeof(how), "ended with exit status %d", WEXITSTATUS(status));
	(void)snprintf(run->message, CKPT_MPI_MESSAGE_MAX, "the command of --%s %s%s%.*s", option,
		       how, run->line_len ? ": " : "", (int)run->line_len, run->line);
	return -EIO;
}

static int run_hook(void *ctx, const struct ckpt_mpi_hook_call *call, char *message)
{
	const struct mpi_hooks *hooks = ctx;
	const char *command = call->phase == CKPT_MPI_PRE_COMMIT ? hooks->pre_commit
								 : hooks->post_commit;
	struct running run = {
		.hooks = hooks, .call = call, .message = message, .pid = -1, .from_fd = -1
	};
	int status = 0;
	int rc = start(&run, command);

	if (rc < 0)
		(void)snprintf(message, CKPT_MPI_MESSAGE_MAX,
			       "cannot start '/bin/sh -c' in '%s': %s", call->folder,
			       strerror(-rc));
	else
		rc = wait_for(&run, &status);
	if (rc == 0)
		rc = judge(&run, status);
	ckpt_cleanup_close(&run.from_fd);
	return rc;
}

/* --- who calls it ----------------------------------------------------------------------------- */

void mpi_hooks_configure(struct mpi_hooks *hooks, struct ckpt_mpi_config *config)
{
	config->pre_commit = hooks->pre_commit ? run_hook : NULL;
	config->post_commit = hooks->post_commit ? run_hook : NULL;
	config->hook_ctx = hooks;
	config->args = hooks->args;
	config->arg_count = hooks->arg_count;
}

struct step {
	struct ckpt_mpi *job;
	ckpt_mpi_hook hook;
	const char *path;
	const char *folder;
};

static int run_step(void *ctx, struct ckpt_err *err)
{
	const struct step *step = ctx;
	const struct ckpt_mpi *job = step->job;
	char message[CKPT_MPI_MESSAGE_MAX] = "";
	const struct ckpt_mpi_hook_call call = {
		.phase = job->phase,
		.path = step->path,
		.folder = step->folder,
		.rank = ckpt_mpi_rank(job),
		.args = job->config.args,
		.arg_count = job->config.arg_count,
	};
	int rc = step->hook(job->config.hook_ctx, &call, message);

	return rc < 0 ? ckpt_err_set(err, rc, "%s", message) : 0;
}

int mpi_hooks_run(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, const char *path,
		  const char *folder)
{
	struct step step = {
		.job = job,
		.hook = phase == CKPT_MPI_PRE_COMMIT ? job->config.pre_commit
						     : job->config.post_commit,
		.path = path,
		.folder = folder,
	};

	return step.hook ? ckpt_job_run(job, phase, true, run_step, &step) : 0;
}
