/*
 * dcp_tensor.c - one tensor of a `.metadata`, its boxes joined with where they are stored; see
 * dcp_internal.h. Source: torch/distributed/checkpoint/metadata.py.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cover.h"
#include "base/num.h"
#include "format/dcp_internal.h"
#include "format/format.h"

static int no_memory(struct dcp_reader *reader)
{
	return ckpt_err_sys(reader->err, -ENOMEM, "cannot keep its tensors");
}

/* Integers of 0 or more into @out, which has room for @count; false: something else. */
static bool take_extents(const struct pickle_value *value, uint32_t count, uint64_t *out)
{
	const struct pickle_value *extents = ckpt_torch_extents(value);

	if (!extents || extents->item_count != count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (!pickle_unsigned(extents->items[i], &out[i]))
			return false;
	}
	return true;
}

static bool is_empty(const uint64_t *size, uint32_t dim_count)
{
	for (uint32_t i = 0; i < dim_count; i++) {
		if (size[i] == 0)
			return true;
	}
	return false;
}

static int compare_chunks(const void *left, const void *right, void *ctx)
{
	const struct ckpt_dcp_chunk *a = left;
	const struct ckpt_dcp_chunk *b = right;
	const uint32_t *dim_count = ctx;

	for (uint32_t i = 0; i < *dim_count; i++) {
		if (a->start[i] != b->start[i])
			return a->start[i] < b->start[i] ? -1 : 1;
	}
	return 0;
}

/* File what is wrong with a box. */
static int refuse_box(struct dcp_reader *reader, struct pickle_text fqn,
		      const struct ckpt_dcp_chunk *chunk, uint32_t dim_count, const char *reason)
{
	const struct ckpt_box box = { chunk->start, chunk->size };
	char text[CKPT_BOX_TEXT_MAX];
	char whole[CKPT_BOX_TEXT_MAX + 100];

	ckpt_ignore(snprintf(whole, sizeof(whole), "its box %s %s",
			     ckpt_box_text(&box, dim_count, text), reason));
	return dcp_refuse(reader->err, fqn, whole);
}

/* Why the bytes of @out cannot be shown; the first reason counts. */
static int make_opaque(struct dcp_reader *reader, struct ckpt_dcp_entry *out, const char *reason)
{
	if (!out->opaque)
		out->opaque = strdup(reason);
	return out->opaque ? 0 : no_memory(reader);
}

/* Join the next chunk of @out, whose box is filled, with its storage. */
static int join(struct dcp_reader *reader, struct pickle_text fqn, struct ckpt_dcp_entry *out,
		const struct pickle_value *start)
{
	struct ckpt_dcp_chunk *chunk = &out->chunks[out->chunk_count];
	const struct ckpt_box box = { chunk->start, chunk->size };
	const struct dcp_record *record;

	if (!ckpt_box_inside(&box, out->shape, out->dim_count))
		return refuse_box(reader, fqn, chunk, out->dim_count, "leaves its shape");
	record = dcp_storage_find(reader, fqn, ckpt_torch_extents(start));
	if (!record)
		return refuse_box(reader, fqn, chunk, out->dim_count,
				  "is stored nowhere (storage_data)");
	if (record->opaque && make_opaque(reader, out, record->opaque) < 0)
		return -ENOMEM;
	/* A foreign writer's record names no file: there is nothing to show of it. */
	chunk->file = record->path.data ? dcp_storage_file(reader, record->path) : "";
	chunk->offset_bytes = record->offset_bytes;
	chunk->len_bytes = record->len_bytes;
	return 0;
}

static int take_chunk(struct dcp_reader *reader, struct pickle_text fqn, struct ckpt_dcp_entry *out,
		      const struct pickle_value *value)
{
	struct ckpt_dcp_chunk *chunk = &out->chunks[out->chunk_count];
	const struct pickle_value *start;
	int rc = 0;

	if (!dcp_is(value, "ChunkStorageMetadata"))
		return dcp_refuse(reader->err, fqn, "a chunk of it is of an unknown class");
	start = pickle_get(value->as.call.state, "offsets");
	chunk->start = array_alloc(2 * num_max(out->dim_count, 1), sizeof(*chunk->start));
	if (!chunk->start)
		return no_memory(reader);
	chunk->size = chunk->start + out->dim_count;
	if (!take_extents(start, out->dim_count, chunk->start) ||
	    !take_extents(pickle_get(value->as.call.state, "sizes"), out->dim_count, chunk->size))
		rc = dcp_refuse(reader->err, fqn, "a chunk of it does not have its dimensions");
	/* A rank without rows has a box all the same. */
	else if (!is_empty(chunk->size, out->dim_count))
		rc = join(reader, fqn, out, start);
	else
		rc = 1;
	if (rc == 0)
		out->chunk_count++;
	else
		free(chunk->start);
	return rc > 0 ? 0 : rc;
}

static int check_boxes(struct dcp_reader *reader, struct pickle_text fqn,
		       const struct ckpt_dcp_entry *entry)
{
	struct ckpt_parts parts = { .fqn = entry->fqn,
				    .shape = entry->shape,
				    .dim_count = entry->dim_count,
				    .count = entry->chunk_count };
	int rc;

	for (size_t i = 1; i < entry->chunk_count; i++) {
		uint32_t dim_count = entry->dim_count;

		if (compare_chunks(&entry->chunks[i - 1], &entry->chunks[i], &dim_count) == 0)
			return refuse_box(reader, fqn, &entry->chunks[i], dim_count,
					  "overlaps another one");
	}
	if (is_empty(entry->shape, entry->dim_count))
		return 0;
	parts.items = array_alloc(num_max(entry->chunk_count, 1), sizeof(*parts.items));
	if (!parts.items)
		return no_memory(reader);
	for (size_t i = 0; i < entry->chunk_count; i++)
		parts.items[i].box =
			(struct ckpt_box){ entry->chunks[i].start, entry->chunks[i].size };
	rc = ckpt_parts_check(&parts, reader->err);
	free(parts.items);
	return rc == -EINVAL ? -EBADMSG : rc;
}

/* The layout as torch.serialization._get_layout("torch.strided"); none told is strided. */
static bool is_strided(const struct pickle_value *layout)
{
	const struct pickle_value *args;

	if (!layout || layout->kind == PICKLE_NONE)
		return true;
	if (!pickle_is_call(layout, "torch.serialization", "_get_layout"))
		return false;
	args = layout->as.call.args;
	return args->item_count == 1 && args->items[0]->kind == PICKLE_STRING &&
	       pickle_text_is(args->items[0]->as.text, "torch.strided");
}

/* TensorProperties: a tuple as its state, or a dict. */
static int take_properties(struct dcp_reader *reader, const struct pickle_value *value,
			   struct ckpt_dcp_entry *out)
{
	const struct pickle_value *state =
		value && value->kind == PICKLE_CALL ? value->as.call.state : NULL;
	const struct pickle_value *dtype = pickle_get(state, "dtype");
	const struct pickle_value *layout = pickle_get(state, "layout");
	const char *name;

	if (state && state->kind == PICKLE_TUPLE && state->item_count >= 2) {
		dtype = state->items[0];
		layout = state->items[1];
	}
	name = ckpt_torch_dtype(dtype);
	if (name)
		memcpy(out->dtype, name, strlen(name) + 1);
	else if (make_opaque(reader, out, "its element type is not known here") < 0)
		return -ENOMEM;
	if (!is_strided(layout))
		return make_opaque(reader, out,
				   "its layout is not strided (a sparse tensor, for one)");
	return 0;
}

static int take_shape(struct dcp_reader *reader, struct pickle_text fqn,
		      const struct pickle_value *size, struct ckpt_dcp_entry *out)
{
	const struct pickle_value *extents = ckpt_torch_extents(size);
	uint64_t bytes;

	if (!extents)
		return dcp_refuse(reader->err, fqn, "it has no shape, of 64 dimensions at most");
	out->dim_count = (uint32_t)extents->item_count;
	out->shape = array_alloc(num_max(out->dim_count, 1), sizeof(*out->shape));
	if (!out->shape)
		return no_memory(reader);
	if (!take_extents(extents, out->dim_count, out->shape) ||
	    ckpt_shape_bytes(out->dtype[0] ? out->dtype : "C128", out->shape, out->dim_count,
			     &bytes) < 0)
		return dcp_refuse(reader->err, fqn, "its shape is no shape, or overflows");
	return 0;
}

int dcp_tensor_take(struct dcp_reader *reader, struct pickle_text fqn,
		    const struct pickle_value *value, struct ckpt_dcp_entry *out)
{
	const struct pickle_value *state = value->as.call.state;
	const struct pickle_value *chunks = pickle_get(state, "chunks");
	int rc = take_properties(reader, pickle_get(state, "properties"), out);

	if (rc == 0)
		rc = take_shape(reader, fqn, pickle_get(state, "size"), out);
	if (rc < 0)
		return rc;
	if (!chunks || chunks->kind != PICKLE_LIST || chunks->item_count > reader->chunk_budget)
		return dcp_refuse(reader->err, fqn, "it has no list of chunks of its own");
	reader->chunk_budget -= chunks->item_count;
	out->chunks = array_alloc(num_max(chunks->item_count, 1), sizeof(*out->chunks));
	if (!out->chunks)
		return no_memory(reader);
	for (size_t i = 0; i < chunks->item_count && rc == 0; i++)
		rc = take_chunk(reader, fqn, out, chunks->items[i]);
	if (rc < 0)
		return rc;
	if (out->chunk_count > 1)
		qsort_r(out->chunks, out->chunk_count, sizeof(*out->chunks), compare_chunks,
			&out->dim_count);
	return check_boxes(reader, fqn, out);
}
