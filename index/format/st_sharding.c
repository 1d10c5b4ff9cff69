/*
 * st_sharding.c - where the tensors of a file of DCP's safetensors writer lie
 * in the whole ones; see format.h. The writer puts a JSON text into a string
 * of the metadata: {"FQN": {"saved_offsets": [0, 8]}}.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"

#define SHARDING_KEY "DCP_SHARDING_INFO"
#define OFFSETS_KEY "saved_offsets"

/* The offsets being filled, and the tensors by FQN. */
struct sharding {
	const struct ckpt_st_tensor **by_fqn;
	const struct ckpt_st_header *header;
	uint64_t **offsets;
	struct ckpt_err *err;
};

void ckpt_st_saved_offsets_free(uint64_t **offsets, size_t tensor_count)
{
	if (!offsets)
		return;
	for (size_t i = 0; i < tensor_count; i++)
		free(offsets[i]);
	free(offsets);
}

static int refuse_fqn(struct ckpt_err *err, const char *fqn, const char *reason)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, fqn);
	ckpt_err_set(err, -EBADMSG, "tensor '%s': %s", shown.data, reason);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

static int compare_fqns(const void *left, const void *right)
{
	const struct ckpt_st_tensor *const *a = left;
	const struct ckpt_st_tensor *const *b = right;

	return strcmp((*a)->fqn, (*b)->fqn);
}

static int compare_to_fqn(const void *fqn, const void *slot)
{
	const struct ckpt_st_tensor *const *tensor = slot;

	return strcmp(fqn, (*tensor)->fqn);
}

/* One offset an extent; the end of the box must be a number, too. */
static bool take_offsets(const struct ckpt_json *array, const struct ckpt_st_tensor *tensor,
			 uint64_t *out)
{
	for (uint32_t i = 0; i < tensor->dim_count; i++) {
		const struct ckpt_json *value = ckpt_json_array_at(array, i);
		uint64_t end;

		if (ckpt_json_kind(value) != CKPT_JSON_INT || ckpt_json_int(value) < 0)
			return false;
		out[i] = (uint64_t)ckpt_json_int(value);
		if (!num_add(out[i], tensor->shape[i], &end) || end > INT64_MAX)
			return false;
	}
	return true;
}

static int take_member(void *ctx, const char *fqn, const struct ckpt_json *value)
{
	struct sharding *sharding = ctx;
	const struct ckpt_st_tensor **found =
		bsearch(fqn, sharding->by_fqn, sharding->header->tensor_count,
			sizeof(const struct ckpt_st_tensor *), compare_to_fqn);
	const struct ckpt_json *array = NULL;
	uint64_t *offsets;

	if (!found)
		return refuse_fqn(sharding->err, fqn, "it is not in the file");
	if (ckpt_json_kind(value) == CKPT_JSON_OBJECT)
		array = ckpt_json_get(value, OFFSETS_KEY);
	if (!array || ckpt_json_kind(array) != CKPT_JSON_ARRAY)
		return refuse_fqn(sharding->err, fqn, "it has no list '" OFFSETS_KEY "'");
	if (ckpt_json_array_size(array) != (*found)->dim_count)
		return refuse_fqn(sharding->err, fqn,
				  "'" OFFSETS_KEY "' and its shape have not the same length");
	offsets = array_alloc(num_max((*found)->dim_count, 1), sizeof(*offsets));
	if (!offsets)
		return ckpt_err_sys(sharding->err, -ENOMEM, "cannot keep its offsets");
	sharding->offsets[*found - sharding->header->tensors] = offsets;
	if (!take_offsets(array, *found, offsets))
		return refuse_fqn(sharding->err, fqn,
				  "'" OFFSETS_KEY
				  "' must hold integers of 0 or more, and its end be "
				  "less than 2^63");
	return 0;
}

static int parse_info(struct sharding *sharding, const char *text)
{
	struct ckpt_json *root = NULL;
	int rc = ckpt_json_parse(text, strlen(text), &root, sharding->err);

	if (rc == 0 && ckpt_json_kind(root) != CKPT_JSON_OBJECT)
		rc = ckpt_err_set(sharding->err, -EBADMSG, "it is no object");
	if (rc == 0)
		rc = ckpt_json_each(root, take_member, sharding);
	ckpt_json_free(root);
	return rc;
}

/* Offsets of all tensors that the text tells of. */
static int read_info(const struct ckpt_st_header *header, const char *text, uint64_t ***out,
		     struct ckpt_err *err)
{
	size_t count = num_max(header->tensor_count, 1);
	struct sharding sharding = { .by_fqn = array_alloc(count,
							   sizeof(const struct ckpt_st_tensor *)),
				     .header = header,
				     .offsets = array_alloc(count, sizeof(*sharding.offsets)),
				     .err = err };
	int rc;

	if (sharding.by_fqn && sharding.offsets) {
		for (size_t i = 0; i < header->tensor_count; i++)
			sharding.by_fqn[i] = &header->tensors[i];
		qsort(sharding.by_fqn, header->tensor_count, sizeof(const struct ckpt_st_tensor *),
		      compare_fqns);
		rc = parse_info(&sharding, text);
	} else {
		rc = ckpt_err_sys(err, -ENOMEM, "cannot keep its offsets");
	}
	free(sharding.by_fqn);
	if (rc == 0)
		*out = sharding.offsets;
	else
		ckpt_st_saved_offsets_free(sharding.offsets, header->tensor_count);
	return rc;
}

int ckpt_st_saved_offsets(const struct ckpt_st_header *header, const char *label, uint64_t ***out,
			  struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	const struct ckpt_json *text;
	struct ckpt_json *metadata = NULL;
	uint64_t **offsets = NULL;
	int rc;

	assert(label && out);
	if (!header->metadata) {
		*out = NULL;
		return 0;
	}
	rc = ckpt_json_parse(header->metadata, strlen(header->metadata), &metadata, &why);
	text = rc == 0 ? ckpt_json_get(metadata, SHARDING_KEY) : NULL;
	/* A parsed header has only strings in its metadata. */
	if (text)
		rc = read_info(header, ckpt_json_string(text), &offsets, &why);
	ckpt_json_free(metadata);
	if (rc < 0)
		return ckpt_err_set(err, rc, "'%s': '" SHARDING_KEY "' is damaged: %s", label,
				    why.msg);
	*out = offsets;
	return 0;
}
