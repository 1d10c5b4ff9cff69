/* npy_print.c - the header of a .npy, as numpy itself prints it; see npy.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/format.h"
#include "format/npy.h"

#define NPY_ALIGN_BYTES 64
#define NPY_SHORT_MAX UINT16_MAX

/* Types that numpy lacks are written as integers of their size; the file's name says so. */
static const struct written {
	const char *dtype;
	const char *descr;
	const char *suffix;
} writtens[] = {
	{ "F64", "<f8", ".npy" },   { "F32", "<f4", ".npy" },
	{ "F16", "<f2", ".npy" },   { "BF16", "<u2", ".bf16-as-u16.npy" },
	{ "I64", "<i8", ".npy" },   { "I32", "<i4", ".npy" },
	{ "I16", "<i2", ".npy" },   { "I8", "|i1", ".npy" },
	{ "U64", "<u8", ".npy" },   { "U32", "<u4", ".npy" },
	{ "U16", "<u2", ".npy" },   { "U8", "|u1", ".npy" },
	{ "BOOL", "|b1", ".npy" },  { "C64", "<c8", ".npy" },
	{ "C128", "<c16", ".npy" },
};
static const struct written f8 = { "F8", "|u1", ".f8-as-u8.npy" };

static const struct written *find_written(const char *dtype)
{
	for (size_t i = 0; i < sizeof(writtens) / sizeof(writtens[0]); i++) {
		if (strcmp(writtens[i].dtype, dtype) == 0)
			return &writtens[i];
	}
	return ckpt_dtype_size(dtype) == 1 && strncmp(dtype, "F8_", 3) == 0 ? &f8 : NULL;
}

const char *ckpt_npy_suffix(const char *dtype)
{
	const struct written *written = find_written(dtype);

	return written ? written->suffix : NULL;
}

static void print_dict(const char *descr, const uint64_t *shape, uint32_t dim_count,
		       struct ckpt_buf *out)
{
	ckpt_buf_printf(out, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
	for (uint32_t i = 0; i < dim_count; i++)
		ckpt_buf_printf(out, i == 0 ? "%" PRIu64 : ", %" PRIu64, shape[i]);
	ckpt_buf_add_str(out, dim_count == 1 ? ",), }" : "), }");
}

/* Magic, version and length of the text that brings the header to a multiple of 64 bytes. */
static void print_prefix(size_t dict_bytes, struct ckpt_buf *out, size_t *out_padding)
{
	size_t prefix_bytes = 10;
	size_t total_bytes;
	size_t text_bytes;

	for (;; prefix_bytes = 12) {
		/* One more for the line's end. */
		total_bytes = prefix_bytes + dict_bytes + 1 + NPY_ALIGN_BYTES - 1;
		total_bytes -= total_bytes % NPY_ALIGN_BYTES;
		text_bytes = total_bytes - prefix_bytes;
		if (prefix_bytes == 12 || text_bytes <= NPY_SHORT_MAX)
			break;
	}
	ckpt_buf_add(out, "\x93NUMPY", 6);
	ckpt_buf_add_char(out, prefix_bytes == 10 ? 1 : 2);
	ckpt_buf_add_char(out, 0);
	for (size_t i = 0; i < prefix_bytes - 8; i++)
		ckpt_buf_add_char(out, (char)(text_bytes >> (8 * i) & 0xff));
	*out_padding = text_bytes - dict_bytes - 1;
}

int ckpt_npy_print(const char *dtype, const uint64_t *shape, uint32_t dim_count,
		   struct ckpt_buf *out)
{
	const struct written *written = find_written(dtype);
	struct ckpt_buf dict;
	size_t padding;

	if (!written)
		return -EINVAL;
	ckpt_buf_init(&dict);
	print_dict(written->descr, shape, dim_count, &dict);
	print_prefix(dict.len_bytes, out, &padding);
	ckpt_buf_add(out, dict.data, dict.len_bytes);
	out->failed = out->failed || dict.failed;
	ckpt_buf_release(&dict);
	while (padding-- > 0)
		ckpt_buf_add_char(out, ' ');
	ckpt_buf_add_char(out, '\n');
	return ckpt_buf_check(out);
}
