/* box.c - see box.h. */
#include "base/box.h"

#include <assert.h>
#include <errno.h>

#include "base/num.h"

int ckpt_box_volume(const uint64_t *size, uint32_t dim_count, uint64_t *out)
{
	uint64_t volume = 1;

	for (uint32_t d = 0; d < dim_count; d++) {
		if (size[d] == 0) {
			*out = 0;
			return 0;
		}
	}
	for (uint32_t d = 0; d < dim_count; d++) {
		if (!num_mul(volume, size[d], &volume))
			return -EOVERFLOW;
	}
	*out = volume;
	return 0;
}

bool ckpt_box_inside(const struct ckpt_box *box, const uint64_t *shape, uint32_t dim_count)
{
	for (uint32_t d = 0; d < dim_count; d++) {
		if (box->size[d] > shape[d] || box->start[d] > shape[d] - box->size[d])
			return false;
	}
	return true;
}

bool ckpt_box_meet(const struct ckpt_box *a, const struct ckpt_box *b, uint32_t dim_count,
		   uint64_t *start, uint64_t *size)
{
	for (uint32_t d = 0; d < dim_count; d++) {
		uint64_t from = num_max(a->start[d], b->start[d]);
		uint64_t to = num_min(a->start[d] + a->size[d], b->start[d] + b->size[d]);

		if (from >= to)
			return false;
		start[d] = from;
		size[d] = to - from;
	}
	return true;
}

void ckpt_box_strides(const uint64_t *size, uint32_t dim_count, uint64_t *out)
{
	uint64_t stride = 1;

	for (uint32_t d = dim_count; d > 0; d--) {
		out[d - 1] = stride;
		stride *= size[d - 1];
	}
}

/* Put dimension (count, from, to) behind those with larger strides on the side that is read. */
static void insert_loop(struct ckpt_copy *copy, uint64_t count, uint64_t from, uint64_t to)
{
	uint32_t at = copy->dim_count++;

	for (; at > 0 && copy->from_stride[at - 1] < from; at--) {
		copy->count[at] = copy->count[at - 1];
		copy->from_stride[at] = copy->from_stride[at - 1];
		copy->to_stride[at] = copy->to_stride[at - 1];
	}
	copy->count[at] = count;
	copy->from_stride[at] = from;
	copy->to_stride[at] = to;
}

/* Two loops that step through one stretch on both sides are one. */
static void merge_loops(struct ckpt_copy *copy)
{
	uint32_t kept = 0;

	for (uint32_t d = 1; d < copy->dim_count; d++) {
		if (copy->from_stride[kept] == copy->from_stride[d] * copy->count[d] &&
		    copy->to_stride[kept] == copy->to_stride[d] * copy->count[d]) {
			copy->count[kept] *= copy->count[d];
		} else {
			kept++;
			copy->count[kept] = copy->count[d];
		}
		copy->from_stride[kept] = copy->from_stride[d];
		copy->to_stride[kept] = copy->to_stride[d];
	}
	copy->dim_count = copy->dim_count > 0 ? kept + 1 : 0;
}

void ckpt_copy_plan(const struct ckpt_copy_spec *spec, struct ckpt_copy *out)
{
	uint32_t last;

	assert(spec->dim_count <= CKPT_DIM_MAX && spec->element_bytes > 0);
	out->dim_count = 0;
	out->run_bytes = spec->element_bytes;
	out->run_count = 1;
	for (uint32_t d = 0; d < spec->dim_count; d++) {
		if (spec->size[d] != 1)
			insert_loop(out, spec->size[d], spec->from_stride[d] * spec->element_bytes,
				    spec->to_stride[d] * spec->element_bytes);
	}
	merge_loops(out);
	last = out->dim_count - 1;
	if (out->dim_count > 0 && out->from_stride[last] == spec->element_bytes &&
	    out->to_stride[last] == spec->element_bytes) {
		out->run_bytes *= out->count[last];
		out->dim_count--;
	}
	for (uint32_t d = 0; d < out->dim_count; d++)
		out->run_count *= out->count[d];
}

void ckpt_copy_run(const struct ckpt_copy *copy, uint64_t idx, uint64_t *out_from, uint64_t *out_to)
{
	uint64_t from = 0;
	uint64_t to = 0;

	assert(idx < copy->run_count);
	for (uint32_t d = copy->dim_count; d > 0; d--) {
		uint64_t step = idx % copy->count[d - 1];

		idx /= copy->count[d - 1];
		from += step * copy->from_stride[d - 1];
		to += step * copy->to_stride[d - 1];
	}
	*out_from = from;
	*out_to = to;
}
