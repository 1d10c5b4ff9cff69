/*
 * db_row.c - rows into structs. A database is untrusted input: here, and only
 * here, a row is checked against what the tables may hold, and what leaves is
 * safe to index arrays with and to hand to the kernel as a name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "db_internal.h"

int db_row_damaged(struct db_query *query, const char *what, struct ckpt_err *err)
{
	atomic_store(&query->db->corrupt, true);
	atomic_store(&query->db->stale, true);
	return ckpt_err_set(
		err, -EUCLEAN,
		"index '%s' is damaged: %s; it is set aside and built anew when it is opened"
		" next",
		query->db->label, what);
}

/* --- columns ------------------------------------------------------------------------ */

int64_t db_row_i64(struct db_row *row)
{
	int column = row->column++;

	row->bad = row->bad || sqlite3_column_type(row->stmt, column) != SQLITE_INTEGER;
	return sqlite3_column_int64(row->stmt, column);
}

uint64_t db_row_u64(struct db_row *row, uint64_t max)
{
	int64_t value = db_row_i64(row);

	row->bad = row->bad || value < 0 || (uint64_t)value > max;
	return (uint64_t)value;
}

static bool is_null(const struct db_row *row)
{
	return sqlite3_column_type(row->stmt, row->column) == SQLITE_NULL;
}

uint64_t db_row_opt_u64(struct db_row *row, bool *out_has)
{
	*out_has = !is_null(row);
	if (*out_has)
		return db_row_u64(row, INT64_MAX);
	row->column++;
	return 0;
}

static uint64_t big_endian64(const unsigned char *bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value = value << 8 | bytes[i];
	return value;
}

bool db_row_digest(struct db_row *row, struct ckpt_digest *out)
{
	const unsigned char *bytes = sqlite3_column_blob(row->stmt, row->column);
	bool has = !is_null(row);

	*out = (struct ckpt_digest){ 0 };
	if (has && bytes && sqlite3_column_bytes(row->stmt, row->column) == 16) {
		out->hi = big_endian64(bytes);
		out->lo = big_endian64(bytes + 8);
	} else if (has) {
		row->bad = true;
	}
	row->column++;
	return has;
}

/* The text of the next column, without NUL inside; NULL where it is NULL or bad. */
static const char *next_text(struct db_row *row, size_t *out_len_bytes)
{
	int column = row->column++;
	int type = sqlite3_column_type(row->stmt, column);
	const unsigned char *text = sqlite3_column_text(row->stmt, column);
	size_t len_bytes = (size_t)sqlite3_column_bytes(row->stmt, column);

	*out_len_bytes = len_bytes;
	if (type == SQLITE_NULL)
		return NULL;
	row->no_memory = row->no_memory || (type == SQLITE_TEXT && !text);
	row->bad = row->bad || type != SQLITE_TEXT || (text && memchr(text, '\0', len_bytes));
	return row->bad ? NULL : (const char *)text;
}

bool db_row_text(struct db_row *row, char *out, size_t out_size)
{
	size_t len_bytes = 0;
	const char *text = next_text(row, &len_bytes);

	out[0] = '\0';
	if (!text)
		return false;
	if (len_bytes >= out_size) {
		row->bad = true;
		return false;
	}
	memcpy(out, text, len_bytes);
	out[len_bytes] = '\0';
	return true;
}

char *db_row_text_dup(struct db_row *row)
{
	size_t len_bytes = 0;
	const char *text = next_text(row, &len_bytes);
	char *copy = text ? strndup(text, len_bytes) : NULL;

	row->no_memory = row->no_memory || (text && !copy);
	return copy;
}

/* --- entries ------------------------------------------------------------------------ */

static bool is_component(const char *name)
{
	return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !strchr(name, '/');
}

static bool is_power_of_two(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

/* What depends on the kind. */
static bool kind_is_sound(const struct ckpt_db_entry *entry)
{
	switch (entry->kind) {
	case CKPT_ENTRY_DIR:
		return !entry->target && !entry->pack && entry->size_bytes == 0;
	case CKPT_ENTRY_SHARD:
		return !entry->target && is_power_of_two(entry->block_bytes) &&
		       (!entry->pack || ckpt_path_check_pack(entry->pack, NULL) == 0);
	case CKPT_ENTRY_SYMLINK:
		return entry->target && entry->target[0] != '\0' && !entry->pack;
	default:
		return false;
	}
}

bool db_entry_is_sound(const struct ckpt_db_entry *entry)
{
	return entry->line >= 2 && entry->parent >= 1 && entry->parent != entry->line &&
	       entry->name && is_component(entry->name) && entry->mode <= 07777 &&
	       kind_is_sound(entry);
}

/* Why a row cannot be used; 0 when it can. */
static int row_verdict(struct db_query *query, const struct db_row *row, bool sound,
		       struct ckpt_err *err)
{
	if (row->no_memory)
		return ckpt_err_set(err, -ENOMEM, "index '%s': out of memory", query->db->label);
	if (row->bad || !sound)
		return db_row_damaged(query, "a row breaks a rule", err);
	return 0;
}

/* Columns as ENTRY_COLUMNS has them. */
int db_entry_row_read(struct db_query *query, struct db_entry_row *out, struct ckpt_err *err)
{
	struct db_row row = { .stmt = query->stmt };
	struct ckpt_db_entry *entry = &out->entry;
	uint64_t key = db_row_u64(&row, INT64_MAX);
	uint64_t folder = db_row_u64(&row, INT64_MAX);

	db_row_text(&row, out->name, sizeof(out->name)); /* NULL is "", which is no name */
	entry->line = (uint32_t)key;
	entry->parent = (uint32_t)folder;
	entry->name = out->name;
	entry->kind = (enum ckpt_entry_kind)db_row_u64(&row, CKPT_ENTRY_SYMLINK);
	entry->mode = (uint32_t)db_row_u64(&row, 07777);
	entry->uid = (uint32_t)db_row_u64(&row, UINT32_MAX);
	entry->gid = (uint32_t)db_row_u64(&row, UINT32_MAX);
	entry->size_bytes = db_row_u64(&row, INT64_MAX);
	entry->mtime_ns = db_row_i64(&row);
	entry->rank = db_row_opt_u64(&row, &entry->has_rank);
	entry->has_xxh128 = db_row_digest(&row, &entry->xxh128);
	entry->block_bytes = db_row_u64(&row, INT64_MAX);
	entry->pack = db_row_text(&row, out->pack, sizeof(out->pack)) ? out->pack : NULL;
	entry->pack_offset = db_row_u64(&row, INT64_MAX);
	entry->child_dirs = (uint32_t)db_row_u64(&row, UINT32_MAX);
	entry->target = db_row_text(&row, out->target, sizeof(out->target)) ? out->target : NULL;
	return row_verdict(query, &row, key >> 32 == folder >> 32 && db_entry_is_sound(entry), err);
}

/* --- checkpoints -------------------------------------------------------------------- */

bool db_checkpoint_is_sound(const struct ckpt_db_checkpoint *row)
{
	return row->name && row->writer && row->meta &&
	       ckpt_path_check_name(row->name, NULL) == 0 && ckpt_uuid_check(row->id) == 0 &&
	       ckpt_clock_check_rfc3339(row->created) == 0 &&
	       ckpt_clock_check_rfc3339(row->committed) == 0;
}

/* Columns as CHECKPOINT_COLUMNS has them. */
int db_checkpoint_row_read(struct db_query *query, struct ckpt_db_checkpoint *out,
			   struct ckpt_err *err)
{
	struct db_row row = { .stmt = query->stmt };
	struct ckpt_db_checkpoint got = { 0 };
	int rc = 0;

	got.slot = db_row_u64(&row, CKPT_SLOT_MAX);
	got.name = db_row_text_dup(&row);
	db_row_text(&row, got.id,
		    sizeof(got.id)); /* NULL is "", which is no id; so with the stamps */
	got.seq = db_row_u64(&row, INT64_MAX);
	got.step = db_row_opt_u64(&row, &got.has_step);
	got.world_size = db_row_opt_u64(&row, &got.has_world_size);
	db_row_text(&row, got.created, sizeof(got.created));
	db_row_text(&row, got.committed, sizeof(got.committed));
	got.writer = db_row_text_dup(&row);
	got.meta = db_row_text_dup(&row);
	got.shard_count = db_row_u64(&row, INT64_MAX);
	got.tensor_count = db_row_u64(&row, INT64_MAX);
	got.size_bytes = db_row_u64(&row, INT64_MAX);
	got.sums_text_bytes = db_row_u64(&row, INT64_MAX);
	got.child_dirs = (uint32_t)db_row_u64(&row, UINT32_MAX);
	got.entries_indexed = db_row_u64(&row, 1) == 1;
	got.manifest_ino = (uint64_t)db_row_i64(&row); /* any 64 bits, kept as a signed number */
	got.manifest_size_bytes = db_row_u64(&row, INT64_MAX);
	got.manifest_mtime_ns = db_row_i64(&row);
	row.bad = !db_row_digest(&row, &got.manifest_xxh128) || row.bad;
	rc = row_verdict(query, &row, got.slot >= 1 && db_checkpoint_is_sound(&got), err);
	if (rc == 0)
		*out = got;
	else
		ckpt_db_checkpoint_release(&got);
	return rc;
}

void ckpt_db_checkpoint_release(struct ckpt_db_checkpoint *row)
{
	free(row->name);
	free(row->writer);
	free(row->meta);
	row->name = NULL;
	row->writer = NULL;
	row->meta = NULL;
}
