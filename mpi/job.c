/* job.c - see job.h and ckptfs_mpi.h. */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"
#include "job_progress.h"
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
	if (job->broken)
		return job->broken;
	if (job->future)
		return -EBUSY;
	job->caller = pthread_self();
	job->failure_count = 0;
	job->moving_bytes = 0;
	ckpt_progress_forget(job);
	return 0;
}

uint64_t ckpt_job_limit_secs(const struct ckpt_mpi *job)
{
	uint64_t per_sec = job->config.min_bytes_per_sec;

	return job->config.write_barrier_timeout_secs +
	       (per_sec > 0 ? num_div_up(job->moving_bytes, per_sec) : 0);
}

int ckpt_job_moving(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, uint64_t bytes)
{
	size_t world_size = (size_t)job->info.global_world_size;
	uint64_t *all = array_alloc(world_size, sizeof(*all));
	int rc;

	job->phase = phase;
	if (!all)
		return ckpt_coll_no_memory(job);
	rc = ckpt_coll_all(job, &bytes, sizeof(bytes), all);
	if (rc == 0) {
		job->moving_bytes = 0;
		for (size_t i = 0; i < world_size; i++)
			job->moving_bytes = num_max(job->moving_bytes, all[i]);
		job->moving_phase = phase;
		ckpt_progress_begin(job, phase, all);
	}
	free(all);
	return rc;
}

void ckpt_job_moved(struct ckpt_mpi *job)
{
	job->moving_bytes = 0;
	ckpt_progress_end(job);
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
		return ckpt_coll_no_memory(job);
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

/* A rank that was stopped may wake up when the others have given up on it. */
static int check_wanted(struct ckpt_mpi *job, struct ckpt_err *err)
{
	int rc = ckpt_roll_hear(job);

	return rc < 0 ? ckpt_err_set(err, rc, "the other ranks gave up waiting for this one") : 0;
}

int ckpt_job_cancelled(struct ckpt_mpi *job, struct ckpt_err *err)
{
	int rc;

	if (job->tick)
		job->tick(job->tick_ctx);
	if (pthread_equal(job->caller, pthread_self())) {
		ckpt_progress_poll(job);
		rc = check_wanted(job, err);
		if (rc < 0)
			return rc;
	}
	if (atomic_load(&job->abandoned))
		return ckpt_err_set(err, -ECANCELED, "given up");
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
		rc = check_wanted(job, &err);
	if (rc == 0 && mine && step)
		rc = step(ctx, &err);
	return ckpt_job_agree(job, rc, &err);
}

int ckpt_job_run(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, bool mine, ckpt_job_step step,
		 void *ctx)
{
	if (phase != job->moving_phase)
		ckpt_job_moved(job);
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
