/*
 * view_tensors.c - which tensors have views: those that their boxes make up exactly. A manifest
 * says only that each box lies in its tensor and in its shard; who wrote it may have been wrong
 * about the rest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cover.h"
#include "base/num.h"
#include "view/view_internal.h"

/* Room that is used for one tensor after the other. */
struct parts_room {
	struct ckpt_part *items;
	size_t cap;
};

static bool is_whole(const struct ckpt_tensor *tensor, const struct ckpt_chunk *chunk)
{
	for (uint32_t d = 0; d < tensor->dim_count; d++) {
		if (chunk->start[d] != 0 || chunk->size[d] != tensor->shape[d])
			return false;
	}
	return true;
}

/* The boxes that hold something. */
static int take_parts(const struct ckpt_tensor *tensor, struct parts_room *room, size_t *out_count)
{
	size_t count = 0;

	for (size_t i = 0; i < tensor->chunk_count; i++) {
		const struct ckpt_chunk *chunk = &tensor->chunks[i];
		uint64_t volume = 0;
		int rc = ckpt_box_volume(chunk->size, tensor->dim_count, &volume);

		if (rc < 0)
			return rc;
		if (volume == 0)
			continue;
		if (array_grow(&room->items, &room->cap, count, sizeof(*room->items)) < 0)
			return -ENOMEM;
		room->items[count++] =
			(struct ckpt_part){ .box = { .start = chunk->start, .size = chunk->size } };
	}
	*out_count = count;
	return 0;
}

static int check_boxes(const struct ckpt_tensor *tensor, struct parts_room *room,
		       struct ckpt_err *err)
{
	struct ckpt_parts parts = { .fqn = tensor->fqn,
				    .shape = tensor->shape,
				    .dim_count = tensor->dim_count };
	int rc;

	/* Nearly all; an empty one without a chunk is complete, too. */
	if (tensor->chunk_count == 1 && is_whole(tensor, &tensor->chunks[0]))
		return 0;
	rc = take_parts(tensor, room, &parts.count);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot check tensor '%s'", tensor->fqn);
	parts.items = room->items;
	return ckpt_parts_check(&parts, err);
}

static int check_sources(const struct ckpt_views *views, const struct ckpt_tensor *tensor,
			 struct ckpt_err *err)
{
	for (size_t i = 0; i < tensor->chunk_count; i++) {
		if (ckpt_views_source_find(views, tensor->chunks[i].shard) == CKPT_VIEW_NONE)
			return ckpt_err_set(err, -EINVAL, "tensor '%s': there is no file '%s'",
					    tensor->fqn, tensor->chunks[i].shard);
	}
	return 0;
}

int ckpt_views_check_tensors(struct ckpt_views *views, struct ckpt_err *err)
{
	const struct ckpt_contents *contents = &views->contents;
	struct parts_room room = { .items = NULL };
	int rc = 0;

	views->hidden = array_alloc(num_max(contents->tensor_count, 1), sizeof(*views->hidden));
	if (!views->hidden)
		return ckpt_err_sys(err, -ENOMEM, "cannot make the views of '%s'", views->label);
	for (size_t i = 0; i < contents->tensor_count && rc == 0; i++) {
		const struct ckpt_tensor *tensor = &contents->tensors[i];
		struct ckpt_err why = CKPT_ERR_INIT;
		int wrong = check_boxes(tensor, &room, &why);

		if (wrong == 0)
			wrong = check_sources(views, tensor, &why);
		views->hidden[i] = wrong < 0;
		if (wrong == -ENOMEM)
			rc = wrong;
		else if (wrong < 0)
			rc = ckpt_views_note(views,
					     tensor->chunk_count > 0 ? tensor->chunks[0].shard : "",
					     why.msg);
	}
	free(room.items);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot make the views of '%s'", views->label) : 0;
}
