/* seal.c - see seal.h. */
#include "seal.h"

#include "collective.h"
#include "import_tree.h"
#include "job.h"

void ckpt_seal_init(struct ckpt_seal *seal, struct ckpt_mpi *job, const char *path, bool is_new)
{
	*seal = (struct ckpt_seal){ .job = job, .from_fd = -1 };
	ckpt_target_init(&seal->target, job, path, is_new);
	ckpt_buf_init(&seal->wire);
}

void ckpt_seal_release(struct ckpt_seal *seal)
{
	ckpt_record_list_release(&seal->records);
	ckpt_file_list_release(&seal->files);
	ckpt_scan_list_release(&seal->found);
	ckpt_buf_release(&seal->wire);
	ckpt_target_release(&seal->target);
}

/* Folders and links first, so that every rank finds the place of its files. */
static int deal(void *ctx, struct ckpt_err *err)
{
	struct ckpt_seal *seal = ctx;
	const struct ckpt_target *target = &seal->target;
	int rc = seal->from ? ckpt_import_make(seal->from_fd, target->dirfd, seal->from, err)
			    : ckpt_scan_files(target->dirfd, target->name.data, &seal->found, err);

	return rc < 0 ? rc
		      : ckpt_file_list_deal(&seal->found, seal->job->info.global_world_size,
					    &seal->wire);
}

static int take(void *ctx, struct ckpt_err *err)
{
	struct ckpt_seal *seal = ctx;

	(void)err; /* memory, or a bug: the code says enough */
	return ckpt_file_list_take(&seal->wire, seal->job->info.global_rank, &seal->files);
}

static int work(void *ctx, struct ckpt_err *err)
{
	struct ckpt_seal *seal = ctx;
	const char *name = seal->target.name.data;
	const struct ckpt_file_work what = {
		.job = seal->job,
		.from_fd = seal->from ? seal->from_fd : seal->target.dirfd,
		.from = seal->from ? seal->from : name,
		.to_fd = seal->target.dirfd,
		.to = name,
	};

	return seal->from ? ckpt_file_list_copy(&what, &seal->files, &seal->records, err)
			  : ckpt_file_list_sum(&what, &seal->files, &seal->records, err);
}

static int seal_folders(void *ctx, struct ckpt_err *err)
{
	struct ckpt_seal *seal = ctx;

	return ckpt_import_seal(seal->from_fd, seal->target.dirfd, seal->from, err);
}

static int write_data(struct ckpt_seal *seal)
{
	struct ckpt_mpi *job = seal->job;
	int rc = ckpt_job_go_on(job, true, take, seal);

	if (rc == 0)
		rc = ckpt_job_moving(job, CKPT_MPI_WRITE_DATA, seal->files.bytes);
	if (rc < 0)
		return rc;
	/* A fault strikes a phase once, where it begins. */
	job->phase = CKPT_MPI_WRITE_DATA;
	rc = seal->is_ours ? ckpt_job_go_on(job, true, work, seal)
			   : ckpt_job_run(job, CKPT_MPI_WRITE_DATA, true, work, seal);
	if (rc == 0)
		ckpt_job_moved(job);
	if (rc == 0)
		rc = ckpt_job_go_on(job, seal->from && ckpt_job_is_coordinator(job), seal_folders,
				    seal);
	return rc;
}

static int move_data(struct ckpt_seal *seal)
{
	struct ckpt_mpi *job = seal->job;
	/* Each rank does what it is dealt: there is nothing to plan by itself. */
	int rc = ckpt_job_run(job, CKPT_MPI_PREPARE_LOCAL_PLAN, true, NULL, seal);

	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_PREPARE_GLOBAL_PLAN, ckpt_job_is_coordinator(job),
				  deal, seal);
	if (rc == 0)
		rc = ckpt_coll_bcast(job, &seal->wire);
	if (rc == 0)
		rc = write_data(seal);
	/* All was written before this call returns: nothing is left to the background. */
	return rc < 0 ? rc : ckpt_job_run(job, CKPT_MPI_WRITE_DATA_ASYNC, true, NULL, seal);
}

int ckpt_seal_run(struct ckpt_seal *seal, const struct ckpt_mpi_commit_request *request,
		  struct ckpt_mpi_result *out)
{
	const struct ckpt_target_commit what = {
		.has_step = request->has_step,
		.step = request->step,
		.meta = request->meta,
		.has_world_size = seal->is_ours,
	};
	int rc = move_data(seal);

	if (rc == 0)
		rc = ckpt_target_vote(&seal->target);
	return rc < 0 ? rc : ckpt_target_finish(&seal->target, &seal->records, &what, out);
}
