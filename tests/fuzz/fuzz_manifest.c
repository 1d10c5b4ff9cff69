/*
 * fuzz_manifest.c - manifests without their end line, which is put behind them:
 * no chance finds a sum that is right.
 */
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "fuzz.h"
#include "store/manifest.h"

/* How many lines of @text begin with @start? */
static size_t count_lines(const struct ckpt_buf *text, const char *start)
{
	size_t start_bytes = strlen(start);
	size_t count = 0;

	for (size_t at = 0; at < text->len_bytes;) {
		const char *line = text->data + at;
		const char *end = memchr(line, '\n', text->len_bytes - at);

		count += text->len_bytes - at >= start_bytes &&
			 memcmp(line, start, start_bytes) == 0;
		at = end ? (size_t)(end - text->data) + 1 : text->len_bytes;
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	char hex[CKPT_HEX128_LEN + 1];
	struct ckpt_manifest manifest;
	struct ckpt_buf text;
	size_t shards;
	size_t tensors;

	ckpt_buf_init(&text);
	ckpt_buf_add(&text, data, len_bytes);
	shards = count_lines(&text, "{\"shard\":");
	tensors = count_lines(&text, "{\"tensor\":") + count_lines(&text, "{\"bytes\":");
	ckpt_hex128(ckpt_hash128(text.data, text.len_bytes), hex);
	ckpt_buf_printf(&text, "{\"end\":true,\"shards\":%zu,\"tensors\":%zu,\"xxh128\":\"%s\"}\n",
			shards, tensors, hex);
	if (ckpt_buf_check(&text) == 0 &&
	    ckpt_manifest_load_text(text.data, text.len_bytes, "fuzz", &manifest, NULL) == 0)
		ckpt_manifest_release(&manifest);
	ckpt_buf_release(&text);
	return 0;
}
