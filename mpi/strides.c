/* strides.c - see strides.h. */
#include "strides.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/num.h"

int ckpt_strides_check(const struct ckpt_strided *box, struct ckpt_err *err)
{
	uint64_t reach = 1; /* elements from the first to the last */
	bool fits = true;

	for (uint32_t d = 0; box->strides && d < box->dim_count && fits; d++) {
		uint64_t step;

		fits = num_mul(box->size[d] - (box->size[d] > 0), box->strides[d], &step) &&
		       num_add(reach, step, &reach);
	}
	fits = fits && num_mul(reach, box->element_bytes, &reach) && reach <= PTRDIFF_MAX;
	return fits ? 0
		    : ckpt_err_set(
			      err, -EOVERFLOW,
			      "its strides lead further than memory reaches; they count elements, one a dimension");
}

bool ckpt_strides_are_dense(const struct ckpt_strided *box)
{
	uint64_t dense = 1;

	for (uint32_t d = box->dim_count; box->strides && d > 0; d--) {
		/* Along an extent of one there is no step. */
		if (box->size[d - 1] != 1 && box->strides[d - 1] != dense)
			return false;
		dense *= box->size[d - 1];
	}
	return true;
}

void ckpt_strides_tight(const struct ckpt_strided *box, uint64_t *out)
{
	uint32_t order[CKPT_DIM_MAX]; /* dimensions, the slowest in memory first */
	uint64_t stride = 1;

	for (uint32_t d = 0; d < box->dim_count; d++) {
		uint32_t at = d;

		for (; at > 0 && box->strides[order[at - 1]] < box->strides[d]; at--)
			order[at] = order[at - 1];
		order[at] = d;
	}
	for (uint32_t i = box->dim_count; i > 0; i--) {
		out[order[i - 1]] = stride;
		stride *= box->size[order[i - 1]];
	}
}

/* --- copying -------------------------------------------------------------------------------- */

/* One loop of runs; always inlined, so that a constant @bytes makes each copy one move. */
static inline __attribute__((always_inline)) void
copy_each(unsigned char *to, const unsigned char *from, const struct ckpt_copy *copy, size_t bytes)
{
	uint32_t d = copy->dim_count - 1;

	for (uint64_t i = 0; i < copy->count[d]; i++)
		memcpy(to + i * copy->to_stride[d], from + i * copy->from_stride[d], bytes);
}

static void copy_row(unsigned char *to, const unsigned char *from, const struct ckpt_copy *copy)
{
	switch (copy->run_bytes) {
	case 1:
		copy_each(to, from, copy, 1);
		return;
	case 2:
		copy_each(to, from, copy, 2);
		return;
	case 4:
		copy_each(to, from, copy, 4);
		return;
	case 8:
		copy_each(to, from, copy, 8);
		return;
	case 16:
		copy_each(to, from, copy, 16);
		return;
	default:
		copy_each(to, from, copy, copy->run_bytes);
	}
}

/* All runs, in the order of the loops. */
static void copy_all(const struct ckpt_copy *copy, const unsigned char *from, unsigned char *to)
{
	uint64_t at[CKPT_DIM_MAX] = { 0 };
	uint32_t outer = copy->dim_count - 1;

	if (copy->dim_count == 0) {
		memcpy(to, from, copy->run_bytes);
		return;
	}
	for (;;) {
		uint32_t d = outer;

		copy_row(to, from, copy);
		for (; d > 0; d--) {
			from += copy->from_stride[d - 1];
			to += copy->to_stride[d - 1];
			if (++at[d - 1] < copy->count[d - 1])
				break;
			at[d - 1] = 0;
			from -= copy->from_stride[d - 1] * copy->count[d - 1];
			to -= copy->to_stride[d - 1] * copy->count[d - 1];
		}
		if (d == 0)
			return;
	}
}

void ckpt_strides_copy(const struct ckpt_strided *box, const uint64_t *out_strides, void *out)
{
	const struct ckpt_copy_spec spec = {
		.size = box->size,
		.from_stride = box->strides,
		.to_stride = out_strides,
		.dim_count = box->dim_count,
		.element_bytes = box->element_bytes,
	};
	struct ckpt_copy copy;

	ckpt_copy_plan(&spec, &copy);
	copy_all(&copy, box->data, out);
}

/* --- slabs ---------------------------------------------------------------------------------- */

/*
 * A slab has all of its trailing dimensions, some of one, and one of each before that: whole lines
 * of the cache are used also where the order in memory is another one.
 */
void ckpt_slab_at(const struct ckpt_strided *box, uint64_t offset, uint64_t room,
		  struct ckpt_slab *out)
{
	uint64_t most = room / box->element_bytes;
	uint64_t at = offset / box->element_bytes;
	uint64_t volume = 1; /* of the trailing dimensions */
	uint32_t cut = box->dim_count;

	assert(most > 0);
	while (cut > 0 && box->size[cut - 1] <= most / volume)
		volume *= box->size[--cut];
	out->len = volume;
	for (uint32_t d = cut; d < box->dim_count; d++) {
		out->first[d] = 0;
		out->size[d] = box->size[d];
	}
	out->offset = at - at % volume;
	at /= volume;
	for (uint32_t d = cut; d > 0; d--) {
		uint64_t thick = d == cut ? most / volume : 1;
		uint64_t idx = at % box->size[d - 1];

		at /= box->size[d - 1];
		out->first[d - 1] = idx - idx % thick;
		out->size[d - 1] = num_min(thick, box->size[d - 1] - out->first[d - 1]);
		if (d == cut) {
			out->offset -= idx % thick * volume;
			out->len *= out->size[d - 1];
		}
	}
	out->offset *= box->element_bytes;
	out->len *= box->element_bytes;
}

void ckpt_slab_gather(const struct ckpt_strided *box, const struct ckpt_slab *slab, void *out)
{
	uint64_t dense[CKPT_DIM_MAX];
	struct ckpt_strided part = *box;

	part.size = slab->size;
	for (uint32_t d = 0; d < box->dim_count; d++)
		part.data += slab->first[d] * box->strides[d] * box->element_bytes;
	ckpt_box_strides(slab->size, box->dim_count, dense);
	ckpt_strides_copy(&part, dense, out);
}
