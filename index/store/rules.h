/*
 * rules.h - completion rules: which files prove that an open checkpoint is
 * complete, tool by tool. The table in rules.c is the one place that knows.
 * Source: ckptfs-format(5) "Completion rules".
 */
#ifndef CKPT_STORE_RULES_H
#define CKPT_STORE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/write_session.h"

struct ckpt_store;

/* Quiet time, without open writers or changes, that a rule asks for. */
#define CKPT_RULE_QUIET_SECS 60
/*
 * Where a mount sets the manifest of a checkpoint that a rule committed too early aside; nobody
 * reads it, and the next commit removes it.
 */
#define CKPT_MANIFEST_REOPENED ".ckptfs/manifest.reopened"

struct ckpt_rule_verdict {
	const char *
		rule; /* name of the rule that applies ("dcp", "transformers", …), static; NULL: none knows this folder */
	const char *
		proof; /* what proves completeness by that rule, for people; static; NULL as above */
	bool complete;
};

/**
 * ckpt_rules_judge - is the open checkpoint complete, by the files in it?
 * @store_fd: the store's folder; @name: the checkpoint (its group is looked at for trackers)
 * @waits_for: NULL, or receives what is missing ("'.metadata'", "the tracker 'latest' naming it",
 *             "a commit: no completion rule knows its files") where it is not complete (appended)
 * A folder with a temporary name is never complete: it waits for its rename. A size or an age is
 * never proof: whoever acts on the verdict waits for CKPT_RULE_QUIET_SECS without a change.
 * Errors: -ENOENT; system. Thread-safe: yes. Cost: the names at the top and one level below.
 */
int ckpt_rules_judge(int store_fd, const char *name, struct ckpt_rule_verdict *out,
		     struct ckpt_buf *waits_for, struct ckpt_err *err) CKPT_MUST_CHECK;

/** ckpt_rules_judge_as - the same of the folder @name as if it were called @lasting already. */
int ckpt_rules_judge_as(int store_fd, const char *name, const char *lasting,
			struct ckpt_rule_verdict *out, struct ckpt_buf *waits_for,
			struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_rules_may_complete - could what has come to be at @path (below the store) complete a
 * checkpoint, by its name alone? No system call. Thread-safe: yes.
 */
bool ckpt_rules_may_complete(const char *path);

/**
 * ckpt_rules_completes - may a file or folder that came to be at @path (below the store) complete a
 * checkpoint by some rule?
 * @out: the open checkpoint that ckpt_rules_judge() is to be asked about (appended): the outermost
 *       one that @path lies in, or is; of a tracker the one it names, for which @store_fd is read
 * Errors: -ENOENT no; system. Thread-safe: yes.
 */
int ckpt_rules_completes(int store_fd, const char *path, struct ckpt_buf *out) CKPT_MUST_CHECK;

/* What tells whether something in a folder has changed. */
struct ckpt_calm {
	int64_t newest_ns;    /* latest mtime of a file or folder in it, control folder left out */
	uint64_t fingerprint; /* of all names and stamps, ctimes too: another one means a change */
};

/**
 * ckpt_calm_of - look at everything in the checkpoint @name
 * Errors: -ENOENT; system. Thread-safe: yes. Cost: one stat an entry.
 */
int ckpt_calm_of(int store_fd, const char *name, struct ckpt_calm *out) CKPT_MUST_CHECK;
/** ckpt_calm_secs - seconds since then, by this host's clock; 0 for what lies in the future. */
uint64_t ckpt_calm_secs(const struct ckpt_calm *calm);

/* --- taking a guess back ------------------------------------------------------------------ */

/** ckpt_manifest_stamps - of the manifest of @name, to know it again. -ENOENT there is none; -EBADMSG it is no regular file. */
int ckpt_manifest_stamps(const struct ckpt_store *store, const char *name, struct ckpt_stamps *out)
	CKPT_MUST_CHECK;
/**
 * ckpt_reopen - make the committed checkpoint @name open again: its manifest is set aside as
 * CKPT_MANIFEST_REOPENED, durably
 * @made: the manifest that the caller has made
 * Errors: -ENOENT it is not committed (any more); -EROFS it has another manifest, or is pinned; else
 * system. Thread-safe: yes.
 */
int ckpt_reopen(struct ckpt_store *store, const char *name, const struct ckpt_stamps *made,
		struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
