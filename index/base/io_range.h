/*
 * io_range.h - the part of the system-call seam (io.h) that acts on a range of an
 * open file: what a mount passes on to the stored file. All return a negative
 * errno instead of setting errno; EINTR is retried.
 */
#ifndef CKPT_BASE_IO_RANGE_H
#define CKPT_BASE_IO_RANGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/**
 * ckpt_io_append - write(2) at the end of the file, wherever that is by now; else as
 * ckpt_io_pwrite().
 * @data: only read, though iovec(3type) cannot say so
 */
ssize_t ckpt_io_append(int fd, void *data, size_t len_bytes) CKPT_MUST_CHECK;
/** ckpt_io_allocate - fallocate(2) with any @mode. */
int ckpt_io_allocate(int fd, int mode, uint64_t offset, uint64_t len_bytes) CKPT_MUST_CHECK;
/**
 * ckpt_io_seek - lseek(2): where the next hole or piece of data begins
 * @whence: SEEK_HOLE or SEEK_DATA
 * Errors: -ENXIO @offset is at the end or behind it, or there is no more data.
 */
int ckpt_io_seek(int fd, uint64_t offset, int whence, uint64_t *out) CKPT_MUST_CHECK;
/**
 * ckpt_io_copy_range - copy_file_range(2): bytes copied, 0 at the end of @in_fd
 * Errors: -EXDEV, -EOPNOTSUPP, -EINVAL the kernel does not copy between these two.
 */
ssize_t ckpt_io_copy_range(int in_fd, uint64_t in_offset, int out_fd, uint64_t out_offset,
			   size_t len_bytes) CKPT_MUST_CHECK;

#endif
