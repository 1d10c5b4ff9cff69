/*
 * plan.h - which rank writes which chunk.
 *
 * Local plan: a rank's entries and blobs, checked, as bytes for the coordinator.
 * Global plan: the coordinator puts all local plans together, checks that the
 * chunks cover every tensor exactly once, gives each box that several ranks hold
 * to one of them, by load, and tells every rank which of its chunks to write.
 * Blobs are never shared: who has one writes it.
 */
#ifndef CKPT_MPI_PLAN_H
#define CKPT_MPI_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "ckptfs_mpi.h"
#include "store/store.h"

/* A chunk of this rank that is not empty, or a blob of it. */
struct ckpt_local_chunk {
	bool is_blob;
	size_t entry_idx; /* of a blob: its index in the request's blobs */
	size_t chunk_idx;
	uint64_t size_bytes; /* of a blob: may be 0 */
};

/* What this rank may have to write: chunks in the order of its entries, then all its blobs. */
struct ckpt_local_plan {
	struct ckpt_local_chunk *chunks;
	size_t chunk_count, chunk_cap;
	bool *keep; /* after the global plan: this rank writes it; of blobs always */
};

/** ckpt_plan_shard_name - append "rank-NNNNN/ESC(fqn)@START". */
void ckpt_plan_shard_name(struct ckpt_buf *out, uint64_t rank, const char *fqn,
			  const uint64_t *start, uint32_t dim_count);
/** ckpt_plan_blob_name - append "rank-NNNNN/ESC(fqn)". */
void ckpt_plan_blob_name(struct ckpt_buf *out, uint64_t rank, const char *fqn);
/** ckpt_plan_chunk_name - append the name of the shard that @chunk of the request is to be. */
void ckpt_plan_chunk_name(struct ckpt_buf *out, const struct ckpt_mpi_save_request *request,
			  const struct ckpt_local_chunk *chunk, uint64_t rank);

/**
 * ckpt_local_plan_make - check this rank's entries and blobs, and print them for the coordinator
 * Errors: -EINVAL an unknown dtype, a chunk outside its tensor, strides that do not fit in memory,
 * a name no shard can have; the message names the tensor and the chunk, or the blob.
 */
int ckpt_local_plan_make(const struct ckpt_mpi_save_request *request, int rank,
			 struct ckpt_local_plan *out, struct ckpt_buf *out_wire,
			 struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_local_plan_take - this rank's part of the global plan. -EBADMSG. */
int ckpt_local_plan_take(struct ckpt_local_plan *plan, const struct ckpt_buf *wire, int rank,
			 struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_local_plan_release(struct ckpt_local_plan *plan);

struct ckpt_global_plan;

/**
 * ckpt_global_plan_make - put the local plans together
 * @wires: one a rank; kept by pointer until the plan is freed
 * @out_wire: what all ranks must be told: a bit a chunk
 * Time: O(n log n) in the entries and chunks of all ranks. Errors: -EINVAL ranks disagree about a
 * tensor, its chunks overlap or leave a hole, a blob has a tensor's FQN, or one rank gives an FQN
 * twice; the message names tensor, chunks and ranks.
 */
int ckpt_global_plan_make(const struct ckpt_buf *wires, int world_size,
			  struct ckpt_global_plan **out, struct ckpt_buf *out_wire,
			  struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_global_plan_free - NULL is a no-op. */
void ckpt_global_plan_free(struct ckpt_global_plan *plan);

/* The tensor lines of the manifest. */
struct ckpt_tensor_list {
	struct ckpt_tensor *items;
	size_t count;
};
/**
 * ckpt_global_plan_tensors - heap copies, ordered by FQN, chunks by start;
 * ckpt_tensor_list_release() it. -ENOMEM.
 */
int ckpt_global_plan_tensors(const struct ckpt_global_plan *plan, struct ckpt_tensor_list *out)
	CKPT_MUST_CHECK;
void ckpt_tensor_list_release(struct ckpt_tensor_list *list);

/* The bytes lines of the manifest. */
struct ckpt_bytes_list {
	struct ckpt_bytes_entry *items;
	size_t count;
};
/**
 * ckpt_global_plan_blobs - heap copies, ordered by FQN, then rank; ckpt_bytes_list_release() it.
 * -ENOMEM.
 */
int ckpt_global_plan_blobs(const struct ckpt_global_plan *plan, struct ckpt_bytes_list *out)
	CKPT_MUST_CHECK;
void ckpt_bytes_list_release(struct ckpt_bytes_list *list);

#endif
