/*
 * plan_internal.h - the global plan from the inside.
 * May be included only by mpi/plan_{global,lists}.c.
 */
#ifndef CKPT_MPI_PLAN_INTERNAL_H
#define CKPT_MPI_PLAN_INTERNAL_H

#include "base/box.h"
#include "plan.h"

/* What one rank says of one tensor. Text is borrowed from the wire. */
struct plan_decl {
	const char *fqn;
	const char *dtype;
	const uint64_t *shape;
	uint32_t dim_count;
	int rank;
	size_t first_offer; /* its offers lie behind each other */
	size_t offer_count;
};

/* A chunk that one rank offers. */
struct plan_offer {
	const struct plan_decl *decl;
	struct ckpt_box box; /* start and size lie behind each other */
	uint64_t size_bytes;
	bool keep;
};

/* One rank's blob. */
struct plan_blob {
	const char *fqn;
	uint64_t size_bytes;
	int rank;
};

/* A tensor: the offers [first, first + count) of by_box are its. */
struct plan_tensor {
	const struct plan_decl *decl; /* of the lowest rank */
	size_t first;
	size_t count;
};

/* A box that several ranks offer: offers [first, first + count) of by_box. */
struct plan_replica {
	size_t first;
	size_t count;
	uint64_t size_bytes;
};

/* Everything is in as many arrays as there are kinds, sized once by what the wires announce. */
struct ckpt_global_plan {
	int world_size;
	uint64_t *extents;	   /* shapes, starts and sizes of all */
	struct plan_decl *decls;   /* in the order of the ranks' local plans */
	struct plan_decl **by_fqn; /* ordered by FQN, then rank */
	size_t decl_count;
	struct plan_offer *offers;  /* in the order of the ranks' local plans */
	struct plan_offer **by_box; /* ordered by FQN, box, rank */
	size_t offer_count;
	struct plan_blob *blobs; /* ordered by FQN, then rank */
	size_t blob_count;
	struct plan_tensor *tensors; /* ordered by FQN */
	size_t tensor_count;
	struct plan_replica *replicas;
	size_t replica_count, replica_cap;
	size_t *rank_offers; /* of each rank */
	uint64_t *load;	     /* bytes each rank writes */
};

#endif
