/*
 * node_share.h - between the ranks of one node: bytes of each for all, and
 * memory of each that the others read.
 *
 * The calls are collective over the job: every rank makes them, also where it
 * is alone on its node, so that all ranks go through equally many calls.
 */
#ifndef CKPT_MPI_NODE_SHARE_H
#define CKPT_MPI_NODE_SHARE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "job.h"

/* What the ranks of this node gave, one behind the other. */
struct ckpt_node_bytes {
	unsigned char *data;
	uint64_t *lens; /* local_world_size */
};

/**
 * ckpt_node_gather - the bytes of every rank of this node to all of them
 * @out: free both, unless the job broke; where all together are more than CKPT_COLL_ROUND_BYTES,
 * every length is 0
 */
int ckpt_node_gather(struct ckpt_mpi *job, const struct ckpt_buf *mine, struct ckpt_node_bytes *out)
	CKPT_MUST_CHECK;

/* Memory that each rank of the node has, and the others see. */
struct ckpt_node_room {
	size_t size_bytes;
	int count;	    /* local_world_size */
	int fd;		    /* of the own one */
	unsigned char **of; /* a rank; NULL. Only the own one may be written */
};

/**
 * ckpt_node_room_open - make it
 * MPI_Win_allocate_shared would wait without a deadline; so each rank makes a memfd, and the others
 * open it through /proc.
 * @out: ckpt_node_room_release() it, in every case
 * @out_shared: false on all ranks of the job where some rank cannot see another's (they have
 * process numbers of their own, say)
 */
int ckpt_node_room_open(struct ckpt_mpi *job, size_t size_bytes, struct ckpt_node_room *out,
			bool *out_shared) CKPT_MUST_CHECK;
void ckpt_node_room_release(struct ckpt_node_room *room);

#endif
