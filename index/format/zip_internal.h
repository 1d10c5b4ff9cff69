/*
 * zip_internal.h - what zip.c, zip_end.c and zip_directory.c share: an archive
 * being read, and the records that its central directory names.
 * May be included only by index/format/zip*.c.
 */
#ifndef CKPT_FORMAT_ZIP_INTERNAL_H
#define CKPT_FORMAT_ZIP_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "format/zip.h"

/* Fixed parts of the structures, without names and extra fields. APPNOTE 4.3. */
#define ZIP_LOCAL_BYTES 30
#define ZIP_CENTRAL_BYTES 46
#define ZIP_END_BYTES 22
#define ZIP_LOCATOR_BYTES 20
#define ZIP_END64_BYTES 56

#define ZIP_LOCAL_MAGIC UINT32_C(0x04034b50)
#define ZIP_CENTRAL_MAGIC UINT32_C(0x02014b50)
#define ZIP_END_MAGIC UINT32_C(0x06054b50)
#define ZIP_LOCATOR_MAGIC UINT32_C(0x07064b50)
#define ZIP_END64_MAGIC UINT32_C(0x06064b50)

/* A field of 16 or 32 bits that holds this stands in a ZIP64 field. */
#define ZIP_MAX16 UINT16_MAX
#define ZIP_MAX32 UINT32_MAX

/* One read: the directory of an archive of a few records, and all their headers, fit in. */
#define ZIP_WINDOW_BYTES 4096

/* A piece of the archive in memory. */
struct zip_window {
	unsigned char *data;
	uint64_t at; /* in the archive */
	size_t len_bytes;
};

/* The archive while it is read. All positions count from its first byte. */
struct zip_source {
	int fd;
	uint64_t offset; /* of the archive in the file */
	uint64_t len_bytes;
	const char *label;
	struct zip_window tail; /* its last bytes: they are needed first */
	struct zip_window last; /* what was read last */
	struct ckpt_err *err;
};

/* What the end record says of the central directory. */
struct zip_directory {
	uint64_t at;
	uint64_t len_bytes;
	uint64_t count;
};

/* A record, and what its local header must agree with. */
struct zip_entry {
	struct ckpt_zip_record record;
	uint64_t header_at;
	size_t name_len_bytes;
	uint16_t method;
};

struct ckpt_zip {
	struct zip_entry *entries; /* by header_at */
	struct zip_entry **by_name;
	size_t count;
	char *names; /* all of them, NUL-terminated */
};

static inline uint16_t zip_u16(const unsigned char *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t zip_u32(const unsigned char *at)
{
	return zip_u16(at) | (uint32_t)zip_u16(at + 2) << 16;
}

static inline uint64_t zip_u64(const unsigned char *at)
{
	return zip_u32(at) | (uint64_t)zip_u32(at + 4) << 32;
}

/** zip_refuse - file "'LABEL' is no valid zip archive: REASON"; returns -EBADMSG. */
int zip_refuse(const struct zip_source *source, const char *reason);
/** zip_refuse_record - the same of one record, whose name may hold anything. */
int zip_refuse_record(const struct zip_source *source, const struct zip_entry *entry,
		      const char *reason);
/**
 * zip_peek - @len_bytes bytes at @at, from memory or the file
 * @out: borrowed until the next call
 * Errors: -EBADMSG the archive ends before; else system.
 */
int zip_peek(struct zip_source *source, uint64_t at, size_t len_bytes, const unsigned char **out)
	CKPT_MUST_CHECK;
/** zip_find_directory - look for the end record, ZIP64 too, and check what it says. */
int zip_find_directory(struct zip_source *source, struct zip_directory *out) CKPT_MUST_CHECK;
/** zip_read_directory - the records that it names, into @zip; no local header was read yet. */
int zip_read_directory(struct zip_source *source, const struct zip_directory *directory,
		       struct ckpt_zip *zip) CKPT_MUST_CHECK;

#endif
