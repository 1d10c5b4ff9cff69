/*
 * cli_mpi_progress.h - the bar of rank 0, for work that takes over a second. It is on stderr, where
 * that is a terminal or where the user says so: mpirun hands every rank a pipe, and passes on what
 * comes out of it. One at a time, one thread.
 */
#ifndef CKPT_MPI_CLI_MPI_PROGRESS_H
#define CKPT_MPI_CLI_MPI_PROGRESS_H

#include "ckptfs_mpi.h"

/**
 * mpi_progress_start - @doing and @path are borrowed; @doing NULL: saving or loading, as the phase
 * says. @forced: also where stderr is no terminal, and at once.
 */
void mpi_progress_start(const char *doing, const char *path, bool forced);
/** mpi_progress_update - ckpt_mpi_config.progress; draws at most ten times a second, and the end. */
void mpi_progress_update(void *ctx, const struct ckpt_mpi_progress *progress);
/** mpi_progress_erase - before anything else is printed; the next update draws it again. */
void mpi_progress_erase(void);

#endif
