/* plan_lists.c - what the manifest says of the tensors and blobs of a global plan. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "plan_internal.h"

static uint64_t *copy_u64s(const uint64_t *values, uint32_t count)
{
	uint64_t *copy = array_alloc((size_t)count + 1, sizeof(*copy));

	if (copy && count > 0)
		memcpy(copy, values, count * sizeof(*copy));
	return copy;
}

static int fill_chunk(const struct plan_offer *offer, struct ckpt_chunk *out)
{
	const struct plan_decl *decl = offer->decl;
	struct ckpt_buf name;

	ckpt_buf_init(&name);
	ckpt_plan_shard_name(&name, (uint64_t)decl->rank, decl->fqn, offer->box.start,
			     decl->dim_count);
	out->shard = ckpt_buf_steal(&name);
	out->start = copy_u64s(offer->box.start, decl->dim_count);
	out->size = copy_u64s(offer->box.size, decl->dim_count);
	return out->shard && out->start && out->size ? 0 : -ENOMEM;
}

static int fill_tensor(const struct ckpt_global_plan *plan, const struct plan_tensor *tensor,
		       struct ckpt_tensor *out)
{
	const struct plan_decl *decl = tensor->decl;
	struct plan_offer *const *offers = plan->by_box + tensor->first;
	size_t kept_count = 0;
	int rc = 0;

	for (size_t i = 0; i < tensor->count; i++)
		kept_count += offers[i]->keep;
	(void)snprintf(out->dtype, sizeof(out->dtype), "%s", decl->dtype);
	out->dim_count = decl->dim_count;
	out->fqn = strdup(decl->fqn);
	out->set = strdup("");
	out->shape = copy_u64s(decl->shape, decl->dim_count);
	out->chunks = array_alloc(kept_count + 1, sizeof(*out->chunks));
	if (!out->fqn || !out->set || !out->shape || !out->chunks)
		return -ENOMEM;
	for (size_t i = 0; i < tensor->count && rc == 0; i++) {
		if (offers[i]->keep)
			rc = fill_chunk(offers[i], &out->chunks[out->chunk_count++]);
	}
	return rc;
}

int ckpt_global_plan_tensors(const struct ckpt_global_plan *plan, struct ckpt_tensor_list *out)
{
	struct ckpt_tensor_list list = { .items = array_alloc(plan->tensor_count + 1,
							      sizeof(*list.items)) };
	int rc = list.items ? 0 : -ENOMEM;

	for (size_t i = 0; i < plan->tensor_count && rc == 0; i++)
		rc = fill_tensor(plan, &plan->tensors[i], &list.items[list.count++]);
	if (rc < 0) {
		ckpt_tensor_list_release(&list);
		return rc;
	}
	*out = list;
	return 0;
}

void ckpt_tensor_list_release(struct ckpt_tensor_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		ckpt_tensor_release(&list->items[i]);
	free(list->items);
	*list = (struct ckpt_tensor_list){ .items = NULL };
}

static int fill_entry(const struct plan_blob *blob, struct ckpt_bytes_entry *out)
{
	struct ckpt_buf name;

	ckpt_buf_init(&name);
	ckpt_plan_blob_name(&name, (uint64_t)blob->rank, blob->fqn);
	out->shard = ckpt_buf_steal(&name);
	out->fqn = strdup(blob->fqn);
	out->set = strdup("");
	out->size_bytes = blob->size_bytes;
	return out->shard && out->fqn && out->set ? 0 : -ENOMEM;
}

int ckpt_global_plan_blobs(const struct ckpt_global_plan *plan, struct ckpt_bytes_list *out)
{
	struct ckpt_bytes_list list = { .items = array_alloc(plan->blob_count + 1,
							     sizeof(*list.items)) };
	int rc = list.items ? 0 : -ENOMEM;

	for (size_t i = 0; i < plan->blob_count && rc == 0; i++)
		rc = fill_entry(&plan->blobs[i], &list.items[list.count++]);
	if (rc < 0) {
		ckpt_bytes_list_release(&list);
		return rc;
	}
	*out = list;
	return 0;
}

void ckpt_bytes_list_release(struct ckpt_bytes_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		ckpt_bytes_entry_release(&list->items[i]);
	free(list->items);
	*list = (struct ckpt_bytes_list){ .items = NULL };
}
