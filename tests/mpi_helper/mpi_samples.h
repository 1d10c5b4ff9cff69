/*
 * mpi_samples.h - a checkpoint of known bytes: they follow from their place in
 * a tensor, so that any rank can tell any box without having read anything else.
 */
#ifndef CKPT_MPI_SAMPLES_H
#define CKPT_MPI_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "../../mpi/ckptfs_mpi.h"

#define SAMPLE_DIM_MAX 3
#define SAMPLE_COUNT 10

/* How the ranks that save it share it. */
enum sample_cut {
	CUT_ROWS,
	CUT_COLS,
	CUT_GRID,
	CUT_SAME
};

struct sample {
	const char *fqn;
	const char *dtype;
	size_t element_bytes;
	uint64_t shape[SAMPLE_DIM_MAX];
	uint32_t dim_count;
	enum sample_cut cut;
};
extern const struct sample samples[SAMPLE_COUNT];

struct sample_box {
	uint64_t start[SAMPLE_DIM_MAX];
	uint64_t size[SAMPLE_DIM_MAX];
};

/** sample_whole - all of a tensor. */
struct sample_box sample_whole(const struct sample *sample);
/** sample_bytes - of a box. */
size_t sample_bytes(const struct sample *sample, const struct sample_box *box);
/** sample_fill - the bytes of a box, row-major. */
void sample_fill(const struct sample *sample, const struct sample_box *box, unsigned char *out);
/** sample_chunk - the box of a rank of those that save. */
struct sample_box sample_chunk(const struct sample *sample, int rank, int world_size);
/** sample_save - save all of them, and a blob "rng" of each rank, from the ranks of a job. */
int sample_save(struct ckpt_mpi *job, const char *path);
/** sample_blob_bytes - how long the blob of a rank is; sample_blob_fill - what is in it. */
size_t sample_blob_bytes(int rank);
void sample_blob_fill(int rank, unsigned char *out);

#endif
