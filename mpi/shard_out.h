/*
 * shard_out.h - one rank writes its chunks: large ones as files of their own,
 * small ones into the pack that all ranks of the node write together.
 */
#ifndef CKPT_MPI_SHARD_OUT_H
#define CKPT_MPI_SHARD_OUT_H

#include <stdbool.h>

#include "base/err.h"
#include "plan.h"
#include "record.h"
#include "target.h"

/*
 * A shard of this many bytes is its own file; below, a file's block and inode weigh more than the
 * bytes.
 */
#define CKPT_OWN_FILE_MIN (UINT64_C(1) << 20)

struct ckpt_shard_out {
	struct ckpt_mpi *job;
	struct ckpt_target *target;
	const struct ckpt_mpi_save_request *request;
	const struct ckpt_local_plan *plan;
	struct ckpt_record_list *records; /* one is added for each shard that was written */
	void *room;			  /* CKPT_OWN_FILE_MIN bytes */
};

/**
 * ckpt_shard_out_bytes - @len ≤ CKPT_OWN_FILE_MIN bytes of a chunk at @offset, borrowed until the
 * next call.
 */
int ckpt_shard_out_bytes(struct ckpt_shard_out *out, const struct ckpt_local_chunk *chunk,
			 uint64_t offset, size_t len, const void **out_data, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_shard_out_record - a record with path and rank of the chunk's shard filled in; NULL when
 * memory is out.
 */
struct ckpt_known_shard *ckpt_shard_out_record(struct ckpt_shard_out *out,
					       const struct ckpt_local_chunk *chunk);
/** ckpt_shard_out_folder - make this rank's folder, if it writes anything. */
int ckpt_shard_out_folder(struct ckpt_shard_out *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_shard_out_files - write all large chunks, durably. */
int ckpt_shard_out_files(struct ckpt_shard_out *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_pack_out - collective, within phase write_data: write all small chunks of all ranks,
 * durably.
 */
int ckpt_pack_out(struct ckpt_shard_out *out) CKPT_MUST_CHECK;

#endif
