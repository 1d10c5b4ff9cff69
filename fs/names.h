/* names.h - what names.c and rename.c share: requests about names in folders. */
#ifndef CKPT_FS_NAMES_H
#define CKPT_FS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"
#include "request.h"

/**
 * names_begin - a request for @name in the folder @parent, with @arg_bytes, zeroed, of its own.
 * False: it was answered.
 */
bool names_begin(struct request *rq, fuse_req_t req, fuse_ino_t parent, const char *name,
		 size_t arg_bytes, int (*run)(struct request *rq)) CKPT_MUST_CHECK;
/** names_reply - tell the caller that it was done (@rc 0); hands @rc through. */
int names_reply(struct request *rq, int rc) CKPT_MUST_CHECK;
/** names_path - path of a name in a plain folder, as it is stored (appended). -ESTALE. */
int names_path(struct fs *fs, fuse_ino_t parent, const char *name, struct ckpt_buf *out)
	CKPT_MUST_CHECK;
/**
 * names_check_places - -EXDEV where the two paths lie in different open checkpoints: a file belongs
 * to one.
 */
int names_check_places(struct fs *fs, const char *from, const char *to) CKPT_MUST_CHECK;

#endif
