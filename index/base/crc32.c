/* crc32.c - see crc32.h; with the processor's carry-less multiplication, more than twice zlib's speed. */
#include <libdeflate.h>

#include "base/crc32.h"

uint32_t ckpt_crc32(uint32_t crc, const void *data, size_t len_bytes)
{
	return libdeflate_crc32(crc, data, len_bytes);
}
