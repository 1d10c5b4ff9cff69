/*
 * fortran_shim.h - what the Fortran module ckptfs_mpi calls where the C
 * interface has structs with pointers in them. Not for anybody else: it changes
 * as the module does, which is compiled from the same release.
 */
#ifndef CKPT_MPI_FORTRAN_SHIM_H
#define CKPT_MPI_FORTRAN_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include "ckptfs_mpi.h"

#pragma GCC visibility push(default)

/* As the module has them: real and integer arrays of one to three dimensions. */
#define CKPT_FORTRAN_DIM_MAX 3

/* An array that this rank holds a box of. Extents and strides in elements, first dimension first. */
struct ckpt_fortran_array {
	const char *name;
	const char *dtype;
	void *data; /* NULL: the box is empty */
	int32_t dim_count;
	int32_t is_whole; /* the box is the tensor; shape and start are not looked at */
	int64_t shape[CKPT_FORTRAN_DIM_MAX];
	int64_t start[CKPT_FORTRAN_DIM_MAX]; /* from 0 */
	int64_t size[CKPT_FORTRAN_DIM_MAX];
	int64_t strides[CKPT_FORTRAN_DIM_MAX];
};

/** ckpt_fortran_new - ckpt_mpi_new; @coordinator, @timeout_secs: < 0 for the default. */
int ckpt_fortran_new(MPI_Fint comm, int coordinator, int timeout_secs, struct ckpt_mpi **out,
		     char *message, size_t message_size);
int ckpt_fortran_rank(const struct ckpt_mpi *job);
int ckpt_fortran_size(const struct ckpt_mpi *job);
int ckpt_fortran_usable(const struct ckpt_mpi *job);
/** ckpt_fortran_failure - row @idx of the table as a line; 0, or -ENOENT behind the last. */
int ckpt_fortran_failure(const struct ckpt_mpi *job, int idx, char *line, size_t line_size);
/** ckpt_fortran_reason - what a code means where there is no table. */
void ckpt_fortran_reason(int code, char *text, size_t text_size);

/** ckpt_fortran_commit - ckpt_mpi_files_commit; @step < 0: none; @meta "": none. */
int ckpt_fortran_commit(struct ckpt_mpi_files **files, int vote, const char *reason, int64_t step,
			const char *meta);
/** ckpt_fortran_save - ckpt_mpi_save of @count arrays. */
int ckpt_fortran_save(struct ckpt_mpi *job, const char *path,
		      const struct ckpt_fortran_array *arrays, int count, int64_t step,
		      const char *meta);
/** ckpt_fortran_load - open @path and read this rank's boxes of @count arrays; collective. */
int ckpt_fortran_load(struct ckpt_mpi *job, const char *path,
		      const struct ckpt_fortran_array *arrays, int count);

#pragma GCC visibility pop

#endif
