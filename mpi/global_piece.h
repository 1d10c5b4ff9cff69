/*
 * global_piece.h - layout global: what of a rank's chunks lies in a window of
 * the file, as a message that its aggregator can put in place.
 *
 * A message is a number of pieces, a description of each, then the bytes of
 * all. A piece is a stretch of one chunk's stored bytes and the runs that the
 * chunk consists of in the file: as large in the message as a column of a
 * thousand rows as of one.
 */
#ifndef CKPT_MPI_GLOBAL_PIECE_H
#define CKPT_MPI_GLOBAL_PIECE_H

#include "global_layout.h"
#include "shard_out.h"

/* A window in memory. */
struct ckpt_global_window {
	unsigned char *data;
	uint64_t start; /* in the file */
	uint64_t bytes;
	uint64_t filled; /* of them */
};

/* A chunk that this rank writes. */
struct ckpt_global_part {
	size_t chunk_idx;     /* in the plan */
	uint64_t first_bytes; /* of its first byte in the file */
	uint64_t done_bytes;  /* of its stored bytes that were handed out */
};

/* All of them, in the order of the file. */
struct ckpt_global_parts {
	struct ckpt_shard_out *out; /* borrowed, as is the layout */
	const struct ckpt_global_layout *layout;
	struct ckpt_global_part *items;
	size_t count;
	size_t oldest;	       /* those before it are done */
	bool counts;	       /* as progress: handing them out is what moves them */
	struct ckpt_buf notes; /* descriptions, while a message is made */
};

/** ckpt_global_parts_init - -ENOMEM, -EBADMSG; release it all the same. */
int ckpt_global_parts_init(struct ckpt_global_parts *parts, struct ckpt_shard_out *out,
			   const struct ckpt_global_layout *layout, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void ckpt_global_parts_release(struct ckpt_global_parts *parts);

/**
 * ckpt_global_parts_pack - append a message with what the file has before @end and was not handed
 * out yet; nothing where there is nothing
 * Ends ascend, so that each chunk is handed out from its first byte to its last.
 */
int ckpt_global_parts_pack(struct ckpt_global_parts *parts, uint64_t end, struct ckpt_buf *out,
			   struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_global_parts_place - the same without a message: right into this rank's own window. */
int ckpt_global_parts_place(struct ckpt_global_parts *parts, struct ckpt_global_window *window,
			    struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_global_window_place - put a message's bytes where they belong
 * -EBADMSG: it is damaged, or was made for another window.
 */
int ckpt_global_window_place(struct ckpt_global_window *window, const void *message,
			     size_t len_bytes) CKPT_MUST_CHECK;

#endif
