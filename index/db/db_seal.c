/*
 * db_seal.c - what is only known when all entries are in: sizes and counts
 * that stat and ls answer without reading the entries. One scan in line order;
 * memory: 16 bytes a folder.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "db_internal.h"

/* A folder met so far. */
struct dir {
	uint32_t line;
	uint32_t child_dirs;
	uint64_t path_bytes;
};

struct totals {
	struct dir *dirs; /* by line; [0] is the top */
	size_t dir_count;
	size_t dir_cap;
	uint64_t size_bytes;
	uint64_t sums_text_bytes;
};

static struct dir *find_dir(const struct totals *totals, uint32_t line)
{
	size_t low = 0;
	size_t high = totals->dir_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (totals->dirs[mid].line == line)
			return &totals->dirs[mid];
		if (totals->dirs[mid].line < line)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static int add_dir(struct totals *totals, uint32_t line, uint64_t path_bytes)
{
	int rc = array_grow(&totals->dirs, &totals->dir_cap, totals->dir_count,
			    sizeof(*totals->dirs));

	if (rc < 0)
		return rc;
	totals->dirs[totals->dir_count++] = (struct dir){ .line = line, .path_bytes = path_bytes };
	return 0;
}

/* Folders have lower lines than what lies in them: ckptfs-format(5) "The manifest". */
static int add_row(struct db_query *query, struct totals *totals, struct ckpt_err *err)
{
	struct db_row row = { .stmt = query->stmt };
	uint32_t line = (uint32_t)db_row_u64(&row, INT64_MAX);
	uint32_t parent = (uint32_t)db_row_u64(&row, INT64_MAX);
	uint64_t kind = db_row_u64(&row, CKPT_ENTRY_SYMLINK);
	uint64_t size_bytes = db_row_u64(&row, INT64_MAX);
	bool has_digest = db_row_u64(&row, 1) == 1;
	uint64_t path_bytes = (uint64_t)sqlite3_column_bytes(query->stmt, row.column);
	struct dir *dir = find_dir(totals, parent);

	if (row.bad || !dir)
		return ckpt_err_set(err, -EINVAL,
				    "index '%s': line %u is put before its folder, line %u",
				    query->db->label, line, parent);
	if (dir->path_bytes > 0)
		path_bytes += dir->path_bytes + 1;
	if (kind == CKPT_ENTRY_DIR) {
		dir->child_dirs++;
		if (add_dir(totals, line, path_bytes) < 0)
			return ckpt_err_sys(err, -ENOMEM, "cannot write index '%s'",
					    query->db->label);
	}
	if (kind != CKPT_ENTRY_SHARD)
		return 0;
	if (has_digest)
		totals->sums_text_bytes += db_sums_line_bytes(path_bytes);
	if (!num_add(totals->size_bytes, size_bytes, &totals->size_bytes))
		return ckpt_err_set(err, -EOVERFLOW, "index '%s': the sizes of the shards overflow",
				    query->db->label);
	return 0;
}

static int scan(struct ckpt_db *db, uint64_t slot, struct totals *totals, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_SEAL_SCAN, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	while ((rc = db_query_row(&query, err)) > 0) {
		rc = add_row(&query, totals, err);
		if (rc < 0)
			break;
	}
	db_query_end(&query);
	return rc;
}

static int store_dir(struct ckpt_db *db, uint64_t slot, const struct dir *dir, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_SEAL_DIR, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, dir->line));
	db_bind_u64(&query, dir->child_dirs);
	return db_query_run(&query, err);
}

static int store_totals(struct ckpt_db *db, uint64_t slot, const struct totals *totals,
			struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_SEAL_CHECKPOINT, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	db_bind_u64(&query, totals->size_bytes);
	db_bind_u64(&query, totals->sums_text_bytes);
	db_bind_u64(&query, totals->dirs[0].child_dirs);
	rc = db_query_run(&query, err);
	if (rc == 0 && sqlite3_changes(db->conns[0].handle) == 0)
		rc = ckpt_err_set(err, -ENOENT, "index '%s' has no checkpoint in that slot",
				  db->label);
	return rc;
}

int ckpt_db_seal_checkpoint(struct ckpt_db *db, uint64_t slot, struct ckpt_err *err)
{
	struct totals totals = { 0 };
	int rc = add_dir(&totals, 1, 0);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot write index '%s'", db->label);
	rc = scan(db, slot, &totals, err);
	for (size_t i = 1; i < totals.dir_count && rc == 0; i++) {
		if (totals.dirs[i].child_dirs > 0)
			rc = store_dir(db, slot, &totals.dirs[i], err);
	}
	if (rc == 0)
		rc = store_totals(db, slot, &totals, err);
	free(totals.dirs);
	return rc;
}
