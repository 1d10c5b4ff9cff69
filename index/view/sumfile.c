/*
 * sumfile.c - XXH128SUMS, a file that is stored nowhere: the digests of the shards as xxhsum prints
 * them. Shards whose whole digest nobody has seen yet are not in it. See view.h.
 */
#include "view/view.h"

#include <errno.h>

/* The names of shards hold no line feed, so that a line is a line. */
static void add_line(struct ckpt_buf *out, struct ckpt_digest xxh128, const char *path)
{
	char hex[CKPT_HEX128_LEN + 1];

	ckpt_buf_add(out, ckpt_hex128(xxh128, hex), CKPT_HEX128_LEN);
	ckpt_buf_add_str(out, "  ");
	ckpt_buf_add_str(out, path);
	ckpt_buf_add_char(out, '\n');
}

static int add_entry(void *ctx, const char *path, const struct ckpt_db_entry *entry)
{
	struct ckpt_buf *out = ctx;

	if (entry->has_xxh128)
		add_line(out, entry->xxh128, path);
	return ckpt_buf_check(out);
}

int ckpt_view_sums(struct ckpt_db *db, uint64_t slot, struct ckpt_buf *out, struct ckpt_err *err)
{
	int rc = ckpt_db_shards(db, slot, add_entry, out, err);

	if (ckpt_buf_check(out) < 0)
		return ckpt_err_sys(err, -ENOMEM, "cannot list the sums of the shards");
	return rc;
}

int ckpt_view_sums_manifest(const struct ckpt_manifest *manifest, struct ckpt_buf *out)
{
	for (size_t i = 0; i < manifest->shard_count; i++) {
		const struct ckpt_shard *shard = &manifest->shards[i];

		if (shard->has_xxh128)
			add_line(out, shard->xxh128, shard->path);
	}
	return ckpt_buf_check(out);
}
