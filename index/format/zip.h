/*
 * zip.h - the zip archives that torch.save and numpy.savez write: where each
 * record lies, from the central directory alone. Nothing is inflated.
 */
#ifndef CKPT_FORMAT_ZIP_H
#define CKPT_FORMAT_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A torch.save of the largest models has some ten thousand records. */
#define CKPT_ZIP_RECORD_MAX 1000000
/* Their directory is in memory whole. */
#define CKPT_ZIP_DIRECTORY_MAX (UINT64_C(256) << 20)

struct ckpt_zip;

/* One record. */
struct ckpt_zip_record {
	const char *name;      /* as the central directory has it; borrowed from the archive */
	uint64_t offset_bytes; /* of its data in the FILE (not in the archive) */
	uint64_t size_bytes;   /* as it is stored */
	uint32_t crc32;
	bool has_crc32; /* torch can be told to leave it out: it is 0 then, of bytes that are there */
	bool is_stored; /* method 0: its bytes are the data */
};

/**
 * ckpt_zip_open - read the directory of an archive that lies somewhere in a file
 * @fd:     readable, any position; borrowed during the call only
 * @offset: where the archive begins in the file, @len_bytes: how long it is. All offsets inside
 *          count from there.
 * @label:  names the file in messages
 * @out:    ckpt_zip_free() it
 * Sizes and CRCs are the central directory's, ZIP64 too; local headers are read for where data
 * begins, and must name the same record. Refused: records that overlap or leave the archive, two
 * of one name, several volumes, encryption, a directory out of bounds.
 * Errors: -EBADMSG no archive, or one that is refused (the message says why); else system.
 * Thread-safe: yes. Cost: a read of 4 KiB at the end, and one for the headers of records that lie
 * close: two for a DCP entry. Source: PKWARE APPNOTE 6.3.10.
 */
int ckpt_zip_open(int fd, uint64_t offset, uint64_t len_bytes, const char *label,
		  struct ckpt_zip **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_zip_free(struct ckpt_zip *zip);
size_t ckpt_zip_count(const struct ckpt_zip *zip);
/** ckpt_zip_at - record @idx, in the order they lie; borrowed. */
const struct ckpt_zip_record *ckpt_zip_at(const struct ckpt_zip *zip, size_t idx);
/** ckpt_zip_find - by name; NULL where there is none; borrowed. */
const struct ckpt_zip_record *ckpt_zip_find(const struct ckpt_zip *zip, const char *name);

/**
 * ckpt_zip_check - read every stored record that has a CRC32 and compare
 * @progress: NULL, or called with bytes read since the last call; non-zero cancels (returned as it
 *            is)
 * Errors: -EBADMSG one is wrong: the message names file, record, and both sums; else system.
 * Thread-safe: yes.
 */
int ckpt_zip_check(const struct ckpt_zip *zip, int fd, const char *label,
		   int (*progress)(void *ctx, uint64_t bytes), void *ctx, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
