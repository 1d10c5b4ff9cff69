/*
 * st_layout.c - the header of a safetensors file that is to be written; see format.h.
 * The bytes depend on the set of items alone, so that every rank, and every later view, prints the
 * same header without asking anybody.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "format/format_internal.h"

/* Data begin at a multiple of this, so that they can be mapped and reflinked. */
#define ST_ALIGN_BYTES 4096

/*
 * Larger elements first keeps all of them naturally aligned without padding, which the format
 * forbids.
 */
static int compare_items(const void *left, const void *right)
{
	const struct ckpt_st_item *a = left;
	const struct ckpt_st_item *b = right;
	uint64_t a_bytes = ckpt_dtype_size(a->dtype);
	uint64_t b_bytes = ckpt_dtype_size(b->dtype);

	if (a_bytes != b_bytes)
		return a_bytes > b_bytes ? -1 : 1;
	return strcmp(a->fqn, b->fqn);
}

static int compare_fqns(const void *left, const void *right)
{
	const char *const *a = left;
	const char *const *b = right;

	return strcmp(*a, *b);
}

/* File "cannot put tensor 'NAME' into a safetensors file: reason"; returns @code. */
static int refuse_item(struct ckpt_err *err, int code, const char *fqn, const char *reason)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, fqn);
	ckpt_err_set(err, code, "cannot put tensor '%s' into a safetensors file: %s", shown.data,
		     reason);
	ckpt_buf_release(&shown);
	return code;
}

static int check_item(struct ckpt_st_item *item, struct ckpt_err *err)
{
	int rc;

	if (strcmp(item->fqn, ST_METADATA_KEY) == 0)
		return refuse_item(err, -EINVAL, item->fqn, "the format keeps that name");
	if (!ckpt_st_can_hold(item->dtype))
		return refuse_item(err, -EINVAL, item->fqn, "the format does not know its dtype");
	assert(item->dim_count <= CKPT_DIM_MAX);
	rc = ckpt_shape_bytes(item->dtype, item->shape, item->dim_count, &item->size_bytes);
	if (rc < 0)
		return refuse_item(err, rc, item->fqn, "its size overflows");
	return 0;
}

/* Items of one FQN need not be neighbours in the file's order: their dtypes may differ. */
static int check_unique(const struct ckpt_st_item *items, size_t count, struct ckpt_err *err)
{
	const char **fqns = array_alloc(num_max(count, 1), sizeof(*fqns));
	int rc = 0;

	if (!fqns)
		return ckpt_err_sys(err, -ENOMEM, "cannot lay out a safetensors file");
	for (size_t i = 0; i < count; i++)
		fqns[i] = items[i].fqn;
	qsort(fqns, count, sizeof(*fqns), compare_fqns);
	for (size_t i = 1; rc == 0 && i < count; i++) {
		if (strcmp(fqns[i], fqns[i - 1]) == 0)
			rc = refuse_item(err, -EEXIST, fqns[i], "there are two of that name");
	}
	free(fqns);
	return rc;
}

/* Give each item its place in the data part; *@out_bytes is how long that is. */
static int place_items(struct ckpt_st_item *items, size_t count, uint64_t *out_bytes,
		       struct ckpt_err *err)
{
	uint64_t at = 0;

	for (size_t i = 0; i < count; i++) {
		items[i].offset_bytes = at;
		/* INT64_MAX: the offsets of files, and of JSON readers. */
		if (!num_add(at, items[i].size_bytes, &at) || at > INT64_MAX)
			return refuse_item(err, -EOVERFLOW, items[i].fqn,
					   "the file would have more than 2^63 bytes");
	}
	*out_bytes = at;
	return 0;
}

static void print_item(struct ckpt_buf *out, const struct ckpt_st_item *item)
{
	ckpt_buf_add_char(out, ',');
	ckpt_buf_add_json_str(out, item->fqn);
	ckpt_buf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", item->dtype);
	for (uint32_t i = 0; i < item->dim_count; i++)
		ckpt_buf_printf(out, "%s%" PRIu64, i ? "," : "", item->shape[i]);
	ckpt_buf_printf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", item->offset_bytes,
			item->offset_bytes + item->size_bytes);
}

static void print_json(struct ckpt_buf *out, const struct ckpt_st_item *items, size_t count)
{
	ckpt_buf_add_str(out, "{\"" ST_METADATA_KEY "\":{\"format\":\"pt\"}");
	for (size_t i = 0; i < count; i++)
		print_item(out, &items[i]);
	ckpt_buf_add_char(out, '}');
	while ((ST_LENGTH_BYTES + out->len_bytes) % ST_ALIGN_BYTES != 0 && !out->failed)
		ckpt_buf_add_char(out, ' ');
}

static void add_length(struct ckpt_buf *out, uint64_t len_bytes)
{
	for (int i = 0; i < ST_LENGTH_BYTES; i++)
		ckpt_buf_add_char(out, (char)(unsigned char)(len_bytes >> (8 * i)));
}

/* The data part has @data_bytes; print all before it and move the items' places behind that. */
static int finish_layout(struct ckpt_st_item *items, size_t count, uint64_t data_bytes,
			 struct ckpt_buf *out_header, uint64_t *out_file_bytes)
{
	struct ckpt_buf json;
	uint64_t start;
	int rc;

	ckpt_buf_init(&json);
	print_json(&json, items, count);
	start = ST_LENGTH_BYTES + (uint64_t)json.len_bytes;
	rc = ckpt_buf_check(&json);
	if (rc == 0 && (json.len_bytes > CKPT_ST_HEADER_MAX || data_bytes > INT64_MAX - start))
		rc = -EOVERFLOW;
	if (rc == 0) {
		add_length(out_header, json.len_bytes);
		ckpt_buf_add(out_header, json.data, json.len_bytes);
		rc = ckpt_buf_check(out_header);
	}
	ckpt_buf_release(&json);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++)
		items[i].offset_bytes += start;
	*out_file_bytes = start + data_bytes;
	return 0;
}

int ckpt_st_layout(struct ckpt_st_item *items, size_t count, struct ckpt_buf *out_header,
		   uint64_t *out_file_bytes, struct ckpt_err *err)
{
	uint64_t data_bytes = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = check_item(&items[i], err);
	if (rc == 0)
		rc = check_unique(items, count, err);
	if (rc < 0)
		return rc;
	if (count > 1)
		qsort(items, count, sizeof(*items), compare_items);
	rc = place_items(items, count, &data_bytes, err);
	if (rc < 0)
		return rc;
	rc = finish_layout(items, count, data_bytes, out_header, out_file_bytes);
	if (rc < 0)
		return ckpt_err_sys(err, rc,
				    "cannot lay out a safetensors file of %zu tensors; "
				    "its header may have 100 MB",
				    count);
	return 0;
}
