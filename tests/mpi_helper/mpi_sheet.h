/*
 * mpi_sheet.h - what a rank of a test saves: tensors and blobs, filled with
 * bytes that say where they belong.
 */
#ifndef CKPT_MPI_SHEET_H
#define CKPT_MPI_SHEET_H

#include "mpi_test.h"

#define SHEET_ENTRY_MAX 16
#define SHEET_CHUNK_MAX 4
#define SHEET_DIM_MAX 4
#define SHEET_CHUNK_BYTES 8192

/* What this rank saves. */
struct sheet {
	struct ckpt_mpi *job;
	struct ckpt_mpi_entry entries[SHEET_ENTRY_MAX];
	size_t entry_count;
	struct ckpt_mpi_chunk chunks[SHEET_ENTRY_MAX][SHEET_CHUNK_MAX];
	struct ckpt_mpi_blob blobs[SHEET_ENTRY_MAX];
	size_t blob_count;
	uint64_t shapes[SHEET_ENTRY_MAX][SHEET_DIM_MAX];
	uint64_t boxes[SHEET_ENTRY_MAX][SHEET_CHUNK_MAX][2][SHEET_DIM_MAX];
	unsigned char data[SHEET_ENTRY_MAX][SHEET_CHUNK_MAX][SHEET_CHUNK_BYTES];
};

/* A box of a tensor. */
struct sheet_box {
	const char *fqn;
	const char *dtype;
	const uint64_t *shape;
	uint32_t dim_count;
	const uint64_t *start;
	const uint64_t *size;
};

/** sheet_byte - byte @at of a box, as it is stored: the same whatever box it is cut into. */
unsigned char sheet_byte(const struct sheet_box *box, uint64_t at);

/** sheet_entry - add a tensor of which this rank holds nothing yet. */
struct ckpt_mpi_entry *sheet_entry(struct sheet *sheet, const char *fqn, const char *dtype,
				   uint32_t dim_count, const uint64_t *shape);
/** sheet_matrix - the same of two dimensions and F32. */
struct ckpt_mpi_entry *sheet_matrix(struct sheet *sheet, const char *fqn, uint64_t rows,
				    uint64_t columns);
/** sheet_chunk - give a tensor a chunk. */
void sheet_chunk(struct sheet *sheet, struct ckpt_mpi_entry *entry, const uint64_t *start,
		 const uint64_t *size);
/** sheet_whole - add a 1-D tensor of F32 that this rank holds whole. */
void sheet_whole(struct sheet *sheet, const char *fqn, uint64_t count);
/** sheet_blob - add a blob. */
void sheet_blob(struct sheet *sheet, const char *fqn, const char *text);

/** sheet_save - what ckpt_mpi_save() says. */
int sheet_save(struct ckpt_mpi *job, const struct sheet *sheet, const char *path);

/** sheet_refused - every plan that cannot be, under one name; 0: refused as it should be. */
int sheet_refused(struct ckpt_mpi *job, const char *path);

#endif
