/* io_range.c - see io_range.h. */
#include "io_range.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io.h"
#include "io_fault.h"
#include "num.h"

ssize_t ckpt_io_append(int fd, void *data, size_t len_bytes)
{
	const struct iovec iov = { .iov_base = data, .iov_len = num_min(len_bytes, CKPT_IO_CHUNK) };

	return IO_CALL(IO_PWRITE, pwritev2(fd, &iov, 1, 0, RWF_APPEND));
}

int ckpt_io_allocate(int fd, int mode, uint64_t offset, uint64_t len_bytes)
{
	off_t at;
	off_t len;

	if (num_to_off(offset, &at) < 0 || num_to_off(len_bytes, &len) < 0)
		return -EFBIG;
	return (int)IO_CALL(IO_FALLOCATE, fallocate(fd, mode, at, len));
}

int ckpt_io_seek(int fd, uint64_t offset, int whence, uint64_t *out)
{
	off_t at;
	long rc;

	if (num_to_off(offset, &at) < 0)
		return -ENXIO;
	/* It moves the descriptor's own position, which nothing here uses. */
	rc = lseek(fd, at, whence);
	if (rc < 0)
		return -errno;
	*out = (uint64_t)rc;
	return 0;
}

ssize_t ckpt_io_copy_range(int in_fd, uint64_t in_offset, int out_fd, uint64_t out_offset,
			   size_t len_bytes)
{
	off_t in;
	off_t out;

	if (num_to_off(in_offset, &in) < 0 || num_to_off(out_offset, &out) < 0)
		return -EFBIG;
	return IO_CALL(IO_COPY_RANGE, copy_file_range(in_fd, &in, out_fd, &out, len_bytes, 0));
}
