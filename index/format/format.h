/*
 * format.h - what files say about the tensors in them (layer header).
 * Element types, and the safetensors header: parsed strictly, written exactly.
 */
#ifndef CKPT_FORMAT_FORMAT_H
#define CKPT_FORMAT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/box.h"
#include "base/buf.h"
#include "base/err.h"

/**
 * ckpt_dtype_size - bytes of one element of @dtype, named as safetensors does ("F32", "BF16",
 * "F8_E4M3", "BOOL", "C64", "C128" …); 0 for an unknown name.
 */
uint64_t ckpt_dtype_size(const char *dtype);

/**
 * ckpt_shape_bytes - prod(@shape) * element size; 0-d is one element. -EOVERFLOW; -EINVAL for an
 * unknown @dtype.
 */
int ckpt_shape_bytes(const char *dtype, const uint64_t *shape, uint32_t dim_count, uint64_t *out)
	CKPT_MUST_CHECK;

/* One tensor of a safetensors file. */
struct ckpt_st_tensor {
	char *fqn;
	char dtype[16];
	uint32_t dim_count;
	uint64_t *shape;       /* dim_count extents */
	uint64_t offset_bytes; /* of its first byte in the FILE (not in the data part) */
	uint64_t size_bytes;
};

/* A parsed header; tensors are ordered by offset, then size, then FQN. */
struct ckpt_st_header {
	uint64_t data_offset_bytes; /* 8 + N: where the data part begins */
	uint64_t file_size_bytes;
	struct ckpt_st_tensor *tensors;
	size_t tensor_count;
	char *metadata; /* the "__metadata__" object as JSON text; NULL when absent */
};

/** A safetensors header may be this long (safetensors' own MAX_HEADER_SIZE). */
#define CKPT_ST_HEADER_MAX UINT64_C(100000000)

/**
 * ckpt_st_read - read and check the header of an open safetensors file
 * @fd:    regular file, any position
 * @label: names the file in messages
 * @out:   ckpt_st_header_release() it; untouched on failure
 * Errors: -EBADMSG: no safetensors file, or one that breaks a rule of the format (the message says
 * which); -EFBIG header too long; else system.
 * Thread-safe: yes. Source: huggingface/safetensors README "Format".
 */
int ckpt_st_read(int fd, const char *label, struct ckpt_st_header *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/**
 * ckpt_st_parse - the same from the @len_bytes bytes behind the length word, for a file of
 * @file_size_bytes.
 */
int ckpt_st_parse(const char *json, size_t len_bytes, uint64_t file_size_bytes, const char *label,
		  struct ckpt_st_header *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_st_header_release(struct ckpt_st_header *header);

/**
 * ckpt_st_saved_offsets - where in their whole tensors the tensors of a file of DCP's safetensors
 * writer begin: "DCP_SHARDING_INFO" of its metadata
 * @out: NULL where the file has none; else one pointer a tensor of @header, dim_count extents each,
 *       NULL for a tensor it does not tell of; free it with ckpt_st_saved_offsets_free()
 * Errors: -EBADMSG it is damaged, or does not fit the tensors (names file and reason); -ENOMEM.
 * Source: torch/distributed/checkpoint/hf_storage.py.
 */
int ckpt_st_saved_offsets(const struct ckpt_st_header *header, const char *label, uint64_t ***out,
			  struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_st_saved_offsets_free(uint64_t **offsets, size_t tensor_count);

/* A model that lies in one or several files. */
struct ckpt_st_family {
	char **files; /* paths as the system calls take them */
	size_t file_count;
	struct ckpt_st_header *headers; /* one a file */
};

/**
 * ckpt_st_family_open - headers of FILE.safetensors, or of every file that an index.json names
 * @path: ends in ".safetensors" or ".json"; names in the index are relative to its folder and must
 *        stay in it
 * Errors: -EBADMSG also when the index names a tensor that its file does not hold, or the reverse,
 * or two files hold one FQN.
 */
int ckpt_st_family_open(const char *path, struct ckpt_st_family *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void ckpt_st_family_release(struct ckpt_st_family *family);

/* What a safetensors file to be written shall hold. */
struct ckpt_st_item {
	const char *fqn;   /* borrowed */
	const char *dtype; /* borrowed */
	const uint64_t *shape;
	uint32_t dim_count;
	uint64_t offset_bytes; /* set by ckpt_st_layout: of its first byte in the file */
	uint64_t size_bytes;   /* set by ckpt_st_layout */
	size_t tensor_idx;     /* the caller's, who wants to know them again when they are sorted */
};

/**
 * ckpt_st_layout - order items and print the header of the file that holds them
 * @items: sorted in place by element size descending, then FQN by bytes; offsets and sizes are
 *         filled in
 * @out_header: receives the length word and the JSON, `"__metadata__":{"format":"pt"}` first,
 *              padded with spaces so that data starts at a multiple of 4096
 * @out_file_bytes: size of the whole file
 * The bytes are the same for the same set of items, whatever their order at call.
 * Errors: -EINVAL unknown dtype or one that safetensors cannot hold (C128); -EOVERFLOW; -EEXIST
 * two items of one FQN; -ENOMEM.
 */
int ckpt_st_layout(struct ckpt_st_item *items, size_t count, struct ckpt_buf *out_header,
		   uint64_t *out_file_bytes, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
