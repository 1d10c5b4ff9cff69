/*
 * catalog.c - what was learned of a committed checkpoint after its commit: the
 * whole digests of shards that no one writer saw all bytes of, kept in
 * `.ckptfs/catalog/ID.jsonl`. Derived data: one that is damaged, or of another
 * manifest, is as none, and the next verification makes it anew.
 * Source: ckptfs-format(5) "The catalog".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_index.h"
#include "store/store_internal.h"

#define CATALOG_DIR CKPT_CONTROL_DIR "/catalog"
/* A line a shard: more than a manifest may have is damage. */
#define CATALOG_MAX (UINT64_C(1) << 30)

static int path_of(const char *id, struct ckpt_buf *out)
{
	ckpt_buf_printf(out, CATALOG_DIR "/%s.jsonl", id);
	return ckpt_buf_check(out);
}

int ckpt_catalog_add(struct ckpt_catalog *catalog, const char *path, struct ckpt_digest xxh128)
{
	struct ckpt_catalog_item item = { .xxh128 = xxh128 };
	int rc = array_grow(&catalog->items, &catalog->cap, catalog->count, sizeof(item));

	if (rc < 0)
		return rc;
	item.path = strdup(path);
	if (!item.path)
		return -ENOMEM;
	catalog->items[catalog->count++] = item;
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct ckpt_catalog_item *)a)->path,
		      ((const struct ckpt_catalog_item *)b)->path);
}

const struct ckpt_digest *ckpt_catalog_find(const struct ckpt_catalog *catalog, const char *path)
{
	size_t low = 0;
	size_t high = catalog->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(catalog->items[mid].path, path);

		if (order == 0)
			return &catalog->items[mid].xxh128;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

void ckpt_catalog_release(struct ckpt_catalog *catalog)
{
	for (size_t i = 0; i < catalog->count; i++)
		free(catalog->items[i].path);
	free(catalog->items);
	*catalog = (struct ckpt_catalog){ .items = NULL };
}

/* --- reading ---------------------------------------------------------------------------------- */

/* {"catalog":1,"manifest":"32 HEX DIGITS"} */
static void print_head(struct ckpt_digest manifest, struct ckpt_buf *out)
{
	char hex[CKPT_HEX128_LEN + 1];

	ckpt_buf_printf(out, "{\"catalog\":1,\"manifest\":\"%s\"}\n", ckpt_hex128(manifest, hex));
}

/* {"end":true,"xxh128":"OF ALL BEFORE"} */
static void print_end(const char *text, size_t len, struct ckpt_buf *out)
{
	char hex[CKPT_HEX128_LEN + 1];

	ckpt_buf_printf(out, "{\"end\":true,\"xxh128\":\"%s\"}\n",
			ckpt_hex128(ckpt_hash128(text, len), hex));
}

/* Both ends are, byte for byte, what we print. *@out_start, *@out_end: the lines between. */
static int check_ends(const struct ckpt_buf *text, struct ckpt_digest manifest, size_t *out_start,
		      size_t *out_end)
{
	struct ckpt_buf head;
	struct ckpt_buf end;
	size_t end_len;
	bool fits;

	ckpt_buf_init(&head);
	ckpt_buf_init(&end);
	print_head(manifest, &head);
	/* Its length does not hang on the sum in it. */
	print_end("", 0, &end);
	end_len = end.len_bytes;
	ckpt_buf_reset(&end);
	fits = text->len_bytes >= head.len_bytes + end_len &&
	       memcmp(text->data, head.data, head.len_bytes) == 0;
	if (fits) {
		*out_start = head.len_bytes;
		*out_end = text->len_bytes - end_len;
		print_end(text->data, *out_end, &end);
		fits = end.len_bytes == end_len &&
		       memcmp(text->data + *out_end, end.data, end_len) == 0;
	}
	ckpt_buf_release(&head);
	ckpt_buf_release(&end);
	return fits ? 0 : -EBADMSG;
}

/* {"shard":"PATH","xxh128":"32 HEX DIGITS"} */
static int read_line(struct ckpt_catalog *catalog, const char *line, size_t len)
{
	struct ckpt_json *root = NULL;
	const char *shard = NULL;
	const char *hex = NULL;
	const struct ckpt_json_field fields[] = {
		{ "shard", CKPT_FIELD_STRING, &shard, NULL },
		{ "xxh128", CKPT_FIELD_STRING, &hex, NULL },
	};
	struct ckpt_digest xxh128;
	int rc = ckpt_json_parse(line, len, &root, NULL);

	if (rc < 0)
		return rc;
	rc = ckpt_json_decode(root, fields, sizeof(fields) / sizeof(fields[0]), NULL);
	if (rc == 0 && (strlen(hex) != CKPT_HEX128_LEN || ckpt_hex128_parse(hex, &xxh128) < 0))
		rc = -EBADMSG;
	if (rc == 0)
		rc = ckpt_catalog_add(catalog, shard, xxh128);
	ckpt_json_free(root);
	return rc;
}

static int read_text(const struct ckpt_buf *text, struct ckpt_digest manifest,
		     struct ckpt_catalog *out)
{
	size_t at = 0;
	size_t stop = 0;
	int rc = check_ends(text, manifest, &at, &stop);

	while (rc == 0 && at < stop) {
		const char *line = text->data + at;
		const char *end = memchr(line, '\n', stop - at);

		if (!end)
			return -EBADMSG;
		rc = read_line(out, line, (size_t)(end - line));
		at += (size_t)(end - line) + 1;
	}
	for (size_t i = 1; rc == 0 && i < out->count; i++) {
		if (by_path(&out->items[i - 1], &out->items[i]) >= 0)
			rc = -EBADMSG;
	}
	return rc;
}

int ckpt_catalog_load(int store_fd, const char *id, struct ckpt_digest manifest,
		      struct ckpt_catalog *out)
{
	struct ckpt_catalog catalog = { .items = NULL };
	struct ckpt_buf path;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_init(&text);
	rc = path_of(id, &path);
	if (rc == 0)
		rc = ckpt_io_read_file(store_fd, path.data, CATALOG_MAX, &text, NULL);
	if (rc == 0)
		rc = read_text(&text, manifest, &catalog);
	ckpt_buf_release(&text);
	ckpt_buf_release(&path);
	if (rc < 0) {
		ckpt_catalog_release(&catalog);
		return rc == -ENOMEM ? rc : -ENOENT;
	}
	*out = catalog;
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static int print_catalog(struct ckpt_catalog *catalog, struct ckpt_digest manifest,
			 struct ckpt_buf *out)
{
	char hex[CKPT_HEX128_LEN + 1];

	if (catalog->count > 0)
		qsort(catalog->items, catalog->count, sizeof(*catalog->items), by_path);
	print_head(manifest, out);
	for (size_t i = 0; i < catalog->count; i++) {
		ckpt_buf_add_str(out, "{\"shard\":");
		ckpt_buf_add_json_str(out, catalog->items[i].path);
		ckpt_buf_printf(out, ",\"xxh128\":\"%s\"}\n",
				ckpt_hex128(catalog->items[i].xxh128, hex));
	}
	print_end(out->data, out->len_bytes, out);
	return ckpt_buf_check(out);
}

int ckpt_catalog_save(const struct ckpt_store *store, const char *id, struct ckpt_digest manifest,
		      struct ckpt_catalog *catalog, struct ckpt_err *err)
{
	struct ckpt_buf path;
	struct ckpt_buf text;
	int rc = ckpt_io_mkdirs(store->fd, CATALOG_DIR, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&path);
	ckpt_buf_init(&text);
	rc = path_of(id, &path);
	if (rc == 0)
		rc = print_catalog(catalog, manifest, &text);
	if (rc < 0)
		ckpt_err_sys(err, rc, "cannot write down what was learned of '%s'", id);
	else
		rc = ckpt_io_publish(store->fd, path.data, text.data, text.len_bytes, 0644, err);
	ckpt_buf_release(&text);
	ckpt_buf_release(&path);
	return rc;
}

/* --- telling the index ------------------------------------------------------------------------ */

struct lesson {
	const char *name;
	struct ckpt_digest manifest;
	uint32_t first_line;
	const struct ckpt_learned *items;
	size_t count;
};

/* Where the index has this manifest's lines; else it reads the catalog when it reads those. */
static int tell(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	const struct lesson *lesson = ctx;
	struct ckpt_db_checkpoint row;
	int rc = ckpt_db_checkpoint_by_name(db, lesson->name, &row, err);

	if (rc < 0)
		return rc;
	if (!row.entries_indexed || !ckpt_digest_equal(row.manifest_xxh128, lesson->manifest))
		rc = -ENOENT;
	for (size_t i = 0; rc == 0 && i < lesson->count; i++)
		rc = ckpt_db_set_xxh128(db, row.slot,
					lesson->first_line + (uint32_t)lesson->items[i].shard_idx,
					lesson->items[i].xxh128, err);
	ckpt_db_checkpoint_release(&row);
	return rc;
}

void ckpt_catalog_tell_index(struct ckpt_store *store, const char *name,
			     struct ckpt_digest manifest, uint32_t first_line,
			     const struct ckpt_learned *items, size_t count)
{
	struct lesson lesson = { .name = name,
				 .manifest = manifest,
				 .first_line = first_line,
				 .items = items,
				 .count = count };

	/* A cache that cannot be told shows less than it could, until it is rebuilt. */
	if (store->index)
		ckpt_ignore(ckpt_index_write(store, tell, &lesson, NULL));
}

void ckpt_catalog_drop(int store_fd, const char *id)
{
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	/* As a rule there is none; one that stays harms nobody. */
	if (path_of(id, &path) == 0)
		ckpt_ignore(ckpt_io_unlinkat(store_fd, path.data, 0));
	ckpt_buf_release(&path);
}
