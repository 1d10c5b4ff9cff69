/*
 * cli_mpi_main.c - the program ckptfs-mpi: starts MPI, runs one command on all
 * ranks, and ends them together. What is wrong with the command line is said
 * by rank 0 alone; a failed command's table by the lowest rank that lives.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli_mpi.h"

/* After a time-out the others give the speaker so long to print, then end the job themselves. */
#define ABORT_AFTER_SECS 10

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

int mpi_flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	mpi_say("cannot write to standard output: %s", strerror(errno));
	return MPI_EXIT_FAILED;
}

/* Some ranks are out of reach: MPI_Finalize would wait for them for ever. */
static void end_broken(const struct ckpt_mpi *job)
{
	(void)fflush(NULL);
	if (!mpi_is_speaker(job))
		(void)sleep(ABORT_AFTER_SECS);
	ckpt_ignore(MPI_Abort(MPI_COMM_WORLD, MPI_EXIT_FAILED)); /* it does not return */
	_exit(MPI_EXIT_FAILED);
}

static int run_command(const struct mpi_command *command, const struct mpi_options *options,
		       int rank)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why;
	struct ckpt_mpi *job = NULL;
	int code;
	int rc;

	ckpt_mpi_config_init(&config);
	config.coordinator = options->coordinator;
	config.write_barrier_timeout_secs = options->timeout_secs;
	config.io = options->io;
	config.store = options->base;
	config.cancel = &caught;
	rc = ckpt_mpi_new(MPI_COMM_WORLD, &config, &job, &why);
	if (rc < 0) {
		if (rank == 0)
			mpi_say("%s", rc == -ENOMEM ? "memory is out" : why.message);
		return rc == -EINVAL ? MPI_EXIT_USAGE : MPI_EXIT_FAILED;
	}
	if (rank == 0 && ckpt_mpi_faults(job))
		mpi_say("warning: faults on demand are in force: CKPTFS_FAULT='%s'",
			ckpt_mpi_faults(job));
	catch_signals();
	code = command->run(job, options);
	if (!ckpt_mpi_usable(job))
		end_broken(job);
	ckpt_ignore(ckpt_mpi_close(&job)); /* it returns 0 */
	return code;
}

static int run(int argc, char **argv, int rank)
{
	const struct mpi_command *command = NULL;
	struct mpi_options options;
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
	int code;

	if (ckpt_mpi_environment() < 0) {
		mpi_say("cannot set up the environment: memory is out");
		return MPI_EXIT_FAILED;
	}
	if (MPI_Init(&argc, &argv) != MPI_SUCCESS ||
	    MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS) {
		mpi_say("MPI does not start; run it with mpirun of the MPI it was built with");
		return MPI_EXIT_FAILED;
	}
	code = run(argc, argv, rank);
	if (MPI_Finalize() != MPI_SUCCESS)
		code = code ? code : MPI_EXIT_FAILED;
	if (caught)
		die_of_signal();
	return code;
}
