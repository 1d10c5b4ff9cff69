/* exchange.c - see exchange.h. */
#include "exchange.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"

/* Stands for a number of bytes where a rank has failed. */
#define FAILED (-1)

int ckpt_exchange_init(struct ckpt_exchange *exchange, struct ckpt_mpi *job)
{
	size_t world_size = (size_t)job->info.global_world_size;

	*exchange = (struct ckpt_exchange){ .job = job };
	ckpt_buf_init(&exchange->out);
	exchange->counts = array_alloc(4 * world_size, sizeof(int));
	if (!exchange->counts)
		return -ENOMEM;
	exchange->send_counts = exchange->counts;
	exchange->send_offsets = exchange->counts + world_size;
	exchange->recv_counts = exchange->counts + 2 * world_size;
	exchange->recv_offsets = exchange->counts + 3 * world_size;
	return 0;
}

void ckpt_exchange_release(struct ckpt_exchange *exchange)
{
	if (exchange->job && exchange->job->broken)
		return;
	ckpt_buf_release(&exchange->out);
	free(exchange->counts);
	free(exchange->in);
}

void ckpt_exchange_begin(struct ckpt_exchange *exchange)
{
	size_t world_size = (size_t)exchange->job->info.global_world_size;

	ckpt_buf_reset(&exchange->out);
	memset(exchange->counts, 0, 4 * world_size * sizeof(int));
}

int ckpt_exchange_address(struct ckpt_exchange *exchange, int rank)
{
	size_t addressed = 0;

	for (int i = 0; i < exchange->job->info.global_world_size; i++)
		addressed += (size_t)exchange->send_counts[i];
	assert(exchange->send_counts[rank] == 0 && addressed <= exchange->out.len_bytes);
	assert(rank != exchange->job->info.global_rank);
	if (exchange->out.len_bytes > INT_MAX)
		return -EOVERFLOW;
	exchange->send_offsets[rank] = (int)addressed;
	exchange->send_counts[rank] = (int)(exchange->out.len_bytes - addressed);
	return 0;
}

/* Everybody learns how much comes from whom, and who has failed. */
static int share_counts(struct ckpt_exchange *exchange, bool failed, bool *out_any_failed)
{
	struct ckpt_mpi *job = exchange->job;
	MPI_Request request = MPI_REQUEST_NULL;
	int rc;

	for (int i = 0; failed && i < job->info.global_world_size; i++)
		exchange->send_counts[i] = FAILED;
	rc = MPI_Ialltoall(exchange->send_counts, 1, MPI_INT, exchange->recv_counts, 1, MPI_INT,
			   job->comm, &request);
	/* It is tested till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	rc = ckpt_coll_finish(job, rc, &request, "MPI_Ialltoall");
	for (int i = 0; rc == 0 && i < job->info.global_world_size; i++)
		*out_any_failed = *out_any_failed || exchange->recv_counts[i] == FAILED;
	return rc;
}

/*
 * Whoever has no room, or is sent more than MPI can count, cannot say so any more: the others are
 * sending.
 */
static int make_room(struct ckpt_exchange *exchange)
{
	size_t total = 0;

	for (int i = 0; i < exchange->job->info.global_world_size; i++) {
		exchange->recv_offsets[i] = (int)total;
		total += (size_t)exchange->recv_counts[i];
		if (total > INT_MAX)
			return ckpt_job_break(exchange->job, -EOVERFLOW);
	}
	if (total <= exchange->in_cap)
		return 0;
	free(exchange->in);
	exchange->in = array_alloc(1, total);
	exchange->in_cap = exchange->in ? total : 0;
	return exchange->in ? 0 : ckpt_job_break(exchange->job, -ENOMEM);
}

int ckpt_exchange_run(struct ckpt_exchange *exchange, bool failed, bool *out_any_failed)
{
	struct ckpt_mpi *job = exchange->job;
	MPI_Request request = MPI_REQUEST_NULL;
	int rc = job->broken;

	*out_any_failed = failed;
	/* Alone there is nothing to send, and perhaps no MPI. */
	if (job->info.global_world_size == 1)
		return rc;
	if (rc == 0)
		rc = share_counts(exchange, failed, out_any_failed);
	if (rc < 0 || *out_any_failed)
		return rc;
	rc = make_room(exchange);
	if (rc < 0)
		return rc;
	rc = MPI_Ialltoallv(exchange->out.data, exchange->send_counts, exchange->send_offsets,
			    MPI_BYTE, exchange->in, exchange->recv_counts, exchange->recv_offsets,
			    MPI_BYTE, job->comm, &request);
	/* It is tested till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	return ckpt_coll_finish(job, rc, &request, "MPI_Ialltoallv");
}

const void *ckpt_exchange_from(const struct ckpt_exchange *exchange, int rank, size_t *out_bytes)
{
	*out_bytes = (size_t)exchange->recv_counts[rank];
	return *out_bytes > 0 ? exchange->in + exchange->recv_offsets[rank] : NULL;
}
