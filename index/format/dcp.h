/*
 * dcp.h - the `.metadata` of PyTorch's Distributed Checkpoint: which tensors and
 * bytes a folder holds, and where in its `.distcp` files. Of torch 2.1 to 2.13.
 */
#ifndef CKPT_FORMAT_DCP_H
#define CKPT_FORMAT_DCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CKPT_DCP_METADATA_FILE ".metadata"
/* A longer one is refused: a chunk takes some 200 bytes. */
#define CKPT_DCP_METADATA_MAX (UINT64_C(1) << 30)

/* A box of a tensor, and the entry that holds it (torch.h reads it). */
struct ckpt_dcp_chunk {
	uint64_t *start; /* dim_count of the tensor */
	uint64_t *size;
	const char *file; /* relative to the folder of `.metadata`; borrowed from the metadata */
	uint64_t offset_bytes; /* of the entry in the file */
	uint64_t len_bytes;    /* of the entry */
};

struct ckpt_dcp_entry {
	char *fqn;
	char *group; /* first element of its path in the state dict; NULL: that has one element, or is not told */
	bool is_bytes;	/* opaque bytes: one chunk without extents */
	char dtype[16]; /* as safetensors names it, and C128 */
	uint32_t dim_count;
	uint64_t *shape;
	struct ckpt_dcp_chunk *chunks; /* by start */
	size_t chunk_count;
	char *opaque; /* why its bytes cannot be shown (an unknown dtype, layout or transform); NULL: they can */
};

struct ckpt_dcp_metadata {
	struct ckpt_dcp_entry *entries; /* by bytes of the FQN */
	size_t entry_count;
	char **files; /* every file that is named, by bytes, once */
	size_t file_count;
};

/**
 * ckpt_dcp_parse - read the bytes of a `.metadata`
 * @label: names the file in messages
 * @out:   ckpt_dcp_metadata_release() it; untouched on failure
 * Checked: boxes lie in their shape, do not overlap and leave no gap; file names are relative and
 * stay in the folder; every chunk has an entry, and nothing overflows. Classes that are not known
 * are kept as stubs, and refused only where they are needed.
 * Errors: -EBADMSG refused (the message says why); -ENOMEM. Thread-safe: yes.
 * Source: torch/distributed/checkpoint/metadata.py and filesystem.py.
 */
int ckpt_dcp_parse(const void *data, size_t len_bytes, const char *label,
		   struct ckpt_dcp_metadata *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_dcp_metadata_release(struct ckpt_dcp_metadata *metadata);

#endif
