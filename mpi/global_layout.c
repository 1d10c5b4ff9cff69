/* global_layout.c - see global_layout.h. */
#include "global_layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "store/store.h"
#include "wire.h"

#define OTHER_LAYOUT "convert it, or save with the layout 'shards'"

/* --- the coordinator's part --------------------------------------------------------------- */

/* safetensors has complex numbers of 64 bits, which most of its readers do not know. */
static int check_tensor(const struct ckpt_tensor *tensor, struct ckpt_err *err)
{
	if (tensor->dtype[0] != 'C')
		return 0;
	return ckpt_err_set(err, -EINVAL,
			    "tensor '%s' is complex (%s), which " CKPT_GLOBAL_FILE
			    " cannot hold; " OTHER_LAYOUT,
			    tensor->fqn, tensor->dtype);
}

static int make_items(const struct ckpt_tensor_list *tensors, struct ckpt_st_item *items,
		      struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < tensors->count && rc == 0; i++) {
		const struct ckpt_tensor *tensor = &tensors->items[i];

		items[i] = (struct ckpt_st_item){ .fqn = tensor->fqn,
						  .dtype = tensor->dtype,
						  .shape = tensor->shape,
						  .dim_count = tensor->dim_count };
		rc = check_tensor(tensor, err);
	}
	return rc;
}

static int compare_items(const void *a, const void *b)
{
	return strcmp(((const struct ckpt_st_item *)a)->fqn, ((const struct ckpt_st_item *)b)->fqn);
}

/* One chunk, the whole tensor, instead of those that the ranks hold. */
static int move_tensor(struct ckpt_tensor *tensor, uint64_t offset_bytes)
{
	size_t extent_count = (size_t)tensor->dim_count + 1;
	struct ckpt_chunk *chunk = array_alloc(1, sizeof(*chunk));
	struct ckpt_tensor old = { .chunks = tensor->chunks, .chunk_count = tensor->chunk_count };

	if (!chunk)
		return -ENOMEM;
	ckpt_tensor_release(&old);
	tensor->chunks = chunk;
	tensor->chunk_count = 1;
	chunk->start = array_alloc(extent_count, sizeof(*chunk->start));
	chunk->size = array_alloc(extent_count, sizeof(*chunk->size));
	chunk->shard = strdup(CKPT_GLOBAL_FILE);
	chunk->offset_bytes = offset_bytes;
	if (!chunk->start || !chunk->size || !chunk->shard)
		return -ENOMEM;
	memcpy(chunk->size, tensor->shape, tensor->dim_count * sizeof(*chunk->size));
	return 0;
}

static int lay_out(struct ckpt_tensor_list *tensors, struct ckpt_st_item *items,
		   struct ckpt_buf *header, struct ckpt_buf *out_wire, struct ckpt_err *err)
{
	uint64_t file_bytes = 0;
	int rc = make_items(tensors, items, err);

	if (rc == 0)
		rc = ckpt_st_layout(items, tensors->count, header, &file_bytes, err);
	if (rc < 0)
		return ckpt_err_prefix(err, rc,
				       "layout 'global' is not possible, 'shards' would be");
	if (file_bytes > CKPT_GLOBAL_FILE_MAX)
		return ckpt_err_set(err, -EFBIG,
				    CKPT_GLOBAL_FILE
				    " would have more than 32 TiB; save with the layout 'shards'");
	/* Both in the same order again. */
	qsort(items, tensors->count, sizeof(*items), compare_items);
	for (size_t i = 0; i < tensors->count && rc == 0; i++) {
		assert(strcmp(items[i].fqn, tensors->items[i].fqn) == 0);
		rc = move_tensor(&tensors->items[i], items[i].offset_bytes);
	}
	ckpt_wire_put_u64(out_wire, file_bytes);
	ckpt_buf_add(out_wire, header->data, header->len_bytes);
	return rc < 0 ? rc : ckpt_buf_check(out_wire);
}

int ckpt_global_layout_make(struct ckpt_tensor_list *tensors, struct ckpt_buf *out_wire,
			    struct ckpt_err *err)
{
	struct ckpt_st_item *items = array_alloc(tensors->count + 1, sizeof(*items));
	struct ckpt_buf header;
	int rc;

	ckpt_buf_init(&header);
	rc = items ? lay_out(tensors, items, &header, out_wire, err) : -ENOMEM;
	ckpt_buf_release(&header);
	free(items);
	return rc;
}

/* --- every rank's part -------------------------------------------------------------------- */

static int compare_tensors(const void *a, const void *b)
{
	return strcmp((*(struct ckpt_st_tensor *const *)a)->fqn,
		      (*(struct ckpt_st_tensor *const *)b)->fqn);
}

static int order_tensors(struct ckpt_global_layout *out)
{
	size_t count = out->tensors.tensor_count;

	out->by_fqn = array_alloc(count + 1, sizeof(void *));
	if (!out->by_fqn)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		out->by_fqn[i] = &out->tensors.tensors[i];
	qsort(out->by_fqn, count, sizeof(void *), compare_tensors);
	return 0;
}

/* As large as a round allows, and not larger than it takes to keep every aggregator busy. */
static void cut_windows(struct ckpt_global_layout *out, int aggregator_count)
{
	uint64_t share = num_div_up(out->file_bytes, (uint64_t)aggregator_count);
	uint64_t most = num_min(CKPT_GLOBAL_WINDOW_BYTES,
				CKPT_GLOBAL_ROUND_BYTES / (uint64_t)aggregator_count);

	out->block_bytes = ckpt_block_bytes_for(out->file_bytes);
	out->window_bytes = num_div_up(num_min(share, most), out->block_bytes) * out->block_bytes;
	out->window_count = num_div_up(out->file_bytes, out->window_bytes);
	out->aggregator_count =
		(int)num_min((uint64_t)aggregator_count,
			     num_max(1, CKPT_GLOBAL_ROUND_BYTES / out->window_bytes));
}

int ckpt_global_layout_take(const struct ckpt_buf *wire, int aggregator_count,
			    struct ckpt_global_layout *out, struct ckpt_err *err)
{
	struct ckpt_wire in = ckpt_wire_over(wire);
	int rc;

	out->file_bytes = ckpt_wire_u64(&in);
	out->header = in.data + in.at;
	out->header_bytes = in.len_bytes - in.at;
	if (in.bad || out->header_bytes < sizeof(uint64_t))
		return ckpt_err_set(
			err, -EBADMSG,
			"the layout cannot be read; the ranks run different versions of the library");
	/* The word before the text is its length. */
	rc = ckpt_st_parse(out->header + sizeof(uint64_t), out->header_bytes - sizeof(uint64_t),
			   out->file_bytes, CKPT_GLOBAL_FILE, &out->tensors, err);
	if (rc < 0)
		return rc;
	cut_windows(out, aggregator_count);
	return order_tensors(out);
}

void ckpt_global_layout_release(struct ckpt_global_layout *layout)
{
	ckpt_st_header_release(&layout->tensors);
	free(layout->by_fqn);
}

const struct ckpt_st_tensor *ckpt_global_layout_find(const struct ckpt_global_layout *layout,
						     const char *fqn)
{
	size_t first = 0;
	size_t end = layout->tensors.tensor_count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;
		int order = strcmp(fqn, layout->by_fqn[middle]->fqn);

		if (order == 0)
			return layout->by_fqn[middle];
		if (order < 0)
			end = middle;
		else
			first = middle + 1;
	}
	return NULL;
}

uint64_t ckpt_global_layout_window(const struct ckpt_global_layout *layout, uint64_t idx,
				   uint64_t *out_bytes)
{
	uint64_t start = idx * layout->window_bytes;

	assert(idx < layout->window_count);
	*out_bytes = num_min(layout->window_bytes, layout->file_bytes - start);
	return start;
}

uint64_t ckpt_global_layout_share(const struct ckpt_global_layout *layout, int idx)
{
	uint64_t count = (uint64_t)layout->aggregator_count;

	return (layout->window_count + count - 1 - (uint64_t)idx) / count;
}
