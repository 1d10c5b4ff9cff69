/* save.c - the collective writer: ckpt_mpi_save(), phase by phase. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/num.h"
#include "collective.h"
#include "job.h"
#include "plan.h"
#include "record.h"
#include "shard_out.h"
#include "target.h"

struct save {
	struct ckpt_mpi *job;
	const struct ckpt_mpi_save_request *request;
	struct ckpt_target target;
	struct ckpt_local_plan plan;
	struct ckpt_buf local_wire;
	struct ckpt_buf *all_wires;	 /* coordinator: a local plan a rank */
	struct ckpt_global_plan *global; /* coordinator */
	struct ckpt_buf global_wire;
	struct ckpt_tensor_list tensors; /* coordinator */
	struct ckpt_record_list records;
	struct ckpt_shard_out out;
	uint64_t bytes_before; /* what ranks before this one write */
	uint64_t bytes;	       /* what this rank writes */
};

static int prepare_local(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;

	return ckpt_local_plan_make(save->request, save->job->info.global_rank, &save->plan,
				    &save->local_wire, err);
}

static int prepare_global(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;
	int rc = ckpt_global_plan_make(save->all_wires, save->job->info.global_world_size,
				       &save->global, &save->global_wire, err);

	return rc < 0 ? rc : ckpt_global_plan_tensors(save->global, &save->tensors);
}

static int take_part(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;

	return ckpt_local_plan_take(&save->plan, &save->global_wire, save->job->info.global_rank,
				    err);
}

static int make_plans(struct save *save)
{
	struct ckpt_mpi *job = save->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	size_t world_size = (size_t)job->info.global_world_size;
	int rc = ckpt_job_run(job, CKPT_MPI_PREPARE_LOCAL_PLAN, true, prepare_local, save);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_GLOBAL_PLAN;
	if (coordinates)
		save->all_wires = array_alloc(world_size, sizeof(*save->all_wires));
	for (size_t i = 0; save->all_wires && i < world_size; i++)
		ckpt_buf_init(&save->all_wires[i]);
	rc = ckpt_job_agree(job, coordinates && !save->all_wires ? -ENOMEM : 0, NULL);
	if (rc == 0)
		rc = ckpt_coll_gather(job, &save->local_wire, save->all_wires);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_PREPARE_GLOBAL_PLAN, coordinates, prepare_global,
				  save);
	if (rc == 0)
		rc = ckpt_coll_bcast(job, &save->global_wire);
	return rc < 0 ? rc : ckpt_job_go_on(job, true, take_part, save);
}

/*
 * Room for this rank's bytes behind those of the ranks before it; a step of its own, so that no
 * rank writes yet.
 */
static int check_room(void *ctx, struct ckpt_err *err)
{
	const struct save *save = ctx;
	struct statvfs fs;
	char have[16];
	char want[16];
	uint64_t room;
	uint64_t end;

	if (fstatvfs(save->target.dirfd, &fs) < 0)
		return ckpt_err_sys(err, -errno, "cannot tell the free space of '%s'",
				    save->target.store_path.data);
	room = (geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize;
	if (save->bytes == 0 || (num_add(save->bytes_before, save->bytes, &end) && end <= room))
		return 0;
	return ckpt_err_set(
		err, -ENOSPC,
		"no space for the %s that this rank writes: %s are free on the store's file system, for all ranks; free some, then save again",
		num_format_size(save->bytes, want, sizeof(want)),
		num_format_size(room, have, sizeof(have)));
}

static int write_files(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;
	int rc = ckpt_shard_out_folder(&save->out, err);

	return rc < 0 ? rc : ckpt_shard_out_files(&save->out, err);
}

static int write_data(struct save *save)
{
	int rc;

	save->out = (struct ckpt_shard_out){
		.job = save->job,
		.target = &save->target,
		.request = save->request,
		.plan = &save->plan,
		.records = &save->records,
		.room = array_alloc(1, CKPT_OWN_FILE_MIN),
	};
	save->job->phase = CKPT_MPI_WRITE_DATA;
	for (size_t i = 0; i < save->plan.chunk_count; i++)
		save->bytes += save->plan.keep[i] ? save->plan.chunks[i].size_bytes : 0;
	rc = ckpt_job_agree(save->job, save->out.room ? 0 : -ENOMEM, NULL);
	if (rc == 0)
		rc = ckpt_coll_before(save->job, false, save->bytes, &save->bytes_before);
	if (rc == 0)
		rc = ckpt_job_run(save->job, CKPT_MPI_WRITE_DATA, true, check_room, save);
	if (rc == 0)
		rc = ckpt_job_go_on(save->job, true, write_files, save);
	if (rc == 0)
		rc = ckpt_pack_out(&save->out);
	free(save->out.room);
	return rc;
}

static int run(struct save *save, struct ckpt_mpi_result *out)
{
	const struct ckpt_mpi_save_request *request = save->request;
	int rc = ckpt_target_set_up(&save->target);

	if (rc == 0)
		rc = make_plans(save);
	if (rc == 0)
		rc = write_data(save);
	if (rc == 0)
		rc = ckpt_target_vote(&save->target);
	if (rc == 0) {
		const struct ckpt_target_commit what = {
			.has_step = request->has_step,
			.step = request->step,
			.meta = request->meta,
			.has_world_size = true,
			.tensors = save->tensors.items,
			.tensor_count = save->tensors.count,
		};

		rc = ckpt_target_finish(&save->target, &save->records, &what, out);
	}
	return rc < 0 ? ckpt_target_fail(&save->target, rc) : 0;
}

int ckpt_mpi_save(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
		  struct ckpt_mpi_result *out)
{
	struct save save = { .job = job, .request = request };
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	ckpt_target_init(&save.target, job, request->path, true);
	ckpt_buf_init(&save.local_wire);
	ckpt_buf_init(&save.global_wire);
	rc = run(&save, out);
	ckpt_record_list_release(&save.records);
	ckpt_tensor_list_release(&save.tensors);
	ckpt_global_plan_free(save.global);
	for (int i = 0; save.all_wires && i < job->info.global_world_size; i++)
		ckpt_buf_release(&save.all_wires[i]);
	free(save.all_wires);
	ckpt_buf_release(&save.global_wire);
	ckpt_buf_release(&save.local_wire);
	ckpt_local_plan_release(&save.plan);
	ckpt_target_release(&save.target);
	return rc;
}
