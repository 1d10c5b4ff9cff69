/* st_read.c - safetensors headers out of files, one or a family; see format.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "format/format.h"
#include "format/format_internal.h"

/* Exactly @len_bytes bytes at @offset, which the file was seen to have. */
static int read_exactly(int fd, uint64_t offset, void *out, size_t len_bytes, const char *label,
			struct ckpt_err *err)
{
	size_t got = 0;
	int rc = ckpt_io_pread_full(fd, out, len_bytes, offset, &got);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s'", label);
	if (got < len_bytes)
		return ckpt_err_set(err, -EBADMSG,
				    "'%s' became shorter while it was read; is it being written?",
				    label);
	return 0;
}

int ckpt_st_read_range(int fd, uint64_t offset, size_t len_bytes, const char *label, char **out,
		       struct ckpt_err *err)
{
	CKPT_FREE char *bytes = malloc(num_max(len_bytes, 1));
	int rc;

	if (!bytes)
		return ckpt_err_sys(err, -ENOMEM, "cannot read '%s'", label);
	rc = read_exactly(fd, offset, bytes, len_bytes, label, err);
	if (rc == 0)
		*out = ckpt_steal_ptr(&bytes);
	return rc;
}

static int regular_size(int fd, const char *label, uint64_t *out_size_bytes, struct ckpt_err *err)
{
	struct stat st;
	int rc = ckpt_io_fstat(fd, &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s'", label);
	if (!S_ISREG(st.st_mode))
		return ckpt_err_set(err, -EBADMSG, "'%s' is no regular file; give a file", label);
	*out_size_bytes = (uint64_t)st.st_size;
	return 0;
}

int ckpt_st_open(const char *path, uint64_t *out_size_bytes, struct ckpt_err *err)
{
	/* O_NONBLOCK: opening a FIFO must not hang. */
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s'", path);
	rc = regular_size(fd, path, out_size_bytes, err);
	return rc < 0 ? rc : ckpt_steal_fd(&fd);
}

static uint64_t little_endian(const unsigned char bytes[ST_LENGTH_BYTES])
{
	uint64_t value = 0;

	for (int i = ST_LENGTH_BYTES - 1; i >= 0; i--)
		value = value << 8 | bytes[i];
	return value;
}

static int check_length(uint64_t len_bytes, uint64_t file_bytes, const char *label,
			struct ckpt_err *err)
{
	if (len_bytes > CKPT_ST_HEADER_MAX)
		return ckpt_err_set(err, -EFBIG,
				    "'%s' is not a valid safetensors file: its header would have "
				    "%" PRIu64 " bytes, more than %" PRIu64,
				    label, len_bytes, CKPT_ST_HEADER_MAX);
	if (len_bytes > file_bytes - ST_LENGTH_BYTES)
		return ckpt_err_set(err, -EBADMSG,
				    "'%s' is not a valid safetensors file: its header would have "
				    "%" PRIu64 " bytes, the file has %" PRIu64 "; it is truncated",
				    label, len_bytes, file_bytes);
	return 0;
}

int ckpt_st_read(int fd, const char *label, struct ckpt_st_header *out, struct ckpt_err *err)
{
	unsigned char word[ST_LENGTH_BYTES] = { 0 };
	CKPT_FREE char *json = NULL;
	uint64_t file_bytes = 0;
	uint64_t len_bytes;
	int rc;

	rc = regular_size(fd, label, &file_bytes, err);
	if (rc < 0)
		return rc;
	if (file_bytes < ST_LENGTH_BYTES)
		return ckpt_err_set(err, -EBADMSG,
				    "'%s' is not a valid safetensors file: it has only %" PRIu64
				    " bytes; it is truncated",
				    label, file_bytes);
	rc = read_exactly(fd, 0, word, sizeof(word), label, err);
	if (rc < 0)
		return rc;
	len_bytes = little_endian(word);
	rc = check_length(len_bytes, file_bytes, label, err);
	if (rc == 0)
		rc = ckpt_st_read_range(fd, ST_LENGTH_BYTES, len_bytes, label, &json, err);
	if (rc < 0)
		return rc;
	return ckpt_st_parse(json, len_bytes, file_bytes, label, out, err);
}
