/*
 * npy.h - the header of numpy's .npy, read and written.
 */
#ifndef CKPT_FORMAT_NPY_H
#define CKPT_FORMAT_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* A parsed header; ckpt_npy_header_release() it. */
struct ckpt_npy_header {
	char dtype[16]; /* as safetensors names it, and C128 */
	uint32_t dim_count;
	uint64_t *shape;
	uint64_t *stride;      /* in elements; NULL: row-major (fortran_order False) */
	uint64_t offset_bytes; /* of the first element in the FILE */
};

/**
 * ckpt_npy_read - read and check the header of a .npy that lies at @offset of an open file
 * @len_bytes: of the .npy: the data must fill it exactly
 * Versions 1.0, 2.0 and 3.0. Errors: -EBADMSG refused: another type (big-endian, structured,
 * objects, strings, times), a lying size … (the message says which); else system.
 * Thread-safe: yes. Source: numpy/lib/format.py.
 */
int ckpt_npy_read(int fd, uint64_t offset, uint64_t len_bytes, const char *label,
		  struct ckpt_npy_header *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_npy_parse - the same from the file's first @len_bytes bytes (10 at least, or all), for a
 * .npy of @file_bytes. offset_bytes counts from its first byte.
 */
int ckpt_npy_parse(const void *data, size_t len_bytes, uint64_t file_bytes, const char *label,
		   struct ckpt_npy_header *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_npy_header_release(struct ckpt_npy_header *header);

/**
 * ckpt_npy_suffix - what the name of a view of @dtype ends in: ".npy", ".bf16-as-u16.npy" for BF16,
 * ".f8-as-u8.npy" for every F8; NULL where @dtype is unknown.
 */
const char *ckpt_npy_suffix(const char *dtype);
/**
 * ckpt_npy_print - append the header of a row-major .npy: version 1.0, 2.0 where that is too short,
 * a multiple of 64 bytes long
 * @dtype: as safetensors names it, and C128; BF16 is written as <u2, F8_* as |u1
 * Errors: -EINVAL unknown dtype; -ENOMEM.
 */
int ckpt_npy_print(const char *dtype, const uint64_t *shape, uint32_t dim_count,
		   struct ckpt_buf *out) CKPT_MUST_CHECK;

#endif
