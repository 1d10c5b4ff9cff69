/* read_item.c - see read_item.h. */
#include "read_item.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/format.h"

/* --- checking ---------------------------------------------------------------------------------- */

struct making {
	const struct ckpt_manifest *manifest;
	const char *label;
	struct ckpt_read_list *list;
};

static int add_item(const struct making *making, const struct ckpt_read_item *item,
		    struct ckpt_err *err)
{
	struct ckpt_read_list *list = making->list;

	if (!num_add(list->bytes, item->bytes, &list->bytes))
		return ckpt_err_set(err, -EOVERFLOW,
				    "what is wanted of '%s' is more than 2^64 bytes; want less at "
				    "a time",
				    making->label);
	if (item->bytes > 0)
		list->items[list->count++] = *item;
	return 0;
}

static int add_want(const struct making *making, size_t want_idx, struct ckpt_err *err)
{
	const struct ckpt_mpi_want *want = &making->list->request->wants[want_idx];
	struct ckpt_read_item item = {
		.box = { .start = want->start, .size = want->size },
		.to = { .data = want->data, .strides = want->data ? want->strides : NULL },
		.want_idx = want_idx,
	};
	struct ckpt_strided memory = { .size = want->size, .strides = item.to.strides };
	const struct ckpt_tensor *tensor;
	int rc;

	if (want->tensor_idx >= making->manifest->tensor_count)
		return ckpt_err_set(
			err, -EINVAL,
			"wanted box %zu is of tensor %zu, but '%s' has %zu tensors, counted from 0",
			want_idx, want->tensor_idx, making->label, making->manifest->tensor_count);
	tensor = &making->manifest->tensors[want->tensor_idx];
	if (!ckpt_box_inside(&item.box, tensor->shape, tensor->dim_count))
		return ckpt_err_set(
			err, -EINVAL,
			"wanted box %zu reaches out of tensor '%s'; check its start and size",
			want_idx, tensor->fqn);
	item.tensor = tensor;
	item.manifest_idx = want->tensor_idx;
	memory.dim_count = tensor->dim_count;
	memory.element_bytes = ckpt_dtype_size(tensor->dtype);
	rc = ckpt_strides_check(&memory, err);
	if (rc < 0)
		return ckpt_err_prefix(err, rc, "wanted box %zu, of tensor '%s'", want_idx,
				       tensor->fqn);
	if (ckpt_shape_bytes(tensor->dtype, want->size, tensor->dim_count, &item.bytes) < 0)
		item.bytes = UINT64_MAX;
	return add_item(making, &item, err);
}

static int add_blob_want(const struct making *making, size_t idx, struct ckpt_err *err)
{
	const struct ckpt_mpi_blob_want *want = &making->list->request->blob_wants[idx];
	struct ckpt_read_item item = { .to = { .data = want->data } };

	if (want->blob_idx >= making->manifest->bytes_entry_count)
		return ckpt_err_set(
			err, -EINVAL,
			"wanted blob %zu is number %zu, but '%s' has %zu blobs, counted from 0",
			idx, want->blob_idx, making->label, making->manifest->bytes_entry_count);
	item.blob = &making->manifest->bytes_entries[want->blob_idx];
	item.manifest_idx = want->blob_idx;
	item.bytes = item.blob->size_bytes;
	return add_item(making, &item, err);
}

int ckpt_read_list_make(const struct ckpt_manifest *manifest, const char *label,
			const struct ckpt_mpi_read_request *request, struct ckpt_read_list *out,
			struct ckpt_err *err)
{
	const struct making making = { .manifest = manifest, .label = label, .list = out };
	int rc = 0;

	*out = (struct ckpt_read_list){ .request = request };
	out->items = array_alloc(request->want_count + request->blob_want_count + 1,
				 sizeof(*out->items));
	if (!out->items)
		return ckpt_err_sys(err, -ENOMEM, "cannot read '%s'", label);
	for (size_t i = 0; i < request->want_count && rc == 0; i++)
		rc = add_want(&making, i, err);
	for (size_t i = 0; i < request->blob_want_count && rc == 0; i++)
		rc = add_blob_want(&making, i, err);
	return rc;
}

void ckpt_read_list_release(struct ckpt_read_list *list)
{
	free(list->items);
	*list = (struct ckpt_read_list){ .items = NULL };
}

/* --- slabs --------------------------------------------------------------------------------------- */

void ckpt_item_slab(const struct ckpt_read_item *item, uint64_t offset, uint64_t room,
		    struct ckpt_slab *out)
{
	assert(offset < item->bytes);
	if (item->tensor) {
		const struct ckpt_strided box = {
			.size = item->box.size,
			.dim_count = item->tensor->dim_count,
			.element_bytes = ckpt_dtype_size(item->tensor->dtype),
		};

		ckpt_slab_at(&box, offset, room, out);
		return;
	}
	out->offset = offset - offset % room;
	out->len = num_min(room, item->bytes - out->offset);
}

int ckpt_item_load(const struct ckpt_read_item *item, struct ckpt_fill *fill,
		   const struct ckpt_slab *slab, void *out, struct ckpt_err *err)
{
	const struct ckpt_fill_to to = { .data = out };
	uint64_t start[CKPT_DIM_MAX];
	const struct ckpt_box box = { .start = start, .size = slab->size };

	if (!item->tensor)
		return ckpt_fill_blob(fill, item->blob, slab->offset, slab->len, out, err);
	for (uint32_t d = 0; d < item->tensor->dim_count; d++)
		start[d] = item->box.start[d] + slab->first[d];
	return ckpt_fill_box(fill, item->tensor, &box, &to, err);
}

static int hand_out(const struct ckpt_mpi_read_request *request, size_t want_idx,
		    const struct ckpt_slab *slab, const void *data, struct ckpt_err *err)
{
	char message[CKPT_MPI_MESSAGE_MAX] = "";
	int rc = request->write(request->ctx, want_idx, slab->offset, data, slab->len, message);

	message[sizeof(message) - 1] = '\0';
	if (rc > 0)
		rc = -EIO;
	return rc < 0 ? ckpt_err_set(err, rc, "%s",
				     message[0] ? message : "the bytes were not taken")
		      : 0;
}

/* A slab, dense at @data, into a box that lies with strides. */
static void scatter(const struct ckpt_read_item *item, const struct ckpt_slab *slab,
		    const void *data)
{
	uint64_t dense[CKPT_DIM_MAX];
	uint64_t first = 0;
	const struct ckpt_strided from = {
		.data = data,
		.size = slab->size,
		.strides = dense,
		.dim_count = item->tensor->dim_count,
		.element_bytes = ckpt_dtype_size(item->tensor->dtype),
	};

	for (uint32_t d = 0; d < from.dim_count; d++)
		first += slab->first[d] * item->to.strides[d];
	ckpt_box_strides(slab->size, from.dim_count, dense);
	ckpt_strides_copy(&from, item->to.strides, item->to.data + first * from.element_bytes);
}

int ckpt_item_place(const struct ckpt_read_list *list, const struct ckpt_read_item *item,
		    const struct ckpt_slab *slab, const void *data, struct ckpt_err *err)
{
	if (!item->to.data)
		return item->tensor && list->request->write
			       ? hand_out(list->request, item->want_idx, slab, data, err)
			       : 0;
	if (item->to.strides)
		scatter(item, slab, data);
	else
		memcpy(item->to.data + slab->offset, data, slab->len);
	return 0;
}

int ckpt_item_read(const struct ckpt_read_list *list, const struct ckpt_read_item *item,
		   struct ckpt_fill *fill, void *room, struct ckpt_err *err)
{
	struct ckpt_slab slab;
	int rc = 0;

	if (item->to.data && item->tensor)
		return ckpt_fill_box(fill, item->tensor, &item->box, &item->to, err);
	if (item->to.data)
		return ckpt_fill_blob(fill, item->blob, 0, item->bytes, item->to.data, err);
	for (uint64_t at = 0; at < item->bytes && rc == 0; at += slab.len) {
		ckpt_item_slab(item, at, CKPT_READ_ROOM, &slab);
		rc = ckpt_item_load(item, fill, &slab, room, err);
		if (rc == 0)
			rc = ckpt_item_place(list, item, &slab, room, err);
	}
	return rc;
}
