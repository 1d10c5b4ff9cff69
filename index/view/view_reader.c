/*
 * view_reader.c - bytes of views, without a mount; see view.h.
 *
 * Long runs are read to where they are wanted; short ones are taken from blocks that are kept.
 * Strided pieces of one source are taken block by block, all of them from one block before the
 * next: a transposed matrix needs each block once for many rows.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "view/view_blocks.h"
#include "view/view_internal.h"

/* Pieces that are looked at together: so many rows of a transposed matrix. */
#define BATCH_PIECES 256
/* Shorter runs mean that several blocks are used by turns. */
#define SHORT_RUN_BYTES ((uint64_t)64 * 1024)

struct ckpt_view_reader {
	struct ckpt_views *views;
	struct view_blocks *blocks;
};

int ckpt_view_reader_new(struct ckpt_views *views, const struct ckpt_views_from *from,
			 struct ckpt_view_reader **out, struct ckpt_err *err)
{
	struct ckpt_view_reader *reader = calloc(1, sizeof(*reader));
	int rc;

	if (!reader)
		return ckpt_err_sys(err, -ENOMEM, "cannot read views of '%s'", from->label);
	rc = ckpt_view_blocks_new(views, from, &reader->blocks, err);
	if (rc < 0) {
		free(reader);
		return rc;
	}
	reader->views = ckpt_views_ref(views);
	*out = reader;
	return 0;
}

void ckpt_view_reader_free(struct ckpt_view_reader *reader)
{
	if (!reader)
		return;
	ckpt_view_blocks_free(reader->blocks);
	ckpt_views_unref(reader->views);
	free(reader);
}

/* --- one run -------------------------------------------------------------------------------- */

/* As much of @span as lies in one block, from a block that is kept. */
static int read_kept(struct ckpt_view_reader *reader, const struct view_span *span, bool wide,
		     unsigned char *out, size_t *out_len, struct ckpt_err *err)
{
	struct view_block block;
	int rc =
		ckpt_view_blocks_get(reader->blocks, span->source, span->offset, wide, &block, err);

	if (rc < 0)
		return rc;
	*out_len = num_min(block.start_bytes + block.len_bytes - span->offset, span->len_bytes);
	memcpy(out, block.data + (span->offset - block.start_bytes), *out_len);
	ckpt_view_blocks_put(reader->blocks, &block);
	return 0;
}

static int read_run(struct ckpt_view_reader *reader, struct view_span span, unsigned char *out,
		    struct ckpt_err *err)
{
	bool wide = span.len_bytes < SHORT_RUN_BYTES;

	while (span.len_bytes > 0) {
		size_t got = 0;
		int rc = ckpt_view_blocks_read(reader->blocks, &span, out, &got, err);

		if (rc == 0 && got == 0)
			rc = read_kept(reader, &span, wide, out, &got, err);
		if (rc < 0)
			return rc;
		span.offset += got;
		span.len_bytes -= got;
		out += got;
	}
	return 0;
}

/* --- many runs ------------------------------------------------------------------------------ */

/* A piece of several runs, and how far it is. */
struct strided {
	const struct ckpt_view_piece *piece;
	unsigned char *out; /* where its first run goes */
	uint64_t done;	    /* runs */
};

static uint64_t next_offset(const struct strided *it)
{
	return it->piece->offset_bytes + it->done * it->piece->stride_bytes;
}

/* @count runs of a fixed size, which lets the compiler make single moves of them. */
#define COPY_RUNS(type)                                                                  \
	do {                                                                             \
		for (uint64_t i = 0; i < count; i++)                                     \
			memcpy(out + i * sizeof(type), from + i * stride, sizeof(type)); \
	} while (0)

static void copy_runs(unsigned char *out, const unsigned char *from, uint64_t count,
		      uint64_t run_bytes, uint64_t stride)
{
	switch (run_bytes) {
	case 1:
		COPY_RUNS(uint8_t);
		break;
	case 2:
		COPY_RUNS(uint16_t);
		break;
	case 4:
		COPY_RUNS(uint32_t);
		break;
	case 8:
		COPY_RUNS(uint64_t);
		break;
	default:
		for (uint64_t i = 0; i < count; i++)
			memcpy(out + i * run_bytes, from + i * stride, run_bytes);
	}
}

/* Take what lies in @block; the next run begins in it. A run that leaves it is read by itself. */
static int take_from(struct ckpt_view_reader *reader, struct strided *it,
		     const struct view_block *block, struct ckpt_err *err)
{
	const struct ckpt_view_piece *piece = it->piece;
	uint64_t at = next_offset(it);
	uint64_t end = block->start_bytes + block->len_bytes;
	uint64_t count = piece->run_count - it->done;
	unsigned char *out = it->out + it->done * piece->run_bytes;

	if (end - at < piece->run_bytes) {
		it->done++;
		return read_run(reader, (struct view_span){ piece->source, at, piece->run_bytes },
				out, err);
	}
	if (piece->stride_bytes > 0)
		count = num_min(count, (end - at - piece->run_bytes) / piece->stride_bytes + 1);
	copy_runs(out, block->data + (at - block->start_bytes), count, piece->run_bytes,
		  piece->stride_bytes);
	it->done += count;
	return 0;
}

static bool is_done(const struct strided *it)
{
	return it->done == it->piece->run_count;
}

/* All that pieces [@first, @count) of one source want of the block that the first wants next. */
static int use_block(struct ckpt_view_reader *reader, struct strided *strided, size_t first,
		     size_t count, struct ckpt_err *err)
{
	uint32_t source = strided[first].piece->source;
	struct view_block block;
	int rc = ckpt_view_blocks_get(reader->blocks, source, next_offset(&strided[first]), true,
				      &block, err);

	if (rc < 0)
		return rc;
	for (size_t i = first; i < count && rc == 0; i++) {
		struct strided *it = &strided[i];

		while (rc == 0 && it->piece->source == source && !is_done(it) &&
		       next_offset(it) >= block.start_bytes &&
		       next_offset(it) - block.start_bytes < block.len_bytes)
			rc = take_from(reader, it, &block, err);
	}
	ckpt_view_blocks_put(reader->blocks, &block);
	return rc;
}

static int read_strided(struct ckpt_view_reader *reader, struct strided *strided, size_t count,
			struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		while (rc == 0 && !is_done(&strided[i]))
			rc = use_block(reader, strided, i, count, err);
	}
	return rc;
}

/* --- views ---------------------------------------------------------------------------------- */

static int read_pieces(struct ckpt_view_reader *reader, const struct ckpt_view_piece *pieces,
		       size_t count, unsigned char *out, struct ckpt_err *err)
{
	struct strided strided[BATCH_PIECES];
	size_t strided_count = 0;
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		const struct ckpt_view_piece *piece = &pieces[i];

		if (piece->memory)
			memcpy(out, piece->memory, piece->run_bytes);
		else if (piece->run_count == 1)
			rc = read_run(reader,
				      (struct view_span){ piece->source, piece->offset_bytes,
							  piece->run_bytes },
				      out, err);
		else
			strided[strided_count++] = (struct strided){ .piece = piece, .out = out };
		out += piece->run_bytes * piece->run_count;
	}
	return rc == 0 ? read_strided(reader, strided, strided_count, err) : rc;
}

int ckpt_view_read(struct ckpt_view_reader *reader, const struct ckpt_view_file *file,
		   uint64_t offset, struct ckpt_view_room *room, struct ckpt_err *err)
{
	struct ckpt_view_piece pieces[BATCH_PIECES];
	size_t done = 0;

	assert(ckpt_view_file_views(file) == reader->views);
	for (;;) {
		size_t count;
		size_t got = ckpt_view_map(file, offset + done, room->len_bytes - done, pieces,
					   BATCH_PIECES, &count);
		int rc;

		if (got == 0)
			break;
		rc = read_pieces(reader, pieces, count, (unsigned char *)room->data + done, err);
		if (rc < 0)
			return rc;
		done += got;
	}
	room->got_bytes = done;
	return 0;
}
