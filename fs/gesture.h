/*
 * gesture.h - commits through the mount, whatever asks for one: a rename from a temporary to a
 * lasting name, an ioctl, a completion rule. All of them freeze the folder, settle its sums, call
 * the one commit routine, and tell tables, kernel and log. Long: only in a worker of the tasks
 * lane, or a thread of its own.
 */
#ifndef CKPT_FS_GESTURE_H
#define CKPT_FS_GESTURE_H

#include <stdbool.h>

#include "base/err.h"
#include "fs.h"

struct gesture {
	const char *name;	/* the open checkpoint */
	const char *final_name; /* or NULL: struct ckpt_commit_options */
	bool replace;
	bool skip_crc;
	bool has_step;
	uint64_t step;
	const char *meta; /* or NULL */
	/*
	 * The completion rule that asks; NULL: none. It logs failures itself, for most of them
	 * pass.
	 */
	const char *rule;
	bool (*given_up)(void *ctx); /* asked now and then; true cancels: it stays open */
	void *ctx;
};

/**
 * gesture_commit - @out: free(out->name)
 * Errors: as ckpt_commit(); -EIO a file could not be made durable. Success and failure are logged.
 * On success the kernel is told to ask again, and fs/summing.h to forget.
 */
int gesture_commit(struct fs *fs, const struct gesture *gesture, struct ckpt_commit_result *out,
		   struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * gesture_is_rename - is renaming the folder @from to @to (paths below the store) a commit?
 * Its old name is temporary, the new one is not, and it is an open checkpoint with at least one
 * file in it that is no checkpoint's itself. Reads the folder.
 */
bool gesture_is_rename(struct fs *fs, const char *from, const char *to);

/**
 * gesture_relocate - what has the name @path now may have had another one before: the node of it
 * moves.
 */
void gesture_relocate(struct fs *fs, const char *path);
/** gesture_forget_name - have the kernel ask again for the name @path, soon; from any thread. */
void gesture_forget_name(struct fs *fs, const char *path);
/**
 * gesture_forget_now - the same before it returns; never from a thread that the kernel waits for.
 */
void gesture_forget_now(struct fs *fs, const char *path);
/** gesture_stop - the mount ends; what is to be forgotten is, or the kernel does it by itself. */
void gesture_stop(void);

#endif
