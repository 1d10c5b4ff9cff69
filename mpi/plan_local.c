/* plan_local.c - one rank's side of plan.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/box.h"
#include "base/cover.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "plan.h"
#include "strides.h"
#include "wire.h"

_Static_assert(CKPT_MPI_DIM_MAX == CKPT_DIM_MAX, "the library and the format count alike");

/* --- checking ------------------------------------------------------------------------------ */

static int check_fqn(const char *fqn, const char *kind, struct ckpt_err *err)
{
	if (fqn && *fqn && ckpt_path_is_utf8(fqn, strlen(fqn)))
		return 0;
	return ckpt_err_set(
		err, -EINVAL,
		"a %s's name is empty, or no UTF-8 text without control characters; rename it",
		kind);
}

static int check_entry(const struct ckpt_mpi_entry *entry, struct ckpt_err *err)
{
	char shape[CKPT_BOX_TEXT_MAX];
	uint64_t bytes;
	int rc = check_fqn(entry->fqn, "tensor", err);

	if (rc < 0)
		return rc;
	if (entry->dim_count > CKPT_DIM_MAX)
		return ckpt_err_set(
			err, -EINVAL,
			"tensor '%s' has %u dimensions, at most %d can be stored; join some",
			entry->fqn, entry->dim_count, CKPT_DIM_MAX);
	if (!entry->dtype || ckpt_dtype_size(entry->dtype) == 0)
		return ckpt_err_set(
			err, -EINVAL,
			"tensor '%s' has the element type '%s', which is not known; convert it",
			entry->fqn, entry->dtype ? entry->dtype : "");
	rc = ckpt_shape_bytes(entry->dtype, entry->shape, entry->dim_count, &bytes);
	if (rc < 0 || bytes > INT64_MAX)
		return ckpt_err_set(
			err, -EOVERFLOW,
			"tensor '%s' of shape %s holds 2^63 bytes or more; save it as several tensors",
			entry->fqn, ckpt_extents_text(entry->shape, entry->dim_count, shape));
	return 0;
}

/* Can the shard be called as it must be? */
static int check_name(const struct ckpt_mpi_save_request *request,
		      const struct ckpt_local_chunk *where, int rank, struct ckpt_err *err)
{
	const char *fqn = where->is_blob ? request->blobs[where->entry_idx].fqn
					 : request->entries[where->entry_idx].fqn;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	ckpt_plan_chunk_name(&name, request, where, (uint64_t)rank);
	rc = ckpt_buf_check(&name);
	if (rc == 0)
		rc = ckpt_path_check_entry(name.data, err);
	ckpt_buf_release(&name);
	return rc < 0 ? ckpt_err_prefix(err, rc,
					"%s '%s' cannot be stored under its name; rename it",
					where->is_blob ? "blob" : "tensor", fqn)
		      : 0;
}

static int check_chunk(const struct ckpt_mpi_entry *entry, size_t chunk_idx, struct ckpt_err *err)
{
	const struct ckpt_mpi_chunk *chunk = &entry->chunks[chunk_idx];
	const struct ckpt_box box = { .start = chunk->start, .size = chunk->size };
	char box_text[CKPT_BOX_TEXT_MAX];
	char shape[CKPT_BOX_TEXT_MAX];

	if (ckpt_box_inside(&box, entry->shape, entry->dim_count))
		return 0;
	return ckpt_err_set(
		err, -EINVAL,
		"tensor '%s': chunk %zu, %s, reaches out of the tensor's shape %s; check its start and size",
		entry->fqn, chunk_idx, ckpt_box_text(&box, entry->dim_count, box_text),
		ckpt_extents_text(entry->shape, entry->dim_count, shape));
}

/* Where do its bytes come from? */
static int check_source(const struct ckpt_mpi_save_request *request,
			const struct ckpt_local_chunk *where, struct ckpt_err *err)
{
	const struct ckpt_mpi_entry *entry = &request->entries[where->entry_idx];
	const struct ckpt_mpi_chunk *chunk = &entry->chunks[where->chunk_idx];
	int rc;

	if (!chunk->data)
		return request->read
			       ? 0
			       : ckpt_err_set(
					 err, -EINVAL,
					 "tensor '%s': chunk %zu has no data, and there is no read function; give one of them",
					 entry->fqn, where->chunk_idx);
	rc = ckpt_strides_check(
		&(const struct ckpt_strided){ .data = chunk->data,
					      .size = chunk->size,
					      .strides = chunk->strides,
					      .dim_count = entry->dim_count,
					      .element_bytes = ckpt_dtype_size(entry->dtype) },
		err);
	return rc < 0 ? ckpt_err_prefix(err, rc, "tensor '%s': chunk %zu", entry->fqn,
					where->chunk_idx)
		      : 0;
}

/* --- collecting ---------------------------------------------------------------------------- */

static int add(struct ckpt_local_plan *plan, const struct ckpt_local_chunk *where)
{
	int rc = array_grow(&plan->chunks, &plan->chunk_cap, plan->chunk_count,
			    sizeof(*plan->chunks));

	if (rc == 0)
		plan->chunks[plan->chunk_count++] = *where;
	return rc;
}

static int add_chunk(const struct ckpt_mpi_save_request *request, struct ckpt_local_chunk where,
		     int rank, struct ckpt_local_plan *out, struct ckpt_err *err)
{
	const struct ckpt_mpi_entry *entry = &request->entries[where.entry_idx];
	int rc = check_chunk(entry, where.chunk_idx, err);

	if (rc == 0)
		rc = ckpt_shape_bytes(entry->dtype, entry->chunks[where.chunk_idx].size,
				      entry->dim_count, &where.size_bytes);
	if (rc < 0 || where.size_bytes == 0)
		return rc;
	rc = check_source(request, &where, err);
	if (rc == 0)
		rc = check_name(request, &where, rank, err);
	return rc < 0 ? rc : add(out, &where);
}

static int add_entry(const struct ckpt_mpi_save_request *request, size_t entry_idx, int rank,
		     struct ckpt_local_plan *out, struct ckpt_err *err)
{
	const struct ckpt_mpi_entry *entry = &request->entries[entry_idx];
	int rc = check_entry(entry, err);

	for (size_t c = 0; rc == 0 && c < entry->chunk_count; c++) {
		const struct ckpt_local_chunk where = { .entry_idx = entry_idx, .chunk_idx = c };

		rc = add_chunk(request, where, rank, out, err);
	}
	return rc;
}

/* Does @fqn end as the shards of chunks do: '@', numbers joined by '_'? */
static bool ends_like_chunk(const char *fqn)
{
	const char *at = strrchr(fqn, '@');

	return at && at[1] && at[1 + strspn(at + 1, "0123456789_")] == '\0';
}

static int add_blob(const struct ckpt_mpi_save_request *request, size_t blob_idx, int rank,
		    struct ckpt_local_plan *out, struct ckpt_err *err)
{
	const struct ckpt_mpi_blob *blob = &request->blobs[blob_idx];
	const struct ckpt_local_chunk where = { .is_blob = true,
						.entry_idx = blob_idx,
						.size_bytes = blob->size_bytes };
	int rc = check_fqn(blob->fqn, "blob", err);

	if (rc < 0)
		return rc;
	if (ends_like_chunk(blob->fqn))
		return ckpt_err_set(
			err, -EINVAL,
			"blob '%s' ends in '@' and numbers, as only the shards of tensors may; rename it",
			blob->fqn);
	if (blob->size_bytes > INT64_MAX || (!blob->data && blob->size_bytes > 0))
		return ckpt_err_set(err, -EINVAL,
				    "blob '%s' of %llu bytes has no data; give its address",
				    blob->fqn, (unsigned long long)blob->size_bytes);
	rc = check_name(request, &where, rank, err);
	return rc < 0 ? rc : add(out, &where);
}

/* --- printing; read by plan_global.c ------------------------------------------------------- */

/* Entries, chunks of them, extents (64-bit numbers) of both, blobs: what must be made room for. */
static void print_totals(const struct ckpt_mpi_save_request *request,
			 const struct ckpt_local_plan *plan, struct ckpt_buf *out)
{
	size_t chunk_count = plan->chunk_count - request->blob_count;
	uint64_t extent_count = 0;

	for (size_t e = 0; e < request->entry_count; e++)
		extent_count += request->entries[e].dim_count;
	for (size_t c = 0; c < chunk_count; c++)
		extent_count += UINT64_C(2) * request->entries[plan->chunks[c].entry_idx].dim_count;
	ckpt_wire_put_u64(out, request->entry_count);
	ckpt_wire_put_u64(out, chunk_count);
	ckpt_wire_put_u64(out, extent_count);
	ckpt_wire_put_u64(out, request->blob_count);
}

/* FQN, dtype, dimensions, shape, chunks: bytes, start, size. */
static size_t print_entry(const struct ckpt_mpi_save_request *request, size_t entry_idx,
			  const struct ckpt_local_plan *plan, size_t first, struct ckpt_buf *out)
{
	const struct ckpt_mpi_entry *entry = &request->entries[entry_idx];
	size_t end = first;

	while (end < plan->chunk_count && !plan->chunks[end].is_blob &&
	       plan->chunks[end].entry_idx == entry_idx)
		end++;
	ckpt_wire_put_str(out, entry->fqn);
	ckpt_wire_put_str(out, entry->dtype);
	ckpt_wire_put_u64(out, entry->dim_count);
	ckpt_wire_put_u64s(out, entry->shape, entry->dim_count);
	ckpt_wire_put_u64(out, end - first);
	for (size_t i = first; i < end; i++) {
		const struct ckpt_mpi_chunk *chunk = &entry->chunks[plan->chunks[i].chunk_idx];

		ckpt_wire_put_u64(out, plan->chunks[i].size_bytes);
		ckpt_wire_put_u64s(out, chunk->start, entry->dim_count);
		ckpt_wire_put_u64s(out, chunk->size, entry->dim_count);
	}
	return end;
}

static void print_all(const struct ckpt_mpi_save_request *request,
		      const struct ckpt_local_plan *plan, struct ckpt_buf *out)
{
	size_t first = 0;

	print_totals(request, plan, out);
	for (size_t e = 0; e < request->entry_count; e++)
		first = print_entry(request, e, plan, first, out);
	for (size_t b = 0; b < request->blob_count; b++) {
		ckpt_wire_put_str(out, request->blobs[b].fqn);
		ckpt_wire_put_u64(out, request->blobs[b].size_bytes);
	}
}

int ckpt_local_plan_make(const struct ckpt_mpi_save_request *request, int rank,
			 struct ckpt_local_plan *out, struct ckpt_buf *out_wire,
			 struct ckpt_err *err)
{
	int rc = 0;

	for (size_t e = 0; e < request->entry_count && rc == 0; e++)
		rc = add_entry(request, e, rank, out, err);
	for (size_t b = 0; b < request->blob_count && rc == 0; b++)
		rc = add_blob(request, b, rank, out, err);
	if (rc < 0)
		return rc;
	print_all(request, out, out_wire);
	return ckpt_buf_check(out_wire);
}

int ckpt_local_plan_take(struct ckpt_local_plan *plan, const struct ckpt_buf *wire, int rank,
			 struct ckpt_err *err)
{
	struct ckpt_wire in = ckpt_wire_over(wire);
	uint64_t bits = 0;
	size_t chunk_count = plan->chunk_count;

	/* Blobs are the last, and nobody's business but ours. */
	while (chunk_count > 0 && plan->chunks[chunk_count - 1].is_blob)
		chunk_count--;
	plan->keep = array_alloc(plan->chunk_count + 1, sizeof(*plan->keep));
	if (!plan->keep)
		return -ENOMEM;
	for (int r = 0; r < rank; r++)
		ckpt_wire_skip(&in, num_div_up(ckpt_wire_u64(&in), 64) * sizeof(uint64_t));
	if (ckpt_wire_u64(&in) != chunk_count || in.bad)
		return ckpt_err_set(
			err, -EBADMSG,
			"the global plan does not fit this rank's; the ranks run different versions of the library");
	for (size_t i = 0; i < plan->chunk_count; i++) {
		if (i % 64 == 0 && i < chunk_count)
			bits = ckpt_wire_u64(&in);
		plan->keep[i] = i >= chunk_count || (bits >> (i % 64) & 1);
	}
	return in.bad ? -EBADMSG : 0;
}

void ckpt_local_plan_release(struct ckpt_local_plan *plan)
{
	free(plan->chunks);
	free(plan->keep);
}
