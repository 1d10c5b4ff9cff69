/*
 * ckptfs_mpi_placement.h - which box of a tensor a rank holds, by the shardings of PyTorch. A part
 * of ckptfs_mpi.h, which includes it.
 */
#ifndef CKPTFS_MPI_PLACEMENT_H
#define CKPTFS_MPI_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

struct ckpt_mpi;

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/**
 * ckpt_mpi_cut - the part of @extent that rank @rank of @world_size holds, as torch.chunk cuts:
 * ceil(extent / world_size) each, the last ones less or nothing.
 */
void ckpt_mpi_cut(uint64_t extent, int rank, int world_size, uint64_t *out_start,
		  uint64_t *out_size);

/**
 * ckpt_mpi_spec_chunk - the chunk of rank @rank of a tensor that is cut along dimension @dim among
 * the ranks of @placements, in their order (DCP's ChunkShardingSpec)
 * @start, @size: receive dim_count extents; a rank that is not placed gets a size of 0 along @dim
 * Errors: -EINVAL @dim is no dimension, there is no placement, or @rank is placed twice.
 */
int ckpt_mpi_spec_chunk(const uint64_t *shape, uint32_t dim_count, uint32_t dim,
			const int *placements, size_t placement_count, int rank, uint64_t *start,
			uint64_t *size);

/* A placement of a mesh axis: a dimension of the tensor from 0 on, or this. */
#define CKPT_MPI_REPLICATE (-1)

/* Ranks in a grid, row-major: rank = (i0 * extents[1] + i1) * extents[2] + i2 … */
struct ckpt_mpi_mesh {
	const int *extents;    /* axis_count, each > 0 */
	const int *placements; /* axis_count */
	size_t axis_count;
};

/**
 * ckpt_mpi_mesh_chunk - the chunk of rank @rank of a tensor that is placed on a mesh (DTensor)
 * The axes cut one after the other, each what the ones before it left, as torch.chunk does. A
 * placement beyond the tensor's dimensions replicates it.
 * @start, @size: receive dim_count extents; a rank outside the mesh gets a size of 0
 * Errors: -EINVAL an extent or placement is negative where it may not be.
 */
int ckpt_mpi_mesh_chunk(const uint64_t *shape, uint32_t dim_count, const struct ckpt_mpi_mesh *mesh,
			int rank, uint64_t *start, uint64_t *size);

/**
 * ckpt_mpi_ragged - for 1-D arrays of which each rank has @count elements: where this rank's begin,
 * and how many there are; collective. Errors: -EOVERFLOW; as every collective call.
 */
int ckpt_mpi_ragged(struct ckpt_mpi *job, uint64_t count, uint64_t *out_start, uint64_t *out_total);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
