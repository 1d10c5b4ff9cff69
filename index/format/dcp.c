/*
 * dcp.c - the entries of a `.metadata`; see dcp.h.
 * Everything is sorted once and searched by halves: the time is O(n log n) for n boxes.
 */
#include "format/dcp.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/dcp_internal.h"

static void entry_release(struct ckpt_dcp_entry *entry)
{
	/* Size lies in the same block as start. */
	for (size_t i = 0; i < entry->chunk_count; i++)
		free(entry->chunks[i].start);
	free(entry->chunks);
	free(entry->fqn);
	free(entry->group);
	free(entry->shape);
	free(entry->opaque);
}

void ckpt_dcp_metadata_release(struct ckpt_dcp_metadata *metadata)
{
	for (size_t i = 0; i < metadata->entry_count; i++)
		entry_release(&metadata->entries[i]);
	free(metadata->entries);
	for (size_t i = 0; i < metadata->file_count; i++)
		free(metadata->files[i]);
	free(metadata->files);
	*metadata = (struct ckpt_dcp_metadata){ 0 };
}

/* --- names ---------------------------------------------------------------------- */

bool dcp_is(const struct pickle_value *value, const char *name)
{
	/* Today's, and that of the time before torch 2.0. */
	static const char *const modules[] = {
		"torch.distributed.checkpoint.metadata",
		"torch.distributed.checkpoint.filesystem",
		"torch.distributed._shard.checkpoint.metadata",
		"torch.distributed._shard.checkpoint.filesystem",
	};

	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
		if (pickle_is_call(value, modules[i], name))
			return true;
	}
	return false;
}

int dcp_refuse(struct ckpt_err *err, struct pickle_text fqn, const char *reason)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	pickle_text_show(&shown, fqn);
	ckpt_err_set(err, -EBADMSG, "'%s': %s", shown.data, reason);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

bool dcp_name_is_good(struct pickle_text text)
{
	return text.len_bytes > 0 && text.len_bytes <= DCP_NAME_MAX &&
	       ckpt_path_is_utf8(text.data, text.len_bytes);
}

char *dcp_text_copy(struct pickle_text text)
{
	char *copy = array_alloc(text.len_bytes + 1, 1);

	if (copy && text.len_bytes > 0)
		memcpy(copy, text.data, text.len_bytes);
	return copy;
}

/* --- groups ----------------------------------------------------------------------- */

static int compare_paths(const void *left, const void *right)
{
	const struct dcp_path *a = left;
	const struct dcp_path *b = right;

	return pickle_text_compare(a->fqn, b->fqn);
}

/* planner_data maps FQNs to paths in the state dict, or is something of another planner. */
static int read_paths(struct dcp_reader *reader, const struct pickle_value *planner_data)
{
	if (!planner_data || planner_data->kind != PICKLE_DICT || planner_data->item_count == 0)
		return 0;
	reader->paths = array_alloc(planner_data->item_count / 2, sizeof(*reader->paths));
	if (!reader->paths)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
	for (size_t i = 0; i < planner_data->item_count; i += 2) {
		const struct pickle_value *fqn = planner_data->items[i];
		const struct pickle_value *keys = planner_data->items[i + 1];

		if (fqn->kind == PICKLE_STRING && keys->kind == PICKLE_TUPLE &&
		    dcp_name_is_good(fqn->as.text))
			reader->paths[reader->path_count++] =
				(struct dcp_path){ fqn->as.text, keys };
	}
	if (reader->path_count > 1)
		qsort(reader->paths, reader->path_count, sizeof(*reader->paths), compare_paths);
	return 0;
}

static int take_group(struct dcp_reader *reader, struct pickle_text fqn, char **out)
{
	const struct dcp_path key = { .fqn = fqn };
	const struct dcp_path *path = NULL;
	const struct pickle_value *first;
	char number[32];

	if (reader->path_count > 0)
		path = bsearch(&key, reader->paths, reader->path_count, sizeof(*reader->paths),
			       compare_paths);
	if (!path || path->keys->item_count < 2)
		return 0;
	first = path->keys->items[0];
	if (first->kind == PICKLE_INT) {
		ckpt_ignore(snprintf(number, sizeof(number), "%" PRId64, first->as.integer));
		*out = strdup(number);
	} else if (first->kind == PICKLE_STRING && dcp_name_is_good(first->as.text)) {
		*out = dcp_text_copy(first->as.text);
	} else {
		return 0;
	}
	return *out ? 0 : ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
}

/* --- entries ------------------------------------------------------------------------ */

static int take_bytes(struct dcp_reader *reader, struct pickle_text fqn, struct ckpt_dcp_entry *out)
{
	const struct dcp_record *record = dcp_storage_find(reader, fqn, NULL);

	if (!record)
		return dcp_refuse(reader->err, fqn, "its bytes are stored nowhere (storage_data)");
	out->is_bytes = true;
	out->chunks = array_alloc(1, sizeof(*out->chunks));
	if (record->opaque)
		out->opaque = strdup(record->opaque);
	if (!out->chunks || (record->opaque && !out->opaque))
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
	out->chunk_count = 1;
	out->chunks[0].file = record->path.data ? dcp_storage_file(reader, record->path) : "";
	out->chunks[0].offset_bytes = record->offset_bytes;
	out->chunks[0].len_bytes = record->len_bytes;
	return 0;
}

static int take_entry(struct dcp_reader *reader, const struct pickle_value *key,
		      const struct pickle_value *value)
{
	struct ckpt_dcp_entry *out = &reader->out.entries[reader->out.entry_count++];
	int rc;

	if (key->kind != PICKLE_STRING || !dcp_name_is_good(key->as.text))
		return ckpt_err_set(reader->err, -EBADMSG,
				    "an FQN is empty, no UTF-8, or has more than %d bytes",
				    DCP_NAME_MAX);
	out->fqn = dcp_text_copy(key->as.text);
	if (!out->fqn)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
	rc = take_group(reader, key->as.text, &out->group);
	if (rc < 0)
		return rc;
	if (dcp_is(value, "TensorStorageMetadata"))
		return dcp_tensor_take(reader, key->as.text, value, out);
	if (dcp_is(value, "BytesStorageMetadata"))
		return take_bytes(reader, key->as.text, out);
	out->opaque = strdup("it is described by a class that is not PyTorch's own");
	return out->opaque ? 0 : ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
}

static int compare_entries(const void *left, const void *right)
{
	const struct ckpt_dcp_entry *a = left;
	const struct ckpt_dcp_entry *b = right;

	return strcmp(a->fqn, b->fqn);
}

static int read_entries(struct dcp_reader *reader, const struct pickle_value *dict)
{
	struct ckpt_dcp_metadata *out = &reader->out;
	int rc = 0;

	if (!dict || dict->kind != PICKLE_DICT)
		return ckpt_err_set(reader->err, -EBADMSG,
				    "it does not tell of tensors (state_dict_metadata)");
	out->entries = array_alloc(num_max(dict->item_count / 2, 1), sizeof(*out->entries));
	if (!out->entries)
		return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
	for (size_t i = 0; i < dict->item_count && rc == 0; i += 2)
		rc = take_entry(reader, dict->items[i], dict->items[i + 1]);
	/* No FQN is there twice: the machine refuses such dicts. */
	if (rc == 0 && out->entry_count > 1)
		qsort(out->entries, out->entry_count, sizeof(*out->entries), compare_entries);
	return rc;
}

static int read_metadata(struct dcp_reader *reader, const struct pickle_value *root)
{
	const struct pickle_value *state;
	int rc;

	if (!dcp_is(root, "Metadata"))
		return ckpt_err_set(reader->err, -EBADMSG,
				    "its pickle is no Metadata of torch.distributed.checkpoint");
	state = root->as.call.state;
	reader->chunk_budget = pickle_value_count(reader->pickle);
	rc = dcp_storage_read(reader, pickle_get(state, "storage_data"));
	if (rc == 0)
		rc = read_paths(reader, pickle_get(state, "planner_data"));
	if (rc == 0)
		rc = read_entries(reader, pickle_get(state, "state_dict_metadata"));
	free(reader->records);
	free(reader->paths);
	return rc;
}

int ckpt_dcp_parse(const void *data, size_t len_bytes, const char *label,
		   struct ckpt_dcp_metadata *out, struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	struct dcp_reader reader = { .err = &why };
	int rc;

	assert(data && out);
	if (len_bytes > CKPT_DCP_METADATA_MAX)
		return ckpt_err_set(err, -EBADMSG, "cannot read '%s': it is longer than 1 GiB",
				    label);
	rc = pickle_parse(data, len_bytes, &reader.pickle, &why);
	if (rc == 0)
		rc = read_metadata(&reader, pickle_root(reader.pickle));
	pickle_free(reader.pickle);
	if (rc < 0) {
		ckpt_dcp_metadata_release(&reader.out);
		return ckpt_err_set(err, rc, "cannot read '%s': %s", label, why.msg);
	}
	*out = reader.out;
	return 0;
}
