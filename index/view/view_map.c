/*
 * view_map.c - which bytes of which sources make up a range of a view; see view.h. Nothing here
 * fails, waits or allocates.
 */
#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "view/view_internal.h"

/* Where pieces go. */
struct filling {
	struct ckpt_view_piece *pieces;
	size_t max;
	size_t count;
};

/* False: no room. What goes on where the last piece ended makes it longer. */
static bool put(struct filling *out, const struct ckpt_view_piece *piece)
{
	struct ckpt_view_piece *last = out->count > 0 ? &out->pieces[out->count - 1] : NULL;

	if (last && !last->memory && last->source == piece->source && last->run_count == 1 &&
	    piece->run_count == 1 && last->offset_bytes + last->run_bytes == piece->offset_bytes) {
		last->run_bytes += piece->run_bytes;
		last->stride_bytes = last->run_bytes;
		return true;
	}
	if (out->count == out->max)
		return false;
	out->pieces[out->count++] = *piece;
	return true;
}

/* Element @at of the tensor, in @box: where it lies, in elements, behind the box's first. */
static uint64_t element_in_source(const struct view_box *box, uint32_t dim_count,
				  const uint64_t *at)
{
	uint64_t where = 0;

	for (uint32_t d = 0; d < dim_count; d++) {
		uint64_t local = at[d] - box->start[d];

		where = box->stride ? where + local * box->stride[d] : where * box->size[d] + local;
	}
	return where;
}

/* … and the how-manieth it is of those that follow each other in the view. */
static uint64_t element_in_stretch(const struct view_box *box, uint32_t dim_count,
				   const uint64_t *at)
{
	uint64_t where = 0;

	for (uint32_t d = box->axis; d < dim_count; d++)
		where = where * box->size[d] + at[d] - box->start[d];
	return where;
}

/* The piece that begins with byte @skip of element @at, at most @len bytes; returns its bytes. */
static uint64_t make_piece(const struct view_extent *extent, const struct view_box *box,
			   const uint64_t *at, uint64_t skip, uint64_t len,
			   struct ckpt_view_piece *out)
{
	uint64_t element_bytes = extent->element_bytes;
	uint64_t run_bytes = box->run * element_bytes;
	uint64_t in_stretch = element_in_stretch(box, extent->dim_count, at);
	uint64_t in_run = in_stretch % box->run;
	uint64_t runs = 1;

	if (in_run == 0 && skip == 0 && box->run_count > 1)
		runs = num_min(box->run_count - in_stretch / box->run % box->run_count,
			       len / run_bytes);
	if (runs <= 1) {
		runs = 1;
		run_bytes = num_min((box->run - in_run) * element_bytes - skip, len);
	}
	*out = (struct ckpt_view_piece){
		.source = box->source,
		.offset_bytes = box->offset_bytes +
				element_in_source(box, extent->dim_count, at) * element_bytes +
				skip,
		.run_bytes = run_bytes,
		.run_count = runs,
		.stride_bytes = runs > 1 ? box->run_stride * element_bytes : run_bytes,
	};
	return runs * run_bytes;
}

/* Element number @element as an index along each axis. */
static void find_element(const struct view_extent *extent, uint64_t element, uint64_t *out)
{
	for (uint32_t d = extent->dim_count; d-- > 0;) {
		if (d == 0) {
			out[d] = element;
		} else {
			out[d] = element % extent->shape[d];
			element /= extent->shape[d];
		}
	}
}

/* Bytes [@offset, @offset + @len) of one tensor; returns how many had room. */
static uint64_t map_extent(const struct ckpt_view_file *file, const struct view_extent *extent,
			   uint64_t offset, uint64_t len, struct filling *out)
{
	uint64_t at[CKPT_DIM_MAX];
	uint64_t done = 0;

	while (done < len) {
		uint64_t from = offset + done;
		struct ckpt_view_piece piece;
		const struct view_box *box;
		uint64_t bytes;

		find_element(extent, from / extent->element_bytes, at);
		box = ckpt_view_grid_find(&file->grid, extent->ref, extent->dim_count, at);
		bytes = make_piece(extent, box, at, from % extent->element_bytes, len - done,
				   &piece);
		if (!put(out, &piece))
			break;
		done += bytes;
	}
	return done;
}

/* The extent that holds byte @offset, which is behind the header and before the end. */
static const struct view_extent *find_extent(const struct ckpt_view_file *file, uint64_t offset)
{
	size_t low = 0;
	size_t high = file->extent_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (offset < file->extents[middle].start_bytes)
			high = middle;
		else
			low = middle;
	}
	return &file->extents[low];
}

static uint64_t map_extents(const struct ckpt_view_file *file, uint64_t offset, uint64_t len,
			    struct filling *out)
{
	const struct view_extent *extent = find_extent(file, offset);
	uint64_t done = 0;

	for (; done < len; extent++) {
		uint64_t from = offset + done;
		uint64_t wanted = num_min(len - done, extent->end_bytes - from);
		uint64_t got;

		assert(from >= extent->start_bytes && from < extent->end_bytes);
		got = map_extent(file, extent, from - extent->start_bytes, wanted, out);
		done += got;
		if (got < wanted)
			break;
	}
	return done;
}

size_t ckpt_view_map(const struct ckpt_view_file *file, uint64_t offset, size_t len_bytes,
		     struct ckpt_view_piece *pieces, size_t piece_max, size_t *out_count)
{
	struct filling out = { .pieces = pieces, .max = piece_max };
	size_t done = 0;

	*out_count = 0;
	if (offset >= file->size_bytes || piece_max == 0 || len_bytes == 0)
		return 0;
	len_bytes = (size_t)num_min(len_bytes, file->size_bytes - offset);
	if (offset < file->header.len_bytes) {
		done = (size_t)num_min(len_bytes, file->header.len_bytes - offset);
		pieces[out.count++] =
			(struct ckpt_view_piece){ .memory = file->header.data + offset,
						  .source = CKPT_VIEW_NONE,
						  .run_bytes = done,
						  .run_count = 1,
						  .stride_bytes = done };
	}
	if (done < len_bytes)
		done += (size_t)map_extents(file, offset + done, len_bytes - done, &out);
	*out_count = out.count;
	return done;
}
