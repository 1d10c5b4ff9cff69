/*
 * mpi_test_strides.c - chunks that lie in memory with gaps, or in another order.
 *
 *   strides STORE   saves the same tensors with strides and dense, under names of their own: the
 *                   caller compares what is stored
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_test.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *store;

static const char *path_of(const char *name)
{
	static char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s", store, name);
	return path;
}

#define EDGE UINT64_C(6) /* inner elements of a rank along each dimension */
#define GHOST UINT64_C(2)
#define FULL (EDGE + 2 * GHOST)

static double cell(uint64_t plane, uint64_t row, uint64_t col)
{
	return (double)plane * 10000 + (double)row * 100 + (double)col;
}

/* Cells with ghosts around them: in C order, in Fortran order, and without strides at all. */
static void fill_cells(double *c_order, double *fortran, double *dense, uint64_t first)
{
	for (uint64_t p = 0; p < EDGE; p++) {
		for (uint64_t r = 0; r < EDGE; r++) {
			for (uint64_t c = 0; c < EDGE; c++) {
				double value = cell(first + p, r, c);

				c_order[(p * FULL + r) * FULL + c] = value;
				fortran[p + r * FULL + c * FULL * FULL] = value;
				dense[(p * EDGE + r) * EDGE + c] = value;
			}
		}
	}
}

/* The same tensors, saved with strides and dense, in the background and not: the bats compares. */
static int save_cells(struct ckpt_mpi *job, const char *name, bool strided, bool in_background)
{
	static double c_order[FULL * FULL * FULL];
	static double fortran[FULL * FULL * FULL];
	static double dense[EDGE * EDGE * EDGE];
	const size_t ghosts = (GHOST * FULL + GHOST) * FULL + GHOST;
	uint64_t first = (uint64_t)mpi_test_rank() * EDGE;
	uint64_t shape[3] = { (uint64_t)mpi_test_size() * EDGE, EDGE, EDGE };
	uint64_t start[3] = { first, 0, 0 };
	uint64_t size[3] = { EDGE, EDGE, EDGE };
	const uint64_t c_strides[3] = { FULL * FULL, FULL, 1 };
	const uint64_t f_strides[3] = { 1, FULL, FULL * FULL };
	const struct ckpt_mpi_chunk chunks[2] = {
		{ start, size, strided ? c_order + ghosts : dense, strided ? c_strides : NULL },
		{ start, size, strided ? fortran + ghosts : dense, strided ? f_strides : NULL },
	};
	const struct ckpt_mpi_entry entries[2] = {
		{ "c", "F64", shape, 3, &chunks[0], 1 },
		{ "fortran", "F64", shape, 3, &chunks[1], 1 },
	};
	const struct ckpt_mpi_save_request request = { .path = path_of(name),
						       .entries = entries,
						       .entry_count = 2 };
	struct ckpt_mpi_future *future;
	int rc;

	for (size_t i = 0; i < COUNT(c_order); i++)
		c_order[i] = fortran[i] = -1;
	fill_cells(c_order + ghosts, fortran + ghosts, dense, first);
	if (!in_background) {
		rc = ckpt_mpi_save(job, &request, NULL);
	} else {
		rc = ckpt_mpi_save_start(job, &request, CKPT_MPI_COPY, &future);
		memset(c_order, 0, sizeof(c_order));
		memset(fortran, 0, sizeof(fortran));
		memset(dense, 0, sizeof(dense));
		if (rc == 0)
			rc = ckpt_mpi_wait(&future, NULL);
	}
	return rc < 0 ? mpi_test_fail("'%s': %d", name, rc) : 0;
}

/* Larger than what is gathered at a time, in an order in which nothing lies behind its neighbour. */
static int save_turned(struct ckpt_mpi *job, const char *name, bool strided)
{
	static const uint64_t shape[3] = { 5, 1100, 1021 };
	static const uint64_t start[3] = { 0, 0, 0 };
	static const uint64_t strides[3] = { 1100, 1, UINT64_C(5) * 1100 };
	const uint64_t count = shape[0] * shape[1] * shape[2];
	const struct ckpt_mpi_chunk *chunk;
	uint32_t *data = malloc(count * sizeof(*data));
	struct ckpt_mpi_chunk one = { start, shape, data, strided ? strides : NULL };
	struct ckpt_mpi_entry entry = { "turned", "I32", shape, 3, NULL, 0 };
	const struct ckpt_mpi_save_request request = { .path = path_of(name),
						       .entries = &entry,
						       .entry_count = 1 };
	int rc;

	chunk = &one;
	entry.chunks = chunk;
	entry.chunk_count = mpi_test_rank() == mpi_test_size() - 1;
	for (uint64_t i = 0; data && i < count; i++) {
		uint64_t p = i / (shape[1] * shape[2]);
		uint64_t r = i / shape[2] % shape[1];
		uint64_t c = i % shape[2];
		uint64_t at = strided ? p * strides[0] + r * strides[1] + c * strides[2] : i;

		data[at] = (uint32_t)i;
	}
	rc = data ? ckpt_mpi_save(job, &request, NULL) : -ENOMEM;
	free(data);
	return rc < 0 ? mpi_test_fail("'%s': %d", name, rc) : 0;
}

static int bad_strides(struct ckpt_mpi *job)
{
	const uint64_t shape[2] = { 4, 4 };
	const uint64_t start[2] = { 0, 0 };
	const uint64_t strides[2] = { UINT64_MAX / 8, 1 };
	const float data[16] = { 0 };
	const struct ckpt_mpi_chunk chunk = { start, shape, data, strides };
	const struct ckpt_mpi_entry entry = { "w", "F32", shape, 2, &chunk, 1 };
	const struct ckpt_mpi_save_request request = { .path = path_of("bad"),
						       .entries = &entry,
						       .entry_count = 1 };
	size_t count;
	int rc = ckpt_mpi_save(job, &request, NULL);

	if (rc >= 0)
		return mpi_test_fail("strides that lead out of memory are taken");
	if (!strstr(ckpt_mpi_failures(job, &count)->message, "strides"))
		return mpi_test_fail("the message does not name the strides");
	return 0;
}

int mpi_test_strides(int argc, char **argv)
{
	struct ckpt_mpi *job = NULL;
	int bad;

	if (argc != 2)
		return mpi_test_fail("strides STORE");
	store = argv[1];
	if (ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	bad = save_cells(job, "cells-dense", false, false) ||
	      save_cells(job, "cells-strided", true, false) ||
	      save_cells(job, "cells-copied", true, true) ||
	      save_turned(job, "turned-dense", false) || save_turned(job, "turned-strided", true) ||
	      bad_strides(job);
	(void)ckpt_mpi_close(&job);
	return bad;
}
