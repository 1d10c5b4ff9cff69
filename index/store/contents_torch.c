/* contents_torch.c - the tensors in files that torch.save wrote. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "format/torch.h"
#include "store/contents_internal.h"

#define BIN_SUFFIX ".bin"
#define BIN_INDEX_SUFFIX ".bin.index.json"

static const char *const suffixes[] = { ".pt", ".pth", ".ckpt" };

/* How a file begins. */
enum beginning {
	BEGINS_OTHER,
	BEGINS_ZIP,
	BEGINS_PICKLE, /* torch.save before 1.6 */
};

/* Any program calls its files .bin; of those only the ones that are called as torch's are opened. */
static bool is_torch_bin(const char *path)
{
	static const char *const words[] = { "model", "optimizer", "scheduler", "training_args" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strstr(contents_name_of(path), words[i]))
			return true;
	}
	return false;
}

bool contents_may_be_torch(const char *path)
{
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (contents_is_called(path, suffixes[i]))
			return true;
	}
	return contents_is_called(path, BIN_SUFFIX) && is_torch_bin(path);
}

static int look_at_beginning(const struct contents_folder *folder, int fd, const char *path,
			     enum beginning *out)
{
	unsigned char magic[4] = { 0 };
	size_t got = 0;
	int rc = ckpt_io_pread_full(fd, magic, sizeof(magic), 0, &got);

	if (rc < 0)
		return ckpt_err_sys(folder->err, rc, "cannot read '%s/%s'", folder->label, path);
	*out = BEGINS_OTHER;
	if (got == sizeof(magic) && memcmp(magic, "PK\3\4", 4) == 0)
		*out = BEGINS_ZIP;
	else if (got == sizeof(magic) && magic[0] == 0x80 && magic[1] >= 2 && magic[1] <= 5)
		*out = BEGINS_PICKLE;
	return 0;
}

/* "a.b.0", and the group "a" where there is more than one. */
static int print_fqn(const struct contents_folder *folder, const struct ckpt_torch_tensor *tensor,
		     const char *path, struct ckpt_buf *out)
{
	const char *name = contents_name_of(path);

	ckpt_buf_reset(out);
	/* A file that is one tensor: it is called like the file. */
	if (tensor->path_count == 0)
		ckpt_buf_add(out, name, (size_t)(strrchr(name, '.') - name));
	for (size_t i = 0; i < tensor->path_count; i++)
		ckpt_buf_printf(out, i == 0 ? "%s" : ".%s", tensor->path[i]);
	return ckpt_buf_check(out) < 0 ? contents_no_memory(folder) : 0;
}

static int claim_tensors(struct contents_folder *folder, size_t source, const char *path,
			 const struct ckpt_torch_object *object)
{
	struct ckpt_buf fqn;
	size_t opaque = 0;
	int rc = 0;

	ckpt_buf_init(&fqn);
	for (size_t i = 0; rc == 0 && i < object->tensor_count; i++) {
		const struct ckpt_torch_tensor *tensor = &object->tensors[i];
		struct contents_whole whole = { .dtype = tensor->dtype,
						.dim_count = tensor->dim_count,
						.shape = tensor->shape,
						.stride = tensor->stride,
						.shard = path,
						.offset_bytes = tensor->offset_bytes };

		rc = print_fqn(folder, tensor, path, &fqn);
		if (rc < 0)
			break;
		whole.fqn = fqn.data;
		whole.group = tensor->path_count > 1 && tensor->path[0][0] ? tensor->path[0] : NULL;
		rc = tensor->opaque ? contents_count_opaque(folder, path, fqn.data, tensor->opaque,
							    &opaque)
				    : contents_claim_whole(folder, source, &whole);
	}
	ckpt_buf_release(&fqn);
	return rc < 0 ? rc : contents_end_opaque(folder, path, opaque);
}

static int read_archive(struct contents_folder *folder, const struct ckpt_contents_file *file,
			int fd, size_t family)
{
	struct ckpt_torch_object object = { .tensors = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	size_t source = 0;
	int rc = ckpt_torch_read(fd, 0, file->size_bytes, contents_name_of(file->path), &object,
				 &why);

	if (rc < 0)
		return contents_judge(folder, file->path, rc, &why);
	/* Without tensors it says nothing: the names of others do not depend on it. */
	if (object.tensor_count > 0)
		rc = contents_add_source(folder, CONTENTS_TORCH, file->path, family, &source);
	if (rc == 0 && object.tensor_count > 0)
		folder->sources[source].is_one_tensor = object.is_tensor;
	if (rc == 0)
		rc = claim_tensors(folder, source, file->path, &object);
	ckpt_torch_object_release(&object);
	return rc;
}

static int look_into(struct contents_folder *folder, const struct ckpt_contents_file *file,
		     size_t family)
{
	CKPT_CLOSE int fd = contents_open(folder, file->path);
	enum beginning beginning = BEGINS_OTHER;
	int rc;

	if (fd == -EACCES)
		return contents_note(folder, file->path, CONTENTS_UNREADABLE);
	rc = fd < 0 ? fd : look_at_beginning(folder, fd, file->path, &beginning);
	if (rc < 0 || beginning == BEGINS_OTHER)
		return rc;
	if (beginning == BEGINS_PICKLE)
		return contents_note(
			folder, file->path,
			"it is no zip archive: torch.save before 1.6 wrote it, or with _use_new_zipfile_serialization=False; load and save it again");
	return read_archive(folder, file, fd, family);
}

/* Shards of one model, as transformers saves them: they name their tensors together. */
static bool has_bin_index(const struct contents_folder *folder)
{
	for (size_t i = 0; i < folder->file_count; i++) {
		if (contents_is_called(folder->files[i]->path, BIN_INDEX_SUFFIX))
			return true;
	}
	return false;
}

static bool is_bin_shard(const char *path)
{
	return contents_is_called(path, BIN_SUFFIX) && strstr(contents_name_of(path), "-of-");
}

int contents_look_torch(struct contents_folder *folder)
{
	size_t bins = has_bin_index(folder) ? folder->family_count++ : SIZE_MAX;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < folder->file_count; i++) {
		const struct ckpt_contents_file *file = folder->files[i];

		if (contents_may_be_torch(file->path))
			rc = look_into(folder, file, is_bin_shard(file->path) ? bins : SIZE_MAX);
	}
	return rc;
}
