/*
 * manifest_tensors.c - tensor and bytes lines, taken apart and checked by themselves.
 * Whether the shards they name exist and are long enough is for manifest_rules.c to say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "store/manifest_internal.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* What tensor and bytes lines have in common; borrowed from the document. */
struct entry_texts {
	const char *fqn;
	const char *set;
	const char *group;
	bool has_group;
};

/* Where the copies go. */
struct entry_out {
	char **fqn;
	char **set;
	char **group;
};

static int take_entry(const struct entry_texts *texts, const struct entry_out *out,
		      struct ckpt_err *err)
{
	int rc;

	if (texts->fqn[0] == '\0')
		return ckpt_err_set(err, -EBADMSG, "its FQN is empty");
	if (texts->has_group && texts->group[0] == '\0')
		return ckpt_err_set(err, -EBADMSG,
				    "key 'group' is empty; it is left out where there is none");
	if (texts->set[0] != '\0' && ckpt_path_check_entry(texts->set, err) < 0)
		return -EBADMSG;
	rc = ckpt_manifest_copy(texts->fqn, out->fqn, err);
	if (rc == 0)
		rc = ckpt_manifest_copy(texts->set, out->set, err);
	if (rc == 0 && texts->has_group)
		rc = ckpt_manifest_copy(texts->group, out->group, err);
	return rc;
}

/* --- chunks ---------------------------------------------------------------------- */

/* Integers ≥ 0 of @array as a heap array of exactly @count. */
static int take_extents(const struct ckpt_json *array, const char *key, size_t count,
			uint64_t **out, struct ckpt_err *err)
{
	if (ckpt_json_array_size(array) != count)
		return ckpt_err_set(err, -EBADMSG,
				    "key '%s' must hold as many numbers as the shape, %zu", key,
				    count);
	*out = array_alloc(num_max(count, 1), sizeof(**out));
	if (!*out)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	for (size_t i = 0; i < count; i++) {
		const struct ckpt_json *value = ckpt_json_array_at(array, i);

		if (ckpt_json_kind(value) != CKPT_JSON_INT || ckpt_json_int(value) < 0)
			return ckpt_err_set(err, -EBADMSG,
					    "key '%s' must hold integers of 0 or more", key);
		(*out)[i] = (uint64_t)ckpt_json_int(value);
	}
	return 0;
}

static int check_box(const struct ckpt_tensor *tensor, const struct ckpt_chunk *chunk,
		     struct ckpt_err *err)
{
	for (uint32_t i = 0; i < tensor->dim_count; i++) {
		uint64_t end;

		if (!num_add(chunk->start[i], chunk->size[i], &end) || end > tensor->shape[i])
			return ckpt_err_set(err, -EBADMSG,
					    "it leaves the tensor's shape in dimension %u", i);
	}
	return 0;
}

static int parse_chunk(const struct ckpt_json *object, const struct ckpt_tensor *tensor,
		       struct ckpt_chunk *out, struct ckpt_err *err)
{
	const struct ckpt_json *start = NULL;
	const struct ckpt_json *size = NULL;
	const struct ckpt_json *stride = NULL;
	const char *shard = NULL;
	bool has_stride = false;
	const struct ckpt_json_field fields[] = {
		{ "start", CKPT_FIELD_ARRAY, &start, NULL },
		{ "size", CKPT_FIELD_ARRAY, &size, NULL },
		{ "shard", CKPT_FIELD_STRING, &shard, NULL },
		{ "offset", CKPT_FIELD_U64, &out->offset_bytes, NULL },
		{ "stride", CKPT_FIELD_ARRAY, &stride, &has_stride },
	};
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);

	if (rc == 0)
		rc = take_extents(start, "start", tensor->dim_count, &out->start, err);
	if (rc == 0)
		rc = take_extents(size, "size", tensor->dim_count, &out->size, err);
	if (rc == 0 && has_stride)
		rc = take_extents(stride, "stride", tensor->dim_count, &out->stride, err);
	if (rc == 0)
		rc = check_box(tensor, out, err);
	if (rc == 0)
		rc = ckpt_manifest_copy(shard, &out->shard, err);
	return rc;
}

/* By start; chunks of one start are told apart by nothing (all but one of them are empty). */
static bool in_order(const struct ckpt_tensor *tensor, size_t idx)
{
	const uint64_t *before = tensor->chunks[idx - 1].start;
	const uint64_t *start = tensor->chunks[idx].start;

	for (uint32_t i = 0; i < tensor->dim_count; i++) {
		if (before[i] != start[i])
			return before[i] < start[i];
	}
	return true;
}

static int take_chunks(const struct ckpt_json *array, struct ckpt_tensor *out, struct ckpt_err *err)
{
	size_t count = ckpt_json_array_size(array);

	out->chunks = array_alloc(num_max(count, 1), sizeof(*out->chunks));
	if (!out->chunks)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	out->chunk_count = count;
	for (size_t i = 0; i < count; i++) {
		int rc = parse_chunk(ckpt_json_array_at(array, i), out, &out->chunks[i], err);

		if (rc == 0 && i > 0 && !in_order(out, i))
			rc = ckpt_err_set(err, -EBADMSG, "it is not in ascending order of 'start'");
		if (rc < 0)
			return ckpt_err_prefix(err, rc, "chunk %zu", i);
	}
	return 0;
}

/* Bytes from the first element's first to the last one's last in @chunk, which is not empty. */
static int span_bytes(const struct ckpt_tensor *tensor, const struct ckpt_chunk *chunk,
		      uint64_t *out)
{
	uint64_t last = 0; /* the element farthest from the first */
	uint64_t step;

	if (!chunk->stride)
		return ckpt_shape_bytes(tensor->dtype, chunk->size, tensor->dim_count, out);
	for (uint32_t i = 0; i < tensor->dim_count; i++) {
		if (!num_mul(chunk->size[i] - 1, chunk->stride[i], &step) ||
		    !num_add(last, step, &last))
			return -EOVERFLOW;
	}
	if (!num_add(last, 1, &last) || !num_mul(last, ckpt_dtype_size(tensor->dtype), out))
		return -EOVERFLOW;
	return 0;
}

int ckpt_chunk_end_bytes(const struct ckpt_tensor *tensor, const struct ckpt_chunk *chunk,
			 uint64_t *out)
{
	uint64_t bytes = 0;
	bool is_empty = false;

	for (uint32_t i = 0; i < tensor->dim_count; i++)
		is_empty = is_empty || chunk->size[i] == 0;
	if (!is_empty && span_bytes(tensor, chunk, &bytes) < 0)
		return -EOVERFLOW;
	return num_add(chunk->offset_bytes, bytes, out) ? 0 : -EOVERFLOW;
}

/* --- lines ------------------------------------------------------------------------- */

static int take_dtype(const char *dtype, struct ckpt_tensor *out, struct ckpt_err *err)
{
	size_t len_bytes = strlen(dtype);
	struct ckpt_buf shown;

	if (len_bytes < sizeof(out->dtype) && ckpt_dtype_size(dtype) != 0) {
		memcpy(out->dtype, dtype, len_bytes + 1);
		return 0;
	}
	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, dtype);
	ckpt_err_set(err, -EBADMSG, "unknown dtype '%s'", shown.data);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

static int take_shape(const struct ckpt_json *shape, struct ckpt_tensor *out, struct ckpt_err *err)
{
	size_t count = ckpt_json_array_size(shape);
	uint64_t bytes;
	int rc;

	if (count > CKPT_DIM_MAX)
		return ckpt_err_set(err, -EBADMSG, "key 'shape' has more than 64 dimensions");
	rc = take_extents(shape, "shape", count, &out->shape, err);
	if (rc < 0)
		return rc;
	out->dim_count = (uint32_t)count;
	if (ckpt_shape_bytes(out->dtype, out->shape, out->dim_count, &bytes) < 0 ||
	    bytes > INT64_MAX)
		return ckpt_err_set(err, -EBADMSG, "its size overflows");
	return 0;
}

int ckpt_manifest_parse_tensor(const struct ckpt_json *object, struct ckpt_tensor *out,
			       struct ckpt_err *err)
{
	struct entry_texts texts = { 0 };
	const struct ckpt_json *shape = NULL;
	const struct ckpt_json *chunks = NULL;
	const char *dtype = NULL;
	const struct ckpt_json_field fields[] = {
		{ "tensor", CKPT_FIELD_STRING, &texts.fqn, NULL },
		{ "set", CKPT_FIELD_STRING, &texts.set, NULL },
		{ "group", CKPT_FIELD_STRING, &texts.group, &texts.has_group },
		{ "dtype", CKPT_FIELD_STRING, &dtype, NULL },
		{ "shape", CKPT_FIELD_ARRAY, &shape, NULL },
		{ "chunks", CKPT_FIELD_ARRAY, &chunks, NULL },
	};
	const struct entry_out copies = { &out->fqn, &out->set, &out->group };
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);

	if (rc == 0)
		rc = take_entry(&texts, &copies, err);
	if (rc == 0)
		rc = take_dtype(dtype, out, err);
	if (rc == 0)
		rc = take_shape(shape, out, err);
	if (rc == 0)
		rc = take_chunks(chunks, out, err);
	return rc;
}

int ckpt_manifest_parse_bytes(const struct ckpt_json *object, struct ckpt_bytes_entry *out,
			      struct ckpt_err *err)
{
	struct entry_texts texts = { 0 };
	const char *shard = NULL;
	const struct ckpt_json_field fields[] = {
		{ "bytes", CKPT_FIELD_STRING, &texts.fqn, NULL },
		{ "set", CKPT_FIELD_STRING, &texts.set, NULL },
		{ "group", CKPT_FIELD_STRING, &texts.group, &texts.has_group },
		{ "shard", CKPT_FIELD_STRING, &shard, NULL },
		{ "offset", CKPT_FIELD_U64, &out->offset_bytes, NULL },
		{ "size", CKPT_FIELD_U64, &out->size_bytes, NULL },
	};
	const struct entry_out copies = { &out->fqn, &out->set, &out->group };
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);

	if (rc == 0)
		rc = take_entry(&texts, &copies, err);
	if (rc == 0)
		rc = ckpt_manifest_copy(shard, &out->shard, err);
	return rc;
}
