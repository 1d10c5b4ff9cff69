/* mpi_sheet.c - see mpi_sheet.h. */
#include "mpi_sheet.h"

#include <string.h>

static uint64_t element_bytes(const char *dtype)
{
	return strcmp(dtype, "F64") == 0 ? 8 : strcmp(dtype, "U8") == 0 ? 1 : 4;
}

/* A tensor's byte, by the row-major number of its element: the same on every rank. */
static unsigned char byte_at(const char *fqn, uint64_t byte)
{
	uint64_t seed = 0;

	for (; *fqn; fqn++)
		seed = seed * 31 + (unsigned char)*fqn;
	return (unsigned char)((byte * 7 + seed) % 251);
}

unsigned char sheet_byte(const struct sheet_box *box, uint64_t at)
{
	uint64_t element = at / element_bytes(box->dtype);
	uint64_t index = 0;
	uint64_t stride = 1;

	for (uint32_t d = box->dim_count; d > 0; d--) {
		index += (box->start[d - 1] + element % box->size[d - 1]) * stride;
		element /= box->size[d - 1];
		stride *= box->shape[d - 1];
	}
	return byte_at(box->fqn,
		       index * element_bytes(box->dtype) + at % element_bytes(box->dtype));
}

static uint64_t volume(const uint64_t *size, uint32_t dim_count)
{
	uint64_t product = 1;

	for (uint32_t d = 0; d < dim_count; d++)
		product *= size[d];
	return product;
}

struct ckpt_mpi_entry *sheet_entry(struct sheet *sheet, const char *fqn, const char *dtype,
				   uint32_t dim_count, const uint64_t *shape)
{
	size_t idx = sheet->entry_count++;
	struct ckpt_mpi_entry *entry = &sheet->entries[idx];

	for (uint32_t d = 0; d < dim_count; d++)
		sheet->shapes[idx][d] = shape[d];
	*entry = (struct ckpt_mpi_entry){ .fqn = fqn,
					  .dtype = dtype,
					  .shape = sheet->shapes[idx],
					  .dim_count = dim_count,
					  .chunks = sheet->chunks[idx] };
	return entry;
}

void sheet_chunk(struct sheet *sheet, struct ckpt_mpi_entry *entry, const uint64_t *start,
		 const uint64_t *size)
{
	size_t idx = (size_t)(entry - sheet->entries);
	size_t chunk = entry->chunk_count++;
	const struct sheet_box box = { entry->fqn,	 entry->dtype, entry->shape,
				       entry->dim_count, start,	       size };
	uint64_t bytes = volume(size, entry->dim_count) * element_bytes(entry->dtype);

	for (uint32_t d = 0; d < entry->dim_count; d++) {
		sheet->boxes[idx][chunk][0][d] = start[d];
		sheet->boxes[idx][chunk][1][d] = size[d];
	}
	for (uint64_t i = 0; i < bytes && i < SHEET_CHUNK_BYTES; i++)
		sheet->data[idx][chunk][i] = sheet_byte(&box, i);
	sheet->chunks[idx][chunk] = (struct ckpt_mpi_chunk){ .start = sheet->boxes[idx][chunk][0],
							     .size = sheet->boxes[idx][chunk][1],
							     .data = sheet->data[idx][chunk] };
}

struct ckpt_mpi_entry *sheet_matrix(struct sheet *sheet, const char *fqn, uint64_t rows,
				    uint64_t columns)
{
	return sheet_entry(sheet, fqn, "F32", 2, (const uint64_t[]){ rows, columns });
}

void sheet_whole(struct sheet *sheet, const char *fqn, uint64_t count)
{
	const uint64_t start[SHEET_DIM_MAX] = { 0 };
	const uint64_t size[SHEET_DIM_MAX] = { count };

	sheet_chunk(sheet, sheet_entry(sheet, fqn, "F32", 1, size), start, size);
}

void sheet_blob(struct sheet *sheet, const char *fqn, const char *text)
{
	sheet->blobs[sheet->blob_count++] =
		(struct ckpt_mpi_blob){ .fqn = fqn, .data = text, .size_bytes = strlen(text) };
}

int sheet_save(struct ckpt_mpi *job, const struct sheet *sheet, const char *path)
{
	const struct ckpt_mpi_save_request request = { .path = path,
						       .entries = sheet->entries,
						       .entry_count = sheet->entry_count,
						       .blobs = sheet->blobs,
						       .blob_count = sheet->blob_count };

	return ckpt_mpi_save(job, &request, NULL);
}
