/* fuzz_torch.c - whole files of torch.save: their tensors lie in them. */
#include <stdlib.h>

#include "format/torch.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct ckpt_torch_object object;

	if (ckpt_torch_read(fuzz_file(data, len_bytes), 0, len_bytes, "fuzz", &object, NULL) < 0)
		return 0;
	for (size_t i = 0; i < object.tensor_count; i++) {
		if (!object.tensors[i].opaque && object.tensors[i].offset_bytes > len_bytes)
			abort();
	}
	ckpt_torch_object_release(&object);
	return 0;
}
