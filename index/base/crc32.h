/*
 * crc32.h - the CRC-32 of zip archives (ISO 3309, polynomial 0x04c11db7
 * reflected). crc32.c is the only file that includes <libdeflate.h>.
 */
#ifndef CKPT_BASE_CRC32_H
#define CKPT_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

/** ckpt_crc32 - @crc (0 at the start) carried on over @len_bytes bytes. Thread-safe: yes. */
uint32_t ckpt_crc32(uint32_t crc, const void *data, size_t len_bytes);

#endif
