/* test_formats.c - what the readers of file formats say of a file. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ckpt_test.h"
#include "format/format.h"
#include "format/npy.h"
#include "format/zip.h"

static int complain(const struct ckpt_err *err)
{
	(void)fprintf(stderr, "ckpt-test: %s\n", err->msg);
	return 1;
}

/* A descriptor of @path, and how many bytes there are behind @offset. */
static int open_file(const char *path, uint64_t offset, uint64_t *out_len)
{
	int fd = ckpt_io_openat(AT_FDCWD, path, O_RDONLY, 0);
	struct stat st;

	if (fd < 0 || ckpt_io_fstat(fd, &st) < 0)
		return -test_failed(0, "cannot open", path);
	*out_len = (uint64_t)st.st_size - offset;
	return fd;
}

int test_zip(int argc, char **argv)
{
	uint64_t offset = argc > 2 ? test_number(argv[2]) : 0;
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_zip *zip = NULL;
	uint64_t len_bytes = 0;
	CKPT_CLOSE int fd = open_file(argv[1], offset, &len_bytes);
	int rc;

	if (fd < 0)
		return 1;
	if (argc > 3)
		len_bytes = test_number(argv[3]);
	rc = ckpt_zip_open(fd, offset, len_bytes, argv[1], &zip, &err);
	if (rc < 0)
		return complain(&err);
	for (size_t i = 0; i < ckpt_zip_count(zip); i++) {
		const struct ckpt_zip_record *record = ckpt_zip_at(zip, i);

		(void)printf("%s %" PRIu64 " %" PRIu64 " %s%08" PRIx32 "\n", record->name,
			     record->offset_bytes, record->size_bytes,
			     record->is_stored ? "" : "packed ", record->crc32);
	}
	rc = ckpt_zip_check(zip, fd, argv[1], NULL, NULL, &err);
	ckpt_zip_free(zip);
	return rc < 0 ? complain(&err) : 0;
}

static void print_list(const char *label, const uint64_t *values, uint32_t count)
{
	(void)printf("%s", label);
	for (uint32_t i = 0; i < count; i++)
		(void)printf("%s%" PRIu64, i > 0 ? "," : "", values[i]);
}

int test_npy(int argc, char **argv)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_npy_header header;
	uint64_t len_bytes = 0;
	CKPT_CLOSE int fd = open_file(argv[1], 0, &len_bytes);

	(void)argc;
	if (fd < 0)
		return 1;
	if (ckpt_npy_read(fd, 0, len_bytes, argv[1], &header, &err) < 0)
		return complain(&err);
	print_list(header.dtype, NULL, 0);
	print_list(" shape=", header.shape, header.dim_count);
	if (header.stride)
		print_list(" stride=", header.stride, header.dim_count);
	(void)printf(" offset=%" PRIu64 "\n", header.offset_bytes);
	ckpt_npy_header_release(&header);
	return 0;
}

int test_npy_print(int argc, char **argv)
{
	uint64_t shape[CKPT_DIM_MAX];
	struct ckpt_buf text;
	size_t written;

	for (int i = 2; i < argc; i++)
		shape[i - 2] = test_number(argv[i]);
	ckpt_buf_init(&text);
	if (ckpt_npy_print(argv[1], shape, (uint32_t)(argc - 2), &text) < 0)
		return test_failed(0, "no .npy of", argv[1]);
	written = fwrite(text.data, 1, text.len_bytes, stdout);
	(void)fprintf(stderr, "%s\n", ckpt_npy_suffix(argv[1]));
	ckpt_buf_release(&text);
	return written > 0 ? 0 : 1;
}

int test_saved_offsets(int argc, char **argv)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_st_header header;
	uint64_t **offsets = NULL;
	uint64_t len_bytes = 0;
	CKPT_CLOSE int fd = open_file(argv[1], 0, &len_bytes);
	int rc;

	(void)argc;
	if (fd < 0)
		return 1;
	if (ckpt_st_read(fd, argv[1], &header, &err) < 0)
		return complain(&err);
	rc = ckpt_st_saved_offsets(&header, argv[1], &offsets, &err);
	if (rc == 0 && !offsets)
		(void)printf("none\n");
	for (size_t i = 0; offsets && i < header.tensor_count; i++) {
		print_list(header.tensors[i].fqn, NULL, 0);
		if (offsets[i])
			print_list(" ", offsets[i], header.tensors[i].dim_count);
		(void)printf("\n");
	}
	ckpt_st_saved_offsets_free(offsets, header.tensor_count);
	ckpt_st_header_release(&header);
	return rc < 0 ? complain(&err) : 0;
}
