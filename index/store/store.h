/*
 * store.h - layer header of the store: what fs/, mpi/ and cli/ may use.
 *
 * A store is a directory tree with a `.ckptfs/store.json` at its top. Source of
 * everything on disk: ckptfs-format(5).
 */
#ifndef CKPT_STORE_STORE_H
#define CKPT_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "db/db.h"
#include "store/contents.h"
#include "store/manifest.h"
#include "store/rules.h"
#include "store/sums.h"
#include "store/trash.h"
#include "store/write_session.h"

#define CKPT_STORE_FILE ".ckptfs/store.json"
#define CKPT_STORE_VERSION 1

/* --- places: what a path on the command line means --------------------------------- */

enum ckpt_place_kind {
	CKPT_PLACE_STORE,      /* the top of a store */
	CKPT_PLACE_GROUP,      /* a folder in a store that is no checkpoint */
	CKPT_PLACE_CHECKPOINT, /* a checkpoint, open or committed */
	CKPT_PLACE_ENTRY,      /* something inside a checkpoint (need not exist) */
	CKPT_PLACE_LOOSE,      /* a loose file */
	CKPT_PLACE_NOTHING,    /* in a store, but there is no such thing */
};

/* Where a path leads. All strings are heap; ckpt_place_release() them. */
struct ckpt_place {
	enum ckpt_place_kind kind;
	char *store_path; /* absolute path of the store; NULL for a bare checkpoint: one in no store */
	char *mount_path; /* where the user's path runs through a mount of it: the mount point; else NULL */
	char *name; /* path below the store (bare: the folder's own name); "" for the store itself */
	char *inner;  /* ENTRY: path inside the checkpoint; else "" */
	char *folder; /* a path the system calls take for the checkpoint or group: the store's own, not the mount's, where it can be reached */
};

/**
 * ckpt_place_find - what does a path mean?
 * @path: as typed: in a mount, in a store, of a bare folder with a manifest; or, where it does not
 *        exist, relative to @base
 * @base: NULL, or the store that -C or $CKPTFS_STORE names
 * "latest" as the last component is resolved. Symlinks in @path are followed up to the store, not
 * inside it.
 * A path through a mount is turned into the store's own (the mount's source in
 * /proc/self/mountinfo) unless the mount covers the store.
 * A name that does not exist yet is NOTHING, however many of its levels are missing: who makes it
 * makes them.
 * Errors: -ENOENT does not exist, and in no store either; "latest" of a group with nothing
 * committed; -ENXIO in no store and no checkpoint;
 *         -ENOTDIR below a loose file; -EINVAL in a store's or group's control folder; -ENOTCONN a
 *         dead mount.
 */
int ckpt_place_find(const char *path, const char *base, struct ckpt_place *out,
		    struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_place_look - the same for who only reads: a folder in no store that holds a tensor format
 * is a bare checkpoint, too, though it was never committed
 * Of folders inside each other the lowest that is recognised counts, or the one above it where that
 * has the name of a checkpoint.
 */
int ckpt_place_look(const char *path, const char *base, struct ckpt_place *out,
		    struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_place_release(struct ckpt_place *place);

/* --- the store ------------------------------------------------------------------------ */

struct ckpt_store;

/**
 * ckpt_store_init - make a store of @dir (created if missing; nothing in it moves). *@out_existed:
 * it was one already (then nothing changes). Errors: -EEXIST @dir lies in a store or in a
 * checkpoint.
 */
int ckpt_store_init(const char *dir, bool *out_existed, struct ckpt_err *err) CKPT_MUST_CHECK;

enum {
	CKPT_STORE_NO_INDEX = 1U << 0, /* never open a database (MPI ranks) */
	/*
	 * A folder that is no store: read-only, nothing is ever written into it. Its id is made of
	 * what identifies the folder, so that its index in the user's cache is found again.
	 */
	CKPT_STORE_BARE = 1U << 1,
};

/**
 * ckpt_store_open - open a store
 * @dir:   its top folder (no walking up)
 * @flags: CKPT_STORE_*
 * @index_path: NULL for the usual place (the store's control folder; the user's cache where that
 *              is read-only or on a network), else this file
 * @out:   ckpt_store_free() it
 * Errors: -ENOENT no store there; -ENOTSUP a newer format; -EBADMSG store.json damaged; -EACCES;
 * else system.
 * Do not carry it over fork().
 */
int ckpt_store_open(const char *dir, unsigned int flags, const char *index_path,
		    struct ckpt_store **out, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_store_open_fd - the same for a folder that is open already (a mount covers its path). @fd
 * is duplicated; @dir is for messages.
 */
int ckpt_store_open_fd(int fd, const char *dir, unsigned int flags, const char *index_path,
		       struct ckpt_store **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_store_free(struct ckpt_store *store);
/** ckpt_store_fd - O_PATH-like descriptor of the top folder; borrowed. */
int ckpt_store_fd(const struct ckpt_store *store);
const char *ckpt_store_path(const struct ckpt_store *store);
const char *ckpt_store_id(const struct ckpt_store *store);
/**
 * ckpt_store_index_place - where the index lies, and why not in the store ("" when it does): for
 * one log line.
 */
const char *ckpt_store_index_place(const struct ckpt_store *store, const char **out_reason);
/** ckpt_store_is_bare - it was opened with CKPT_STORE_BARE. */
bool ckpt_store_is_bare(const struct ckpt_store *store);
/** ckpt_store_read_only - the store's own folder cannot be written by this process. */
bool ckpt_store_read_only(const struct ckpt_store *store);
/**
 * ckpt_store_open_checkpoint - descriptor of the folder @name, no symlink followed. -ENOENT;
 * caller closes.
 */
int ckpt_store_open_checkpoint(const struct ckpt_store *store, const char *name, int *out_fd,
			       struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- states ----------------------------------------------------------------------------- */

enum ckpt_state {
	CKPT_STATE_NONE, /* no checkpoint: a group */
	CKPT_STATE_OPEN,
	CKPT_STATE_ABORTED,
	CKPT_STATE_COMMITTED,
};
/** ckpt_state_name - "open", "aborted", "committed"; "" for none. */
const char *ckpt_state_name(enum ckpt_state state);

/**
 * ckpt_state_of - the state of the folder @name below @store_fd, from what lies on disk
 * (ckptfs-format(5) "States")
 * @waits_for: NULL, or receives for an open one what it waits for ("a commit", "the rename to
 *             'run1/step-9'", "writer on HOST, pid N")
 */
int ckpt_state_of(int store_fd, const char *name, enum ckpt_state *out, struct ckpt_buf *waits_for,
		  struct ckpt_err *err) CKPT_MUST_CHECK;

/* What a folder in no store is, by the files in it. */
enum ckpt_bare {
	CKPT_BARE_NOTHING,
	CKPT_BARE_CHECKPOINT,
	CKPT_BARE_GROUP, /* checkpoints lie in it */
};
/**
 * ckpt_bare_of - what is the folder @dirfd, called @name, that lies in no store?
 * @any: one weak mark will do, and .npy, .npz, .bin and .ckpt are some: somebody named it
 * Errors: system. Cost: the names in it and in the folders directly in it.
 */
int ckpt_bare_of(int dirfd, const char *name, bool any, enum ckpt_bare *out) CKPT_MUST_CHECK;

/* May what lies at a path be changed? */
enum ckpt_guard {
	CKPT_GUARD_FREE,
	CKPT_GUARD_COMMITTED, /* it is, or lies in, a committed checkpoint */
	CKPT_GUARD_FROZEN, /* it is, or lies in, a checkpoint that is being committed or dropped */
};
/**
 * ckpt_guard_of - look at every folder on the way to @path (below the store; it need not exist, ""
 * is the top) for a manifest or a commit.lock of a living process
 * @out_len: NULL, or receives how much of @path names the checkpoint, where it is not FREE
 * Cost: one fstatat a component. Thread-safe: yes.
 */
int ckpt_guard_of(int store_fd, const char *path, enum ckpt_guard *out, size_t *out_len)
	CKPT_MUST_CHECK;

/* --- committed checkpoints, through the index ---------------------------------------------- */

/**
 * ckpt_store_db_get - borrow the index, for its read functions; give it back with ckpt_store_db_put
 * Opens it at the first need, and anew when its file was deleted or damaged. Errors: as
 * ckpt_db_open; -ENXIO opened without. Thread-safe: yes.
 */
int ckpt_store_db_get(struct ckpt_store *store, struct ckpt_db **out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void ckpt_store_db_put(struct ckpt_store *store, struct ckpt_db *db);

/**
 * ckpt_store_lookup - is @name a committed checkpoint, now?
 * Stats its manifest; where the index does not fit it, reads header and end line and updates the
 * index.
 * @out: ckpt_db_checkpoint_release() it; slot 0 in a store that was opened without its index
 * Errors: -ENOENT is none; -EBADMSG, -ENOTSUP manifest unusable; else system. Thread-safe: yes.
 * Cost: one fstatat and one row.
 */
int ckpt_store_lookup(struct ckpt_store *store, const char *name, struct ckpt_db_checkpoint *out,
		      struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_store_load_entries - make sure that the entries of a checkpoint are in the index
 * @row: from ckpt_store_lookup; updated. Does nothing when row->entries_indexed. One transaction;
 *       others wait for it.
 * Errors: as ckpt_manifest_visit.
 */
int ckpt_store_load_entries(struct ckpt_store *store, struct ckpt_db_checkpoint *row,
			    struct ckpt_err *err) CKPT_MUST_CHECK;

/* One checkpoint that a walk met. */
struct ckpt_found {
	const char *name;
	enum ckpt_state state;
	const struct ckpt_db_checkpoint
		*row; /* committed ones; NULL where the manifest is unusable, then … */
	const struct ckpt_err *problem; /* … this says why */
};

/**
 * ckpt_store_walk - find every checkpoint at or below @below by looking at the folders, and bring
 * the index up to date with what was found
 * @fn: called in byte order of the names; non-zero stops and is returned; NULL: only refresh
 * A folder that may not be read is passed over (not @below itself: -EACCES), and what the index
 * holds below it stays; @fn is told of it behind all others, with state NONE and a problem. Works
 * without an index.
 * Errors: -ENOENT @below is gone (its rows, too); else system.
 */
int ckpt_store_walk(struct ckpt_store *store, const char *below,
		    int (*fn)(void *ctx, const struct ckpt_found *found), void *ctx,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_store_latest - name of the committed checkpoint at or below @below that was committed last,
 * by (seq, committed, id); appended to @out. -ENOENT.
 */
int ckpt_store_latest(struct ckpt_store *store, const char *below, struct ckpt_buf *out,
		      struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_store_reindex - forget and rebuild everything below @below, entries included. *@out_count:
 * committed checkpoints. A manifest that cannot be read is reported through @problem and skipped.
 */
int ckpt_store_reindex(struct ckpt_store *store, const char *below,
		       void (*problem)(void *ctx, const struct ckpt_err *err), void *ctx,
		       uint64_t *out_count, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- commit ---------------------------------------------------------------------------------- */

/* What a writer knows already of one shard. */
struct ckpt_known_shard {
	struct ckpt_shard shard; /* owned by the caller */
	/*
	 * Stamps of the stored file when it was summed and made durable; ignored for packed
	 * shards.
	 */
	uint64_t ino;
	int64_t ctime_ns;
};

struct ckpt_commit_options {
	bool has_step;
	uint64_t step;
	bool has_world_size;
	uint64_t world_size;
	const char *writer;  /* NULL: "ckptfs VERSION" */
	const char *meta;    /* JSON object of scalars; NULL: none */
	const char *created; /* NULL: the folder's birth or change time */
	/* Sums and places that are known; used where the stamps still fit. All borrowed. */
	const struct ckpt_known_shard *known;
	size_t known_count;
	const struct ckpt_tensor *tensors;
	size_t tensor_count;
	const struct ckpt_bytes_entry *bytes_entries;
	size_t bytes_entry_count;
	uint32_t lease_wait_ms; /* 0: 5000 */
	bool skip_crc; /* the CRC-32s in the archives of torch and numpy are not compared */
	/*
	 * The lasting name of one that has a temporary name, also in another folder of the store,
	 * which must exist; NULL: what the name becomes without its temporary affix.
	 */
	const char *final_name;
	/*
	 * A committed checkpoint of that name goes to the trash, right before the new one takes it;
	 * -EPERM where it is pinned.
	 */
	bool replace;
	/*
	 * Bytes hashed so far of all; non-zero cancels (-ECANCELED, it stays open). NULL: none.
	 * Called from several threads.
	 */
	int (*progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
	void *progress_ctx;
};

struct ckpt_commit_result {
	char *name; /* its lasting name; heap */
	char id[37];
	uint64_t seq;
	uint64_t shard_count;
	uint64_t size_bytes;
};

/**
 * ckpt_commit - make the open checkpoint @name final: the one commit routine (ckptfs-format(5)
 * "The commit")
 * @out: free(out->name)
 * Errors: -EBUSY a file is open for writing, or another commit runs (names it); -EEXIST the
 * lasting name is taken, or it is committed already;
 *         -ENOENT; -EILSEQ a name that cannot be committed; -ECANCELED; else system. On any
 *         failure it stays open and nothing has changed.
 * Thread-safe: yes; two commits of one checkpoint exclude each other on disk.
 */
int ckpt_commit(struct ckpt_store *store, const char *name,
		const struct ckpt_commit_options *options, struct ckpt_commit_result *out,
		struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_open_begin - start writing a checkpoint that will be called @name
 * Checks that the name is allowed and free (committed: -EEXIST), makes "@name.partial" and its
 * control folder, refuses one that a living writer holds (-EBUSY);
 * what an aborted save of that name left is removed.
 * @out_open_name: receives "@name.partial"
 */
int ckpt_open_begin(struct ckpt_store *store, const char *name, struct ckpt_buf *out_open_name,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

/* What the name of a checkpoint that is being written ends in. */
#define CKPT_PARTIAL_SUFFIX ".partial"

/**
 * ckpt_open_again - start writing the committed checkpoint @name anew, in the folder "@name.partial"
 * that gets the owner and the mode of the old one; where others write it again already, theirs.
 * What a save that ended left there is removed first.
 * @out_open_name: receives "@name.partial"
 * Errors: -EBUSY something else has that name (says what to do); else system.
 */
int ckpt_open_again(struct ckpt_store *store, const char *name, struct ckpt_buf *out_open_name,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_open_touch - say that this process still writes the open checkpoint; due every 10 s between
 * ckpt_open_begin and the commit
 * Errors: -ENOENT the session is gone: somebody dropped the checkpoint. Thread-safe: yes.
 */
int ckpt_open_touch(struct ckpt_store *store, const char *open_name, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_open_tell - the same, and say how far it is
 * Between ckpt_open_begin and the commit, in the process that began; it is for people, and not
 * durable. Errors: as ckpt_open_touch.
 */
int ckpt_open_tell(struct ckpt_store *store, const char *open_name,
		   const struct ckpt_save_progress *progress, struct ckpt_err *err) CKPT_MUST_CHECK;

/* A save that runs, of whatever process and host. Strings are borrowed until the callback returns. */
struct ckpt_running {
	const char *name; /* of the open checkpoint */
	const char *host;
	int64_t pid;
	const struct ckpt_save_progress *progress; /* NULL: it has not told */
};

/**
 * ckpt_running_each - every save between ckpt_open_begin and its end whose process lives; @fn must
 * not wait for anything. Cost: one small file a save, no walk. Errors: system.
 */
int ckpt_running_each(const struct ckpt_store *store,
		      void (*fn)(void *ctx, const struct ckpt_running *running), void *ctx)
	CKPT_MUST_CHECK;

/**
 * ckpt_open_mark_aborted - leave `.ckptfs/aborted.json` holding @reason_json in the open
 * checkpoint, and end this process's session.
 */
int ckpt_open_mark_aborted(struct ckpt_store *store, const char *open_name, const char *reason_json,
			   struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_abort - drop an open checkpoint: gone as a whole (one rename into the trash), then removed
 * Errors: -EROFS it is committed; -EINVAL a group; -EBUSY a living writer or a commit holds it;
 * -ENOENT.
 */
int ckpt_abort(struct ckpt_store *store, const char *name, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_abort_empty - the same for one in which nothing lies but its control folder
 * Errors: as ckpt_abort; -ENOTEMPTY something is in it (and stays), or came to be this moment.
 */
int ckpt_abort_empty(struct ckpt_store *store, const char *name, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* A file that a commit would make a shard. */
struct ckpt_scan_file {
	char *path;
	uint64_t size_bytes;
};
struct ckpt_scan_list {
	struct ckpt_scan_file *files; /* ordered by path */
	size_t file_count, file_cap;
};
/**
 * ckpt_scan_files - every regular file of the folder (control folder left out), as a commit would
 * see it. -EILSEQ, -EINVAL name what cannot be committed.
 */
int ckpt_scan_files(int dirfd, const char *label, struct ckpt_scan_list *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_scan_readable - the same of a folder that is only looked at: what cannot be committed is
 * passed over, and so are checkpoints in it. Errors: system.
 */
int ckpt_scan_readable(int dirfd, const char *label, struct ckpt_scan_list *out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_scan_list_release(struct ckpt_scan_list *list);

/* --- verify ------------------------------------------------------------------------------- */

struct ckpt_verify_options {
	size_t thread_count; /* 0: one a processor */
	/*
	 * Called under one lock, in no particular order: a line without newline, as contracts
	 * spell it.
	 */
	void (*finding)(void *ctx, const char *line);
	/* The same for what `deep` cannot look into: "NAME/FILE: not checked: …". NULL: none. */
	void (*unchecked)(void *ctx, const char *line);
	/* Bytes read so far of all; non-zero cancels (-ECANCELED). NULL: none. */
	int (*progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
	void *ctx;
	/*
	 * Only part part_idx of part_count, as many bytes each (MPI ranks share the work; one large
	 * shard too); 0 and 0: all. A shard is counted in the part that it begins in.
	 */
	uint64_t part_idx;
	uint64_t part_count;
	/* The CRC-32s in the archives of torch and numpy, too. */
	bool deep;
	/*
	 * NULL, or the store that the checkpoint lies in, by the name @label: whole digests that
	 * its manifest lacks are learned, and kept in the store's catalog.
	 */
	struct ckpt_store *store;
};

struct ckpt_verify_result {
	uint64_t shard_count;
	uint64_t size_bytes;
	uint64_t finding_count;
};

/**
 * ckpt_verify - check a committed checkpoint against its manifest, block by block, on all cores
 * @dirfd: its folder; @label: its name in findings
 * A damaged manifest, a shard that is missing, short, long or no regular file, a wrong block, and
 * bytes of a pack that are in no shard and not zero are findings, not errors.
 * Errors: only what keeps it from checking at all (-ENOENT no manifest; -ECANCELED; memory).
 */
int ckpt_verify(int dirfd, const char *label, const struct ckpt_verify_options *options,
		struct ckpt_verify_result *out, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
