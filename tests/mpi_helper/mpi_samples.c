/* mpi_samples.c - see mpi_samples.h. */
#include "mpi_samples.h"

#include <stdlib.h>
#include <string.h>

#include "mpi_test.h"

/* The large ones have several blocks; the largest is read in parts by those who share it. */
const struct sample samples[SAMPLE_COUNT] = {
	{ "rows", "F32", 4, { 37, 50 }, 2, CUT_ROWS },
	{ "cols", "F64", 8, { 23, 41 }, 2, CUT_COLS },
	{ "grid", "U8", 1, { 31, 17, 5 }, 3, CUT_GRID },
	{ "same", "BF16", 2, { 64, 300 }, 2, CUT_SAME },
	{ "complex", "C128", 16, { 9, 14 }, 2, CUT_COLS },
	{ "scalar", "I32", 4, { 0 }, 0, CUT_SAME },
	{ "empty", "F32", 4, { 0, 7 }, 2, CUT_ROWS },
	{ "large.rows", "F32", 4, { 1300, 1021 }, 2, CUT_ROWS },
	{ "large.cols", "F32", 4, { 1024, 1300 }, 2, CUT_COLS },
	{ "large.same", "I64", 8, { 1100001 }, 1, CUT_SAME },
};

struct sample_box sample_whole(const struct sample *sample)
{
	struct sample_box box = { .start = { 0 } };

	for (uint32_t d = 0; d < sample->dim_count; d++)
		box.size[d] = sample->shape[d];
	return box;
}

size_t sample_bytes(const struct sample *sample, const struct sample_box *box)
{
	size_t bytes = sample->element_bytes;

	for (uint32_t d = 0; d < sample->dim_count; d++)
		bytes *= box->size[d];
	return bytes;
}

/* All bytes of a tensor, made once. */
static const unsigned char *bytes_of(const struct sample *sample)
{
	static unsigned char *made[SAMPLE_COUNT];
	size_t idx = (size_t)(sample - samples);
	const struct sample_box whole = sample_whole(sample);
	size_t bytes = sample_bytes(sample, &whole);

	if (!made[idx]) {
		made[idx] = malloc(bytes + 1);
		for (size_t i = 0; made[idx] && i < bytes; i++)
			made[idx][i] = (unsigned char)(((i + 1) * 2654435761U >> 11) + idx);
	}
	return made[idx];
}

void sample_fill(const struct sample *sample, const struct sample_box *box, unsigned char *out)
{
	const unsigned char *whole = bytes_of(sample);
	size_t row_bytes = sample->element_bytes;
	size_t bytes = sample_bytes(sample, box);
	uint32_t last = sample->dim_count > 0 ? sample->dim_count - 1 : 0;

	if (sample->dim_count > 0)
		row_bytes *= box->size[last];
	for (size_t row = 0; bytes > 0 && row < bytes / row_bytes; row++) {
		size_t left = row;
		size_t stride = sample->dim_count > 0 ? sample->shape[last] : 1;
		size_t at = sample->dim_count > 0 ? box->start[last] : 0;

		for (uint32_t d = last; d > 0 && box->size[d - 1] > 0; d--) {
			at += (box->start[d - 1] + left % box->size[d - 1]) * stride;
			left /= box->size[d - 1];
			stride *= sample->shape[d - 1];
		}
		memcpy(out + row * row_bytes, whole + at * sample->element_bytes, row_bytes);
	}
}

struct sample_box sample_chunk(const struct sample *sample, int rank, int world_size)
{
	struct sample_box box = sample_whole(sample);
	const int extents[] = { world_size % 2 == 0 ? 2 : 1,
				world_size % 2 == 0 ? world_size / 2 : world_size };
	const int placements[] = { 0, 1 };
	const struct ckpt_mpi_mesh mesh = { .extents = extents,
					    .placements = placements,
					    .axis_count = 2 };
	uint32_t dim = sample->cut == CUT_COLS ? sample->dim_count - 1 : 0;

	if (sample->cut == CUT_GRID && ckpt_mpi_mesh_chunk(sample->shape, sample->dim_count, &mesh,
							   rank, box.start, box.size) < 0)
		abort();
	if (sample->cut == CUT_ROWS || sample->cut == CUT_COLS)
		ckpt_mpi_cut(sample->shape[dim], rank, world_size, &box.start[dim], &box.size[dim]);
	return box;
}

/* The second rank's has several blocks, the first one's is small, the third one's is empty. */
size_t sample_blob_bytes(int rank)
{
	static const size_t bytes[] = { 5056, 2500000, 0, 70001 };

	return bytes[rank % 4];
}

void sample_blob_fill(int rank, unsigned char *out)
{
	for (size_t i = 0; i < sample_blob_bytes(rank); i++)
		out[i] = (unsigned char)((i * 31 >> 3) + (size_t)rank);
}

int sample_save(struct ckpt_mpi *job, const char *path)
{
	const struct ckpt_mpi_rank_info *who = ckpt_mpi_rank(job);
	struct sample_box boxes[SAMPLE_COUNT];
	struct ckpt_mpi_chunk chunks[SAMPLE_COUNT];
	struct ckpt_mpi_entry entries[SAMPLE_COUNT];
	unsigned char *data[SAMPLE_COUNT + 1];
	struct ckpt_mpi_blob blob = { .fqn = "rng" };
	struct ckpt_mpi_save_request request = { .path = path,
						 .entries = entries,
						 .entry_count = SAMPLE_COUNT,
						 .blobs = &blob,
						 .blob_count = 1 };
	int rc;

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		const struct sample *sample = &samples[i];

		boxes[i] = sample_chunk(sample, who->global_rank, who->global_world_size);
		data[i] = malloc(sample_bytes(sample, &boxes[i]) + 1);
		if (!data[i])
			abort();
		sample_fill(sample, &boxes[i], data[i]);
		chunks[i] = (struct ckpt_mpi_chunk){ .start = boxes[i].start,
						     .size = boxes[i].size,
						     .data = data[i] };
		entries[i] = (struct ckpt_mpi_entry){ .fqn = sample->fqn,
						      .dtype = sample->dtype,
						      .shape = sample->shape,
						      .dim_count = sample->dim_count,
						      .chunks = &chunks[i],
						      .chunk_count = 1 };
	}
	blob.size_bytes = sample_blob_bytes(who->global_rank);
	data[SAMPLE_COUNT] = malloc(blob.size_bytes + 1);
	if (!data[SAMPLE_COUNT])
		abort();
	sample_blob_fill(who->global_rank, data[SAMPLE_COUNT]);
	blob.data = data[SAMPLE_COUNT];
	rc = ckpt_mpi_save(job, &request, NULL);
	for (size_t i = 0; i <= SAMPLE_COUNT; i++)
		free(data[i]);
	return rc;
}
