/*
 * zip_directory.c - the central directory of a zip archive; see zip.h.
 * Sizes and sums are taken from here: torch leaves them out of local headers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/path.h"
#include "format/zip_internal.h"

/* Encryption: of the data, strong, and of the directory. */
#define FLAGS_ENCRYPTED 0x2041
#define EXTRA_ZIP64 1

int zip_refuse_record(const struct zip_source *source, const struct zip_entry *entry,
		      const char *reason)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, entry->record.name);
	ckpt_err_set(source->err, -EBADMSG, "'%s' is no valid zip archive: record '%s': %s",
		     source->label, shown.data, reason);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

/* The directory as it is taken apart. */
struct cursor {
	const unsigned char *at;
	size_t left_bytes;
	char *name; /* where the next one goes */
};

/* The body of the ZIP64 extra field; NULL without one; false where the fields are damaged. */
static bool find_zip64(const unsigned char *extra, size_t left_bytes, const unsigned char **out,
		       size_t *out_len)
{
	*out = NULL;
	*out_len = 0;
	while (left_bytes > 0) {
		size_t len_bytes;

		if (left_bytes < 4)
			return false;
		len_bytes = zip_u16(extra + 2);
		if (len_bytes > left_bytes - 4)
			return false;
		if (zip_u16(extra) == EXTRA_ZIP64) {
			if (*out)
				return false;
			*out = extra + 4;
			*out_len = len_bytes;
		}
		extra += 4 + len_bytes;
		left_bytes -= 4 + len_bytes;
	}
	return true;
}

/* A field that may stand in the ZIP64 extra field, from which each takes its turn. */
static bool widen(uint32_t narrow, const unsigned char **wide, size_t *left_bytes, uint64_t *out)
{
	*out = narrow;
	if (narrow != ZIP_MAX32)
		return true;
	if (*left_bytes < 8)
		return false;
	*out = zip_u64(*wide);
	*wide += 8;
	*left_bytes -= 8;
	return true;
}

/* Sizes, place and volume of the record whose central header is @at. */
static int take_places(const struct zip_source *source, const unsigned char *at,
		       struct zip_entry *entry)
{
	const unsigned char *wide;
	size_t wide_len;
	uint64_t whole;

	if (!find_zip64(at + ZIP_CENTRAL_BYTES + entry->name_len_bytes, zip_u16(at + 30), &wide,
			&wide_len))
		return zip_refuse_record(source, entry, "its extra fields are damaged");
	if (!widen(zip_u32(at + 24), &wide, &wide_len, &whole) ||
	    !widen(zip_u32(at + 20), &wide, &wide_len, &entry->record.size_bytes) ||
	    !widen(zip_u32(at + 42), &wide, &wide_len, &entry->header_at))
		return zip_refuse_record(source, entry, "its ZIP64 field is missing or too short");
	if (zip_u16(at + 34) == ZIP_MAX16 ? (wide_len < 4 || zip_u32(wide) != 0)
					  : zip_u16(at + 34) != 0)
		return zip_refuse_record(source, entry, "it lies in another volume");
	if (entry->record.is_stored && whole != entry->record.size_bytes)
		return zip_refuse_record(source, entry, "it is stored, with two different sizes");
	return 0;
}

static int take_name(const struct zip_source *source, struct cursor *cursor,
		     struct zip_entry *entry)
{
	const unsigned char *name = cursor->at + ZIP_CENTRAL_BYTES;

	if (entry->name_len_bytes == 0 || memchr(name, '\0', entry->name_len_bytes))
		return zip_refuse(source, "a record has no name, or one with a zero byte");
	/* There is room: the directory has more bytes than all names and their ends. */
	memcpy(cursor->name, name, entry->name_len_bytes);
	cursor->name[entry->name_len_bytes] = '\0';
	entry->record.name = cursor->name;
	cursor->name += entry->name_len_bytes + 1;
	return 0;
}

static int take_entry(const struct zip_source *source, struct cursor *cursor,
		      struct zip_entry *entry)
{
	const unsigned char *at = cursor->at;
	size_t len_bytes;
	int rc;

	if (cursor->left_bytes < ZIP_CENTRAL_BYTES || zip_u32(at) != ZIP_CENTRAL_MAGIC)
		return zip_refuse(source, "its directory is damaged");
	len_bytes =
		(size_t)ZIP_CENTRAL_BYTES + zip_u16(at + 28) + zip_u16(at + 30) + zip_u16(at + 32);
	if (cursor->left_bytes < len_bytes)
		return zip_refuse(source, "its directory ends inside of a record");
	*entry = (struct zip_entry){ .name_len_bytes = zip_u16(at + 28),
				     .method = zip_u16(at + 10) };
	entry->record.is_stored = entry->method == 0;
	entry->record.crc32 = zip_u32(at + 16);
	rc = take_name(source, cursor, entry);
	if (rc == 0)
		rc = take_places(source, at, entry);
	if (rc == 0 && (zip_u16(at + 8) & FLAGS_ENCRYPTED) != 0)
		rc = zip_refuse_record(source, entry, "it is encrypted");
	if (rc < 0)
		return rc;
	entry->record.has_crc32 = entry->record.crc32 != 0 || entry->record.size_bytes == 0;
	cursor->at += len_bytes;
	cursor->left_bytes -= len_bytes;
	return 0;
}

int zip_read_directory(struct zip_source *source, const struct zip_directory *directory,
		       struct ckpt_zip *zip)
{
	struct cursor cursor = { .left_bytes = directory->len_bytes };
	int rc = zip_peek(source, directory->at, directory->len_bytes, &cursor.at);

	if (rc < 0)
		return rc;
	zip->entries = array_alloc(num_max(directory->count, 1), sizeof(*zip->entries));
	zip->by_name = array_alloc(num_max(directory->count, 1), sizeof(struct zip_entry *));
	zip->names = malloc(num_max(directory->len_bytes, 1));
	if (!zip->entries || !zip->by_name || !zip->names)
		return ckpt_err_sys(source->err, -ENOMEM, "cannot read '%s'", source->label);
	cursor.name = zip->names;
	for (; zip->count < directory->count; zip->count++) {
		rc = take_entry(source, &cursor, &zip->entries[zip->count]);
		if (rc < 0)
			return rc;
	}
	if (cursor.left_bytes > 0)
		return zip_refuse(source, "its directory has more bytes than its records");
	return 0;
}
