/* manifest_memory.c - a whole manifest in memory: loading, order, look-up. See manifest.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "store/manifest_internal.h"

void ckpt_manifest_release(struct ckpt_manifest *manifest)
{
	ckpt_manifest_head_release(&manifest->head);
	for (size_t i = 0; i < manifest->dir_count; i++)
		free(manifest->dirs[i].path);
	for (size_t i = 0; i < manifest->shard_count; i++)
		ckpt_shard_release(&manifest->shards[i]);
	for (size_t i = 0; i < manifest->symlink_count; i++) {
		free(manifest->symlinks[i].path);
		free(manifest->symlinks[i].target);
	}
	for (size_t i = 0; i < manifest->tensor_count; i++)
		ckpt_tensor_release(&manifest->tensors[i]);
	for (size_t i = 0; i < manifest->bytes_entry_count; i++)
		ckpt_bytes_entry_release(&manifest->bytes_entries[i]);
	free(manifest->dirs);
	free(manifest->shards);
	free(manifest->symlinks);
	free(manifest->tensors);
	free(manifest->bytes_entries);
	*manifest = (struct ckpt_manifest){ 0 };
}

/* --- loading -------------------------------------------------------------------------- */

/* A manifest that is being loaded; the name is for messages. */
struct load {
	struct ckpt_manifest manifest;
	const char *label;
};

static int keep_head(void *ctx, struct ckpt_manifest_head *head, struct ckpt_err *err)
{
	struct load *load = ctx;

	(void)err;
	load->manifest.head = *head;
	*head = (struct ckpt_manifest_head){ 0 };
	return 0;
}

/* Append the line's struct to its array, which owns it from then on. -ENOMEM. */
static int keep_struct(struct ckpt_manifest *m, const struct ckpt_manifest_line *line)
{
	int rc = -EINVAL;

	switch (line->kind) {
	case CKPT_LINE_DIR:
		rc = array_grow(&m->dirs, &m->dir_cap, m->dir_count, sizeof(*m->dirs));
		if (rc == 0)
			m->dirs[m->dir_count++] = line->dir;
		break;
	case CKPT_LINE_SHARD:
		rc = array_grow(&m->shards, &m->shard_cap, m->shard_count, sizeof(*m->shards));
		if (rc == 0)
			m->shards[m->shard_count++] = line->shard;
		break;
	case CKPT_LINE_SYMLINK:
		rc = array_grow(&m->symlinks, &m->symlink_cap, m->symlink_count,
				sizeof(*m->symlinks));
		if (rc == 0)
			m->symlinks[m->symlink_count++] = line->symlink;
		break;
	case CKPT_LINE_TENSOR:
		rc = array_grow(&m->tensors, &m->tensor_cap, m->tensor_count, sizeof(*m->tensors));
		if (rc == 0)
			m->tensors[m->tensor_count++] = line->tensor;
		break;
	case CKPT_LINE_BYTES:
		rc = array_grow(&m->bytes_entries, &m->bytes_entry_cap, m->bytes_entry_count,
				sizeof(*m->bytes_entries));
		if (rc == 0)
			m->bytes_entries[m->bytes_entry_count++] = line->bytes;
		break;
	case CKPT_LINE_KIND_COUNT:
		break;
	}
	return rc;
}

/* The rules go by hashes of names; here the names themselves are at hand. */
static bool shards_are_there(const struct ckpt_manifest *manifest,
			     const struct ckpt_manifest_line *line)
{
	if (line->kind == CKPT_LINE_BYTES)
		return ckpt_manifest_find_shard(manifest, line->bytes.shard) != NULL;
	if (line->kind != CKPT_LINE_TENSOR)
		return true;
	for (size_t i = 0; i < line->tensor.chunk_count; i++) {
		if (!ckpt_manifest_find_shard(manifest, line->tensor.chunks[i].shard))
			return false;
	}
	return true;
}

static int keep_line(void *ctx, uint32_t number, struct ckpt_manifest_line *line,
		     struct ckpt_err *err)
{
	struct load *load = ctx;
	int rc;

	if (!shards_are_there(&load->manifest, line))
		return ckpt_err_set(err, -EBADMSG,
				    "'%s/%s': line %u: a shard it names is not there; restore it "
				    "from a copy of the checkpoint",
				    load->label, CKPT_MANIFEST_FILE, number);
	rc = keep_struct(&load->manifest, line);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot keep the manifest of '%s' in memory",
				    load->label);
	*line = (struct ckpt_manifest_line){ 0 };
	return 0;
}

static int load_source(const struct ckpt_manifest_source *source, struct ckpt_manifest *out,
		       struct ckpt_err *err)
{
	struct load load = { .label = source->label };
	int rc = ckpt_manifest_scan(source, keep_head, keep_line, &load, err);

	if (rc < 0)
		ckpt_manifest_release(&load.manifest);
	else
		*out = load.manifest;
	return rc;
}

int ckpt_manifest_load(int dirfd, const char *label, struct ckpt_manifest *out,
		       struct ckpt_err *err)
{
	struct stat st = { 0 };
	CKPT_CLOSE int fd = ckpt_manifest_open(dirfd, label, &st, err);
	struct ckpt_manifest_source source = { .fd = fd, .label = label };

	if (fd < 0)
		return fd;
	source.size_bytes = (uint64_t)st.st_size;
	return load_source(&source, out, err);
}

int ckpt_manifest_load_text(const char *text, size_t len_bytes, const char *label,
			    struct ckpt_manifest *out, struct ckpt_err *err)
{
	struct ckpt_manifest_source source = {
		.fd = -1,
		.text = text,
		.size_bytes = len_bytes,
		.label = label,
	};

	return load_source(&source, out, err);
}

/* --- order and look-up ------------------------------------------------------------------ */

static int compare_dirs(const void *left, const void *right)
{
	const struct ckpt_manifest_dir *a = left;
	const struct ckpt_manifest_dir *b = right;

	return strcmp(a->path, b->path);
}

static int compare_shards(const void *left, const void *right)
{
	const struct ckpt_shard *a = left;
	const struct ckpt_shard *b = right;

	return strcmp(a->path, b->path);
}

static int compare_symlinks(const void *left, const void *right)
{
	const struct ckpt_symlink *a = left;
	const struct ckpt_symlink *b = right;

	return strcmp(a->path, b->path);
}

static int compare_tensors(const void *left, const void *right)
{
	const struct ckpt_tensor *a = left;
	const struct ckpt_tensor *b = right;
	int order = strcmp(a->set, b->set);

	return order ? order : strcmp(a->fqn, b->fqn);
}

static int compare_bytes(const void *left, const void *right)
{
	const struct ckpt_bytes_entry *a = left;
	const struct ckpt_bytes_entry *b = right;
	int order = strcmp(a->set, b->set);

	if (order == 0)
		order = strcmp(a->fqn, b->fqn);
	return order ? order : strcmp(a->shard, b->shard);
}

/* By start, then shard and offset, so that the order does not depend on who came first. */
static int compare_chunks(const void *left, const void *right, void *dim_count)
{
	const struct ckpt_chunk *a = left;
	const struct ckpt_chunk *b = right;
	int order;

	for (uint32_t i = 0; i < *(const uint32_t *)dim_count; i++) {
		if (a->start[i] != b->start[i])
			return a->start[i] < b->start[i] ? -1 : 1;
	}
	order = strcmp(a->shard, b->shard);
	if (order)
		return order;
	return a->offset_bytes < b->offset_bytes ? -1 : a->offset_bytes > b->offset_bytes;
}

/* qsort() wants an array also where there are no elements. */
static void sort(void *items, size_t count, size_t size,
		 int (*compare)(const void *left, const void *right))
{
	if (count > 1)
		qsort(items, count, size, compare);
}

void ckpt_manifest_sort(struct ckpt_manifest *manifest)
{
	sort(manifest->dirs, manifest->dir_count, sizeof(*manifest->dirs), compare_dirs);
	sort(manifest->shards, manifest->shard_count, sizeof(*manifest->shards), compare_shards);
	sort(manifest->symlinks, manifest->symlink_count, sizeof(*manifest->symlinks),
	     compare_symlinks);
	sort(manifest->tensors, manifest->tensor_count, sizeof(*manifest->tensors),
	     compare_tensors);
	sort(manifest->bytes_entries, manifest->bytes_entry_count, sizeof(*manifest->bytes_entries),
	     compare_bytes);
	for (size_t i = 0; i < manifest->tensor_count; i++) {
		struct ckpt_tensor *tensor = &manifest->tensors[i];

		if (tensor->chunk_count > 1)
			qsort_r(tensor->chunks, tensor->chunk_count, sizeof(*tensor->chunks),
				compare_chunks, &tensor->dim_count);
	}
}

static int compare_path_with_shard(const void *path, const void *shard)
{
	return strcmp(path, ((const struct ckpt_shard *)shard)->path);
}

const struct ckpt_shard *ckpt_manifest_find_shard(const struct ckpt_manifest *manifest,
						  const char *path)
{
	if (manifest->shard_count == 0)
		return NULL;
	return bsearch(path, manifest->shards, manifest->shard_count, sizeof(*manifest->shards),
		       compare_path_with_shard);
}

uint64_t ckpt_manifest_size_bytes(const struct ckpt_manifest *manifest)
{
	uint64_t size_bytes = 0;

	for (size_t i = 0; i < manifest->shard_count; i++)
		size_bytes += manifest->shards[i].size_bytes;
	return size_bytes;
}
