/*
 * view_blocks.h - the bytes of sources, in blocks that were found right, kept while there is room.
 * May be included only by index/view/<anything>.c.
 */
#ifndef CKPT_VIEW_VIEW_BLOCKS_H
#define CKPT_VIEW_VIEW_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "view/view.h"

struct view_blocks;

/* A block that is in use: it stays until it is put back. */
struct view_block {
	const unsigned char *data;
	uint64_t start_bytes; /* in the source */
	size_t len_bytes;
	void *entry;
};

/**
 * ckpt_view_blocks_new - for the sources of @views, which must outlive it; descriptors of @from
 * are duplicated. ckpt_view_blocks_free() it.
 */
int ckpt_view_blocks_new(const struct ckpt_views *views, const struct ckpt_views_from *from,
			 struct view_blocks **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_view_blocks_free(struct view_blocks *blocks);
/**
 * ckpt_view_blocks_get - the block of @source that holds byte @offset
 * @out: ckpt_view_blocks_put() it
 * @wide: many blocks are used by turns: keep more of them
 * Errors: as ckpt_view_read. Thread-safe: yes, no lock is held while reading.
 */
int ckpt_view_blocks_get(struct view_blocks *blocks, uint32_t source, uint64_t offset, bool wide,
			 struct view_block *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_view_blocks_put(struct view_blocks *blocks, const struct view_block *block);
/* Bytes of a source that are wanted. */
struct view_span {
	uint32_t source;
	uint64_t offset;
	size_t len_bytes;
};

/**
 * ckpt_view_blocks_read - bytes that need not be kept: one whole block, or any range of a source
 * that nothing is known to verify with
 * @out_len: bytes read; 0: only ckpt_view_blocks_get() gives what lies there
 */
int ckpt_view_blocks_read(struct view_blocks *blocks, const struct view_span *span, void *out,
			  size_t *out_len, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
