/* job.c - see job.h and ckptfs_mpi.h. */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"
#include "rollcall.h"

static const char *const phase_names[CKPT_MPI_PHASE_COUNT] = {
	[CKPT_MPI_SET_UP_STORAGE_WRITER] = "set_up_storage_writer",
	[CKPT_MPI_PREPARE_LOCAL_PLAN] = "prepare_local_plan",
	[CKPT_MPI_PREPARE_GLOBAL_PLAN] = "prepare_global_plan",
	[CKPT_MPI_WRITE_DATA] = "write_data",
	[CKPT_MPI_WRITE_DATA_ASYNC] = "write_data_async",
	[CKPT_MPI_FINISH] = "finish",
	[CKPT_MPI_SET_UP_STORAGE_READER] = "set_up_storage_reader",
	[CKPT_MPI_READ_METADATA] = "read_metadata",
	[CKPT_MPI_READ_DATA] = "read_data",
	[CKPT_MPI_READ_DATA_ASYNC] = "read_data_async",
	[CKPT_MPI_PRE_COMMIT] = "pre_commit",
	[CKPT_MPI_BARRIER] = "barrier",
	[CKPT_MPI_POST_COMMIT] = "post_commit",
};

const char *ckpt_mpi_phase_name(enum ckpt_mpi_phase phase)
{
	assert(phase < CKPT_MPI_PHASE_COUNT);
	return phase_names[phase];
}

void ckpt_mpi_config_init(struct ckpt_mpi_config *config)
{
	*config = (struct ckpt_mpi_config){
		.write_barrier_timeout_secs = CKPT_MPI_BARRIER_TIMEOUT_SECS,
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

/* --- beginning and end ------------------------------------------------------------ */

static int check_config(const struct ckpt_mpi *job, struct ckpt_err *err)
{
	const struct ckpt_mpi_config *config = &job->config;

	if (config->coordinator < 0 || config->coordinator >= job->info.global_world_size)
		return ckpt_err_set(err, -EINVAL,
				    "coordinator %d is not one of the %d ranks; they count from 0",
				    config->coordinator, job->info.global_world_size);
	if (config->write_barrier_timeout_secs == 0)
		return ckpt_err_set(
			err, -EINVAL,
			"a time-out of 0 s would end every wait at once; give 1 s or more");
	return 0;
}

static int find_ranks(struct ckpt_mpi *job)
{
	int len;
	int rc = MPI_Comm_rank(job->comm, &job->info.global_rank);

	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_size(job->comm, &job->info.global_world_size);
	if (rc == MPI_SUCCESS)
		rc = MPI_Get_processor_name(job->info.host, &len);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_split_type(job->comm, MPI_COMM_TYPE_SHARED, job->info.global_rank,
					 MPI_INFO_NULL, &job->node_comm);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_set_errhandler(job->node_comm, MPI_ERRORS_RETURN);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_rank(job->node_comm, &job->info.local_rank);
	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_size(job->node_comm, &job->info.local_world_size);
	return rc;
}

/* Own communicators, whose errors come back as codes. */
static int join(struct ckpt_mpi *job, MPI_Comm comm, struct ckpt_err *err)
{
	char text[MPI_MAX_ERROR_STRING];
	int len;
	int rc = MPI_Comm_dup(comm == MPI_COMM_NULL ? MPI_COMM_SELF : comm, &job->comm);

	if (rc == MPI_SUCCESS)
		rc = MPI_Comm_set_errhandler(job->comm, MPI_ERRORS_RETURN);
	if (rc == MPI_SUCCESS)
		rc = find_ranks(job);
	if (rc == MPI_SUCCESS)
		return 0;
	if (MPI_Error_string(rc, text, &len) != MPI_SUCCESS)
		return ckpt_err_set(err, -EIO, "cannot set up communicators: MPI error %d", rc);
	return ckpt_err_set(err, -EIO, "cannot set up communicators: %s", text);
}

_Static_assert(MPI_MAX_PROCESSOR_NAME <= CKPT_MPI_HOST_MAX, "host names would be cut");

/* Everybody's host, and the number of this rank's node. */
static int learn_hosts(struct ckpt_mpi *job)
{
	int leader = job->info.local_rank == 0;
	uint64_t leaders_before;
	uint64_t sum;
	int rc = ckpt_coll_all(job, job->info.host, sizeof(job->info.host), job->hosts);

	if (rc == 0)
		rc = ckpt_coll_before(job, false, (uint64_t)leader, &leaders_before);
	/* Only the leader's count is the node's number; the sum over the node hands it round. */
	if (rc == 0)
		rc = ckpt_coll_node_sum(job, leader ? leaders_before : 0, &sum);
	if (rc == 0)
		job->node_idx = (int)sum;
	return rc;
}

static int job_begin(struct ckpt_mpi *job, MPI_Comm comm, struct ckpt_err *err)
{
	int rc = join(job, comm, err);

	if (rc < 0)
		return rc;
	job->hosts = array_alloc((size_t)job->info.global_world_size, sizeof(*job->hosts));
	job->failures = array_alloc((size_t)job->info.global_world_size, sizeof(*job->failures));
	job->roll = ckpt_roll_new(job->info.global_world_size);
	if (!job->hosts || !job->failures || !job->roll)
		return ckpt_err_sys(err, -ENOMEM, "cannot begin");
	rc = check_config(job, err);
	if (rc == 0)
		rc = ckpt_fault_parse(getenv("CKPTFS_FAULT"), &job->faults, err);
	if (rc < 0)
		return rc;
	rc = learn_hosts(job);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot begin: the ranks do not answer each other")
		      : 0;
}

int ckpt_mpi_new(MPI_Comm comm, const struct ckpt_mpi_config *config, struct ckpt_mpi **out,
		 struct ckpt_mpi_failure *why)
{
	struct ckpt_mpi *job = array_alloc(1, sizeof(*job));
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	if (!job)
		return -ENOMEM;
	job->comm = MPI_COMM_NULL;
	job->node_comm = MPI_COMM_NULL;
	if (config)
		job->config = *config;
	else
		ckpt_mpi_config_init(&job->config);
	rc = job_begin(job, comm, &err);
	if (rc == 0) {
		*out = job;
		return 0;
	}
	if (why) {
		*why = (struct ckpt_mpi_failure){ .rank = job->info.global_rank, .code = rc };
		memcpy(why->host, job->info.host, sizeof(why->host));
		memcpy(why->message, err.msg, sizeof(why->message));
	}
	ckpt_ignore(ckpt_mpi_close(&job)); /* it returns 0 */
	return rc;
}

int ckpt_mpi_close(struct ckpt_mpi **job)
{
	struct ckpt_mpi *it = *job;

	*job = NULL;
	if (!it)
		return 0;
	/*
	 * After a time-out a free would wait for the missing ranks, and messages may be under way.
	 */
	if (!it->broken) {
		if (it->node_comm != MPI_COMM_NULL)
			ckpt_ignore(MPI_Comm_free(
				&it->node_comm)); /* nothing is left to be done about it */
		if (it->comm != MPI_COMM_NULL)
			ckpt_ignore(MPI_Comm_free(&it->comm));
		ckpt_roll_free(it->roll);
	}
	free(it->hosts);
	free(it->failures);
	free(it);
	return 0;
}

/* --- asking ------------------------------------------------------------------------- */

const struct ckpt_mpi_rank_info *ckpt_mpi_rank(const struct ckpt_mpi *job)
{
	return &job->info;
}

const struct ckpt_mpi_failure *ckpt_mpi_failures(const struct ckpt_mpi *job, size_t *out_count)
{
	*out_count = job->failure_count;
	return job->failures;
}

int ckpt_mpi_reporter(const struct ckpt_mpi *job)
{
	return job->reporter;
}

bool ckpt_mpi_usable(const struct ckpt_mpi *job)
{
	return job->broken == 0;
}

const char *ckpt_mpi_faults(const struct ckpt_mpi *job)
{
	return job->faults.text;
}

bool ckpt_job_is_coordinator(const struct ckpt_mpi *job)
{
	return job->info.global_rank == job->config.coordinator;
}

/* --- phases and agreement -------------------------------------------------------------- */

int ckpt_job_begin(struct ckpt_mpi *job)
{
	if (!job->broken)
		job->failure_count = 0;
	return job->broken;
}

int ckpt_job_break(struct ckpt_mpi *job, int code)
{
	if (!job->broken)
		job->broken = code;
	return job->broken;
}

void ckpt_job_put_failure(struct ckpt_mpi *job, int rank, int code, const char *message)
{
	struct ckpt_mpi_failure *row;

	if (job->failure_count == (size_t)job->info.global_world_size)
		return; /* a row a rank is all there can be */
	row = &job->failures[job->failure_count++];
	*row = (struct ckpt_mpi_failure){ .rank = rank, .code = code, .phase = job->phase };
	memcpy(row->host, job->hosts[rank], sizeof(row->host));
	(void)snprintf(row->message, sizeof(row->message), "%s", message);
}

_Static_assert(CKPT_MPI_MESSAGE_MAX == CKPT_ERR_MAX, "messages would be cut");

/* Everybody's row to everybody; the failing ones stay, in rank order. */
static int exchange_rows(struct ckpt_mpi *job, int code, const char *message)
{
	size_t world_size = (size_t)job->info.global_world_size;
	struct ckpt_mpi_failure *all = array_alloc(world_size, sizeof(*all));
	struct ckpt_mpi_failure mine = { .rank = job->info.global_rank,
					 .code = code,
					 .phase = job->phase };
	int rc;

	if (!all)
		return ckpt_job_break(job, -ENOMEM);
	memcpy(mine.host, job->info.host, sizeof(mine.host));
	(void)snprintf(mine.message, sizeof(mine.message), "%s", message);
	rc = ckpt_coll_all(job, &mine, sizeof(mine), all);
	if (rc == 0) {
		job->failure_count = 0;
		job->reporter = 0;
		for (size_t i = 0; i < world_size; i++) {
			if (all[i].code < 0)
				job->failures[job->failure_count++] = all[i];
		}
		rc = job->failure_count > 0 ? job->failures[0].code : 0;
	}
	free(all);
	return rc;
}

int ckpt_job_agree(struct ckpt_mpi *job, int code, const struct ckpt_err *err)
{
	uint64_t any;
	int rc;

	assert(code <= 0);
	if (job->broken)
		return job->broken;
	rc = ckpt_coll_max(job, code < 0, &any);
	if (rc < 0 || !any)
		return rc;
	return exchange_rows(job, code,
			     err && err->msg[0] ? err->msg
			     : code < 0		? strerrordesc_np(-code)
						: "");
}

int ckpt_job_cancelled(struct ckpt_mpi *job, struct ckpt_err *err)
{
	if (job->tick)
		job->tick(job->tick_ctx);
	if (job->config.cancel && *job->config.cancel)
		return ckpt_err_set(err, -EINTR, "interrupted by a signal");
	return 0;
}

static int step_then_agree(struct ckpt_mpi *job, bool faults, bool mine, ckpt_job_step step,
			   void *ctx)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = 0;

	if (job->broken)
		return job->broken;
	if (mine)
		rc = ckpt_job_cancelled(job, &err);
	if (rc == 0 && mine && faults)
		rc = ckpt_fault_hit(&job->faults, job->phase, job->info.global_rank, &err);
	if (rc == 0 && mine)
		rc = step(ctx, &err);
	return ckpt_job_agree(job, rc, &err);
}

int ckpt_job_run(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, bool mine, ckpt_job_step step,
		 void *ctx)
{
	job->phase = phase;
	return step_then_agree(job, true, mine, step, ctx);
}

int ckpt_job_go_on(struct ckpt_mpi *job, bool mine, ckpt_job_step step, void *ctx)
{
	return step_then_agree(job, false, mine, step, ctx);
}

void ckpt_job_print_failures(const struct ckpt_mpi *job, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, "{\"failures\":[");
	for (size_t i = 0; i < job->failure_count; i++) {
		const struct ckpt_mpi_failure *row = &job->failures[i];

		ckpt_buf_printf(out, "%s{\"rank\":%d,\"host\":", i ? "," : "", row->rank);
		ckpt_buf_add_json_str(out, row->host);
		ckpt_buf_printf(out, ",\"phase\":\"%s\",\"errno\":\"%s\",\"message\":",
				ckpt_mpi_phase_name(row->phase), ckpt_err_name(row->code));
		ckpt_buf_add_json_str(out, row->message);
		ckpt_buf_add_char(out, '}');
	}
	ckpt_buf_add_str(out, "]}");
}
