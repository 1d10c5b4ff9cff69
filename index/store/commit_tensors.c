/*
 * commit_tensors.c - the tensors of a checkpoint whose writer described none:
 * what the headers of its safetensors files say. A folder is a tensor set, so
 * the files of a family are one set; files of one folder that claim the same
 * FQN contradict each other, and all of them stay plain shards, as does a file
 * that is not understood.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "store/commit_internal.h"

#define SUFFIX ".safetensors"

struct found {
	struct ckpt_tensor tensor;
	bool *file_is_out; /* one for each file, shared by its tensors */
};

struct catalogue {
	struct found *items;
	size_t count, cap;
};

static bool is_safetensors(const char *path)
{
	size_t len_bytes = strlen(path);
	size_t suffix_len = sizeof(SUFFIX) - 1;

	return len_bytes > suffix_len && strcmp(path + len_bytes - suffix_len, SUFFIX) == 0;
}

/* The folder that @path lies in, "" for the top; heap. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strndup(path, slash ? (size_t)(slash - path) : 0);
}

static uint64_t *copy_extents(const uint64_t *from, uint32_t count)
{
	uint64_t *copy = array_alloc(num_max(count, 1), sizeof(*copy));

	if (copy && from)
		memcpy(copy, from, count * sizeof(*copy));
	return copy;
}

/* One tensor, whole in one file: one chunk. -ENOMEM leaves @out to be released. */
static int make_tensor(const struct ckpt_st_tensor *from, const char *path, struct ckpt_tensor *out)
{
	struct ckpt_chunk *chunk;

	memcpy(out->dtype, from->dtype, sizeof(out->dtype));
	out->dim_count = from->dim_count;
	out->fqn = strdup(from->fqn);
	out->set = folder_of(path);
	out->shape = copy_extents(from->shape, from->dim_count);
	out->chunks = array_alloc(1, sizeof(*out->chunks));
	if (!out->fqn || !out->set || !out->shape || !out->chunks)
		return -ENOMEM;
	out->chunk_count = 1;
	chunk = &out->chunks[0];
	chunk->start = copy_extents(NULL, from->dim_count);
	chunk->size = copy_extents(from->shape, from->dim_count);
	chunk->shard = strdup(path);
	chunk->offset_bytes = from->offset_bytes;
	return chunk->start && chunk->size && chunk->shard ? 0 : -ENOMEM;
}

static int add_tensor(struct catalogue *all, const struct ckpt_st_tensor *from, const char *path,
		      bool *file_is_out)
{
	struct found *found;
	int rc = array_grow(&all->items, &all->cap, all->count, sizeof(*all->items));

	if (rc < 0)
		return rc;
	found = &all->items[all->count++];
	*found = (struct found){ .file_is_out = file_is_out };
	/* The format wants a name; a file that has a tensor without one stays a plain shard. */
	if (from->fqn[0] == '\0')
		*file_is_out = true;
	return make_tensor(from, path, &found->tensor);
}

/*
 * The tensors of one file; a file that is not understood adds none, one that cannot be read is no
 * such file.
 */
static int add_file(const struct ckpt_commit *commit, const struct ckpt_commit_file *file,
		    struct catalogue *all, bool *file_is_out, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(commit->dirfd, file->path,
						 O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct ckpt_st_header header = { .tensors = NULL };
	int rc = fd < 0 ? fd : ckpt_st_read(fd, file->path, &header, NULL);

	if (rc == -EBADMSG || rc == -EFBIG)
		return 0;
	for (size_t i = 0; rc == 0 && i < header.tensor_count; i++)
		rc = add_tensor(all, &header.tensors[i], file->path, file_is_out);
	ckpt_st_header_release(&header);
	if (rc < 0)
		return ckpt_err_sys(err, rc,
				    "cannot commit '%s': cannot list the tensors of '%s/%s'",
				    commit->name, commit->name, file->path);
	return 0;
}

static int by_set_and_fqn(const void *a, const void *b)
{
	const struct ckpt_tensor *left = &((const struct found *)a)->tensor;
	const struct ckpt_tensor *right = &((const struct found *)b)->tensor;
	int order = strcmp(left->set, right->set);

	return order != 0 ? order : strcmp(left->fqn, right->fqn);
}

/* Every file that claims an FQN which another of its folder claims too is out. */
static void drop_contradictions(const struct catalogue *all)
{
	for (size_t i = 1; i < all->count; i++) {
		if (by_set_and_fqn(&all->items[i - 1], &all->items[i]) == 0) {
			*all->items[i - 1].file_is_out = true;
			*all->items[i].file_is_out = true;
		}
	}
}

/* Move what is left into the manifest; the rest is released by the caller. */
static int move_tensors(struct catalogue *all, struct ckpt_manifest *manifest)
{
	for (size_t i = 0; i < all->count; i++) {
		int rc = array_grow(&manifest->tensors, &manifest->tensor_cap,
				    manifest->tensor_count, sizeof(*manifest->tensors));

		if (rc < 0)
			return rc;
		if (*all->items[i].file_is_out)
			continue;
		manifest->tensors[manifest->tensor_count++] = all->items[i].tensor;
		all->items[i].tensor = (struct ckpt_tensor){ .fqn = NULL };
	}
	return 0;
}

static void catalogue_release(struct catalogue *all)
{
	for (size_t i = 0; i < all->count; i++)
		ckpt_tensor_release(&all->items[i].tensor);
	free(all->items);
}

int ckpt_commit_catalogue(struct ckpt_commit *commit, struct ckpt_err *err)
{
	CKPT_FREE bool *out_files = array_alloc(commit->file_count, sizeof(*out_files));
	struct catalogue all = { .items = NULL };
	int rc = 0;

	if (!out_files)
		return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", commit->name);
	for (size_t i = 0; rc == 0 && i < commit->file_count; i++) {
		if (!commit->files[i].packed && is_safetensors(commit->files[i].path))
			rc = add_file(commit, &commit->files[i], &all, &out_files[i], err);
	}
	if (rc == 0 && all.count > 0) {
		qsort(all.items, all.count, sizeof(*all.items), by_set_and_fqn);
		drop_contradictions(&all);
		rc = move_tensors(&all, &commit->manifest);
		if (rc < 0)
			rc = ckpt_err_sys(err, rc, "cannot commit '%s'", commit->name);
	}
	catalogue_release(&all);
	return rc;
}
