/* mpi_read_sheet.h - what a rank reads of the known bytes (mpi_samples.h) in one call, and whether it came. */
#ifndef CKPT_MPI_READ_SHEET_H
#define CKPT_MPI_READ_SHEET_H

#include "mpi_samples.h"

#define WANT_MAX 64

/* Where a want goes. */
enum memory {
	DENSE,
	STRIDED, /* dimensions in any order, with gaps between */
	HANDED,	 /* through ->write */
	MEMORY_COUNT
};

struct wanted {
	const struct sample *sample;
	struct sample_box box;
	enum memory memory;
	uint64_t strides[SAMPLE_DIM_MAX];
	unsigned char *data;
	size_t data_bytes;
	size_t handed; /* bytes that came through ->write */
};

struct blob_wanted {
	int rank; /* that saved it */
	unsigned char *data;
	size_t data_bytes;
};

/* What this rank reads in one call. */
struct read_sheet {
	struct ckpt_mpi *job;
	struct ckpt_mpi_reader *reader;
	struct wanted wanted[WANT_MAX];
	struct ckpt_mpi_want wants[WANT_MAX];
	size_t want_count;
	struct blob_wanted blob_wanted[WANT_MAX];
	struct ckpt_mpi_blob_want blob_wants[WANT_MAX];
	size_t blob_want_count;
	struct ckpt_mpi_read_request request;
};

/** random_seed, random_below - xorshift64: the same at each run for one seed. */
void random_seed(uint64_t seed);
uint64_t random_below(uint64_t bound);

/** read_sheet_new - open a checkpoint; NULL, with the reason on stderr, where it cannot be opened. */
struct read_sheet *read_sheet_new(struct ckpt_mpi *job, const char *path);
void read_sheet_free(struct read_sheet *sheet);

/** want, want_blobs - one box, all blobs. */
void want(struct read_sheet *sheet, const struct sample *sample, const struct sample_box *box,
	  enum memory memory);
void want_blobs(struct read_sheet *sheet);
/** want_everything - all tensors and blobs, whole. */
void want_everything(struct read_sheet *sheet, enum memory memory);
void forget_wants(struct read_sheet *sheet);

/** request_of - of what is wanted; borrowed. @hands_out: with ->write. */
const struct ckpt_mpi_read_request *request_of(struct read_sheet *sheet, bool hands_out);
/** check_all - everything came where it was wanted, and nowhere else. */
int check_all(const struct read_sheet *sheet);
/** say_failures - a failure that should not be, with its table; returns 1. */
int say_failures(const struct ckpt_mpi *job, const char *what, int rc);
/** read_and_check - and forget the wants. */
int read_and_check(struct read_sheet *sheet, const char *what);

#endif
