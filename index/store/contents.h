/*
 * contents.h - what the files of a checkpoint say about the tensors in them: step 3 of the commit,
 * and of a folder that was never committed when somebody asks.
 *
 * A folder is a tensor set. What describes it, strongest first:
 *   1. `.metadata` of PyTorch DCP, for the `.distcp` files beside it;
 *   2. the safetensors files of the folder: one, a family with an index.json, or DCP's own with
 *      DCP_SHARDING_INFO. A family is shown whole or not at all. A folder `sharded` below one that
 *      holds the consolidated family says nothing: the family is the set;
 *   3. files of torch.save (.pt .pth .ckpt, and .bin that are called after models or optimizers;
 *      by content), .npz, .npy.
 * Where a file of the third kind is the only one of its folder that says something (for .bin:
 * together with the others that its pytorch_model.bin.index.json names; for .npy: together with the
 * other .npy), FQNs are the paths in it, joined by dots, a .npy's its name without suffix; the group
 * is the first element of a path with two. Else the file's name without suffix is the group, and
 * stands before the FQN with a dot.
 * Of those that claim one FQN the strongest stays, unless there are two of its kind. Files that are
 * not understood stay plain shards, each with a note. Packs and links are not looked into.
 */
#ifndef CKPT_STORE_CONTENTS_H
#define CKPT_STORE_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/manifest.h"

/* A file to look at. */
struct ckpt_contents_file {
	const char *path; /* in the checkpoint */
	uint64_t size_bytes;
	bool is_summed; /* ckpt_contents_check(): whoever wrote it has summed its bytes already */
};

/* Why a file, or a tensor of it, is not shown. */
struct ckpt_contents_note {
	char *file;
	char *reason; /* names the tensor where it is about one */
};

struct ckpt_contents {
	struct ckpt_tensor *tensors; /* by (set, FQN); chunks by start, inside, disjoint, complete */
	size_t tensor_count, tensor_cap;
	struct ckpt_bytes_entry *bytes_entries; /* by (set, FQN, shard) */
	size_t bytes_entry_count, bytes_entry_cap;
	struct ckpt_contents_note *notes; /* by file */
	size_t note_count, note_cap;
};

/**
 * ckpt_contents_read - look into the files of a checkpoint
 * @dirfd: its folder; @label: its name in messages
 * @files: by bytes of the path; only these are opened, below @dirfd, no link followed
 * @out:   ckpt_contents_release() it; untouched on failure
 * What is damaged or not understood is a note, never an error; nothing is said of files that no
 * rule above applies to. Bytes of tensors are not read.
 * Errors: a file cannot be opened or read; -ENOMEM. Thread-safe: yes. Cost: some 10 µs a tensor.
 */
int ckpt_contents_read(int dirfd, const char *label, const struct ckpt_contents_file *files,
		       size_t file_count, struct ckpt_contents *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void ckpt_contents_release(struct ckpt_contents *contents);

/* What ckpt_contents_check() looks at, and whom it tells. */
struct ckpt_contents_check {
	const struct ckpt_contents_file *files;
	size_t file_count;
	/* Called under a lock: "FILE: record 'NAME': crc32 is …, should be …", without the checkpoint's name. */
	void (*finding)(void *ctx, const char *line);
	/* The same for "FILE: not checked: …", which is no finding. NULL: it is not told. */
	void (*unchecked)(void *ctx, const char *line);
	/* Bytes read of all; non-zero cancels (-ECANCELED). NULL: none. From several threads. */
	int (*progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
	void *ctx;
};

/**
 * ckpt_contents_check - compare the CRC32s that torch and numpy left in their archives with the
 * bytes, on all cores
 * @out_findings: how many are wrong
 * Files that do not begin as such archives, and those that are summed, are passed over. Errors: as
 * ckpt_contents_read.
 */
int ckpt_contents_check(int dirfd, const char *label, const struct ckpt_contents_check *check,
			uint64_t *out_findings, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
