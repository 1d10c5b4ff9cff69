/*
 * torch_internal.h - what dcp*.c and torch*.c share: PyTorch's names in a pickle.
 * May be included only by index/format/{dcp,torch}*.c.
 */
#ifndef CKPT_FORMAT_TORCH_INTERNAL_H
#define CKPT_FORMAT_TORCH_INTERNAL_H

#include "base/err.h"
#include "format/pickle.h"
#include "format/torch.h"

/** ckpt_torch_dtype - the element type torch.NAME as safetensors calls it; NULL: not known here. */
const char *ckpt_torch_dtype(const struct pickle_value *value);
/** ckpt_torch_storage_dtype - of the class torch.XStorage; NULL: not known, or untyped. */
const char *ckpt_torch_storage_dtype(const struct pickle_value *value);

/**
 * ckpt_torch_extents - the tuple or list behind torch.Size(…), or @value itself where it is one, of
 * 64 items at most; NULL: it is nothing of the kind.
 */
const struct pickle_value *ckpt_torch_extents(const struct pickle_value *value);

/* --- torch.c and torch_tensor.c --- */

/* Where the bytes of a storage lie: a record of the archive; all of @size_bytes without one. */
struct torch_place {
	uint64_t offset_bytes;
	uint64_t size_bytes;
};

/* The archive, or whatever stands for it. */
struct torch_source {
	/* -EBADMSG there is no such storage; NULL: all storages begin at 0, as long as they say. */
	int (*find)(void *ctx, const char *key, struct torch_place *out, struct ckpt_err *err);
	void *ctx;
};

/** ckpt_torch_is_tensor - is @value the call that makes a tensor, of whatever class? */
bool ckpt_torch_is_tensor(const struct pickle_value *value);
/**
 * ckpt_torch_tensor_take - all of @out but its path, from the call that makes it
 * Errors: -EBADMSG it leaves its storage, or is malformed; -ENOMEM. @out is to be released in any
 * case.
 */
int ckpt_torch_tensor_take(const struct pickle_value *value, const struct torch_source *source,
			   struct ckpt_torch_tensor *out, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
