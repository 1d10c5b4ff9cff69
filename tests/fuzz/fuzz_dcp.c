/* fuzz_dcp.c - the `.metadata` of a DCP folder, and the pickle machine with it.
 */
#include <stdlib.h>

#include "format/dcp.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct ckpt_dcp_metadata metadata;

	if (ckpt_dcp_parse(data, len_bytes, "fuzz", &metadata, NULL) < 0)
		return 0;
	for (size_t i = 0; i < metadata.entry_count; i++) {
		for (size_t j = 0; j < metadata.entries[i].chunk_count; j++) {
			const struct ckpt_dcp_chunk *chunk = &metadata.entries[i].chunks[j];

			if (chunk->offset_bytes > INT64_MAX ||
			    chunk->len_bytes > INT64_MAX - chunk->offset_bytes)
				abort();
		}
	}
	ckpt_dcp_metadata_release(&metadata);
	return 0;
}
