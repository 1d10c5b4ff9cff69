/* db_entries.c - reading what lies in a checkpoint. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "db_internal.h"

void ckpt_db_entry_release(struct ckpt_db_entry *entry)
{
	free(entry->name);
	free(entry->target);
	free(entry->pack);
	entry->name = NULL;
	entry->target = NULL;
	entry->pack = NULL;
}

/* The same with strings on the heap. */
static int entry_copy(const struct ckpt_db_entry *from, struct ckpt_db_entry *out)
{
	struct ckpt_db_entry copy = *from;

	copy.name = strdup(from->name);
	copy.target = from->target ? strdup(from->target) : NULL;
	copy.pack = from->pack ? strdup(from->pack) : NULL;
	if (!copy.name || (from->target && !copy.target) || (from->pack && !copy.pack)) {
		ckpt_db_entry_release(&copy);
		return -ENOMEM;
	}
	*out = copy;
	return 0;
}

/* The one row of @query, which it ends. */
static int read_one(struct db_query *query, struct ckpt_db_entry *out, struct ckpt_err *err)
{
	struct db_entry_row row;
	int rc = db_query_row(query, err);

	if (rc == 0) {
		rc = ckpt_err_set(err, -ENOENT, "index '%s' has no such entry", query->db->label);
	} else if (rc > 0) {
		rc = db_entry_row_read(query, &row, err);
		if (rc == 0 && entry_copy(&row.entry, out) < 0)
			rc = ckpt_err_sys(err, -ENOMEM, "cannot read index '%s'", query->db->label);
	}
	db_query_end(query);
	return rc;
}

int ckpt_db_entry_by_line(struct ckpt_db *db, uint64_t slot, uint32_t line,
			  struct ckpt_db_entry *out, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_read(db, DB_READ_ENTRY, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, line));
	return read_one(&query, out, err);
}

int ckpt_db_entry_by_name(struct ckpt_db *db, uint64_t slot, uint32_t parent, const char *name,
			  struct ckpt_db_entry *out, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_read(db, DB_READ_ENTRY_BY_NAME, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, parent));
	db_bind_text(&query, name);
	return read_one(&query, out, err);
}

int ckpt_db_children(struct ckpt_db *db, const struct ckpt_db_cursor *from,
		     int (*fn)(void *ctx, const struct ckpt_db_entry *entry), void *ctx,
		     struct ckpt_err *err)
{
	struct db_entry_row row;
	struct db_query query;
	int rc = db_query_read(db, DB_READ_CHILDREN, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(from->slot, from->parent));
	db_bind_u64(&query, db_key(from->slot, from->after));
	while ((rc = db_query_row(&query, err)) > 0) {
		rc = db_entry_row_read(&query, &row, err);
		if (rc == 0)
			rc = fn(ctx, &row.entry);
		if (rc != 0)
			break;
	}
	db_query_end(&query);
	return rc > 0 ? 0 : rc;
}

/* --- paths -------------------------------------------------------------------------------- */

/*
 * Put the name of the current row before what is in @buf from @pos on; the new start, 0 when it
 * does not fit.
 */
static size_t prepend(struct db_row *row, char buf[DB_PATH_BUF], size_t pos)
{
	char name[CKPT_COMPONENT_MAX + 1];
	bool leaf = pos == DB_PATH_BUF - 1;
	size_t len_bytes = db_row_text(row, name, sizeof(name)) ? strnlen(name, sizeof(name)) : 0;

	if (row->bad || len_bytes == 0 || pos < len_bytes + 1)
		return 0;
	if (!leaf)
		buf[--pos] = '/';
	pos -= len_bytes;
	memcpy(buf + pos, name, len_bytes);
	return pos;
}

/* Rows come from the entry upwards, each with the folder it lies in. */
static int collect_path(struct db_query *query, uint64_t key, char buf[DB_PATH_BUF],
			const char **out, struct ckpt_err *err)
{
	uint64_t folder = key;
	size_t pos = DB_PATH_BUF - 1;
	int rc = 0;

	buf[pos] = '\0';
	while ((rc = db_query_row(query, err)) > 0) {
		struct db_row row = { .stmt = query->stmt };

		folder = db_row_u64(&row, INT64_MAX);
		pos = prepend(&row, buf, pos);
		if (pos == 0)
			return db_row_damaged(query, "a path breaks a rule", err);
	}
	if (rc < 0)
		return rc;
	if (folder == key)
		return ckpt_err_set(err, -ENOENT, "index '%s' has no such entry", query->db->label);
	if (folder != ((key >> 32) << 32 | 1))
		return db_row_damaged(query, "a path does not lead to the top", err);
	*out = buf + pos;
	return 0;
}

int db_entry_path(struct ckpt_db *db, uint64_t key, char buf[DB_PATH_BUF], const char **out,
		  struct ckpt_err *err)
{
	struct db_query query;
	int rc = 0;

	if ((uint32_t)key == 1) {
		*out = "";
		return 0;
	}
	rc = db_query_read(db, DB_READ_PATH, &query, err);
	if (rc < 0)
		return rc;
	db_bind_u64(&query, key);
	rc = collect_path(&query, key, buf, out, err);
	db_query_end(&query);
	return rc;
}

int ckpt_db_entry_path(struct ckpt_db *db, uint64_t slot, uint32_t line, char **out,
		       struct ckpt_err *err)
{
	char buf[DB_PATH_BUF];
	const char *path = NULL;
	char *copy = NULL;
	int rc = db_entry_path(db, db_key(slot, line), buf, &path, err);

	if (rc < 0)
		return rc;
	copy = strdup(path);
	if (!copy)
		return ckpt_err_sys(err, -ENOMEM, "cannot read index '%s'", db->label);
	*out = copy;
	return 0;
}

/* --- shards ------------------------------------------------------------------------------- */

/* Shards come by bytes of their paths, so the folder rarely changes from one to the next. */
struct shard_path {
	uint32_t parent;  /* whose path the text begins with; 0: none yet */
	size_t dir_bytes; /* of that, slash included */
	char text[DB_PATH_BUF];
};

static int follow_shard(struct db_query *query, uint64_t slot, const struct ckpt_db_entry *entry,
			struct shard_path *path, struct ckpt_err *err)
{
	size_t name_bytes = strlen(entry->name);

	if (path->parent != entry->parent) {
		char buf[DB_PATH_BUF];
		const char *dir = "";
		int rc = db_entry_path(query->db, db_key(slot, entry->parent), buf, &dir, err);

		if (rc == -ENOENT)
			return db_row_damaged(query, "a shard lies in no folder", err);
		if (rc < 0)
			return rc;
		path->parent = entry->parent;
		path->dir_bytes = strlen(dir);
		memcpy(path->text, dir, path->dir_bytes);
		if (path->dir_bytes > 0)
			path->text[path->dir_bytes++] = '/';
	}
	if (path->dir_bytes + name_bytes >= sizeof(path->text))
		return db_row_damaged(query, "a path is too long", err);
	memcpy(path->text + path->dir_bytes, entry->name, name_bytes + 1);
	return 0;
}

int ckpt_db_shards(struct ckpt_db *db, uint64_t slot,
		   int (*fn)(void *ctx, const char *path, const struct ckpt_db_entry *entry),
		   void *ctx, struct ckpt_err *err)
{
	struct shard_path path = { .parent = 0 };
	struct db_entry_row row;
	struct db_query query;
	int rc = db_query_read(db, DB_READ_SHARDS, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	while ((rc = db_query_row(&query, err)) > 0) {
		rc = db_entry_row_read(&query, &row, err);
		if (rc == 0)
			rc = follow_shard(&query, slot, &row.entry, &path, err);
		if (rc == 0)
			rc = fn(ctx, path.text, &row.entry);
		if (rc != 0)
			break;
	}
	db_query_end(&query);
	return rc > 0 ? 0 : rc;
}

static uint64_t little_endian64(const unsigned char *bytes)
{
	uint64_t value = 0;

	for (unsigned i = 8; i-- > 0;)
		value = value << 8 | bytes[i];
	return value;
}

/* The current row of DB_READ_SUMS. */
static int read_sums(struct db_query *query, uint64_t **out, uint64_t *out_count,
		     struct ckpt_err *err)
{
	struct db_row row = { .stmt = query->stmt };
	uint64_t size_bytes = db_row_u64(&row, INT64_MAX);
	uint64_t block_bytes = db_row_u64(&row, INT64_MAX);
	const unsigned char *bytes = sqlite3_column_blob(query->stmt, 2);
	uint64_t stored = (uint64_t)sqlite3_column_bytes(query->stmt, 2);
	uint64_t count = 0;
	uint64_t *sums = NULL;

	if (!row.bad && block_bytes > 0)
		count = num_div_up(size_bytes, block_bytes);
	if (row.bad || block_bytes == 0 || stored % 8 != 0 || stored / 8 != count)
		return db_row_damaged(query, "block sums do not fit their shard", err);
	sums = count > 0 ? array_alloc(count, sizeof(*sums)) : NULL;
	if (count > 0 && (!sums || !bytes)) {
		free(sums);
		return ckpt_err_sys(err, -ENOMEM, "cannot read index '%s'", query->db->label);
	}
	for (uint64_t i = 0; i < count; i++)
		sums[i] = little_endian64(bytes + 8 * i);
	*out = sums;
	*out_count = count;
	return 0;
}

int ckpt_db_sums(struct ckpt_db *db, uint64_t slot, uint32_t line, uint64_t **out,
		 uint64_t *out_count, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_read(db, DB_READ_SUMS, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, line));
	rc = db_query_row(&query, err);
	if (rc > 0)
		rc = read_sums(&query, out, out_count, err);
	else if (rc == 0)
		rc = ckpt_err_set(err, -ENOENT, "index '%s' has no such shard", db->label);
	db_query_end(&query);
	return rc;
}

/* --- tensors -------------------------------------------------------------------------------- */

void ckpt_db_shard_tensor_release(struct ckpt_db_shard_tensor *out)
{
	free(out->fqn);
	free(out->dtype);
	free(out->shape);
	free(out->chunk);
	*out = (struct ckpt_db_shard_tensor){ 0 };
}

/* The current row of DB_READ_SHARD_TENSOR; all four are NOT NULL. */
static int read_shard_tensor(struct db_query *query, struct ckpt_db_shard_tensor *out,
			     struct ckpt_err *err)
{
	struct db_row row = { .stmt = query->stmt };

	out->fqn = db_row_text_dup(&row);
	out->dtype = db_row_text_dup(&row);
	out->shape = db_row_text_dup(&row);
	out->chunk = db_row_text_dup(&row);
	if (row.bad)
		return db_row_damaged(query, "a chunk's row breaks a rule", err);
	if (!out->fqn || !out->dtype || !out->shape || !out->chunk)
		return ckpt_err_sys(err, -ENOMEM, "cannot read index '%s'", query->db->label);
	return 0;
}

int ckpt_db_shard_tensor(struct ckpt_db *db, uint64_t slot, uint32_t line,
			 struct ckpt_db_shard_tensor *out, struct ckpt_err *err)
{
	struct ckpt_db_shard_tensor got = { 0 };
	struct db_query query;
	int rc = db_query_read(db, DB_READ_SHARD_TENSOR, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, line));
	rc = db_query_row(&query, err);
	if (rc > 0) {
		rc = read_shard_tensor(&query, &got, err);
		if (rc == 0)
			rc = db_query_row(&query, err) == 0; /* 1: exactly one */
	}
	db_query_end(&query);
	if (rc > 0) {
		*out = got;
		return 0;
	}
	ckpt_db_shard_tensor_release(&got);
	return rc < 0 ? rc
		      : ckpt_err_set(err, -ENOENT, "index '%s': no shard of one tensor", db->label);
}
