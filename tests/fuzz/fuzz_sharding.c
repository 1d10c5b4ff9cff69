/* fuzz_sharding.c - the text of DCP_SHARDING_INFO, for a file of three tensors. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "format/format.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static char names[3][8] = { "b", "s", "w" };
	static uint64_t shape[2] = { 4, 8 };
	struct ckpt_st_tensor tensors[3] = {
		{ .fqn = names[0], .dtype = "F32", .dim_count = 1, .shape = shape },
		{ .fqn = names[1], .dtype = "F32", .dim_count = 0, .shape = shape },
		{ .fqn = names[2], .dtype = "F32", .dim_count = 2, .shape = shape },
	};
	struct ckpt_st_header header = { .tensors = tensors, .tensor_count = 3 };
	char *text = strndup((const char *)data, len_bytes);
	struct ckpt_buf metadata;
	uint64_t **offsets = NULL;

	if (!text)
		abort();
	ckpt_buf_init(&metadata);
	ckpt_buf_add_str(&metadata, "{\"DCP_SHARDING_INFO\":");
	ckpt_buf_add_json_str(&metadata, text);
	ckpt_buf_add_char(&metadata, '}');
	header.metadata = metadata.data;
	if (ckpt_st_saved_offsets(&header, "fuzz", &offsets, NULL) == 0)
		ckpt_st_saved_offsets_free(offsets, header.tensor_count);
	ckpt_buf_release(&metadata);
	free(text);
	return 0;
}
