/*
 * cli_mpi_out.h - the file of `load --to`: one safetensors file that all ranks
 * fill in, each at its tensors' places. It is called OUT.partial until it is
 * whole, and removed when anything fails.
 */
#ifndef CKPT_MPI_CLI_MPI_OUT_H
#define CKPT_MPI_CLI_MPI_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "job.h"

struct mpi_out {
	struct ckpt_mpi *job;
	const char *path;
	struct ckpt_buf partial;
	struct ckpt_buf header;
	uint64_t file_bytes;
	uint64_t *offsets; /* of each tensor of the reader in the file; 0: it is not in it */
	size_t left_out;   /* complex tensors, which the format cannot hold */
	bool created;
	uint64_t ino;
	int fd;
};

/** mpi_out_init - nothing on disk yet. */
void mpi_out_init(struct mpi_out *out, struct ckpt_mpi *job, const char *path);
/** mpi_out_begin - collective: lay it out, create it, open it on every rank. */
int mpi_out_begin(struct mpi_out *out, const struct ckpt_mpi_reader *reader) CKPT_MUST_CHECK;
/** mpi_out_write - bytes of tensor @tensor_idx at @offset of it. */
int mpi_out_write(struct mpi_out *out, size_t tensor_idx, uint64_t offset, const void *data,
		  size_t len, char *message);
/** mpi_out_sync - collective: make its bytes durable. */
int mpi_out_sync(struct mpi_out *out) CKPT_MUST_CHECK;
/**
 * mpi_out_end - collective: give it its name, durably; where @code is a failure, or this fails,
 * remove it. Returns @code or its own.
 */
int mpi_out_end(struct mpi_out *out, int code);
void mpi_out_release(struct mpi_out *out);

#endif
