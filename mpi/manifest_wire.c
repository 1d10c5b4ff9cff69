/* manifest_wire.c - see manifest_wire.h; each put_X() goes together with the take_X() below it. */
#include "manifest_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/format.h"

/* The next string as a copy, which may be NULL. */
static int take_str(struct ckpt_wire *in, char **out)
{
	const char *text = ckpt_wire_str(in);

	*out = text ? strdup(text) : NULL;
	return text && !*out ? -ENOMEM : 0;
}

/* The same where NULL is no value. */
static int take_text(struct ckpt_wire *in, char **out)
{
	int rc = take_str(in, out);

	return rc == 0 && !*out ? -EBADMSG : rc;
}

static int take_u64s(struct ckpt_wire *in, size_t count, uint64_t **out)
{
	*out = array_alloc(count + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	ckpt_wire_u64s(in, *out, count);
	return 0;
}

/* A number of things of at least @each bytes that follow, and room for them in *@out. */
static int take_array(struct ckpt_wire *in, size_t each, size_t item_bytes, void *out,
		      size_t *out_count)
{
	size_t count = ckpt_wire_count(in, each);
	void *items = array_alloc(count + 1, item_bytes);

	if (!items)
		return -ENOMEM;
	memcpy(out, &items, sizeof(items));
	*out_count = count;
	return in->bad ? -EBADMSG : 0;
}

/* --- shards -------------------------------------------------------------------------------- */

void ckpt_wire_put_shard(struct ckpt_buf *out, const struct ckpt_shard *shard)
{
	uint64_t sum_count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	const uint64_t numbers[] = {
		shard->size_bytes,	  shard->mode,	    (uint64_t)shard->mtime_ns,
		shard->has_rank,	  shard->rank,	    shard->has_xxh128,
		shard->xxh128.hi,	  shard->xxh128.lo, shard->block_bytes,
		shard->pack_offset_bytes, sum_count,
	};

	ckpt_wire_put_str(out, shard->path);
	ckpt_wire_put_str(out, shard->pack);
	ckpt_wire_put_u64s(out, numbers, sizeof(numbers) / sizeof(numbers[0]));
	ckpt_wire_put_u64s(out, shard->sums, sum_count);
}

int ckpt_wire_shard(struct ckpt_wire *in, struct ckpt_shard *out)
{
	size_t sum_count;
	int rc = take_text(in, &out->path);

	if (rc == 0)
		rc = take_str(in, &out->pack);
	if (rc < 0)
		return rc;
	out->size_bytes = ckpt_wire_u64(in);
	out->mode = (uint32_t)ckpt_wire_u64(in);
	out->mtime_ns = (int64_t)ckpt_wire_u64(in);
	out->has_rank = ckpt_wire_u64(in) != 0;
	out->rank = ckpt_wire_u64(in);
	out->has_xxh128 = ckpt_wire_u64(in) != 0;
	out->xxh128.hi = ckpt_wire_u64(in);
	out->xxh128.lo = ckpt_wire_u64(in);
	out->block_bytes = ckpt_wire_u64(in);
	out->pack_offset_bytes = ckpt_wire_u64(in);
	sum_count = ckpt_wire_count(in, sizeof(uint64_t));
	rc = take_u64s(in, sum_count, &out->sums);
	/* Whoever looks at the sums counts them by the sizes. */
	if (in->bad || out->block_bytes == 0 ||
	    sum_count != ckpt_block_count(out->size_bytes, out->block_bytes))
		return -EBADMSG;
	return rc;
}

/* --- head, folders, links ------------------------------------------------------------------ */

static void put_head(struct ckpt_buf *out, const struct ckpt_manifest_head *head)
{
	const uint64_t numbers[] = { head->seq, head->has_step, head->step, head->has_world_size,
				     head->world_size };

	ckpt_wire_put_str(out, head->id);
	ckpt_wire_put_str(out, head->created);
	ckpt_wire_put_str(out, head->committed);
	ckpt_wire_put_str(out, head->name);
	ckpt_wire_put_str(out, head->writer);
	ckpt_wire_put_str(out, head->meta);
	ckpt_wire_put_u64s(out, numbers, sizeof(numbers) / sizeof(numbers[0]));
}

/* A string that has its room in a struct. */
static int take_into(struct ckpt_wire *in, char *out, size_t out_size)
{
	const char *text = ckpt_wire_str(in);

	if (!text || strlen(text) >= out_size)
		return -EBADMSG;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

static int take_head(struct ckpt_wire *in, struct ckpt_manifest_head *out)
{
	int rc = take_into(in, out->id, sizeof(out->id));

	if (rc == 0)
		rc = take_into(in, out->created, sizeof(out->created));
	if (rc == 0)
		rc = take_into(in, out->committed, sizeof(out->committed));
	if (rc == 0)
		rc = take_text(in, &out->name);
	if (rc == 0)
		rc = take_text(in, &out->writer);
	if (rc == 0)
		rc = take_text(in, &out->meta);
	out->seq = ckpt_wire_u64(in);
	out->has_step = ckpt_wire_u64(in) != 0;
	out->step = ckpt_wire_u64(in);
	out->has_world_size = ckpt_wire_u64(in) != 0;
	out->world_size = ckpt_wire_u64(in);
	return rc;
}

static void put_entries(struct ckpt_buf *out, const struct ckpt_manifest *manifest)
{
	ckpt_wire_put_u64(out, manifest->dir_count);
	for (size_t i = 0; i < manifest->dir_count; i++) {
		ckpt_wire_put_str(out, manifest->dirs[i].path);
		ckpt_wire_put_u64(out, manifest->dirs[i].mode);
	}
	ckpt_wire_put_u64(out, manifest->symlink_count);
	for (size_t i = 0; i < manifest->symlink_count; i++) {
		ckpt_wire_put_str(out, manifest->symlinks[i].path);
		ckpt_wire_put_str(out, manifest->symlinks[i].target);
	}
	ckpt_wire_put_u64(out, manifest->shard_count);
	for (size_t i = 0; i < manifest->shard_count; i++)
		ckpt_wire_put_shard(out, &manifest->shards[i]);
}

/* Counts are those of what may hold something: what is half filled is released with the rest. */
static int take_entries(struct ckpt_wire *in, struct ckpt_manifest *out)
{
	int rc = take_array(in, 2 * sizeof(uint64_t), sizeof(*out->dirs), &out->dirs,
			    &out->dir_count);

	for (size_t i = 0; rc == 0 && i < out->dir_count; i++) {
		rc = take_text(in, &out->dirs[i].path);
		out->dirs[i].mode = (uint32_t)ckpt_wire_u64(in);
	}
	if (rc == 0)
		rc = take_array(in, 2 * sizeof(uint64_t), sizeof(*out->symlinks), &out->symlinks,
				&out->symlink_count);
	for (size_t i = 0; rc == 0 && i < out->symlink_count; i++) {
		rc = take_text(in, &out->symlinks[i].path);
		if (rc == 0)
			rc = take_text(in, &out->symlinks[i].target);
	}
	if (rc == 0)
		rc = take_array(in, 2 * sizeof(uint64_t), sizeof(*out->shards), &out->shards,
				&out->shard_count);
	for (size_t i = 0; rc == 0 && i < out->shard_count; i++)
		rc = ckpt_wire_shard(in, &out->shards[i]);
	return rc;
}

/* --- tensors ------------------------------------------------------------------------------- */

static void put_chunk(struct ckpt_buf *out, const struct ckpt_chunk *chunk, uint32_t dim_count)
{
	ckpt_wire_put_str(out, chunk->shard);
	ckpt_wire_put_u64(out, chunk->offset_bytes);
	ckpt_wire_put_u64(out, chunk->stride != NULL);
	ckpt_wire_put_u64s(out, chunk->start, dim_count);
	ckpt_wire_put_u64s(out, chunk->size, dim_count);
	ckpt_wire_put_u64s(out, chunk->stride, chunk->stride ? dim_count : 0);
}

static int take_chunk(struct ckpt_wire *in, struct ckpt_chunk *out, uint32_t dim_count)
{
	int rc = take_text(in, &out->shard);
	bool has_stride;

	out->offset_bytes = ckpt_wire_u64(in);
	has_stride = ckpt_wire_u64(in) != 0;
	if (rc == 0)
		rc = take_u64s(in, dim_count, &out->start);
	if (rc == 0)
		rc = take_u64s(in, dim_count, &out->size);
	if (rc == 0 && has_stride)
		rc = take_u64s(in, dim_count, &out->stride);
	return rc;
}

static void put_tensor(struct ckpt_buf *out, const struct ckpt_tensor *tensor)
{
	ckpt_wire_put_str(out, tensor->fqn);
	ckpt_wire_put_str(out, tensor->set);
	ckpt_wire_put_str(out, tensor->group);
	ckpt_wire_put_str(out, tensor->dtype);
	ckpt_wire_put_u64(out, tensor->dim_count);
	ckpt_wire_put_u64s(out, tensor->shape, tensor->dim_count);
	ckpt_wire_put_u64(out, tensor->chunk_count);
	for (size_t i = 0; i < tensor->chunk_count; i++)
		put_chunk(out, &tensor->chunks[i], tensor->dim_count);
}

static int take_tensor(struct ckpt_wire *in, struct ckpt_tensor *out)
{
	int rc = take_text(in, &out->fqn);

	if (rc == 0)
		rc = take_text(in, &out->set);
	if (rc == 0)
		rc = take_str(in, &out->group);
	if (rc == 0)
		rc = take_into(in, out->dtype, sizeof(out->dtype));
	out->dim_count = (uint32_t)ckpt_wire_count(in, sizeof(uint64_t));
	if (rc == 0 && (in->bad || out->dim_count > CKPT_DIM_MAX))
		rc = -EBADMSG;
	if (rc == 0)
		rc = take_u64s(in, out->dim_count, &out->shape);
	if (rc == 0)
		rc = take_array(in, 3 * sizeof(uint64_t), sizeof(*out->chunks), &out->chunks,
				&out->chunk_count);
	for (size_t i = 0; rc == 0 && i < out->chunk_count; i++)
		rc = take_chunk(in, &out->chunks[i], out->dim_count);
	return rc;
}

static void put_bytes(struct ckpt_buf *out, const struct ckpt_bytes_entry *entry)
{
	ckpt_wire_put_str(out, entry->fqn);
	ckpt_wire_put_str(out, entry->set);
	ckpt_wire_put_str(out, entry->group);
	ckpt_wire_put_str(out, entry->shard);
	ckpt_wire_put_u64(out, entry->offset_bytes);
	ckpt_wire_put_u64(out, entry->size_bytes);
}

static int take_bytes(struct ckpt_wire *in, struct ckpt_bytes_entry *out)
{
	int rc = take_text(in, &out->fqn);

	if (rc == 0)
		rc = take_text(in, &out->set);
	if (rc == 0)
		rc = take_str(in, &out->group);
	if (rc == 0)
		rc = take_text(in, &out->shard);
	out->offset_bytes = ckpt_wire_u64(in);
	out->size_bytes = ckpt_wire_u64(in);
	return rc;
}

/* --- all of it ----------------------------------------------------------------------------- */

void ckpt_wire_put_manifest(struct ckpt_buf *out, const struct ckpt_manifest *manifest)
{
	put_head(out, &manifest->head);
	put_entries(out, manifest);
	ckpt_wire_put_u64(out, manifest->tensor_count);
	for (size_t i = 0; i < manifest->tensor_count; i++)
		put_tensor(out, &manifest->tensors[i]);
	ckpt_wire_put_u64(out, manifest->bytes_entry_count);
	for (size_t i = 0; i < manifest->bytes_entry_count; i++)
		put_bytes(out, &manifest->bytes_entries[i]);
}

static int take_manifest(struct ckpt_wire *in, struct ckpt_manifest *out)
{
	int rc = take_head(in, &out->head);

	if (rc == 0)
		rc = take_entries(in, out);
	if (rc == 0)
		rc = take_array(in, 5 * sizeof(uint64_t), sizeof(*out->tensors), &out->tensors,
				&out->tensor_count);
	for (size_t i = 0; rc == 0 && i < out->tensor_count; i++)
		rc = take_tensor(in, &out->tensors[i]);
	if (rc == 0)
		rc = take_array(in, 5 * sizeof(uint64_t), sizeof(*out->bytes_entries),
				&out->bytes_entries, &out->bytes_entry_count);
	for (size_t i = 0; rc == 0 && i < out->bytes_entry_count; i++)
		rc = take_bytes(in, &out->bytes_entries[i]);
	return rc < 0 ? rc : ckpt_wire_end(in);
}

int ckpt_wire_manifest(const struct ckpt_buf *from, struct ckpt_manifest *out)
{
	struct ckpt_manifest manifest = { .dirs = NULL };
	struct ckpt_wire in = ckpt_wire_over(from);
	int rc = take_manifest(&in, &manifest);

	if (rc < 0) {
		ckpt_manifest_release(&manifest);
		return rc;
	}
	*out = manifest;
	return 0;
}
