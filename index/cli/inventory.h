/*
 * inventory.h - the tensors of a checkpoint, for display: from its manifest, or
 * while it is open from what its files say now. Also which files are not
 * understood, and why.
 */
#ifndef CKPT_CLI_INVENTORY_H
#define CKPT_CLI_INVENTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/tree.h"

struct inventory_item {
	char *set;   /* folder whose metadata describes it; "" is the top */
	char *group; /* NULL: in none */
	char *fqn;
	char *dtype; /* NULL: opaque bytes */
	char *shape; /* JSON array; NULL: opaque bytes */
	uint64_t size_bytes;
	uint64_t chunk_count;
};

/* A file that is no tensors to us. */
struct inventory_note {
	char *file;
	char *reason;
};

struct inventory {
	struct inventory_item *items; /* by (set, FQN) */
	size_t item_count, item_cap;
	struct inventory_note *notes; /* by file */
	size_t note_count, note_cap;
};

/**
 * inventory_load - of @checkpoint, whose list is @tree; inventory_release() it, also after a
 * failure. -ENOMEM.
 */
int inventory_load(const struct cli_checkpoint *checkpoint, const struct tree *tree,
		   struct inventory *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void inventory_release(struct inventory *inventory);

#endif
