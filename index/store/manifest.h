/*
 * manifest.h - the truth about a committed checkpoint: reading and writing
 * `.ckptfs/manifest.jsonl`. Source throughout: ckptfs-format(5) "The manifest".
 *
 * Reading is strict and in one place: whatever ckpt_manifest_visit() hands out
 * has been checked against every rule of the page and is not checked again.
 */
#ifndef CKPT_STORE_MANIFEST_H
#define CKPT_STORE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"

#define CKPT_MANIFEST_VERSION 1
#define CKPT_MANIFEST_FILE ".ckptfs/manifest.jsonl"
#define CKPT_MANIFEST_TEMP ".ckptfs/manifest.tmp"
/* A longer line is refused: a tensor of a million chunks stays below. */
#define CKPT_MANIFEST_LINE_MAX ((size_t)256 * 1024 * 1024)
/* Line numbers are the low word of inodes. */
#define CKPT_MANIFEST_LINES_MAX UINT32_C(0x7fffffff)
/* Blocks of a shard: above this many the block grows. */
#define CKPT_BLOCK_MIN (UINT64_C(1) << 20)
#define CKPT_BLOCK_COUNT_MAX UINT64_C(65536)
#define CKPT_WORLD_SIZE_MAX (UINT64_C(1) << 31)
#define CKPT_STEP_MAX (UINT64_C(1) << 53)

struct ckpt_manifest_head {
	char id[37];
	char *name; /* what it was called when it was committed */
	uint64_t seq;
	bool has_step;
	uint64_t step;
	bool has_world_size;
	uint64_t world_size;
	char created[CKPT_RFC3339_SIZE];
	char committed[CKPT_RFC3339_SIZE];
	char *writer;
	char *meta; /* JSON object of scalars, as text; "{}" where none */
};

struct ckpt_manifest_dir {
	char *path;
	uint32_t mode;
};

struct ckpt_shard {
	char *path;
	uint64_t size_bytes;
	uint32_t mode;
	int64_t mtime_ns;
	bool has_rank;
	uint64_t rank;
	bool has_xxh128;
	struct ckpt_digest xxh128; /* of the whole shard */
	uint64_t block_bytes;	   /* power of two, ≥ CKPT_BLOCK_MIN */
	uint64_t *sums;		   /* XXH3-64 of each block: ckpt_block_count() of them */
	char *pack;		   /* file it lies in, ".ckptfs/pack-NNNNN"; NULL: its own file */
	uint64_t pack_offset_bytes;
};

struct ckpt_symlink {
	char *path;
	char *target;
};

/* The box of a tensor that one shard holds. */
struct ckpt_chunk {
	uint64_t *start;  /* dim_count of the tensor */
	uint64_t *size;	  /* dim_count */
	uint64_t *stride; /* dim_count, in elements; NULL: row-major */
	char *shard;
	uint64_t offset_bytes; /* of its first byte in the shard */
};

struct ckpt_tensor {
	char *fqn;
	char *set;   /* folder whose metadata describes it; "" is the top */
	char *group; /* NULL: in none */
	char dtype[16];
	uint32_t dim_count;
	uint64_t *shape;
	struct ckpt_chunk *chunks;
	size_t chunk_count;
};

/* An entry that is no tensor: opaque bytes under an FQN. */
struct ckpt_bytes_entry {
	char *fqn;
	char *set;
	char *group;
	char *shard;
	uint64_t offset_bytes;
	uint64_t size_bytes;
};

/** ckpt_block_bytes_for - the block size a shard of @size_bytes is summed with. */
uint64_t ckpt_block_bytes_for(uint64_t size_bytes);
/** ckpt_block_count - ceil(size / block). */
uint64_t ckpt_block_count(uint64_t size_bytes, uint64_t block_bytes);

/** Release what the struct points to (not the struct). Safe on a zeroed one. */
void ckpt_manifest_head_release(struct ckpt_manifest_head *head);
void ckpt_shard_release(struct ckpt_shard *shard);
void ckpt_tensor_release(struct ckpt_tensor *tensor);
void ckpt_bytes_entry_release(struct ckpt_bytes_entry *entry);

/* --- streaming ------------------------------------------------------------ */

/* What a reader wants to see; a NULL callback skips its lines (they are checked all the same). Lines are 1-based;
 * every pointer is borrowed for the call; a non-zero result stops the visit and is returned. */
struct ckpt_manifest_visitor {
	int (*head)(void *ctx, const struct ckpt_manifest_head *head, struct ckpt_err *err);
	int (*dir)(void *ctx, uint32_t line, const struct ckpt_manifest_dir *dir,
		   struct ckpt_err *err);
	int (*shard)(void *ctx, uint32_t line, const struct ckpt_shard *shard,
		     struct ckpt_err *err);
	int (*symlink)(void *ctx, uint32_t line, const struct ckpt_symlink *symlink,
		       struct ckpt_err *err);
	int (*tensor)(void *ctx, uint32_t line, const struct ckpt_tensor *tensor,
		      struct ckpt_err *err);
	int (*bytes)(void *ctx, uint32_t line, const struct ckpt_bytes_entry *entry,
		     struct ckpt_err *err);
	void *ctx;
};

/**
 * ckpt_manifest_visit - check a manifest and hand out its lines in order
 * @dirfd: the checkpoint's folder
 * @label: the checkpoint, as messages name it
 * The end line and the sum over all bytes before it are checked first, then line after line.
 * Memory: one line, the folders, 24 bytes a shard and 32 more a packed one.
 * Whether the end line counts right and whether packed shards overlap is known only when the last
 * line was handed out.
 * Errors: -ENOENT no manifest; -EBADMSG damaged or breaking a rule (message:
 * 'LABEL/.ckptfs/manifest.jsonl': line N: reason);
 *         -ENOTSUP a newer format; else system. Thread-safe: yes.
 */
int ckpt_manifest_visit(int dirfd, const char *label, const struct ckpt_manifest_visitor *visitor,
			struct ckpt_err *err) CKPT_MUST_CHECK;

/* The cheap look: header and end line only, sums not computed. */
struct ckpt_manifest_peek {
	struct ckpt_manifest_head head;
	uint64_t shard_count;
	uint64_t tensor_count;
	struct ckpt_digest xxh128; /* as the end line says */
	uint64_t ino;
	uint64_t size_bytes;
	int64_t mtime_ns;
};

/** ckpt_manifest_peek - errors as ckpt_manifest_visit. Release @out->head. */
int ckpt_manifest_peek(int dirfd, const char *label, struct ckpt_manifest_peek *out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- whole, in memory -------------------------------------------------------- */

struct ckpt_manifest {
	struct ckpt_manifest_head head;
	struct ckpt_manifest_dir *dirs;
	size_t dir_count;
	struct ckpt_shard *shards; /* ordered by path, by bytes */
	size_t shard_count;
	struct ckpt_symlink *symlinks;
	size_t symlink_count;
	struct ckpt_tensor *tensors; /* ordered by set, then FQN */
	size_t tensor_count;
	struct ckpt_bytes_entry *bytes_entries;
	size_t bytes_entry_count;
	size_t dir_cap, shard_cap, symlink_cap, tensor_cap,
		bytes_entry_cap; /* of the arrays, for array_grow */
};

/** ckpt_manifest_load - all of it; ckpt_manifest_release() it. Errors as ckpt_manifest_visit. */
int ckpt_manifest_load(int dirfd, const char *label, struct ckpt_manifest *out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_manifest_load_text - the same from bytes in memory (an MPI rank gets them by broadcast). */
int ckpt_manifest_load_text(const char *text, size_t len_bytes, const char *label,
			    struct ckpt_manifest *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_manifest_release(struct ckpt_manifest *manifest);
/** ckpt_manifest_find_shard - by path; NULL where there is none; borrowed. O(log n). */
const struct ckpt_shard *ckpt_manifest_find_shard(const struct ckpt_manifest *manifest,
						  const char *path);
/** ckpt_manifest_size_bytes - of all shards. */
uint64_t ckpt_manifest_size_bytes(const struct ckpt_manifest *manifest);

/** ckpt_manifest_sort - put the arrays into the order of the format. */
void ckpt_manifest_sort(struct ckpt_manifest *manifest);
/**
 * ckpt_manifest_print - every line, end line included
 * Errors: -ENOMEM. The caller has filled and sorted it by the rules; the commit reads back what it
 * wrote.
 */
int ckpt_manifest_print(const struct ckpt_manifest *manifest, struct ckpt_buf *out) CKPT_MUST_CHECK;

#endif
