/* fuzz_zip.c - zip archives; their records lie in them, and the sums can be taken. */
#include <stdlib.h>

#include "format/zip.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct ckpt_zip *zip = NULL;
	struct ckpt_err err = CKPT_ERR_INIT;
	int fd = fuzz_file(data, len_bytes);
	uint64_t end = 0;

	if (ckpt_zip_open(fd, 0, len_bytes, "fuzz", &zip, &err) < 0)
		return 0;
	for (size_t i = 0; i < ckpt_zip_count(zip); i++) {
		const struct ckpt_zip_record *record = ckpt_zip_at(zip, i);

		if (record->offset_bytes < end || record->offset_bytes > len_bytes ||
		    record->size_bytes > len_bytes - record->offset_bytes ||
		    ckpt_zip_find(zip, record->name) != record)
			abort();
		end = record->offset_bytes + record->size_bytes;
	}
	ckpt_ignore(
		ckpt_zip_check(zip, fd, "fuzz", NULL, NULL, &err)); /* a wrong sum is no fault */
	ckpt_zip_free(zip);
	return 0;
}
