/*
 * resave.h - with -o resave=replace: a committed name that is written again. The new files go to
 * the open folder NAME.partial, which this mount shows under NAME until it is committed; then the
 * old one goes to the trash. Without that option nothing here does anything but refuse.
 *
 * A plain node in there has its stored path, with NAME.partial in it: what commits by paths finds
 * the open folder by itself. What is given names as the mount shows them asks resave_stored() first.
 */
#ifndef CKPT_FS_RESAVE_H
#define CKPT_FS_RESAVE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"

struct resaves *resaves_new(void);
void resaves_free(struct resaves *resaves);

/**
 * resave_begin - somebody creates a file in the committed checkpoint @slot, or opens one of it for
 * writing. In a worker.
 * Errors: -ESTALE the name leads to the open folder now: the kernel looks it up again and tries
 * once more; -EROFS it must not, -EBUSY something is in the way (the log says what to do).
 */
int resave_begin(struct fs *fs, uint64_t slot) CKPT_MUST_CHECK;
/**
 * resave_redirect - the stored name that @name in the folder @parent_path means for this mount:
 * NAME.partial while it is written again (appended). -ENOENT: itself.
 */
int resave_redirect(struct fs *fs, const char *parent_path, const char *name, struct ckpt_buf *out)
	CKPT_MUST_CHECK;
/** resave_stored - the same of a whole path; only its last component may be such a name. */
int resave_stored(struct fs *fs, const char *path, struct ckpt_buf *out) CKPT_MUST_CHECK;
/**
 * resave_is_stored - is @path, below the store, such an open folder? Then it is to be committed as
 * if its name were a lasting one.
 */
bool resave_is_stored(struct fs *fs, const char *path);
/**
 * resave_hides - is @name in @parent_path such an open folder, that is listed under its lasting
 * name only?
 */
bool resave_hides(struct fs *fs, const char *parent_path, const char *name);
/** resave_ended - the checkpoint @name (lasting) was committed, dropped or renamed. */
void resave_ended(struct fs *fs, const char *name);

#endif
