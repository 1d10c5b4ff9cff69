/*
 * trash_internal.h - rooms of the trash: where one removed checkpoint lies, and what is known of
 * it. May be included only by index/store/{trash,trash_record,trash_list,trash_purge,pins}.c.
 *
 * A room is a folder `.ckptfs/trash/ROOM`. As a rule it holds removed.json and the checkpoint's
 * folder. On a full disk, which has no room for either, the checkpoint's folder itself becomes the
 * room, whose name then tells what the checkpoint was called ("bare").
 */
#ifndef CKPT_STORE_TRASH_INTERNAL_H
#define CKPT_STORE_TRASH_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "store/store.h"

#define CKPT_REMOVED_FILE "removed.json"
/* Before the name of a room that is being purged: never brought back. */
#define CKPT_ROOM_PURGING "purging-"
/* The same for one in which nothing lies, as it seems, while that is made sure of. */
#define CKPT_ROOM_SWEPT "swept-"
/* In the name of a bare room, between the id and the escaped name. */
#define CKPT_ROOM_BARE '~'

enum ckpt_room_kind {
	CKPT_ROOM_WHOLE,   /* a removed checkpoint */
	CKPT_ROOM_HALF,	   /* made, and nothing came into it; or its checkpoint was brought back */
	CKPT_ROOM_DROPPED, /* what an abort that died has left */
	CKPT_ROOM_DEAD,	   /* what a purge that died has left */
};

/* What is known of one room. */
struct ckpt_trash_record {
	enum ckpt_room_kind kind;
	char *room;
	/* Of a whole one: */
	char *name;
	char *folder; /* the checkpoint's own, below the store */
	bool is_bare;
	char id[37];
	uint64_t seq;
	bool has_step;
	uint64_t step;
	uint64_t shard_count;
	uint64_t size_bytes;
	uint64_t disk_bytes;
	char removed[CKPT_RFC3339_SIZE];
	uint64_t age_secs; /* of the others: since anything happened to the room */
};

/* --- trash_record.c ------------------------------------------------------------------------ */

void ckpt_trash_record_release(struct ckpt_trash_record *record);
/**
 * ckpt_trash_record_of - what is known of the committed checkpoint in the folder @dirfd, called
 * @name, that is to be removed now
 * @out_damaged: its manifest cannot be used: the id is made up, and counts are 0
 */
int ckpt_trash_record_of(int dirfd, const char *name, struct ckpt_trash_record *out,
			 bool *out_damaged, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_trash_record_write - removed.json in its room, durable. */
int ckpt_trash_record_write(int store_fd, const struct ckpt_trash_record *record,
			    struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_trash_record_read - look at the room. -ENOENT there is none; else system. */
int ckpt_trash_record_read(int store_fd, const char *room, struct ckpt_trash_record *out,
			   struct ckpt_err *err) CKPT_MUST_CHECK;

/** ckpt_room_path - ".ckptfs/trash/ROOM" (appended). */
void ckpt_room_path(struct ckpt_buf *out, const char *room);
/** ckpt_room_folder_path - the same with the folder of a checkpoint called @name. */
void ckpt_room_folder_path(struct ckpt_buf *out, const char *room, const char *name);
/**
 * ckpt_room_bare_name - what tells the @name in a bare room's name; "" where it is too long for
 * that (appended).
 */
void ckpt_room_bare_name(struct ckpt_buf *out, const char *name);

/* --- trash_list.c -------------------------------------------------------------------------- */

struct ckpt_trash_record_list {
	struct ckpt_trash_record *items; /* oldest removal first */
	size_t count, cap;
};
/**
 * ckpt_trash_record_list_read - every room. ckpt_removed_list_release() it, also after a failure.
 */
int ckpt_trash_record_list_read(struct ckpt_store *store, struct ckpt_trash_record_list *out,
				struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_removed_list_release(struct ckpt_trash_record_list *list);

/* A group that was looked at for committed checkpoints. */
struct ckpt_group_look {
	char *name;
	bool has_committed;
};
struct ckpt_group_memo {
	struct ckpt_store *store;
	struct ckpt_group_look *groups;
	size_t count, cap;
};
/**
 * ckpt_trash_record_is_kept - has its group no committed checkpoint left? Each group is looked at
 * once.
 */
int ckpt_trash_record_is_kept(struct ckpt_group_memo *memo, const struct ckpt_trash_record *record,
			      bool *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_group_memo_release(struct ckpt_group_memo *memo);
/** ckpt_trash_record_tell - for callbacks; borrows from @record. */
struct ckpt_removed ckpt_trash_record_tell(const struct ckpt_trash_record *record, bool is_kept);

/* --- pins.c -------------------------------------------------------------------------------- */

/**
 * ckpt_is_pinned_by_name - has any pin the name @name? For a checkpoint whose damaged manifest does
 * not tell its id.
 */
bool ckpt_is_pinned_by_name(const struct ckpt_store *store, const char *name);

/** ckpt_give_to_owner - what root makes in a user's store is that user's, as the store is. */
void ckpt_give_to_owner(int store_fd, const char *path);

#endif
