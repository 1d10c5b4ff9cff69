/*
 * db_write.c - transactions, and taking rows away. Connection 0 is this
 * thread's from begin to commit or rollback, and reads of this thread use it
 * too: it sees what it has written.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "db_internal.h"

/* A statement without parameters. */
static int run(struct ckpt_db *db, enum db_stmt_id id, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, id, &query, err);

	return rc < 0 ? rc : db_query_run(&query, err);
}

/* --- transactions -------------------------------------------------------------------------- */

static void release_writer(struct ckpt_db *db)
{
	db_unlock_writer(db);
	db_pool_give_back(db, &db->conns[0]);
}

static void roll_back(struct ckpt_db *db)
{
	/*
	 * Where SQLite has rolled back by itself there is nothing to do; a failure leaves nothing
	 * behind either.
	 */
	if (!sqlite3_get_autocommit(db->conns[0].handle))
		ckpt_ignore(run(db, DB_ROLLBACK, NULL));
}

/* Another process may have emptied it for another store while we waited. */
static int check_store(struct ckpt_db *db, struct ckpt_err *err)
{
	struct db_query query;
	bool ours = false;
	int rc = db_query_read(db, DB_READ_STORE, &query, err);

	if (rc < 0)
		return rc;
	rc = db_query_row(&query, err);
	if (rc > 0) {
		struct db_row row = { .stmt = query.stmt };
		char id[sizeof(db->store_id)];

		ours = db_row_text(&row, id, sizeof(id)) && strcmp(id, db->store_id) == 0;
	}
	db_query_end(&query);
	if (rc < 0 || ours)
		return rc < 0 ? rc : 0;
	return db_replaced(db, err);
}

int ckpt_db_begin(struct ckpt_db *db, struct ckpt_err *err)
{
	struct db_conn *conn = db_pool_claim_writer(db);
	int rc = db_lock_writer(db, DB_BUSY_MS, err);

	if (rc < 0) {
		db_pool_give_back(db, conn);
		return rc;
	}
	rc = run(db, DB_BEGIN, err);
	if (rc == 0) {
		rc = check_store(db, err);
		if (rc < 0)
			roll_back(db);
	}
	if (rc < 0)
		release_writer(db);
	return rc;
}

/*
 * Copy the log into the database, as far as no reader needs the old pages. We
 * hold the writer lock, so nobody copies or writes beside us. A failure costs
 * nothing: the log stays, and the next commit tries again.
 */
static void copy_log(struct ckpt_db *db)
{
	struct db_conn *conn = &db->conns[0];
	uint64_t grown_bytes = 0;

	if (conn->wal_pages < db->wal_mark_pages)
		db->wal_mark_pages = 0; /* it started over */
	grown_bytes = (uint64_t)(conn->wal_pages - db->wal_mark_pages) * DB_PAGE_BYTES;
	if (grown_bytes < DB_WAL_MAX_BYTES)
		return;
	sqlite3_wal_checkpoint_v2(conn->handle, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	db->wal_mark_pages = conn->wal_pages;
}

int ckpt_db_commit(struct ckpt_db *db, struct ckpt_err *err)
{
	int rc = run(db, DB_COMMIT, err);

	if (rc < 0) {
		roll_back(db);
	} else {
		db->wrote = true;
		if (db->path)
			copy_log(db);
	}
	release_writer(db);
	return rc;
}

void ckpt_db_rollback(struct ckpt_db *db)
{
	if (!db_pool_owns_writer(db))
		return;
	roll_back(db);
	release_writer(db);
}

/* --- taking away --------------------------------------------------------------------------- */

static int run_on_slot(struct ckpt_db *db, enum db_stmt_id id, uint64_t slot, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, id, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	return db_query_run(&query, err);
}

static int find_slot(struct ckpt_db *db, const char *name, uint64_t *out, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_SLOT_OF_NAME, &query, err);

	if (rc < 0)
		return rc;
	db_bind_text(&query, name);
	rc = db_query_row(&query, err);
	if (rc > 0) {
		struct db_row row = { .stmt = query.stmt };

		*out = db_row_u64(&row, CKPT_SLOT_MAX);
		rc = row.bad ? db_row_damaged(&query, "a slot is none", err) : 1;
	}
	db_query_end(&query);
	return rc;
}

int ckpt_db_delete_checkpoint(struct ckpt_db *db, const char *name, struct ckpt_err *err)
{
	uint64_t slot = 0;
	int rc = find_slot(db, name, &slot, err);

	if (rc <= 0)
		return rc;
	rc = 0;
	for (int id = DB_DELETE_CHECKPOINT; id <= DB_DELETE_CHUNKS && rc == 0; id++)
		rc = run_on_slot(db, (enum db_stmt_id)id, slot, err);
	return rc;
}

int ckpt_db_clear(struct ckpt_db *db, struct ckpt_err *err)
{
	int rc = 0;

	for (int id = DB_CLEAR_CHECKPOINTS; id <= DB_CLEAR_CHUNKS && rc == 0; id++)
		rc = run(db, (enum db_stmt_id)id, err);
	return rc;
}
