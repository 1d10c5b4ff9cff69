/*
 * global_layout.h - layout global: where every tensor lies in the one file
 * model.safetensors, and which rank writes which window of it.
 *
 * The file is cut into windows of equal size, whole checksum blocks each, that
 * the aggregators take in turns: window 0 the first, window 1 the second, … A
 * round is one window an aggregator, so that rounds walk the file forwards.
 */
#ifndef CKPT_MPI_GLOBAL_LAYOUT_H
#define CKPT_MPI_GLOBAL_LAYOUT_H

#include "base/buf.h"
#include "base/err.h"
#include "format/format.h"
#include "plan.h"

#define CKPT_GLOBAL_FILE "model.safetensors"

/*
 * What an aggregator holds of the file at a time, unless a checksum block is larger. It is put
 * together, summed twice and written: it should still be in the cache.
 */
#define CKPT_GLOBAL_WINDOW_BYTES (UINT64_C(4) << 20)
/*
 * A window of every aggregator: what a rank may have to send in a round when it holds all that the
 * windows want.
 */
#define CKPT_GLOBAL_ROUND_BYTES (UINT64_C(256) << 20)
/* MPI counts are int: with a larger file's blocks, a window would be too much for one message. */
#define CKPT_GLOBAL_FILE_MAX (UINT64_C(1) << 45)

/**
 * ckpt_global_layout_make - the coordinator's part of the plan
 * @tensors: each gets one chunk, the whole of it, at its place in model.safetensors
 * @out_wire: what all ranks must be told: size and header of the file
 * Errors: -EINVAL safetensors cannot hold a tensor, -EFBIG the file would be too large; the message
 * names the tensor, and the other layout.
 */
int ckpt_global_layout_make(struct ckpt_tensor_list *tensors, struct ckpt_buf *out_wire,
			    struct ckpt_err *err) CKPT_MUST_CHECK;

struct ckpt_global_layout {
	const char *header; /* borrowed from the wire */
	size_t header_bytes;
	uint64_t file_bytes;
	uint64_t block_bytes; /* of its checksums */
	uint64_t window_bytes;
	uint64_t window_count;
	int aggregator_count;		/* at least 1 */
	struct ckpt_st_header tensors;	/* of the file */
	struct ckpt_st_tensor **by_fqn; /* of tensors.tensors */
};

/**
 * ckpt_global_layout_take - every rank's part
 * @wire: borrowed until release
 * @aggregator_count: how many may write, at least 1; fewer do where rounds would become too large
 * Errors: -EBADMSG; -ENOMEM. ckpt_global_layout_release() it, also after a failure.
 */
int ckpt_global_layout_take(const struct ckpt_buf *wire, int aggregator_count,
			    struct ckpt_global_layout *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_global_layout_release(struct ckpt_global_layout *layout);

/** ckpt_global_layout_find - by FQN; NULL where there is none. */
const struct ckpt_st_tensor *ckpt_global_layout_find(const struct ckpt_global_layout *layout,
						     const char *fqn);
/** ckpt_global_layout_window - where window @idx < window_count begins, and how long it is. */
uint64_t ckpt_global_layout_window(const struct ckpt_global_layout *layout, uint64_t idx,
				   uint64_t *out_bytes);
/** ckpt_global_layout_share - how many windows aggregator @idx has. */
uint64_t ckpt_global_layout_share(const struct ckpt_global_layout *layout, int idx);

#endif
