/* cover.c - see cover.h. */
#include "base/cover.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* --- words --------------------------------------------------------------------------------- */

static void add(char *out, const char *fmt, ...) CKPT_PRINTF(2, 3);

/* What does not fit is cut, and "..." says so. */
static void add(char *out, const char *fmt, ...)
{
	size_t used = strlen(out);
	size_t room = CKPT_BOX_TEXT_MAX - used;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(out + used, room, fmt, args);
	va_end(args);
	if (len < 0 || (size_t)len >= room)
		memcpy(out + CKPT_BOX_TEXT_MAX - 4, "...", 4);
}

const char *ckpt_box_text(const struct ckpt_box *box, uint32_t dim_count, char *out)
{
	out[0] = '\0';
	if (dim_count == 0)
		add(out, "[]");
	for (uint32_t d = 0; d < dim_count; d++)
		add(out, "%s[%" PRIu64 "..%" PRIu64 ")", d ? "x" : "", box->start[d],
		    box->start[d] + box->size[d]);
	return out;
}

const char *ckpt_extents_text(const uint64_t *extents, uint32_t dim_count, char *out)
{
	out[0] = '\0';
	add(out, "[");
	for (uint32_t d = 0; d < dim_count; d++)
		add(out, "%s%" PRIu64, d ? ", " : "", extents[d]);
	add(out, "]");
	return out;
}

void ckpt_extents_json(const uint64_t *extents, uint32_t dim_count, struct ckpt_buf *out)
{
	ckpt_buf_add_char(out, '[');
	for (uint32_t d = 0; d < dim_count; d++)
		ckpt_buf_printf(out, "%s%" PRIu64, d > 0 ? "," : "", extents[d]);
	ckpt_buf_add_char(out, ']');
}

/* --- overlaps ------------------------------------------------------------------------------ */

/* Boxes [first, first + count), to be taken apart along @axis, or the ones behind it. */
struct group {
	size_t first;
	size_t count;
	uint32_t axis;
};

struct cutting {
	const struct ckpt_parts *parts;
	struct group *groups; /* still to be taken apart */
	size_t group_count, group_cap;
};

static int compare_starts(const void *a, const void *b, void *axis)
{
	uint64_t x = ((const struct ckpt_part *)a)->box.start[*(const uint32_t *)axis];
	uint64_t y = ((const struct ckpt_part *)b)->box.start[*(const uint32_t *)axis];

	return (x > y) - (x < y);
}

static void sort_along(struct ckpt_part *items, size_t count, uint32_t axis)
{
	for (size_t i = 1; i < count; i++) {
		if (items[i - 1].box.start[axis] > items[i].box.start[axis]) {
			qsort_r(items, count, sizeof(*items), compare_starts, &axis);
			return;
		}
	}
}

static uint64_t end_along(const struct ckpt_part *part, uint32_t axis)
{
	return part->box.start[axis] + part->box.size[axis];
}

/* A box by itself can overlap nothing. */
static int put_group(struct cutting *it, size_t first, size_t count, uint32_t axis)
{
	int rc;

	if (count < 2)
		return 0;
	rc = array_grow(&it->groups, &it->group_cap, it->group_count, sizeof(*it->groups));
	if (rc == 0)
		it->groups[it->group_count++] =
			(struct group){ .first = first, .count = count, .axis = axis };
	return rc;
}

/* Cut a group along one axis wherever no box is in the way. *@out_cut: there was such a place. */
static int cut_along(struct cutting *it, const struct group *group, uint32_t axis, bool *out_cut)
{
	uint32_t next_axis = (axis + 1) % it->parts->dim_count;
	struct ckpt_part *items = it->parts->items + group->first;
	uint64_t end;
	size_t from = 0;
	int rc = 0;

	sort_along(items, group->count, axis);
	end = end_along(&items[0], axis);
	for (size_t i = 1; i < group->count && rc == 0; i++) {
		if (items[i].box.start[axis] >= end) {
			rc = put_group(it, group->first + from, i - from, next_axis);
			from = i;
		}
		end = num_max(end, end_along(&items[i], axis));
	}
	*out_cut = from > 0;
	if (rc == 0 && *out_cut)
		rc = put_group(it, group->first + from, group->count - from, next_axis);
	return rc;
}

/* " of rank 3", where that is known. */
struct holder {
	char text[32];
};

static struct holder holder_of(const struct ckpt_parts *parts, const struct ckpt_part *part)
{
	struct holder holder = { .text = "" };

	if (parts->by_ranks)
		ckpt_ignore(snprintf(holder.text, sizeof(holder.text), " of rank %d", part->rank));
	return holder;
}

static int overlap(const struct ckpt_parts *parts, const struct ckpt_part *a,
		   const struct ckpt_part *b, struct ckpt_err *err)
{
	char a_text[CKPT_BOX_TEXT_MAX];
	char b_text[CKPT_BOX_TEXT_MAX];

	return ckpt_err_set(
		err, -EINVAL,
		"tensor '%s': chunk %s%s and chunk %s%s overlap without being equal; check how it is cut",
		parts->fqn, ckpt_box_text(&a->box, parts->dim_count, a_text),
		holder_of(parts, a).text, ckpt_box_text(&b->box, parts->dim_count, b_text),
		holder_of(parts, b).text);
}

/* What no plane takes apart, in order along @axis. */
static int compare_all(const struct ckpt_parts *parts, const struct group *group, uint32_t axis,
		       struct ckpt_err *err)
{
	const struct ckpt_part *items = parts->items + group->first;
	uint64_t start[CKPT_DIM_MAX];
	uint64_t size[CKPT_DIM_MAX];

	for (size_t i = 0; i < group->count; i++) {
		uint64_t end = end_along(&items[i], axis);

		for (size_t k = i + 1; k < group->count && items[k].box.start[axis] < end; k++) {
			if (ckpt_box_meet(&items[i].box, &items[k].box, parts->dim_count, start,
					  size))
				return overlap(parts, &items[i], &items[k], err);
		}
	}
	return 0;
}

static int take_apart(struct cutting *it, const struct group *group, struct ckpt_err *err)
{
	uint32_t dim_count = it->parts->dim_count;
	uint32_t axis = group->axis;

	for (uint32_t tried = 0; tried < dim_count; tried++) {
		bool was_cut;
		int rc;

		axis = (group->axis + tried) % dim_count;
		rc = cut_along(it, group, axis, &was_cut);
		if (rc < 0 || was_cut)
			return rc;
	}
	return compare_all(it->parts, group, axis, err);
}

/* A list of what is left to do, not recursion: a staircase of boxes would be as deep as it is long. */
static int check_disjoint(const struct ckpt_parts *parts, struct ckpt_err *err)
{
	struct cutting it = { .parts = parts };
	int rc = put_group(&it, 0, parts->count, 0);

	while (rc == 0 && it.group_count > 0) {
		const struct group group = it.groups[--it.group_count];

		rc = take_apart(&it, &group, err);
	}
	free(it.groups);
	return rc;
}

/* --- holes --------------------------------------------------------------------------------- */

/* Is the whole of @region in the boxes, which do not overlap? */
static bool is_full(const struct ckpt_parts *parts, const struct ckpt_box *region)
{
	uint64_t start[CKPT_DIM_MAX];
	uint64_t size[CKPT_DIM_MAX];
	uint64_t left;
	uint64_t common = 0;

	if (ckpt_box_volume(region->size, parts->dim_count, &left) < 0)
		return false;
	for (size_t i = 0; i < parts->count && left > 0; i++) {
		if (ckpt_box_meet(&parts->items[i].box, region, parts->dim_count, start, size) &&
		    ckpt_box_volume(size, parts->dim_count, &common) == 0)
			left -= common;
	}
	return left == 0;
}

/* The first element, in row-major order, that is in no box: halve what holds one, axis by axis. */
static void find_hole(const struct ckpt_parts *parts, uint64_t *out_element)
{
	uint64_t size[CKPT_DIM_MAX];
	const struct ckpt_box region = { .start = out_element, .size = size };

	for (uint32_t d = 0; d < parts->dim_count; d++) {
		out_element[d] = 0;
		size[d] = parts->shape[d];
	}
	for (uint32_t d = 0; d < parts->dim_count; d++) {
		while (size[d] > 1) {
			uint64_t whole = size[d];

			size[d] = whole / 2;
			if (is_full(parts, &region)) {
				out_element[d] += size[d];
				size[d] = whole - size[d];
			}
		}
	}
}

/* The box that ends right before @element along some axis; NULL: none. */
static const struct ckpt_part *find_neighbour(const struct ckpt_parts *parts, uint64_t *element)
{
	uint64_t start[CKPT_DIM_MAX];
	uint64_t size[CKPT_DIM_MAX];
	uint64_t one[CKPT_DIM_MAX];
	const struct ckpt_box region = { .start = element, .size = one };
	const struct ckpt_part *found = NULL;

	for (uint32_t d = 0; d < parts->dim_count; d++)
		one[d] = 1;
	for (uint32_t d = 0; d < parts->dim_count && !found; d++) {
		if (element[d] == 0)
			continue;
		element[d]--;
		for (size_t i = 0; i < parts->count && !found; i++) {
			if (ckpt_box_meet(&parts->items[i].box, &region, parts->dim_count, start,
					  size))
				found = &parts->items[i];
		}
		element[d]++;
	}
	return found;
}

static int report_hole(const struct ckpt_parts *parts, struct ckpt_err *err)
{
	uint64_t element[CKPT_DIM_MAX];
	char shape_text[CKPT_BOX_TEXT_MAX];
	char element_text[CKPT_BOX_TEXT_MAX];
	char box_text[CKPT_BOX_TEXT_MAX];
	const struct ckpt_part *neighbour;
	const char *of_any = parts->by_ranks ? " of any rank" : "";

	find_hole(parts, element);
	neighbour = find_neighbour(parts, element);
	ckpt_extents_text(parts->shape, parts->dim_count, shape_text);
	ckpt_extents_text(element, parts->dim_count, element_text);
	if (!neighbour)
		return ckpt_err_set(
			err, -EINVAL,
			"tensor '%s' of shape %s: element %s is in no chunk%s; check how it is cut",
			parts->fqn, shape_text, element_text, of_any);
	return ckpt_err_set(
		err, -EINVAL,
		"tensor '%s' of shape %s: element %s is in no chunk%s, chunk %s%s ends before it; check how it is cut",
		parts->fqn, shape_text, element_text, of_any,
		ckpt_box_text(&neighbour->box, parts->dim_count, box_text),
		holder_of(parts, neighbour).text);
}

int ckpt_parts_check(const struct ckpt_parts *parts, struct ckpt_err *err)
{
	uint64_t left = 0;
	int rc = check_disjoint(parts, err);

	if (rc == 0)
		rc = ckpt_box_volume(parts->shape, parts->dim_count, &left);
	for (size_t i = 0; i < parts->count && rc == 0; i++) {
		uint64_t volume = 0;

		rc = ckpt_box_volume(parts->items[i].box.size, parts->dim_count, &volume);
		assert(rc < 0 || volume <= left);
		left -= volume;
	}
	if (rc < 0)
		return rc;
	return left == 0 ? 0 : report_hole(parts, err);
}
