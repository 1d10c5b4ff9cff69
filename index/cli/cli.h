/*
 * cli.h - what the commands of the program ckptfs share: exit codes, messages,
 * the command table's rows, and getting from a path to what it names.
 *
 * Only files of index/cli include the headers of this folder. Functions that
 * return int without saying more follow err.h; a command's run() returns one of
 * enum cli_exit and has printed why. Commands run in one thread; only progress
 * callbacks come from others.
 */
#ifndef CKPT_CLI_CLI_H
#define CKPT_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"

enum cli_exit {
	CLI_OK = 0,	/* done */
	CLI_FAILED = 1, /* not done, or damage found */
	CLI_USAGE = 2,	/* the command line is wrong; nothing was touched */
};

/* No limit to the number of arguments. */
#define CLI_ARGS_ANY SIZE_MAX

struct cli_command;

/* One run of the program. */
struct cli {
	const char *base; /* the store that -C or $CKPTFS_STORE names; NULL */
	const struct cli_command *command;
};

/* A row of the command table. */
struct cli_command {
	const char *name;
	const char *args;    /* as usage lines show them */
	const char *summary; /* one line, for the overview */
	const char *details; /* what --help says besides; ends in a newline */
	size_t min_args;
	size_t max_args;
	int (*run)(struct cli *cli, int argc, char **argv);
};

extern const struct cli_command cli_abort_command;
extern const struct cli_command cli_cat_command;
extern const struct cli_command cli_commit_command;
extern const struct cli_command cli_cp_command;
extern const struct cli_command cli_diff_command;
extern const struct cli_command cli_doctor_command;
extern const struct cli_command cli_find_command;
extern const struct cli_command cli_gc_command;
extern const struct cli_command cli_init_command;
extern const struct cli_command cli_latest_command;
extern const struct cli_command cli_log_command;
extern const struct cli_command cli_ls_command;
extern const struct cli_command cli_mount_command;
extern const struct cli_command cli_pin_command;
extern const struct cli_command cli_plot_command;
extern const struct cli_command cli_reindex_command;
extern const struct cli_command cli_rm_command;
extern const struct cli_command cli_run_command;
extern const struct cli_command cli_show_command;
extern const struct cli_command cli_sql_command;
extern const struct cli_command cli_umount_command;
extern const struct cli_command cli_undelete_command;
extern const struct cli_command cli_unpin_command;
extern const struct cli_command cli_verify_command;

/** cli_status - what `ckptfs` alone does: the state of the store one stands in. */
int cli_status(struct cli *cli);

/* --- messages (message.c) ------------------------------------------------------- */

/** cli_error - one line "ckptfs: …" on stderr, above a progress bar if there is one. */
void cli_error(const char *fmt, ...) CKPT_PRINTF(1, 2);
/** cli_report - the message of a failed call; returns CLI_FAILED. */
int cli_report(const struct ckpt_err *err);
/**
 * cli_flush - push out stdout; CLI_FAILED, said on stderr, when any of it could not be written;
 * else @code.
 */
int cli_flush(int code);
/** cli_write - bytes to stdout, past stdio; -EPIPE and other system errors. */
int cli_write(const void *data, size_t len_bytes, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- from a path to what it names (place_of.c) ------------------------------------ */

/**
 * cli_place - what @path (NULL: the store that -C names, else the current folder) means;
 * ckpt_place_release() it. Errors as ckpt_place_find.
 */
int cli_place(const struct cli *cli, const char *path, struct ckpt_place *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** cli_place_look - the same for commands that only read. Errors as ckpt_place_look. */
int cli_place_look(const struct cli *cli, const char *path, struct ckpt_place *out,
		   struct ckpt_err *err) CKPT_MUST_CHECK;
/** cli_place_describe - "group", "store" …: for messages about a place of the wrong kind. */
const char *cli_place_describe(enum ckpt_place_kind kind);
/**
 * cli_place_whole - what @path means; it must be a whole checkpoint, in a store. For commands that
 * change nothing but the checkpoint as such. ckpt_place_release() it, also after a failure.
 * Errors: -ENOENT; -EINVAL it is something else; as ckpt_place_find.
 */
int cli_place_whole(const struct cli *cli, const char *path, struct ckpt_place *out,
		    struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * cli_place_covered - the mount hides the store, so that only its daemon can change something in
 * it.
 */
bool cli_place_covered(const struct ckpt_place *place);

/* A checkpoint that a path led to. */
struct cli_checkpoint {
	struct ckpt_place place;  /* kind CHECKPOINT or ENTRY */
	struct ckpt_store *store; /* without index; NULL for a bare one */
	int dirfd;
	enum ckpt_state state;
	struct ckpt_buf waits_for; /* open ones */
};

/**
 * cli_checkpoint_open - the checkpoint that @path names, or that it leads into
 * @out: cli_checkpoint_release() it; also after a failure it may be released
 * A bare one that was never committed is open.
 * Errors: -EINVAL it is something else; as ckpt_place_look and ckpt_store_open; system.
 */
int cli_checkpoint_open(const struct cli *cli, const char *path, struct cli_checkpoint *out,
			struct ckpt_err *err) CKPT_MUST_CHECK;
void cli_checkpoint_release(struct cli_checkpoint *checkpoint);

#endif
