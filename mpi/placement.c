/*
 * placement.c - who holds what: the chunks that PyTorch's placements give a
 * rank. Sources: torch.chunk; torch.distributed._shard.sharding_spec
 * ChunkShardingSpec; torch.distributed.tensor Shard and Replicate.
 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"
#include "job.h"

void ckpt_mpi_cut(uint64_t extent, int rank, int world_size, uint64_t *out_start,
		  uint64_t *out_size)
{
	uint64_t share = num_div_up(extent, (uint64_t)world_size);
	/* No overflow: the product passes the extent by less than there are ranks, which are int. */
	uint64_t start = num_min(extent, share * (uint64_t)rank);

	*out_start = start;
	*out_size = num_min(share, extent - start);
}

/* The whole tensor. */
static void take_all(const uint64_t *shape, uint32_t dim_count, uint64_t *start, uint64_t *size)
{
	for (uint32_t d = 0; d < dim_count; d++) {
		start[d] = 0;
		size[d] = shape[d];
	}
}

/* NOLINTNEXTLINE(readability-function-size): tensor, specification, rank and box are eight. */
int ckpt_mpi_spec_chunk(const uint64_t *shape, uint32_t dim_count, uint32_t dim,
			const int *placements, size_t placement_count, int rank, uint64_t *start,
			uint64_t *size)
{
	size_t place = placement_count;

	if (dim >= dim_count || placement_count == 0 || placement_count > INT32_MAX)
		return -EINVAL;
	for (size_t i = 0; i < placement_count; i++) {
		if (placements[i] != rank)
			continue;
		if (place < placement_count)
			return -EINVAL;
		place = i;
	}
	take_all(shape, dim_count, start, size);
	if (place == placement_count)
		size[dim] = 0;
	else
		ckpt_mpi_cut(shape[dim], (int)place, (int)placement_count, &start[dim], &size[dim]);
	return 0;
}

/* Ranks in the mesh; -EINVAL an extent or a placement that cannot be. */
static int check_mesh(const struct ckpt_mpi_mesh *mesh, uint64_t *out_count)
{
	uint64_t count = 1;

	for (size_t i = 0; i < mesh->axis_count; i++) {
		if (mesh->extents[i] <= 0 || mesh->placements[i] < CKPT_MPI_REPLICATE ||
		    !num_mul(count, (uint64_t)mesh->extents[i], &count))
			return -EINVAL;
	}
	*out_count = count;
	return 0;
}

int ckpt_mpi_mesh_chunk(const uint64_t *shape, uint32_t dim_count, const struct ckpt_mpi_mesh *mesh,
			int rank, uint64_t *start, uint64_t *size)
{
	uint64_t behind; /* ranks that share a place on the axis, and on all before it */
	int rc = check_mesh(mesh, &behind);

	if (rc < 0)
		return rc;
	take_all(shape, dim_count, start, size);
	if (rank < 0 || (uint64_t)rank >= behind) {
		memset(size, 0, dim_count * sizeof(*size));
		return 0;
	}
	for (size_t i = 0; i < mesh->axis_count; i++) {
		uint32_t dim = (uint32_t)mesh->placements[i];
		uint64_t offset;
		uint64_t place;

		behind /= (uint64_t)mesh->extents[i];
		place = (uint64_t)rank / behind % (uint64_t)mesh->extents[i];
		if (mesh->placements[i] == CKPT_MPI_REPLICATE || dim >= dim_count)
			continue;
		ckpt_mpi_cut(size[dim], (int)place, mesh->extents[i], &offset, &size[dim]);
		start[dim] += offset;
	}
	return 0;
}

/* --- ragged -------------------------------------------------------------------------------- */

/* Where this rank's elements begin, and all end. -EOVERFLOW on the rank that makes the sum so. */
static int add_counts(const struct ckpt_mpi *job, const uint64_t *counts, uint64_t *out_start,
		      uint64_t *out_total, struct ckpt_err *err)
{
	uint64_t total = 0;

	for (int rank = 0; rank < job->info.global_world_size; rank++) {
		if (rank == job->info.global_rank)
			*out_start = total;
		if (num_add(total, counts[rank], &total))
			continue;
		/* The others learn of it by the agreement that follows. */
		return rank != job->info.global_rank
			       ? 0
			       : ckpt_err_set(
					 err, -EOVERFLOW,
					 "the elements of all ranks are more than 2^64, from this rank's %llu on; check the counts",
					 (unsigned long long)counts[rank]);
	}
	*out_total = total;
	return 0;
}

int ckpt_mpi_ragged(struct ckpt_mpi *job, uint64_t count, uint64_t *out_start, uint64_t *out_total)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t *counts;
	uint64_t start = 0;
	uint64_t total = 0;
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_LOCAL_PLAN;
	counts = array_alloc((size_t)job->info.global_world_size, sizeof(*counts));
	rc = ckpt_job_agree(job, counts ? 0 : -ENOMEM, NULL);
	assert(rc < 0 || counts);
	if (rc == 0)
		rc = ckpt_coll_all(job, &count, sizeof(count), counts);
	if (rc == 0)
		rc = ckpt_job_agree(job, add_counts(job, counts, &start, &total, &err), &err);
	if (rc == 0) {
		*out_start = start;
		*out_total = total;
	}
	/* A broken call may still write there. */
	if (!job->broken)
		free(counts);
	return rc;
}
