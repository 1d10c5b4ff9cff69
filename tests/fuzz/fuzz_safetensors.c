/*
 * fuzz_safetensors.c - safetensors headers: two bytes that say how long the data
 * are, then the JSON. With DCP's sharding information, if they have it.
 */
#include <stdlib.h>

#include "format/format.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct ckpt_st_header header;
	uint64_t **offsets = NULL;
	uint64_t file_bytes;

	if (len_bytes < 2)
		return 0;
	file_bytes = 8 + (len_bytes - 2) + (data[0] | (uint64_t)data[1] << 8);
	if (ckpt_st_parse((const char *)data + 2, len_bytes - 2, file_bytes, "fuzz", &header,
			  NULL) < 0)
		return 0;
	for (size_t i = 0; i < header.tensor_count; i++) {
		if (header.tensors[i].offset_bytes > file_bytes ||
		    header.tensors[i].size_bytes > file_bytes - header.tensors[i].offset_bytes)
			abort();
	}
	if (ckpt_st_saved_offsets(&header, "fuzz", &offsets, NULL) == 0)
		ckpt_st_saved_offsets_free(offsets, header.tensor_count);
	ckpt_st_header_release(&header);
	return 0;
}
