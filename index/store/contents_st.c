/*
 * contents_st.c - the tensors of a folder's safetensors files: whole ones, and the parts that DCP's
 * writer leaves, whose whole shape nobody has written down: it is as large as the parts reach.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/box.h"
#include "base/cleanup.h"
#include "base/cover.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "format/format.h"
#include "store/contents_internal.h"
#include "store/store_internal.h"

#define SUFFIX ".safetensors"
#define INDEX_SUFFIX ".safetensors.index.json"
#define INDEX_MAX (UINT64_C(1) << 28)

/* A part of a tensor in one file. */
struct part {
	const struct ckpt_st_tensor *tensor;
	const uint64_t *start;
	const char *shard;
	size_t source;
};

struct look {
	struct contents_folder *folder;
	struct ckpt_st_header *headers; /* one a file of the folder; empty where it is none */
	uint64_t ***starts;		/* the same: NULL where the file has whole tensors */
	size_t *sources;
	struct part *parts; /* by FQN, then start */
	size_t part_count, part_cap;
	size_t family;
};

/* --- reading --------------------------------------------------------------------------------- */

static bool is_safetensors(const struct look *look, size_t idx)
{
	return contents_is_called(look->folder->files[idx]->path, SUFFIX);
}

/* What is not understood adds a source that is out, for its note. */
static int read_header(struct look *look, size_t idx)
{
	const struct ckpt_contents_file *file = look->folder->files[idx];
	CKPT_CLOSE int fd = contents_open(look->folder, file->path);
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (fd < 0 && fd != -EACCES)
		return fd;
	rc = contents_add_source(look->folder, CONTENTS_SAFETENSORS, file->path, look->family,
				 &look->sources[idx]);
	if (rc < 0)
		return rc;
	if (fd < 0)
		return contents_put_out(look->folder, look->sources[idx], CONTENTS_UNREADABLE);
	rc = ckpt_st_read(fd, contents_name_of(file->path), &look->headers[idx], &why);
	if (rc == 0)
		rc = ckpt_st_saved_offsets(&look->headers[idx], contents_name_of(file->path),
					   &look->starts[idx], &why);
	if (rc == -EBADMSG || rc == -EFBIG)
		return contents_put_out(look->folder, look->sources[idx], "%s", why.msg);
	return rc < 0 ? ckpt_err_set(look->folder->err, rc, "%s", why.msg) : 0;
}

static int add_part(struct look *look, size_t idx, size_t tensor)
{
	struct part part = { .tensor = &look->headers[idx].tensors[tensor],
			     .start = look->starts[idx][tensor],
			     .shard = look->folder->files[idx]->path,
			     .source = look->sources[idx] };

	if (array_grow(&look->parts, &look->part_cap, look->part_count, sizeof(part)) < 0)
		return contents_no_memory(look->folder);
	look->parts[look->part_count++] = part;
	return 0;
}

static int claim_file(struct look *look, size_t idx)
{
	const struct ckpt_st_header *header = &look->headers[idx];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < header->tensor_count; i++) {
		const struct ckpt_st_tensor *tensor = &header->tensors[i];
		const struct contents_whole whole = { .fqn = tensor->fqn,
						      .dtype = tensor->dtype,
						      .dim_count = tensor->dim_count,
						      .shape = tensor->shape,
						      .shard = look->folder->files[idx]->path,
						      .offset_bytes = tensor->offset_bytes };

		if (look->starts[idx] && look->starts[idx][i])
			rc = add_part(look, idx, i);
		else
			rc = contents_claim_whole(look->folder, look->sources[idx], &whole);
	}
	return rc;
}

/* --- parts ----------------------------------------------------------------------------------- */

static int by_fqn(const void *left, const void *right)
{
	const struct part *a = left;
	const struct part *b = right;
	int order = strcmp(a->tensor->fqn, b->tensor->fqn);

	for (uint32_t d = 0; order == 0 && d < num_min(a->tensor->dim_count, b->tensor->dim_count);
	     d++)
		order = (a->start[d] > b->start[d]) - (a->start[d] < b->start[d]);
	return order;
}

/* Why the parts make no tensor: all the files they lie in are out. */
static int put_out_parts(struct look *look, const struct part *parts, size_t count, const char *why)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = contents_put_out(look->folder, parts[i].source, "%s", why);
	return rc;
}

/* As large as the parts reach; false: they do not go together. */
static bool shape_of(const struct part *parts, size_t count, uint64_t *shape)
{
	const struct ckpt_st_tensor *first = parts[0].tensor;

	memset(shape, 0, CKPT_DIM_MAX * sizeof(*shape));
	for (size_t i = 0; i < count; i++) {
		const struct ckpt_st_tensor *tensor = parts[i].tensor;

		if (tensor->dim_count != first->dim_count ||
		    strcmp(tensor->dtype, first->dtype) != 0)
			return false;
		for (uint32_t d = 0; d < tensor->dim_count; d++) {
			uint64_t end;

			if (!num_add(parts[i].start[d], tensor->shape[d], &end))
				return false;
			shape[d] = num_max(shape[d], end);
		}
	}
	return true;
}

/* 0: they cover it; -EBADMSG: they do not, and @why says how. */
static int check_cover(const struct part *parts, size_t count, const uint64_t *shape,
		       struct ckpt_err *why)
{
	const struct ckpt_st_tensor *first = parts[0].tensor;
	CKPT_FREE struct ckpt_part *items = array_alloc(count, sizeof(*items));
	struct ckpt_parts all = {
		.fqn = first->fqn, .shape = shape, .dim_count = first->dim_count, .items = items
	};
	uint64_t volume;
	uint64_t bytes;
	int rc;

	if (!items)
		return -ENOMEM;
	if (ckpt_shape_bytes(first->dtype, shape, first->dim_count, &bytes) < 0 ||
	    bytes > INT64_MAX)
		return ckpt_err_set(why, -EBADMSG, "tensor '%s' has a size that overflows",
				    first->fqn);
	for (size_t i = 0; i < count; i++) {
		if (ckpt_box_volume(parts[i].tensor->shape, first->dim_count, &volume) == 0 &&
		    volume > 0)
			items[all.count++] = (struct ckpt_part){
				.box = { .start = parts[i].start, .size = parts[i].tensor->shape },
			};
	}
	if (first->dim_count == 0)
		return all.count == 1 ? 0
				      : ckpt_err_set(why, -EBADMSG, "tensor '%s' is there twice",
						     first->fqn);
	rc = ckpt_parts_check(&all, why);
	return rc == -EINVAL ? -EBADMSG : rc;
}

static int claim_parts(struct look *look, const struct part *parts, size_t count,
		       const uint64_t *shape)
{
	const struct ckpt_st_tensor *first = parts[0].tensor;
	struct contents_claim *claim = NULL;
	struct ckpt_tensor *tensor;
	int rc = contents_add_claim(look->folder, parts[0].source, &claim);

	if (rc < 0)
		return rc;
	tensor = &claim->tensor;
	memcpy(tensor->dtype, first->dtype, sizeof(tensor->dtype));
	tensor->dim_count = first->dim_count;
	tensor->fqn = strdup(first->fqn);
	tensor->set = strdup(look->folder->path);
	tensor->shape = contents_copy_extents(shape, first->dim_count);
	tensor->chunks = array_alloc(count, sizeof(*tensor->chunks));
	if (!tensor->fqn || !tensor->set || !tensor->shape || !tensor->chunks)
		return contents_no_memory(look->folder);
	for (size_t i = 0; i < count; i++) {
		struct ckpt_chunk *chunk = &tensor->chunks[tensor->chunk_count++];

		chunk->start = contents_copy_extents(parts[i].start, first->dim_count);
		chunk->size = contents_copy_extents(parts[i].tensor->shape, first->dim_count);
		chunk->shard = strdup(parts[i].shard);
		chunk->offset_bytes = parts[i].tensor->offset_bytes;
		if (!chunk->start || !chunk->size || !chunk->shard)
			return contents_no_memory(look->folder);
	}
	return 0;
}

static int join(struct look *look, const struct part *parts, size_t count)
{
	uint64_t shape[CKPT_DIM_MAX];
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (!shape_of(parts, count, shape))
		return put_out_parts(look, parts, count,
				     "parts of a tensor differ in type or dimensions");
	rc = check_cover(parts, count, shape, &why);
	if (rc == -EBADMSG)
		return put_out_parts(look, parts, count, why.msg);
	return rc < 0 ? contents_no_memory(look->folder) : claim_parts(look, parts, count, shape);
}

static int join_all(struct look *look)
{
	size_t end = 0;
	int rc = 0;

	if (look->part_count > 0)
		qsort(look->parts, look->part_count, sizeof(*look->parts), by_fqn);
	for (size_t first = 0; rc == 0 && first < look->part_count; first = end) {
		for (end = first;
		     end < look->part_count &&
		     strcmp(look->parts[first].tensor->fqn, look->parts[end].tensor->fqn) == 0;)
			end++;
		rc = join(look, look->parts + first, end - first);
	}
	return rc;
}

/* Put out all parts, for @name, which is @what, may hold more of their tensors. */
static int put_out_all_parts(struct look *look, const char *name, const char *what)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < look->folder->file_count; i++) {
		if (look->starts[i])
			rc = contents_put_out(
				look->folder, look->sources[i],
				"its parts of tensors are not complete without '%s', which is %s",
				name, what);
	}
	return rc;
}

/* Links, folders and special files are in no list of files. */
static int look_for_others(struct look *look)
{
	unsigned char type;
	const char *name;
	DIR *dir;
	int rc = ckpt_dir_open(look->folder->dirfd, look->folder->path, &dir);

	/* A folder that may be entered, and not read. */
	if (rc == -EACCES)
		return 0;
	if (rc < 0)
		return ckpt_err_sys(look->folder->err, rc, "cannot list the tensors of '%s'",
				    look->folder->label);
	while ((rc = ckpt_io_readdir_type(dir, &name, &type)) > 0) {
		if (type == DT_REG || type == DT_UNKNOWN || !contents_is_called(name, SUFFIX))
			continue;
		rc = put_out_all_parts(look, name, "no regular file");
		break;
	}
	closedir(dir);
	return rc < 0 ? ckpt_err_sys(look->folder->err, rc, "cannot list the tensors of '%s'",
				     look->folder->label)
		      : 0;
}

/*
 * Nobody has written down how many files there are, nor how large a tensor is: where one file of
 * the folder is out, parts in it may be missing from all the others, which would be cut short.
 */
static int put_out_together(struct look *look)
{
	const struct contents_folder *folder = look->folder;

	if (look->part_count == 0)
		return 0;
	for (size_t i = 0; i < folder->file_count; i++) {
		if (is_safetensors(look, i) && folder->sources[look->sources[i]].why_out)
			return put_out_all_parts(look, contents_name_of(folder->files[i]->path),
						 "not understood");
	}
	return look_for_others(look);
}

/* --- the index ------------------------------------------------------------------------------- */

/* An index.json that is being compared with the files. */
struct index {
	struct look *look;
	const char **fqns; /* of all tensors in the folder's files, ordered */
	size_t fqn_count;
	bool is_out; /* what is wrong was found */
	char problem[CKPT_ERR_MAX];
};

static int by_name(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int list_fqns(struct index *index)
{
	const struct look *look = index->look;
	size_t total = 0;

	for (size_t i = 0; i < look->folder->file_count; i++)
		total += look->headers[i].tensor_count;
	index->fqns = array_alloc(num_max(total, 1), sizeof(const char *));
	if (!index->fqns)
		return contents_no_memory(look->folder);
	for (size_t i = 0; i < look->folder->file_count; i++) {
		for (size_t k = 0; k < look->headers[i].tensor_count; k++)
			index->fqns[index->fqn_count++] = look->headers[i].tensors[k].fqn;
	}
	qsort(index->fqns, index->fqn_count, sizeof(const char *), by_name);
	return 0;
}

static int path_and_file(const void *name, const void *file)
{
	return strcmp(name,
		      contents_name_of((*(const struct ckpt_contents_file *const *)file)->path));
}

/* Its number in the folder, whose files are ordered by name; SIZE_MAX: there is none. */
static size_t find_file(const struct look *look, const char *name)
{
	const struct contents_folder *folder = look->folder;
	/* An array of pointers it is. NOLINTNEXTLINE(bugprone-sizeof-expression) */
	const size_t item_bytes = sizeof(folder->files[0]);
	const struct ckpt_contents_file *const *found =
		bsearch(name, folder->files, folder->file_count, item_bytes, path_and_file);

	return found ? (size_t)(found - folder->files) : SIZE_MAX;
}

/* Why @fqn cannot be had from @file; NULL: it can. */
static const char *why_missing(const struct index *index, const char *fqn, const char *file)
{
	const struct look *look = index->look;
	size_t idx = find_file(look, file);

	if (idx == SIZE_MAX)
		return "which is not there";
	if (!is_safetensors(look, idx) || look->folder->sources[look->sources[idx]].why_out)
		return "which is not understood";
	/* Tied ones may lie in another file than the index says: loaders read them all. */
	return bsearch(&fqn, index->fqns, index->fqn_count, sizeof(fqn), by_name)
		       ? NULL
		       : "which does not hold it";
}

static int check_file(void *ctx, const char *fqn, const struct ckpt_json *value)
{
	struct index *index = ctx;
	const char *file = ckpt_json_kind(value) == CKPT_JSON_STRING ? ckpt_json_string(value)
								     : NULL;
	const char *why = file ? why_missing(index, fqn, file) : NULL;

	if (!file)
		ckpt_ignore(snprintf(index->problem, sizeof(index->problem),
				     "its weight_map does not name files"));
	else if (why)
		ckpt_ignore(snprintf(index->problem, sizeof(index->problem),
				     "'%s' should lie in '%s', %s", fqn, file, why));
	index->is_out = !file || why;
	return index->is_out;
}

/* All files of the folder are out: a model with a tensor missing is worse than none. */
static int put_out_family(struct look *look, const char *index_file, const char *why)
{
	int rc = contents_note(look->folder, index_file, "%s", why);

	for (size_t i = 0; rc == 0 && i < look->folder->file_count; i++) {
		if (is_safetensors(look, i))
			rc = contents_put_out(look->folder, look->sources[i],
					      "'%s' does not fit the files",
					      contents_name_of(index_file));
	}
	return rc;
}

/* NULL: it fits; else why it does not, which may lie in @index. */
static const char *compare_index(struct index *index, const struct ckpt_json *root)
{
	const struct ckpt_json *map = root && ckpt_json_kind(root) == CKPT_JSON_OBJECT
					      ? ckpt_json_get(root, "weight_map")
					      : NULL;

	if (!root)
		return "it is no JSON";
	if (!map || ckpt_json_kind(map) != CKPT_JSON_OBJECT)
		return "it has no weight_map";
	ckpt_ignore(ckpt_json_each(map, check_file, index));
	return index->is_out ? index->problem : NULL;
}

static int check_text(struct look *look, const char *path, const struct ckpt_buf *text)
{
	struct index index = { .look = look };
	struct ckpt_json *root = NULL;
	const char *why;
	int rc = list_fqns(&index);

	if (rc < 0)
		return rc;
	rc = ckpt_json_parse(text->data, text->len_bytes, &root, NULL);
	if (rc == -ENOMEM) {
		rc = contents_no_memory(look->folder);
	} else {
		why = compare_index(&index, root);
		rc = why ? put_out_family(look, path, why) : 0;
	}
	ckpt_json_free(root);
	free(index.fqns);
	return rc;
}

static int check_index(struct look *look, const struct ckpt_contents_file *file)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_buf text;
	int rc;

	if (file->size_bytes > INDEX_MAX)
		return put_out_family(look, file->path, "it is longer than 256 MiB");
	ckpt_buf_init(&text);
	rc = ckpt_io_read_file(look->folder->dirfd, file->path, INDEX_MAX, &text, &why);
	if (rc == -EACCES)
		rc = put_out_family(look, file->path, CONTENTS_UNREADABLE);
	else if (rc < 0)
		rc = ckpt_err_set(look->folder->err, rc, "%s", why.msg);
	else
		rc = check_text(look, file->path, &text);
	ckpt_buf_release(&text);
	return rc;
}

/* --- the folder ------------------------------------------------------------------------------ */

static int read_files(struct look *look)
{
	struct contents_folder *folder = look->folder;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < folder->file_count; i++) {
		if (is_safetensors(look, i))
			rc = read_header(look, i);
		if (rc == 0)
			rc = claim_file(look, i);
	}
	if (rc == 0)
		rc = join_all(look);
	if (rc == 0)
		rc = put_out_together(look);
	for (size_t i = 0; rc == 0 && i < folder->file_count; i++) {
		if (contents_is_called(folder->files[i]->path, INDEX_SUFFIX))
			rc = check_index(look, folder->files[i]);
	}
	return rc;
}

static void look_release(struct look *look)
{
	for (size_t i = 0; i < look->folder->file_count; i++) {
		if (look->starts && look->headers)
			ckpt_st_saved_offsets_free(look->starts[i], look->headers[i].tensor_count);
		if (look->headers)
			ckpt_st_header_release(&look->headers[i]);
	}
	free(look->headers);
	free(look->starts);
	free(look->sources);
	free(look->parts);
}

int contents_look_safetensors(struct contents_folder *folder)
{
	struct look look = { .folder = folder, .family = folder->family_count++ };
	size_t count = num_max(folder->file_count, 1);
	int rc;

	look.headers = array_alloc(count, sizeof(*look.headers));
	look.starts = array_alloc(count, sizeof(uint64_t **));
	look.sources = array_alloc(count, sizeof(*look.sources));
	rc = look.headers && look.starts && look.sources ? read_files(&look)
							 : contents_no_memory(folder);
	look_release(&look);
	return rc;
}
