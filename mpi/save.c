/*
 * save.c - the collective writer, phase by phase. One path for both ways to
 * save: begin() up to write_data, write_own() the bytes of this rank, complete()
 * what is left. ckpt_mpi_save() calls one after the other; ckpt_mpi_save_start()
 * has a thread do the second, and the future (async.h) the third.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "async.h"
#include "base/num.h"
#include "collective.h"
#include "global_out.h"
#include "job.h"
#include "pack_out.h"
#include "plan.h"
#include "record.h"
#include "shard_out.h"
#include "stage.h"
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
	struct ckpt_buf layout_wire;	 /* of layout global: where what lies in its file */
	struct ckpt_tensor_list tensors; /* coordinator */
	struct ckpt_bytes_list blobs;	 /* coordinator */
	struct ckpt_record_list records;
	struct ckpt_shard_out out;
	struct ckpt_pack *pack;
	struct ckpt_global_out *file; /* of layout global */
	bool in_background;
	enum ckpt_mpi_buffers buffers;
	uint64_t bytes_before; /* what ranks before this one write */
	uint64_t bytes;	       /* what this rank writes */
};

static struct save *save_new(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request)
{
	struct save *save = array_alloc(1, sizeof(*save));

	if (!save)
		return NULL;
	save->job = job;
	save->request = request;
	ckpt_target_init(&save->target, job, request->path, true);
	ckpt_buf_init(&save->local_wire);
	ckpt_buf_init(&save->global_wire);
	ckpt_buf_init(&save->layout_wire);
	return save;
}

static void save_free(void *ctx)
{
	struct save *save = ctx;

	if (!save)
		return;
	ckpt_global_out_free(save->file);
	ckpt_pack_free(save->pack);
	ckpt_shard_out_release(&save->out);
	ckpt_record_list_release(&save->records);
	ckpt_bytes_list_release(&save->blobs);
	ckpt_tensor_list_release(&save->tensors);
	ckpt_global_plan_free(save->global);
	for (int i = 0; save->all_wires && i < save->job->info.global_world_size; i++)
		ckpt_buf_release(&save->all_wires[i]);
	free(save->all_wires);
	ckpt_buf_release(&save->layout_wire);
	ckpt_buf_release(&save->global_wire);
	ckpt_buf_release(&save->local_wire);
	ckpt_local_plan_release(&save->plan);
	ckpt_target_release(&save->target);
	free(save);
}

/* --- plans ----------------------------------------------------------------------------------- */

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

	if (rc == 0)
		rc = ckpt_global_plan_tensors(save->global, &save->tensors);
	if (rc == 0)
		rc = ckpt_global_plan_blobs(save->global, &save->blobs);
	if (rc == 0 && save->request->layout == CKPT_MPI_LAYOUT_GLOBAL)
		rc = ckpt_global_layout_make(&save->tensors, &save->layout_wire, err);
	return rc;
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
	if (rc == 0 && save->request->layout == CKPT_MPI_LAYOUT_GLOBAL)
		rc = ckpt_coll_bcast(job, &save->layout_wire);
	return rc < 0 ? rc : ckpt_job_go_on(job, true, take_part, save);
}

/* --- write_data ------------------------------------------------------------------------------- */

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

static int make_folder(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;

	return ckpt_shard_out_folder(&save->out, err);
}

/* Who writes what, where: all that needs the other ranks before a byte is written. */
static int lay_out(struct save *save)
{
	struct ckpt_mpi *job = save->job;
	int rc;

	job->phase = CKPT_MPI_WRITE_DATA;
	rc = ckpt_job_agree(job,
			    ckpt_shard_out_init(&save->out, &save->target, save->request,
						&save->plan, &save->records),
			    NULL);
	for (size_t i = 0; i < save->plan.chunk_count; i++)
		save->bytes += save->plan.keep[i] ? save->plan.chunks[i].size_bytes : 0;
	if (rc == 0)
		rc = ckpt_coll_before(job, false, save->bytes, &save->bytes_before);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_WRITE_DATA, true, check_room, save);
	if (rc == 0)
		rc = ckpt_job_go_on(job, true, make_folder, save);
	if (rc == 0 && !save->in_background)
		rc = ckpt_job_moving(job, CKPT_MPI_WRITE_DATA, save->bytes);
	if (rc == 0)
		rc = ckpt_pack_begin(&save->out, &save->pack);
	if (rc == 0 && save->request->layout == CKPT_MPI_LAYOUT_GLOBAL)
		rc = ckpt_global_out_begin(&save->out, &save->layout_wire, save->in_background,
					   &save->file);
	return rc;
}

static int begin(struct save *save)
{
	int rc = ckpt_target_set_up(&save->target);

	if (rc == 0)
		rc = make_plans(save);
	return rc < 0 ? rc : lay_out(save);
}

/* This rank's bytes, without the others: may run in a thread. */
static int write_own(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;
	int rc = ckpt_shard_out_files(&save->out, err);

	if (rc == 0)
		rc = ckpt_pack_write(save->pack, err);
	return rc < 0 || !save->file ? rc : ckpt_global_out_write(save->file, err);
}

/* What all ranks do together when each has written its own. */
static int write_together(struct save *save)
{
	int rc = ckpt_pack_end(save->pack);

	if (rc == 0 && save->file)
		rc = ckpt_global_out_end(save->file);
	if (rc == 0)
		ckpt_job_moved(save->job);
	return rc;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* The phases behind the writing, if that went well; @rc is what it ended with. */
static int complete(struct save *save, int rc, struct ckpt_mpi_result *out)
{
	const struct ckpt_mpi_save_request *request = save->request;

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
			.bytes_entries = save->blobs.items,
			.bytes_entry_count = save->blobs.count,
		};

		rc = ckpt_target_finish(&save->target, &save->records, &what, out);
	}
	return rc < 0 ? ckpt_target_fail(&save->target, rc) : 0;
}

int ckpt_mpi_save(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
		  struct ckpt_mpi_result *out)
{
	struct save *save;
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	save = save_new(job, request);
	job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	rc = ckpt_job_agree(job, save ? 0 : -ENOMEM, NULL);
	if (rc == 0) {
		assert(save);
		rc = begin(save);
		if (rc == 0)
			rc = ckpt_job_go_on(job, true, write_own, save);
		if (rc == 0)
			rc = write_together(save);
		if (rc == 0)
			rc = ckpt_job_run(job, CKPT_MPI_WRITE_DATA_ASYNC, true, NULL, NULL);
		rc = complete(save, rc, out);
	}
	save_free(save);
	return rc;
}

/* --- in the background ---------------------------------------------------------------------- */

static int stage(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;

	return ckpt_stage_fill(&save->out, save->buffers, &save->job->stage, err);
}

static int end_in_background(void *ctx, int rc, struct ckpt_mpi_result *out)
{
	struct save *save = ctx;

	return complete(save, rc < 0 ? rc : write_together(save), out);
}

/* Of layout global it is not the rank's own tensors that its thread writes. */
static uint64_t background_bytes(const struct save *save)
{
	const struct ckpt_local_plan *plan = &save->plan;
	uint64_t bytes = save->file ? ckpt_global_out_bytes(save->file) : 0;

	for (size_t i = 0; i < plan->chunk_count; i++) {
		if (plan->keep[i] && (plan->chunks[i].is_blob || !save->file))
			bytes += plan->chunks[i].size_bytes;
	}
	return bytes;
}

static int start(struct save *save, struct ckpt_mpi_future **out)
{
	const struct ckpt_async_work work = {
		.phase = CKPT_MPI_WRITE_DATA_ASYNC,
		.work = write_own,
		.end = end_in_background,
		.release = save_free,
		.ctx = save,
	};
	int rc = begin(save);

	if (rc == 0)
		rc = ckpt_job_go_on(save->job, true, stage, save);
	if (rc == 0)
		rc = ckpt_job_moving(save->job, CKPT_MPI_WRITE_DATA_ASYNC, background_bytes(save));
	if (rc == 0)
		return ckpt_async_start(save->job, &work, out);
	rc = complete(save, rc, NULL);
	save_free(save);
	return rc;
}

int ckpt_mpi_save_start(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
			enum ckpt_mpi_buffers buffers, struct ckpt_mpi_future **out)
{
	struct save *save;
	int rc = ckpt_job_begin(job);

	*out = NULL;
	if (rc < 0)
		return rc;
	save = save_new(job, request);
	job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	rc = ckpt_job_agree(job, save ? 0 : -ENOMEM, NULL);
	if (rc < 0) {
		save_free(save);
		return rc;
	}
	assert(save);
	save->in_background = true;
	save->buffers = buffers;
	return start(save, out);
}
