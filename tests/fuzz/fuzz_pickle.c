/* fuzz_pickle.c - the data.pkl of what torch.save wrote. */
#include "format/torch.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct ckpt_torch_object object;

	if (ckpt_torch_parse_pickle(data, len_bytes, "fuzz", &object, NULL) == 0)
		ckpt_torch_object_release(&object);
	return 0;
}
