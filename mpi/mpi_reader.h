/* mpi_reader.h - a committed checkpoint that all ranks have open, from the inside. */
#ifndef CKPT_MPI_MPI_READER_H
#define CKPT_MPI_MPI_READER_H

#include <stdint.h>

#include "base/buf.h"
#include "job.h"
#include "store/store.h"

struct ckpt_mpi_reader {
	struct ckpt_mpi *job;
	const char *path;	/* as given; during ckpt_mpi_reader_new */
	struct ckpt_buf folder; /* as the system calls take it */
	struct ckpt_buf label;
	uint64_t ino;
	int dirfd;
	struct ckpt_buf text; /* of the manifest, while it is handed round */
	struct ckpt_manifest manifest;
};

#endif
