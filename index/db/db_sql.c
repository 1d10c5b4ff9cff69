/*
 * db_sql.c - somebody else's SELECT, on views that are meant to be read.
 *
 * It runs on a connection that is read-only and not one of the pool's: making
 * the views would look to the pool like tables that were changed. (An index in
 * memory has one connection only, which is borrowed.) An authorizer lets it
 * read these views and what lies behind them and nothing else, so that tables
 * can change without breaking anybody's query; a progress handler lets a signal
 * end it; the sizes of statement, value and memory are bounded.
 * Source: sqlite.org/c3ref/set_authorizer.html, sqlite.org/security.html.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "db_internal.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* A statement longer than this was made by a program that should send several. */
#define SQL_MAX_BYTES 1048576
/* One value; the longest there are is the metadata of a checkpoint. */
#define SQL_VALUE_MAX_BYTES 67108864
/* What sorting and grouping may take: more than that is a join without a condition. */
#define SQL_MEMORY_MAX_BYTES (INT64_C(2) * 1024 * 1024 * 1024)
/* Steps of SQLite's machine between two looks for a signal: well below a millisecond. */
#define SQL_LOOK_STEPS 20000

/* The path of the entry @e: its folders' names before its own. The limit ends what damage made a circle. */
#define PATH_OF(e)                                                                  \
	"(WITH RECURSIVE up(folder, path) AS (SELECT " e ".folder, " e ".name"      \
	" UNION ALL SELECT p.folder, p.name || '/' || up.path FROM up JOIN entry p" \
	" ON p.key = up.folder LIMIT 65)"                                           \
	" SELECT path FROM up WHERE (folder & 4294967295) = 1)"
/* A range, not a shift: it is what the primary key can be searched by. */
#define LINES_OF_C "BETWEEN (c.slot << 32) AND (c.slot << 32) + 4294967295"

/* Documented in ckptfs(1): a column may be added, none may go. */
static const char *const views[] = {
	"CREATE TEMP VIEW checkpoints AS SELECT name, id, seq, step, world_size, created, committed,"
	" round((julianday(committed) - julianday(created)) * 86400, 3) AS save_seconds,"
	" writer, meta, shard_count AS shards, tensor_count AS tensors,"
	" iif(entries_indexed, size_bytes, NULL) AS size FROM main.checkpoint",

	"CREATE TEMP VIEW shards AS SELECT c.name AS checkpoint, c.step AS step, " PATH_OF(
		"e") " AS path, e.rank AS rank, e.size_bytes AS size, printf('%04o', e.mode) AS mode,"
		     " datetime(e.mtime_ns / 1000000000, 'unixepoch') AS mtime, lower(hex(e.xxh128)) AS xxh128,"
		     " e.block_bytes AS block, e.pack AS pack FROM main.checkpoint c JOIN main.entry e"
		     " ON e.key " LINES_OF_C " WHERE e.kind = 2",

	"CREATE TEMP VIEW tensors AS SELECT c.name AS checkpoint, c.step AS step,"
	" t.tensor_set AS tensor_set, t.tensor_group AS tensor_group, t.fqn AS fqn,"
	" nullif(t.dtype, '') AS dtype, nullif(t.shape, '') AS shape,"
	" elements(nullif(t.shape, '')) AS elements FROM main.checkpoint c JOIN main.tensor t"
	" ON t.key " LINES_OF_C,

	"CREATE TEMP VIEW chunks AS SELECT c.name AS checkpoint, c.step AS step,"
	" t.tensor_set AS tensor_set, t.fqn AS fqn, " PATH_OF(
		"e") " AS shard, e.rank AS rank,"
		     " k.chunk ->> '$.start' AS start, k.chunk ->> '$.size' AS size"
		     " FROM main.checkpoint c JOIN main.chunk k ON k.shard " LINES_OF_C
		     " JOIN main.tensor t ON t.key = k.tensor JOIN main.entry e ON e.key = k.shard",
};
static const char *const view_names[] = { "checkpoints", "shards", "tensors", "chunks" };
_Static_assert(COUNT_OF(views) == COUNT_OF(view_names), "a name a view");

/* --- what may be done ------------------------------------------------------------------ */

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0)
			return true;
	}
	return false;
}

/*
 * @inner: the view that the access comes from; NULL where the statement itself asks. A view of which
 * no column is asked ("count(*)") has been taken apart by then, and its tables are asked for without
 * a column.
 */
static bool may_read(const char *table, const char *column, const char *inner)
{
	static const char *const functions[] = { "json_each", "json_tree" };

	if (inner || (column && column[0] == '\0'))
		return true;
	return table && (is_one_of(table, view_names, COUNT_OF(view_names)) ||
			 is_one_of(table, functions, COUNT_OF(functions)));
}

static int authorize(void *ctx, int action, const char *a, const char *b, const char *database,
		     const char *inner)
{
	(void)ctx;
	(void)database;
	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_READ:
		return may_read(a, b, inner) ? SQLITE_OK : SQLITE_DENY;
	case SQLITE_FUNCTION:
		return b && strcmp(b, "load_extension") != 0 ? SQLITE_OK : SQLITE_DENY;
	default:
		return SQLITE_DENY;
	}
}

/* elements('[4,1024]') is 4096; NULL where that is no shape, or more than 63 bits. */
static void elements(sqlite3_context *context, int count, sqlite3_value **values)
{
	const char *at = (const char *)sqlite3_value_text(values[0]);
	uint64_t product = 1;

	assert(count == 1);
	(void)count;
	if (!at || *at++ != '[')
		return;
	while (*at != ']') {
		char *end = NULL;
		uint64_t size;

		errno = 0;
		size = strtoull(at, &end, 10);
		if (end == at || errno != 0 || !num_mul(product, size, &product) ||
		    (*end != ',' && *end != ']'))
			return;
		at = *end == ',' ? end + 1 : end;
	}
	if (product <= INT64_MAX)
		sqlite3_result_int64(context, (sqlite3_int64)product);
}

static int prepare_views(sqlite3 *handle)
{
	int code = sqlite3_create_function_v2(handle, "elements", 1,
					      SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
					      NULL, elements, NULL, NULL, NULL);

	for (size_t i = 0; i < COUNT_OF(views) && code == SQLITE_OK; i++)
		code = sqlite3_exec(handle, views[i], NULL, NULL, NULL);
	/* They declare their columns when they are used first, which the authorizer would refuse. */
	if (code == SQLITE_OK)
		code = sqlite3_exec(handle, "SELECT 1 FROM json_each('[]'), json_tree('[]')", NULL,
				    NULL, NULL);
	return code;
}

/* --- running ----------------------------------------------------------------------------- */

struct sql_run {
	struct ckpt_db *db;
	sqlite3 *handle;
	const struct ckpt_db_sql *use;
	struct ckpt_db_cell *cells;
	const char **names;
	size_t count;
};

static int look(void *ctx)
{
	const struct sql_run *run = ctx;

	return run->use->stopped && run->use->stopped(run->use->ctx);
}

static void set_bounds(struct sql_run *run, bool on)
{
	/* The pool's own statements on an index in memory are below these, too. */
	sqlite3_limit(run->handle, SQLITE_LIMIT_SQL_LENGTH, SQL_MAX_BYTES);
	sqlite3_limit(run->handle, SQLITE_LIMIT_LENGTH, SQL_VALUE_MAX_BYTES);
	sqlite3_limit(run->handle, SQLITE_LIMIT_ATTACHED, 0);
	sqlite3_set_authorizer(run->handle, on ? authorize : NULL, NULL);
	sqlite3_progress_handler(run->handle, on ? SQL_LOOK_STEPS : 0, on ? look : NULL, run);
	sqlite3_hard_heap_limit64(on ? SQL_MEMORY_MAX_BYTES : 0);
}

/* The statement was wrong, or was ended; what is left is the index's own trouble. */
static int fail_run(struct sql_run *run, int code, struct ckpt_err *err)
{
	switch (code & 0xff) {
	case SQLITE_AUTH:
		return ckpt_err_set(
			err, -EPERM,
			"%s: only the views checkpoints, shards, tensors and chunks can be read, and nothing be changed",
			sqlite3_errmsg(run->handle));
	case SQLITE_INTERRUPT:
		return ckpt_err_set(err, -EINTR, "the query was interrupted");
	case SQLITE_NOMEM:
		return ckpt_err_set(
			err, -ENOMEM,
			"the query needs more memory than it may have; let it give fewer rows");
	case SQLITE_ERROR:
	case SQLITE_TOOBIG:
	case SQLITE_RANGE:
	case SQLITE_MISMATCH:
	case SQLITE_MISUSE:
		return ckpt_err_set(err, -EINVAL, "%s", sqlite3_errmsg(run->handle));
	default:
		return db_fail(run->db, run->handle, code, err);
	}
}

/* Is there anything but blanks, comments and semicolons? */
static bool holds_more(sqlite3 *handle, const char *text)
{
	sqlite3_stmt *stmt = NULL;
	const char *tail = text;

	while (tail && *tail) {
		text = tail;
		if (sqlite3_prepare_v2(handle, text, -1, &stmt, &tail) != SQLITE_OK || stmt) {
			sqlite3_finalize(stmt);
			return true;
		}
		if (tail == text)
			break;
	}
	return false;
}

static int compile(struct sql_run *run, const char *text, sqlite3_stmt **out, struct ckpt_err *err)
{
	const char *tail = NULL;
	int code = sqlite3_prepare_v2(run->handle, text, -1, out, &tail);

	if (code != SQLITE_OK)
		return fail_run(run, code, err);
	if (!*out)
		return ckpt_err_set(err, -EINVAL, "there is no statement; give a SELECT");
	if (holds_more(run->handle, tail))
		return ckpt_err_set(err, -EINVAL, "one statement at a time; leave out '%.60s'",
				    tail + strspn(tail, " \t\n;"));
	if (!sqlite3_stmt_readonly(*out) || sqlite3_column_count(*out) == 0)
		return ckpt_err_set(err, -EPERM, "the index is only read here; give a SELECT");
	if (sqlite3_bind_parameter_count(*out) > 0)
		return ckpt_err_set(err, -EINVAL,
				    "nothing is bound to '%s'; write the value in its place",
				    sqlite3_bind_parameter_name(*out, 1)
					    ? sqlite3_bind_parameter_name(*out, 1)
					    : "?");
	return 0;
}

static void read_cell(sqlite3_stmt *stmt, int column, struct ckpt_db_cell *out)
{
	*out = (struct ckpt_db_cell){ .kind = CKPT_DB_CELL_NULL };
	switch (sqlite3_column_type(stmt, column)) {
	case SQLITE_INTEGER:
		out->kind = CKPT_DB_CELL_INT;
		out->integer = sqlite3_column_int64(stmt, column);
		break;
	case SQLITE_FLOAT:
		out->kind = CKPT_DB_CELL_REAL;
		out->real = sqlite3_column_double(stmt, column);
		break;
	case SQLITE_TEXT:
		out->kind = CKPT_DB_CELL_TEXT;
		out->bytes = sqlite3_column_text(stmt, column);
		out->len_bytes = (size_t)sqlite3_column_bytes(stmt, column);
		break;
	case SQLITE_BLOB:
		out->kind = CKPT_DB_CELL_BLOB;
		out->bytes = sqlite3_column_blob(stmt, column);
		out->len_bytes = (size_t)sqlite3_column_bytes(stmt, column);
		break;
	default:
		break;
	}
}

static int start(struct sql_run *run, sqlite3_stmt *stmt, struct ckpt_err *err)
{
	run->count = (size_t)sqlite3_column_count(stmt);
	run->cells = array_alloc(run->count, sizeof(*run->cells));
	run->names = array_alloc(run->count, sizeof(*run->names));
	if (!run->cells || !run->names)
		return ckpt_err_set(err, -ENOMEM, "out of memory for the columns of a query");
	for (size_t i = 0; i < run->count; i++) {
		run->names[i] = sqlite3_column_name(stmt, (int)i);
		if (!run->names[i])
			return ckpt_err_set(err, -ENOMEM,
					    "out of memory for the columns of a query");
	}
	return run->use->columns(run->use->ctx, run->names, run->count, err);
}

static int step_all(struct sql_run *run, sqlite3_stmt *stmt, struct ckpt_err *err)
{
	int rc = start(run, stmt, err);
	int code = SQLITE_DONE;

	while (rc == 0 && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (size_t i = 0; i < run->count; i++)
			read_cell(stmt, (int)i, &run->cells[i]);
		rc = run->use->row(run->use->ctx, run->cells, run->count, err);
	}
	if (rc == 0 && code != SQLITE_DONE)
		rc = fail_run(run, code, err);
	return rc;
}

static int run_on(struct ckpt_db *db, sqlite3 *handle, const char *text,
		  const struct ckpt_db_sql *use, struct ckpt_err *err)
{
	struct sql_run run = { .db = db, .handle = handle, .use = use };
	sqlite3_stmt *stmt = NULL;
	int rc = 0;
	int code = prepare_views(handle);

	if (code != SQLITE_OK)
		return db_fail(db, handle, code, err);
	set_bounds(&run, true);
	rc = compile(&run, text, &stmt, err);
	if (rc == 0)
		rc = step_all(&run, stmt, err);
	sqlite3_finalize(stmt);
	set_bounds(&run, false);
	free(run.cells);
	free(run.names);
	return rc;
}

/* The one connection there is: the views go again. */
static int run_in_memory(struct ckpt_db *db, const char *text, const struct ckpt_db_sql *use,
			 struct ckpt_err *err)
{
	struct db_conn *conn = NULL;
	int rc = db_pool_borrow(db, &conn, err);

	if (rc < 0)
		return rc;
	rc = run_on(db, conn->handle, text, use, err);
	for (size_t i = 0; i < COUNT_OF(view_names); i++) {
		char *drop = sqlite3_mprintf("DROP VIEW IF EXISTS temp.%s", view_names[i]);

		/* One that stays is an error the next time, which says so. */
		if (drop)
			ckpt_ignore(sqlite3_exec(conn->handle, drop, NULL, NULL, NULL));
		sqlite3_free(drop);
	}
	db_pool_give_back(db, conn);
	return rc;
}

int ckpt_db_sql(struct ckpt_db *db, const char *text, const struct ckpt_db_sql *use,
		struct ckpt_err *err)
{
	struct db_conn conn = { .handle = NULL };
	int rc;

	if (strlen(text) >= SQL_MAX_BYTES)
		return ckpt_err_set(err, -EINVAL, "the statement is longer than %d bytes",
				    SQL_MAX_BYTES);
	if (!db->path)
		return run_in_memory(db, text, use, err);
	rc = db_conn_open_reader(db, &conn, err);
	if (rc < 0)
		return rc;
	rc = run_on(db, conn.handle, text, use, err);
	db_conn_close(&conn);
	db_put_away(db);
	return rc;
}

int ckpt_db_check(struct ckpt_db *db, struct ckpt_err *err)
{
	struct db_conn *conn = NULL;
	sqlite3_stmt *stmt = NULL;
	int rc = db_pool_borrow(db, &conn, err);
	int code;

	if (rc < 0)
		return rc;
	code = sqlite3_prepare_v2(conn->handle, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code != SQLITE_ROW) {
		rc = db_fail(db, conn->handle, code == SQLITE_DONE ? SQLITE_CORRUPT : code, err);
	} else if (strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0) {
		rc = db_fail(db, conn->handle, SQLITE_CORRUPT, NULL);
		ckpt_err_set(err, rc, "index '%s': %s", db->label, sqlite3_column_text(stmt, 0));
	}
	sqlite3_finalize(stmt);
	db_pool_give_back(db, conn);
	db_put_away(db);
	return rc;
}
