/*
 * copy.h - the bytes of checkpoints into new files: each block of a committed
 * shard is checked on its way, so that a copy is right or is not there.
 */
#ifndef CKPT_CLI_COPY_H
#define CKPT_CLI_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/tree.h"

struct copy {
	int from_fd;		  /* the checkpoint's folder, or the folder of a loose file */
	const char *label;	  /* names it in messages */
	const char *to_label;	  /* names the copy in them */
	bool keep_packs;	  /* packed shards go into packs as they are, not into files */
	struct ckpt_store *store; /* NULL, or that of the open checkpoint @open_name, … */
	const char *open_name;	  /* … whose session is kept alive meanwhile */
	uint64_t touched_ms;
	uint64_t done_bytes; /* of all, for the progress bar */
	uint64_t total_bytes;
	char *buffer;
	size_t buffer_bytes;
};

/** copy_init - @total_bytes is what the bar counts to; copy_release() it. */
void copy_init(struct copy *copy, int from_fd, const char *label, uint64_t total_bytes);
void copy_release(struct copy *copy);

/**
 * copy_entry - make one folder, file or symbolic link
 * @entry: of the tree of copy->from_fd
 * @to_fd, @to_path: where it goes, relative to an open folder; must not be there yet (a pack is
 *                   added to)
 * Folders come out writable and files with their mode and mtime: copy_finish_dir() is for folders
 * when all in them is there.
 * Errors: -EBADMSG damage (nothing of the wrong block was written); -EEXIST; -ECANCELED a signal
 * came; system.
 */
int copy_entry(struct copy *copy, const struct tree_entry *entry, int to_fd, const char *to_path,
	       struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * copy_finish_dir - give a folder that was made the mode and, where it is stored, the mtime of
 * @entry (NULL: of the copied folder itself).
 */
int copy_finish_dir(const struct copy *copy, const struct tree_entry *entry, int to_fd,
		    const char *to_path, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
