/*
 * dcp_storage.c - storage_data of a `.metadata`: which box lies where; see dcp_internal.h.
 * Source: torch/distributed/checkpoint/filesystem.py (_StorageInfo), metadata.py (MetadataIndex).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/dcp_internal.h"

/* As many integers, and each smaller or equal. NULL is before all. */
static int compare_starts(const struct pickle_value *a, const struct pickle_value *b)
{
	if (!a || !b)
		return (a != NULL) - (b != NULL);
	if (a->item_count != b->item_count)
		return a->item_count < b->item_count ? -1 : 1;
	for (size_t i = 0; i < a->item_count; i++) {
		int64_t left = a->items[i]->as.integer;
		int64_t right = b->items[i]->as.integer;

		if (left != right)
			return left < right ? -1 : 1;
	}
	return 0;
}

static int compare_records(const void *left, const void *right)
{
	const struct dcp_record *a = left;
	const struct dcp_record *b = right;
	int order = pickle_text_compare(a->fqn, b->fqn);

	return order != 0 ? order : compare_starts(a->start, b->start);
}

static bool are_extents(const struct pickle_value *value)
{
	for (size_t i = 0; i < value->item_count; i++) {
		uint64_t ignored;

		if (!pickle_unsigned(value->items[i], &ignored))
			return false;
	}
	return true;
}

/* A MetadataIndex: an FQN and where the box begins. */
static int take_index(struct dcp_reader *reader, const struct pickle_value *index,
		      struct dcp_record *out)
{
	const struct pickle_value *fqn = pickle_get(index->as.call.state, "fqn");
	const struct pickle_value *start = pickle_get(index->as.call.state, "offset");

	if (!fqn || fqn->kind != PICKLE_STRING || !dcp_name_is_good(fqn->as.text))
		return ckpt_err_set(reader->err, -EBADMSG,
				    "a key of storage_data has no FQN that can be one");
	out->fqn = fqn->as.text;
	if (!start || start->kind == PICKLE_NONE)
		return 0;
	out->start = ckpt_torch_extents(start);
	if (!out->start || !are_extents(out->start))
		return dcp_refuse(reader->err, out->fqn, "an offset in storage_data is no shape");
	return 0;
}

static int take_file(struct dcp_reader *reader, struct dcp_record *record,
		     const struct pickle_value *path)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	char *copy;
	int rc;

	if (!path || path->kind != PICKLE_STRING || path->as.text.len_bytes > CKPT_ENTRY_PATH_MAX ||
	    memchr(path->as.text.data, '\0', path->as.text.len_bytes))
		return dcp_refuse(reader->err, record->fqn, "its file has no name that can be one");
	record->path = path->as.text;
	/* Mostly the name of the record before, which was checked. */
	if (reader->record_count > 0 &&
	    reader->records[reader->record_count - 1].path.data == record->path.data &&
	    reader->records[reader->record_count - 1].path.len_bytes == record->path.len_bytes)
		return 0;
	copy = dcp_text_copy(record->path);
	if (!copy)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its files");
	rc = ckpt_path_check_entry(copy, &why);
	free(copy);
	return rc < 0 ? dcp_refuse(reader->err, record->fqn, why.msg) : 0;
}

static int take_info(struct dcp_reader *reader, const struct pickle_value *info,
		     struct dcp_record *out)
{
	const struct pickle_value *state = info->kind == PICKLE_CALL ? info->as.call.state : NULL;
	const struct pickle_value *transforms = pickle_get(state, "transform_descriptors");
	uint64_t end;
	int rc;

	if (!dcp_is(info, "_StorageInfo")) {
		out->opaque = "it was stored by a writer that is not PyTorch's own";
		return 0;
	}
	rc = take_file(reader, out, pickle_get(state, "relative_path"));
	if (rc < 0)
		return rc;
	if (!pickle_unsigned(pickle_get(state, "offset"), &out->offset_bytes) ||
	    !pickle_unsigned(pickle_get(state, "length"), &out->len_bytes) ||
	    !num_add(out->offset_bytes, out->len_bytes, &end) || end > INT64_MAX)
		return dcp_refuse(reader->err, out->fqn,
				  "offset or length in its file are no "
				  "numbers that fit");
	if (transforms && transforms->kind != PICKLE_NONE)
		out->opaque = "its bytes were transformed (compressed, for one) when it was stored";
	return 0;
}

static int compare_paths(const void *left, const void *right)
{
	const struct dcp_record *a = *(const struct dcp_record *const *)left;
	const struct dcp_record *b = *(const struct dcp_record *const *)right;

	return pickle_text_compare(a->path, b->path);
}

static int add_file(struct dcp_reader *reader, struct pickle_text path)
{
	struct ckpt_dcp_metadata *out = &reader->out;

	if (array_grow(&out->files, &reader->file_cap, out->file_count, sizeof(*out->files)) < 0)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its files");
	out->files[out->file_count] = dcp_text_copy(path);
	if (!out->files[out->file_count])
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its files");
	out->file_count++;
	return 0;
}

/* Each file once, by bytes. */
static int collect_files(struct dcp_reader *reader)
{
	const struct dcp_record **order =
		array_alloc(num_max(reader->record_count, 1), sizeof(const struct dcp_record *));
	size_t count = 0;
	int rc = 0;

	if (!order)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its files");
	for (size_t i = 0; i < reader->record_count; i++) {
		if (reader->records[i].path.data)
			order[count++] = &reader->records[i];
	}
	if (count > 1)
		qsort(order, count, sizeof(const struct dcp_record *), compare_paths);
	for (size_t i = 0; i < count && rc == 0; i++) {
		if (i == 0 || pickle_text_compare(order[i - 1]->path, order[i]->path) != 0)
			rc = add_file(reader, order[i]->path);
	}
	free(order);
	return rc;
}

static int check_twins(struct dcp_reader *reader)
{
	for (size_t i = 1; i < reader->record_count; i++) {
		if (compare_records(&reader->records[i - 1], &reader->records[i]) == 0)
			return dcp_refuse(reader->err, reader->records[i].fqn,
					  "storage_data tells of one box twice");
	}
	return 0;
}

int dcp_storage_read(struct dcp_reader *reader, const struct pickle_value *storage_data)
{
	int rc = 0;

	if (!storage_data || storage_data->kind != PICKLE_DICT)
		return ckpt_err_set(reader->err, -EBADMSG,
				    "it does not tell where tensors are stored (storage_data)");
	reader->records =
		array_alloc(num_max(storage_data->item_count / 2, 1), sizeof(*reader->records));
	if (!reader->records)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
	for (size_t i = 0; i < storage_data->item_count && rc == 0; i += 2) {
		struct dcp_record *record = &reader->records[reader->record_count];

		/* Keys of other planners: tensors that need them are missed later. */
		if (!dcp_is(storage_data->items[i], "MetadataIndex"))
			continue;
		rc = take_index(reader, storage_data->items[i], record);
		if (rc == 0)
			rc = take_info(reader, storage_data->items[i + 1], record);
		if (rc == 0)
			reader->record_count++;
	}
	if (reader->record_count > 1)
		qsort(reader->records, reader->record_count, sizeof(*reader->records),
		      compare_records);
	if (rc == 0)
		rc = check_twins(reader);
	return rc == 0 ? collect_files(reader) : rc;
}

const struct dcp_record *dcp_storage_find(const struct dcp_reader *reader, struct pickle_text fqn,
					  const struct pickle_value *start)
{
	const struct dcp_record key = { .fqn = fqn, .start = start };

	if (reader->record_count == 0)
		return NULL;
	return bsearch(&key, reader->records, reader->record_count, sizeof(*reader->records),
		       compare_records);
}

static int compare_file(const void *key, const void *item)
{
	const struct pickle_text *path = key;
	const char *const *file = item;
	const struct pickle_text text = { *file, strlen(*file) };

	return pickle_text_compare(*path, text);
}

const char *dcp_storage_file(const struct dcp_reader *reader, struct pickle_text path)
{
	char **found = bsearch(&path, reader->out.files, reader->out.file_count,
			       sizeof(*reader->out.files), compare_file);

	return found ? *found : NULL;
}
