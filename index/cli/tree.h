/*
 * tree.h - what is in a checkpoint, as a list: from its manifest when it is
 * committed, from the disk while it is open. Control folders are left out.
 */
#ifndef CKPT_CLI_TREE_H
#define CKPT_CLI_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli.h"

enum tree_kind {
	TREE_DIR,
	TREE_FILE,
	TREE_SYMLINK,
	TREE_OTHER, /* socket, FIFO, device: only in open checkpoints */
};

struct tree_entry {
	enum tree_kind kind;
	char *path;    /* inside the checkpoint */
	uint32_t mode; /* permission bits */
	uint64_t size_bytes;
	int64_t mtime_ns;
	char *target;			/* symlinks */
	const struct ckpt_shard *shard; /* files of a committed one; belongs to the manifest */
};

struct tree {
	bool committed;
	struct ckpt_manifest manifest; /* of a committed one */
	struct tree_entry *entries; /* by bytes of the path: a folder comes before what is in it */
	size_t count, cap;
};

/**
 * tree_load - of @checkpoint; tree_release() it, also after a failure. Errors: as
 * ckpt_manifest_load; system.
 */
int tree_load(const struct cli_checkpoint *checkpoint, struct tree *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** tree_load_dir - of a plain folder that is open as @dirfd; @label names it in messages. */
int tree_load_dir(int dirfd, const char *label, struct tree *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * tree_load_file - of the one file @path below the open folder @dirfd, following symbolic links.
 */
int tree_load_file(int dirfd, const char *path, struct tree *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void tree_release(struct tree *tree);
/** tree_find - by path; NULL where there is none. O(log n). */
const struct tree_entry *tree_find(const struct tree *tree, const char *path);
/** tree_sum - files at or below @below ("": all), and their bytes. */
void tree_sum(const struct tree *tree, const char *below, uint64_t *out_files, uint64_t *out_bytes);

#endif
