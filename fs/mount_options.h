/* mount_options.h - the command line of mount.ckptfs, and what mount(8) and fstab(5) add to it. */
#ifndef CKPT_FS_MOUNT_OPTIONS_H
#define CKPT_FS_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* When are the bytes of a committed shard compared with their sums? */
enum verify_when {
	VERIFY_AUTO, /* at first open; those of more than verify_open_max by the block, and in the background */
	VERIFY_OPEN, /* at first open */
	VERIFY_READ, /* at every read */
	VERIFY_OFF,
};

struct mount_options {
	char *store_path;  /* absolute, without symlinks; where bare, of the folder */
	char *mount_point; /* absolute, without symlinks */
	char *index_path;  /* absolute; NULL: the usual place */
	char *log_path;	   /* absolute; NULL: syslog, or stderr with --foreground */
	bool log_syslog;   /* syslog in any case */
	bool read_only;	   /* show only what is committed */
	bool bare; /* set by start_check: the folder is no store; it is shown, and never written */
	bool allow_other;
	bool noexec;
	bool passthrough_off;
	enum verify_when verify;
	uint64_t verify_open_max; /* bytes; larger shards are not verified before they can be read, but with VERIFY_OPEN */
	uint64_t verify_ttl_ms;	     /* how long a verification is trusted */
	uint64_t autocommit_ms;	     /* quiet time before a rule commits; 0: rules commit nothing */
	uint64_t trash_max_age_secs; /* removed checkpoints are purged then */
	bool resave_replace;	     /* a committed name may be written again */
	bool foreground;
	bool fake;    /* mount(8)'s -f: check everything, mount nothing */
	bool sloppy;  /* mount(8)'s -s: unknown options are ignored */
	bool verbose; /* say what was done */
	bool help;
	bool version;
};

/**
 * mount_options_parse - read the command line
 * Paths are as given yet: see mount_options_resolve. mount_options_release() @out also on failure.
 * Errors: -EINVAL a mistake of the caller's; -ENOMEM.
 */
int mount_options_parse(int argc, char *const argv[], struct mount_options *out,
			struct ckpt_err *err) CKPT_MUST_CHECK;
void mount_options_release(struct mount_options *options);

extern const char mount_options_help[];

#endif
