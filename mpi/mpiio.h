/*
 * mpiio.h - a file that ranks write together with MPI-IO.
 *
 * Collective over the communicator it was opened with, and without a deadline,
 * which MPI-IO has none of: all ranks must have agreed just before each call.
 */
#ifndef CKPT_MPI_MPIIO_H
#define CKPT_MPI_MPIIO_H

#include "target.h"

/* Start with .file = MPI_FILE_NULL. */
struct ckpt_mpiio {
	const struct ckpt_target *target; /* borrowed, as is the path */
	const char *path;		  /* in the checkpoint */
	MPI_File file;
};

/** ckpt_mpiio_open - it must exist. */
int ckpt_mpiio_open(struct ckpt_mpiio *io, MPI_Comm comm, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_mpiio_write - @len_bytes < 2 GiB, or nothing, at @at. */
int ckpt_mpiio_write(struct ckpt_mpiio *io, uint64_t at, const void *data, size_t len_bytes,
		     struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_mpiio_end - make it durable and close it. */
int ckpt_mpiio_end(struct ckpt_mpiio *io, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_mpiio_drop - after a failure that all ranks know of: close it, if it is open. */
void ckpt_mpiio_drop(struct ckpt_mpiio *io);

#endif
