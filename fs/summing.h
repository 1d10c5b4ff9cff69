/*
 * summing.h - sums in the background: from the last close of a plain file on, it is made durable
 * and summed, and the result is left in a session (store/write_session.h), so that a commit reads nothing
 * again.
 *
 * A file is known by (dev, ino). Its sums are trusted for as long as its stamps are those it had;
 * when this daemon itself changes an attribute or a name of it, it says so, and they go on being
 * trusted.
 */
#ifndef CKPT_FS_SUMMING_H
#define CKPT_FS_SUMMING_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/err.h"
#include "fs.h"

struct summing;

/** summing_new - start its threads; summing_free() ends them, leaving every session idle. */
int summing_new(struct fs *fs, struct summing **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void summing_free(struct summing *summing);

/**
 * summing_opened - a file is opened for writing: what was known of its bytes is void, and its
 * session says so.
 */
void summing_opened(struct fs *fs, fuse_ino_t ino, const struct stat *st);
/**
 * summing_closed - the last handle by which this mount could write the plain node @ino was
 * released. Cheap; the file is opened again by the thread that sums it, or not at all where it is
 * gone by then.
 */
void summing_closed(struct fs *fs, fuse_ino_t ino);
/**
 * summing_restamped - this daemon renamed or linked a file, or changed an attribute: @before it
 * did, and @after.
 */
void summing_restamped(struct fs *fs, const struct stat *before, const struct stat *after);
/**
 * summing_settle - have the sums of all files below the folder @path made and written down, now
 * @given_up: asked now and then; true ends the wait
 * Errors: -ECANCELED; -EIO a file could not be made durable (the log names it). Files that somebody
 * can write are not waited for.
 */
int summing_settle(struct fs *fs, const char *path, bool (*given_up)(void *ctx), void *ctx)
	CKPT_MUST_CHECK;
/** summing_committed - the folder @path is committed or gone: forget its files and its session. */
void summing_committed(struct fs *fs, const char *path);
/**
 * summing_is_busy - is a file at or below @path open for writing by this mount, or was a file there
 * changed in the last @quiet_ms?
 */
bool summing_is_busy(struct fs *fs, const char *path, uint64_t quiet_ms);

/* What this mount has to do with the files of one open checkpoint. */
struct summing_tally {
	const char *name;
	size_t open_count;    /* may be written */
	size_t pending_count; /* closed, and not all is written down of */
};
/** summing_each - every open checkpoint that this mount writes; @fn must not wait for anything. */
void summing_each(struct fs *fs, void (*fn)(void *ctx, const struct summing_tally *tally),
		  void *ctx);

#endif
