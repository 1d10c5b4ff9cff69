/*
 * zip.c - zip archives and the sums of their records; see zip.h.
 * After zip_open() no record overlaps another or the directory, and no two
 * have one name.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "format/zip_internal.h"

void ckpt_zip_free(struct ckpt_zip *zip)
{
	if (!zip)
		return;
	free(zip->entries);
	free(zip->by_name);
	free(zip->names);
	free(zip);
}

size_t ckpt_zip_count(const struct ckpt_zip *zip)
{
	return zip->count;
}

const struct ckpt_zip_record *ckpt_zip_at(const struct ckpt_zip *zip, size_t idx)
{
	assert(idx < zip->count);
	return &zip->entries[idx].record;
}

static int compare_to_name(const void *name, const void *slot)
{
	const struct zip_entry *const *entry = slot;

	return strcmp(name, (*entry)->record.name);
}

const struct ckpt_zip_record *ckpt_zip_find(const struct ckpt_zip *zip, const char *name)
{
	struct zip_entry *const *found = bsearch(name, zip->by_name, zip->count,
						 sizeof(struct zip_entry *), compare_to_name);

	return found ? &(*found)->record : NULL;
}

static int compare_places(const void *left, const void *right)
{
	const struct zip_entry *a = left;
	const struct zip_entry *b = right;

	return (a->header_at > b->header_at) - (a->header_at < b->header_at);
}

static int compare_names(const void *left, const void *right)
{
	const struct zip_entry *const *a = left;
	const struct zip_entry *const *b = right;

	return strcmp((*a)->record.name, (*b)->record.name);
}

/* Where the data of @entry begin; they and the header must lie before @limit. */
static int locate(struct zip_source *source, struct zip_entry *entry, uint64_t limit)
{
	size_t head_bytes = ZIP_LOCAL_BYTES + entry->name_len_bytes;
	const unsigned char *head;
	uint64_t room;
	int rc;

	if (entry->header_at > limit || limit - entry->header_at < head_bytes)
		return zip_refuse_record(source, entry,
					 "it overlaps the next one or the directory");
	rc = zip_peek(source, entry->header_at, head_bytes, &head);
	if (rc < 0)
		return rc;
	if (zip_u32(head) != ZIP_LOCAL_MAGIC || zip_u16(head + 26) != entry->name_len_bytes ||
	    zip_u16(head + 8) != entry->method ||
	    memcmp(head + ZIP_LOCAL_BYTES, entry->record.name, entry->name_len_bytes) != 0)
		return zip_refuse_record(source, entry,
					 "the directory leads to something else than it");
	room = limit - entry->header_at - head_bytes;
	if (room < zip_u16(head + 28) || room - zip_u16(head + 28) < entry->record.size_bytes)
		return zip_refuse_record(source, entry,
					 "it overlaps the next one or the directory");
	entry->record.offset_bytes =
		source->offset + entry->header_at + head_bytes + zip_u16(head + 28);
	return 0;
}

static int check_names(const struct zip_source *source, struct ckpt_zip *zip)
{
	for (size_t i = 0; i < zip->count; i++)
		zip->by_name[i] = &zip->entries[i];
	qsort(zip->by_name, zip->count, sizeof(struct zip_entry *), compare_names);
	for (size_t i = 1; i < zip->count; i++) {
		if (compare_names(&zip->by_name[i - 1], &zip->by_name[i]) == 0)
			return zip_refuse_record(source, zip->by_name[i], "it is there twice");
	}
	return 0;
}

static int read_archive(struct zip_source *source, struct ckpt_zip *zip)
{
	struct zip_directory directory;
	int rc = zip_find_directory(source, &directory);

	if (rc == 0)
		rc = zip_read_directory(source, &directory, zip);
	if (rc < 0)
		return rc;
	assert(zip->entries);
	qsort(zip->entries, zip->count, sizeof(*zip->entries), compare_places);
	for (size_t i = 0; i < zip->count && rc == 0; i++)
		rc = locate(source, &zip->entries[i],
			    i + 1 < zip->count ? zip->entries[i + 1].header_at : directory.at);
	return rc < 0 ? rc : check_names(source, zip);
}

int ckpt_zip_open(int fd, uint64_t offset, uint64_t len_bytes, const char *label,
		  struct ckpt_zip **out, struct ckpt_err *err)
{
	struct zip_source source = {
		.fd = fd, .offset = offset, .len_bytes = len_bytes, .label = label, .err = err
	};
	struct ckpt_zip *zip;
	uint64_t end;
	int rc;

	assert(label && out);
	if (!num_add(offset, len_bytes, &end) || end > INT64_MAX)
		return zip_refuse(&source, "it would end behind the largest file");
	zip = calloc(1, sizeof(*zip));
	rc = zip ? read_archive(&source, zip)
		 : ckpt_err_sys(err, -ENOMEM, "cannot read '%s'", label);
	free(source.tail.data);
	free(source.last.data);
	if (rc < 0) {
		ckpt_zip_free(zip);
		return rc;
	}
	*out = zip;
	return 0;
}

/* One run over the records, with the buffer for their bytes. */
struct check {
	int fd;
	const char *label;
	int (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
	unsigned char *piece; /* CKPT_IO_CHUNK bytes */
	struct ckpt_err *err;
};

static int report_sum(const struct check *check, const struct ckpt_zip_record *record,
		      uint32_t found)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, record->name);
	ckpt_err_set(check->err, -EBADMSG,
		     "'%s': record '%s': crc32 is %08" PRIx32 ", should be %08" PRIx32,
		     check->label, shown.data, found, record->crc32);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

static int check_record(const struct check *check, const struct ckpt_zip_record *record)
{
	uint32_t crc32 = 0;

	for (uint64_t done = 0; done < record->size_bytes;) {
		size_t want = num_min(record->size_bytes - done, CKPT_IO_CHUNK);
		size_t got = 0;
		int rc = ckpt_io_pread_full(check->fd, check->piece, want,
					    record->offset_bytes + done, &got);

		if (rc < 0)
			return ckpt_err_sys(check->err, rc, "cannot read '%s'", check->label);
		if (got < want)
			return ckpt_err_set(check->err, -EBADMSG,
					    "'%s' became shorter while it was read; is it being "
					    "written?",
					    check->label);
		crc32 = ckpt_crc32(crc32, check->piece, got);
		done += got;
		rc = check->progress ? check->progress(check->ctx, got) : 0;
		if (rc != 0)
			return rc;
	}
	return crc32 == record->crc32 ? 0 : report_sum(check, record, crc32);
}

int ckpt_zip_check(const struct ckpt_zip *zip, int fd, const char *label,
		   int (*progress)(void *ctx, uint64_t bytes), void *ctx, struct ckpt_err *err)
{
	CKPT_FREE unsigned char *piece = malloc(CKPT_IO_CHUNK);
	const struct check check = { fd, label, progress, ctx, piece, err };
	int rc = 0;

	if (!piece)
		return ckpt_err_sys(err, -ENOMEM, "cannot read '%s'", label);
	for (size_t i = 0; i < zip->count && rc == 0; i++) {
		const struct ckpt_zip_record *record = &zip->entries[i].record;

		if (record->is_stored && record->has_crc32)
			rc = check_record(&check, record);
	}
	return rc;
}
