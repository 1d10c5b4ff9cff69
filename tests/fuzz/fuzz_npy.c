/* fuzz_npy.c - headers of .npy files; what was read is read again after it was printed. */
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "format/npy.h"
#include "fuzz.h"

static void print_and_compare(const struct ckpt_npy_header *header)
{
	struct ckpt_npy_header again;
	struct ckpt_buf text;
	uint64_t bytes = 0;

	ckpt_buf_init(&text);
	if (ckpt_shape_bytes(header->dtype, header->shape, header->dim_count, &bytes) < 0 ||
	    ckpt_npy_print(header->dtype, header->shape, header->dim_count, &text) < 0 ||
	    text.len_bytes % 64 != 0 ||
	    ckpt_npy_parse(text.data, text.len_bytes, text.len_bytes + bytes, "fuzz", &again,
			   NULL) < 0)
		abort();
	if (strcmp(again.dtype, header->dtype) != 0 || again.dim_count != header->dim_count ||
	    memcmp(again.shape, header->shape, header->dim_count * sizeof(*again.shape)) != 0)
		abort();
	ckpt_npy_header_release(&again);
	ckpt_buf_release(&text);
}

/* The data are as long as the header says where that is less than a few MiB: they are not read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static const uint64_t sizes[] = { 0, 24, 96, 1 << 20 };
	struct ckpt_npy_header header;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (ckpt_npy_parse(data, len_bytes, len_bytes + sizes[i], "fuzz", &header, NULL) <
		    0)
			continue;
		print_and_compare(&header);
		ckpt_npy_header_release(&header);
	}
	return 0;
}
