/*
 * db_open.c - from a path to an index that can be used, whatever lies there.
 *
 * A file that is as it should be is opened under the shared opening byte only,
 * so nobody waits for a writer. Everything else (missing, blank, of another
 * store or schema, broken, foreign) is put right under both locks, after a
 * second look: another process may have done it meanwhile.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "db_internal.h"

/* Look, put right, look again: more rounds mean that somebody breaks it as fast as we mend it. */
#define ROUND_MAX 4

/* --- the struct ------------------------------------------------------------------------ */

/* "/proc/self/fd/N/REST" as "DIR/REST", for messages: reads the link, does not follow it. */
static void print_label(const char *path, struct ckpt_buf *out)
{
	static const char prefix[] = "/proc/self/fd/";
	size_t head = sizeof(prefix) - 1;
	char link[64] = "";
	char dir[PATH_MAX];
	ssize_t len_bytes = -1;

	if (strncmp(path, prefix, head) == 0)
		head += strspn(path + head, "0123456789");
	if (head >= sizeof(prefix) && head < sizeof(link)) {
		memcpy(link, path, head);
		len_bytes = readlink(link, dir, sizeof(dir));
	}
	if (len_bytes > 0)
		ckpt_buf_add(out, dir, (size_t)len_bytes);
	ckpt_buf_add_str(out, len_bytes > 0 ? path + head : path);
}

/* An absolute path: SQLite takes "file:…" for a URI, and the program may change its folder. */
static int absolute_path(const char *path, struct ckpt_buf *out, struct ckpt_err *err)
{
	char cwd[PATH_MAX];

	if (path[0] != '/') {
		if (!getcwd(cwd, sizeof(cwd)))
			return ckpt_err_sys(err, -errno,
					    "cannot tell the current folder for index '%s'", path);
		ckpt_buf_printf(out, "%s/", cwd);
	}
	ckpt_buf_add_str(out, path);
	if (ckpt_buf_check(out) < 0)
		return ckpt_err_sys(err, -ENOMEM, "cannot open index '%s'", path);
	if (out->len_bytes > DB_PATH_MAX)
		return ckpt_err_set(
			err, -ENAMETOOLONG,
			"the path of index '%s' has more than %u bytes; keep it elsewhere", path,
			DB_PATH_MAX);
	return 0;
}

static int name_it(struct ckpt_db *db, const char *path, struct ckpt_err *err)
{
	struct ckpt_buf text;
	int rc = 0;

	ckpt_buf_init(&text);
	if (strcmp(path, ":memory:") != 0) {
		rc = absolute_path(path, &text, err);
		if (rc < 0) {
			ckpt_buf_release(&text);
			return rc;
		}
		db->path = ckpt_buf_steal(&text);
		print_label(db->path, &text);
	} else {
		ckpt_buf_add_str(&text, path);
	}
	db->label = ckpt_buf_steal(&text);
	return db->label ? 0 : ckpt_err_sys(err, -ENOMEM, "cannot open index '%s'", path);
}

static void release(struct ckpt_db *db)
{
	for (size_t i = db->conn_count; i-- > 0;)
		db_conn_close(&db->conns[i]);
	if (db->lock_fd >= 0)
		close(db->lock_fd);
	pthread_cond_destroy(&db->idle);
	pthread_mutex_destroy(&db->pool_mu);
	pthread_mutex_destroy(&db->opening_mu);
	free(db->conns);
	free(db->label);
	free(db->path);
	free(db);
}

static int make(const char *path, const char *store_id, uint32_t reader_max, struct ckpt_db **out,
		struct ckpt_err *err)
{
	struct ckpt_db *db = array_alloc(1, sizeof(*db));
	size_t id_size = strlen(store_id) + 1;
	int rc = 0;

	assert(id_size <= sizeof(db->store_id));
	if (!db)
		return ckpt_err_sys(err, -ENOMEM, "cannot open index '%s'", path);
	db->lock_fd = -1;
	pthread_mutex_init(&db->opening_mu, NULL);
	pthread_mutex_init(&db->pool_mu, NULL);
	pthread_cond_init(&db->idle, NULL);
	memcpy(db->store_id, store_id, id_size);
	rc = name_it(db, path, err);
	if (rc == 0) {
		size_t count = db->path ? 1 + (size_t)num_max(1, num_min(reader_max, DB_READER_MAX))
					: 1;

		db->conns = array_alloc(count, sizeof(*db->conns));
		db->conn_count = db->conns ? count : 0;
		if (!db->conns)
			rc = ckpt_err_sys(err, -ENOMEM, "cannot open index '%s'", path);
	}
	if (rc == 0)
		*out = db;
	else
		release(db);
	return rc;
}

/* --- looking ------------------------------------------------------------------------------ */

/* SQLite opened it read-only: because we may not write, or because its header says so? */
static int judge_read_only(struct ckpt_db *db, enum db_verdict *out, struct ckpt_err *err)
{
	if (sqlite3_db_readonly(db->conns[0].handle, "main") != 1)
		return 0;
	if (faccessat(AT_FDCWD, db->path, W_OK, AT_EACCESS) != 0)
		return ckpt_err_sys(err, -errno, "cannot write index '%s'", db->label);
	*out = DB_VERDICT_BROKEN;
	return 0;
}

/* What is at the path? Connection 0 stays open when it is GOOD. The opening byte is held. */
static int examine(struct ckpt_db *db, enum db_verdict *out, bool *out_fresh, struct ckpt_err *err)
{
	struct db_conn *conn = &db->conns[0];
	uint64_t size_bytes = 0;
	int code = SQLITE_OK;
	int rc = db_file_look(db, &size_bytes, err);

	*out = DB_VERDICT_ABSENT;
	if (rc < 0 || size_bytes == 0)
		return rc;
	code = db_conn_open(db, conn, true);
	if (code == SQLITE_OK)
		code = db_schema_judge(conn->handle, db->store_id, out, out_fresh);
	/*
	 * Moved away between our look and SQLite's: whatever it says is not about what is there
	 * now.
	 */
	if (db_conn_moved(conn))
		*out = DB_VERDICT_ABSENT;
	else if (code == SQLITE_OK)
		rc = judge_read_only(db, out, err);
	else if (db_errno(conn->handle, code) == -EUCLEAN)
		*out = DB_VERDICT_BROKEN;
	else
		rc = db_fail(db, conn->handle, code, err);
	if (rc == 0 && *out == DB_VERDICT_GOOD && !db_file_remember(db, conn))
		*out = DB_VERDICT_ABSENT;
	if (rc < 0 || *out != DB_VERDICT_GOOD)
		db_conn_close(conn);
	return rc;
}

/* --- putting right: both locks are held ------------------------------------------------------ */

/*
 * Empty it, or make it. *@out_broken: SQLite finds damage while doing so. *@out_gone: somebody
 * removed it meanwhile.
 */
static int fill(struct ckpt_db *db, bool *out_broken, bool *out_gone, struct ckpt_err *err)
{
	struct db_conn *conn = &db->conns[0];
	int rc = 0;
	int code = db_conn_open(db, conn, true);

	if (code == SQLITE_OK)
		code = db_schema_make(conn->handle, db->store_id);
	*out_gone = db->path &&
		    (db_conn_moved(conn) || (code == SQLITE_OK && !db_file_remember(db, conn)));
	*out_broken = code != SQLITE_OK && db_errno(conn->handle, code) == -EUCLEAN;
	if (code != SQLITE_OK && !*out_broken && !*out_gone)
		rc = db_fail(db, conn->handle, code, err);
	if (code != SQLITE_OK || *out_gone)
		db_conn_close(conn);
	return rc;
}

/* One round: 1 when connection 0 is open on a good database, 0 to look again. */
static int mend(struct ckpt_db *db, bool *out_fresh, struct ckpt_err *err)
{
	enum db_verdict verdict = DB_VERDICT_ABSENT;
	bool broken = false;
	bool gone = false;
	int rc = examine(db, &verdict, out_fresh, err);

	if (rc < 0 || verdict == DB_VERDICT_GOOD)
		return rc < 0 ? rc : 1;
	if (verdict == DB_VERDICT_BROKEN || verdict == DB_VERDICT_FOREIGN)
		return db_file_set_aside(db, verdict == DB_VERDICT_FOREIGN, err);
	if (verdict == DB_VERDICT_ABSENT)
		rc = db_file_drop_leftovers(db, err);
	if (rc == 0)
		rc = fill(db, &broken, &gone, err);
	if (rc < 0 || gone)
		return rc;
	if (broken)
		return db_file_set_aside(db, false, err);
	*out_fresh = true;
	return 1;
}

static int mend_locked(struct ckpt_db *db, bool *out_fresh, struct ckpt_err *err)
{
	int rc = db_lock_writer(db, DB_BUSY_MS, err);

	if (rc < 0)
		return rc;
	rc = db_lock_opening(db, true, err);
	if (rc == 0) {
		for (int i = 0; i < ROUND_MAX && rc == 0; i++)
			rc = mend(db, out_fresh, err);
		if (rc == 0)
			rc = ckpt_err_set(
				err, -EUCLEAN,
				"index '%s' breaks as often as it is made anew; remove it",
				db->label);
		db_unlock_opening(db);
	}
	db_unlock_writer(db);
	return rc < 0 ? rc : 0;
}

static int open_file(struct ckpt_db *db, bool *out_fresh, struct ckpt_err *err)
{
	enum db_verdict verdict = DB_VERDICT_ABSENT;
	int rc = db_lock_create(db, err);

	if (rc == 0)
		rc = db_lock_opening(db, false, err);
	if (rc < 0)
		return rc;
	rc = examine(db, &verdict, out_fresh, err);
	db_unlock_opening(db);
	if (rc < 0 || verdict == DB_VERDICT_GOOD)
		return rc;
	return mend_locked(db, out_fresh, err);
}

static int open_memory(struct ckpt_db *db, bool *out_fresh, struct ckpt_err *err)
{
	bool broken = false;
	bool gone = false;

	*out_fresh = true;
	return fill(db, &broken, &gone, err);
}

int ckpt_db_open(const char *path, const char *store_id, uint32_t reader_max, struct ckpt_db **out,
		 bool *out_fresh, struct ckpt_err *err)
{
	struct ckpt_db *db = NULL;
	bool fresh = false;
	int rc = make(path, store_id, reader_max, &db, err);

	if (!db)
		return rc;
	rc = db->path ? open_file(db, &fresh, err) : open_memory(db, &fresh, err);
	if (rc < 0) {
		release(db);
		return rc;
	}
	/* What was found broken on the way has been put right. */
	atomic_store(&db->stale, false);
	atomic_store(&db->corrupt, false);
	*out_fresh = fresh;
	*out = db;
	return 0;
}

int ckpt_db_alive(const struct ckpt_db *db)
{
	if (atomic_load(&db->stale))
		return -ESTALE;
	return !db->path || db_file_is_ours(db) ? 0 : -ESTALE;
}

/* --- closing ------------------------------------------------------------------------------ */

/*
 * A long log is copied and cut, so that the next opening need not read it; if that fails, it reads
 * it.
 */
static void settle_log(struct ckpt_db *db)
{
	struct db_conn *conn = &db->conns[0];
	uint64_t log_bytes = (uint64_t)conn->wal_pages * DB_PAGE_BYTES;

	if (!db->wrote || log_bytes <= DB_WAL_CLOSE_BYTES || atomic_load(&db->corrupt) ||
	    db_lock_writer(db, 0, NULL) < 0)
		return;
	sqlite3_busy_timeout(conn->handle, 0);
	sqlite3_wal_checkpoint_v2(conn->handle, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	db_unlock_writer(db);
}

/*
 * Damage that showed in use: out of the way at once, so that the next opening
 * begins anew. Connections that are open stay on the renamed file. The opening
 * byte is enough: who writes in that file does not mind its name. If it fails,
 * the damage will show again.
 */
void db_put_away(struct ckpt_db *db)
{
	if (!db->path || !atomic_load(&db->corrupt) || atomic_exchange(&db->put_away, true))
		return;
	if (db_lock_opening(db, true, NULL) < 0)
		return;
	if (db_file_is_ours(db))
		ckpt_ignore(db_file_set_aside(db, false, NULL)); /* see above */
	db_unlock_opening(db);
}

void ckpt_db_free(struct ckpt_db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->conn_count; i++)
		assert(db->conns[i].depth == 0);
	db_put_away(db);
	settle_log(db);
	release(db);
}
