/*
 * cli_mpi_source.h - safetensors files as the entries of a save: each rank's part of each tensor.
 */
#ifndef CKPT_MPI_CLI_MPI_SOURCE_H
#define CKPT_MPI_CLI_MPI_SOURCE_H

#include "base/box.h"
#include "base/err.h"
#include "cli_mpi.h"
#include "format/format.h"

/* One tensor: where it lies, and this rank's part of it. */
struct mpi_source_tensor {
	const struct ckpt_st_tensor *tensor;
	size_t file_idx;
	uint64_t *start; /* of this rank's chunk */
	uint64_t *size;
	struct ckpt_mpi_chunk chunk;
};

struct mpi_source {
	struct ckpt_st_family family;
	int *fds; /* one a file */
	struct mpi_source_tensor *tensors;
	struct ckpt_mpi_entry *entries;
	size_t count;
	struct ckpt_mpi_blob *blobs;
	struct ckpt_buf *blob_bytes; /* one a blob */
	size_t blob_count;
	/* The copy that was planned last. */
	size_t planned_idx;
	struct ckpt_copy copy;
	uint64_t copy_from; /* in the file */
};

/**
 * mpi_source_open - read the headers of @path. mpi_source_release() it, also after a failure.
 * Errors: as ckpt_st_family_open.
 */
int mpi_source_open(struct mpi_source *source, const char *path, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * mpi_source_cut - the part of rank @rank of every tensor that is placed on @mesh, as
 * ckpt_mpi_mesh_chunk.
 */
int mpi_source_cut(struct mpi_source *source, const struct ckpt_mpi_mesh *mesh, int rank)
	CKPT_MUST_CHECK;
/** mpi_source_blobs - the files' bytes, which become rank 0's blobs. -EINVAL names the file. */
int mpi_source_blobs(struct mpi_source *source, const struct mpi_pair_list *files,
		     struct ckpt_err *err) CKPT_MUST_CHECK;
/** mpi_source_read - ckpt_mpi_save_request.read; @ctx is the source. */
int mpi_source_read(void *ctx, const struct ckpt_mpi_piece *piece);
void mpi_source_release(struct mpi_source *source);

#endif
