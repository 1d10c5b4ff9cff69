/* plan_local.c - one rank's side of plan.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "box.h"
#include "format/format.h"
#include "plan.h"
#include "wire.h"

_Static_assert(CKPT_MPI_DIM_MAX == CKPT_DIM_MAX, "the library and the format count alike");

void ckpt_plan_shard_name(struct ckpt_buf *out, uint64_t rank, const char *fqn,
			  const uint64_t *start, uint32_t dim_count)
{
	ckpt_buf_printf(out, "rank-%05llu/", (unsigned long long)rank);
	ckpt_path_escape_fqn(out, fqn);
	ckpt_buf_add_char(out, '@');
	if (dim_count == 0)
		ckpt_buf_add_char(out, '0');
	for (uint32_t d = 0; d < dim_count; d++)
		ckpt_buf_printf(out, "%s%llu", d ? "_" : "", (unsigned long long)start[d]);
}

static int check_entry(const struct ckpt_mpi_entry *entry, struct ckpt_err *err)
{
	uint64_t bytes;
	int rc;

	if (!entry->fqn || !*entry->fqn || !ckpt_path_is_utf8(entry->fqn, strlen(entry->fqn)))
		return ckpt_err_set(
			err, -EINVAL,
			"a tensor's name is empty, or no UTF-8 text without control characters; rename it");
	if (entry->dim_count > CKPT_DIM_MAX)
		return ckpt_err_set(err, -EINVAL,
				    "tensor '%s' has %u dimensions; at most %d can be stored",
				    entry->fqn, entry->dim_count, CKPT_DIM_MAX);
	rc = ckpt_shape_bytes(entry->dtype, entry->shape, entry->dim_count, &bytes);
	if (rc == -EINVAL)
		return ckpt_err_set(
			err, rc,
			"tensor '%s' has the element type '%s', which is not known; convert it",
			entry->fqn, entry->dtype);
	return rc < 0 ? ckpt_err_sys(err, rc, "tensor '%s' is larger than 2^64 bytes", entry->fqn)
		      : 0;
}

/* Can the chunk's shard be called as it must be? */
static int check_name(const struct ckpt_mpi_entry *entry, const struct ckpt_mpi_chunk *chunk,
		      int rank, struct ckpt_err *err)
{
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	ckpt_plan_shard_name(&name, (uint64_t)rank, entry->fqn, chunk->start, entry->dim_count);
	rc = ckpt_buf_check(&name);
	if (rc == 0)
		rc = ckpt_path_check_entry(name.data, err);
	ckpt_buf_release(&name);
	return rc < 0 ? ckpt_err_prefix(err, rc,
					"tensor '%s' cannot be stored under its name; rename it",
					entry->fqn)
		      : 0;
}

static int add_chunk(const struct ckpt_mpi_save_request *request, struct ckpt_local_chunk where,
		     int rank, struct ckpt_local_plan *out, struct ckpt_err *err)
{
	const struct ckpt_mpi_entry *entry = &request->entries[where.entry_idx];
	const struct ckpt_mpi_chunk *chunk = &entry->chunks[where.chunk_idx];
	const struct ckpt_box box = { .start = chunk->start, .size = chunk->size };
	int rc;

	if (!ckpt_box_inside(&box, entry->shape, entry->dim_count))
		return ckpt_err_set(
			err, -EINVAL,
			"chunk %zu of tensor '%s' reaches out of the tensor's shape; check its start and size",
			where.chunk_idx, entry->fqn);
	rc = ckpt_shape_bytes(entry->dtype, chunk->size, entry->dim_count, &where.size_bytes);
	if (rc < 0 || where.size_bytes == 0)
		return rc;
	if (!chunk->data && !request->read)
		return ckpt_err_set(err, -EINVAL,
				    "chunk %zu of tensor '%s' has neither data nor a read function",
				    where.chunk_idx, entry->fqn);
	rc = check_name(entry, chunk, rank, err);
	if (rc == 0)
		rc = array_grow(&out->chunks, &out->chunk_cap, out->chunk_count,
				sizeof(*out->chunks));
	if (rc == 0)
		out->chunks[out->chunk_count++] = where;
	return rc;
}

/* FQN, dtype, dimensions, shape, chunks: start, size. Read by plan_global.c. */
static void print_entry(const struct ckpt_mpi_save_request *request, size_t entry_idx,
			const struct ckpt_local_plan *plan, size_t first, struct ckpt_buf *out)
{
	const struct ckpt_mpi_entry *entry = &request->entries[entry_idx];

	ckpt_wire_put_str(out, entry->fqn);
	ckpt_wire_put_str(out, entry->dtype);
	ckpt_wire_put_u64(out, entry->dim_count);
	ckpt_wire_put_u64s(out, entry->shape, entry->dim_count);
	ckpt_wire_put_u64(out, plan->chunk_count - first);
	for (size_t i = first; i < plan->chunk_count; i++) {
		const struct ckpt_mpi_chunk *chunk = &entry->chunks[plan->chunks[i].chunk_idx];

		ckpt_wire_put_u64(out, plan->chunks[i].size_bytes);
		ckpt_wire_put_u64s(out, chunk->start, entry->dim_count);
		ckpt_wire_put_u64s(out, chunk->size, entry->dim_count);
	}
}

int ckpt_local_plan_make(const struct ckpt_mpi_save_request *request, int rank,
			 struct ckpt_local_plan *out, struct ckpt_buf *out_wire,
			 struct ckpt_err *err)
{
	int rc = 0;

	ckpt_wire_put_u64(out_wire, request->entry_count);
	for (size_t e = 0; e < request->entry_count && rc == 0; e++) {
		size_t first = out->chunk_count;

		rc = check_entry(&request->entries[e], err);
		for (size_t c = 0; c < request->entries[e].chunk_count && rc == 0; c++) {
			const struct ckpt_local_chunk where = { .entry_idx = e, .chunk_idx = c };

			rc = add_chunk(request, where, rank, out, err);
		}
		if (rc == 0)
			print_entry(request, e, out, first, out_wire);
	}
	return rc < 0 ? rc : ckpt_buf_check(out_wire);
}

int ckpt_local_plan_take(struct ckpt_local_plan *plan, const struct ckpt_buf *wire, int rank,
			 struct ckpt_err *err)
{
	struct ckpt_wire in = ckpt_wire_over(wire);

	plan->keep = array_alloc(plan->chunk_count + 1, sizeof(*plan->keep));
	if (!plan->keep)
		return -ENOMEM;
	for (int r = 0; r < rank; r++)
		in.at += ckpt_wire_count(&in, sizeof(uint64_t)) * sizeof(uint64_t);
	if (ckpt_wire_u64(&in) != plan->chunk_count || in.bad)
		return ckpt_err_set(
			err, -EBADMSG,
			"the global plan does not fit this rank's; the ranks run different versions of the library");
	ckpt_wire_u64s(&in, plan->keep, plan->chunk_count);
	return in.bad ? -EBADMSG : 0;
}

void ckpt_local_plan_release(struct ckpt_local_plan *plan)
{
	free(plan->chunks);
	free(plan->keep);
}
