/*
 * torch.h - what torch.save wrote: the tensors in a zip archive with a
 * data.pkl, which is parsed by an allow-list machine (pickle.h) that builds no
 * objects and calls nothing.
 */
#ifndef CKPT_FORMAT_TORCH_H
#define CKPT_FORMAT_TORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A tensor inside what was saved. */
struct ckpt_torch_tensor {
	char **path; /* keys and list positions that lead to it; none: what was saved is the tensor */
	size_t path_count;
	char dtype[16]; /* as safetensors names it, and C128; "" where it is not understood */
	uint32_t dim_count;
	uint64_t *shape;
	uint64_t *stride;      /* in elements; NULL: row-major */
	uint64_t offset_bytes; /* of its first element in the FILE */
	char *opaque; /* why its bytes cannot be shown (a subclass, a quantised one …); NULL: they can */
};

struct ckpt_torch_object {
	struct ckpt_torch_tensor *tensors; /* in the order of the pickle */
	size_t tensor_count;
	bool is_tensor; /* what was saved is one tensor; else tensors in dicts and lists */
};

/**
 * ckpt_torch_read - the tensors of what torch.save wrote at @offset of an open file
 * @fd: readable; @len_bytes: of the archive: a DCP entry, or the whole file
 * @out: ckpt_torch_object_release() it; untouched on failure
 * Every tensor's span lies inside its storage's record, which is stored, not compressed. Objects of
 * unknown classes are passed over; a tensor that can be reached on two paths is there twice (tied
 * weights).
 * Errors: -EBADMSG no such archive, big-endian, or a pickle that is refused: names file and reason;
 * else system.
 * Thread-safe: yes. Cost: two to four small reads for a DCP entry. Source: torch/serialization.py,
 * torch/_utils.py.
 */
int ckpt_torch_read(int fd, uint64_t offset, uint64_t len_bytes, const char *label,
		    struct ckpt_torch_object *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_torch_parse_pickle - the same from the bytes of data.pkl alone; offset_bytes count from the
 * start of each tensor's storage (for the fuzzer).
 */
int ckpt_torch_parse_pickle(const void *data, size_t len_bytes, const char *label,
			    struct ckpt_torch_object *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_torch_object_release(struct ckpt_torch_object *object);

#endif
