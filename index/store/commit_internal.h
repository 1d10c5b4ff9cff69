/*
 * commit_internal.h - what the files behind a commit share: owners, leases,
 * the scan of a folder, and the state of one commit.
 * May be included only by index/store/{owner,commit_lock,open_session,lease,scan,
 * commit,commit_files,commit_sums,commit_manifest,commit_tensors,open,verify,
 * verify_pack}.c.
 */
#ifndef CKPT_STORE_COMMIT_INTERNAL_H
#define CKPT_STORE_COMMIT_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/manifest.h"
#include "store/store.h"
#include "store/store_internal.h"

/* --- owner.c, commit_lock.c, open_session.c ------------------------------------------- */

/* A lock, or the first line of a session, is longer only when it is damaged. */
#define CKPT_OWNER_LINE_MAX 4096

/** ckpt_owner_read - the owner in the first line of @path. -ENOENT; -EBADMSG damaged. */
int ckpt_owner_read(int dirfd, const char *path, struct ckpt_owner *out) CKPT_MUST_CHECK;

/**
 * ckpt_control_make - open the control folder, making it if missing; the checkpoint's own mtime
 * stays.
 */
int ckpt_control_make(int dirfd, const char *label, int *out_fd, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/**
 * ckpt_session_holder_but - as ckpt_session_holder, blind for sessions of @but (NULL: for none).
 */
int ckpt_session_holder_but(int dirfd, const struct ckpt_owner *but, bool *out_any,
			    struct ckpt_buf *out) CKPT_MUST_CHECK;
/** ckpt_session_start - write this process's session file, durably. */
int ckpt_session_start(int dirfd, const char *label, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_session_touch - -ENOENT there is none. */
int ckpt_session_touch(int dirfd) CKPT_MUST_CHECK;
/** ckpt_session_end - remove this process's session file. */
void ckpt_session_end(int dirfd);
/** ckpt_session_end_all - remove every session file. */
void ckpt_session_end_all(int dirfd);

/* --- scan.c ------------------------------------------------------------------------- */

/* What tells that a file is still the same, unchanged. */
struct ckpt_stamp {
	uint64_t ino;
	uint64_t size_bytes;
	struct timespec mtime;
	struct timespec ctime;
};

struct ckpt_stamp ckpt_stamp_of(const struct stat *st);
bool ckpt_stamp_equal(const struct ckpt_stamp *a, const struct ckpt_stamp *b);
/**
 * ckpt_stamp_ns - nanoseconds since 1970; what 64 bits cannot hold becomes the nearest that they
 * can.
 */
int64_t ckpt_stamp_ns(struct timespec at);

struct ckpt_tree_entry {
	char *path;
	uint32_t mode; /* permission bits */
	struct ckpt_stamp stamp;
	char *target; /* symlink; else NULL */
};

struct ckpt_tree_list {
	struct ckpt_tree_entry *items; /* ordered by the bytes of the path */
	size_t count, cap;
};

/* Everything in a checkpoint's folder but its control folder. */
struct ckpt_tree {
	struct ckpt_tree_list dirs;
	struct ckpt_tree_list files;
	struct ckpt_tree_list symlinks;
};

/**
 * ckpt_tree_scan - errors as ckpt_scan_files, -ENOTEMPTY a checkpoint lies in it; @out is released
 * on failure.
 */
int ckpt_tree_scan(int dirfd, const char *label, struct ckpt_tree *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_tree_check_inside - -ENOTEMPTY (with its message) when a checkpoint lies in the folder;
 * whatever else is there is no error.
 */
int ckpt_tree_check_inside(int dirfd, const char *label, bool *out_empty, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void ckpt_tree_release(struct ckpt_tree *tree);
/**
 * ckpt_tree_difference - path of the first entry that is not the same in both; NULL: none.
 * Borrowed.
 */
const char *ckpt_tree_difference(const struct ckpt_tree *a, const struct ckpt_tree *b);

/* --- lease.c ------------------------------------------------------------------------ */

/**
 * ckpt_lease_slice_max - how many files this process may hold open for a commit; raises its soft
 * limit to the hard one.
 */
size_t ckpt_lease_slice_max(void);
/**
 * ckpt_lease_take - read lease on an open file. 1 held; 0 this file system has none; -EAGAIN some
 * process has it open for writing.
 */
int ckpt_lease_take(int fd) CKPT_MUST_CHECK;
/** ckpt_lease_held - nobody has asked to write since it was taken. */
bool ckpt_lease_held(int fd);

/* --- open.c --------------------------------------------------------------------------- */

/**
 * ckpt_open_folder - a readable descriptor of the folder @name (not O_PATH: it is synced).
 * -ENOENT.
 */
int ckpt_open_folder(struct ckpt_store *store, const char *name, int *out_fd, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_open_check_place - -EINVAL where a folder above @name is a checkpoint. */
int ckpt_open_check_place(struct ckpt_store *store, const char *name, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_open_check_free - -EEXIST where @name is taken by anything but an empty folder. */
int ckpt_open_check_free(struct ckpt_store *store, const char *name, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_open_still_there - @name still leads to @dirfd. -ENOENT. */
int ckpt_open_still_there(struct ckpt_store *store, const char *name, int dirfd) CKPT_MUST_CHECK;
/** ckpt_open_parent - descriptor of the folder that @name lies in. */
int ckpt_open_parent(struct ckpt_store *store, const char *name, int *out_fd) CKPT_MUST_CHECK;

/* --- one commit ----------------------------------------------------------------------- */

/* A stored file that the manifest will answer for: a shard of its own, or a pack. */
struct ckpt_commit_file {
	const char *path;		      /* borrowed from the tree or from a known shard */
	struct ckpt_tree_entry *entry;	      /* in the tree; NULL for a pack */
	const struct ckpt_known_shard *known; /* what a writer said of it, or NULL; never of a pack */
	const struct ckpt_known_shard *const
		*packed; /* pack: the shards in it, by offset; else NULL */
	size_t packed_count;
	bool leased;
	int fd; /* -1 while it is not open */
	struct ckpt_stamp stamp;
	struct ckpt_shard
		sums; /* block_bytes, sums, xxh128 only; sums NULL and block_bytes 0 where the known ones count */
};

struct ckpt_commit {
	struct ckpt_store *store;
	const char *name;
	const struct ckpt_commit_options *options;
	int dirfd;
	bool leases_work;
	struct ckpt_buf final_name;
	struct ckpt_tree tree;
	const struct ckpt_known_shard **known;	/* options->known, by path */
	const struct ckpt_known_shard **packed; /* those in packs, by (pack, offset) */
	size_t packed_count;
	struct ckpt_commit_file *files; /* the scanned ones by path, then the packs */
	size_t file_count, file_cap;
	uint64_t bytes_total; /* to be hashed */
	_Atomic uint64_t bytes_done;
	struct ckpt_manifest manifest;
	bool own_tensors; /* the tensors in the manifest were found here, not given */
};

/** ckpt_commit_tick - call the caller's progress; -ECANCELED when it wants no more. Thread-safe. */
int ckpt_commit_tick(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

/* commit_files.c */
/**
 * ckpt_commit_collect - list the stored files: the scanned ones and the packs of known shards;
 * checks what is known against them.
 */
int ckpt_commit_collect(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_commit_open_slice - open and lease files from @start on, as many as may be open at once;
 * *@out_end is the first left out. -EBUSY names the file.
 */
int ckpt_commit_open_slice(struct ckpt_commit *commit, size_t start, size_t *out_end,
			   struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_commit_close_slice - let go of descriptors and leases. */
void ckpt_commit_close_slice(struct ckpt_commit *commit, size_t start, size_t end);
/** ckpt_commit_busy - file that @path is open for writing; returns -EBUSY. */
int ckpt_commit_busy(const struct ckpt_commit *commit, const char *path, struct ckpt_err *err);
/** ckpt_commit_known_fits - the writer's sums are those of the file as it is now. */
bool ckpt_commit_known_fits(const struct ckpt_commit_file *file);
/** ckpt_commit_recheck - nothing has changed and nobody writes. -ESTALE, -EBUSY. */
int ckpt_commit_recheck(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

/* commit_sums.c */
/**
 * ckpt_commit_sum - lease, sum and sync every stored file, in slices; where one slice holds them
 * all, it stays open.
 */
int ckpt_commit_sum(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_commit_sync_dirs - make every folder durable, from below. */
int ckpt_commit_sync_dirs(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

/* commit_manifest.c */
/** ckpt_commit_assemble - fill commit->manifest from tree, sums, options; moves the sums. */
int ckpt_commit_assemble(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_commit_drop_tensors - out of the manifest, released as far as they are ours. */
void ckpt_commit_drop_tensors(struct ckpt_commit *commit);
/** ckpt_commit_print - the manifest's text, checked by the reader's own rules. */
int ckpt_commit_print(struct ckpt_commit *commit, struct ckpt_buf *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* commit_tensors.c */
/**
 * ckpt_commit_catalogue - tensors of the safetensors files into commit->manifest; what is not
 * understood is left out. Errors: system, also where a file cannot be read.
 */
int ckpt_commit_catalogue(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- verify_pack.c --------------------------------------------------------------------- */

/* A run of bytes of a pack that belong to no shard, and are not all zero. */
struct ckpt_pack_dirt {
	uint64_t start_bytes;
	uint64_t end_bytes; /* first byte behind */
};

/**
 * ckpt_pack_check_gaps - read what lies between the shards of one pack
 * @shards: of this pack, ordered by offset
 * @fn: called for every gap that holds something; non-zero stops and is returned
 * Errors: system.
 */
int ckpt_pack_check_gaps(int fd, const struct ckpt_shard *const *shards, size_t count,
			 int (*fn)(void *ctx, const struct ckpt_pack_dirt *dirt), void *ctx)
	CKPT_MUST_CHECK;

#endif
