/*
 * mounting.h - what comes before a mount, and running mount.ckptfs, which does the work: what
 * people get wrong is checked, and a dead mount is cleared out of the way.
 */
#ifndef CKPT_CLI_MOUNTING_H
#define CKPT_CLI_MOUNTING_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/options.h"

/* What a child that cannot run mount.ckptfs exits with. */
#define MOUNTING_NOT_FOUND 127

struct mounting {
	struct ckpt_buf store_path; /* absolute */
	struct ckpt_buf point;	    /* absolute, as the kernel spells it */
	bool is_mounted;	    /* the store is mounted there already */
};

/**
 * mounting_prepare - can @store, or a folder that is no store, be mounted on @point (NULL: over itself)?
 * mounting_release() it, also after a failure. Errors: what is wrong, with the remedy.
 */
int mounting_prepare(const char *store, const char *point, struct mounting *out,
		     struct ckpt_err *err) CKPT_MUST_CHECK;
void mounting_release(struct mounting *mounting);

/**
 * mounting_program - path of mount.ckptfs, for execvp(3): beside our own, in the sbin next to that,
 * else left to PATH.
 */
void mounting_program(struct ckpt_buf *out);
/**
 * mounting_argv - its command line, with @extra (ended by NULL) before the user's @options;
 * mounting_argv_free() it. NULL: out of memory.
 */
char **mounting_argv(const struct mounting *mounting, const struct option_list *options,
		     const char *const extra[]);
void mounting_argv_free(char **argv);
/**
 * mounting_code - enum cli_exit for how it ended (waitpid(2)), which has said why; or a negative
 * errno.
 */
int mounting_code(int status, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
