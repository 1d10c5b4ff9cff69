/*
 * cli_mpi_main.c - the program ckptfs-mpi: starts MPI, runs one command on all
 * ranks, and ends them together. What is wrong with the command line is said
 * by rank 0 alone; a failed command's table by the lowest rank that lives.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_mpi.h"
#include "cli_mpi_failures.h"
#include "cli_mpi_hook.h"
#include "cli_mpi_progress.h"

/*
 * After a time-out the others give the speaker so long to print, then leave; most launchers end the
 * job then. What does not end by itself, a stopped rank, the speaker aborts a little later, when
 * the others have ended with a status of their own.
 */
#define LEAVE_AFTER_MS 1500
#define ABORT_AFTER_MS 2500
/* Between two looks at work in the background. */
#define TEST_MS 5

static volatile sig_atomic_t caught;

static void note(int number)
{
	caught = number;
}

/* The second one has the default action. No SA_RESTART: what waits in the kernel shall wake up. */
static void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = note, .sa_flags = (int)SA_RESETHAND };

	(void)sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)sigaction(numbers[i], &action, NULL);
}

/* Whoever started us shall see which signal it was. */
static void die_of_signal(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(caught, &action, NULL);
	(void)raise(caught);
}

void mpi_say(const char *fmt, ...)
{
	struct ckpt_buf line;
	va_list args;

	ckpt_buf_init(&line);
	ckpt_buf_add_str(&line, "ckptfs-mpi: ");
	va_start(args, fmt);
	ckpt_buf_vprintf(&line, fmt, args);
	va_end(args);
	ckpt_buf_add_char(&line, '\n');
	mpi_progress_erase();
	/* In one piece: lines of several processes meet in one terminal. */
	(void)fwrite(line.data, 1, line.len_bytes, stderr);
	ckpt_buf_release(&line);
}

bool mpi_is_speaker(const struct ckpt_mpi *job)
{
	return ckpt_mpi_rank(job)->global_rank == ckpt_mpi_reporter(job);
}

int mpi_report(const struct ckpt_mpi *job)
{
	size_t count;
	const struct ckpt_mpi_failure *failures = ckpt_mpi_failures(job, &count);

	for (size_t i = 0; i < count && mpi_is_speaker(job); i++)
		mpi_say("rank %d on %s: %s: %s: %s", failures[i].rank, failures[i].host,
			ckpt_mpi_phase_name(failures[i].phase), ckpt_err_name(failures[i].code),
			failures[i].message);
	return MPI_EXIT_FAILED;
}

int mpi_await(struct ckpt_mpi_future **future, struct ckpt_mpi_result *out)
{
	bool ended = false;

	/* What it ended with, wait() says again, with the table. */
	while (ckpt_mpi_test(*future, &ended) == 0 && !ended)
		(void)poll(NULL, 0, TEST_MS);
	return ckpt_mpi_wait(future, out);
}

int mpi_flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	mpi_say("cannot write to standard output: %s", strerror(errno));
	return MPI_EXIT_FAILED;
}

/* Some ranks are out of reach: MPI_Finalize would wait for them for ever. */
static void end_broken(const struct ckpt_mpi *job, const struct mpi_options *options)
{
	(void)fflush(NULL);
	if (!mpi_is_speaker(job)) {
		(void)poll(NULL, 0, LEAVE_AFTER_MS);
		_exit(MPI_EXIT_FAILED);
	}
	if (options->failures)
		mpi_failures_await(job, options->failures);
	(void)poll(NULL, 0, ABORT_AFTER_MS);
	ckpt_ignore(MPI_Abort(MPI_COMM_WORLD, MPI_EXIT_FAILED)); /* it does not return */
	_exit(MPI_EXIT_FAILED);
}

static void configure(const struct mpi_options *options, struct mpi_hooks *hooks,
		      struct ckpt_mpi_config *config)
{
	ckpt_mpi_config_init(config);
	config->coordinator = options->coordinator;
	config->write_barrier_timeout_secs = options->timeout_secs;
	config->min_bytes_per_sec = options->min_bytes_per_sec;
	config->io = options->io;
	config->aggregators = options->aggregators;
	config->store = options->base;
	config->cancel = &caught;
	config->progress = mpi_progress_update;
	mpi_hooks_configure(hooks, config);
}

static int run_job(struct ckpt_mpi *job, const struct mpi_command *command,
		   const struct mpi_options *options)
{
	int rank = ckpt_mpi_rank(job)->global_rank;
	int code;

	if (rank == 0 && ckpt_mpi_faults(job))
		mpi_say("warning: faults on demand are in force: CKPTFS_FAULT='%s'",
			ckpt_mpi_faults(job));
	if (options->failures)
		mpi_failures_begin(options->failures, rank);
	catch_signals();
	mpi_progress_start(command->doing, options->args[options->arg_count - 1],
			   options->progress);
	code = command->run(job, options);
	mpi_progress_erase();
	return options->failures ? mpi_failures_write(job, options->failures, code) : code;
}

static int run_command(const struct mpi_command *command, const struct mpi_options *options,
		       int rank)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why;
	struct ckpt_mpi *job = NULL;
	struct mpi_hooks hooks;
	int code;
	int rc = mpi_hooks_init(&hooks, options);

	if (rc == 0) {
		configure(options, &hooks, &config);
		rc = ckpt_mpi_new(MPI_COMM_WORLD, &config, &job, &why);
	}
	if (rc < 0) {
		if (rank == 0)
			mpi_say("%s", rc == -ENOMEM ? "memory is out" : why.message);
		mpi_hooks_release(&hooks);
		return rc == -EINVAL ? MPI_EXIT_USAGE : MPI_EXIT_FAILED;
	}
	hooks.job = job;
	code = run_job(job, command, options);
	if (!ckpt_mpi_usable(job))
		end_broken(job, options);
	ckpt_ignore(ckpt_mpi_close(&job)); /* it returns 0 */
	mpi_hooks_release(&hooks);
	return code;
}

static int run(int argc, char **argv, int rank, int world_size)
{
	const struct mpi_command *command = NULL;
	struct mpi_options options = { .world_size = world_size };
	struct ckpt_buf text;
	struct ckpt_err err = CKPT_ERR_INIT;
	int code = MPI_EXIT_OK;
	int rc;

	ckpt_buf_init(&text);
	rc = mpi_options_parse(argc, argv, &options, &command, &text, &err);
	if (rc < 0 && rank == 0)
		mpi_say("%s", err.msg[0] ? err.msg : "memory is out");
	if (rc < 0)
		code = rc == -ENOMEM ? MPI_EXIT_FAILED : MPI_EXIT_USAGE;
	else if (!command && rank == 0)
		(void)fwrite(text.data, 1, text.len_bytes, stdout);
	else if (command)
		code = run_command(command, &options, rank);
	mpi_options_release(&options);
	ckpt_buf_release(&text);
	return mpi_flush(code);
}

int main(int argc, char **argv)
{
	int rank = 0;
	int world_size = 1;
	int code;

	if (ckpt_mpi_environment() < 0) {
		mpi_say("cannot set up the environment: memory is out");
		return MPI_EXIT_FAILED;
	}
	if (MPI_Init(&argc, &argv) != MPI_SUCCESS ||
	    MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS ||
	    MPI_Comm_size(MPI_COMM_WORLD, &world_size) != MPI_SUCCESS) {
		mpi_say("MPI does not start; run it with mpirun of the MPI it was built with");
		return MPI_EXIT_FAILED;
	}
	code = run(argc, argv, rank, world_size);
	if (MPI_Finalize() != MPI_SUCCESS)
		code = code ? code : MPI_EXIT_FAILED;
	if (caught)
		die_of_signal();
	return code;
}
