/*
 * copy_target.h - where a copy goes: DEST, or DEST/NAME where DEST is a folder, as cp -r has it. It
 * grows under NAME.partial and gets its name at the end, so that it is whole or is not there.
 */
#ifndef CKPT_CLI_COPY_TARGET_H
#define CKPT_CLI_COPY_TARGET_H

#include <stdbool.h>

#include "base/err.h"
#include "store/store.h"

struct target {
	char *dir;		 /* a folder that exists */
	char *name;		 /* what is not yet in it */
	struct ckpt_place place; /* store_path NULL: in no store */
	bool in_checkpoint;
};

/**
 * target_open - what @dest means for a copy of something called @name; target_release() it, also
 * after a failure
 * @is_checkpoint: it is a whole one, which never lies in another
 * Errors: -EEXIST; -EROFS it would lie in a committed checkpoint; -EINVAL; system.
 */
int target_open(const char *dest, const char *name, bool is_checkpoint, struct target *out,
		struct ckpt_err *err) CKPT_MUST_CHECK;
void target_release(struct target *target);

/**
 * target_fill - have @fill make @temp, a file or a folder, in the folder @dir_fd; then give it the
 * target's name. After a failure nothing is left of it.
 * Errors: -EEXIST what a killed copy left is in the way; those of @fill; system.
 */
int target_fill(const struct target *target,
		int (*fill)(void *ctx, int dir_fd, const char *temp, struct ckpt_err *err),
		void *ctx, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
