/*
 * mpi_test.h - ckpt-mpi-test: the tests of libckptfs-mpi that need a program of
 * their own. One file a subcommand, one line each in mpi_test_main.c.
 *
 * Every rank checks what it sees itself, says on stderr what is not as it
 * should be, and returns 1; main() makes that the whole job's exit status.
 */
#ifndef CKPT_MPI_TEST_H
#define CKPT_MPI_TEST_H

#include <stdbool.h>

#include "../../mpi/ckptfs_mpi.h"

struct mpi_test {
	const char *name;
	const char *usage;
	bool no_mpi;			   /* runs without MPI_Init */
	int (*run)(int argc, char **argv); /* argv[0] is the subcommand */
};

/** mpi_test_rank - of MPI_COMM_WORLD; 0 without MPI. */
int mpi_test_rank(void);
/** mpi_test_size - of MPI_COMM_WORLD; 1 without MPI. */
int mpi_test_size(void);
/** mpi_test_fail - "rank N: …" on stderr; returns 1. */
int mpi_test_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The subcommands. */
int mpi_test_async(int argc, char **argv);
int mpi_test_async_alone(int argc, char **argv);
int mpi_test_async_speed(int argc, char **argv);
int mpi_test_causes(int argc, char **argv);
int mpi_test_faults(int argc, char **argv);
int mpi_test_faults_alone(int argc, char **argv);
int mpi_test_faults_begin(int argc, char **argv);
int mpi_test_faults_again(int argc, char **argv);
int mpi_test_faults_lost(int argc, char **argv);
int mpi_test_progress(int argc, char **argv);
int mpi_test_files(int argc, char **argv);
int mpi_test_global(int argc, char **argv);
int mpi_test_latest(int argc, char **argv);
int mpi_test_metadata(int argc, char **argv);
int mpi_test_placement(int argc, char **argv);
int mpi_test_read(int argc, char **argv);
int mpi_test_seed(int argc, char **argv);
int mpi_test_seed_alone(int argc, char **argv);
int mpi_test_signals(int argc, char **argv);
int mpi_test_strides(int argc, char **argv);
int mpi_test_writer(int argc, char **argv);
int mpi_test_writer_alone(int argc, char **argv);

#endif
