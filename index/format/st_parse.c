/*
 * st_parse.c - the JSON of a safetensors header, strictly; see format.h.
 * Every byte of the data part belongs to exactly one tensor, and the file ends with the last of
 * them: a file that breaks this is not read, because tools would not agree on what it holds.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "format/format_internal.h"

bool ckpt_st_can_hold(const char *dtype)
{
	return ckpt_dtype_size(dtype) != 0 && strcmp(dtype, "C128") != 0;
}

void ckpt_st_header_release(struct ckpt_st_header *header)
{
	for (size_t i = 0; i < header->tensor_count; i++) {
		free(header->tensors[i].fqn);
		free(header->tensors[i].shape);
	}
	free(header->tensors);
	free(header->metadata);
	*header = (struct ckpt_st_header){ 0 };
}

/* What one pass over the header's members fills. */
struct parse {
	struct ckpt_st_header header;
	size_t tensor_cap;
	struct ckpt_err *err;
};

/* File "tensor 'NAME': reason" of a name that may hold anything; returns -EBADMSG. */
static int refuse_tensor(struct ckpt_err *err, const char *fqn, const char *reason)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, fqn);
	ckpt_err_set(err, -EBADMSG, "tensor '%s': %s", shown.data, reason);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

/* Array of integers ≥ 0 into @out, which has room for all of them; false if it is anything else. */
static bool take_extents(const struct ckpt_json *array, uint64_t *out)
{
	for (size_t i = 0; i < ckpt_json_array_size(array); i++) {
		const struct ckpt_json *value = ckpt_json_array_at(array, i);

		if (ckpt_json_kind(value) != CKPT_JSON_INT || ckpt_json_int(value) < 0)
			return false;
		out[i] = (uint64_t)ckpt_json_int(value);
	}
	return true;
}

static int take_dtype(struct ckpt_st_tensor *tensor, const char *dtype, struct ckpt_err *err)
{
	struct ckpt_buf reason;
	size_t len_bytes = strlen(dtype);

	if (len_bytes < sizeof(tensor->dtype) && ckpt_st_can_hold(dtype)) {
		memcpy(tensor->dtype, dtype, len_bytes + 1);
		return 0;
	}
	ckpt_buf_init(&reason);
	ckpt_buf_add_str(&reason, "dtype '");
	ckpt_path_escape(&reason, dtype);
	ckpt_buf_add_str(&reason, "' is not known here");
	refuse_tensor(err, tensor->fqn, reason.data);
	ckpt_buf_release(&reason);
	return -EBADMSG;
}

static int take_shape(struct ckpt_st_tensor *tensor, const struct ckpt_json *shape,
		      struct ckpt_err *err)
{
	size_t count = ckpt_json_array_size(shape);

	if (count > CKPT_DIM_MAX)
		return refuse_tensor(err, tensor->fqn, "it has more than 64 dimensions");
	tensor->shape = array_alloc(num_max(count, 1), sizeof(*tensor->shape));
	if (!tensor->shape)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep its tensors");
	if (!take_extents(shape, tensor->shape))
		return refuse_tensor(err, tensor->fqn, "'shape' must hold integers of 0 or more");
	tensor->dim_count = (uint32_t)count;
	return 0;
}

/*
 * The range in the data part, which must be as long as dtype and shape say. Checked against the
 * file later.
 */
static int take_range(struct ckpt_st_tensor *tensor, const struct ckpt_json *range,
		      struct ckpt_err *err)
{
	uint64_t ends[2] = { 0 };
	uint64_t bytes;

	if (ckpt_json_array_size(range) != 2 || !take_extents(range, ends))
		return refuse_tensor(err, tensor->fqn,
				     "'data_offsets' must be two integers of 0 or more");
	if (ends[1] < ends[0])
		return refuse_tensor(err, tensor->fqn, "'data_offsets' end before they begin");
	if (ckpt_shape_bytes(tensor->dtype, tensor->shape, tensor->dim_count, &bytes) < 0)
		return refuse_tensor(err, tensor->fqn, "its size overflows");
	if (ends[1] - ends[0] != bytes)
		return refuse_tensor(err, tensor->fqn,
				     "'data_offsets' do not fit its dtype and shape");
	tensor->offset_bytes = ends[0];
	tensor->size_bytes = bytes;
	return 0;
}

static int take_tensor(struct parse *parse, const char *fqn, const struct ckpt_json *value)
{
	const char *dtype = NULL;
	const struct ckpt_json *shape = NULL;
	const struct ckpt_json *range = NULL;
	const struct ckpt_json_field fields[] = {
		{ "dtype", CKPT_FIELD_STRING, &dtype, NULL },
		{ "shape", CKPT_FIELD_ARRAY, &shape, NULL },
		{ "data_offsets", CKPT_FIELD_ARRAY, &range, NULL },
	};
	struct ckpt_st_header *header = &parse->header;
	struct ckpt_st_tensor *tensor;
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (ckpt_json_decode(value, fields, sizeof(fields) / sizeof(fields[0]), &why) < 0)
		return refuse_tensor(parse->err, fqn, why.msg);
	rc = array_grow(&header->tensors, &parse->tensor_cap, header->tensor_count,
			sizeof(*header->tensors));
	if (rc < 0)
		return ckpt_err_sys(parse->err, rc, "cannot keep its tensors");
	tensor = &header->tensors[header->tensor_count++];
	*tensor = (struct ckpt_st_tensor){ .fqn = strdup(fqn) };
	if (!tensor->fqn)
		return ckpt_err_sys(parse->err, -ENOMEM, "cannot keep its tensors");
	rc = take_dtype(tensor, dtype, parse->err);
	if (rc == 0)
		rc = take_shape(tensor, shape, parse->err);
	if (rc == 0)
		rc = take_range(tensor, range, parse->err);
	return rc;
}

static int check_metadata_member(void *ctx, const char *key, const struct ckpt_json *value)
{
	(void)ctx;
	(void)key;
	return ckpt_json_kind(value) == CKPT_JSON_STRING ? 0 : -EBADMSG;
}

static int take_metadata(struct parse *parse, const struct ckpt_json *value)
{
	struct ckpt_buf text;

	if (ckpt_json_kind(value) != CKPT_JSON_OBJECT ||
	    ckpt_json_each(value, check_metadata_member, NULL) < 0)
		return ckpt_err_set(parse->err, -EBADMSG,
				    "'" ST_METADATA_KEY "' must map strings to strings");
	ckpt_buf_init(&text);
	ckpt_json_print(value, &text);
	parse->header.metadata = ckpt_buf_steal(&text);
	if (!parse->header.metadata)
		return ckpt_err_sys(parse->err, -ENOMEM, "cannot keep its metadata");
	return 0;
}

static int take_member(void *ctx, const char *key, const struct ckpt_json *value)
{
	struct parse *parse = ctx;

	if (strcmp(key, ST_METADATA_KEY) == 0)
		return take_metadata(parse, value);
	return take_tensor(parse, key, value);
}

/* By place in the file; an empty tensor comes before the one that begins where it lies. */
static int compare_places(const void *left, const void *right)
{
	const struct ckpt_st_tensor *a = left;
	const struct ckpt_st_tensor *b = right;

	if (a->offset_bytes != b->offset_bytes)
		return a->offset_bytes < b->offset_bytes ? -1 : 1;
	if (a->size_bytes != b->size_bytes)
		return a->size_bytes < b->size_bytes ? -1 : 1;
	return strcmp(a->fqn, b->fqn);
}

/* No holes, no overlap, and the last byte of the last tensor is the last of the file. */
static int check_places(struct ckpt_st_header *header, struct ckpt_err *err)
{
	uint64_t at = 0;
	uint64_t file_bytes;

	if (header->tensor_count > 1)
		qsort(header->tensors, header->tensor_count, sizeof(*header->tensors),
		      compare_places);
	for (size_t i = 0; i < header->tensor_count; i++) {
		struct ckpt_st_tensor *tensor = &header->tensors[i];

		if (tensor->offset_bytes > at)
			return refuse_tensor(err, tensor->fqn, "there is a hole before its data");
		if (tensor->offset_bytes < at)
			return refuse_tensor(err, tensor->fqn,
					     "its data overlap those of another tensor");
		/* Both are below 2^63: the JSON reader gives no larger integers. */
		at += tensor->size_bytes;
		tensor->offset_bytes += header->data_offset_bytes;
	}
	if (!num_add(header->data_offset_bytes, at, &file_bytes) ||
	    file_bytes != header->file_size_bytes)
		return ckpt_err_set(err, -EBADMSG,
				    "its header describes %" PRIu64
				    " bytes of data, it has %" PRIu64
				    "; it is truncated, or bytes follow",
				    at, header->file_size_bytes - header->data_offset_bytes);
	return 0;
}

/* The text of the object: it begins at the first byte, and only spaces follow. */
static int trim_padding(const char *json, size_t *len_bytes, struct ckpt_err *err)
{
	if (*len_bytes == 0 || json[0] != '{')
		return ckpt_err_set(err, -EBADMSG, "its header does not begin with '{'");
	while (json[*len_bytes - 1] == ' ')
		(*len_bytes)--;
	if (json[*len_bytes - 1] != '}')
		return ckpt_err_set(err, -EBADMSG, "its header does not end with '}' and spaces");
	return 0;
}

static int parse_header(struct parse *parse, const char *json, size_t len_bytes)
{
	struct ckpt_json *root = NULL;
	int rc;

	rc = trim_padding(json, &len_bytes, parse->err);
	if (rc == 0)
		rc = ckpt_json_parse(json, len_bytes, &root, parse->err);
	if (rc == 0)
		rc = ckpt_json_each(root, take_member, parse);
	ckpt_json_free(root);
	if (rc == 0)
		rc = check_places(&parse->header, parse->err);
	return rc;
}

int ckpt_st_parse(const char *json, size_t len_bytes, uint64_t file_size_bytes, const char *label,
		  struct ckpt_st_header *out, struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	struct parse parse = {
		.header = { .data_offset_bytes = ST_LENGTH_BYTES + (uint64_t)len_bytes,
			    .file_size_bytes = file_size_bytes },
		.err = &why,
	};
	int rc;

	assert(json && out);
	if (parse.header.data_offset_bytes > file_size_bytes)
		rc = ckpt_err_set(&why, -EBADMSG, "its header is longer than the file");
	else
		rc = parse_header(&parse, json, len_bytes);
	if (rc < 0) {
		ckpt_st_header_release(&parse.header);
		return ckpt_err_set(err, rc, "'%s' is not a valid safetensors file: %s", label,
				    why.msg);
	}
	*out = parse.header;
	return 0;
}
