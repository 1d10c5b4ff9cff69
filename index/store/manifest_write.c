/*
 * manifest_write.c - a manifest as text; see manifest.h. Keys come in the order of
 * ckptfs-format(5) "The manifest", and what does not apply is left out.
 */
#include <inttypes.h>

#include "store/manifest_internal.h"

/* ,"key":"text" */
static void add_text(struct ckpt_buf *out, const char *key, const char *text)
{
	ckpt_buf_printf(out, ",\"%s\":", key);
	ckpt_buf_add_json_str(out, text);
}

/* ,"key":N */
static void add_number(struct ckpt_buf *out, const char *key, uint64_t value)
{
	ckpt_buf_printf(out, ",\"%s\":%" PRIu64, key, value);
}

/* ,"key":[N,…] */
static void add_extents(struct ckpt_buf *out, const char *key, const uint64_t *extents,
			uint32_t count)
{
	ckpt_buf_printf(out, ",\"%s\":[", key);
	for (uint32_t i = 0; i < count; i++)
		ckpt_buf_printf(out, "%s%" PRIu64, i ? "," : "", extents[i]);
	ckpt_buf_add_char(out, ']');
}

static void print_head(const struct ckpt_manifest_head *head, struct ckpt_buf *out)
{
	ckpt_buf_printf(out, "{\"ckptfs\":%d", CKPT_MANIFEST_VERSION);
	add_text(out, "id", head->id);
	add_text(out, "name", head->name);
	add_number(out, "seq", head->seq);
	if (head->has_step)
		add_number(out, "step", head->step);
	if (head->has_world_size)
		add_number(out, "world_size", head->world_size);
	add_text(out, "created", head->created);
	add_text(out, "committed", head->committed);
	add_text(out, "writer", head->writer);
	ckpt_buf_printf(out, ",\"meta\":%s}\n", head->meta ? head->meta : "{}");
}

static void print_dir(const struct ckpt_manifest_dir *dir, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, "{\"dir\":");
	ckpt_buf_add_json_str(out, dir->path);
	ckpt_buf_printf(out, ",\"mode\":\"%04o\"}\n", dir->mode);
}

static void add_sums(struct ckpt_buf *out, const struct ckpt_shard *shard)
{
	uint64_t count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	char hex[CKPT_HEX64_LEN + 1];

	ckpt_buf_add_str(out, ",\"xxh3\":\"");
	for (uint64_t i = 0; i < count; i++)
		ckpt_buf_add(out, ckpt_hex64(shard->sums[i], hex), CKPT_HEX64_LEN);
	ckpt_buf_add_char(out, '"');
}

static void print_shard(const struct ckpt_shard *shard, struct ckpt_buf *out)
{
	char hex[CKPT_HEX128_LEN + 1];

	ckpt_buf_add_str(out, "{\"shard\":");
	ckpt_buf_add_json_str(out, shard->path);
	ckpt_buf_printf(out, ",\"size\":%" PRIu64 ",\"mode\":\"%04o\",\"mtime_ns\":%" PRId64,
			shard->size_bytes, shard->mode, shard->mtime_ns);
	if (shard->has_rank)
		add_number(out, "rank", shard->rank);
	if (shard->has_xxh128)
		add_text(out, "xxh128", ckpt_hex128(shard->xxh128, hex));
	add_number(out, "block", shard->block_bytes);
	add_sums(out, shard);
	if (shard->pack)
		ckpt_buf_printf(out, ",\"at\":{\"file\":\"%s\",\"offset\":%" PRIu64 "}",
				shard->pack, shard->pack_offset_bytes);
	ckpt_buf_add_str(out, "}\n");
}

static void print_symlink(const struct ckpt_symlink *symlink, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, "{\"symlink\":");
	ckpt_buf_add_json_str(out, symlink->path);
	add_text(out, "target", symlink->target);
	ckpt_buf_add_str(out, "}\n");
}

static void print_chunk(const struct ckpt_chunk *chunk, uint32_t dim_count, struct ckpt_buf *out)
{
	/* "start" comes first, and add_extents() begins with a comma. */
	ckpt_buf_add_str(out, "{\"start\":[");
	for (uint32_t i = 0; i < dim_count; i++)
		ckpt_buf_printf(out, "%s%" PRIu64, i ? "," : "", chunk->start[i]);
	ckpt_buf_add_char(out, ']');
	add_extents(out, "size", chunk->size, dim_count);
	add_text(out, "shard", chunk->shard);
	add_number(out, "offset", chunk->offset_bytes);
	if (chunk->stride)
		add_extents(out, "stride", chunk->stride, dim_count);
	ckpt_buf_add_char(out, '}');
}

static void print_tensor(const struct ckpt_tensor *tensor, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, "{\"tensor\":");
	ckpt_buf_add_json_str(out, tensor->fqn);
	add_text(out, "set", tensor->set);
	if (tensor->group)
		add_text(out, "group", tensor->group);
	add_text(out, "dtype", tensor->dtype);
	add_extents(out, "shape", tensor->shape, tensor->dim_count);
	ckpt_buf_add_str(out, ",\"chunks\":[");
	for (size_t i = 0; i < tensor->chunk_count; i++) {
		if (i > 0)
			ckpt_buf_add_char(out, ',');
		print_chunk(&tensor->chunks[i], tensor->dim_count, out);
	}
	ckpt_buf_add_str(out, "]}\n");
}

static void print_bytes(const struct ckpt_bytes_entry *entry, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, "{\"bytes\":");
	ckpt_buf_add_json_str(out, entry->fqn);
	add_text(out, "set", entry->set);
	if (entry->group)
		add_text(out, "group", entry->group);
	add_text(out, "shard", entry->shard);
	add_number(out, "offset", entry->offset_bytes);
	add_number(out, "size", entry->size_bytes);
	ckpt_buf_add_str(out, "}\n");
}

void ckpt_manifest_print_end(const struct ckpt_manifest_end *end, struct ckpt_buf *out)
{
	char hex[CKPT_HEX128_LEN + 1];

	ckpt_buf_printf(out,
			"{\"end\":true,\"shards\":%" PRIu64 ",\"tensors\":%" PRIu64
			",\"xxh128\":\"%s\"}\n",
			end->shard_count, end->tensor_count, ckpt_hex128(end->xxh128, hex));
}

int ckpt_manifest_print(const struct ckpt_manifest *manifest, struct ckpt_buf *out)
{
	struct ckpt_manifest_end end = {
		.shard_count = manifest->shard_count,
		.tensor_count = manifest->tensor_count + manifest->bytes_entry_count,
	};
	size_t start = out->len_bytes;

	print_head(&manifest->head, out);
	for (size_t i = 0; i < manifest->dir_count; i++)
		print_dir(&manifest->dirs[i], out);
	for (size_t i = 0; i < manifest->shard_count; i++)
		print_shard(&manifest->shards[i], out);
	for (size_t i = 0; i < manifest->symlink_count; i++)
		print_symlink(&manifest->symlinks[i], out);
	for (size_t i = 0; i < manifest->tensor_count; i++)
		print_tensor(&manifest->tensors[i], out);
	for (size_t i = 0; i < manifest->bytes_entry_count; i++)
		print_bytes(&manifest->bytes_entries[i], out);
	end.xxh128 = ckpt_hash128(out->data + start, out->len_bytes - start);
	ckpt_manifest_print_end(&end, out);
	return ckpt_buf_check(out);
}
