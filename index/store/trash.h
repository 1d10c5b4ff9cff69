/*
 * trash.h - removed checkpoints, pins, and what the dead have left. What is on disk is
 * the state: a removed checkpoint lies in `.ckptfs/trash/ROOM/`, a pinned one has a file
 * `.ckptfs/pins/ID`. Source: ckptfs-format(5) "The trash", "Pins".
 */
#ifndef CKPT_STORE_TRASH_H
#define CKPT_STORE_TRASH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct ckpt_store;

#define CKPT_TRASH_DIR ".ckptfs/trash"
#define CKPT_PINS_DIR ".ckptfs/pins"
/* How long a removed checkpoint is kept, unless somebody says otherwise. */
#define CKPT_TRASH_MAX_AGE_SECS UINT64_C(86400)

/* --- removing, and bringing back ---------------------------------------------------------- */

/**
 * ckpt_trash_prepare - make the trash, so that removing needs no room on a disk that is full
 * Errors: system; who calls it ahead of need may ignore them. Thread-safe: yes, as all of these.
 */
int ckpt_trash_prepare(struct ckpt_store *store) CKPT_MUST_CHECK;

/**
 * ckpt_trash_remove - move the committed checkpoint @name into the trash, durably: one rename
 * @out_room: receives its place, a name in the trash that begins with its id; NULL: not wanted
 * Errors: -ENOENT; -EPERM it is pinned; -EINVAL it is no committed checkpoint (says what to do);
 * -EBUSY a commit holds it; else system. On failure nothing has changed.
 * On a full disk it takes no room but a name in the trash. Cost: one stat an entry.
 */
int ckpt_trash_remove(struct ckpt_store *store, const char *name, struct ckpt_buf *out_room,
		      struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_trash_find - the removed checkpoint that @text means: the one of that name that was removed
 * last, else the one whose room or id it is
 * @out_room: receives its place. Errors: -ENOENT; system.
 */
int ckpt_trash_find(struct ckpt_store *store, const char *text, struct ckpt_buf *out_room,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_trash_folder - path below the store of the removed checkpoint's own folder in the trash
 * (appended). -ENOENT.
 */
int ckpt_trash_folder(struct ckpt_store *store, const char *room, struct ckpt_buf *out,
		      struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_trash_restore - bring a removed checkpoint back to the name it had, durably
 * Folders above it that are gone are made. *@out_name (appended): that name.
 * Errors: -ENOENT; -EEXIST the name is taken (nothing but an empty folder is replaced); -EINVAL the
 * name lies in another checkpoint now.
 */
int ckpt_trash_restore(struct ckpt_store *store, const char *room, struct ckpt_buf *out_name,
		       struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- what lies there, and getting rid of it ------------------------------------------------ */

/* One removed checkpoint. Strings are borrowed until the callback returns. */
struct ckpt_removed {
	const char *room; /* its folder's name in the trash */
	const char *name; /* what it was called */
	const char *id;
	uint64_t seq;
	bool has_step;
	uint64_t step;
	uint64_t shard_count;
	uint64_t size_bytes; /* of its shards */
	uint64_t disk_bytes; /* that purging it frees */
	const char *removed; /* RFC 3339 */
	uint64_t age_secs;
	bool is_kept; /* its group has no committed one left: only who asks for it purges it */
};

/**
 * ckpt_trash_walk - every removed checkpoint, oldest removal first; non-zero of @fn stops and is
 * returned.
 */
int ckpt_trash_walk(struct ckpt_store *store,
		    int (*fn)(void *ctx, const struct ckpt_removed *removed), void *ctx,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

struct ckpt_purge_options {
	const char *below;     /* only what had a name at or below this; NULL or "": all */
	uint64_t max_age_secs; /* those of that age and more are purged; UINT64_MAX: none by age */
	uint64_t want_bytes;   /* then the oldest until so much is freed; 0: none */
	bool last_too;	       /* also those that are kept, see is_kept */
	bool dry_run;	       /* only tell */
	void (*purged)(void *ctx, const struct ckpt_removed *removed); /* NULL, or told of each */
	void *ctx;
};
struct ckpt_purge_result {
	uint64_t checkpoint_count;
	uint64_t freed_bytes; /* disk blocks */
	uint64_t kept_count;  /* that would have been purged, see is_kept */
	uint64_t swept_count; /* rooms that an abort, a removal or a purge that died has left */
};
/**
 * ckpt_trash_purge - remove for good; two purges exclude each other, the second waits Goes on
 * behind one that cannot be removed. Errors: -EINTR a signal came while it waited; the first
 * failure; @out is filled in all the same.
 */
int ckpt_trash_purge(struct ckpt_store *store, const struct ckpt_purge_options *options,
		     struct ckpt_purge_result *out, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_trash_bytes - disk bytes that a purge of all but the kept ones would free; cheap: what
 * removed.json of each says.
 */
int ckpt_trash_bytes(struct ckpt_store *store, uint64_t *out, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- pins ------------------------------------------------------------------------------------ */

/**
 * ckpt_pin / ckpt_unpin - a pinned checkpoint cannot be removed. *@out_was: it was so already.
 * -ENOENT; -EINVAL not committed.
 */
int ckpt_pin(struct ckpt_store *store, const char *name, bool *out_was, struct ckpt_err *err)
	CKPT_MUST_CHECK;
int ckpt_unpin(struct ckpt_store *store, const char *name, bool *out_was, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_is_pinned - one stat; where that fails, it is: a pin is there to keep something. */
bool ckpt_is_pinned(const struct ckpt_store *store, const char *id);

/* --- what the dead have left ------------------------------------------------------------------ */

struct ckpt_leftovers_options {
	const char *
		below; /* only in checkpoints at or below this; NULL or "": all, and in the store */
	uint64_t max_age_secs; /* the store's sessions that were not touched for so long go */
	bool dry_run;
	void (*removed)(void *ctx,
			const char *path); /* NULL, or told of each, by its path below the store */
	void *ctx;
};

/**
 * ckpt_leftovers_sweep - remove locks and sessions of dead processes from committed checkpoints,
 * and old sessions from the store; *@out_count files. Open checkpoints are not touched.
 */
int ckpt_leftovers_sweep(struct ckpt_store *store, const struct ckpt_leftovers_options *options,
			 uint64_t *out_count, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
