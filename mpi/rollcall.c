/* rollcall.c - see rollcall.h. */
#include "rollcall.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"

#define TAG_HERE 1
#define TAG_VERDICT 2
/*
 * For a message to arrive at a rank that polls: far more than the network needs, little beside the
 * time-out.
 */
#define GRACE_SECS 2.0
/* How long the leader drives MPI on, so that the verdict leaves this process. */
#define FLUSH_SECS 0.2

/* A message that was sent: MPI may read it until the end of the process. */
struct roll_message {
	struct roll_message *next;
	uint32_t seq;
};

struct ckpt_roll {
	int world_size;
	uint32_t seq;	/* of the collective call that this rank is in */
	uint32_t *here; /* the highest that each rank has said it is in */
	bool calling;
	int awaited; /* rank whose verdict is waited for; -1 */
	double deadline;
	double grace_end;
	struct roll_message *sent;
	unsigned char *verdict; /* a byte a rank: 1 arrived */
};

struct ckpt_roll *ckpt_roll_new(int world_size)
{
	struct ckpt_roll *roll = array_alloc(1, sizeof(*roll));

	if (!roll)
		return NULL;
	roll->world_size = world_size;
	roll->awaited = -1;
	roll->here = array_alloc((size_t)world_size, sizeof(*roll->here));
	roll->verdict = array_alloc((size_t)world_size, sizeof(*roll->verdict));
	if (!roll->here || !roll->verdict) {
		ckpt_roll_free(roll);
		return NULL;
	}
	return roll;
}

void ckpt_roll_free(struct ckpt_roll *roll)
{
	if (!roll)
		return;
	while (roll->sent) {
		struct roll_message *message = roll->sent;

		roll->sent = message->next;
		free(message);
	}
	free(roll->here);
	free(roll->verdict);
	free(roll);
}

void ckpt_roll_enter(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;

	roll->seq++;
	roll->calling = false;
	roll->awaited = -1;
	roll->deadline = MPI_Wtime() + (double)job->config.write_barrier_timeout_secs;
}

static int post(struct ckpt_mpi *job, int to, int tag, const void *data, int bytes)
{
	MPI_Request request;

	/*
	 * NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): a message is let go, not waited for:
	 * its receiver may never look.
	 */
	if (MPI_Isend(data, bytes, MPI_BYTE, to, tag, job->comm, &request) != MPI_SUCCESS ||
	    MPI_Request_free(&request) != MPI_SUCCESS)
		return ckpt_job_break(job, -EIO);
	return 0;
	/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */
}

static int say_here(struct ckpt_mpi *job, int to)
{
	struct ckpt_roll *roll = job->roll;
	struct roll_message *message = roll->sent;

	/* The same words may go to several ranks: one copy of them is enough. */
	if (!message || message->seq != roll->seq) {
		message = array_alloc(1, sizeof(*message));
		if (!message)
			return ckpt_job_break(job, -ENOMEM);
		message->seq = roll->seq;
		message->next = roll->sent;
		roll->sent = message;
	}
	return post(job, to, TAG_HERE, &message->seq, (int)sizeof(message->seq));
}

static int start_call(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	int rc = 0;

	roll->calling = true;
	roll->grace_end = MPI_Wtime() + GRACE_SECS;
	for (int rank = 0; rank < roll->world_size && rc == 0; rank++) {
		if (rank != job->info.global_rank)
			rc = say_here(job, rank);
	}
	return rc;
}

/* Take one waiting message with @tag, of any rank, into @out. 1 there was one; 0 none; -EIO. */
static int take(struct ckpt_mpi *job, int tag, void *out, int bytes, int *out_source)
{
	MPI_Status status;
	int there = 0;

	if (MPI_Iprobe(MPI_ANY_SOURCE, tag, job->comm, &there, &status) != MPI_SUCCESS)
		return ckpt_job_break(job, -EIO);
	if (!there)
		return 0;
	*out_source = status.MPI_SOURCE;
	if (MPI_Recv(out, bytes, MPI_BYTE, status.MPI_SOURCE, tag, job->comm, &status) !=
	    MPI_SUCCESS)
		return ckpt_job_break(job, -EIO);
	return 1;
}

/* HERE of others: remember, answer those behind, join those that call. */
static int listen_here(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	uint32_t seq = 0;
	int source = 0;
	int rc;

	while ((rc = take(job, TAG_HERE, &seq, (int)sizeof(seq), &source)) == 1) {
		if (seq > roll->here[source])
			roll->here[source] = seq;
		if (seq < roll->seq)
			rc = say_here(job, source);
		else if (!roll->calling)
			rc = start_call(job);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static bool arrived(const struct ckpt_mpi *job, int rank)
{
	return rank == job->info.global_rank || job->roll->here[rank] >= job->roll->seq;
}

/* The verdict in roll->verdict becomes this rank's table. */
static int accept_verdict(struct ckpt_mpi *job)
{
	char message[160];

	(void)snprintf(
		message, sizeof(message),
		"did not arrive within %u s: it is stopped, hangs or lags behind; look at it on its host, or raise the time-out",
		job->config.write_barrier_timeout_secs);
	job->reporter = -1;
	for (int rank = 0; rank < job->roll->world_size; rank++) {
		if (!job->roll->verdict[rank])
			ckpt_job_put_failure(job, rank, -ETIMEDOUT, message);
		else if (job->reporter < 0)
			job->reporter = rank;
	}
	return ckpt_job_break(job, -ETIMEDOUT);
}

static int announce(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	double until = MPI_Wtime() + FLUSH_SECS;
	int there;

	for (int rank = 0; rank < roll->world_size; rank++)
		roll->verdict[rank] = arrived(job, rank);
	for (int rank = 0; rank < roll->world_size; rank++) {
		if (rank != job->info.global_rank &&
		    post(job, rank, TAG_VERDICT, roll->verdict, roll->world_size) < 0)
			break; /* the others reach their own verdict */
	}
	while (MPI_Wtime() < until && MPI_Iprobe(MPI_ANY_SOURCE, TAG_VERDICT, job->comm, &there,
						 MPI_STATUS_IGNORE) == MPI_SUCCESS)
		(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return accept_verdict(job);
}

/* The grace is over: who leads, and is anybody missing? */
static int decide(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	int missing_count = 0;
	int leader = -1;

	/* A leader that stayed silent is missing itself. */
	if (roll->awaited >= 0)
		roll->here[roll->awaited] = 0;
	for (int rank = 0; rank < roll->world_size; rank++) {
		if (!arrived(job, rank))
			missing_count++;
		else if (leader < 0)
			leader = rank;
	}
	assert(leader >= 0);
	if (missing_count == 0) {
		/* All are here: the call is only slow. Ask again after another time-out. */
		memset(roll->here, 0, (size_t)roll->world_size * sizeof(*roll->here));
		roll->calling = false;
		roll->deadline = MPI_Wtime() + (double)job->config.write_barrier_timeout_secs;
		return 0;
	}
	if (leader == job->info.global_rank)
		return announce(job);
	roll->awaited = leader;
	roll->grace_end = MPI_Wtime() + GRACE_SECS;
	return 0;
}

int ckpt_roll_poll(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	int source;
	int rc = take(job, TAG_VERDICT, roll->verdict, roll->world_size, &source);

	if (rc == 1)
		return accept_verdict(job);
	if (rc == 0)
		rc = listen_here(job);
	if (rc == 0 && !roll->calling && MPI_Wtime() >= roll->deadline)
		rc = start_call(job);
	if (rc == 0 && roll->calling && MPI_Wtime() >= roll->grace_end)
		rc = decide(job);
	return rc;
}
