/* box_fill.c - see box_fill.h. */
#include "box_fill.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "format/format.h"

/*
 * Shards that are open at a time; each keeps one block. Pieces of a tensor come from few shards,
 * one after the other.
 */
#define READER_MAX 16

/* An open shard and when it was last asked for. */
struct open_shard {
	const struct ckpt_shard *shard; /* NULL: a free place */
	struct ckpt_shard_reader *reader;
	uint64_t used;
};

struct ckpt_fill {
	int dirfd;
	const char *label;
	const struct ckpt_manifest *manifest;
	struct open_shard open[READER_MAX];
	uint64_t clock;
};

struct ckpt_fill *ckpt_fill_new(int dirfd, const char *label, const struct ckpt_manifest *manifest)
{
	struct ckpt_fill *fill = array_alloc(1, sizeof(*fill));

	if (!fill)
		return NULL;
	fill->dirfd = dirfd;
	fill->label = label;
	fill->manifest = manifest;
	return fill;
}

void ckpt_fill_free(struct ckpt_fill *fill)
{
	for (size_t i = 0; fill && i < READER_MAX; i++)
		ckpt_shard_reader_free(fill->open[i].reader);
	free(fill);
}

/* The open reader of a shard; the one that was not asked for longest makes room for it. */
static int reader_of(struct ckpt_fill *fill, const char *path, struct ckpt_shard_reader **out,
		     struct ckpt_err *err)
{
	const struct ckpt_shard *shard = ckpt_manifest_find_shard(fill->manifest, path);
	struct open_shard *place = &fill->open[0];
	int rc;

	assert(shard); /* the manifest's reader has checked it */
	for (size_t i = 0; i < READER_MAX; i++) {
		struct open_shard *it = &fill->open[i];

		if (it->shard == shard) {
			it->used = ++fill->clock;
			*out = it->reader;
			return 0;
		}
		if (it->used < place->used)
			place = it;
	}
	ckpt_shard_reader_free(place->reader);
	*place = (struct open_shard){ .shard = NULL };
	rc = ckpt_shard_reader_open(fill->dirfd, fill->label, shard, &place->reader, err);
	if (rc < 0)
		return rc;
	place->shard = shard;
	place->used = ++fill->clock;
	*out = place->reader;
	return 0;
}

/* Byte offset of element @at in a layout that begins at element @origin. */
static uint64_t offset_of(const uint64_t *at, const uint64_t *origin, const uint64_t *stride,
			  uint32_t dim_count, uint64_t element_bytes)
{
	uint64_t elements = 0;

	for (uint32_t d = 0; d < dim_count; d++)
		elements += (at[d] - origin[d]) * stride[d];
	return elements * element_bytes;
}

/* The part of a chunk that lies in the wanted box. */
struct part {
	const struct ckpt_tensor *tensor;
	const struct ckpt_chunk *chunk;
	const struct ckpt_box *box; /* that is wanted */
	struct ckpt_box common;
	/* Where its first element is, and the runs from there. */
	uint64_t from; /* in the shard */
	uint64_t to;   /* in the caller's memory */
	struct ckpt_copy runs;
};

static void plan_part(struct part *part)
{
	const struct ckpt_chunk *chunk = part->chunk;
	uint32_t dim_count = part->tensor->dim_count;
	uint64_t dense[CKPT_DIM_MAX];
	uint64_t to_stride[CKPT_DIM_MAX];
	const struct ckpt_copy_spec spec = {
		.size = part->common.size,
		.from_stride = chunk->stride ? chunk->stride : dense,
		.to_stride = to_stride,
		.dim_count = dim_count,
		.element_bytes = ckpt_dtype_size(part->tensor->dtype),
	};

	ckpt_box_strides(chunk->size, dim_count, dense);
	ckpt_box_strides(part->box->size, dim_count, to_stride);
	ckpt_copy_plan(&spec, &part->runs);
	part->from = chunk->offset_bytes + offset_of(part->common.start, chunk->start,
						     spec.from_stride, dim_count,
						     spec.element_bytes);
	part->to = offset_of(part->common.start, part->box->start, to_stride, dim_count,
			     spec.element_bytes);
}

/* @part into @out, which holds the wanted box. */
static int copy_part(struct ckpt_fill *fill, struct part *part, unsigned char *out,
		     struct ckpt_err *err)
{
	struct ckpt_shard_reader *reader;
	int rc = reader_of(fill, part->chunk->shard, &reader, err);

	if (rc < 0)
		return rc;
	plan_part(part);
	for (uint64_t i = 0; i < part->runs.run_count; i++) {
		uint64_t from;
		uint64_t to;
		size_t got = 0;

		ckpt_copy_run(&part->runs, i, &from, &to);
		rc = ckpt_shard_reader_read(reader, part->from + from, part->runs.run_bytes,
					    out + part->to + to, &got, err);
		if (rc == 0 && got != part->runs.run_bytes)
			rc = ckpt_err_set(err, -ESTALE,
					  "shard '%s/%s' ends before its tensor '%s' does",
					  fill->label, part->chunk->shard, part->tensor->fqn);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int ckpt_fill_box(struct ckpt_fill *fill, const struct ckpt_tensor *tensor,
		  const struct ckpt_box *box, void *out, struct ckpt_err *err)
{
	uint64_t start[CKPT_DIM_MAX];
	uint64_t size[CKPT_DIM_MAX];
	struct part part = {
		.tensor = tensor,
		.box = box,
		.common = { .start = start, .size = size },
	};
	uint64_t want;
	uint64_t have = 0;
	int rc = ckpt_box_volume(box->size, tensor->dim_count, &want);

	for (size_t i = 0; i < tensor->chunk_count && rc == 0; i++) {
		const struct ckpt_chunk *chunk = &tensor->chunks[i];
		const struct ckpt_box whole = { .start = chunk->start, .size = chunk->size };
		uint64_t volume = 0;

		if (!ckpt_box_meet(&whole, box, tensor->dim_count, start, size))
			continue;
		rc = ckpt_box_volume(size, tensor->dim_count, &volume);
		if (rc == 0) {
			part.chunk = chunk;
			rc = copy_part(fill, &part, out, err);
		}
		have += volume;
	}
	if (rc == 0 && have != want)
		return ckpt_err_set(
			err, -EBADMSG,
			"chunks of tensor '%s' in '%s' do not cover it exactly: %llu of %llu elements found; its writer left it so, save it again",
			tensor->fqn, fill->label, (unsigned long long)have,
			(unsigned long long)want);
	return rc;
}
