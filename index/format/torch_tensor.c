/*
 * torch_tensor.c - one tensor from the call that rebuilds it; see torch_internal.h.
 * Source: torch/_utils.py (_rebuild_*), torch/serialization.py (persistent_id).
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/box.h"
#include "base/num.h"
#include "format/format.h"
#include "format/torch_internal.h"

static int refuse(struct ckpt_err *err, const char *reason)
{
	return ckpt_err_set(err, -EBADMSG, "%s", reason);
}

/* Functions whose results are tensors: torch._utils._rebuild_…, torch._tensor._rebuild_… */
static bool rebuilds(const struct pickle_value *callee)
{
	static const char prefix[] = "_rebuild_";
	struct pickle_text name;

	if (callee->kind != PICKLE_GLOBAL)
		return false;
	name = callee->as.global.name;
	if (name.len_bytes < sizeof(prefix) - 1 ||
	    memcmp(name.data, prefix, sizeof(prefix) - 1) != 0)
		return false;
	return pickle_text_is(callee->as.global.module, "torch._utils") ||
	       pickle_text_is(callee->as.global.module, "torch._tensor");
}

bool ckpt_torch_is_tensor(const struct pickle_value *value)
{
	return value->kind == PICKLE_CALL && rebuilds(value->as.call.callee);
}

static const struct pickle_value *arg(const struct pickle_value *call, size_t idx)
{
	const struct pickle_value *args = call->as.call.args;

	return idx < args->item_count ? args->items[idx] : NULL;
}

/* File why the bytes of @out cannot be shown: @reason, and a name where there is one. */
static int make_opaque(struct ckpt_torch_tensor *out, const char *reason,
		       const struct pickle_value *global, struct ckpt_err *err)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	ckpt_buf_add_str(&text, reason);
	if (global && global->kind == PICKLE_GLOBAL) {
		ckpt_buf_add_str(&text, " '");
		pickle_text_show(&text, global->as.global.module);
		ckpt_buf_add_char(&text, '.');
		pickle_text_show(&text, global->as.global.name);
		ckpt_buf_add_char(&text, '\'');
	}
	out->opaque = ckpt_buf_steal(&text);
	if (!out->opaque)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep its tensors");
	return 0;
}

/* A tuple of integers of 0 or more, @count of them, as a heap array. */
static int take_extents(const struct pickle_value *tuple, uint32_t count, uint64_t **out,
			struct ckpt_err *err)
{
	uint64_t *extents = array_alloc(num_max(count, 1), sizeof(*extents));

	if (!extents)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep its tensors");
	for (uint32_t i = 0; i < count; i++) {
		if (!pickle_unsigned(tuple->items[i], &extents[i])) {
			free(extents);
			return refuse(err, "size and stride must be integers of 0 or more");
		}
	}
	*out = extents;
	return 0;
}

static int take_geometry(const struct pickle_value *call, struct ckpt_torch_tensor *out,
			 struct ckpt_err *err)
{
	const struct pickle_value *size = ckpt_torch_extents(arg(call, 2));
	const struct pickle_value *stride = ckpt_torch_extents(arg(call, 3));
	int rc;

	if (!size || !stride || size->item_count != stride->item_count)
		return refuse(err, "size and stride are no tuples of one length, of 64 at most");
	rc = take_extents(size, (uint32_t)size->item_count, &out->shape, err);
	if (rc == 0)
		rc = take_extents(stride, (uint32_t)size->item_count, &out->stride, err);
	if (rc == 0)
		out->dim_count = (uint32_t)size->item_count;
	return rc;
}

static bool is_empty(const struct ckpt_torch_tensor *tensor)
{
	for (uint32_t i = 0; i < tensor->dim_count; i++) {
		if (tensor->shape[i] == 0)
			return true;
	}
	return false;
}

/* Does no stride matter, or each say what row-major says? */
static bool is_row_major(const struct ckpt_torch_tensor *tensor)
{
	uint64_t expected = 1;

	if (is_empty(tensor))
		return true;
	for (uint32_t i = tensor->dim_count; i > 0; i--) {
		if (tensor->shape[i - 1] != 1 && tensor->stride[i - 1] != expected)
			return false;
		if (!num_mul(expected, tensor->shape[i - 1], &expected))
			return false;
	}
	return true;
}

/* The bytes up to the end of the last element of one that begins at element @first. */
static bool span_bytes(const struct ckpt_torch_tensor *tensor, uint64_t first, uint64_t *out)
{
	uint64_t last = first;

	for (uint32_t i = 0; i < tensor->dim_count; i++) {
		uint64_t step;

		if (!num_mul(tensor->shape[i] - 1, tensor->stride[i], &step) ||
		    !num_add(last, step, &last))
			return false;
	}
	return num_add(last, 1, &last) && num_mul(last, ckpt_dtype_size(tensor->dtype), out);
}

/* What a persistent id says: ('storage', class, key, location, numel). */
struct storage {
	const struct pickle_value *type;
	char key[32]; /* a number, but any short name will do */
	uint64_t numel;
};

static int take_storage(const struct pickle_value *value, struct storage *out, struct ckpt_err *err)
{
	const struct pickle_value *id = NULL;
	struct pickle_text key;

	if (value && value->kind == PICKLE_PERSISTENT)
		id = value->as.id;
	if (!id || id->kind != PICKLE_TUPLE || id->item_count < 5 ||
	    id->items[0]->kind != PICKLE_STRING ||
	    !pickle_text_is(id->items[0]->as.text, "storage") ||
	    id->items[2]->kind != PICKLE_STRING || !pickle_unsigned(id->items[4], &out->numel))
		return refuse(err, "its storage is not told as torch.save tells it");
	key = id->items[2]->as.text;
	if (key.len_bytes == 0 || key.len_bytes >= sizeof(out->key) ||
	    memchr(key.data, '\0', key.len_bytes))
		return refuse(err, "the key of its storage is empty, or too long");
	out->type = id->items[1];
	memcpy(out->key, key.data, key.len_bytes);
	out->key[key.len_bytes] = '\0';
	return 0;
}

/* The span must lie in the storage, the storage in its record. */
static int place(struct ckpt_torch_tensor *out, const struct storage *storage,
		 const struct pickle_value *first_value, const struct torch_source *source,
		 struct ckpt_err *err)
{
	bool is_typed = ckpt_torch_storage_dtype(storage->type) != NULL;
	uint64_t element_bytes = ckpt_dtype_size(out->dtype);
	struct torch_place at = { 0 };
	uint64_t bytes, first, start, end = 0;
	int rc;

	if (!num_mul(storage->numel, is_typed ? element_bytes : 1, &bytes) ||
	    !pickle_unsigned(first_value, &first) || !num_mul(first, element_bytes, &start))
		return refuse(err, "storage size or offset is no number that fits");
	at.size_bytes = bytes;
	rc = source->find ? source->find(source->ctx, storage->key, &at, err) : 0;
	if (rc < 0)
		return rc;
	if (bytes > at.size_bytes)
		return ckpt_err_set(err, -EBADMSG,
				    "its storage has %" PRIu64
				    " bytes, the record 'data/%s' %" PRIu64,
				    bytes, storage->key, at.size_bytes);
	if (is_empty(out))
		start = 0;
	else if (!span_bytes(out, first, &end))
		return refuse(err, "its size overflows");
	if (end > bytes)
		return ckpt_err_set(err, -EBADMSG,
				    "it reaches to byte %" PRIu64 " of a storage of %" PRIu64, end,
				    bytes);
	if (!num_add(at.offset_bytes, start, &out->offset_bytes))
		return refuse(err, "its offset overflows");
	return 0;
}

static bool is_given(const struct pickle_value *value)
{
	return value && value->kind != PICKLE_NONE &&
	       !(value->kind == PICKLE_DICT && value->item_count == 0);
}

/* _rebuild_tensor, _v2 and _v3: (storage, offset, size, stride, …). */
static int take_plain(const struct pickle_value *call, bool is_v3,
		      const struct torch_source *source, struct ckpt_torch_tensor *out,
		      struct ckpt_err *err)
{
	struct storage storage = { 0 };
	const struct pickle_value *type;
	const char *dtype;
	int rc = take_geometry(call, out, err);

	if (rc == 0)
		rc = take_storage(arg(call, 0), &storage, err);
	if (rc < 0)
		return rc;
	type = is_v3 ? arg(call, 6) : storage.type;
	dtype = is_v3 ? ckpt_torch_dtype(type) : ckpt_torch_storage_dtype(type);
	if (!dtype)
		return make_opaque(out, "elements of the type", type, err);
	memcpy(out->dtype, dtype, strlen(dtype) + 1);
	if (is_given(arg(call, is_v3 ? 7 : 6)))
		return make_opaque(out,
				   "a conjugate or negative view, whose bytes are not its values",
				   NULL, err);
	rc = place(out, &storage, arg(call, 1), source, err);
	if (rc == 0 && is_row_major(out)) {
		free(out->stride);
		out->stride = NULL;
	}
	return rc;
}

static bool is_parameter(const struct pickle_value *value)
{
	return pickle_is_call(value, "torch._utils", "_rebuild_parameter") ||
	       pickle_is_call(value, "torch._utils", "_rebuild_parameter_with_state");
}

int ckpt_torch_tensor_take(const struct pickle_value *value, const struct torch_source *source,
			   struct ckpt_torch_tensor *out, struct ckpt_err *err)
{
	assert(ckpt_torch_is_tensor(value));
	if (is_parameter(value)) {
		value = arg(value, 0);
		if (!value || !ckpt_torch_is_tensor(value) || is_parameter(value))
			return refuse(err, "it is a parameter without a tensor");
	}
	if (pickle_is_call(value, "torch._utils", "_rebuild_tensor_v3"))
		return take_plain(value, true, source, out, err);
	if (pickle_is_call(value, "torch._utils", "_rebuild_tensor_v2") ||
	    pickle_is_call(value, "torch._utils", "_rebuild_tensor"))
		return take_plain(value, false, source, out, err);
	return make_opaque(out, "a tensor that is made by", value->as.call.callee, err);
}
