/* global_piece.c - see global_piece.h. */
#include "global_piece.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/box.h"
#include "base/num.h"
#include "job_progress.h"
#include "wire.h"

/* Numbers of a description besides two a dimension. */
#define NOTE_WORDS 5

/* --- a piece ------------------------------------------------------------------------------ */

/* A stretch of a chunk's stored bytes, and where its runs are. */
struct piece {
	uint64_t base;	/* of run 0 in the file */
	uint64_t begin; /* of the piece in the chunk's stored bytes */
	uint64_t len;
	struct ckpt_copy runs;
};

static bool put(struct ckpt_global_window *window, uint64_t at, const unsigned char *data,
		uint64_t len)
{
	if (at < window->start || at - window->start > window->bytes ||
	    len > window->bytes - (at - window->start))
		return false;
	memcpy(window->data + (at - window->start), data, len);
	return true;
}

/*
 * The runs of the innermost loop from run @idx on: that many bytes of @data, at most @left. The
 * first begins @within.
 */
static uint64_t put_line(struct ckpt_global_window *window, const struct piece *piece, uint64_t idx,
			 uint64_t within, const unsigned char *data, uint64_t left)
{
	const struct ckpt_copy *runs = &piece->runs;
	uint32_t last = runs->dim_count - 1;
	uint64_t count = runs->dim_count > 0 ? runs->count[last] - idx % runs->count[last] : 1;
	uint64_t stride = runs->dim_count > 0 ? runs->to_stride[last] : 0;
	uint64_t done = 0;
	uint64_t from;
	uint64_t to;

	ckpt_copy_run(runs, idx, &from, &to);
	for (; count > 0 && done < left; count--, to += stride, within = 0) {
		uint64_t len = num_min(runs->run_bytes - within, left - done);

		if (!put(window, piece->base + to + within, data + done, len))
			return 0;
		done += len;
	}
	return done;
}

static int put_piece(struct ckpt_global_window *window, const struct piece *piece,
		     const unsigned char *data)
{
	uint64_t run_bytes = piece->runs.run_bytes;

	for (uint64_t done = 0; done < piece->len;) {
		uint64_t at = piece->begin + done;
		uint64_t len = put_line(window, piece, at / run_bytes, at % run_bytes, data + done,
					piece->len - done);

		if (len == 0)
			return -EBADMSG;
		done += len;
	}
	window->filled += piece->len;
	return 0;
}

/* --- the sender's side -------------------------------------------------------------------- */

static const struct ckpt_mpi_entry *entry_of(const struct ckpt_global_parts *parts,
					     size_t chunk_idx)
{
	const struct ckpt_shard_out *out = parts->out;

	return &out->request->entries[out->plan->chunks[chunk_idx].entry_idx];
}

static const struct ckpt_mpi_chunk *chunk_of(const struct ckpt_global_parts *parts,
					     size_t chunk_idx)
{
	return &entry_of(parts, chunk_idx)->chunks[parts->out->plan->chunks[chunk_idx].chunk_idx];
}

/* From the chunk's stored bytes, which have no gaps, to the tensor in the file. */
static void plan_runs(const struct ckpt_global_parts *parts, size_t chunk_idx,
		      struct ckpt_copy *out)
{
	const struct ckpt_mpi_entry *entry = entry_of(parts, chunk_idx);
	const struct ckpt_mpi_chunk *chunk = chunk_of(parts, chunk_idx);
	uint64_t in_chunk[CKPT_DIM_MAX];
	uint64_t in_file[CKPT_DIM_MAX];
	const struct ckpt_copy_spec spec = {
		.size = chunk->size,
		.from_stride = in_chunk,
		.to_stride = in_file,
		.dim_count = entry->dim_count,
		.element_bytes = ckpt_dtype_size(entry->dtype),
	};

	ckpt_box_strides(chunk->size, entry->dim_count, in_chunk);
	ckpt_box_strides(entry->shape, entry->dim_count, in_file);
	ckpt_copy_plan(&spec, out);
}

static int add_part(struct ckpt_global_parts *parts, size_t chunk_idx, struct ckpt_err *err)
{
	const struct ckpt_mpi_entry *entry = entry_of(parts, chunk_idx);
	const struct ckpt_mpi_chunk *chunk = chunk_of(parts, chunk_idx);
	const struct ckpt_st_tensor *tensor = ckpt_global_layout_find(parts->layout, entry->fqn);
	uint64_t in_file[CKPT_DIM_MAX];
	uint64_t elements = 0;

	if (!tensor)
		return ckpt_err_set(
			err, -EBADMSG,
			"the layout lacks tensor '%s'; the ranks run different versions of the library",
			entry->fqn);
	ckpt_box_strides(entry->shape, entry->dim_count, in_file);
	for (uint32_t d = 0; d < entry->dim_count; d++)
		elements += chunk->start[d] * in_file[d];
	parts->items[parts->count++] = (struct ckpt_global_part){
		.chunk_idx = chunk_idx,
		.first_bytes = tensor->offset_bytes + elements * ckpt_dtype_size(entry->dtype),
	};
	return 0;
}

static int compare_parts(const void *a, const void *b)
{
	const struct ckpt_global_part *x = a;
	const struct ckpt_global_part *y = b;

	return (x->first_bytes > y->first_bytes) - (x->first_bytes < y->first_bytes);
}

int ckpt_global_parts_init(struct ckpt_global_parts *parts, struct ckpt_shard_out *out,
			   const struct ckpt_global_layout *layout, struct ckpt_err *err)
{
	const struct ckpt_local_plan *plan = out->plan;
	int rc = 0;

	*parts = (struct ckpt_global_parts){ .out = out, .layout = layout };
	ckpt_buf_init(&parts->notes);
	parts->items = array_alloc(plan->chunk_count + 1, sizeof(*parts->items));
	if (!parts->items)
		return -ENOMEM;
	for (size_t i = 0; i < plan->chunk_count && rc == 0; i++) {
		if (plan->keep[i] && !plan->chunks[i].is_blob)
			rc = add_part(parts, i, err);
	}
	qsort(parts->items, parts->count, sizeof(*parts->items), compare_parts);
	return rc;
}

void ckpt_global_parts_release(struct ckpt_global_parts *parts)
{
	ckpt_buf_release(&parts->notes);
	free(parts->items);
}

/* How many of the runs, which ascend, begin before @limit? */
static uint64_t runs_before(const struct ckpt_copy *runs, uint64_t limit)
{
	uint64_t first = 0;
	uint64_t end = runs->run_count;

	while (first < end) {
		uint64_t middle = first + (end - first) / 2;
		uint64_t from;
		uint64_t to;

		ckpt_copy_run(runs, middle, &from, &to);
		if (to < limit)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

/* How many of the chunk's stored bytes lie in the first @limit bytes from where it begins? */
static uint64_t bytes_before(const struct ckpt_copy *runs, uint64_t limit)
{
	uint64_t count = runs_before(runs, limit);
	uint64_t from;
	uint64_t to;

	if (count == 0)
		return 0;
	ckpt_copy_run(runs, count - 1, &from, &to);
	return from + num_min(runs->run_bytes, limit - to);
}

/* Read by read_note(). A piece of one run needs no word of the others. */
static void print_note(const struct ckpt_global_part *part, const struct ckpt_copy *runs,
		       uint64_t len, struct ckpt_buf *out)
{
	uint64_t within = part->done_bytes % runs->run_bytes;
	uint64_t from;
	uint64_t to;

	if (len <= runs->run_bytes - within) {
		ckpt_copy_run(runs, part->done_bytes / runs->run_bytes, &from, &to);
		ckpt_wire_put_u64s(out,
				   (const uint64_t[NOTE_WORDS]){ part->first_bytes + to + within, 0,
								 len, len, 0 },
				   NOTE_WORDS);
		return;
	}
	ckpt_wire_put_u64s(out,
			   (const uint64_t[NOTE_WORDS]){ part->first_bytes, part->done_bytes, len,
							 runs->run_bytes, runs->dim_count },
			   NOTE_WORDS);
	ckpt_wire_put_u64s(out, runs->count, runs->dim_count);
	ckpt_wire_put_u64s(out, runs->to_stride, runs->dim_count);
}

/* Of part @idx, what lies before @end and was not handed out: its length, 0 for nothing. */
static uint64_t pick(const struct ckpt_global_parts *parts, size_t idx, uint64_t end,
		     struct ckpt_copy *out_runs)
{
	const struct ckpt_global_part *part = &parts->items[idx];

	if (part->done_bytes == parts->out->plan->chunks[part->chunk_idx].size_bytes)
		return 0;
	plan_runs(parts, part->chunk_idx, out_runs);
	return bytes_before(out_runs, end - part->first_bytes) - part->done_bytes;
}

/* The first part behind those that are all handed out. */
static size_t oldest(struct ckpt_global_parts *parts)
{
	const struct ckpt_local_chunk *chunks = parts->out->plan->chunks;

	while (parts->oldest < parts->count &&
	       parts->items[parts->oldest].done_bytes ==
		       chunks[parts->items[parts->oldest].chunk_idx].size_bytes)
		parts->oldest++;
	return parts->oldest;
}

/* The next @len bytes of a part, all of them or up to a piece's length, which is returned in it. */
static int next_bytes(struct ckpt_global_parts *parts, struct ckpt_global_part *part, size_t *len,
		      const void **out, struct ckpt_err *err)
{
	int rc;

	*len = num_min(*len, CKPT_OWN_FILE_MIN);
	rc = ckpt_shard_out_bytes(parts->out, part->chunk_idx, part->done_bytes, *len, out, err);
	if (rc < 0)
		return rc;
	part->done_bytes += *len;
	if (parts->counts)
		ckpt_progress_add(parts->out->job, *len);
	return 0;
}

static int add_bytes(struct ckpt_global_parts *parts, struct ckpt_global_part *part, uint64_t left,
		     struct ckpt_buf *out, struct ckpt_err *err)
{
	for (size_t len; left > 0; left -= len) {
		const void *data = NULL;
		int rc;

		len = left;
		rc = next_bytes(parts, part, &len, &data, err);
		if (rc < 0)
			return rc;
		ckpt_buf_add(out, data, len);
	}
	return 0;
}

int ckpt_global_parts_pack(struct ckpt_global_parts *parts, uint64_t end, struct ckpt_buf *out,
			   struct ckpt_err *err)
{
	size_t first = oldest(parts);
	struct ckpt_copy runs;
	uint64_t count = 0;
	uint64_t len;
	int rc;

	ckpt_buf_reset(&parts->notes);
	for (size_t i = first; i < parts->count && parts->items[i].first_bytes < end; i++) {
		len = pick(parts, i, end, &runs);
		if (len > 0)
			print_note(&parts->items[i], &runs, len, &parts->notes);
		count += len > 0;
	}
	rc = ckpt_buf_check(&parts->notes);
	if (rc < 0 || count == 0)
		return rc;
	ckpt_wire_put_u64(out, count);
	ckpt_buf_add(out, parts->notes.data, parts->notes.len_bytes);
	for (size_t i = first; i < parts->count && parts->items[i].first_bytes < end; i++) {
		len = pick(parts, i, end, &runs);
		rc = add_bytes(parts, &parts->items[i], len, out, err);
		if (rc < 0)
			return rc;
	}
	return ckpt_buf_check(out);
}

static int place_part(struct ckpt_global_parts *parts, struct ckpt_global_part *part,
		      struct piece *piece, struct ckpt_global_window *window, struct ckpt_err *err)
{
	for (uint64_t left = piece->len; left > 0; left -= piece->len) {
		const void *data = NULL;
		size_t len = left;
		int rc;

		piece->begin = part->done_bytes;
		rc = next_bytes(parts, part, &len, &data, err);
		piece->len = len;
		if (rc == 0)
			rc = put_piece(window, piece, data);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int ckpt_global_parts_place(struct ckpt_global_parts *parts, struct ckpt_global_window *window,
			    struct ckpt_err *err)
{
	uint64_t end = window->start + window->bytes;
	int rc = 0;

	for (size_t i = oldest(parts); rc == 0 && i < parts->count; i++) {
		struct ckpt_global_part *part = &parts->items[i];
		struct piece piece = { .base = part->first_bytes };

		if (part->first_bytes >= end)
			break;
		piece.len = pick(parts, i, end, &piece.runs);
		rc = place_part(parts, part, &piece, window, err);
	}
	return rc;
}

/* --- the aggregator's side ---------------------------------------------------------------- */

static int read_note(struct ckpt_wire *in, struct piece *out)
{
	struct ckpt_copy *runs = &out->runs;
	uint64_t end;
	uint64_t whole;

	out->base = ckpt_wire_u64(in);
	out->begin = ckpt_wire_u64(in);
	out->len = ckpt_wire_u64(in);
	runs->run_bytes = ckpt_wire_u64(in);
	runs->dim_count = (uint32_t)ckpt_wire_count(in, 2 * sizeof(uint64_t));
	if (in->bad || runs->dim_count > CKPT_DIM_MAX || runs->run_bytes == 0)
		return -EBADMSG;
	ckpt_wire_u64s(in, runs->count, runs->dim_count);
	ckpt_wire_u64s(in, runs->to_stride, runs->dim_count);
	memset(runs->from_stride, 0, runs->dim_count * sizeof(*runs->from_stride));
	runs->run_count = 1;
	for (uint32_t d = 0; d < runs->dim_count; d++) {
		if (!num_mul(runs->run_count, runs->count[d], &runs->run_count))
			return -EBADMSG;
	}
	return num_add(out->begin, out->len, &end) &&
			       num_mul(runs->run_count, runs->run_bytes, &whole) && end <= whole
		       ? 0
		       : -EBADMSG;
}

/* Past the descriptions: where the bytes begin. */
static int skip_notes(struct ckpt_wire *in, uint64_t count)
{
	struct piece piece;
	int rc = 0;

	for (uint64_t i = 0; i < count && rc == 0; i++)
		rc = read_note(in, &piece);
	return rc;
}

int ckpt_global_window_place(struct ckpt_global_window *window, const void *message,
			     size_t len_bytes)
{
	struct ckpt_wire notes = { .data = message, .len_bytes = len_bytes };
	struct ckpt_wire bytes;
	uint64_t count;
	int rc;

	if (len_bytes == 0)
		return 0;
	count = ckpt_wire_count(&notes, NOTE_WORDS * sizeof(uint64_t));
	bytes = notes;
	rc = notes.bad ? -EBADMSG : skip_notes(&bytes, count);
	for (uint64_t i = 0; i < count && rc == 0; i++) {
		struct piece piece;

		rc = read_note(&notes, &piece);
		if (rc < 0 || piece.len > bytes.len_bytes - bytes.at)
			return -EBADMSG;
		rc = put_piece(window, &piece, (const unsigned char *)bytes.data + bytes.at);
		bytes.at += piece.len;
	}
	return rc < 0 ? rc : ckpt_wire_end(&bytes);
}
