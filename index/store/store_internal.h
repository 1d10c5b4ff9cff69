/*
 * store_internal.h - what the files of index/store share among themselves.
 * May be included only by index/store/<anything>.c.
 */
#ifndef CKPT_STORE_STORE_INTERNAL_H
#define CKPT_STORE_STORE_INTERNAL_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"

/**
 * ckpt_store_next_seq - take the next sequence number: one more than the highest that
 * `.ckptfs/seq` and the manifests show, kept there under a lock held for milliseconds. -EOVERFLOW
 * above CKPT_SEQ_MAX.
 */
int ckpt_store_next_seq(struct ckpt_store *store, uint64_t *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* --- store.c -------------------------------------------------------------------------- */

/**
 * ckpt_store_file_read - the id in the store.json of @dirfd; @dir is for messages. -ENOENT no
 * store; -ENOTSUP, -EBADMSG.
 */
int ckpt_store_file_read(int dirfd, const char *dir, char id[37], struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* --- state.c: looking at folders ---------------------------------------------------- */

/**
 * ckpt_manifest_stat - stat the manifest of the folder @name ("" is @dirfd itself), following no
 * symlink. -ENOENT there is none; -EBADMSG something is in its place that is no regular file.
 */
int ckpt_manifest_stat(int dirfd, const char *name, struct stat *out) CKPT_MUST_CHECK;
/**
 * ckpt_state_find_above - append the name of the checkpoint that the folder @name lies in, in
 * whatever state. -ENOENT: in none.
 */
int ckpt_state_find_above(int store_fd, const char *name, struct ckpt_buf *out,
			  struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_dir_open - open a folder for reading its names, following no symlink; closedir() it. */
int ckpt_dir_open(int dirfd, const char *path, DIR **out) CKPT_MUST_CHECK;
/** ckpt_dirent_is_dir - is the entry, whose d_type is @type, a folder? */
int ckpt_dirent_is_dir(int dirfd, const char *name, unsigned char type, bool *out) CKPT_MUST_CHECK;

/* --- catalog.c: what was learned of a checkpoint after its commit ------------------- */

struct ckpt_catalog_item {
	char *path; /* of a shard whose whole digest the manifest lacks */
	struct ckpt_digest xxh128;
};
struct ckpt_catalog {
	struct ckpt_catalog_item *items; /* ordered by path, when loaded or saved */
	size_t count, cap;
};
/* The same of one shard, by its place among the shards of the manifest. */
struct ckpt_learned {
	size_t shard_idx;
	struct ckpt_digest xxh128;
};

/**
 * ckpt_catalog_load - of the checkpoint @id, whose manifest's end line says @manifest
 * Errors: -ENOENT there is none that is whole and fits; -ENOMEM.
 */
int ckpt_catalog_load(int store_fd, const char *id, struct ckpt_digest manifest,
		      struct ckpt_catalog *out) CKPT_MUST_CHECK;
int ckpt_catalog_add(struct ckpt_catalog *catalog, const char *path, struct ckpt_digest xxh128)
	CKPT_MUST_CHECK;
/** ckpt_catalog_find - NULL where it does not say; of one that is ordered. */
const struct ckpt_digest *ckpt_catalog_find(const struct ckpt_catalog *catalog, const char *path);
/** ckpt_catalog_save - order and publish it. */
int ckpt_catalog_save(const struct ckpt_store *store, const char *id, struct ckpt_digest manifest,
		      struct ckpt_catalog *catalog, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_catalog_release(struct ckpt_catalog *catalog);
/** ckpt_catalog_drop - the checkpoint is gone for good. */
void ckpt_catalog_drop(int store_fd, const char *id);
/**
 * ckpt_catalog_tell_index - put what was learned into the index of the checkpoint @name, whose
 * first shard is on the line @first_line
 */
void ckpt_catalog_tell_index(struct ckpt_store *store, const char *name,
			     struct ckpt_digest manifest, uint32_t first_line,
			     const struct ckpt_learned *items, size_t count);

/* --- owner.c: who holds an open checkpoint ---------------------------------------- */

/* The process that wrote a commit.lock or a session file. */
struct ckpt_owner {
	char host[256];
	char boot_id[37];
	int64_t pid;
	uint64_t start_ticks; /* /proc/PID/stat field 22: tells a reused pid apart */
	uint64_t pid_ns; /* inode of its PID namespace: in another one the pid means another process */
			 /* "", 0 and 0: not told, which only a session may leave out. */
};

#define CKPT_COMMIT_LOCK ".ckptfs/commit.lock"
#define CKPT_ABORTED_FILE ".ckptfs/aborted.json"
#define CKPT_SESSION_PREFIX "session-"
/* The store's own sessions. */
#define CKPT_SESSIONS_DIR ".ckptfs/sessions"
/* A session that was not touched for so long, by the file system's own clock, is dead. */
#define CKPT_SESSION_DEAD_SECS 60

/** ckpt_owner_self - this process. */
int ckpt_owner_self(struct ckpt_owner *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_owner_print / ckpt_owner_parse - one JSON object. -EBADMSG. */
void ckpt_owner_print(const struct ckpt_owner *owner, struct ckpt_buf *out);
int ckpt_owner_parse(const char *text, size_t len_bytes, struct ckpt_owner *out) CKPT_MUST_CHECK;
/**
 * ckpt_owner_alive - does it still run? On another host, or in another PID namespace, nobody can
 * tell: true.
 */
bool ckpt_owner_alive(const struct ckpt_owner *owner);
bool ckpt_owner_is_same(const struct ckpt_owner *a, const struct ckpt_owner *b);

/**
 * ckpt_lock_take - create commit.lock in the checkpoint (making its control folder); takes over a
 * dead owner's. -EBUSY names the owner.
 */
int ckpt_lock_take(int dirfd, const char *label, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_lock_drop(int dirfd);
/**
 * ckpt_lock_holder - the living holder of commit.lock, printed into @out; -ENOENT there is none.
 */
int ckpt_lock_holder(int dirfd, struct ckpt_buf *out) CKPT_MUST_CHECK;
/**
 * ckpt_session_holder - a living session that a commit waits for, printed ("writer on HOST, pid N")
 * into @out; -ENOENT there is none. *@out_any: some session file exists, living or dead.
 */
int ckpt_session_holder(int dirfd, bool *out_any, struct ckpt_buf *out) CKPT_MUST_CHECK;
/**
 * ckpt_leftovers_drop - remove what a commit that was killed behind its commit point left in the
 * committed checkpoint @name: the lock and the sessions of the dead. What cannot be removed stays.
 */
void ckpt_leftovers_drop(const struct ckpt_store *store, const char *name);

/* --- state_names.c --------------------------------------------------------------------- */

/** ckpt_name_is_numbered - is the component one that tools give to checkpoints, with a number in it? */
bool ckpt_name_is_numbered(const char *component);
/**
 * ckpt_name_is_part - is the component one that tools give to a folder of a checkpoint, and never to
 * a checkpoint (accelerate's `pytorch_model_fsdp_0` and `optimizer_0`, DCP's `sharded`)?
 */
bool ckpt_name_is_part(const char *component);
/** ckpt_name_is_trainer - `checkpoint-N`, as transformers calls them? */
bool ckpt_name_is_trainer(const char *component);

static inline bool ckpt_has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static inline bool ckpt_has_suffix(const char *text, const char *suffix)
{
	size_t len = strlen(text);
	size_t suffix_len = strlen(suffix);

	return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

#endif
