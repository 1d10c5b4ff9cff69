/* manifest.c - the parts of a manifest as structs: blocks, and who frees what. See manifest.h. */
#include "store/manifest.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"

uint64_t ckpt_block_bytes_for(uint64_t size_bytes)
{
	uint64_t block_bytes = CKPT_BLOCK_MIN;

	/* 2^48 bytes make 65536 blocks of any uint64_t: the shift ends before it overflows. */
	while (num_div_up(size_bytes, block_bytes) > CKPT_BLOCK_COUNT_MAX)
		block_bytes <<= 1;
	return block_bytes;
}

uint64_t ckpt_block_count(uint64_t size_bytes, uint64_t block_bytes)
{
	assert(block_bytes > 0);
	return num_div_up(size_bytes, block_bytes);
}

void ckpt_manifest_head_release(struct ckpt_manifest_head *head)
{
	free(head->name);
	free(head->writer);
	free(head->meta);
	*head = (struct ckpt_manifest_head){ 0 };
}

void ckpt_shard_release(struct ckpt_shard *shard)
{
	free(shard->path);
	free(shard->sums);
	free(shard->pack);
	*shard = (struct ckpt_shard){ 0 };
}

static void chunk_release(struct ckpt_chunk *chunk)
{
	free(chunk->start);
	free(chunk->size);
	free(chunk->stride);
	free(chunk->shard);
}

void ckpt_tensor_release(struct ckpt_tensor *tensor)
{
	for (size_t i = 0; i < tensor->chunk_count; i++)
		chunk_release(&tensor->chunks[i]);
	free(tensor->chunks);
	free(tensor->fqn);
	free(tensor->set);
	free(tensor->group);
	free(tensor->shape);
	*tensor = (struct ckpt_tensor){ 0 };
}

void ckpt_bytes_entry_release(struct ckpt_bytes_entry *entry)
{
	free(entry->fqn);
	free(entry->set);
	free(entry->group);
	free(entry->shard);
	*entry = (struct ckpt_bytes_entry){ 0 };
}
