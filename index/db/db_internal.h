/*
 * db_internal.h - what the files of index/db share among themselves.
 * May be included only by index/db/<anything>.c.
 *
 * Who holds what: a connection is used by the one thread that borrowed it; the
 * pool's mutex is held only to borrow and to give back. Connection 0 writes, so
 * borrowing it is the lock between writing threads, and byte DB_LOCK_WRITER of
 * the lock file the one between processes. Order: connection 0, writer byte,
 * opening mutex, opening byte.
 */
#ifndef CKPT_DB_DB_INTERNAL_H
#define CKPT_DB_DB_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/path.h"
#include "db/db.h"

/* How long anything waits for another process; the index of a million shards takes 5 s. */
#define DB_BUSY_MS 120000U
/* What one call of SQLite waits of that. */
#define DB_BUSY_SLICE_MS 5000
/* The log (-wal) is copied into the database when it grew by this much since the last time, … */
#define DB_WAL_MAX_BYTES (UINT64_C(16) * 1024 * 1024)
/*
 * … and when the database is closed, if it is longer than this: the next opening reads all of it.
 */
#define DB_WAL_CLOSE_BYTES (UINT64_C(1024) * 1024)
/* SQLite's default, which is not changed. */
#define DB_PAGE_BYTES UINT64_C(4096)
/* Read connections are descriptors and caches; more than this serve no machine. */
#define DB_READER_MAX 256U

/* --- db_schema.c: tables and statements ---------------------------------------- */

enum db_stmt_id {
	/* Reading; a reader prepares all of them when it is opened. */
	DB_READ_STORE,
	DB_READ_CHECKPOINT_BY_NAME,
	DB_READ_CHECKPOINT_BY_SLOT,
	DB_READ_CHECKPOINTS,
	DB_READ_ENTRY,
	DB_READ_ENTRY_BY_NAME,
	DB_READ_CHILDREN,
	DB_READ_SHARDS,
	DB_READ_PATH,
	DB_READ_SUMS,
	DB_READ_SHARD_TENSOR,
	DB_READ_COUNT,
	/* Writing; connection 0 only. */
	DB_BEGIN = DB_READ_COUNT,
	DB_COMMIT,
	DB_ROLLBACK,
	DB_SLOT_OF_NAME,
	DB_SLOT_TAKEN,
	DB_PUT_CHECKPOINT,
	DB_PUT_ENTRY,
	DB_PUT_SUMS,
	DB_PUT_TENSOR,
	DB_PUT_CHUNK,
	DB_SEAL_SCAN,
	DB_SEAL_DIR,
	DB_SEAL_CHECKPOINT,
	DB_SET_XXH128,
	DB_GROW_SUMS_TEXT,
	DB_MOVE_CHECKPOINT,
	DB_DELETE_CHECKPOINT,
	DB_DELETE_ENTRIES,
	DB_DELETE_SUMS,
	DB_DELETE_TENSORS,
	DB_DELETE_CHUNKS,
	DB_CLEAR_CHECKPOINTS,
	DB_CLEAR_ENTRIES,
	DB_CLEAR_SUMS,
	DB_CLEAR_TENSORS,
	DB_CLEAR_CHUNKS,
	DB_STMT_COUNT,
};

/** db_stmt_sql - text of a statement; static. */
const char *db_stmt_sql(enum db_stmt_id id);

/* What a database file turned out to be. */
enum db_verdict {
	DB_VERDICT_GOOD,    /* ours, of this store and schema */
	DB_VERDICT_ABSENT,  /* no file, or an empty one */
	DB_VERDICT_RESET,   /* ours to empty: blank, of another store or of another schema */
	DB_VERDICT_BROKEN,  /* SQLite cannot read it */
	DB_VERDICT_FOREIGN, /* somebody else's database */
};

/**
 * db_schema_judge - look at an open database; *@out_fresh: it is GOOD and holds no checkpoint.
 * Returns an SQLite code.
 */
int db_schema_judge(sqlite3 *handle, const char *store_id, enum db_verdict *out, bool *out_fresh)
	CKPT_MUST_CHECK;
/**
 * db_schema_make - drop all that is there and make the tables, in one transaction. Returns an
 * SQLite code.
 */
int db_schema_make(sqlite3 *handle, const char *store_id) CKPT_MUST_CHECK;

/* --- connections ----------------------------------------------------------------- */

struct db_conn {
	sqlite3 *handle; /* NULL: not opened yet */
	sqlite3_stmt *stmts[DB_STMT_COUNT];
	pthread_t owner; /* protected by ckpt_db.pool_mu */
	unsigned depth;	 /* borrowings by `owner`, 0: idle; protected by ckpt_db.pool_mu */
	int wal_pages;	 /* writer: length of the log after the last commit */
};

struct ckpt_db {
	char *path;  /* absolute; NULL: in memory */
	char *label; /* the same as people know it; "in memory" */
	char store_id[37];
	dev_t dev; /* of the file that was opened */
	ino_t ino;
	bool wrote;	    /* something was committed; writer only */
	int wal_mark_pages; /* length of the log when it was last copied; writer only */
	atomic_bool stale; /* another database is behind the path, or the tables are no longer ours */
	atomic_bool corrupt;  /* SQLite found damage, or a row broke a rule */
	atomic_bool put_away; /* … and was set aside, or that was tried */
	int lock_fd;	      /* -1: in memory; replaced by the writer under opening_mu */
	pthread_mutex_t
		opening_mu; /* held with the opening byte: the byte belongs to the descriptor, not to a thread */
	pthread_mutex_t pool_mu;
	pthread_cond_t idle; /* some connection became idle */
	size_t conn_count;
	struct db_conn *conns; /* [0] writes (in memory it also reads), the others read */
};

/** db_put_away - set the file aside if damage showed; once. The caller holds no opening byte. */
void db_put_away(struct ckpt_db *db);
/** db_replaced - this handle reads what is no longer the index: note it, -EUCLEAN. */
int db_replaced(struct ckpt_db *db, struct ckpt_err *err);

/**
 * db_vfs_name - register our VFS at the first call; NULL when SQLite cannot. Longest path:
 * DB_PATH_MAX.
 */
const char *db_vfs_name(void);
/* SQLite's own limit for a name with "-journal" behind it (os_unix.c MAX_PATHNAME). */
#define DB_PATH_MAX 500U

/** db_errno - the one mapping from SQLite's codes to ours. */
int db_errno(sqlite3 *handle, int code);
/** db_fail - map @code of @conn, note damage, and say what failed. Returns the negative errno. */
int db_fail(struct ckpt_db *db, sqlite3 *handle, int code, struct ckpt_err *err);
/**
 * db_is_busy - SQLITE_BUSY, SQLITE_LOCKED or SQLITE_PROTOCOL, whatever the extension: worth
 * another try.
 */
bool db_is_busy(int code);

/**
 * db_conn_open - open one connection. @writer: read-write, created if missing, else read-only.
 * Returns an SQLite code; on failure *@conn is closed.
 */
int db_conn_open(struct ckpt_db *db, struct db_conn *conn, bool writer) CKPT_MUST_CHECK;
void db_conn_close(struct db_conn *conn);
/**
 * db_conn_open_reader - open a reader of the pool and make sure that it reads what the others
 * read.
 */
int db_conn_open_reader(struct ckpt_db *db, struct db_conn *conn, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** db_conn_moved - the file behind the connection is not the one at the path. */
bool db_conn_moved(const struct db_conn *conn);

/**
 * db_pool_borrow - an open connection for reading: the one this thread has already, else an idle
 * one; waits for it.
 */
int db_pool_borrow(struct ckpt_db *db, struct db_conn **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void db_pool_give_back(struct ckpt_db *db, struct db_conn *conn);
/** db_pool_claim_writer - connection 0 for this thread; waits for it. */
struct db_conn *db_pool_claim_writer(struct ckpt_db *db);
/** db_pool_owns_writer - this thread is between begin and commit. */
bool db_pool_owns_writer(struct ckpt_db *db);

/* --- db_lock.c: the lock file ------------------------------------------------------ */

/** db_lock_create - open (make) the lock file beside the database. -EROFS, -EACCES. */
int db_lock_create(struct ckpt_db *db, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * db_lock_writer - keep other processes from writing; @wait_ms 0: only if nobody has it.
 * -ETIMEDOUT.
 */
int db_lock_writer(struct ckpt_db *db, unsigned wait_ms, struct ckpt_err *err) CKPT_MUST_CHECK;
void db_unlock_writer(struct ckpt_db *db);
/**
 * db_lock_opening - shared: no database is put in the place of this one while it is opened;
 * exclusive: nobody opens it meanwhile.
 */
int db_lock_opening(struct ckpt_db *db, bool exclusive, struct ckpt_err *err) CKPT_MUST_CHECK;
void db_unlock_opening(struct ckpt_db *db);

/* --- db_file.c: the database as a file, never opened here ----------------------------- */

/**
 * db_file_look - is there a database? *@out_size 0 when not. Refuses what is no regular file:
 * -ELOOP, -EINVAL.
 */
int db_file_look(struct ckpt_db *db, uint64_t *out_size_bytes, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** db_file_remember - note which file is at the path; false when @conn has another one open. */
bool db_file_remember(struct ckpt_db *db, const struct db_conn *conn);
/** db_file_is_ours - the file at the path is the one that was remembered. */
bool db_file_is_ours(const struct ckpt_db *db);
/**
 * db_file_drop_leftovers - remove -wal, -shm and -journal of a database that is gone: SQLite would
 * replay them into the next one.
 */
int db_file_drop_leftovers(struct ckpt_db *db, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * db_file_set_aside - rename the database and what belongs to it. @keep: never drop it, however
 * many were set aside. Both locks are held.
 */
int db_file_set_aside(struct ckpt_db *db, bool keep, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- db_query.c: one use of one statement ------------------------------------------- */

struct db_query {
	struct ckpt_db *db;
	struct db_conn *conn;
	sqlite3_stmt *stmt;
	enum db_stmt_id id;
	bool borrowed; /* the connection is given back at the end */
	int bound;     /* parameters bound so far */
	int bind_code; /* first failure of a bind */
	unsigned char digest[16];
};

/**
 * db_query_read / db_query_write - start; on success db_query_end() it. Write: between begin and
 * commit only.
 */
int db_query_read(struct ckpt_db *db, enum db_stmt_id id, struct db_query *out,
		  struct ckpt_err *err) CKPT_MUST_CHECK;
int db_query_write(struct ckpt_db *db, enum db_stmt_id id, struct db_query *out,
		   struct ckpt_err *err) CKPT_MUST_CHECK;
void db_query_end(struct db_query *query);
/** db_query_row - 1: a row; 0: no further one; else negative errno. */
int db_query_row(struct db_query *query, struct ckpt_err *err) CKPT_MUST_CHECK;
/** db_query_run - to its end, rows ignored, then db_query_end(). */
int db_query_run(struct db_query *query, struct ckpt_err *err) CKPT_MUST_CHECK;
/** db_conn_prepare_reads - all reading statements. Returns an SQLite code. */
int db_conn_prepare_reads(struct db_conn *conn) CKPT_MUST_CHECK;

/*
 * Bind the next parameter; a failure shows at db_query_row. Text and blobs are borrowed until
 * db_query_end.
 */
void db_bind_i64(struct db_query *query, int64_t value);
void db_bind_u64(struct db_query *query, uint64_t value);
void db_bind_slot(struct db_query *query,
		  uint64_t slot); /* one beyond CKPT_SLOT_MAX finds nothing */
void db_bind_opt_u64(struct db_query *query, bool has, uint64_t value);
void db_bind_text(struct db_query *query, const char *text); /* NULL is NULL */
void db_bind_blob(struct db_query *query, const void *data, size_t len_bytes);
void db_bind_digest(struct db_query *query, bool has, struct ckpt_digest digest); /* one a query */

/* --- db_row.c: a row, checked -------------------------------------------------------- */

/* Reads columns one after the other. */
struct db_row {
	sqlite3_stmt *stmt;
	int column;
	bool bad; /* some column was not what it should be */
	bool no_memory;
};

uint64_t db_row_u64(struct db_row *row, uint64_t max);
int64_t db_row_i64(struct db_row *row);
uint64_t db_row_opt_u64(struct db_row *row, bool *out_has);
bool db_row_digest(struct db_row *row, struct ckpt_digest *out); /* false: NULL */
/* Into @out of @out_size bytes, NUL-terminated; false: NULL, and @out is "". */
bool db_row_text(struct db_row *row, char *out, size_t out_size);
/* As a heap copy; NULL where the column is NULL, bad, or memory is out. */
char *db_row_text_dup(struct db_row *row);

/* An entry with room for its strings. */
struct db_entry_row {
	struct ckpt_db_entry entry; /* its pointers lead to the members below */
	char name[CKPT_COMPONENT_MAX + 1];
	char target[4096];		    /* PATH_MAX: what symlink(2) takes */
	char pack[CKPT_COMPONENT_MAX + 16]; /* ".ckptfs/pack-…" */
};

/** db_entry_row_read - the current row of a DB_READ_… of entries. -EUCLEAN it breaks a rule. */
int db_entry_row_read(struct db_query *query, struct db_entry_row *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * db_checkpoint_row_read - the current row of a DB_READ_CHECKPOINT…; strings are heap. -EUCLEAN.
 */
int db_checkpoint_row_read(struct db_query *query, struct ckpt_db_checkpoint *out,
			   struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * db_entry_is_sound, db_checkpoint_is_sound - what is put keeps the rules by which rows are read
 * (the slot is not looked at).
 */
bool db_entry_is_sound(const struct ckpt_db_entry *entry);
bool db_checkpoint_is_sound(const struct ckpt_db_checkpoint *row);
/** db_row_damaged - a row that breaks a rule: notes the damage, -EUCLEAN. */
int db_row_damaged(struct db_query *query, const char *what, struct ckpt_err *err);

/* --- entries ------------------------------------------------------------------------- */

/* The key of an entry is its inode: slot·2^32 + line. What is asked for may be any number. */
static inline uint64_t db_key(uint64_t slot, uint32_t line)
{
	return slot <= CKPT_SLOT_MAX ? slot << 32 | line : 0; /* 0 is no entry's key */
}

/* Room for the path of an entry, NUL included. */
#define DB_PATH_BUF (CKPT_ENTRY_PATH_MAX + 1)

/**
 * db_entry_path - the path of @key ("" for the top) written at the end of @buf; *@out points into
 * it. -ENOENT.
 */
int db_entry_path(struct ckpt_db *db, uint64_t key, char buf[DB_PATH_BUF], const char **out,
		  struct ckpt_err *err) CKPT_MUST_CHECK;

/* One line of XXH128SUMS: 32 digits, two blanks, the path, a line feed. */
static inline uint64_t db_sums_line_bytes(uint64_t path_len_bytes)
{
	return CKPT_HEX128_LEN + 2 + path_len_bytes + 1;
}

#endif
