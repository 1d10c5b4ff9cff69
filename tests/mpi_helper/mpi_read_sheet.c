/* mpi_read_sheet.c - see mpi_read_sheet.h. */
#include "mpi_read_sheet.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_test.h"

/* What memory holds that nothing was read into. */
#define UNTOUCHED 0xa5
static uint64_t random_state;

void random_seed(uint64_t seed)
{
	random_state = seed;
}

uint64_t random_below(uint64_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return bound > 0 ? random_state % bound : 0;
}

/* --- wanting ------------------------------------------------------------------------------------ */

/* Dimensions in any order in memory, with gaps between. */
static void choose_strides(struct wanted *it)
{
	uint32_t order[SAMPLE_DIM_MAX] = { 0, 1, 2 };
	uint32_t dim_count = it->sample->dim_count;
	uint64_t stride = 1 + random_below(2);

	assert(dim_count <= SAMPLE_DIM_MAX);
	for (uint32_t d = dim_count; d > 1; d--) {
		uint32_t other = (uint32_t)random_below(d);
		uint32_t kept = order[d - 1];

		order[d - 1] = order[other];
		order[other] = kept;
	}
	for (uint32_t i = 0; i < dim_count; i++) {
		it->strides[order[i]] = stride;
		stride = stride * it->box.size[order[i]] + random_below(3);
	}
}

/* Bytes of memory from the first element to behind the last one. */
static size_t reach_of(const struct wanted *it)
{
	size_t elements = 1;

	for (uint32_t d = 0; d < it->sample->dim_count; d++) {
		if (it->box.size[d] == 0)
			return 0;
		elements += (it->box.size[d] - 1) * it->strides[d];
	}
	return elements * it->sample->element_bytes;
}

static size_t tensor_idx_of(const struct ckpt_mpi_reader *reader, const char *fqn)
{
	struct ckpt_mpi_tensor tensor;

	for (size_t i = 0; i < ckpt_mpi_reader_tensor_count(reader); i++) {
		ckpt_mpi_reader_tensor(reader, i, &tensor);
		if (strcmp(tensor.fqn, fqn) == 0)
			return i;
	}
	return SIZE_MAX;
}

void want(struct read_sheet *sheet, const struct sample *sample, const struct sample_box *box,
	  enum memory memory)
{
	struct wanted *it = &sheet->wanted[sheet->want_count];

	*it = (struct wanted){ .sample = sample, .box = *box, .memory = memory };
	choose_strides(it);
	it->data_bytes = memory == STRIDED ? reach_of(it) : sample_bytes(sample, box);
	it->data = malloc(it->data_bytes + 1);
	if (!it->data)
		abort();
	memset(it->data, UNTOUCHED, it->data_bytes);
	sheet->wants[sheet->want_count++] = (struct ckpt_mpi_want){
		.tensor_idx = tensor_idx_of(sheet->reader, sample->fqn),
		.start = it->box.start,
		.size = it->box.size,
		.data = memory == HANDED ? NULL : it->data,
		.strides = memory == STRIDED ? it->strides : NULL,
	};
}

void want_blobs(struct read_sheet *sheet)
{
	for (size_t i = 0; i < ckpt_mpi_reader_blob_count(sheet->reader); i++) {
		struct blob_wanted *it = &sheet->blob_wanted[sheet->blob_want_count];
		struct ckpt_mpi_stored_blob blob;

		ckpt_mpi_reader_blob(sheet->reader, i, &blob);
		*it = (struct blob_wanted){ .rank = (int)blob.location.rank };
		it->data_bytes = blob.location.size_bytes;
		it->data = calloc(1, it->data_bytes + 1);
		if (!it->data)
			abort();
		sheet->blob_wants[sheet->blob_want_count++] = (struct ckpt_mpi_blob_want){
			.blob_idx = i,
			.data = it->data,
		};
	}
}

void want_everything(struct read_sheet *sheet, enum memory memory)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		const struct sample_box box = sample_whole(&samples[i]);

		want(sheet, &samples[i], &box, memory);
	}
	want_blobs(sheet);
}

static int take(void *ctx, size_t want_idx, uint64_t offset, const void *data, size_t len,
		char *message)
{
	struct read_sheet *sheet = ctx;
	struct wanted *it = &sheet->wanted[want_idx];

	if (it->memory != HANDED || offset != it->handed || len > it->data_bytes - offset) {
		(void)snprintf(message, CKPT_MPI_MESSAGE_MAX, "%zu bytes at %llu of '%s'", len,
			       (unsigned long long)offset, it->sample->fqn);
		return -ERANGE;
	}
	memcpy(it->data + offset, data, len);
	it->handed += len;
	return 0;
}

/* --- checking ----------------------------------------------------------------------------------- */

/* The memory as it should be. */
static void picture(const struct wanted *it, unsigned char *out)
{
	size_t element = it->sample->element_bytes;
	size_t bytes = sample_bytes(it->sample, &it->box);
	unsigned char *dense = malloc(bytes + 1);

	if (!dense)
		abort();
	sample_fill(it->sample, &it->box, it->memory == STRIDED ? dense : out);
	memset(out, UNTOUCHED, it->memory == STRIDED ? it->data_bytes : 0);
	for (size_t i = 0; it->memory == STRIDED && i < bytes / element; i++) {
		size_t left = i;
		size_t at = 0;

		for (uint32_t d = it->sample->dim_count; d > 0; d--) {
			at += left % it->box.size[d - 1] * it->strides[d - 1];
			left /= it->box.size[d - 1];
		}
		memcpy(out + at * element, dense + i * element, element);
	}
	free(dense);
}

static int check_want(const struct wanted *it)
{
	unsigned char *good = malloc(it->data_bytes + 1);
	int code = 0;

	if (!good)
		abort();
	picture(it, good);
	for (size_t i = 0; i < it->data_bytes && code == 0; i++) {
		if (it->data[i] != good[i])
			code = mpi_test_fail(
				"'%s' from %llu,%llu,%llu: byte %zu of %zu is %02x, should be %02x (memory %d)",
				it->sample->fqn, (unsigned long long)it->box.start[0],
				(unsigned long long)it->box.start[1],
				(unsigned long long)it->box.start[2], i, it->data_bytes,
				it->data[i], good[i], (int)it->memory);
	}
	free(good);
	return code;
}

static int check_blob(const struct blob_wanted *it)
{
	size_t bytes = sample_blob_bytes(it->rank);
	unsigned char *good = malloc(bytes + 1);
	bool same;

	if (!good)
		abort();
	sample_blob_fill(it->rank, good);
	same = it->data_bytes == bytes && memcmp(it->data, good, bytes) == 0;
	free(good);
	return same ? 0 : mpi_test_fail("the blob of rank %d is not what was saved", it->rank);
}

int check_all(const struct read_sheet *sheet)
{
	int code = 0;

	for (size_t i = 0; i < sheet->want_count && code == 0; i++)
		code = check_want(&sheet->wanted[i]);
	for (size_t i = 0; i < sheet->blob_want_count && code == 0; i++)
		code = check_blob(&sheet->blob_wanted[i]);
	return code;
}

/* --- one call ------------------------------------------------------------------------------------ */

int say_failures(const struct ckpt_mpi *job, const char *what, int rc)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	for (size_t i = 0; i < count; i++)
		(void)mpi_test_fail("%s: rank %d: %s: %d: %s", what, rows[i].rank,
				    ckpt_mpi_phase_name(rows[i].phase), rows[i].code,
				    rows[i].message);
	return mpi_test_fail("%s: %s", what, strerrordesc_np(-rc));
}

struct read_sheet *read_sheet_new(struct ckpt_mpi *job, const char *path)
{
	struct read_sheet *sheet = calloc(1, sizeof(*sheet));
	int rc;

	if (!sheet)
		abort();
	sheet->job = job;
	rc = ckpt_mpi_reader_new(job, path, &sheet->reader);
	if (rc < 0) {
		(void)say_failures(job, "open", rc);
		free(sheet);
		return NULL;
	}
	return sheet;
}

void forget_wants(struct read_sheet *sheet)
{
	for (size_t i = 0; i < sheet->want_count; i++)
		free(sheet->wanted[i].data);
	for (size_t i = 0; i < sheet->blob_want_count; i++)
		free(sheet->blob_wanted[i].data);
	sheet->want_count = 0;
	sheet->blob_want_count = 0;
}

void read_sheet_free(struct read_sheet *sheet)
{
	forget_wants(sheet);
	ckpt_mpi_reader_free(sheet->reader);
	free(sheet);
}

const struct ckpt_mpi_read_request *request_of(struct read_sheet *sheet, bool hands_out)
{
	sheet->request = (struct ckpt_mpi_read_request){
		.wants = sheet->wants,
		.want_count = sheet->want_count,
		.blob_wants = sheet->blob_wants,
		.blob_want_count = sheet->blob_want_count,
		.write = hands_out ? take : NULL,
		.ctx = sheet,
	};
	return &sheet->request;
}

int read_and_check(struct read_sheet *sheet, const char *what)
{
	int rc = ckpt_mpi_reader_read(sheet->reader, request_of(sheet, true), NULL);
	int code = rc < 0 ? say_failures(sheet->job, what, rc) : check_all(sheet);

	forget_wants(sheet);
	return code;
}
