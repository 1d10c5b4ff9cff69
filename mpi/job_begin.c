/*
 * job_begin.c - the beginning and the end of a job: its own communicator, what
 * the ranks tell each other first, and what is left to be taken at the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "async.h"
#include "base/clock.h"
#include "base/num.h"
#include "collective.h"
#include "job.h"
#include "job_progress.h"
#include "mail.h"
#include "rollcall.h"

void ckpt_mpi_config_init(struct ckpt_mpi_config *config)
{
	*config = (struct ckpt_mpi_config){
		.write_barrier_timeout_secs = CKPT_MPI_BARRIER_TIMEOUT_SECS,
		.min_bytes_per_sec = CKPT_MPI_MIN_BYTES_PER_SEC,
		.io = CKPT_MPI_IO_POSIX,
	};
}

int ckpt_mpi_environment(void)
{
	/*
	 * Data sieving writes back stale bytes of other ranks; lockedfile and individual litter
	 * and hang.
	 */
	/* NOLINTBEGIN(concurrency-mt-unsafe): called before MPI_Init, when there is one thread. */
	if (setenv("OMPI_MCA_fbtl_posix_write_datasieving", "0", 0) < 0 ||
	    setenv("OMPI_MCA_sharedfp", "^lockedfile,individual", 0) < 0)
		return -errno;
	/* NOLINTEND(concurrency-mt-unsafe) */
	return 0;
}

/* --- beginning ----------------------------------------------------------------------- */

static int mpi_error(int mpi_rc, const char *what, struct ckpt_err *err)
{
	char text[MPI_MAX_ERROR_STRING];
	int len;

	if (MPI_Error_string(mpi_rc, text, &len) != MPI_SUCCESS)
		return ckpt_err_set(err, -EIO, "cannot begin: %s: MPI error %d", what, mpi_rc);
	return ckpt_err_set(err, -EIO, "cannot begin: %s: %s", what, text);
}

/* These two may be asked at any time. */
static bool mpi_runs(void)
{
	int begun = 0;
	int ended = 0;

	return MPI_Initialized(&begun) == MPI_SUCCESS && begun &&
	       MPI_Finalized(&ended) == MPI_SUCCESS && !ended;
}

/* Until all ranks have asked for their copy of @comm; there is no roll to call yet. */
static int wait_for_dup(const struct ckpt_mpi *job, MPI_Request *request, struct ckpt_err *err)
{
	uint64_t limit_ms = (uint64_t)job->config.write_barrier_timeout_secs * 1000;
	uint64_t begun_ms = ckpt_clock_mono_ms();
	int done = 0;

	while (!done) {
		int rc = MPI_Test(request, &done, MPI_STATUS_IGNORE);

		if (rc != MPI_SUCCESS)
			return mpi_error(rc, "MPI_Comm_idup", err);
		if (!done && ckpt_clock_mono_ms() - begun_ms >= limit_ms)
			return ckpt_err_set(
				err, -ETIMEDOUT,
				"not every rank of the communicator began its job within %u s; all of them must call ckpt_mpi_new()",
				job->config.write_barrier_timeout_secs);
		if (!done)
			(void)nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	return 0;
}

/* An own communicator, whose errors come back as codes. */
static int join(struct ckpt_mpi *job, MPI_Comm comm, struct ckpt_err *err)
{
	/* On the heap: after a time-out MPI may still fill it in. */
	MPI_Comm *copy = array_alloc(1, sizeof(MPI_Comm));
	MPI_Request request = MPI_REQUEST_NULL;
	int rc;

	if (!copy)
		return ckpt_err_sys(err, -ENOMEM, "cannot begin");
	rc = MPI_Comm_idup(comm, copy, &request);
	rc = rc == MPI_SUCCESS ? wait_for_dup(job, &request, err)
			       : mpi_error(rc, "MPI_Comm_idup", err);
	if (rc < 0)
		return rc;
	job->comm = *copy;
	free(copy);
	rc = MPI_Comm_set_errhandler(job->comm, MPI_ERRORS_RETURN);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_rank(job->comm, &job->info.global_rank);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_size(job->comm, &job->info.global_world_size);
	return rc == MPI_SUCCESS ? 0 : mpi_error(rc, "MPI_Comm_size", err);
}

/* The ranks of this node. It waits for all, who have just said that they are there. */
static int join_node(struct ckpt_mpi *job)
{
	int rc = MPI_Comm_split_type(job->comm, MPI_COMM_TYPE_SHARED, job->info.global_rank,
				     MPI_INFO_NULL, &job->node_comm);

	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_set_errhandler(job->node_comm, MPI_ERRORS_RETURN);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_rank(job->node_comm, &job->info.local_rank);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_size(job->node_comm, &job->info.local_world_size);
	return rc;
}

/* What the ranks tell each other first. */
struct hello {
	char host[CKPT_MPI_HOST_MAX];
	int64_t coordinator;
	int64_t timeout_secs;
	uint64_t min_bytes_per_sec;
	int64_t io;
	int64_t aggregators;
	int64_t has_progress;
};

/* Ranks that were told different things would wait for each other. */
static int check_same(const struct hello *here, const struct hello *there, struct ckpt_err *err)
{
	const struct {
		const char *name;
		bool same;
	} settings[] = {
		{ "coordinator", here->coordinator == there->coordinator },
		{ "write_barrier_timeout_secs", here->timeout_secs == there->timeout_secs },
		{ "min_bytes_per_sec", here->min_bytes_per_sec == there->min_bytes_per_sec },
		{ "io", here->io == there->io },
		{ "aggregators", here->aggregators == there->aggregators },
		{ "progress", here->has_progress == there->has_progress },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (!settings[i].same)
			return ckpt_err_set(
				err, -EINVAL,
				"'%s' is not what rank 0 on %s was given; give all ranks the same",
				settings[i].name, there->host);
	}
	return 0;
}

static int check_config(const struct ckpt_mpi *job, const struct ckpt_mpi_config *given,
			struct ckpt_err *err)
{
	if (given->coordinator < 0 || given->coordinator >= job->info.global_world_size)
		return ckpt_err_set(err, -EINVAL,
				    "coordinator %d is not one of the %d ranks; they count from 0",
				    given->coordinator, job->info.global_world_size);
	if (given->write_barrier_timeout_secs == 0)
		return ckpt_err_set(
			err, -EINVAL,
			"a time-out of 0 s would end every wait at once; give 1 s or more");
	if (given->io != CKPT_MPI_IO_POSIX && given->io != CKPT_MPI_IO_MPIIO)
		return ckpt_err_set(err, -EINVAL,
				    "%d is no way of input and output; see enum ckpt_mpi_io",
				    (int)given->io);
	if (given->aggregators < 0 || given->aggregators > job->info.global_world_size)
		return ckpt_err_set(err, -EINVAL,
				    "%d aggregators of %d ranks; give 0 (one a node) up to all",
				    given->aggregators, job->info.global_world_size);
	return 0;
}

/* Everybody's host; @code and @err are this rank's own fault up to here. */
static int say_hello(struct ckpt_mpi *job, int code, struct ckpt_err *err)
{
	const struct ckpt_mpi_config *config = &job->config;
	size_t world_size = (size_t)job->info.global_world_size;
	struct hello *all = array_alloc(world_size, sizeof(*all));
	struct hello mine = {
		.coordinator = config->coordinator,
		.timeout_secs = config->write_barrier_timeout_secs,
		.min_bytes_per_sec = config->min_bytes_per_sec,
		.io = (int64_t)config->io,
		.aggregators = config->aggregators,
		.has_progress = config->progress != NULL,
	};
	int rc;

	if (!all)
		return ckpt_job_break(job, ckpt_err_sys(err, -ENOMEM, "cannot begin"));
	memcpy(mine.host, job->info.host, sizeof(mine.host));
	rc = ckpt_coll_all(job, &mine, sizeof(mine), all);
	for (size_t i = 0; rc == 0 && i < world_size; i++)
		memcpy(job->hosts[i], all[i].host, sizeof(job->hosts[i]));
	if (rc == 0 && code == 0)
		code = check_same(&mine, &all[0], err);
	free(all);
	return rc < 0 ? rc : ckpt_job_agree(job, code, err);
}

/* Nodes are numbered by their lowest rank. */
static int number_nodes(struct ckpt_mpi *job)
{
	int leader = job->info.local_rank == 0;
	uint64_t leaders_before;
	uint64_t sum;
	int rc = ckpt_coll_before(job, false, (uint64_t)leader, &leaders_before);

	/* Only the leader's count is the node's number; the sum over the node hands it round. */
	if (rc == 0)
		rc = ckpt_coll_node_sum(job, leader ? leaders_before : 0, &sum);
	if (rc == 0)
		job->node_idx = (int)sum;
	return rc;
}

static int alloc_parts(struct ckpt_mpi *job)
{
	int world_size = job->info.global_world_size;

	job->hosts = array_alloc((size_t)world_size, sizeof(*job->hosts));
	job->failures = array_alloc((size_t)world_size, sizeof(*job->failures));
	job->roll = ckpt_roll_new(world_size);
	job->mail = ckpt_mail_new(world_size);
	job->progress = ckpt_progress_new(world_size);
	return job->hosts && job->failures && job->roll && job->mail && job->progress ? 0 : -ENOMEM;
}

/* What needs no other rank. */
static int begin_here(struct ckpt_mpi *job, MPI_Comm comm, struct ckpt_err *err)
{
	int rc = 0;

	job->caller = pthread_self();
	job->info.global_world_size = 1;
	job->info.local_world_size = 1;
	/* A longer name is cut. */
	if (gethostname(job->info.host, sizeof(job->info.host) - 1) < 0)
		(void)snprintf(job->info.host, sizeof(job->info.host), "localhost");
	if (comm != MPI_COMM_NULL && !mpi_runs())
		return ckpt_err_set(
			err, -EINVAL,
			"MPI does not run; call MPI_Init() first, or give MPI_COMM_NULL to work alone");
	if (comm != MPI_COMM_NULL)
		rc = join(job, comm, err);
	if (rc == 0 && alloc_parts(job) < 0)
		rc = ckpt_err_sys(err, -ENOMEM, "cannot begin");
	return rc;
}

static int job_begin(struct ckpt_mpi *job, MPI_Comm comm, const struct ckpt_mpi_config *given,
		     struct ckpt_err *err)
{
	int rc;

	/* What is wrong with it is said when all are there, who wait for it that long. */
	if (given->write_barrier_timeout_secs == 0)
		job->config.write_barrier_timeout_secs = CKPT_MPI_BARRIER_TIMEOUT_SECS;
	rc = begin_here(job, comm, err);
	if (rc < 0)
		return ckpt_job_break(job, rc);
	rc = check_config(job, given, err);
	if (rc == 0)
		rc = ckpt_fault_parse(getenv("CKPTFS_FAULT"), &job->faults, err);
	rc = say_hello(job, rc, err);
	if (rc < 0 || comm == MPI_COMM_NULL)
		return rc;
	rc = join_node(job);
	if (rc != MPI_SUCCESS)
		return ckpt_job_break(job, mpi_error(rc, "MPI_Comm_split_type", err));
	return number_nodes(job);
}

/* Why not: this rank's own reason, else the first of the table. */
static void explain(const struct ckpt_mpi *job, int code, const struct ckpt_err *err,
		    struct ckpt_mpi_failure *out)
{
	if (!err->msg[0] && job->failure_count > 0) {
		*out = job->failures[0];
		return;
	}
	*out = (struct ckpt_mpi_failure){ .rank = job->info.global_rank, .code = code };
	memcpy(out->host, job->info.host, sizeof(out->host));
	memcpy(out->message, err->msg, sizeof(out->message));
}

int ckpt_mpi_new(MPI_Comm comm, const struct ckpt_mpi_config *config, struct ckpt_mpi **out,
		 struct ckpt_mpi_failure *why)
{
	struct ckpt_mpi *job = array_alloc(1, sizeof(*job));
	struct ckpt_mpi_config defaults;
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	if (!job) {
		if (why)
			*why = (struct ckpt_mpi_failure){ .code = -ENOMEM,
							  .message = "memory is out" };
		return -ENOMEM;
	}
	ckpt_mpi_config_init(&defaults);
	job->comm = MPI_COMM_NULL;
	job->node_comm = MPI_COMM_NULL;
	ckpt_buf_init(&job->passed_over);
	job->config = config ? *config : defaults;
	rc = job_begin(job, comm, config ? config : &defaults, &err);
	if (rc == 0) {
		*out = job;
		return 0;
	}
	if (why)
		explain(job, rc, &err, why);
	ckpt_ignore(ckpt_mpi_close(&job)); /* it returns 0 */
	return rc;
}

/* --- end ------------------------------------------------------------------------------ */

/* What MPI may touch as long as letters, or broken calls, are under way. */
static void leave(struct ckpt_mpi *job)
{
	if (job->broken)
		return;
	if (job->comm != MPI_COMM_NULL) {
		ckpt_progress_forget(job); /* no letters any more that others do not know of */
		/* Where MPI has ended, or ranks do not answer, what is left stays. */
		if (!mpi_runs() || ckpt_mail_end(job) < 0)
			return;
		if (job->node_comm != MPI_COMM_NULL)
			ckpt_ignore(MPI_Comm_free(&job->node_comm)); /* nothing can be done */
		ckpt_ignore(MPI_Comm_free(&job->comm));
	}
	ckpt_roll_free(job->roll);
	ckpt_mail_free(job->mail);
}

int ckpt_mpi_close(struct ckpt_mpi **job)
{
	struct ckpt_mpi *it = job ? *job : NULL;

	if (!it)
		return 0;
	ckpt_async_abandon(it);
	*job = NULL;
	leave(it);
	ckpt_progress_free(it->progress);
	ckpt_fault_release(&it->faults);
	ckpt_stage_room_release(&it->stage);
	ckpt_buf_release(&it->passed_over);
	free(it->hosts);
	free(it->failures);
	free(it);
	return 0;
}
