/*
 * contents_dcp.c - the tensors that a `.metadata` of PyTorch DCP describes. What it does not say
 * itself, where in an entry the elements begin and with which strides, the entries are asked for,
 * in the order they lie in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "format/dcp.h"
#include "format/torch.h"
#include "store/contents_internal.h"

/* A chunk, and where it lies. */
struct place {
	size_t entry;
	size_t chunk;
	const char *file; /* in the metadata's list: equal names are equal pointers */
	uint64_t offset_bytes;
};

/* What the entry of a chunk says of it. */
struct found {
	uint64_t *stride;
	uint64_t offset_bytes;
};

struct look {
	struct contents_folder *folder;
	size_t source;
	struct ckpt_dcp_metadata metadata;
	struct place *places; /* of tensors that can be shown, by file and offset */
	size_t place_count;
	struct found **found; /* one list a metadata entry, as long as its chunks */
	size_t opaque_count;
	const char *metadata_file; /* in the checkpoint */
};

static int path_in(const struct contents_folder *folder, const char *name, struct ckpt_buf *out)
{
	ckpt_buf_reset(out);
	if (folder->path[0])
		ckpt_path_join(out, folder->path, name);
	else
		ckpt_buf_add_str(out, name);
	return ckpt_buf_check(out) < 0 ? contents_no_memory(folder) : 0;
}

/* --- where the chunks lie -------------------------------------------------------------------- */

static int by_place(const void *left, const void *right)
{
	const struct place *a = left;
	const struct place *b = right;

	if (a->file != b->file)
		return strcmp(a->file, b->file);
	return (a->offset_bytes > b->offset_bytes) - (a->offset_bytes < b->offset_bytes);
}

static int list_places(struct look *look)
{
	const struct ckpt_dcp_metadata *metadata = &look->metadata;
	size_t count = 0;

	for (size_t i = 0; i < metadata->entry_count; i++)
		count += metadata->entries[i].chunk_count;
	look->places = array_alloc(num_max(count, 1), sizeof(*look->places));
	look->found = array_alloc(num_max(metadata->entry_count, 1), sizeof(struct found *));
	if (!look->places || !look->found)
		return contents_no_memory(look->folder);
	for (size_t i = 0; i < metadata->entry_count; i++) {
		const struct ckpt_dcp_entry *entry = &metadata->entries[i];

		if (entry->is_bytes || entry->opaque)
			continue;
		look->found[i] = array_alloc(num_max(entry->chunk_count, 1), sizeof(struct found));
		if (!look->found[i])
			return contents_no_memory(look->folder);
		for (size_t k = 0; k < entry->chunk_count; k++)
			look->places[look->place_count++] = (struct place){
				.entry = i,
				.chunk = k,
				.file = entry->chunks[k].file,
				.offset_bytes = entry->chunks[k].offset_bytes,
			};
	}
	if (look->place_count > 0)
		qsort(look->places, look->place_count, sizeof(*look->places), by_place);
	return 0;
}

/* Every entry lies in a file that is there and long enough: bytes, too. */
static int check_files(struct look *look)
{
	const struct ckpt_dcp_metadata *metadata = &look->metadata;
	struct ckpt_buf path;
	int rc = 0;

	ckpt_buf_init(&path);
	for (size_t i = 0; rc == 0 && i < metadata->entry_count; i++) {
		const struct ckpt_dcp_entry *entry = &metadata->entries[i];

		/* Nothing of it is shown: where it lies does not matter. */
		if (entry->opaque)
			continue;
		for (size_t k = 0; rc == 0 && k < entry->chunk_count; k++) {
			const struct ckpt_dcp_chunk *chunk = &entry->chunks[k];
			const struct ckpt_contents_file *file;

			rc = path_in(look->folder, chunk->file, &path);
			if (rc < 0)
				break;
			file = contents_find_file(look->folder, path.data);
			if (!file)
				rc = contents_put_out(look->folder, look->source,
						      "'%s' lies in '%s', which is not there",
						      entry->fqn, chunk->file);
			else if (chunk->offset_bytes + chunk->len_bytes > file->size_bytes)
				rc = contents_put_out(
					look->folder, look->source,
					"'%s' reaches past the end of '%s'; it was cut off",
					entry->fqn, chunk->file);
		}
	}
	ckpt_buf_release(&path);
	return rc;
}

/* --- what the entries say -------------------------------------------------------------------- */

static bool shape_fits(const struct ckpt_torch_tensor *tensor, const struct ckpt_dcp_entry *entry,
		       const struct ckpt_dcp_chunk *chunk)
{
	return tensor->dim_count == entry->dim_count &&
	       memcmp(tensor->shape, chunk->size, entry->dim_count * sizeof(*chunk->size)) == 0;
}

/* Compare with the metadata, and keep what that does not know. */
static int take_object(struct look *look, const struct place *place,
		       struct ckpt_torch_object *object)
{
	struct ckpt_dcp_entry *entry = &look->metadata.entries[place->entry];
	const struct ckpt_dcp_chunk *chunk = &entry->chunks[place->chunk];
	struct ckpt_torch_tensor *tensor = object->tensors;
	struct found *found = &look->found[place->entry][place->chunk];

	if (!object->is_tensor || object->tensor_count != 1)
		return contents_put_out(look->folder, look->source,
					"'%s': its entry in '%s' is no tensor", entry->fqn,
					chunk->file);
	if (tensor->opaque) {
		free(entry->opaque);
		entry->opaque = tensor->opaque;
		tensor->opaque = NULL;
		return 0;
	}
	if (strcmp(tensor->dtype, entry->dtype) != 0 || !shape_fits(tensor, entry, chunk))
		return contents_put_out(
			look->folder, look->source,
			"'%s': its entry in '%s' has another type or shape than the metadata says",
			entry->fqn, chunk->file);
	found->offset_bytes = tensor->offset_bytes;
	found->stride = tensor->stride;
	tensor->stride = NULL;
	return 0;
}

static int read_entry(struct look *look, const struct place *place, int fd)
{
	const struct ckpt_dcp_entry *entry = &look->metadata.entries[place->entry];
	const struct ckpt_dcp_chunk *chunk = &entry->chunks[place->chunk];
	struct ckpt_torch_object object = { .tensors = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (entry->opaque) /* another chunk of it has said so */
		return 0;
	rc = ckpt_torch_read(fd, chunk->offset_bytes, chunk->len_bytes, chunk->file, &object, &why);
	if (rc == -EBADMSG)
		return contents_put_out(look->folder, look->source, "'%s': %s", entry->fqn,
					why.msg);
	if (rc < 0)
		return ckpt_err_set(look->folder->err, rc, "%s", why.msg);
	rc = take_object(look, place, &object);
	ckpt_torch_object_release(&object);
	return rc;
}

static int read_entries(struct look *look)
{
	const struct contents_source *source = &look->folder->sources[look->source];
	const char *open_file = NULL;
	struct ckpt_buf path;
	int fd = -1;
	int rc = 0;

	ckpt_buf_init(&path);
	for (size_t i = 0; rc == 0 && !source->why_out && i < look->place_count; i++) {
		const struct place *place = &look->places[i];

		if (place->file != open_file) {
			if (fd >= 0)
				close(fd);
			fd = -1;
			rc = path_in(look->folder, place->file, &path);
			if (rc == 0)
				fd = contents_open(look->folder, path.data);
			if (rc == 0 && fd == -EACCES)
				rc = contents_put_out(look->folder, look->source, "'%s': %s",
						      place->file, CONTENTS_UNREADABLE);
			else if (rc == 0 && fd < 0)
				rc = fd;
			open_file = place->file;
		}
		if (rc == 0 && fd >= 0)
			rc = read_entry(look, place, fd);
	}
	if (fd >= 0)
		close(fd);
	ckpt_buf_release(&path);
	return rc;
}

/* --- claims ---------------------------------------------------------------------------------- */

static char *shard_of(const struct look *look, const struct ckpt_dcp_chunk *chunk)
{
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	rc = path_in(look->folder, chunk->file, &path);
	if (rc == 0)
		return ckpt_buf_steal(&path);
	ckpt_buf_release(&path);
	return NULL;
}

static int claim_chunk(const struct look *look, const struct ckpt_dcp_entry *entry, size_t idx,
		       struct found *found, struct ckpt_tensor *out)
{
	const struct ckpt_dcp_chunk *from = &entry->chunks[idx];
	struct ckpt_chunk *chunk = &out->chunks[out->chunk_count++];

	chunk->start = contents_copy_extents(from->start, entry->dim_count);
	chunk->size = contents_copy_extents(from->size, entry->dim_count);
	chunk->shard = shard_of(look, from);
	chunk->offset_bytes = found->offset_bytes;
	chunk->stride = found->stride;
	found->stride = NULL;
	return chunk->start && chunk->size && chunk->shard ? 0 : contents_no_memory(look->folder);
}

static int claim_tensor(struct look *look, size_t idx)
{
	const struct ckpt_dcp_entry *entry = &look->metadata.entries[idx];
	struct contents_claim *claim = NULL;
	struct ckpt_tensor *tensor;
	int rc = contents_add_claim(look->folder, look->source, &claim);

	if (rc < 0)
		return rc;
	tensor = &claim->tensor;
	memcpy(tensor->dtype, entry->dtype, sizeof(tensor->dtype));
	tensor->fqn = strdup(entry->fqn);
	tensor->set = strdup(look->folder->path);
	tensor->group = entry->group ? strdup(entry->group) : NULL;
	tensor->shape = contents_copy_extents(entry->shape, entry->dim_count);
	tensor->dim_count = entry->dim_count;
	tensor->chunks = array_alloc(num_max(entry->chunk_count, 1), sizeof(*tensor->chunks));
	if (!tensor->fqn || !tensor->set || (entry->group && !tensor->group) || !tensor->shape ||
	    !tensor->chunks)
		return contents_no_memory(look->folder);
	for (size_t k = 0; rc == 0 && k < entry->chunk_count; k++)
		rc = claim_chunk(look, entry, k, &look->found[idx][k], tensor);
	return rc;
}

static int claim_bytes(struct look *look, const struct ckpt_dcp_entry *entry)
{
	const struct ckpt_dcp_chunk *chunk = &entry->chunks[0];
	struct contents_claim *claim = NULL;
	struct ckpt_bytes_entry *bytes;
	int rc = contents_add_claim(look->folder, look->source, &claim);

	if (rc < 0)
		return rc;
	bytes = &claim->bytes;
	bytes->fqn = strdup(entry->fqn);
	bytes->set = strdup(look->folder->path);
	bytes->group = entry->group ? strdup(entry->group) : NULL;
	bytes->shard = shard_of(look, chunk);
	bytes->offset_bytes = chunk->offset_bytes;
	bytes->size_bytes = chunk->len_bytes;
	return bytes->fqn && bytes->set && bytes->shard && (!entry->group || bytes->group)
		       ? 0
		       : contents_no_memory(look->folder);
}

static int claim_all(struct look *look)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < look->metadata.entry_count; i++) {
		const struct ckpt_dcp_entry *entry = &look->metadata.entries[i];

		if (entry->opaque)
			rc = contents_count_opaque(look->folder, look->metadata_file, entry->fqn,
						   entry->opaque, &look->opaque_count);
		else
			rc = entry->is_bytes ? claim_bytes(look, entry) : claim_tensor(look, i);
	}
	return rc < 0 ? rc
		      : contents_end_opaque(look->folder, look->metadata_file, look->opaque_count);
}

/* --- the file -------------------------------------------------------------------------------- */

static void look_release(struct look *look)
{
	for (size_t i = 0; look->found && i < look->metadata.entry_count; i++) {
		for (size_t k = 0; look->found[i] && k < look->metadata.entries[i].chunk_count; k++)
			free(look->found[i][k].stride);
		free(look->found[i]);
	}
	free(look->found);
	free(look->places);
	ckpt_dcp_metadata_release(&look->metadata);
}

static int parse_metadata(struct look *look, const struct ckpt_contents_file *file)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_buf text;
	int rc;

	if (file->size_bytes > CKPT_DCP_METADATA_MAX)
		return contents_put_out(look->folder, look->source, "it is longer than 1 GiB");
	ckpt_buf_init(&text);
	rc = ckpt_io_read_file(look->folder->dirfd, file->path, CKPT_DCP_METADATA_MAX, &text, &why);
	if (rc == -EACCES) {
		rc = contents_put_out(look->folder, look->source, CONTENTS_UNREADABLE);
	} else if (rc < 0) {
		rc = ckpt_err_set(look->folder->err, rc, "%s", why.msg);
	} else {
		rc = ckpt_dcp_parse(text.data, text.len_bytes, CKPT_DCP_METADATA_FILE,
				    &look->metadata, &why);
		if (rc == -EBADMSG)
			rc = contents_put_out(look->folder, look->source, "%s", why.msg);
		else if (rc < 0)
			rc = ckpt_err_set(look->folder->err, rc, "%s", why.msg);
	}
	ckpt_buf_release(&text);
	return rc;
}

static int look_into(struct contents_folder *folder, const struct ckpt_contents_file *file)
{
	struct look look = { .folder = folder, .metadata_file = file->path };
	int rc = contents_add_source(folder, CONTENTS_DCP, file->path, SIZE_MAX, &look.source);

	if (rc == 0)
		rc = parse_metadata(&look, file);
	if (rc == 0 && !folder->sources[look.source].why_out)
		rc = check_files(&look);
	if (rc == 0 && !folder->sources[look.source].why_out)
		rc = list_places(&look);
	if (rc == 0)
		rc = read_entries(&look);
	if (rc == 0 && !folder->sources[look.source].why_out)
		rc = claim_all(&look);
	look_release(&look);
	return rc;
}

int contents_look_dcp(struct contents_folder *folder)
{
	for (size_t i = 0; i < folder->file_count; i++) {
		if (strcmp(contents_name_of(folder->files[i]->path), CKPT_DCP_METADATA_FILE) == 0)
			return look_into(folder, folder->files[i]);
	}
	return 0;
}
