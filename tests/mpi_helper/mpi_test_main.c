/* mpi_test_main.c - see mpi_test.h. */
#include "mpi_test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank;
static int size = 1;

static const struct mpi_test tests[] = {
	{ "async", "STORE", false, mpi_test_async },
	{ "async-alone", "STORE", true, mpi_test_async_alone },
	{ "async-speed", "STORE MIB", false, mpi_test_async_speed },
	{ "faults", "STORE", false, mpi_test_faults },
	{ "faults-again", "PATH...", false, mpi_test_faults_again },
	{ "faults-alone", "STORE", true, mpi_test_faults_alone },
	{ "faults-begin", "", false, mpi_test_faults_begin },
	{ "faults-lost", "STORE OUT SPEC...", false, mpi_test_faults_lost },
	{ "progress", "CASE PATH", false, mpi_test_progress },
	{ "global", "matrix|faults|stop|large STORE", false, mpi_test_global },
	{ "metadata", "CASE|all|refused PATH", false, mpi_test_metadata },
	{ "placement", "FILE", true, mpi_test_placement },
	{ "read", "CASE PATH [NUMBER]", false, mpi_test_read },
	{ "files", "PATH CASE...", false, mpi_test_files },
	{ "latest", "GROUP NAME|none [WORDS...]", false, mpi_test_latest },
	{ "signals", "", false, mpi_test_signals },
	{ "causes", "CASE PATH RANK PHASE ENAME", false, mpi_test_causes },
	{ "seed", "PATH", false, mpi_test_seed },
	{ "seed-alone", "save|load PATH [PHASE]", true, mpi_test_seed_alone },
	{ "writer", "CASE PATH", false, mpi_test_writer },
	{ "writer-alone", "CASE PATH", true, mpi_test_writer_alone },
	{ "strides", "STORE", false, mpi_test_strides },
	{ .name = NULL },
};

int mpi_test_rank(void)
{
	return rank;
}

int mpi_test_size(void)
{
	return size;
}

int mpi_test_fail(const char *fmt, ...)
{
	char text[4096];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	(void)fprintf(stderr, "rank %d: %s\n", rank, text);
	return 1;
}

static const struct mpi_test *find(const char *name)
{
	for (const struct mpi_test *test = tests; test->name; test++) {
		if (strcmp(test->name, name) == 0)
			return test;
	}
	return NULL;
}

static int usage(void)
{
	for (const struct mpi_test *test = tests; test->name; test++)
		(void)fprintf(stderr, "ckpt-mpi-test %s %s\n", test->name, test->usage);
	return 2;
}

/* The worst of all ranks, for mpirun passes on only one rank's. */
static int agree(int code)
{
	int worst = code;

	if (MPI_Allreduce(&code, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD) != MPI_SUCCESS)
		worst = 1;
	return worst;
}

int main(int argc, char **argv)
{
	const struct mpi_test *test = argc > 1 ? find(argv[1]) : NULL;
	int provided;
	int code;

	if (!test)
		return usage();
	if (test->no_mpi)
		return test->run(argc - 1, argv + 1);
	if (ckpt_mpi_environment() < 0 ||
	    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
	    MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS ||
	    MPI_Comm_size(MPI_COMM_WORLD, &size) != MPI_SUCCESS)
		return mpi_test_fail("MPI does not start");
	code = agree(test->run(argc - 1, argv + 1));
	return MPI_Finalize() == MPI_SUCCESS ? code : 1;
}
