/*
 * view_file.c - one view made ready to be mapped: its header printed, the boxes of its tensors in
 * order. See view.h.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "format/format.h"
#include "format/npy.h"
#include "view/view_internal.h"

static const uint64_t zero = 0;

/* --- boxes ---------------------------------------------------------------------------------- */

/*
 * The runs of a box: how many elements follow each other in the view, how many of these in the
 * source, too, and how many such runs lie a stride apart. Axes are merged from the innermost on.
 */
static void find_runs(struct view_box *box, const uint64_t *shape, uint32_t dim_count)
{
	uint64_t row_major = 1;
	bool running = true;
	bool counting = true;

	box->axis = dim_count > 0 ? dim_count - 1 : 0;
	while (box->axis > 0 && box->size[box->axis] == shape[box->axis])
		box->axis--;
	box->stretch = 1;
	box->run = 1;
	box->run_count = 1;
	for (uint32_t d = dim_count; d-- > box->axis;) {
		uint64_t count = box->size[d];
		uint64_t stride = box->stride ? box->stride[d] : row_major;

		row_major *= count;
		box->stretch *= count;
		if (count == 1)
			continue;
		running = running && stride == box->run;
		if (running) {
			box->run *= count;
		} else if (box->run_count == 1) {
			box->run_count = count;
			box->run_stride = stride;
		} else if (counting && stride == box->run_stride * box->run_count) {
			box->run_count *= count;
		} else {
			counting = false;
		}
	}
}

static int add_box(struct view_grid *grid, const struct view_box *box, const uint64_t *shape,
		   uint32_t dim_count)
{
	for (uint32_t d = 0; d < dim_count; d++) {
		if (box->size[d] == 0)
			return 0;
	}
	if (grid->box_count >= VIEW_REF_BOX - 1 ||
	    array_grow(&grid->boxes, &grid->box_cap, grid->box_count, sizeof(*grid->boxes)) < 0)
		return -ENOMEM;
	grid->boxes[grid->box_count] = *box;
	find_runs(&grid->boxes[grid->box_count++], shape, dim_count);
	return 0;
}

/* --- extents -------------------------------------------------------------------------------- */

/* Append a tensor that lies at @start of the view. Empty ones are nowhere. */
static int add_tensor(struct ckpt_view_file *file, size_t tensor_idx, uint64_t start)
{
	const struct ckpt_tensor *tensor = &file->views->contents.tensors[tensor_idx];
	struct view_extent *extent = &file->extents[file->extent_count];
	size_t first = file->grid.box_count;
	uint64_t bytes = 0;
	int rc = ckpt_shape_bytes(tensor->dtype, tensor->shape, tensor->dim_count, &bytes);

	if (rc < 0 || bytes == 0)
		return rc;
	*extent = (struct view_extent){
		.start_bytes = start,
		.end_bytes = start + bytes,
		.shape = tensor->shape,
		.dim_count = tensor->dim_count,
		.element_bytes = (uint32_t)ckpt_dtype_size(tensor->dtype),
	};
	for (size_t i = 0; i < tensor->chunk_count && rc == 0; i++) {
		const struct ckpt_chunk *chunk = &tensor->chunks[i];
		const struct view_box box = {
			.start = chunk->start,
			.size = chunk->size,
			.stride = chunk->stride,
			.offset_bytes = chunk->offset_bytes,
			.source = ckpt_views_source_find(file->views, chunk->shard),
		};

		rc = add_box(&file->grid, &box, tensor->shape, tensor->dim_count);
	}
	if (rc == 0)
		rc = ckpt_view_grid_build(&file->grid, first, tensor->dim_count, &extent->ref);
	file->extent_count += rc == 0;
	file->size_bytes = start + bytes;
	return rc;
}

static int make_room(struct ckpt_view_file *file, size_t count)
{
	file->extents = array_alloc(num_max(count, 1), sizeof(*file->extents));
	return file->extents ? 0 : -ENOMEM;
}

/* The bytes of a source as they are, as a tensor of one axis. */
static int open_companion(struct ckpt_view_file *file, uint32_t source)
{
	struct view_box box = { .start = &zero, .size = file->whole, .source = source };
	struct ckpt_view_source info;
	int rc = make_room(file, 1);

	ckpt_views_source(file->views, source, &info);
	file->whole[0] = info.size_bytes;
	file->size_bytes = info.size_bytes;
	if (rc < 0 || info.size_bytes == 0)
		return rc;
	rc = add_box(&file->grid, &box, file->whole, 1);
	if (rc < 0)
		return rc;
	file->extents[file->extent_count++] = (struct view_extent){ .end_bytes = info.size_bytes,
								    .shape = file->whole,
								    .dim_count = 1,
								    .element_bytes = 1,
								    .ref = VIEW_REF_BOX };
	return 0;
}

static int open_st(struct ckpt_view_file *file, const struct view_set *set,
		   const struct view_st *st, struct ckpt_err *err)
{
	CKPT_FREE struct ckpt_st_item *items = NULL;
	uint64_t bytes = 0;
	size_t count = 0;
	int rc = ckpt_view_part_items(file->views, set, &st->part, &items, &count);

	if (rc == 0)
		rc = ckpt_st_layout(items, count, &file->header, &bytes, err);
	if (rc == 0)
		rc = make_room(file, count);
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = add_tensor(file, items[i].tensor_idx, items[i].offset_bytes);
	file->size_bytes = bytes;
	assert(rc < 0 || bytes == st->size_bytes);
	return rc;
}

static int open_npy(struct ckpt_view_file *file, const struct view_npy *npy)
{
	const struct ckpt_tensor *tensor = &file->views->contents.tensors[npy->tensor_idx];
	int rc = ckpt_npy_print(tensor->dtype, tensor->shape, tensor->dim_count, &file->header);

	if (rc == 0)
		rc = make_room(file, 1);
	file->size_bytes = file->header.len_bytes;
	return rc == 0 ? add_tensor(file, npy->tensor_idx, file->header.len_bytes) : rc;
}

/* --- opening -------------------------------------------------------------------------------- */

static struct ckpt_view_file *new_file(struct ckpt_views *views)
{
	struct ckpt_view_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->views = ckpt_views_ref(views);
	ckpt_buf_init(&file->header);
	return file;
}

void ckpt_view_file_close(struct ckpt_view_file *file)
{
	if (!file)
		return;
	ckpt_view_grid_release(&file->grid);
	free(file->extents);
	ckpt_buf_release(&file->header);
	ckpt_views_unref(file->views);
	free(file);
}

static int open_slot(struct ckpt_view_file *file, const struct view_set *set, size_t slot,
		     struct ckpt_err *err)
{
	if (slot == VIEW_HF_FIRST + VIEW_HF_MODEL)
		return open_st(file, set, &set->model, err);
	if (slot < VIEW_ST_FIRST)
		return open_companion(file, set->companions[slot - VIEW_HF_FIRST].source);
	slot -= VIEW_ST_FIRST;
	if (slot < set->st_count)
		return open_st(file, set, &set->sts[slot], err);
	return open_npy(file, &set->npys[slot - set->st_count]);
}

int ckpt_view_file_open(struct ckpt_views *views, uint32_t node, struct ckpt_view_file **out,
			struct ckpt_err *err)
{
	struct ckpt_view_node info;
	struct ckpt_view_file *file;
	size_t slot = 0;
	const struct view_set *set = ckpt_view_set_of(views, node, &slot);
	int rc = -ENOMEM;

	if (!set || !ckpt_views_node(views, node, &info))
		return ckpt_err_set(err, -ENOENT, "there is no such view in '%s'", views->label);
	if (info.is_dir)
		return ckpt_err_set(err, -EISDIR, "'%s' of '%s' is a folder of views", info.name,
				    views->label);
	file = new_file(views);
	if (file)
		rc = open_slot(file, set, slot, err);
	if (rc < 0) {
		ckpt_view_file_close(file);
		return ckpt_err_sys(err, rc, "cannot open view '%s' of '%s'", info.name,
				    views->label);
	}
	*out = file;
	return 0;
}

int ckpt_view_tensor_open(struct ckpt_views *views, size_t tensor_idx, struct ckpt_view_file **out,
			  struct ckpt_err *err)
{
	struct ckpt_view_file *file;
	const char *fqn;
	int rc = -ENOMEM;

	assert(tensor_idx < views->contents.tensor_count);
	fqn = views->contents.tensors[tensor_idx].fqn;
	if (!views->hidden || views->hidden[tensor_idx])
		return ckpt_err_set(err, -ENOENT,
				    "tensor '%s' of '%s' has no view: its chunks do not make it up",
				    fqn, views->label);
	file = new_file(views);
	if (file)
		rc = make_room(file, 1);
	if (rc == 0)
		rc = add_tensor(file, tensor_idx, 0);
	if (rc < 0) {
		ckpt_view_file_close(file);
		return ckpt_err_sys(err, rc, "cannot open tensor '%s' of '%s'", fqn, views->label);
	}
	*out = file;
	return 0;
}

uint64_t ckpt_view_file_size(const struct ckpt_view_file *file)
{
	return file->size_bytes;
}

struct ckpt_views *ckpt_view_file_views(const struct ckpt_view_file *file)
{
	return file->views;
}
