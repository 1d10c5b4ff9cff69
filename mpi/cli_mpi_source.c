/* cli_mpi_source.c - see cli_mpi_source.h. */
#include "cli_mpi_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"

/* A blob is held in memory, on one rank. */
#define BLOB_FILE_MAX CKPT_GIB

void mpi_source_release(struct mpi_source *source)
{
	for (size_t i = 0; source->fds && i < source->family.file_count; i++)
		ckpt_cleanup_close(&source->fds[i]);
	for (size_t i = 0; source->tensors && i < source->count; i++) {
		free(source->tensors[i].start);
		free(source->tensors[i].size);
	}
	for (size_t i = 0; i < source->blob_count; i++)
		ckpt_buf_release(&source->blob_bytes[i]);
	free(source->blobs);
	free(source->blob_bytes);
	free(source->fds);
	free(source->tensors);
	free(source->entries);
	ckpt_st_family_release(&source->family);
}

/* Names become file names and lines of the manifest. */
static int check_names(const struct ckpt_st_header *header, const char *file, struct ckpt_err *err)
{
	struct ckpt_buf shown;
	int rc = 0;

	ckpt_buf_init(&shown);
	for (size_t i = 0; i < header->tensor_count && rc == 0; i++) {
		const char *fqn = header->tensors[i].fqn;

		if (*fqn && ckpt_path_is_utf8(fqn, strlen(fqn)))
			continue;
		ckpt_path_escape(&shown, fqn);
		rc = ckpt_err_set(
			err, -EINVAL,
			"tensor '%s' of '%s' cannot be stored: a name must be text without control characters; rename it",
			shown.data, file);
	}
	ckpt_buf_release(&shown);
	return rc;
}

static int open_files(struct mpi_source *source, struct ckpt_err *err)
{
	const struct ckpt_st_family *family = &source->family;

	source->fds = array_alloc(family->file_count + 1, sizeof(*source->fds));
	if (!source->fds)
		return -ENOMEM;
	for (size_t i = 0; i < family->file_count; i++)
		source->fds[i] = -1;
	for (size_t i = 0; i < family->file_count; i++) {
		source->fds[i] = ckpt_io_openat(AT_FDCWD, family->files[i], O_RDONLY, 0);
		if (source->fds[i] < 0)
			return ckpt_err_sys(err, source->fds[i], "cannot open '%s'",
					    family->files[i]);
		source->count += family->headers[i].tensor_count;
		if (check_names(&family->headers[i], family->files[i], err) < 0)
			return -EINVAL;
	}
	return 0;
}

int mpi_source_open(struct mpi_source *source, const char *path, struct ckpt_err *err)
{
	size_t next = 0;
	int rc;

	*source = (struct mpi_source){ .planned_idx = SIZE_MAX };
	rc = ckpt_st_family_open(path, &source->family, err);
	if (rc == 0)
		rc = open_files(source, err);
	if (rc < 0)
		return rc;
	source->tensors = array_alloc(source->count + 1, sizeof(*source->tensors));
	source->entries = array_alloc(source->count + 1, sizeof(*source->entries));
	if (!source->tensors || !source->entries)
		return -ENOMEM;
	for (size_t file = 0; file < source->family.file_count; file++) {
		const struct ckpt_st_header *header = &source->family.headers[file];

		for (size_t i = 0; i < header->tensor_count; i++) {
			source->tensors[next].tensor = &header->tensors[i];
			source->tensors[next++].file_idx = file;
		}
	}
	return 0;
}

int mpi_source_cut(struct mpi_source *source, const struct ckpt_mpi_mesh *mesh, int rank)
{
	for (size_t i = 0; i < source->count; i++) {
		struct mpi_source_tensor *it = &source->tensors[i];
		const struct ckpt_st_tensor *tensor = it->tensor;
		int rc;

		it->start = array_alloc((size_t)tensor->dim_count + 1, sizeof(*it->start));
		it->size = array_alloc((size_t)tensor->dim_count + 1, sizeof(*it->size));
		if (!it->start || !it->size)
			return -ENOMEM;
		rc = ckpt_mpi_mesh_chunk(tensor->shape, tensor->dim_count, mesh, rank, it->start,
					 it->size);
		if (rc < 0)
			return rc;
		it->chunk = (struct ckpt_mpi_chunk){ .start = it->start, .size = it->size };
		source->entries[i] = (struct ckpt_mpi_entry){
			.fqn = tensor->fqn,
			.dtype = tensor->dtype,
			.shape = tensor->shape,
			.dim_count = tensor->dim_count,
			.chunks = &it->chunk,
			.chunk_count = 1,
		};
	}
	return 0;
}

int mpi_source_blobs(struct mpi_source *source, const struct mpi_pair_list *files,
		     struct ckpt_err *err)
{
	source->blobs = array_alloc(files->count + 1, sizeof(*source->blobs));
	source->blob_bytes = array_alloc(files->count + 1, sizeof(*source->blob_bytes));
	if (!source->blobs || !source->blob_bytes)
		return -ENOMEM;
	for (; source->blob_count < files->count; source->blob_count++) {
		const struct mpi_pair *file = &files->items[source->blob_count];
		struct ckpt_buf *bytes = &source->blob_bytes[source->blob_count];
		int rc;

		ckpt_buf_init(bytes);
		rc = ckpt_io_read_file(AT_FDCWD, file->value, BLOB_FILE_MAX, bytes, err);
		if (rc < 0) {
			ckpt_buf_release(bytes);
			return rc;
		}
		source->blobs[source->blob_count] = (struct ckpt_mpi_blob){
			.fqn = file->key, .data = bytes->data, .size_bytes = bytes->len_bytes
		};
	}
	return 0;
}

/*
 * The runs of a chunk's bytes in the file; the chunk itself is dense, so that run i begins at i *
 * run_bytes of it.
 */
static void plan(struct mpi_source *source, size_t idx)
{
	const struct mpi_source_tensor *it = &source->tensors[idx];
	uint32_t dim_count = it->tensor->dim_count;
	uint64_t in_file[CKPT_DIM_MAX];
	uint64_t in_chunk[CKPT_DIM_MAX];
	const struct ckpt_copy_spec spec = {
		.size = it->size,
		.from_stride = in_file,
		.to_stride = in_chunk,
		.dim_count = dim_count,
		.element_bytes = ckpt_dtype_size(it->tensor->dtype),
	};

	ckpt_box_strides(it->tensor->shape, dim_count, in_file);
	ckpt_box_strides(it->size, dim_count, in_chunk);
	ckpt_copy_plan(&spec, &source->copy);
	source->copy_from = it->tensor->offset_bytes;
	for (uint32_t d = 0; d < dim_count; d++)
		source->copy_from += it->start[d] * in_file[d] * spec.element_bytes;
	source->planned_idx = idx;
}

static int fail(const struct mpi_source *source, size_t idx, int code, char *message)
{
	const struct mpi_source_tensor *it = &source->tensors[idx];

	(void)snprintf(message, CKPT_MPI_MESSAGE_MAX, "cannot read tensor '%s' of '%s': %s",
		       it->tensor->fqn, source->family.files[it->file_idx],
		       code == -ESTALE
			       ? "the file has become shorter; save again when nobody writes it"
			       : strerror(-code));
	return code;
}

int mpi_source_read(void *ctx, const struct ckpt_mpi_piece *piece)
{
	struct mpi_source *source = ctx;
	int fd = source->fds[source->tensors[piece->entry_idx].file_idx];
	unsigned char *to = piece->out;
	uint64_t offset = piece->offset;

	if (source->planned_idx != piece->entry_idx)
		plan(source, piece->entry_idx);
	for (size_t left = piece->len, bytes; left > 0; left -= bytes) {
		uint64_t within = offset % source->copy.run_bytes;
		uint64_t from;
		uint64_t in_chunk;
		size_t got = 0;
		int rc;

		bytes = num_min(left, source->copy.run_bytes - within);
		ckpt_copy_run(&source->copy, offset / source->copy.run_bytes, &from, &in_chunk);
		rc = ckpt_io_pread_full(fd, to, bytes, source->copy_from + from + within, &got);
		if (rc == 0 && got != bytes)
			rc = -ESTALE;
		if (rc < 0)
			return fail(source, piece->entry_idx, rc, piece->message);
		offset += bytes;
		to += bytes;
	}
	return 0;
}
