/*
 * torch.c - the tensors in the dicts and lists of a data.pkl; see torch.h.
 * Only plain dicts, lists and tuples are walked: what lies in an object of any other class has no
 * path that a reader of the file would know.
 */
#include "format/torch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "format/format_internal.h"
#include "format/torch_internal.h"
#include "format/zip.h"

/* Optimizers nest three deep; what refers to itself nests for ever. */
#define DEPTH_MAX 64
/* As many as an archive may have records. */
#define TENSOR_MAX CKPT_ZIP_RECORD_MAX
/* A dict may stand in a thousand places, each of those in a thousand more. */
#define VISIT_MAX ((size_t)16 << 20)
/* Of all paths together; those of a model of a million tensors have some 100 bytes each. */
#define PATH_BYTES_MAX ((size_t)512 << 20)
/* A million tensors take some 200 bytes each. */
#define PICKLE_BYTES_MAX (UINT64_C(512) << 20)
/* "archive", or the name of the file: one component. */
#define ROOT_MAX 255

struct walk {
	struct ckpt_torch_object object;
	size_t tensor_cap;
	const struct pickle_value *path[DEPTH_MAX]; /* keys; NULL: the position below */
	size_t position[DEPTH_MAX];
	size_t depth;
	size_t visit_count;
	size_t path_bytes;
	const struct torch_source *source;
	struct ckpt_err *err;
};

static void tensor_release(struct ckpt_torch_tensor *tensor)
{
	for (size_t i = 0; i < tensor->path_count; i++)
		free(tensor->path[i]);
	free(tensor->path);
	free(tensor->shape);
	free(tensor->stride);
	free(tensor->opaque);
}

void ckpt_torch_object_release(struct ckpt_torch_object *object)
{
	for (size_t i = 0; i < object->tensor_count; i++)
		tensor_release(&object->tensors[i]);
	free(object->tensors);
	*object = (struct ckpt_torch_object){ 0 };
}

/* --- paths --------------------------------------------------------------------- */

static char *step_text(const struct walk *walk, size_t level)
{
	const struct pickle_value *key = walk->path[level];
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	if (!key)
		ckpt_buf_printf(&text, "%zu", walk->position[level]);
	else if (key->kind == PICKLE_INT)
		ckpt_buf_printf(&text, "%" PRId64, key->as.integer);
	else
		ckpt_buf_add(&text, key->as.text.data, key->as.text.len_bytes);
	/* The bytes of an empty key were never allocated. */
	return text.len_bytes > 0 ? ckpt_buf_steal(&text) : strdup("");
}

static int take_path(struct walk *walk, struct ckpt_torch_tensor *out)
{
	out->path = array_alloc(num_max(walk->depth, 1), sizeof(*out->path));
	if (!out->path)
		return ckpt_err_sys(walk->err, -ENOMEM, "cannot keep its tensors");
	while (out->path_count < walk->depth) {
		char *text = step_text(walk, out->path_count);

		if (!text)
			return ckpt_err_sys(walk->err, -ENOMEM, "cannot keep its tensors");
		out->path[out->path_count++] = text;
		walk->path_bytes += strlen(text) + 1;
	}
	if (walk->path_bytes > PATH_BYTES_MAX)
		return ckpt_err_set(walk->err, -EBADMSG,
				    "the names of its tensors take more than 512 MiB");
	return 0;
}

/* "model.w" in front of what is wrong with it. */
static int blame(struct walk *walk, const struct ckpt_torch_tensor *tensor, int code)
{
	struct ckpt_buf name;

	if (code != -EBADMSG)
		return code;
	if (tensor->path_count == 0)
		return ckpt_err_prefix(walk->err, code, "its tensor");
	ckpt_buf_init(&name);
	for (size_t i = 0; i < tensor->path_count; i++) {
		const struct pickle_text step = { tensor->path[i], strlen(tensor->path[i]) };

		if (i > 0)
			ckpt_buf_add_char(&name, '.');
		pickle_text_show(&name, step);
	}
	ckpt_err_prefix(walk->err, code, "tensor '%s'", name.data);
	ckpt_buf_release(&name);
	return code;
}

static int take_tensor(struct walk *walk, const struct pickle_value *value)
{
	struct ckpt_torch_object *object = &walk->object;
	struct ckpt_torch_tensor *tensor;
	int rc;

	if (object->tensor_count >= TENSOR_MAX)
		return ckpt_err_set(walk->err, -EBADMSG, "it has more than %d tensors", TENSOR_MAX);
	rc = array_grow(&object->tensors, &walk->tensor_cap, object->tensor_count,
			sizeof(*object->tensors));
	if (rc < 0)
		return ckpt_err_sys(walk->err, rc, "cannot keep its tensors");
	tensor = &object->tensors[object->tensor_count++];
	*tensor = (struct ckpt_torch_tensor){ 0 };
	rc = take_path(walk, tensor);
	if (rc < 0)
		return rc;
	rc = ckpt_torch_tensor_take(value, walk->source, tensor, walk->err);
	return rc < 0 ? blame(walk, tensor, rc) : 0;
}

/* --- the walk -------------------------------------------------------------------- */

/* Does the value have members by key: a dict, or what collections makes like one? */
static bool is_dict(const struct pickle_value *value)
{
	return value->kind == PICKLE_DICT || pickle_is_call(value, "collections", "OrderedDict") ||
	       pickle_is_call(value, "collections", "defaultdict");
}

/* A key that can stand in a path. */
static bool is_key(const struct pickle_value *key)
{
	if (key->kind == PICKLE_INT)
		return true;
	return key->kind == PICKLE_STRING &&
	       !memchr(key->as.text.data, '\0', key->as.text.len_bytes);
}

static int visit(struct walk *walk, const struct pickle_value *value);

static int visit_member(struct walk *walk, const struct pickle_value *key, size_t position,
			const struct pickle_value *value)
{
	int rc;

	if (walk->depth >= DEPTH_MAX)
		return ckpt_err_set(walk->err, -EBADMSG,
				    "it nests deeper than %d levels, or holds itself", DEPTH_MAX);
	walk->path[walk->depth] = key;
	walk->position[walk->depth] = position;
	walk->depth++;
	rc = visit(walk, value);
	walk->depth--;
	return rc;
}

static int visit_dict(struct walk *walk, const struct pickle_value *dict)
{
	int rc = 0;

	for (size_t i = 0; i + 1 < dict->item_count && rc == 0; i += 2) {
		if (is_key(dict->items[i]))
			rc = visit_member(walk, dict->items[i], 0, dict->items[i + 1]);
	}
	return rc;
}

static int visit_list(struct walk *walk, const struct pickle_value *list)
{
	int rc = 0;

	for (size_t i = 0; i < list->item_count && rc == 0; i++)
		rc = visit_member(walk, NULL, i, list->items[i]);
	return rc;
}

/* Recursion ends at DEPTH_MAX. */
static int visit(struct walk *walk, const struct pickle_value *value)
{
	if (++walk->visit_count > VISIT_MAX)
		return ckpt_err_set(walk->err, -EBADMSG,
				    "its dicts and lists hold one another too often to be walked");
	if (ckpt_torch_is_tensor(value))
		return take_tensor(walk, value);
	if (is_dict(value))
		return visit_dict(walk, value);
	if (value->kind == PICKLE_LIST || value->kind == PICKLE_TUPLE)
		return visit_list(walk, value);
	return 0;
}

static int read_pickle(const void *data, size_t len_bytes, const struct torch_source *source,
		       struct ckpt_torch_object *out, struct ckpt_err *err)
{
	struct walk walk = { .source = source, .err = err };
	struct pickle *pickle = NULL;
	int rc = pickle_parse(data, len_bytes, &pickle, err);

	if (rc < 0)
		return rc;
	walk.object.is_tensor = ckpt_torch_is_tensor(pickle_root(pickle));
	rc = visit(&walk, pickle_root(pickle));
	pickle_free(pickle);
	if (rc < 0)
		ckpt_torch_object_release(&walk.object);
	else
		*out = walk.object;
	return rc;
}

int ckpt_torch_parse_pickle(const void *data, size_t len_bytes, const char *label,
			    struct ckpt_torch_object *out, struct ckpt_err *err)
{
	const struct torch_source nowhere = { 0 };
	int rc;

	assert(data && out);
	rc = read_pickle(data, len_bytes, &nowhere, out, err);
	return rc < 0 ? ckpt_err_prefix(err, rc, "cannot read '%s'", label) : 0;
}

/* --- the archive ------------------------------------------------------------------ */

struct archive {
	struct ckpt_zip *zip;
	const struct ckpt_zip_record *pickle;
	int prefix_bytes; /* of "archive/", which begins every record's name */
};

/* Record PREFIX/@name; NULL: there is none. */
static const struct ckpt_zip_record *find_record(const struct archive *archive, const char *name)
{
	char full[2 * ROOT_MAX];
	int len_bytes = snprintf(full, sizeof(full), "%.*s%s", archive->prefix_bytes,
				 archive->pickle->name, name);

	if (len_bytes < 0 || (size_t)len_bytes >= sizeof(full))
		return NULL;
	return ckpt_zip_find(archive->zip, full);
}

static int find_storage(void *ctx, const char *key, struct torch_place *out, struct ckpt_err *err)
{
	const struct ckpt_zip_record *record;
	char name[64];

	/* Keys are shorter than 32 bytes. */
	ckpt_ignore(snprintf(name, sizeof(name), "data/%s", key));
	record = find_record(ctx, name);
	if (!record)
		return ckpt_err_set(err, -EBADMSG, "the archive has no record '%s'", name);
	if (!record->is_stored)
		return ckpt_err_set(err, -EBADMSG,
				    "the record '%s' is compressed; only stored ones are read",
				    name);
	*out = (struct torch_place){ record->offset_bytes, record->size_bytes };
	return 0;
}

/* The record "SOMETHING/data.pkl" tells what all names begin with. */
static int find_pickle(struct archive *archive, struct ckpt_err *err)
{
	static const char name[] = "data.pkl";

	for (size_t i = 0; i < ckpt_zip_count(archive->zip); i++) {
		const struct ckpt_zip_record *record = ckpt_zip_at(archive->zip, i);
		const char *slash = strchr(record->name, '/');

		if (!slash || strcmp(slash + 1, name) != 0)
			continue;
		if (slash - record->name > ROOT_MAX || !record->is_stored ||
		    record->size_bytes > PICKLE_BYTES_MAX)
			return ckpt_err_set(err, -EBADMSG,
					    "its 'data.pkl' is compressed, or unreasonably long");
		archive->pickle = record;
		archive->prefix_bytes = (int)(slash - record->name) + 1;
		return 0;
	}
	return ckpt_err_set(err, -EBADMSG,
			    "it is a zip archive without 'data.pkl': torch.save did not write it");
}

/* Older torch wrote no such record, on little-endian machines. */
static int check_byte_order(const struct archive *archive, int fd, const char *label,
			    struct ckpt_err *err)
{
	static const char little[] = "little";
	const struct ckpt_zip_record *record = find_record(archive, "byteorder");
	CKPT_FREE char *text = NULL;
	int rc;

	if (!record)
		return 0;
	if (record->is_stored && record->size_bytes == sizeof(little) - 1) {
		rc = ckpt_st_read_range(fd, record->offset_bytes, sizeof(little) - 1, label, &text,
					err);
		if (rc < 0)
			return rc;
		if (memcmp(text, little, sizeof(little) - 1) == 0)
			return 0;
	}
	return ckpt_err_set(err, -EBADMSG,
			    "its byte order is not 'little'; load and save it on a "
			    "little-endian machine");
}

static int read_archive(struct archive *archive, int fd, const char *label,
			struct ckpt_torch_object *out, struct ckpt_err *err)
{
	const struct torch_source source = { find_storage, archive };
	CKPT_FREE char *data = NULL;
	int rc = find_pickle(archive, err);

	if (rc == 0)
		rc = check_byte_order(archive, fd, label, err);
	if (rc == 0)
		rc = ckpt_st_read_range(fd, archive->pickle->offset_bytes,
					archive->pickle->size_bytes, label, &data, err);
	return rc < 0 ? rc : read_pickle(data, archive->pickle->size_bytes, &source, out, err);
}

/* No archive at all is mostly an old file. */
static int explain(int fd, uint64_t offset, const char *label, int code, struct ckpt_err *err)
{
	static const unsigned char magic[4] = { 'P', 'K', 3, 4 };
	unsigned char head[4] = { 0 };
	size_t got = 0;

	if (code != -EBADMSG || ckpt_io_pread_full(fd, head, sizeof(head), offset, &got) < 0 ||
	    memcmp(head, magic, sizeof(magic)) == 0)
		return code;
	return ckpt_err_set(err, code,
			    "'%s' is no zip archive: written by torch.save before 1.6, or with "
			    "_use_new_zipfile_serialization=False; load and save it again",
			    label);
}

int ckpt_torch_read(int fd, uint64_t offset, uint64_t len_bytes, const char *label,
		    struct ckpt_torch_object *out, struct ckpt_err *err)
{
	struct archive archive = { 0 };
	int rc;

	assert(fd >= 0 && out);
	rc = ckpt_zip_open(fd, offset, len_bytes, label, &archive.zip, err);
	if (rc < 0)
		return explain(fd, offset, label, rc, err);
	rc = read_archive(&archive, fd, label, out, err);
	ckpt_zip_free(archive.zip);
	return rc < 0 ? ckpt_err_prefix(err, rc, "cannot read '%s'", label) : 0;
}
