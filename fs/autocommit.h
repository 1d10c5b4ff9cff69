/*
 * autocommit.h - commits by completion rules (store/rules.h): a folder in which this mount saw the
 * file that completes it is committed when it has been quiet, without open writers and without
 * changes, for the time that the option autocommit= says. What was committed so is open again when
 * this mount writes to it within ten minutes.
 */
#ifndef CKPT_FS_AUTOCOMMIT_H
#define CKPT_FS_AUTOCOMMIT_H

#include "base/err.h"
#include "fs.h"

struct autocommit;

/** autocommit_new - start its thread; NULL @out with -o ro or autocommit=off. */
int autocommit_new(struct fs *fs, struct autocommit **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void autocommit_free(struct autocommit *autocommit);

/**
 * autocommit_saw - something was made, renamed to, or closed after writing at @path (below the
 * store). Cheap: no system call.
 */
void autocommit_saw(struct fs *fs, const char *path);
/**
 * autocommit_reopen - somebody writes to the checkpoint @name, which is committed (-EROFS) or being
 * committed (-EBUSY): a commit by rule that runs is given up; one that a rule made here within ten
 * minutes is taken back: its manifest is set aside, so that it is open again (one log line)
 * On 0 the caller tries once more.
 * Errors: -EROFS it is committed, and not by a rule of this mount, or is pinned; -EBUSY somebody
 * else commits it. In a worker: it may wait for the commit to end.
 */
int autocommit_reopen(struct fs *fs, const char *name) CKPT_MUST_CHECK;

#endif
