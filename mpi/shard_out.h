/*
 * shard_out.h - one rank writes its chunks and blobs: large ones as files of
 * their own, small ones into the pack of its node (pack_out.h).
 *
 * Everything here touches no other rank and makes no MPI call: it may run in
 * the background thread of an asynchronous save.
 */
#ifndef CKPT_MPI_SHARD_OUT_H
#define CKPT_MPI_SHARD_OUT_H

#include <stdbool.h>

#include "base/err.h"
#include "plan.h"
#include "record.h"
#include "strides.h"
#include "target.h"

/*
 * A shard of this many bytes is its own file; below, a file's block and inode weigh more than the
 * bytes. Bytes are handed out in pieces of this size.
 */
#define CKPT_OWN_FILE_MIN (UINT64_C(1) << 20)
/*
 * What is gathered at a time of a chunk with strides: some planes of an array in Fortran order, so
 * that lines of the cache are read once, in room that stays in the cache itself.
 */
#define CKPT_GATHER_BYTES (UINT64_C(16) << 20)

struct ckpt_shard_out {
	struct ckpt_mpi *job;
	struct ckpt_target *target;
	const struct ckpt_mpi_save_request *request;
	const struct ckpt_local_plan *plan;
	struct ckpt_record_list *records; /* one is added for each shard that was written */
	void *room;			  /* CKPT_OWN_FILE_MIN bytes */
	/* A chunk: its copy (stage.h); NULL: the original is read. plan->chunk_count, borrowed. */
	const unsigned char **staged;
	/* What was gathered last, of which chunk. */
	void *gather_room; /* CKPT_GATHER_BYTES; NULL: nothing was, yet */
	size_t gathered_idx;
	struct ckpt_slab gathered;
};

/** ckpt_shard_out_init - borrows all four. -ENOMEM; release it all the same. */
int ckpt_shard_out_init(struct ckpt_shard_out *out, struct ckpt_target *target,
			const struct ckpt_mpi_save_request *request,
			const struct ckpt_local_plan *plan, struct ckpt_record_list *records)
	CKPT_MUST_CHECK;
void ckpt_shard_out_release(struct ckpt_shard_out *out);

/** ckpt_shard_out_has - does this rank write chunk @idx of the plan as a shard of its own? */
bool ckpt_shard_out_has(const struct ckpt_shard_out *out, size_t idx);
/** ckpt_shard_out_is_small - it goes into the pack. (An empty blob is an empty file.) */
bool ckpt_shard_out_is_small(const struct ckpt_shard_out *out, size_t idx);

/**
 * ckpt_shard_out_memory - where the application has chunk @idx; false: it must be asked for
 * @box: NULL, or filled in
 */
bool ckpt_shard_out_memory(const struct ckpt_shard_out *out, size_t idx, struct ckpt_strided *box);
/** ckpt_shard_out_ask - ask the application for @len bytes of chunk @idx at @offset. */
int ckpt_shard_out_ask(struct ckpt_shard_out *out, size_t idx, uint64_t offset, size_t len,
		       void *to, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_shard_out_bytes - @len ≤ CKPT_OWN_FILE_MIN of the stored bytes of chunk @idx at @offset,
 * borrowed until the next call. Pieces of a chunk come in order, one chunk after the other.
 */
int ckpt_shard_out_bytes(struct ckpt_shard_out *out, size_t idx, uint64_t offset, size_t len,
			 const void **out_data, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_shard_out_record - a record with path and rank of the shard of chunk @idx filled in; NULL
 * when memory is out.
 */
struct ckpt_known_shard *ckpt_shard_out_record(struct ckpt_shard_out *out, size_t idx);

/** ckpt_shard_out_folder - make this rank's folder, if it writes anything. */
int ckpt_shard_out_folder(struct ckpt_shard_out *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_shard_out_files - write all that become files of their own, durably. */
int ckpt_shard_out_files(struct ckpt_shard_out *out, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
