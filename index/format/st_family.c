/*
 * st_family.c - a model in one safetensors file, or in those that an index.json names.
 * The index and the headers must agree in both directions: a name in one of them only means that
 * the download or the save is not complete.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "format/format_internal.h"

void ckpt_st_family_release(struct ckpt_st_family *family)
{
	for (size_t i = 0; i < family->file_count; i++) {
		free(family->files[i]);
		ckpt_st_header_release(&family->headers[i]);
	}
	free(family->files);
	free(family->headers);
	*family = (struct ckpt_st_family){ 0 };
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t len_bytes = strlen(text);
	size_t suffix_len = strlen(suffix);

	return len_bytes >= suffix_len && strcmp(text + len_bytes - suffix_len, suffix) == 0;
}

/* Room for @count files; file_count stays 0 until they are read. */
static int alloc_files(struct ckpt_st_family *family, size_t count, struct ckpt_err *err)
{
	family->files = array_alloc(num_max(count, 1), sizeof(*family->files));
	family->headers = array_alloc(num_max(count, 1), sizeof(*family->headers));
	if (!family->files || !family->headers)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep %zu headers", count);
	return 0;
}

/* Read one more file; @path is taken over whatever the outcome, and may be NULL (memory is out). */
static int add_file(struct ckpt_st_family *family, char *path, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	size_t idx = family->file_count;
	uint64_t file_bytes;

	if (!path)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep the names of the files");
	family->files[idx] = path;
	family->file_count++;
	fd = ckpt_st_open(path, &file_bytes, err);
	if (fd < 0)
		return fd;
	return ckpt_st_read(fd, path, &family->headers[idx], err);
}

/* --- the index ------------------------------------------------------------- */

/* One line of weight_map; both borrowed from the document. */
struct mapping {
	const char *fqn;
	const char *file;
};

struct weight_map {
	const char *path; /* of the index; borrowed */
	struct ckpt_json *root;
	struct mapping *mappings;
	size_t count;
	size_t cap;
	struct ckpt_err *err;
};

static void weight_map_release(struct weight_map *map)
{
	free(map->mappings);
	ckpt_json_free(map->root);
}

static int take_mapping(void *ctx, const char *key, const struct ckpt_json *value)
{
	struct weight_map *map = ctx;
	int rc;

	if (ckpt_json_kind(value) != CKPT_JSON_STRING)
		return ckpt_err_set(map->err, -EBADMSG,
				    "'%s' is no safetensors index: 'weight_map' must map tensor "
				    "names to file names",
				    map->path);
	rc = ckpt_path_check_entry(ckpt_json_string(value), map->err);
	if (rc < 0)
		return ckpt_err_prefix(map->err, -EBADMSG,
				       "'%s': a file must lie in the folder of the index",
				       map->path);
	rc = array_grow(&map->mappings, &map->cap, map->count, sizeof(*map->mappings));
	if (rc < 0)
		return ckpt_err_sys(map->err, rc, "cannot read '%s'", map->path);
	map->mappings[map->count++] = (struct mapping){ key, ckpt_json_string(value) };
	return 0;
}

static int read_index(struct weight_map *map)
{
	CKPT_CLOSE int fd = -1;
	CKPT_FREE char *text = NULL;
	const struct ckpt_json *weights;
	uint64_t size_bytes = 0;
	int rc;

	fd = ckpt_st_open(map->path, &size_bytes, map->err);
	if (fd < 0)
		return fd;
	if (size_bytes > CKPT_ST_HEADER_MAX)
		return ckpt_err_set(map->err, -EFBIG,
				    "'%s' is no safetensors index: it is longer than 100 MB",
				    map->path);
	rc = ckpt_st_read_range(fd, 0, size_bytes, map->path, &text, map->err);
	if (rc < 0)
		return rc;
	rc = ckpt_json_parse(text, size_bytes, &map->root, map->err);
	if (rc < 0)
		return ckpt_err_prefix(map->err, rc, "'%s' is no safetensors index", map->path);
	/* Other keys of the index are the tools' own. */
	weights = ckpt_json_kind(map->root) == CKPT_JSON_OBJECT
			  ? ckpt_json_get(map->root, "weight_map")
			  : NULL;
	if (!weights || ckpt_json_kind(weights) != CKPT_JSON_OBJECT)
		return ckpt_err_set(map->err, -EBADMSG,
				    "'%s' is no safetensors index: it has no object 'weight_map'",
				    map->path);
	return ckpt_json_each(weights, take_mapping, map);
}

static int compare_mapped_files(const void *left, const void *right)
{
	const struct mapping *a = left;
	const struct mapping *b = right;

	return strcmp(a->file, b->file);
}

/* @name beside the file @beside. */
static char *path_beside(const char *beside, const char *name)
{
	size_t dir_len = (size_t)(ckpt_path_basename(beside) - beside);
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	ckpt_buf_add(&path, beside, dir_len);
	ckpt_buf_add_str(&path, name);
	return ckpt_buf_steal(&path);
}

/* Every file that the map names, once, in the order of their names. */
static int read_files(struct weight_map *map, struct ckpt_st_family *family)
{
	int rc = alloc_files(family, map->count, map->err);

	if (map->count > 1)
		qsort(map->mappings, map->count, sizeof(*map->mappings), compare_mapped_files);
	for (size_t i = 0; rc == 0 && i < map->count; i++) {
		if (i > 0 && strcmp(map->mappings[i].file, map->mappings[i - 1].file) == 0)
			continue;
		rc = add_file(family, path_beside(map->path, map->mappings[i].file), map->err);
	}
	return rc;
}

/* --- do index and headers agree? -------------------------------------------- */

/* A tensor, and the file it was seen in; both borrowed. */
struct sighting {
	const char *fqn;
	const char *file;
};

static int compare_sightings(const void *left, const void *right)
{
	const struct sighting *a = left;
	const struct sighting *b = right;

	return strcmp(a->fqn, b->fqn);
}

static size_t tensor_total(const struct ckpt_st_family *family)
{
	size_t total = 0;

	for (size_t i = 0; i < family->file_count; i++)
		total += family->headers[i].tensor_count;
	return total;
}

/* Every tensor of every header, by FQN; heap array of tensor_total() elements, or NULL. */
static struct sighting *list_tensors(const struct ckpt_st_family *family)
{
	size_t total = tensor_total(family);
	struct sighting *all = array_alloc(num_max(total, 1), sizeof(*all));
	size_t count = 0;

	if (!all)
		return NULL;
	for (size_t i = 0; i < family->file_count; i++) {
		const struct ckpt_st_header *header = &family->headers[i];

		for (size_t k = 0; k < header->tensor_count; k++)
			all[count++] =
				(struct sighting){ header->tensors[k].fqn, family->files[i] };
	}
	qsort(all, total, sizeof(*all), compare_sightings);
	return all;
}

/* File a message about tensor @fqn, which may hold anything; returns -EBADMSG. */
static int disagree(const struct weight_map *map, const char *fqn, const char *reason,
		    const char *file)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, fqn);
	ckpt_err_set(map->err, -EBADMSG, "'%s': tensor '%s' %s '%s'; is the model complete?",
		     map->path, shown.data, reason, file);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

/* Where the headers have @fqn; NULL if nowhere. */
static const struct sighting *find_sighting(const struct sighting *all, size_t count,
					    const char *fqn)
{
	struct sighting key = { .fqn = fqn };

	return bsearch(&key, all, count, sizeof(*all), compare_sightings);
}

static int check_mappings(const struct weight_map *map, const struct sighting *all, size_t total)
{
	for (size_t i = 0; i < map->count; i++) {
		const struct mapping *mapping = &map->mappings[i];
		const struct sighting *seen = find_sighting(all, total, mapping->fqn);
		size_t dir_len = (size_t)(ckpt_path_basename(map->path) - map->path);

		if (!seen || strcmp(seen->file + dir_len, mapping->file) != 0)
			return disagree(map, mapping->fqn, "is not in", mapping->file);
	}
	return 0;
}

static int compare_mapped_fqns(const void *left, const void *right)
{
	const struct mapping *a = left;
	const struct mapping *b = right;

	return strcmp(a->fqn, b->fqn);
}

/* The tensor that the index does not name; there is one, because the headers have more. */
static int report_unnamed(struct weight_map *map, const struct sighting *all, size_t total)
{
	qsort(map->mappings, map->count, sizeof(*map->mappings), compare_mapped_fqns);
	for (size_t i = 0; i < total; i++) {
		struct mapping key = { .fqn = all[i].fqn };

		if (!bsearch(&key, map->mappings, map->count, sizeof(*map->mappings),
			     compare_mapped_fqns))
			return disagree(map, all[i].fqn, "is not in the index, but in",
					all[i].file);
	}
	return ckpt_err_set(map->err, -EBADMSG, "'%s' and its files disagree", map->path);
}

static int check_agreement(struct weight_map *map, const struct ckpt_st_family *family)
{
	CKPT_FREE struct sighting *all = list_tensors(family);
	size_t total = tensor_total(family);
	int rc;

	if (!all)
		return ckpt_err_sys(map->err, -ENOMEM, "cannot compare '%s' with its files",
				    map->path);
	for (size_t i = 1; i < total; i++) {
		if (strcmp(all[i].fqn, all[i - 1].fqn) == 0)
			return disagree(map, all[i].fqn, "is in another file and in", all[i].file);
	}
	rc = check_mappings(map, all, total);
	if (rc == 0 && total > map->count)
		rc = report_unnamed(map, all, total);
	return rc;
}

static int open_index(const char *path, struct ckpt_st_family *family, struct ckpt_err *err)
{
	struct weight_map map = { .path = path, .err = err };
	int rc;

	rc = read_index(&map);
	if (rc == 0)
		rc = read_files(&map, family);
	if (rc == 0)
		rc = check_agreement(&map, family);
	weight_map_release(&map);
	return rc;
}

int ckpt_st_family_open(const char *path, struct ckpt_st_family *out, struct ckpt_err *err)
{
	struct ckpt_st_family family = { 0 };
	int rc;

	if (ends_with(path, ".json")) {
		rc = open_index(path, &family, err);
	} else if (ends_with(path, ".safetensors")) {
		rc = alloc_files(&family, 1, err);
		if (rc == 0)
			rc = add_file(&family, strdup(path), err);
	} else {
		rc = ckpt_err_set(err, -EBADMSG,
				  "cannot tell what '%s' is; give a file called *.safetensors or "
				  "the *.index.json of several",
				  path);
	}
	if (rc < 0) {
		ckpt_st_family_release(&family);
		return rc;
	}
	*out = family;
	return 0;
}
