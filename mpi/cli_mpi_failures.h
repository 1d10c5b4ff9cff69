/*
 * cli_mpi_failures.h - --failures FILE: every rank's own copy of the failure table, as FILE.RANK.
 */
#ifndef CKPT_MPI_CLI_MPI_FAILURES_H
#define CKPT_MPI_CLI_MPI_FAILURES_H

#include "ckptfs_mpi.h"

/** mpi_failures_begin - remove what another run left: a killed rank writes none. */
void mpi_failures_begin(const char *path, int rank);
/**
 * mpi_failures_write - this rank's view, also where the job is broken and where nothing failed.
 * Returns @code, or MPI_EXIT_FAILED where it could not be written, which is said.
 */
int mpi_failures_write(const struct ckpt_mpi *job, const char *path, int code);
/**
 * mpi_failures_await - of a broken job, before the speaker ends it: wait until the other ranks that
 * live have written theirs, or a moment has passed
 */
void mpi_failures_await(const struct ckpt_mpi *job, const char *path);

#endif
