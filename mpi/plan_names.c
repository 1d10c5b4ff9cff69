/* plan_names.c - what shards are called, ckptfs-format(5) "Shard names of ckptfs-mpi". */
#include "base/path.h"
#include "plan.h"

void ckpt_plan_blob_name(struct ckpt_buf *out, uint64_t rank, const char *fqn)
{
	ckpt_buf_printf(out, "rank-%05llu/", (unsigned long long)rank);
	ckpt_path_escape_fqn(out, fqn);
}

void ckpt_plan_shard_name(struct ckpt_buf *out, uint64_t rank, const char *fqn,
			  const uint64_t *start, uint32_t dim_count)
{
	ckpt_plan_blob_name(out, rank, fqn);
	ckpt_buf_add_char(out, '@');
	if (dim_count == 0)
		ckpt_buf_add_char(out, '0');
	for (uint32_t d = 0; d < dim_count; d++)
		ckpt_buf_printf(out, "%s%llu", d ? "_" : "", (unsigned long long)start[d]);
}

void ckpt_plan_chunk_name(struct ckpt_buf *out, const struct ckpt_mpi_save_request *request,
			  const struct ckpt_local_chunk *chunk, uint64_t rank)
{
	const struct ckpt_mpi_entry *entry;

	if (chunk->is_blob) {
		ckpt_plan_blob_name(out, rank, request->blobs[chunk->entry_idx].fqn);
		return;
	}
	entry = &request->entries[chunk->entry_idx];
	ckpt_plan_shard_name(out, rank, entry->fqn, entry->chunks[chunk->chunk_idx].start,
			     entry->dim_count);
}
