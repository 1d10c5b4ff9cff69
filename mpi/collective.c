/* collective.c - see collective.h. */
#include "collective.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "job_progress.h"
#include "rollcall.h"

/* Looks at a request that give the processor away, then looks with a nap between them. */
#define EAGER_LOOKS 500
#define NAP_NS 200000
/* One look in so many also asks for roll calls: Iprobe costs more than Test. */
#define LOOKS_PER_POLL 16

/* What a rank does while it waits. */
static int attend(struct ckpt_mpi *job)
{
	if (job->tick)
		job->tick(job->tick_ctx);
	ckpt_progress_poll(job);
	return ckpt_roll_poll(job);
}

int ckpt_coll_rest(struct ckpt_mpi *job, uint64_t *looks)
{
	if (++*looks < EAGER_LOOKS)
		(void)sched_yield();
	else
		(void)nanosleep(&(struct timespec){ .tv_nsec = NAP_NS }, NULL);
	return *looks % LOOKS_PER_POLL == 0 ? attend(job) : 0;
}

int ckpt_coll_failed(struct ckpt_mpi *job, int mpi_rc, const char *what)
{
	char text[MPI_MAX_ERROR_STRING + 64];
	char reason[MPI_MAX_ERROR_STRING];
	uint64_t looks = EAGER_LOOKS;
	int len = 0;
	int rc = 0;

	if (job->broken)
		return job->broken;
	if (MPI_Error_string(mpi_rc, reason, &len) != MPI_SUCCESS)
		len = 0;
	reason[len] = '\0';
	(void)snprintf(text, sizeof(text), "%s: %s", what, reason);
	ckpt_roll_mpi_failed(job, text);
	while (rc == 0)
		rc = ckpt_coll_rest(job, &looks);
	return rc;
}

static int go_on(struct ckpt_mpi *job, MPI_Request *request, const char *what)
{
	uint64_t looks = 0;
	int rc = 0;

	while (rc == 0) {
		int done = 0;
		int mpi_rc = MPI_Test(request, &done, MPI_STATUS_IGNORE);

		if (mpi_rc != MPI_SUCCESS)
			return ckpt_coll_failed(job, mpi_rc, what);
		/* Also a rank that comes late may find everything there: it hears that others left. */
		if (done)
			return ckpt_roll_hear(job);
		rc = ckpt_coll_rest(job, &looks);
	}
	return rc;
}

int ckpt_coll_finish(struct ckpt_mpi *job, int mpi_rc, MPI_Request *request, const char *what)
{
	ckpt_roll_enter(job);
	return mpi_rc == MPI_SUCCESS ? go_on(job, request, what)
				     : ckpt_coll_failed(job, mpi_rc, what);
}

int ckpt_coll_no_memory(struct ckpt_mpi *job)
{
	if (!job->broken)
		ckpt_job_put_failure(job, job->info.global_rank, -ENOMEM,
				     "memory is out; this rank cannot tell the others");
	return ckpt_job_break(job, -ENOMEM);
}

static bool is_alone(const struct ckpt_mpi *job)
{
	return job->comm == MPI_COMM_NULL;
}

/* Two numbers that outlive a broken call: {sent, received}. */
static uint64_t *numbers_new(struct ckpt_mpi *job, uint64_t value)
{
	uint64_t *numbers = array_alloc(2, sizeof(*numbers));

	if (!numbers)
		ckpt_ignore(ckpt_coll_no_memory(job)); /* the caller returns it */
	else
		numbers[0] = value;
	return numbers;
}

static int numbers_end(int rc, uint64_t *numbers, uint64_t *out)
{
	if (rc < 0)
		return rc;
	*out = numbers[1];
	free(numbers);
	return 0;
}

static int all_reduce(struct ckpt_mpi *job, MPI_Comm comm, MPI_Op op, uint64_t value, uint64_t *out)
{
	MPI_Request request = MPI_REQUEST_NULL;
	uint64_t *numbers;
	int rc;

	if (job->broken)
		return job->broken;
	if (is_alone(job)) {
		*out = value;
		return 0;
	}
	numbers = numbers_new(job, value);
	if (!numbers)
		return -ENOMEM;
	rc = MPI_Iallreduce(&numbers[0], &numbers[1], 1, MPI_UINT64_T, op, comm, &request);
	/* finish() tests it till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	return numbers_end(ckpt_coll_finish(job, rc, &request, "MPI_Iallreduce"), numbers, out);
}

int ckpt_coll_max(struct ckpt_mpi *job, uint64_t value, uint64_t *out)
{
	return all_reduce(job, job->comm, MPI_MAX, value, out);
}

int ckpt_coll_sum(struct ckpt_mpi *job, uint64_t value, uint64_t *out)
{
	return all_reduce(job, job->comm, MPI_SUM, value, out);
}

int ckpt_coll_node_sum(struct ckpt_mpi *job, uint64_t value, uint64_t *out)
{
	return all_reduce(job, job->node_comm, MPI_SUM, value, out);
}

int ckpt_coll_before(struct ckpt_mpi *job, bool on_node, uint64_t value, uint64_t *out)
{
	MPI_Comm comm = on_node ? job->node_comm : job->comm;
	MPI_Request request = MPI_REQUEST_NULL;
	uint64_t *numbers;
	int rc;

	if (job->broken)
		return job->broken;
	if (is_alone(job)) {
		*out = 0;
		return 0;
	}
	numbers = numbers_new(job, value);
	if (!numbers)
		return -ENOMEM;
	rc = MPI_Iexscan(&numbers[0], &numbers[1], 1, MPI_UINT64_T, MPI_SUM, comm, &request);
	rc = ckpt_coll_finish(job, rc, &request, "MPI_Iexscan");
	/* The first rank's result is undefined. */
	if (rc == 0 && (on_node ? job->info.local_rank : job->info.global_rank) == 0)
		numbers[1] = 0;
	return numbers_end(rc, numbers, out);
}

int ckpt_coll_all(struct ckpt_mpi *job, const void *mine, size_t bytes, void *out)
{
	size_t world_size = (size_t)job->info.global_world_size;
	MPI_Request request = MPI_REQUEST_NULL;
	unsigned char *room;
	int rc;

	assert(bytes < INT32_MAX);
	if (job->broken)
		return job->broken;
	if (is_alone(job)) {
		memmove(out, mine, bytes);
		return 0;
	}
	room = array_alloc(world_size + 1, bytes);
	if (!room)
		return ckpt_coll_no_memory(job);
	memcpy(room, mine, bytes);
	rc = MPI_Iallgather(room, (int)bytes, MPI_BYTE, room + bytes, (int)bytes, MPI_BYTE,
			    job->comm, &request);
	/* finish() tests it till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	rc = ckpt_coll_finish(job, rc, &request, "MPI_Iallgather");
	if (rc < 0)
		return rc;
	memcpy(out, room + bytes, world_size * bytes);
	free(room);
	return 0;
}

int ckpt_coll_barrier(struct ckpt_mpi *job)
{
	MPI_Request request = MPI_REQUEST_NULL;
	int rc;

	if (job->broken || is_alone(job))
		return job->broken;
	rc = MPI_Ibarrier(job->comm, &request);
	return ckpt_coll_finish(job, rc, &request, "MPI_Ibarrier");
}

int ckpt_coll_sum_for_me(struct ckpt_mpi *job, const uint64_t *row, uint64_t *out)
{
	size_t world_size = (size_t)job->info.global_world_size;
	MPI_Request request = MPI_REQUEST_NULL;
	uint64_t *numbers;
	int rc;

	if (job->broken)
		return job->broken;
	if (is_alone(job)) {
		*out = row[0];
		return 0;
	}
	numbers = array_alloc(world_size + 1, sizeof(*numbers));
	if (!numbers)
		return ckpt_coll_no_memory(job);
	memcpy(numbers, row, world_size * sizeof(*row));
	rc = MPI_Ireduce_scatter_block(numbers, numbers + world_size, 1, MPI_UINT64_T, MPI_SUM,
				       job->comm, &request);
	/* finish() tests it till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	rc = ckpt_coll_finish(job, rc, &request, "MPI_Ireduce_scatter_block");
	if (rc < 0)
		return rc;
	*out = numbers[world_size];
	free(numbers);
	return 0;
}

/* One round of a broadcast through @room. */
static int bcast_round(struct ckpt_mpi *job, void *room, uint64_t bytes)
{
	MPI_Request request = MPI_REQUEST_NULL;
	int rc = MPI_Ibcast(room, (int)bytes, MPI_BYTE, job->config.coordinator, job->comm,
			    &request);

	/* finish() tests it till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	return ckpt_coll_finish(job, rc, &request, "MPI_Ibcast");
}

int ckpt_coll_bcast(struct ckpt_mpi *job, struct ckpt_buf *data)
{
	bool sends = ckpt_job_is_coordinator(job);
	uint64_t total = 0;
	unsigned char *room;
	int rc;

	if (is_alone(job))
		return ckpt_job_agree(job, ckpt_buf_check(data), NULL);
	rc = ckpt_coll_max(job, sends ? data->len_bytes : 0, &total);

	if (rc < 0)
		return rc;
	room = array_alloc(1, num_max(1, num_min(total, CKPT_COLL_ROUND_BYTES)));
	/* Whoever cannot take part would let the others wait: they shall know why. */
	rc = ckpt_job_agree(job, room ? 0 : -ENOMEM, NULL);
	assert(rc < 0 || room);
	if (!sends)
		ckpt_buf_reset(data);
	for (uint64_t done = 0; rc == 0 && done < total;) {
		uint64_t bytes = num_min(total - done, CKPT_COLL_ROUND_BYTES);

		if (sends)
			memcpy(room, data->data + done, bytes);
		rc = bcast_round(job, room, bytes);
		if (rc == 0 && !sends)
			ckpt_buf_add(data, room, bytes);
		done += bytes;
	}
	if (!job->broken)
		free(room);
	return rc < 0 ? rc : ckpt_job_agree(job, ckpt_buf_check(data), NULL);
}

/* What a gather needs at the coordinator; elsewhere only the piece to send. */
struct gather {
	uint64_t share; /* bytes a rank in a round */
	uint64_t *lens; /* of every rank's whole */
	int *counts;
	int *offsets;
	unsigned char *piece;
	unsigned char *room;
};

static void gather_release(struct gather *g)
{
	free(g->lens);
	free(g->counts);
	free(g->offsets);
	free(g->piece);
	free(g->room);
}

static int gather_alloc(struct ckpt_mpi *job, struct gather *g)
{
	size_t world_size = (size_t)job->info.global_world_size;

	g->share = num_max(1, CKPT_COLL_ROUND_BYTES / world_size);
	g->lens = array_alloc(world_size, sizeof(*g->lens));
	return g->lens ? 0 : -ENOMEM;
}

/* Rooms as large as the longest of all needs, not as large as a round may be. */
static int gather_rooms(struct ckpt_mpi *job, struct gather *g, uint64_t longest)
{
	size_t world_size = (size_t)job->info.global_world_size;

	g->share = num_min(g->share, num_max(1, longest));
	g->piece = array_alloc(1, g->share);
	g->counts = array_alloc(world_size, sizeof(*g->counts));
	g->offsets = array_alloc(world_size, sizeof(*g->offsets));
	if (ckpt_job_is_coordinator(job))
		g->room = array_alloc(world_size, g->share);
	return g->piece && g->counts && g->offsets && (g->room || !ckpt_job_is_coordinator(job))
		       ? 0
		       : -ENOMEM;
}

static uint64_t share_of(uint64_t len, uint64_t done, uint64_t share)
{
	return len > done ? num_min(len - done, share) : 0;
}

static int gather_round(struct ckpt_mpi *job, struct gather *g, const struct ckpt_buf *mine,
			uint64_t done)
{
	MPI_Request request = MPI_REQUEST_NULL;
	uint64_t bytes = share_of(mine->len_bytes, done, g->share);
	int rc;

	if (bytes > 0)
		memcpy(g->piece, mine->data + done, bytes);
	for (int rank = 0; rank < job->info.global_world_size; rank++) {
		g->counts[rank] = (int)share_of(g->lens[rank], done, g->share);
		g->offsets[rank] = (int)((uint64_t)rank * g->share);
	}
	rc = MPI_Igatherv(g->piece, (int)bytes, MPI_BYTE, g->room, g->counts, g->offsets, MPI_BYTE,
			  job->config.coordinator, job->comm, &request);
	return ckpt_coll_finish(job, rc, &request, "MPI_Igatherv");
}

int ckpt_coll_gather(struct ckpt_mpi *job, const struct ckpt_buf *mine, struct ckpt_buf *all)
{
	struct gather g = { .share = 0 };
	uint64_t len = mine->len_bytes;
	uint64_t longest = 0;
	int rc;

	if (is_alone(job)) {
		ckpt_buf_add(&all[0], mine->data, mine->len_bytes);
		return ckpt_job_agree(job, ckpt_buf_check(&all[0]), NULL);
	}
	rc = ckpt_job_agree(job, gather_alloc(job, &g), NULL);

	if (rc == 0)
		rc = ckpt_coll_all(job, &len, sizeof(len), g.lens);
	for (int rank = 0; rc == 0 && rank < job->info.global_world_size; rank++)
		longest = num_max(longest, g.lens[rank]);
	if (rc == 0)
		rc = ckpt_job_agree(job, gather_rooms(job, &g, longest), NULL);
	for (uint64_t done = 0; rc == 0 && done < longest; done += g.share) {
		rc = gather_round(job, &g, mine, done);
		for (int rank = 0; rc == 0 && g.room && rank < job->info.global_world_size; rank++)
			ckpt_buf_add(&all[rank], g.room + g.offsets[rank], (size_t)g.counts[rank]);
	}
	if (!job->broken)
		gather_release(&g);
	for (int rank = 0;
	     rc == 0 && ckpt_job_is_coordinator(job) && rank < job->info.global_world_size; rank++)
		rc = ckpt_buf_check(&all[rank]);
	return job->broken ? job->broken : ckpt_job_agree(job, rc, NULL);
}
