/*
 * db_schema.c - the tables, the statements, and what a database file is.
 *
 * Everything inside a checkpoint is keyed by its inode, slot·2^32 + line, as an
 * INTEGER PRIMARY KEY: one B-tree step finds a line, deleting a checkpoint is
 * one range, and the index on `folder` lists a folder in line order because
 * SQLite puts the rowid behind it. Measured with 1,000,000 entries against
 * WITHOUT ROWID tables keyed by (slot, line) and by (slot, parent, line): 1.3
 * times the insert rate, twice the children a second, 1.2 times the look-ups by
 * line; only the latter one lists folders as fast, and is a third slower by line.
 * Block sums are in a table of their own, so that rows of entries stay small.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "db_internal.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* As sqlite_schema.sql keeps them, byte for byte and in this order: db_schema_judge compares. */
static const char *const schema[] = {
	"CREATE TABLE store(id TEXT NOT NULL) STRICT",

	"CREATE TABLE checkpoint(slot INTEGER PRIMARY KEY, name TEXT NOT NULL, id TEXT NOT NULL,"
	" seq INTEGER NOT NULL, step INTEGER, world_size INTEGER, created TEXT NOT NULL,"
	" committed TEXT NOT NULL, writer TEXT NOT NULL, meta TEXT NOT NULL,"
	" shard_count INTEGER NOT NULL, tensor_count INTEGER NOT NULL,"
	" size_bytes INTEGER NOT NULL, sums_text_bytes INTEGER NOT NULL,"
	" child_dirs INTEGER NOT NULL, entries_indexed INTEGER NOT NULL, manifest_ino INTEGER NOT NULL,"
	" manifest_size_bytes INTEGER NOT NULL, manifest_mtime_ns INTEGER NOT NULL,"
	" manifest_xxh128 BLOB NOT NULL) STRICT",
	"CREATE UNIQUE INDEX checkpoint_name ON checkpoint(name)",
	"CREATE INDEX checkpoint_seq ON checkpoint(seq)",

	/* folder: slot·2^32 + parent */
	"CREATE TABLE entry(key INTEGER PRIMARY KEY, folder INTEGER NOT NULL, name TEXT NOT NULL,"
	" kind INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,"
	" size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, rank INTEGER, xxh128 BLOB,"
	" block_bytes INTEGER NOT NULL, pack TEXT, pack_offset INTEGER NOT NULL,"
	" child_dirs INTEGER NOT NULL, target TEXT) STRICT",
	"CREATE UNIQUE INDEX entry_name ON entry(folder, name)",
	"CREATE INDEX entry_folder ON entry(folder)",

	/* XXH3-64 of each block, little-endian */
	"CREATE TABLE sums(key INTEGER PRIMARY KEY, xxh3 BLOB NOT NULL) STRICT",

	"CREATE TABLE tensor(key INTEGER PRIMARY KEY, tensor_set TEXT NOT NULL, tensor_group TEXT,"
	" fqn TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL) STRICT",
	"CREATE TABLE chunk(shard INTEGER NOT NULL, tensor INTEGER NOT NULL, chunk TEXT NOT NULL,"
	" PRIMARY KEY(shard, tensor, chunk)) STRICT, WITHOUT ROWID",
};

#define CHECKPOINT_COLUMNS                                                                      \
	"slot, name, id, seq, step, world_size, created, committed, writer, meta, shard_count," \
	" tensor_count, size_bytes, sums_text_bytes, child_dirs, entries_indexed,"              \
	" manifest_ino, manifest_size_bytes, manifest_mtime_ns, manifest_xxh128"
#define ENTRY_COLUMNS                                                                  \
	"key, folder, name, kind, mode, uid, gid, size_bytes, mtime_ns, rank, xxh128," \
	" block_bytes, pack, pack_offset, child_dirs, target"
/* All keys of a slot: its last line is 2^32 - 1 at most. */
#define SLOT_KEYS "BETWEEN (?1 << 32) AND (?1 << 32) + 4294967295"

static const char *const statements[DB_STMT_COUNT] = {
	[DB_READ_STORE] = "SELECT id FROM store",
	[DB_READ_CHECKPOINT_BY_NAME] = "SELECT " CHECKPOINT_COLUMNS
				       " FROM checkpoint WHERE name = ?1",
	[DB_READ_CHECKPOINT_BY_SLOT] = "SELECT " CHECKPOINT_COLUMNS
				       " FROM checkpoint WHERE slot = ?1",
	[DB_READ_CHECKPOINTS] = "SELECT " CHECKPOINT_COLUMNS
				" FROM checkpoint WHERE name >= ?1 AND name < ?2 ORDER BY name",
	[DB_READ_ENTRY] = "SELECT " ENTRY_COLUMNS " FROM entry WHERE key = ?1",
	[DB_READ_ENTRY_BY_NAME] = "SELECT " ENTRY_COLUMNS
				  " FROM entry WHERE folder = ?1 AND name = ?2",
	[DB_READ_CHILDREN] =
		"SELECT " ENTRY_COLUMNS
		" FROM entry INDEXED BY entry_folder WHERE folder = ?1 AND key > ?2 ORDER BY key",
	[DB_READ_SHARDS] = "SELECT " ENTRY_COLUMNS " FROM entry WHERE key " SLOT_KEYS
			   " AND kind = 2 ORDER BY key",
	/* From the entry up to the top; the depth ends what damage made a circle. */
	[DB_READ_PATH] =
		"WITH RECURSIVE up(folder, name, depth) AS ("
		"SELECT folder, name, 1 FROM entry WHERE key = ?1 UNION ALL "
		"SELECT e.folder, e.name, up.depth + 1 FROM up JOIN entry e ON e.key = up.folder"
		" WHERE up.depth < 64) SELECT folder, name FROM up",
	[DB_READ_SUMS] = "SELECT e.size_bytes, e.block_bytes, s.xxh3 FROM entry e LEFT JOIN sums s"
			 " ON s.key = e.key WHERE e.key = ?1 AND e.kind = 2",
	[DB_READ_SHARD_TENSOR] =
		"SELECT t.fqn, t.dtype, t.shape, c.chunk FROM chunk c JOIN tensor t"
		" ON t.key = c.tensor WHERE c.shard = ?1 LIMIT 2",
	[DB_BEGIN] = "BEGIN IMMEDIATE",
	[DB_COMMIT] = "COMMIT",
	[DB_ROLLBACK] = "ROLLBACK",
	[DB_SLOT_OF_NAME] = "SELECT slot FROM checkpoint WHERE name = ?1",
	[DB_SLOT_TAKEN] = "SELECT 1 FROM checkpoint WHERE slot = ?1",
	[DB_PUT_CHECKPOINT] = "INSERT INTO checkpoint(" CHECKPOINT_COLUMNS
			      ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,0,0,0,0,?,?,?,?)",
	[DB_PUT_ENTRY] = "INSERT INTO entry(" ENTRY_COLUMNS
			 ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
	[DB_PUT_SUMS] = "INSERT INTO sums(key, xxh3) VALUES(?, ?)",
	[DB_PUT_TENSOR] = "INSERT INTO tensor(key, tensor_set, tensor_group, fqn, dtype, shape)"
			  " VALUES(?, ?, ?, ?, ?, ?)",
	[DB_PUT_CHUNK] = "INSERT INTO chunk(shard, tensor, chunk) VALUES(?, ?, ?)",
	[DB_SEAL_SCAN] = "SELECT key, folder, kind, size_bytes, xxh128 IS NOT NULL, name"
			 " FROM entry WHERE key " SLOT_KEYS " ORDER BY key",
	[DB_SEAL_DIR] = "UPDATE entry SET child_dirs = ?2 WHERE key = ?1",
	[DB_SEAL_CHECKPOINT] = "UPDATE checkpoint SET size_bytes = ?2, sums_text_bytes = ?3,"
			       " child_dirs = ?4, entries_indexed = 1 WHERE slot = ?1",
	[DB_SET_XXH128] = "UPDATE entry SET xxh128 = ?2 WHERE key = ?1",
	[DB_GROW_SUMS_TEXT] = "UPDATE checkpoint SET sums_text_bytes = sums_text_bytes + ?2"
			      " WHERE slot = ?1 AND entries_indexed",
	[DB_MOVE_CHECKPOINT] = "UPDATE checkpoint SET name = ?2, manifest_ino = ?3,"
			       " manifest_size_bytes = ?4, manifest_mtime_ns = ?5 WHERE slot = ?1",
	[DB_DELETE_CHECKPOINT] = "DELETE FROM checkpoint WHERE slot = ?1",
	[DB_DELETE_ENTRIES] = "DELETE FROM entry WHERE key " SLOT_KEYS,
	[DB_DELETE_SUMS] = "DELETE FROM sums WHERE key " SLOT_KEYS,
	[DB_DELETE_TENSORS] = "DELETE FROM tensor WHERE key " SLOT_KEYS,
	[DB_DELETE_CHUNKS] = "DELETE FROM chunk WHERE shard " SLOT_KEYS,
	/* Without WHERE, SQLite drops the pages instead of the rows. */
	[DB_CLEAR_CHECKPOINTS] = "DELETE FROM checkpoint",
	[DB_CLEAR_ENTRIES] = "DELETE FROM entry",
	[DB_CLEAR_SUMS] = "DELETE FROM sums",
	[DB_CLEAR_TENSORS] = "DELETE FROM tensor",
	[DB_CLEAR_CHUNKS] = "DELETE FROM chunk",
};

const char *db_stmt_sql(enum db_stmt_id id)
{
	assert(id >= 0 && id < DB_STMT_COUNT);
	return statements[id];
}

/* --- judging --------------------------------------------------------------------- */

/* First column of the first row as an integer; 0 where there is no row. */
static int read_int(sqlite3 *handle, const char *sql, int64_t *out)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(handle, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	*out = code == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	if (code == SQLITE_ROW || code == SQLITE_DONE)
		code = SQLITE_OK;
	sqlite3_finalize(stmt);
	return code;
}

/* Walk the first column of @sql beside @expected; *@out: as many rows, all equal. */
static int texts_equal(sqlite3 *handle, const char *sql, const char *const *expected, size_t count,
		       bool *out)
{
	sqlite3_stmt *stmt = NULL;
	size_t idx = 0;
	bool equal = true;
	int code = sqlite3_prepare_v2(handle, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	while (code == SQLITE_ROW) {
		const unsigned char *text = sqlite3_column_text(stmt, 0);

		equal = equal && idx < count && text &&
			strcmp((const char *)text, expected[idx]) == 0;
		idx++;
		code = sqlite3_step(stmt);
	}
	sqlite3_finalize(stmt);
	*out = equal && idx == count;
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The marks that tell whose database it is. */
struct marks {
	int64_t application_id;
	int64_t version;
	int64_t object_count;
};

static int read_marks(sqlite3 *handle, struct marks *out)
{
	int code = read_int(handle, "SELECT count(*) FROM sqlite_schema", &out->object_count);

	if (code == SQLITE_OK)
		code = read_int(handle, "PRAGMA application_id", &out->application_id);
	if (code == SQLITE_OK)
		code = read_int(handle, "PRAGMA user_version", &out->version);
	return code;
}

/* Of this schema, this store, and in WAL mode? */
static int is_ours(sqlite3 *handle, const char *store_id, bool *out)
{
	static const char *const wal = "wal";
	int code = texts_equal(handle,
			       "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND"
			       " substr(name, 1, 7) <> 'sqlite_' ORDER BY rowid",
			       schema, COUNT_OF(schema), out);

	if (code == SQLITE_OK && *out)
		code = texts_equal(handle, db_stmt_sql(DB_READ_STORE), &store_id, 1, out);
	if (code == SQLITE_OK && *out)
		code = texts_equal(handle, "PRAGMA journal_mode", &wal, 1, out);
	return code;
}

int db_schema_judge(sqlite3 *handle, const char *store_id, enum db_verdict *out, bool *out_fresh)
{
	struct marks marks = { 0 };
	int64_t filled = 0;
	bool ours = false;
	int code = read_marks(handle, &marks);

	*out = DB_VERDICT_RESET;
	*out_fresh = false;
	if (code != SQLITE_OK || marks.object_count == 0)
		return code;
	if (marks.application_id != CKPT_DB_APPLICATION_ID) {
		*out = DB_VERDICT_FOREIGN;
		return SQLITE_OK;
	}
	if (marks.version != CKPT_DB_SCHEMA_VERSION)
		return SQLITE_OK;
	code = is_ours(handle, store_id, &ours);
	if (code != SQLITE_OK || !ours)
		return code;
	code = read_int(handle, "SELECT EXISTS(SELECT 1 FROM checkpoint)", &filled);
	*out = DB_VERDICT_GOOD;
	*out_fresh = filled == 0;
	return code;
}

/* --- making ---------------------------------------------------------------------- */

static int run(sqlite3 *handle, const char *sql)
{
	return sqlite3_exec(handle, sql, NULL, NULL, NULL);
}

/* Run one statement built by sqlite3_mprintf, and free its text. */
static int run_owned(sqlite3 *handle, char *sql)
{
	int code = sql ? run(handle, sql) : SQLITE_NOMEM;

	sqlite3_free(sql);
	return code;
}

/* DROP for one table or view that is there; "" where there is none left. */
static int next_drop(sqlite3 *handle, char **out)
{
	sqlite3_stmt *stmt = NULL;
	int code =
		sqlite3_prepare_v2(handle,
				   "SELECT upper(type), name FROM sqlite_schema WHERE type IN"
				   " ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' LIMIT 1",
				   -1, &stmt, NULL);

	*out = NULL;
	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		*out = sqlite3_mprintf("DROP %s \"%w\"", sqlite3_column_text(stmt, 0),
				       sqlite3_column_text(stmt, 1));
		code = *out ? SQLITE_OK : SQLITE_NOMEM;
	} else if (code == SQLITE_DONE) {
		code = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	return code;
}

static int drop_all(sqlite3 *handle)
{
	char *drop = NULL;
	int code = next_drop(handle, &drop);

	while (code == SQLITE_OK && drop) {
		code = run_owned(handle, drop);
		if (code == SQLITE_OK)
			code = next_drop(handle, &drop);
	}
	return code;
}

static int create_all(sqlite3 *handle, const char *store_id)
{
	int code = SQLITE_OK;

	for (size_t i = 0; i < COUNT_OF(schema) && code == SQLITE_OK; i++)
		code = run(handle, schema[i]);
	if (code == SQLITE_OK)
		code = run_owned(
			handle,
			sqlite3_mprintf("INSERT INTO store(id) VALUES(%Q);"
					"PRAGMA application_id = %d; PRAGMA user_version = %d",
					store_id, CKPT_DB_APPLICATION_ID, CKPT_DB_SCHEMA_VERSION));
	return code;
}

int db_schema_make(sqlite3 *handle, const char *store_id)
{
	static const char *const wal = "wal";
	bool is_wal = false;
	/* Not inside the transaction: SQLite would ignore it there. */
	int code = texts_equal(handle, "PRAGMA journal_mode = WAL", &wal, 1, &is_wal);

	if (code == SQLITE_OK && !is_wal && sqlite3_db_filename(handle, "main")[0] != '\0')
		return SQLITE_NOLFS; /* no shared memory on that file system */
	if (code == SQLITE_OK)
		code = run(handle, "BEGIN IMMEDIATE");
	if (code != SQLITE_OK)
		return code;
	code = drop_all(handle);
	if (code == SQLITE_OK)
		code = create_all(handle, store_id);
	if (code == SQLITE_OK)
		code = run(handle, "COMMIT");
	if (code != SQLITE_OK && !sqlite3_get_autocommit(handle))
		ckpt_ignore(run(handle, "ROLLBACK")); /* the first failure is the one to report */
	return code;
}
