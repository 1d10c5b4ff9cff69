/*
 * store_internal.h - what the files of index/store share among themselves.
 * May be included only by index/store/<anything>.c.
 */
#ifndef CKPT_STORE_STORE_INTERNAL_H
#define CKPT_STORE_STORE_INTERNAL_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
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
 * symlink. -ENOENT: there is none that is a regular file.
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

/* --- owner.c: who holds an open checkpoint ---------------------------------------- */

/* The process that wrote a commit.lock or a session file. */
struct ckpt_owner {
	char host[256];
	char boot_id[37];
	int64_t pid;
	uint64_t start_ticks; /* /proc/PID/stat field 22: tells a reused pid apart */
	uint64_t pid_ns; /* inode of its PID namespace: in another one the pid means another process */
};

#define CKPT_COMMIT_LOCK ".ckptfs/commit.lock"
#define CKPT_ABORTED_FILE ".ckptfs/aborted.json"
#define CKPT_SESSION_PREFIX "session-"
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
 * ckpt_session_holder - a living writer's session, printed ("writer on HOST, pid N") into @out;
 * -ENOENT there is none. *@out_any: some session file exists, living or dead.
 */
int ckpt_session_holder(int dirfd, bool *out_any, struct ckpt_buf *out) CKPT_MUST_CHECK;

#endif
