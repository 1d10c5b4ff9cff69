/*
 * format_internal.h - what the files of index/format share among themselves.
 * May be included only by index/format/<anything>.c.
 */
#ifndef CKPT_FORMAT_FORMAT_INTERNAL_H
#define CKPT_FORMAT_FORMAT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* In a safetensors header the one key that names no tensor. */
#define ST_METADATA_KEY "__metadata__"
/* The little-endian length of the header, in front of it. */
#define ST_LENGTH_BYTES 8

/** ckpt_st_can_hold - is @dtype one that safetensors knows? */
bool ckpt_st_can_hold(const char *dtype);

/**
 * ckpt_st_open - open the regular file @path for reading, following symlinks (a model cache is
 * made of them); a descriptor, or negative.
 */
int ckpt_st_open(const char *path, uint64_t *out_size_bytes, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_st_read_range - @len_bytes bytes at @offset of @fd, as a heap block that the caller frees;
 * -EBADMSG the file ends before.
 */
int ckpt_st_read_range(int fd, uint64_t offset, size_t len_bytes, const char *label, char **out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
