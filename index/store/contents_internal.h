/*
 * contents_internal.h - what the files behind contents.h share: one folder that is looked at, and
 * what its files say.
 * May be included only by index/store/contents*.c.
 */
#ifndef CKPT_STORE_CONTENTS_INTERNAL_H
#define CKPT_STORE_CONTENTS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/contents.h"

/* What describes tensors; a stronger one wins where two claim the same FQN. */
enum contents_kind {
	CONTENTS_DCP,
	CONTENTS_SAFETENSORS,
	CONTENTS_TORCH,
	CONTENTS_NPZ,
	CONTENTS_NPY,
};

/* A file that says something, or several that do together. */
struct contents_source {
	enum contents_kind kind;
	const char *file;   /* for notes: of several the first; borrowed from the files */
	size_t family;	    /* those of one number name their tensors together */
	bool is_one_tensor; /* called like the file: nothing stands before that */
	char *why_out;	    /* NULL, or why nothing of it is taken */
};

/* A tensor, or bytes, that a source tells of. */
struct contents_claim {
	struct ckpt_tensor tensor; /* with an FQN, if it is one; else … */
	struct ckpt_bytes_entry bytes;
	size_t source;
};

/* One folder. */
struct contents_folder {
	int dirfd;
	const char *label;
	const char *path;			       /* in the checkpoint; "" is its top */
	const struct ckpt_contents_file *const *files; /* of this folder, by path */
	size_t file_count;
	/* All files of the checkpoint, by path: entries may name some in folders below. */
	const struct ckpt_contents_file *all_files;
	size_t all_count;
	struct contents_source *sources;
	size_t source_count, source_cap;
	struct contents_claim *claims;
	size_t claim_count, claim_cap;
	size_t family_count;
	struct ckpt_contents *out; /* notes are added at once */
	struct ckpt_err *err;
};

/** contents_name_of - the last component of a path. */
const char *contents_name_of(const char *path);
/** contents_is_called - does the last component end in @suffix, behind at least one character? */
bool contents_is_called(const char *path, const char *suffix);
/** contents_may_be_torch - by its name: is it worth looking whether torch.save wrote it? */
bool contents_may_be_torch(const char *path);
/** contents_find_file - NULL: there is none; borrowed. */
const struct ckpt_contents_file *contents_find_file(const struct contents_folder *folder,
						    const char *path);
/** contents_open - for reading; negative errno, and said, but for -EACCES, which is a note. */
int contents_open(const struct contents_folder *folder, const char *path) CKPT_MUST_CHECK;
int contents_no_memory(const struct contents_folder *folder);

/* What is said of a file that this user may not read. */
#define CONTENTS_UNREADABLE "this user may not read it"

/** contents_note - @file is not understood, or something in it is not. */
int contents_note(struct contents_folder *folder, const char *file, const char *fmt, ...)
	CKPT_PRINTF(3, 4) CKPT_MUST_CHECK;
/**
 * contents_judge - what a parser has said of a file: -EBADMSG is a note, and 0 is returned; anything
 * else is an error
 */
int contents_judge(struct contents_folder *folder, const char *file, int rc,
		   const struct ckpt_err *why) CKPT_MUST_CHECK;
/**
 * contents_add_source - the strongest kind first; *@out: its number. @family: SIZE_MAX: one of its
 * own.
 */
int contents_add_source(struct contents_folder *folder, enum contents_kind kind, const char *file,
			size_t family, size_t *out) CKPT_MUST_CHECK;
/** contents_put_out - nothing of the source is taken, and why; the first reason stays. */
int contents_put_out(struct contents_folder *folder, size_t source, const char *fmt, ...)
	CKPT_PRINTF(3, 4) CKPT_MUST_CHECK;
/** contents_add_claim - an empty one of @source; valid until the next is added. */
int contents_add_claim(struct contents_folder *folder, size_t source, struct contents_claim **out)
	CKPT_MUST_CHECK;

/* What a file tells of a tensor that lies in it whole. All borrowed. */
struct contents_whole {
	const char *fqn;
	const char *group; /* NULL */
	const char *dtype;
	uint32_t dim_count;
	const uint64_t *shape;
	const uint64_t *stride; /* NULL */
	const char *shard;
	uint64_t offset_bytes;
};

/** contents_claim_whole - a tensor of one chunk. */
int contents_claim_whole(struct contents_folder *folder, size_t source,
			 const struct contents_whole *whole) CKPT_MUST_CHECK;
/** contents_copy_extents - @from NULL: zeros. NULL when memory is out. */
uint64_t *contents_copy_extents(const uint64_t *from, uint32_t count);
/** contents_count_opaque - one more tensor of @file is left out; a note for the first ones. */
int contents_count_opaque(struct contents_folder *folder, const char *file, const char *fqn,
			  const char *why, size_t *count) CKPT_MUST_CHECK;
/** contents_end_opaque - say how many more there were. */
int contents_end_opaque(struct contents_folder *folder, const char *file, size_t count)
	CKPT_MUST_CHECK;

/* One for each kind: add sources, claims and notes. Only what keeps them from looking is an error. */
int contents_look_dcp(struct contents_folder *folder) CKPT_MUST_CHECK;
int contents_look_safetensors(struct contents_folder *folder) CKPT_MUST_CHECK;
int contents_look_torch(struct contents_folder *folder) CKPT_MUST_CHECK;
int contents_look_numpy(struct contents_folder *folder) CKPT_MUST_CHECK;

#endif
