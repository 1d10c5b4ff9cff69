/* contents_numpy.c - arrays of numpy: .npy files, and .npz archives of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "format/npy.h"
#include "format/zip.h"
#include "store/contents_internal.h"

#define NPY_SUFFIX ".npy"
#define NPZ_SUFFIX ".npz"

/* A name without its suffix; heap. */
static char *stem_of(const char *path)
{
	const char *name = contents_name_of(path);

	return strndup(name, strlen(name) - (sizeof(NPY_SUFFIX) - 1));
}

static int claim_array(struct contents_folder *folder, size_t source, const char *shard,
		       const char *fqn, const struct ckpt_npy_header *header)
{
	const struct contents_whole whole = { .fqn = fqn,
					      .dtype = header->dtype,
					      .dim_count = header->dim_count,
					      .shape = header->shape,
					      .stride = header->stride,
					      .shard = shard,
					      .offset_bytes = header->offset_bytes };

	return contents_claim_whole(folder, source, &whole);
}

/* --- .npy ------------------------------------------------------------------------------------ */

static int look_into_npy(struct contents_folder *folder, const struct ckpt_contents_file *file,
			 size_t family)
{
	CKPT_CLOSE int fd = contents_open(folder, file->path);
	CKPT_FREE char *fqn = stem_of(file->path);
	struct ckpt_npy_header header = { .shape = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	size_t source = 0;
	int rc;

	if (fd == -EACCES)
		return contents_note(folder, file->path, CONTENTS_UNREADABLE);
	if (fd < 0)
		return fd;
	if (!fqn)
		return contents_no_memory(folder);
	rc = ckpt_npy_read(fd, 0, file->size_bytes, contents_name_of(file->path), &header, &why);
	if (rc < 0)
		return contents_judge(folder, file->path, rc, &why);
	rc = contents_add_source(folder, CONTENTS_NPY, file->path, family, &source);
	if (rc == 0)
		rc = claim_array(folder, source, file->path, fqn, &header);
	ckpt_npy_header_release(&header);
	return rc;
}

/* --- .npz ------------------------------------------------------------------------------------ */

/* An archive that is being looked into. */
struct npz {
	struct contents_folder *folder;
	const struct ckpt_contents_file *file;
	int fd;
	size_t source;
	size_t left_out_count;
};

static int claim_record(struct npz *npz, const struct ckpt_zip_record *record)
{
	CKPT_FREE char *fqn = NULL;
	struct ckpt_npy_header header = { .shape = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (!contents_is_called(record->name, NPY_SUFFIX))
		return 0;
	fqn = strndup(record->name, strlen(record->name) - (sizeof(NPY_SUFFIX) - 1));
	if (!fqn)
		return contents_no_memory(npz->folder);
	if (!record->is_stored)
		return contents_count_opaque(
			npz->folder, npz->file->path, fqn,
			"it is compressed; numpy.savez writes it so that it can be shown",
			&npz->left_out_count);
	rc = ckpt_npy_read(npz->fd, record->offset_bytes, record->size_bytes, record->name, &header,
			   &why);
	if (rc == -EBADMSG)
		return contents_count_opaque(npz->folder, npz->file->path, fqn, why.msg,
					     &npz->left_out_count);
	if (rc < 0)
		return ckpt_err_set(npz->folder->err, rc, "%s", why.msg);
	rc = claim_array(npz->folder, npz->source, npz->file->path, fqn, &header);
	ckpt_npy_header_release(&header);
	return rc;
}

static int look_into_npz(struct contents_folder *folder, const struct ckpt_contents_file *file)
{
	CKPT_CLOSE int fd = contents_open(folder, file->path);
	struct npz npz = { .folder = folder, .file = file, .fd = fd };
	struct ckpt_zip *zip = NULL;
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (fd == -EACCES)
		return contents_note(folder, file->path, CONTENTS_UNREADABLE);
	if (fd < 0)
		return fd;
	rc = ckpt_zip_open(fd, 0, file->size_bytes, contents_name_of(file->path), &zip, &why);
	if (rc < 0)
		return contents_judge(folder, file->path, rc, &why);
	rc = contents_add_source(folder, CONTENTS_NPZ, file->path, SIZE_MAX, &npz.source);
	for (size_t i = 0; rc == 0 && i < ckpt_zip_count(zip); i++)
		rc = claim_record(&npz, ckpt_zip_at(zip, i));
	ckpt_zip_free(zip);
	return rc < 0 ? rc : contents_end_opaque(folder, file->path, npz.left_out_count);
}

int contents_look_numpy(struct contents_folder *folder)
{
	size_t arrays = folder->family_count++;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < folder->file_count; i++) {
		const struct ckpt_contents_file *file = folder->files[i];

		if (contents_is_called(file->path, NPZ_SUFFIX))
			rc = look_into_npz(folder, file);
	}
	for (size_t i = 0; rc == 0 && i < folder->file_count; i++) {
		const struct ckpt_contents_file *file = folder->files[i];

		if (contents_is_called(file->path, NPY_SUFFIX))
			rc = look_into_npy(folder, file, arrays);
	}
	return rc;
}
