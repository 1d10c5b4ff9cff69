/* db_conn.c - one connection: opened, set up, closed; and what SQLite's codes mean. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "db_internal.h"

/* --- codes ------------------------------------------------------------------------- */

bool db_is_busy(int code)
{
	int primary = code & 0xff;

	return primary == SQLITE_BUSY || primary == SQLITE_LOCKED || primary == SQLITE_PROTOCOL;
}

/* Of a failed system call inside SQLite. */
static int system_errno(sqlite3 *handle)
{
	int number = handle ? sqlite3_system_errno(handle) : 0;

	return number > 0 ? -number : -EIO;
}

static int io_errno(sqlite3 *handle, int code)
{
	switch (code) {
	case SQLITE_IOERR_NOMEM:
		return -ENOMEM;
	/* The log or the database is shorter than its own header says. */
	case SQLITE_IOERR_SHORT_READ:
	case SQLITE_IOERR_CORRUPTFS:
	case SQLITE_IOERR_DATA:
		return -EUCLEAN;
	default:
		return system_errno(handle);
	}
}

int db_errno(sqlite3 *handle, int code)
{
	switch (code & 0xff) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		return -ETIMEDOUT; /* only after all waiting */
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return code == SQLITE_READONLY_DBMOVED ? -EUCLEAN : -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return system_errno(handle);
	case SQLITE_IOERR:
		return io_errno(handle, code);
	/*
	 * Our statements fit our tables: where one does not compile, the tables are not ours any
	 * more.
	 */
	case SQLITE_ERROR:
	case SQLITE_SCHEMA:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
		return -EUCLEAN;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_TOOBIG:
		return -EOVERFLOW;
	case SQLITE_NOLFS:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

/* What to do about it; "" where SQLite's own words are enough. */
static const char *remedy(int rc)
{
	switch (rc) {
	case -EUCLEAN:
		return "; it is set aside and built anew when it is opened next";
	case -ETIMEDOUT:
		return "; another process holds it, end that";
	case -ENOSPC:
	case -EDQUOT:
		return "; free some space";
	case -EOPNOTSUPP:
		return "; its file system cannot share memory, keep the index elsewhere";
	case -EROFS:
	case -EACCES:
		return "; it cannot be written there";
	default:
		return "";
	}
}

int db_fail(struct ckpt_db *db, sqlite3 *handle, int code, struct ckpt_err *err)
{
	int rc = db_errno(handle, code);

	assert(code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE);
	if (code == SQLITE_READONLY_DBMOVED)
		return db_replaced(db, err);
	if (rc == -EUCLEAN) {
		atomic_store(&db->corrupt, true);
		atomic_store(&db->stale, true);
	}
	return ckpt_err_set(err, rc, "index '%s': %s%s", db->label, sqlite3_errstr(code),
			    remedy(rc));
}

int db_replaced(struct ckpt_db *db, struct ckpt_err *err)
{
	atomic_store(&db->stale, true);
	return ckpt_err_set(err, -EUCLEAN, "index '%s' was replaced or emptied; open it anew",
			    db->label);
}

/* --- opening ------------------------------------------------------------------------ */

static int note_wal(void *arg, sqlite3 *handle, const char *schema, int pages)
{
	struct db_conn *conn = arg;

	(void)handle;
	(void)schema;
	conn->wal_pages = pages;
	return SQLITE_OK;
}

/* Settings that are the file's business come with the schema, db_schema_make. */
static int configure(struct db_conn *conn, bool writer)
{
	/*
	 * secure_delete: Debian's default, doubles the cost of deleting. temp_store: no files
	 * elsewhere.
	 */
	static const char *const pragmas =
		"PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;"
		"PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;"
		"PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY;";
	/*
	 * The writer's cache holds the growing ends of all trees; the log shrinks to this when it
	 * starts over.
	 */
	static const char *const writer_pragmas = "PRAGMA cache_size = -8192;"
						  "PRAGMA journal_size_limit = 16777216;";
	int code = sqlite3_busy_timeout(conn->handle, DB_BUSY_SLICE_MS);

	if (code == SQLITE_OK)
		code = sqlite3_db_config(conn->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_db_config(conn->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_wal_autocheckpoint(conn->handle, 0);
	if (code == SQLITE_OK)
		code = sqlite3_exec(conn->handle, pragmas, NULL, NULL, NULL);
	if (code == SQLITE_OK && writer)
		code = sqlite3_exec(conn->handle, writer_pragmas, NULL, NULL, NULL);
	if (code == SQLITE_OK && writer)
		sqlite3_wal_hook(conn->handle, note_wal, conn);
	return code;
}

int db_conn_open(struct ckpt_db *db, struct db_conn *conn, bool writer)
{
	const char *vfs = db->path ? db_vfs_name() : NULL;
	int flags = writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
	int code = SQLITE_OK;

	assert(!conn->handle);
	if (db->path && !vfs)
		return SQLITE_NOMEM;
	code = sqlite3_open_v2(db->path ? db->path : ":memory:", &conn->handle,
			       flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
	if (code == SQLITE_OK)
		code = configure(conn, writer);
	return code;
}

void db_conn_close(struct db_conn *conn)
{
	int code = SQLITE_OK;

	for (size_t i = 0; i < DB_STMT_COUNT; i++) {
		sqlite3_finalize(conn->stmts[i]);
		conn->stmts[i] = NULL;
	}
	code = sqlite3_close(conn->handle);
	assert(code == SQLITE_OK); /* else a statement is still in use */
	ckpt_ignore(code);
	conn->handle = NULL;
}

bool db_conn_moved(const struct db_conn *conn)
{
	int moved = 0;

	return conn->handle &&
	       sqlite3_file_control(conn->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
		       SQLITE_OK &&
	       moved != 0;
}

/*
 * Prepare all and read the store's id in one snapshot: from here on a change of the tables shows
 * as a re-prepared statement.
 */
static int prepare_snapshot(struct ckpt_db *db, struct db_conn *conn, bool *out_ours)
{
	int code = sqlite3_exec(conn->handle, "BEGIN", NULL, NULL, NULL);
	sqlite3_stmt *stmt = NULL;

	*out_ours = false;
	if (code == SQLITE_OK)
		code = db_conn_prepare_reads(conn);
	if (code != SQLITE_OK)
		return code;
	stmt = conn->stmts[DB_READ_STORE];
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		const unsigned char *id = sqlite3_column_text(stmt, 0);

		*out_ours = id && strcmp((const char *)id, db->store_id) == 0;
	}
	sqlite3_reset(stmt);
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		return code;
	return sqlite3_exec(conn->handle, "COMMIT", NULL, NULL, NULL);
}

int db_conn_open_reader(struct ckpt_db *db, struct db_conn *conn, struct ckpt_err *err)
{
	bool ours = false;
	int code = SQLITE_OK;
	int rc = db_lock_opening(db, false, err);

	if (rc < 0)
		return rc;
	if (!db_file_is_ours(db)) {
		rc = db_replaced(db, err);
		goto out;
	}
	code = db_conn_open(db, conn, false);
	if (code == SQLITE_OK)
		code = prepare_snapshot(db, conn, &ours);
	if (code != SQLITE_OK)
		rc = db_fail(db, conn->handle, code, err);
	else if (!ours || db_conn_moved(conn))
		rc = db_replaced(db, err);
	if (rc < 0)
		db_conn_close(conn);
out:
	db_unlock_opening(db);
	return rc;
}
