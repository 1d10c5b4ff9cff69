/*
 * history.h - the checkpoints of a store or group with what is known of each,
 * its metadata included: what log, find and plot go through.
 *
 * Metadata is what the manifest's "meta" says and, for keys that it does not
 * have, what a trainer_state.json in the checkpoint says last. Both are
 * untrusted; keys and values are any text.
 */
#ifndef CKPT_CLI_HISTORY_H
#define CKPT_CLI_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"
#include "cli/found.h"

struct history_meta {
	char *key;
	bool is_number; /* also true and false: 1 and 0 */
	double number;
	char *text; /* as it is shown */
};

struct history_item {
	const struct found *found;  /* belongs to the history */
	struct history_meta *metas; /* in the order they were met */
	size_t meta_count, meta_cap;
	bool has_save_seconds;
	double save_seconds; /* from created to committed */
};

struct history {
	struct found_list list;
	struct history_item *items; /* a subset of the list's, in its order */
	size_t count;
};

/**
 * history_load - what lies at or below @path (NULL: the current folder), a store or a group, or one
 * checkpoint
 * @committed_only: open, aborted and removed ones are left out
 * @out_place: where @path leads; ckpt_place_release() it, also after a failure
 * @out: history_release() it, also after a failure
 * Errors: as ckpt_place_find and ckpt_store_walk; -EINVAL it is neither.
 */
int history_load(const struct cli *cli, const char *path, bool committed_only,
		 struct ckpt_place *out_place, struct history *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void history_release(struct history *history);
/** history_sort - oldest commit first: by (seq, committed, id). */
void history_sort(struct history *history);
/** history_find_meta - NULL where it has no such key. Borrowed. */
const struct history_meta *history_find_meta(const struct history_item *item, const char *key);

/* The keys that occur, once each. Texts are borrowed from the history. */
struct history_keys {
	const char **items;
	size_t count, cap;
};
/**
 * history_keys - @numbers_only: of those only that are numbers wherever they occur. "loss" comes
 * first, other losses next, the rest as they were met. -ENOMEM.
 */
int history_keys(const struct history *history, bool numbers_only, struct history_keys *out)
	CKPT_MUST_CHECK;
void history_keys_release(struct history_keys *keys);

/**
 * history_path - the checkpoint @name as it can be named from here: it begins with @path, if that
 * was given
 */
void history_path(const struct cli *cli, const struct ckpt_place *place, const char *path,
		  const char *name, struct ckpt_buf *out);

#endif
