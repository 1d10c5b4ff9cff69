/*
 * found.h - the checkpoints of a store or group, collected: what ls, verify, init and status go
 * through.
 */
#ifndef CKPT_CLI_FOUND_H
#define CKPT_CLI_FOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli.h"

struct found {
	char *name;
	enum ckpt_state state;
	char *waits_for; /* "" where it waits for nothing, or nobody asked */
	char *problem;	 /* why it cannot be used; NULL: it can */
	bool has_row;	 /* committed, and its manifest can be used */
	struct ckpt_db_checkpoint row;
	bool pinned;
	/* Lies in the trash; state NONE, of the row only id, seq, step, counts and sizes. */
	bool removed;
	char removed_at[CKPT_RFC3339_SIZE];
	bool counted; /* open ones: what lies there now */
	uint64_t file_count;
	uint64_t file_bytes;
};

struct found_list {
	struct found *items; /* by bytes of the name */
	size_t count, cap;
};

enum {
	/* Fill in sizes: index the entries of committed ones, look into open ones. */
	FOUND_COUNT = 1U << 0,
	/* Folders that may not be read, too: in no state, with a problem. */
	FOUND_UNREAD = 1U << 1,
	/* What each open one waits for. */
	FOUND_WAITS = 1U << 3,
	/* Removed checkpoints, too, at the names they had. */
	FOUND_REMOVED = 1U << 2,
};

/**
 * found_load - every checkpoint at or below @place (a store or group); found_release() it, also
 * after a failure.
 */
int found_load(const struct ckpt_place *place, unsigned int flags, struct found_list *out,
	       struct ckpt_err *err) CKPT_MUST_CHECK;
void found_release(struct found_list *list);
/** found_word - "open", "aborted", "committed", or the narrower "pinned", "removed". */
const char *found_word(const struct found *found);
/** found_problems - how many have a problem. */
size_t found_problems(const struct found_list *list);
/** found_report - say each problem on stderr; returns how many. */
size_t found_report(const struct found_list *list);
/** found_count_state - how many are in @state. */
size_t found_count_state(const struct found_list *list, enum ckpt_state state);

#endif
