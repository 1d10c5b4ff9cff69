/*
 * view_grid.c - which box of a tensor holds an element. Boxes are cut apart along planes that none
 * of them crosses, axis after axis, as a mesh of ranks cut them in the first place: a search is one
 * binary search for each cut. What no plane takes apart is searched box by box.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "view/view_internal.h"

/* Boxes that still have to be cut apart, and who shall refer to them. */
struct job {
	size_t first;
	size_t count;
	uint32_t axis; /* to be tried first */
	size_t cut;    /* whose ref is to be set; NO_CUT: the root's */
};

#define NO_CUT SIZE_MAX

struct building {
	struct view_grid *grid;
	uint32_t dim_count;
	struct job *jobs;
	size_t job_count, job_cap;
	uint32_t root;
};

static int compare_starts(const void *a, const void *b, void *axis)
{
	uint64_t x = ((const struct view_box *)a)->start[*(const uint32_t *)axis];
	uint64_t y = ((const struct view_box *)b)->start[*(const uint32_t *)axis];

	return (x > y) - (x < y);
}

static void sort_along(struct view_box *boxes, size_t count, uint32_t axis)
{
	for (size_t i = 1; i < count; i++) {
		if (boxes[i - 1].start[axis] > boxes[i].start[axis]) {
			qsort_r(boxes, count, sizeof(*boxes), compare_starts, &axis);
			return;
		}
	}
}

static uint64_t end_along(const struct view_box *box, uint32_t axis)
{
	return box->start[axis] + box->size[axis];
}

/* How many groups a cut along @axis gives; the boxes are in order along it then. */
static size_t count_groups(struct view_box *boxes, size_t count, uint32_t axis)
{
	size_t groups = 1;
	uint64_t end;

	sort_along(boxes, count, axis);
	end = end_along(&boxes[0], axis);
	for (size_t i = 1; i < count; i++) {
		groups += boxes[i].start[axis] >= end;
		end = num_max(end, end_along(&boxes[i], axis));
	}
	return groups;
}

/* One box needs no node. */
static int put_job(struct building *it, const struct job *job, uint32_t *out_ref)
{
	int rc;

	if (job->count == 1) {
		*out_ref = VIEW_REF_BOX | (uint32_t)job->first;
		return 0;
	}
	rc = array_grow(&it->jobs, &it->job_cap, it->job_count, sizeof(*it->jobs));
	if (rc == 0)
		it->jobs[it->job_count++] = *job;
	return rc;
}

static int put_cut(struct building *it, const struct job *group)
{
	struct view_grid *grid = it->grid;
	struct job job = *group;
	int rc = array_grow(&grid->cuts, &grid->cut_cap, grid->cut_count, sizeof(*grid->cuts));

	if (rc < 0)
		return rc;
	job.cut = grid->cut_count;
	grid->cuts[grid->cut_count++] = (struct view_cut){
		.start =
			grid->boxes[job.first].start[(job.axis + it->dim_count - 1) % it->dim_count]
	};
	return put_job(it, &job, &grid->cuts[job.cut].ref);
}

/* A cut for each group of @job along @axis. */
static int put_cuts(struct building *it, const struct job *job, uint32_t axis)
{
	const struct view_box *boxes = it->grid->boxes + job->first;
	struct job group = { .first = job->first, .axis = (axis + 1) % it->dim_count };
	uint64_t end = end_along(&boxes[0], axis);
	int rc = 0;

	for (size_t i = 1; i < job->count && rc == 0; i++) {
		if (boxes[i].start[axis] >= end) {
			group.count = job->first + i - group.first;
			rc = put_cut(it, &group);
			group.first = job->first + i;
		}
		end = num_max(end, end_along(&boxes[i], axis));
	}
	group.count = job->first + job->count - group.first;
	return rc == 0 ? put_cut(it, &group) : rc;
}

static int put_node(struct building *it, const struct job *job)
{
	struct view_grid *grid = it->grid;
	struct view_box *boxes = grid->boxes + job->first;
	struct view_node node = { .axis = VIEW_AXIS_LIST };
	uint32_t ref = (uint32_t)grid->node_count;
	size_t groups = 1;
	int rc = array_grow(&grid->nodes, &grid->node_cap, grid->node_count, sizeof(*grid->nodes));

	if (rc < 0)
		return rc;
	for (uint32_t tried = 0; tried < it->dim_count && groups == 1; tried++) {
		node.axis = (job->axis + tried) % it->dim_count;
		groups = count_groups(boxes, job->count, node.axis);
	}
	if (groups == 1)
		node = (struct view_node){ VIEW_AXIS_LIST, (uint32_t)job->count, job->first };
	else
		node = (struct view_node){ node.axis, (uint32_t)groups, grid->cut_count };
	grid->nodes[grid->node_count++] = node;
	if (job->cut == NO_CUT)
		it->root = ref;
	else
		grid->cuts[job->cut].ref = ref;
	return groups == 1 ? 0 : put_cuts(it, job, node.axis);
}

int ckpt_view_grid_build(struct view_grid *grid, size_t first, uint32_t dim_count,
			 uint32_t *out_ref)
{
	struct building it = { .grid = grid, .dim_count = dim_count };
	const struct job all = { .first = first, .count = grid->box_count - first, .cut = NO_CUT };
	int rc;

	assert(all.count > 0 && grid->box_count < VIEW_REF_BOX);
	rc = put_job(&it, &all, &it.root);
	while (rc == 0 && it.job_count > 0) {
		const struct job job = it.jobs[--it.job_count];

		rc = put_node(&it, &job);
	}
	free(it.jobs);
	*out_ref = it.root;
	return rc;
}

void ckpt_view_grid_release(struct view_grid *grid)
{
	free(grid->boxes);
	free(grid->nodes);
	free(grid->cuts);
}

/* --- finding -------------------------------------------------------------------------------- */

static bool holds(const struct view_box *box, uint32_t dim_count, const uint64_t *at)
{
	for (uint32_t d = 0; d < dim_count; d++) {
		if (at[d] < box->start[d] || at[d] - box->start[d] >= box->size[d])
			return false;
	}
	return true;
}

/* The last cut that does not begin behind @at. */
static uint32_t follow_cut(const struct view_cut *cuts, uint32_t count, uint64_t at)
{
	uint32_t low = 0;
	uint32_t high = count;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (at < cuts[middle].start)
			high = middle;
		else
			low = middle;
	}
	return cuts[low].ref;
}

static const struct view_box *search_list(const struct view_box *boxes, uint32_t count,
					  uint32_t dim_count, const uint64_t *at)
{
	uint32_t i = 0;

	while (i + 1 < count && !holds(&boxes[i], dim_count, at))
		i++;
	return &boxes[i];
}

const struct view_box *ckpt_view_grid_find(const struct view_grid *grid, uint32_t ref,
					   uint32_t dim_count, const uint64_t *at)
{
	while (!(ref & VIEW_REF_BOX)) {
		const struct view_node *node = &grid->nodes[ref];

		if (node->axis == VIEW_AXIS_LIST)
			return search_list(grid->boxes + node->first, node->count, dim_count, at);
		ref = follow_cut(grid->cuts + node->first, node->count, at[node->axis]);
	}
	return &grid->boxes[ref & ~VIEW_REF_BOX];
}
