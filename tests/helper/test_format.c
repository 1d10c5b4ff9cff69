/*
 * test_format.c - what PyTorch's formats are parsed to, and that no damage to them is more than a
 * refusal.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "ckpt_test.h"
#include "format/dcp.h"
#include "format/torch.h"

/* Fixtures are small. */
#define FILE_MAX (CKPT_GIB)

static bool read_file(const char *path, struct ckpt_buf *out)
{
	struct ckpt_err err = CKPT_ERR_INIT;

	ckpt_buf_init(out);
	if (ckpt_io_read_file(AT_FDCWD, path, FILE_MAX, out, &err) < 0) {
		(void)fprintf(stderr, "ckpt-test: %s\n", err.msg);
		ckpt_buf_release(out);
		return false;
	}
	return true;
}

static void print_extents(const char *name, const uint64_t *extents, uint32_t count)
{
	printf(" %s=", name);
	for (uint32_t i = 0; i < count; i++)
		printf("%s%" PRIu64, i ? "," : "", extents[i]);
}

static void print_entry(const struct ckpt_dcp_entry *entry)
{
	printf("%s %s group=%s", entry->is_bytes ? "bytes" : "tensor", entry->fqn,
	       entry->group ? entry->group : "-");
	if (entry->dtype[0])
		printf(" dtype=%s", entry->dtype);
	if (!entry->is_bytes && entry->shape)
		print_extents("shape", entry->shape, entry->dim_count);
	if (entry->opaque)
		printf(" opaque: %s", entry->opaque);
	printf("\n");
	for (size_t i = 0; i < entry->chunk_count; i++) {
		const struct ckpt_dcp_chunk *chunk = &entry->chunks[i];

		printf("  chunk");
		if (!entry->is_bytes) {
			print_extents("start", chunk->start, entry->dim_count);
			print_extents("size", chunk->size, entry->dim_count);
		}
		printf(" file=%s at=%" PRIu64 "+%" PRIu64 "\n", chunk->file, chunk->offset_bytes,
		       chunk->len_bytes);
	}
}

/* One file: its entries, or "FILE: refused: REASON". Returns the exit status. */
static int parse_dcp(const char *path)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_dcp_metadata metadata;
	struct ckpt_buf data;
	int rc;

	if (!read_file(path, &data))
		return 2;
	rc = ckpt_dcp_parse(data.data, data.len_bytes, path, &metadata, &err);
	ckpt_buf_release(&data);
	if (rc < 0) {
		printf("%s: refused: %s\n", path, err.msg);
		return 1;
	}
	for (size_t i = 0; i < metadata.entry_count; i++)
		print_entry(&metadata.entries[i]);
	for (size_t i = 0; i < metadata.file_count; i++)
		printf("file %s\n", metadata.files[i]);
	ckpt_dcp_metadata_release(&metadata);
	return 0;
}

int test_dcp(int argc, char **argv)
{
	int status = 0;

	for (int i = 1; i < argc; i++)
		status = (int)num_max((uint64_t)status, (uint64_t)parse_dcp(argv[i]));
	return status;
}

static void print_tensors(const struct ckpt_torch_object *object)
{
	for (size_t i = 0; i < object->tensor_count; i++) {
		const struct ckpt_torch_tensor *tensor = &object->tensors[i];

		printf("tensor ");
		for (size_t k = 0; k < tensor->path_count; k++)
			printf("%s%s", k ? "/" : "", tensor->path[k]);
		printf(" dtype=%s", tensor->dtype);
		print_extents("shape", tensor->shape, tensor->dim_count);
		if (tensor->stride)
			print_extents("stride", tensor->stride, tensor->dim_count);
		if (tensor->opaque)
			printf(" opaque: %s\n", tensor->opaque);
		else
			printf(" at=%" PRIu64 "\n", tensor->offset_bytes);
	}
}

int test_torch(int argc, char **argv)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_torch_object object;
	CKPT_CLOSE int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	uint64_t offset = 0;
	uint64_t len_bytes;
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return test_failed(errno, "open", argv[1]);
	len_bytes = (uint64_t)status.st_size;
	if (argc > 3) {
		offset = test_number(argv[2]);
		len_bytes = test_number(argv[3]);
	}
	if (ckpt_torch_read(fd, offset, len_bytes, argv[1], &object, &err) < 0) {
		printf("%s: refused: %s\n", argv[1], err.msg);
		return 1;
	}
	print_tensors(&object);
	ckpt_torch_object_release(&object);
	return 0;
}

int test_torch_pickle(int argc, char **argv)
{
	int status = 0;

	for (int i = 1; i < argc; i++) {
		struct ckpt_err err = CKPT_ERR_INIT;
		struct ckpt_torch_object object;
		struct ckpt_buf data;

		if (!read_file(argv[i], &data))
			return 2;
		if (ckpt_torch_parse_pickle(data.data, data.len_bytes, argv[i], &object, &err) <
		    0) {
			printf("%s: refused: %s\n", argv[i], err.msg);
			status = 1;
		} else {
			print_tensors(&object);
			ckpt_torch_object_release(&object);
		}
		ckpt_buf_release(&data);
	}
	return status;
}

/* Parse damaged bytes both ways, from a block of their own so that a checker sees every excess. */
static bool is_harmless(const char *data, size_t len_bytes, bool must_fail)
{
	CKPT_FREE char *copy = array_alloc(num_max(len_bytes, 1), 1);
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_dcp_metadata metadata;
	struct ckpt_torch_object object;
	int rc;

	if (!copy)
		return false;
	memcpy(copy, data, len_bytes);
	rc = ckpt_torch_parse_pickle(copy, len_bytes, "x", &object, &err);
	if (rc == 0)
		ckpt_torch_object_release(&object);
	if (rc < 0 && (rc != -EBADMSG || err.msg[0] == '\0'))
		return false;
	err.msg[0] = '\0';
	rc = ckpt_dcp_parse(copy, len_bytes, "x", &metadata, &err);
	if (rc == 0) {
		ckpt_dcp_metadata_release(&metadata);
		return !must_fail;
	}
	return rc == -EBADMSG && err.msg[0] != '\0';
}

/* The frame shall be as long as what is left, or all cuts would be refused at its length. */
static void fit_frame(struct ckpt_buf *data, size_t len_bytes)
{
	static const size_t head_bytes = 11; /* PROTO n FRAME and eight bytes of length */

	if (len_bytes < head_bytes || (unsigned char)data->data[2] != 0x95)
		return;
	for (size_t i = 0; i < 8; i++)
		data->data[3 + i] = (char)((len_bytes - head_bytes) >> (8 * i));
}

static bool is_cut_harmless(struct ckpt_buf *data)
{
	for (size_t len_bytes = 0; len_bytes < data->len_bytes; len_bytes++) {
		fit_frame(data, len_bytes);
		if (!is_harmless(data->data, len_bytes, true)) {
			(void)fprintf(stderr, "ckpt-test: cut to %zu bytes\n", len_bytes);
			return false;
		}
	}
	return true;
}

/* Up to three bytes of @data, which are put back. */
static bool is_flip_harmless(struct ckpt_buf *data, uint64_t *state)
{
	uint64_t seed = *state;
	size_t at[3];
	char old[3];
	size_t count = 1 + test_random(state) % 3;
	bool good;

	for (size_t i = 0; i < count; i++) {
		at[i] = test_random(state) % data->len_bytes;
		old[i] = data->data[at[i]];
		data->data[at[i]] = (char)test_random(state);
	}
	good = is_harmless(data->data, data->len_bytes, false);
	for (size_t i = count; i > 0; i--)
		data->data[at[i - 1]] = old[i - 1];
	if (!good)
		(void)fprintf(stderr, "ckpt-test: flips of seed %" PRIu64 "\n", seed);
	return good;
}

int test_pickle_damage(int argc, char **argv)
{
	uint64_t flip_count = test_number(argv[2]);
	uint64_t state = argc > 3 ? test_number(argv[3]) : 1;
	struct ckpt_buf data;
	bool good;

	if (!read_file(argv[1], &data))
		return 2;
	good = is_cut_harmless(&data);
	fit_frame(&data, data.len_bytes);
	for (uint64_t i = 0; i < flip_count && good && data.len_bytes > 0; i++)
		good = is_flip_harmless(&data, &state);
	ckpt_buf_release(&data);
	return good ? 0 : 1;
}
