/* box_fill.c - see box_fill.h. */
#include "box_fill.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/format.h"

/*
 * Shards that are open at a time, each with its last partly used block: a tensor that was cut in
 * columns is read from all its shards in turn.
 */
#define OPEN_MAX 64
/* How much is read between two calls of ->moved. */
#define MOVED_BYTES (UINT64_C(1) << 20)

/* An open shard, the block of it that was read last, and when it was asked for. */
struct open_shard {
	const struct ckpt_shard *shard; /* NULL: a free place */
	struct ckpt_shard_reader *reader;
	unsigned char *block;
	uint64_t block_idx;
	bool has_block;
	uint64_t used;
};

struct ckpt_fill {
	struct ckpt_fill_from from;
	struct open_shard open[OPEN_MAX];
	uint64_t clock;
	uint64_t moved; /* bytes that ->moved has not been told of yet */
};

struct ckpt_fill *ckpt_fill_new(const struct ckpt_fill_from *from)
{
	struct ckpt_fill *fill = array_alloc(1, sizeof(*fill));

	if (fill)
		fill->from = *from;
	return fill;
}

static void close_shard(struct open_shard *place)
{
	ckpt_shard_reader_free(place->reader);
	free(place->block);
	*place = (struct open_shard){ .shard = NULL };
}

void ckpt_fill_free(struct ckpt_fill *fill)
{
	for (size_t i = 0; fill && i < OPEN_MAX; i++)
		close_shard(&fill->open[i]);
	free(fill);
}

/* The open shard @path; the one that was not asked for longest makes room for it. */
static int open_of(struct ckpt_fill *fill, const char *path, struct open_shard **out,
		   struct ckpt_err *err)
{
	const struct ckpt_shard *shard = ckpt_manifest_find_shard(fill->from.manifest, path);
	struct open_shard *place = &fill->open[0];
	int rc;

	assert(shard); /* the manifest's reader has checked it */
	for (size_t i = 0; i < OPEN_MAX; i++) {
		struct open_shard *it = &fill->open[i];

		if (it->shard == shard) {
			it->used = ++fill->clock;
			*out = it;
			return 0;
		}
		if (it->used < place->used)
			place = it;
	}
	close_shard(place);
	rc = ckpt_shard_reader_open(fill->from.dirfd, fill->from.label, shard, &place->reader, err);
	if (rc < 0)
		return rc;
	place->shard = shard;
	place->used = ++fill->clock;
	*out = place;
	return 0;
}

static int tell_moved(struct ckpt_fill *fill, struct ckpt_err *err)
{
	uint64_t bytes = fill->moved;

	fill->moved = 0;
	return fill->from.moved(fill->from.ctx, bytes, err);
}

static int note_moved(struct ckpt_fill *fill, uint64_t bytes, struct ckpt_err *err)
{
	fill->moved += bytes;
	return fill->moved < MOVED_BYTES ? 0 : tell_moved(fill, err);
}

static int too_short(const struct ckpt_fill *fill, const struct ckpt_shard *shard,
		     struct ckpt_err *err)
{
	return ckpt_err_set(err, -ESTALE,
			    "shard '%s/%s' ends before what is stored in it does; restore it from "
			    "a copy, then run 'ckptfs verify %s'",
			    fill->from.label, shard->path, fill->from.label);
}

/* --- runs of bytes of one shard ------------------------------------------------------------- */

/* Have the block of byte @from; *@out_end: the first byte of the shard that is not in it. */
static int have_block(struct ckpt_fill *fill, struct open_shard *place, uint64_t from,
		      uint64_t *out_end, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = place->shard;
	uint64_t idx = from / shard->block_bytes;
	size_t len;
	int rc;

	if (from >= shard->size_bytes)
		return too_short(fill, shard, err);
	*out_end = num_min(shard->size_bytes, (idx + 1) * shard->block_bytes);
	if (place->has_block && place->block_idx == idx)
		return 0;
	if (!place->block)
		place->block = malloc(num_min(shard->block_bytes, shard->size_bytes));
	if (!place->block)
		return ckpt_err_sys(err, -ENOMEM, "cannot read shard '%s/%s'", fill->from.label,
				    shard->path);
	place->has_block = false;
	rc = ckpt_shard_reader_block(place->reader, idx, place->block, &len, NULL, err);
	if (rc < 0)
		return rc;
	place->block_idx = idx;
	place->has_block = true;
	return 0;
}

/* @len bytes at @from to one place: whole blocks without a copy. */
static int copy_run(struct ckpt_fill *fill, struct open_shard *place, uint64_t from, uint64_t len,
		    unsigned char *to, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = place->shard;
	int rc = 0;

	while (rc == 0 && len > 0) {
		uint64_t skip = from % shard->block_bytes;
		size_t got;

		if (skip == 0 && from < shard->size_bytes &&
		    len >= num_min(shard->block_bytes, shard->size_bytes - from)) {
			rc = ckpt_shard_reader_block(place->reader, from / shard->block_bytes, to,
						     &got, NULL, err);
		} else {
			uint64_t end = 0;

			rc = have_block(fill, place, from, &end, err);
			got = num_min(len, end - from);
			if (rc == 0)
				memcpy(to, place->block + skip, got);
		}
		if (rc < 0)
			return rc;
		rc = note_moved(fill, got, err);
		from += got;
		to += got;
		len -= got;
	}
	return rc;
}

/* Always inlined, so that a constant @bytes makes each copy one move. */
static inline __attribute__((always_inline)) void copy_each(unsigned char *to,
							    const unsigned char *from,
							    const struct ckpt_copy *runs,
							    uint64_t count, size_t bytes)
{
	uint32_t d = runs->dim_count - 1;

	for (uint64_t i = 0; i < count; i++)
		memcpy(to + i * runs->to_stride[d], from + i * runs->from_stride[d], bytes);
}

/* @count runs of the innermost loop, all in memory. */
static void copy_small(unsigned char *to, const unsigned char *from, const struct ckpt_copy *runs,
		       uint64_t count)
{
	switch (runs->run_bytes) {
	case 1:
		copy_each(to, from, runs, count, 1);
		return;
	case 2:
		copy_each(to, from, runs, count, 2);
		return;
	case 4:
		copy_each(to, from, runs, count, 4);
		return;
	case 8:
		copy_each(to, from, runs, count, 8);
		return;
	case 16:
		copy_each(to, from, runs, count, 16);
		return;
	default:
		copy_each(to, from, runs, count, runs->run_bytes);
	}
}

/* How many runs, @step apart, lie whole in the @room bytes from the first one's beginning on? */
static uint64_t runs_within(uint64_t room, uint64_t run_bytes, uint64_t step)
{
	if (room < run_bytes)
		return 0;
	return step == 0 ? UINT64_MAX : (room - run_bytes) / step + 1;
}

/* The innermost loop of @runs, block after block. */
static int copy_row(struct ckpt_fill *fill, struct open_shard *place, const struct ckpt_copy *runs,
		    uint64_t from, unsigned char *to, struct ckpt_err *err)
{
	uint64_t count = runs->dim_count > 0 ? runs->count[runs->dim_count - 1] : 1;
	uint64_t from_step = runs->dim_count > 0 ? runs->from_stride[runs->dim_count - 1] : 0;
	uint64_t to_step = runs->dim_count > 0 ? runs->to_stride[runs->dim_count - 1] : 0;
	uint64_t done = 0;

	while (done < count) {
		uint64_t at = from + done * from_step;
		uint64_t within = 0;
		uint64_t end = 0;
		int rc = 0;

		if (count > 1 && runs->run_bytes < place->shard->block_bytes) {
			rc = have_block(fill, place, at, &end, err);
			within = rc < 0 ? 0 : runs_within(end - at, runs->run_bytes, from_step);
		}
		within = num_min(within, count - done);
		if (within > 0) {
			copy_small(to + done * to_step,
				   place->block + at % place->shard->block_bytes, runs, within);
			rc = note_moved(fill, within * runs->run_bytes, err);
		} else if (rc == 0) {
			within = 1;
			rc = copy_run(fill, place, at, runs->run_bytes, to + done * to_step, err);
		}
		if (rc < 0)
			return rc;
		done += within;
	}
	return 0;
}

/* All runs, from byte @from of the shard on, in ascending order there. */
static int copy_runs(struct ckpt_fill *fill, struct open_shard *place, const struct ckpt_copy *runs,
		     uint64_t from, unsigned char *to, struct ckpt_err *err)
{
	uint64_t at[CKPT_DIM_MAX] = { 0 };
	int rc = copy_row(fill, place, runs, from, to, err);

	while (rc == 0) {
		uint32_t d = runs->dim_count > 0 ? runs->dim_count - 1 : 0;

		/* The next step of the loops around the innermost one, as an odometer makes it. */
		for (; d > 0; d--) {
			from += runs->from_stride[d - 1];
			to += runs->to_stride[d - 1];
			if (++at[d - 1] < runs->count[d - 1])
				break;
			at[d - 1] = 0;
			from -= runs->from_stride[d - 1] * runs->count[d - 1];
			to -= runs->to_stride[d - 1] * runs->count[d - 1];
		}
		if (d == 0)
			return 0;
		rc = copy_row(fill, place, runs, from, to, err);
	}
	return rc;
}

/* --- boxes ------------------------------------------------------------------------------------ */

/* Byte offset of element @at in a layout that begins at element @origin. */
static uint64_t offset_of(const uint64_t *at, const uint64_t *origin, const uint64_t *stride,
			  const struct ckpt_tensor *tensor)
{
	uint64_t elements = 0;

	for (uint32_t d = 0; d < tensor->dim_count; d++)
		elements += (at[d] - origin[d]) * stride[d];
	return elements * ckpt_dtype_size(tensor->dtype);
}

/* The part of a chunk that lies in the wanted box. */
struct part {
	const struct ckpt_tensor *tensor;
	const struct ckpt_chunk *chunk;
	const struct ckpt_box *box; /* that is wanted */
	const struct ckpt_fill_to *to;
	struct ckpt_box common;
};

static int copy_part(struct ckpt_fill *fill, const struct part *part, struct ckpt_err *err)
{
	const struct ckpt_chunk *chunk = part->chunk;
	const struct ckpt_tensor *tensor = part->tensor;
	uint64_t from_dense[CKPT_DIM_MAX];
	uint64_t to_dense[CKPT_DIM_MAX];
	const struct ckpt_copy_spec spec = {
		.size = part->common.size,
		.from_stride = chunk->stride ? chunk->stride : from_dense,
		.to_stride = part->to->strides ? part->to->strides : to_dense,
		.dim_count = tensor->dim_count,
		.element_bytes = ckpt_dtype_size(tensor->dtype),
	};
	struct ckpt_copy runs;
	struct open_shard *place;
	int rc = open_of(fill, chunk->shard, &place, err);

	if (rc < 0)
		return rc;
	ckpt_box_strides(chunk->size, tensor->dim_count, from_dense);
	ckpt_box_strides(part->box->size, tensor->dim_count, to_dense);
	ckpt_copy_plan(&spec, &runs);
	return copy_runs(fill, place, &runs,
			 chunk->offset_bytes + offset_of(part->common.start, chunk->start,
							 spec.from_stride, tensor),
			 part->to->data + offset_of(part->common.start, part->box->start,
						    spec.to_stride, tensor),
			 err);
}

int ckpt_fill_box(struct ckpt_fill *fill, const struct ckpt_tensor *tensor,
		  const struct ckpt_box *box, const struct ckpt_fill_to *to, struct ckpt_err *err)
{
	uint64_t start[CKPT_DIM_MAX];
	uint64_t size[CKPT_DIM_MAX];
	struct part part = {
		.tensor = tensor,
		.box = box,
		.to = to,
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
			rc = copy_part(fill, &part, err);
		}
		have += volume;
	}
	if (rc == 0 && have != want)
		return ckpt_err_set(
			err, -EBADMSG,
			"chunks of tensor '%s' in '%s' do not cover it exactly: %llu of %llu elements found; its writer left it so, save it again",
			tensor->fqn, fill->from.label, (unsigned long long)have,
			(unsigned long long)want);
	return rc < 0 ? rc : tell_moved(fill, err);
}

int ckpt_fill_blob(struct ckpt_fill *fill, const struct ckpt_bytes_entry *blob, uint64_t offset,
		   uint64_t len, void *out, struct ckpt_err *err)
{
	struct open_shard *place;
	int rc = open_of(fill, blob->shard, &place, err);

	assert(offset <= blob->size_bytes && len <= blob->size_bytes - offset);
	if (rc == 0)
		rc = copy_run(fill, place, blob->offset_bytes + offset, len, out, err);
	return rc < 0 ? rc : tell_moved(fill, err);
}
