/*
 * zip_end.c - the end of a zip archive, which says where its central directory
 * lies; see zip.h. The directory must end where the end record begins: an
 * archive with bytes in front of it or between the two is not read, because
 * tools would not agree on what it holds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/num.h"
#include "format/zip_internal.h"

int zip_refuse(const struct zip_source *source, const char *reason)
{
	return ckpt_err_set(source->err, -EBADMSG, "'%s' is no valid zip archive: %s",
			    source->label, reason);
}

/* Read @len_bytes bytes at @at into @window, which grows as needed. */
static int fill(const struct zip_source *source, struct zip_window *window, uint64_t at,
		size_t len_bytes)
{
	unsigned char *data = realloc(window->data, num_max(len_bytes, ZIP_WINDOW_BYTES));
	size_t got = 0;
	int rc;

	if (!data)
		return ckpt_err_sys(source->err, -ENOMEM, "cannot read '%s'", source->label);
	*window = (struct zip_window){ .data = data, .at = at };
	rc = ckpt_io_pread_full(source->fd, data, len_bytes, source->offset + at, &got);
	if (rc < 0)
		return ckpt_err_sys(source->err, rc, "cannot read '%s'", source->label);
	if (got < len_bytes)
		return zip_refuse(source, "the file ends before the archive; it is truncated");
	window->len_bytes = len_bytes;
	return 0;
}

static const unsigned char *look(const struct zip_window *window, uint64_t at, size_t len_bytes)
{
	if (at < window->at || at - window->at > window->len_bytes ||
	    window->len_bytes - (at - window->at) < len_bytes)
		return NULL;
	return window->data + (at - window->at);
}

int zip_peek(struct zip_source *source, uint64_t at, size_t len_bytes, const unsigned char **out)
{
	uint64_t left;
	int rc;

	*out = look(&source->tail, at, len_bytes);
	if (!*out)
		*out = look(&source->last, at, len_bytes);
	if (*out)
		return 0;
	if (at > source->len_bytes || source->len_bytes - at < len_bytes)
		return zip_refuse(source, "it ends inside of a header");
	left = source->len_bytes - at;
	rc = fill(source, &source->last, at, num_max(len_bytes, num_min(left, ZIP_WINDOW_BYTES)));
	if (rc == 0)
		*out = source->last.data;
	return rc;
}

/*
 * The last end record whose comment reaches to the end of the archive, as position in the tail;
 * false where there is none.
 */
static bool scan_tail(const struct zip_window *tail, size_t *out)
{
	if (tail->len_bytes < ZIP_END_BYTES)
		return false;
	for (size_t i = tail->len_bytes - ZIP_END_BYTES + 1; i-- > 0;) {
		const unsigned char *end = tail->data + i;

		if (zip_u32(end) == ZIP_END_MAGIC &&
		    zip_u16(end + 20) == tail->len_bytes - i - ZIP_END_BYTES) {
			*out = i;
			return true;
		}
	}
	return false;
}

/* Where the end record lies. Only a long comment needs more than one read. */
static int find_end(struct zip_source *source, size_t *out)
{
	const size_t lens[] = { ZIP_WINDOW_BYTES, ZIP_LOCATOR_BYTES + ZIP_END_BYTES + ZIP_MAX16 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len_bytes = num_min(source->len_bytes, lens[i]);
		int rc = fill(source, &source->tail, source->len_bytes - len_bytes, len_bytes);

		if (rc < 0)
			return rc;
		/* With what may lie before it, its ZIP64 locator. */
		if (scan_tail(&source->tail, out) &&
		    (*out >= ZIP_LOCATOR_BYTES || len_bytes == source->len_bytes || i > 0))
			return 0;
	}
	return zip_refuse(source, "it does not end with the record that ends one; it is "
				  "truncated, or something else");
}

/* Does a field of the end record say what the ZIP64 one says, or refer to it? */
static bool agrees(uint64_t narrow, uint64_t max, uint64_t wide)
{
	return narrow == max || narrow == wide;
}

/* The ZIP64 end record, which lies right before its locator. */
static int read_end64(struct zip_source *source, const unsigned char *end, uint64_t *at,
		      struct zip_directory *out)
{
	uint64_t locator_at = *at - ZIP_LOCATOR_BYTES;
	const unsigned char *locator = end - ZIP_LOCATOR_BYTES;
	const unsigned char *end64;
	uint64_t end64_at = zip_u64(locator + 8);
	uint64_t after;
	int rc;

	if (zip_u32(locator + 4) != 0 || zip_u32(locator + 16) > 1)
		return zip_refuse(source, "it is one of several volumes");
	if (end64_at > locator_at || locator_at - end64_at < ZIP_END64_BYTES)
		return zip_refuse(source, "its ZIP64 end record lies outside of it");
	rc = zip_peek(source, end64_at, ZIP_END64_BYTES, &end64);
	if (rc < 0)
		return rc;
	if (zip_u32(end64) != ZIP_END64_MAGIC ||
	    !num_add(end64_at + 12, zip_u64(end64 + 4), &after) || after != locator_at)
		return zip_refuse(source, "its ZIP64 end record is damaged");
	if (zip_u32(end64 + 16) != 0 || zip_u32(end64 + 20) != 0 ||
	    zip_u64(end64 + 24) != zip_u64(end64 + 32))
		return zip_refuse(source, "it is one of several volumes");
	*out = (struct zip_directory){ .at = zip_u64(end64 + 48),
				       .len_bytes = zip_u64(end64 + 40),
				       .count = zip_u64(end64 + 32) };
	if (!agrees(zip_u16(end + 10), ZIP_MAX16, out->count) ||
	    !agrees(zip_u32(end + 12), ZIP_MAX32, out->len_bytes) ||
	    !agrees(zip_u32(end + 16), ZIP_MAX32, out->at))
		return zip_refuse(source, "its two end records contradict each other");
	*at = end64_at;
	return 0;
}

static int check_directory(const struct zip_source *source, const struct zip_directory *directory,
			   uint64_t end_at)
{
	if (directory->at > end_at || end_at - directory->at != directory->len_bytes)
		return zip_refuse(source, "its directory does not lie before its end record");
	if (directory->count > CKPT_ZIP_RECORD_MAX)
		return zip_refuse(source, "it says that it has more than a million records");
	if (directory->len_bytes > CKPT_ZIP_DIRECTORY_MAX)
		return zip_refuse(source, "its directory is longer than 256 MiB");
	if (directory->count > directory->len_bytes / ZIP_CENTRAL_BYTES)
		return zip_refuse(source, "its directory is too short for the records it says");
	return 0;
}

int zip_find_directory(struct zip_source *source, struct zip_directory *out)
{
	const unsigned char *end;
	size_t idx = 0;
	uint64_t end_at;
	int rc = find_end(source, &idx);

	if (rc < 0)
		return rc;
	end = source->tail.data + idx;
	end_at = source->tail.at + idx;
	if (idx >= ZIP_LOCATOR_BYTES && zip_u32(end - ZIP_LOCATOR_BYTES) == ZIP_LOCATOR_MAGIC) {
		rc = read_end64(source, end, &end_at, out);
		return rc < 0 ? rc : check_directory(source, out, end_at);
	}
	if (zip_u16(end + 4) != 0 || zip_u16(end + 6) != 0 || zip_u16(end + 8) != zip_u16(end + 10))
		return zip_refuse(source, "it is one of several volumes");
	*out = (struct zip_directory){ .at = zip_u32(end + 16),
				       .len_bytes = zip_u32(end + 12),
				       .count = zip_u16(end + 10) };
	return check_directory(source, out, end_at);
}
