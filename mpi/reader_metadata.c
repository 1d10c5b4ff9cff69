/*
 * reader_metadata.c - what a reader knows of a checkpoint's tensors and blobs,
 * and where they are stored: the manifest, in the words of ckptfs_mpi.h.
 */
#include <assert.h>

#include "format/format.h"
#include "mpi_reader.h"

size_t ckpt_mpi_reader_tensor_count(const struct ckpt_mpi_reader *reader)
{
	return reader->manifest.tensor_count;
}

void ckpt_mpi_reader_tensor(const struct ckpt_mpi_reader *reader, size_t idx,
			    struct ckpt_mpi_tensor *out)
{
	const struct ckpt_tensor *tensor = &reader->manifest.tensors[idx];

	assert(idx < reader->manifest.tensor_count);
	*out = (struct ckpt_mpi_tensor){
		.fqn = tensor->fqn,
		.set = tensor->set,
		.dtype = tensor->dtype,
		.shape = tensor->shape,
		.dim_count = tensor->dim_count,
		.element_bytes = ckpt_dtype_size(tensor->dtype),
		.chunk_count = tensor->chunk_count,
	};
}

/* Bytes [@offset, + @size) of a shard, as they lie on disk. */
static struct ckpt_mpi_location locate(const struct ckpt_mpi_reader *reader, const char *path,
				       uint64_t offset_bytes, uint64_t size_bytes)
{
	const struct ckpt_shard *shard = ckpt_manifest_find_shard(&reader->manifest, path);

	/* Who read the manifest has checked that entries name shards, and stay in them. */
	assert(shard);
	return (struct ckpt_mpi_location){
		.shard = shard->path,
		.file = shard->pack ? shard->pack : shard->path,
		.offset_bytes = offset_bytes + (shard->pack ? shard->pack_offset_bytes : 0),
		.size_bytes = size_bytes,
		.rank = shard->has_rank ? (int64_t)shard->rank : -1,
	};
}

void ckpt_mpi_reader_chunk(const struct ckpt_mpi_reader *reader, size_t tensor_idx,
			   size_t chunk_idx, struct ckpt_mpi_stored_chunk *out)
{
	const struct ckpt_tensor *tensor = &reader->manifest.tensors[tensor_idx];
	const struct ckpt_chunk *chunk = &tensor->chunks[chunk_idx];
	uint64_t size_bytes = 0;

	assert(tensor_idx < reader->manifest.tensor_count);
	assert(chunk_idx < tensor->chunk_count);
	/* It cannot fail: the reader of the manifest has computed it as well. */
	ckpt_ignore(ckpt_shape_bytes(tensor->dtype, chunk->size, tensor->dim_count, &size_bytes));
	*out = (struct ckpt_mpi_stored_chunk){
		.start = chunk->start,
		.size = chunk->size,
		.location = locate(reader, chunk->shard, chunk->offset_bytes, size_bytes),
	};
}

size_t ckpt_mpi_reader_blob_count(const struct ckpt_mpi_reader *reader)
{
	return reader->manifest.bytes_entry_count;
}

void ckpt_mpi_reader_blob(const struct ckpt_mpi_reader *reader, size_t idx,
			  struct ckpt_mpi_stored_blob *out)
{
	const struct ckpt_bytes_entry *entry = &reader->manifest.bytes_entries[idx];

	assert(idx < reader->manifest.bytes_entry_count);
	*out = (struct ckpt_mpi_stored_blob){
		.fqn = entry->fqn,
		.set = entry->set,
		.location = locate(reader, entry->shard, entry->offset_bytes, entry->size_bytes),
	};
}
