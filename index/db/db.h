/*
 * db.h - the index: one SQLite database that answers look-ups fast.
 *
 * The index is a cache of one host: everything in it comes from manifests and
 * can be rebuilt from them, and it may be deleted at any time. Only this folder
 * includes <sqlite3.h>, and only it opens the database file: closing any other
 * descriptor of it would drop SQLite's locks (sqlite.org/howtocorrupt.html 2.2).
 *
 * Threads: one `struct ckpt_db` serves many threads. Reads borrow one of a pool
 * of read-only connections; writes take the one writer connection and a lock
 * file beside the database (one writer in all processes; Debian's 3.40.1 has the
 * WAL-reset bug). A thread that is between begin and commit reads what it has
 * written. No lock is held while a callback runs except the borrowed connection:
 * a callback may read (it gets the same one), but must not write.
 * SQLITE_BUSY never leaves this folder: reads and writes wait, up to two minutes,
 * then answer -ETIMEDOUT.
 *
 * Any read or write may answer -EUCLEAN: the index is damaged (its file has been
 * set aside), or another process has emptied it for another store or version.
 * The caller frees it and opens anew; ckpt_db_alive() says so, too.
 */
#ifndef CKPT_DB_DB_H
#define CKPT_DB_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"

struct ckpt_db;

/* PRAGMA application_id ("ckpt") and user_version of the schema written here. */
#define CKPT_DB_APPLICATION_ID 0x636b7074
#define CKPT_DB_SCHEMA_VERSION 1

/* Inode arithmetic of the mount: a checkpoint's slot is the high word of its inodes. */
#define CKPT_SLOT_MAX ((UINT64_C(1) << 31) - 1)
/* Sequence numbers lie below; slots from here on are for copies that share one. */
#define CKPT_SEQ_MAX ((UINT64_C(1) << 30) - 1)

/*
 * What one committed checkpoint's row holds. Strings are heap copies, see
 * ckpt_db_checkpoint_release.
 */
struct ckpt_db_checkpoint {
	uint64_t slot; /* 1 … CKPT_SLOT_MAX; = seq unless another checkpoint has it */
	char *name;    /* path below the store */
	char id[37];
	uint64_t seq;
	bool has_step;
	uint64_t step;
	bool has_world_size;
	uint64_t world_size;
	char created[CKPT_RFC3339_SIZE];
	char committed[CKPT_RFC3339_SIZE];
	char *writer;
	char *meta; /* JSON object text */
	uint64_t shard_count;
	uint64_t tensor_count;
	uint64_t size_bytes;	  /* of all shards; 0 until entries_indexed */
	uint64_t sums_text_bytes; /* length of its XXH128SUMS; 0 until entries_indexed */
	uint32_t child_dirs; /* sub-folders of its top, for st_nlink; 0 until entries_indexed */
	bool entries_indexed;
	/* Which manifest this row was made from. */
	uint64_t manifest_ino;
	uint64_t manifest_size_bytes;
	int64_t manifest_mtime_ns;
	struct ckpt_digest manifest_xxh128; /* as its end line says */
};

enum ckpt_entry_kind {
	CKPT_ENTRY_DIR = 1,
	CKPT_ENTRY_SHARD = 2,
	CKPT_ENTRY_SYMLINK = 3,
};

/*
 * One line of a manifest that is a name in the checkpoint's tree. Line 1, the header, stands for
 * the top folder.
 */
struct ckpt_db_entry {
	uint32_t line;	 /* ≥ 2: line number in the manifest, 1-based */
	uint32_t parent; /* line of the folder it lies in; 1 for the top */
	enum ckpt_entry_kind kind;
	uint32_t mode; /* permission bits */
	uint32_t uid;  /* as the stored file had it when it was indexed */
	uint32_t gid;
	uint64_t size_bytes; /* shard: bytes; symlink: length of target; dir: 0 */
	int64_t mtime_ns;
	bool has_rank;
	uint64_t rank;
	bool has_xxh128;
	struct ckpt_digest xxh128;
	uint64_t block_bytes;
	uint64_t pack_offset;
	uint32_t child_dirs; /* dir: sub-folders in it, for st_nlink */
	char *name;	     /* one component */
	char *target;	     /* symlink; else NULL */
	char *pack; /* file of the pack, relative to the checkpoint; NULL when the shard is its own file */
};

/* One tensor line, as it is put in; a bytes line has no dtype and no shape: "". */
struct ckpt_db_tensor {
	uint32_t line;
	const char *set;
	const char *group; /* NULL where it is in none */
	const char *fqn;
	const char *dtype;
	const char *shape; /* JSON array */
};

/* Where a folder's listing goes on. */
struct ckpt_db_cursor {
	uint64_t slot;
	uint32_t parent; /* line of the folder */
	uint32_t after;	 /* entries with a greater line follow */
};

/*
 * What is known of the tensor whose chunk a shard holds (only where it holds exactly one); of a
 * bytes entry all but the FQN is "".
 */
struct ckpt_db_shard_tensor {
	char *fqn;
	char *dtype;
	char *shape; /* JSON array */
	char *chunk; /* JSON: {"start":[…],"size":[…]} */
};

/* --- opening ------------------------------------------------------------- */

/**
 * ckpt_db_open - open or make the index
 * @path:     database file, at most 500 bytes; created with its schema if missing. May run through
 *            /proc/self/fd/N where a mount
 *            covers it. ":memory:": one connection that all threads take turns with
 * @store_id: the store's UUID; a database of another store, or of another schema version, is
 *            emptied in place
 * @reader_max: connections in the read pool, ≥ 1
 * A file that SQLite cannot open, or somebody else's database, is set aside as @path.broken-N with
 * its -wal and -shm, and a new
 * one is made; of broken ones three are kept.
 * @out_fresh: true when the index came up without a checkpoint (the caller rebuilds)
 * Errors: -EROFS, -EACCES: cannot be written there (the caller goes elsewhere, or to ":memory:");
 * -ENOSPC; else system
 *         (-ELOOP, -EINVAL a symbolic link, a folder; -EOPNOTSUPP a file system without shared
 *         mappings).
 * A file in order is opened without waiting for a writer. Not to be carried over fork().
 * Source: sqlite.org/wal.html, sqlite.org/security.html (trusted_schema, defensive mode).
 */
int ckpt_db_open(const char *path, const char *store_id, uint32_t reader_max, struct ckpt_db **out,
		 bool *out_fresh, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_db_free - close; no thread may be in a call. NULL is a no-op. */
void ckpt_db_free(struct ckpt_db *db);
/**
 * ckpt_db_alive - -ESTALE when the file was deleted, replaced, emptied or found damaged (caller
 * frees and opens anew). One stat.
 */
int ckpt_db_alive(const struct ckpt_db *db) CKPT_MUST_CHECK;

/* --- reading; -ENOENT where there is no such row ---------------------------- */

int ckpt_db_checkpoint_by_name(struct ckpt_db *db, const char *name, struct ckpt_db_checkpoint *out,
			       struct ckpt_err *err) CKPT_MUST_CHECK;
int ckpt_db_checkpoint_by_slot(struct ckpt_db *db, uint64_t slot, struct ckpt_db_checkpoint *out,
			       struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_db_checkpoint_release(struct ckpt_db_checkpoint *row);

/**
 * ckpt_db_checkpoints - every row whose name equals @below or lies below it, by bytes of the name
 * ("" is all)
 * @fn: borrows the row for the call; non-zero stops and is returned
 */
int ckpt_db_checkpoints(struct ckpt_db *db, const char *below,
			int (*fn)(void *ctx, const struct ckpt_db_checkpoint *row), void *ctx,
			struct ckpt_err *err) CKPT_MUST_CHECK;

int ckpt_db_entry_by_line(struct ckpt_db *db, uint64_t slot, uint32_t line,
			  struct ckpt_db_entry *out, struct ckpt_err *err) CKPT_MUST_CHECK;
int ckpt_db_entry_by_name(struct ckpt_db *db, uint64_t slot, uint32_t parent, const char *name,
			  struct ckpt_db_entry *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_db_entry_release(struct ckpt_db_entry *entry);

/**
 * ckpt_db_children - the entries of one folder behind @from, in line order: one index range scan
 * @fn: borrows the entry; a positive value stops without error (the reply is full), negative is
 *      returned
 */
int ckpt_db_children(struct ckpt_db *db, const struct ckpt_db_cursor *from,
		     int (*fn)(void *ctx, const struct ckpt_db_entry *entry), void *ctx,
		     struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_db_shards - every shard in line order (= by bytes of the path), with its path inside the
 * checkpoint; @fn as for ckpt_db_children.
 */
int ckpt_db_shards(struct ckpt_db *db, uint64_t slot,
		   int (*fn)(void *ctx, const char *path, const struct ckpt_db_entry *entry),
		   void *ctx, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_db_entry_path - the path of @line inside its checkpoint ("" for line 1); heap, free() it.
 */
int ckpt_db_entry_path(struct ckpt_db *db, uint64_t slot, uint32_t line, char **out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_db_sums - the block sums of a shard; heap array of *@out_count, NULL and 0 for an empty
 * shard.
 */
int ckpt_db_sums(struct ckpt_db *db, uint64_t slot, uint32_t line, uint64_t **out,
		 uint64_t *out_count, struct ckpt_err *err) CKPT_MUST_CHECK;
int ckpt_db_shard_tensor(struct ckpt_db *db, uint64_t slot, uint32_t line,
			 struct ckpt_db_shard_tensor *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_db_shard_tensor_release(struct ckpt_db_shard_tensor *out);

/* --- questions of people ----------------------------------------------------- */

struct ckpt_db_cell {
	enum {
		CKPT_DB_CELL_NULL,
		CKPT_DB_CELL_INT,
		CKPT_DB_CELL_REAL,
		CKPT_DB_CELL_TEXT,
		CKPT_DB_CELL_BLOB,
	} kind;
	int64_t integer;
	double real;
	const unsigned char *bytes; /* text, NUL-terminated, or blob; borrowed for the call */
	size_t len_bytes;
};

/* Who gets the rows of a query. Non-zero of a callback ends it and is returned; none may write. */
struct ckpt_db_sql {
	int (*columns)(void *ctx, const char *const *names, size_t count, struct ckpt_err *err);
	int (*row)(void *ctx, const struct ckpt_db_cell *cells, size_t count, struct ckpt_err *err);
	bool (*stopped)(void *ctx); /* NULL, or asked now and then: end it? */
	void *ctx;
};

/**
 * ckpt_db_sql - run one SELECT that somebody typed on the views checkpoints, shards, tensors and
 * chunks
 * @text: untrusted; it can change nothing and read nothing else
 * The columns of the views are described in ckptfs(1). What is not indexed is not there.
 * Errors: -EINVAL the statement is wrong (SQLite's words); -EPERM it asks for what it may not;
 * -EINTR it was ended; -ENOMEM; as every read.
 */
int ckpt_db_sql(struct ckpt_db *db, const char *text, const struct ckpt_db_sql *use,
		struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_db_check - read all of the database; -EUCLEAN (with SQLite's words) it is damaged, and is set
 * aside as after any other read that finds so. Time: that of reading the file.
 */
int ckpt_db_check(struct ckpt_db *db, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- writing: one transaction a checkpoint ----------------------------------- */

/**
 * ckpt_db_begin - take the writer (waits for other threads and processes). Ends with commit or
 * rollback, by the same thread. -ETIMEDOUT.
 */
int ckpt_db_begin(struct ckpt_db *db, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_db_commit - ends the transaction also when it fails: then nothing of it is in, and a
 * rollback after it does nothing.
 */
int ckpt_db_commit(struct ckpt_db *db, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_db_rollback - nothing of the transaction is in; a no-op for a thread that is in none. */
void ckpt_db_rollback(struct ckpt_db *db);

/**
 * ckpt_db_put_checkpoint - insert or replace by name, dropping entries of a replaced row. Gives
 * @row->slot: its seq if free, else a free one that depends on the name. Sets what the entries
 * tell to 0. -EINVAL the row breaks a rule of names, ids or stamps.
 */
int ckpt_db_put_checkpoint(struct ckpt_db *db, struct ckpt_db_checkpoint *row, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_db_move_checkpoint - what was at @old_name is now @row, the same manifest with another name
 * or mtime: slot and entries stay, and @row is read anew. -ENOENT.
 */
int ckpt_db_move_checkpoint(struct ckpt_db *db, const char *old_name,
			    struct ckpt_db_checkpoint *row, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_db_put_entry - @sums, @sum_count: block sums of a shard (else NULL, 0). Folders before what
 * lies in them. -EINVAL it breaks a rule; -EEXIST the line or the name is in already.
 */
int ckpt_db_put_entry(struct ckpt_db *db, uint64_t slot, const struct ckpt_db_entry *entry,
		      const uint64_t *sums, uint64_t sum_count, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_db_put_tensor - one tensor line; all strings borrowed. */
int ckpt_db_put_tensor(struct ckpt_db *db, uint64_t slot, const struct ckpt_db_tensor *tensor,
		       struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_db_put_chunk - @chunk: JSON text {"start":[…],"size":[…]}. */
int ckpt_db_put_chunk(struct ckpt_db *db, uint64_t slot, uint32_t tensor_line, uint32_t shard_line,
		      const char *chunk, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_db_seal_checkpoint - entries are complete: computes size_bytes, sums_text_bytes and all
 * child_dirs, sets entries_indexed. -ENOENT.
 */
int ckpt_db_seal_checkpoint(struct ckpt_db *db, uint64_t slot, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_db_delete_checkpoint - by name; -ENOENT is success. */
int ckpt_db_delete_checkpoint(struct ckpt_db *db, const char *name, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_db_set_xxh128 - a whole-file digest that was learned after the commit; sums_text_bytes
 * follows. -ENOENT no such shard.
 */
int ckpt_db_set_xxh128(struct ckpt_db *db, uint64_t slot, uint32_t line, struct ckpt_digest xxh128,
		       struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_db_clear - forget everything (full rebuild follows). Inside begin/commit. */
int ckpt_db_clear(struct ckpt_db *db, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
