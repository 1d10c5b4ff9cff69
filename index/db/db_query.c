/* db_query.c - one use of one statement: prepare or reuse, bind, step, give back. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "db_internal.h"

/* Between two attempts where SQLite does not wait by itself. */
#define RETRY_NS 2000000L

static int prepare(struct db_conn *conn, enum db_stmt_id id, sqlite3_stmt **out)
{
	return sqlite3_prepare_v3(conn->handle, db_stmt_sql(id), -1, SQLITE_PREPARE_PERSISTENT, out,
				  NULL);
}

int db_conn_prepare_reads(struct db_conn *conn)
{
	int code = SQLITE_OK;

	for (int i = 0; i < DB_READ_COUNT && code == SQLITE_OK; i++)
		code = prepare(conn, (enum db_stmt_id)i, &conn->stmts[i]);
	return code;
}

/* The cached statement; where a callback asks what the call around it is asking, one of its own. */
static int start(struct db_query *query, struct ckpt_err *err)
{
	sqlite3_stmt **slot = &query->conn->stmts[query->id];
	int code = SQLITE_OK;

	if (*slot && !sqlite3_stmt_busy(*slot)) {
		query->stmt = *slot;
		return 0;
	}
	code = prepare(query->conn, query->id, &query->stmt);
	if (code != SQLITE_OK)
		return db_fail(query->db, query->conn->handle, code, err);
	if (!*slot)
		*slot = query->stmt;
	return 0;
}

/* No query comes of it; damage that showed is put away as db_query_end() does. */
static int give_up(struct db_query *query, int rc)
{
	db_put_away(query->db);
	if (query->borrowed && query->conn)
		db_pool_give_back(query->db, query->conn);
	return rc;
}

int db_query_read(struct ckpt_db *db, enum db_stmt_id id, struct db_query *out,
		  struct ckpt_err *err)
{
	int rc = 0;

	assert(id < DB_READ_COUNT);
	*out = (struct db_query){ .db = db, .id = id, .borrowed = true };
	rc = db_pool_borrow(db, &out->conn, err);
	if (rc == 0)
		rc = start(out, err);
	return rc < 0 ? give_up(out, rc) : 0;
}

int db_query_write(struct ckpt_db *db, enum db_stmt_id id, struct db_query *out,
		   struct ckpt_err *err)
{
	int rc = 0;

	assert(db_pool_owns_writer(db));
	*out = (struct db_query){ .db = db, .id = id, .conn = &db->conns[0] };
	/*
	 * After some failures SQLite has rolled back by itself; the next rows would go in one by
	 * one.
	 */
	if (id != DB_BEGIN && sqlite3_get_autocommit(out->conn->handle))
		return ckpt_err_set(err, -ECANCELED,
				    "index '%s': the transaction has failed before; begin it again",
				    db->label);
	rc = start(out, err);
	return rc < 0 ? give_up(out, rc) : 0;
}

void db_query_end(struct db_query *query)
{
	if (query->stmt == query->conn->stmts[query->id]) {
		sqlite3_reset(query->stmt); /* repeats the code of the last step, which is known */
		sqlite3_clear_bindings(query->stmt);
	} else {
		sqlite3_finalize(query->stmt);
	}
	db_put_away(query->db);
	if (query->borrowed)
		db_pool_give_back(query->db, query->conn);
}

/* SQLITE_BUSY comes at the first step only: nothing has been read or written yet. */
static int step_patiently(struct db_query *query)
{
	const struct timespec pause = { .tv_nsec = RETRY_NS };
	uint64_t end_ms = 0;

	for (;;) {
		int code = sqlite3_step(query->stmt);

		if (!db_is_busy(code))
			return code;
		if (end_ms == 0)
			end_ms = ckpt_clock_mono_ms() + DB_BUSY_MS;
		else if (ckpt_clock_mono_ms() >= end_ms)
			return code;
		sqlite3_reset(query->stmt);
		nanosleep(&pause, NULL); /* cut short by a signal, it only tries earlier */
	}
}

/*
 * Another process emptied the database for another store or version: readers see that as a
 * statement compiled anew.
 */
static bool tables_changed(const struct db_query *query)
{
	return query->conn != &query->db->conns[0] &&
	       sqlite3_stmt_status(query->stmt, SQLITE_STMTSTATUS_REPREPARE, 0) > 0;
}

int db_query_row(struct db_query *query, struct ckpt_err *err)
{
	int code = query->bind_code;

	if (code == SQLITE_OK)
		code = step_patiently(query);
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		return db_fail(query->db, query->conn->handle, code, err);
	if (tables_changed(query))
		return db_replaced(query->db, err);
	return code == SQLITE_ROW;
}

int db_query_run(struct db_query *query, struct ckpt_err *err)
{
	int rc = db_query_row(query, err);

	while (rc > 0)
		rc = db_query_row(query, err);
	db_query_end(query);
	return rc;
}

/* --- parameters -------------------------------------------------------------------- */

static void note(struct db_query *query, int code)
{
	if (query->bind_code == SQLITE_OK)
		query->bind_code = code;
}

void db_bind_i64(struct db_query *query, int64_t value)
{
	note(query, sqlite3_bind_int64(query->stmt, ++query->bound, value));
}

void db_bind_u64(struct db_query *query, uint64_t value)
{
	if (value > INT64_MAX)
		note(query, SQLITE_TOOBIG);
	db_bind_i64(query, (int64_t)value);
}

void db_bind_slot(struct db_query *query, uint64_t slot)
{
	db_bind_u64(query, slot <= CKPT_SLOT_MAX ? slot : 0);
}

void db_bind_opt_u64(struct db_query *query, bool has, uint64_t value)
{
	if (has)
		db_bind_u64(query, value);
	else
		note(query, sqlite3_bind_null(query->stmt, ++query->bound));
}

void db_bind_text(struct db_query *query, const char *text)
{
	sqlite3_uint64 len_bytes = text ? strlen(text) : 0;

	note(query, sqlite3_bind_text64(query->stmt, ++query->bound, text, len_bytes, SQLITE_STATIC,
					SQLITE_UTF8));
}

void db_bind_blob(struct db_query *query, const void *data, size_t len_bytes)
{
	note(query,
	     sqlite3_bind_blob64(query->stmt, ++query->bound, data, len_bytes, SQLITE_STATIC));
}

void db_bind_digest(struct db_query *query, bool has, struct ckpt_digest digest)
{
	for (unsigned i = 0; i < 8; i++) {
		query->digest[i] = (unsigned char)(digest.hi >> (56 - 8 * i));
		query->digest[8 + i] = (unsigned char)(digest.lo >> (56 - 8 * i));
	}
	db_bind_blob(query, has ? query->digest : NULL, sizeof(query->digest));
}
