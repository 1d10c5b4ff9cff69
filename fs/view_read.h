/* view_read.h - views that are open, and reading them. */
#ifndef CKPT_FS_VIEW_READ_H
#define CKPT_FS_VIEW_READ_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/err.h"
#include "request.h"

struct view_open;

/**
 * view_open_new - make a view ready for reading; view_open_free() it
 * @shown: what stat(2) says of it
 * Errors: RC_VIEWS_FIRST; -EISDIR; -ESTALE; -ENOMEM.
 */
int view_open_new(struct fs *fs, fuse_ino_t ino, struct view_open **out, struct stat *shown)
	CKPT_MUST_CHECK;
void view_open_free(struct view_open *view);
/** view_open_generation - which tree it is of. */
uint64_t view_open_generation(const struct view_open *view);
/** view_read - answer a read; in a worker. RC_PARKED; RC_LOAD_FIRST; -EIO (logged). */
int view_read(struct request *rq, struct view_open *view) CKPT_MUST_CHECK;
/** view_is_mapped - was it ever read for pages of the kernel, as mappings are? Told by view_read(). */
bool view_is_mapped(const struct view_open *view);

#endif
