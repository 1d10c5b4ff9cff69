/*
 * dtype.c - element types and their sizes; see format.h.
 * Types of less than a byte (F4, F6_*) are not here: an element of theirs has no address, so that
 * no chunk of them could be told apart. Source: safetensors 0.8 "Dtype", PyTorch for C128.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "format/format.h"

static const struct dtype {
	const char *name;
	uint64_t size_bytes;
} dtypes[] = {
	{ "BF16", 2 },	  { "F32", 4 },	    { "F16", 2 },	  { "F64", 8 },
	{ "I64", 8 },	  { "I32", 4 },	    { "I16", 2 },	  { "I8", 1 },
	{ "U64", 8 },	  { "U32", 4 },	    { "U16", 2 },	  { "U8", 1 },
	{ "BOOL", 1 },	  { "C64", 8 },	    { "C128", 16 },	  { "F8_E4M3", 1 },
	{ "F8_E5M2", 1 }, { "F8_E8M0", 1 }, { "F8_E4M3FNUZ", 1 }, { "F8_E5M2FNUZ", 1 },
};

uint64_t ckpt_dtype_size(const char *dtype)
{
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
		if (strcmp(dtypes[i].name, dtype) == 0)
			return dtypes[i].size_bytes;
	}
	return 0;
}

int ckpt_shape_bytes(const char *dtype, const uint64_t *shape, uint32_t dim_count, uint64_t *out)
{
	uint64_t bytes = ckpt_dtype_size(dtype);

	if (bytes == 0)
		return -EINVAL;
	/* An extent of 0 makes it empty, however large the others are. */
	for (uint32_t i = 0; i < dim_count; i++) {
		if (shape[i] == 0) {
			*out = 0;
			return 0;
		}
	}
	for (uint32_t i = 0; i < dim_count; i++) {
		if (!num_mul(bytes, shape[i], &bytes))
			return -EOVERFLOW;
	}
	*out = bytes;
	return 0;
}
