/*
 * commit_internal.h - what the files behind a commit share: owners, leases,
 * the scan of a folder, and the state of one commit.
 * May be included only by index/store/{owner,commit_lock,open_session,session,
 * session_read,session_place,guard,lease,scan,commit,commit_publish,commit_files,
 * commit_sums,commit_manifest,commit_tensors,open,open_again,verify,verify_pack,verify_learn,trash,
 * leftovers,running}.c.
 */
#ifndef CKPT_STORE_COMMIT_INTERNAL_H
#define CKPT_STORE_COMMIT_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/num.h"
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

/** ckpt_control_drop_empty - remove the control folder if nothing is in it; the mtime stays. */
void ckpt_control_drop_empty(int dirfd);

/** ckpt_session_start - write this process's session file, durably. */
int ckpt_session_start(int dirfd, const char *label, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_session_touch - -ENOENT there is none. */
int ckpt_session_touch(int dirfd) CKPT_MUST_CHECK;
/** ckpt_session_tell_progress - into it. -ENOENT there is none. */
int ckpt_session_tell_progress(int dirfd, const struct ckpt_save_progress *progress)
	CKPT_MUST_CHECK;
/** ckpt_session_end - remove this process's session file. */
void ckpt_session_end(int dirfd);
/** ckpt_session_end_all - remove every session file. */
void ckpt_session_end_all(int dirfd);

/* A session in the making, beside its place. */
#define CKPT_SESSION_TEMP_SUFFIX ".tmp"
bool ckpt_session_is_half_made(const char *name);
/**
 * ckpt_session_each - call @fn for every name in the folder @path below @dirfd that begins with
 * @prefix; non-zero stops and is returned.
 */
int ckpt_session_each(int dirfd, const char *path, const char *prefix,
		      int (*fn)(void *ctx, int control, const char *name), void *ctx)
	CKPT_MUST_CHECK;
/**
 * ckpt_session_now - now, by the clock that stamps the files in @control. On a local file system
 * that is ours; a server's is read off a file written this moment, and where that cannot be
 * written ours must do.
 */
time_t ckpt_session_now(int control);

/* What the sessions of a checkpoint tell. */
struct ckpt_session_look {
	bool any;	/* there is one, of the living or the dead */
	bool abandoned; /* one of the dead was not idle: its save did not end */
	bool writing;	/* one of the living writes */
	bool summing;	/* one of the living makes sums */
};
/**
 * ckpt_session_look - look at all sessions of a checkpoint
 * @blind_for_own: as if there were none of this process
 * @holder: receives who writes, or makes sums
 */
int ckpt_session_look(int dirfd, bool blind_for_own, struct ckpt_session_look *out,
		      struct ckpt_buf *holder) CKPT_MUST_CHECK;

/* --- session_read.c --------------------------------------------------------------------- */

/* Longer files tell no sums: ours are begun anew before that. */
#define CKPT_SESSION_MAX (64 * CKPT_MIB)
/* The sums of the dead are of use for so long: what is not committed by then is summed again. */
#define CKPT_SESSION_KEPT_SECS 86400

/* Who left a session, and how it ended. */
struct ckpt_session_head {
	struct ckpt_owner owner;
	enum ckpt_session_doing doing;
	time_t touched;
	size_t owner_len; /* of the first line, its LF included */
	bool has_progress;
	struct ckpt_save_progress progress;
};
/** ckpt_session_head_read - of the file @name. -ENOENT; -EBADMSG no session, or a damaged one. */
int ckpt_session_head_read(int dirfd, const char *name, struct ckpt_session_head *out)
	CKPT_MUST_CHECK;
/** ckpt_session_lives - its process may still be there, and has touched it lately. */
bool ckpt_session_lives(const struct ckpt_session_head *head, time_t now);
/** ckpt_sessions_tidy - remove the store's sessions that are of no use any more. */
void ckpt_sessions_tidy(int store_fd);

/* --- running.c ------------------------------------------------------------------------- */

/**
 * ckpt_running_enter - this process saves the open checkpoint @name, for ckpt_running_each(). What
 * cannot be noted is not noted.
 */
void ckpt_running_enter(const struct ckpt_store *store, const char *name);
/** ckpt_running_leave - it does not any more. */
void ckpt_running_leave(const struct ckpt_store *store);

/* Left where a committed name is written again: what a dead writer of ours began may be dropped. */
#define CKPT_REPLACES_FILE CKPT_CONTROL_DIR "/replaces"

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
	uid_t uid;
	/* File: what a session tells of it, in the state that it has here; or NULL. Borrowed. */
	const struct ckpt_known_shard *told;
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
	const char *path;	       /* borrowed from the tree or from a known shard */
	struct ckpt_tree_entry *entry; /* in the tree; NULL for a pack */
	const struct ckpt_known_shard
		*known; /* what a writer or a session said of it, or NULL; never of a pack */
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
	struct ckpt_known_shard **told; /* by sessions; see ckpt_tree_entry */
	size_t told_count, told_cap;
	struct ckpt_commit_file *files; /* the scanned ones by path, then the packs */
	size_t file_count, file_cap;
	uint64_t bytes_total; /* to be hashed */
	_Atomic uint64_t bytes_done;
	bool file_system_synced; /* all of it, so no folder of the checkpoint is left */
	struct ckpt_manifest manifest;
	bool own_tensors; /* the tensors in the manifest were found here, not given */
};

/** ckpt_commit_tick - call the caller's progress; -ECANCELED when it wants no more. Thread-safe. */
int ckpt_commit_tick(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

/* session_read.c */
/**
 * ckpt_commit_gather - what the sessions of the checkpoint and of the store tell of the files in
 * commit->tree, where inode and stamps fit. A session that cannot be read tells nothing. -ENOMEM.
 */
int ckpt_commit_gather(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_commit_forget_told(struct ckpt_commit *commit);

/* commit_publish.c */
/** ckpt_commit_is_temporary - it has the name of an open checkpoint, so it is to be renamed. */
bool ckpt_commit_is_temporary(const struct ckpt_commit *commit);
/** ckpt_commit_check_target - may it have its lasting name? -EEXIST, -EPERM, -EINVAL, -ENOENT. */
int ckpt_commit_check_target(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_commit_publish - steps 5 and 6; on failure nothing of them is left. */
int ckpt_commit_publish(struct ckpt_commit *commit, const struct ckpt_buf *text,
			struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_commit_unpublish - take the manifest away again: it stays open. */
void ckpt_commit_unpublish(const struct ckpt_commit *commit);
/** ckpt_commit_publish_name - step 6. */
int ckpt_commit_publish_name(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

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
/**
 * ckpt_commit_freeze - lease every scanned file, for a commit that has nothing to sum; those that
 * may be open at once stay so. -EBUSY, -ESTALE name the file.
 */
int ckpt_commit_freeze(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_commit_thaw - let go of all that is frozen, as if nothing had been listed. */
void ckpt_commit_thaw(struct ckpt_commit *commit);
/**
 * ckpt_commit_find_written - a scanned file that some process can write now; NULL: none, or leases do
 * not tell. Borrowed.
 */
const char *ckpt_commit_find_written(const struct ckpt_commit *commit);
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
/**
 * ckpt_commit_drop_tensors - out of the manifest, bytes entries too, released as far as they are
 * ours.
 */
void ckpt_commit_drop_tensors(struct ckpt_commit *commit);
/** ckpt_commit_print - the manifest's text, checked by the reader's own rules. */
int ckpt_commit_print(struct ckpt_commit *commit, struct ckpt_buf *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* commit_tensors.c */
/**
 * ckpt_commit_catalogue - the tensors that the files tell of into commit->manifest; what is not
 * understood is left out. Errors: -EBADMSG a CRC-32 in an archive is wrong; system, also where a
 * file cannot be read.
 */
int ckpt_commit_catalogue(struct ckpt_commit *commit, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- verify_deep.c --------------------------------------------------------------------- */

/**
 * ckpt_verify_deep - with options->deep: compare the CRC-32s in the archives of a checkpoint; of
 * several parts the first does it all
 * @result: findings are counted in it. Errors: as ckpt_contents_check.
 */
int ckpt_verify_deep(int dirfd, const char *label, const struct ckpt_manifest *manifest,
		     const struct ckpt_verify_options *options, struct ckpt_verify_result *result,
		     struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- verify_learn.c -------------------------------------------------------------------- */

/* Whole digests that a verification makes, because the manifest lacks them. */
struct ckpt_learning {
	bool *unknown; /* one a shard: it is to be read as a whole, in order */
	struct ckpt_digest manifest_sum;
	struct ckpt_catalog catalog; /* what was learned before */
	struct ckpt_learned *learned;
	size_t learned_count, learned_cap;
};
/** ckpt_learning_begin - find out what is unknown; nothing without options->store. */
int ckpt_learning_begin(struct ckpt_learning *learning, const struct ckpt_verify_options *options,
			int dirfd, const char *label, const struct ckpt_manifest *manifest,
			struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_learning_add - the shard number @shard_idx was read, and is right. -ENOMEM. */
int ckpt_learning_add(struct ckpt_learning *learning, size_t shard_idx, struct ckpt_digest xxh128)
	CKPT_MUST_CHECK;
/** ckpt_learning_keep - write it into the store's catalog and its index, where that can be done. */
void ckpt_learning_keep(struct ckpt_learning *learning, const struct ckpt_verify_options *options,
			const char *label, const struct ckpt_manifest *manifest);
void ckpt_learning_release(struct ckpt_learning *learning);

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
