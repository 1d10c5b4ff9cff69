/* read.c - reading boxes and blobs on all ranks, phase by phase; see ckptfs_mpi.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "async.h"
#include "base/num.h"
#include "collective.h"
#include "job_progress.h"
#include "mpi_reader.h"
#include "read_item.h"
#include "read_share.h"

struct reading {
	struct ckpt_mpi_reader *reader;
	const struct ckpt_mpi_read_request *request;
	bool in_background;
	struct ckpt_read_list list;
	struct ckpt_read_share *share; /* NULL: nothing is handed round */
	bool handing_round;	       /* what arrives is counted, not what is read */
	struct ckpt_fill *fill;
	void *room;	      /* CKPT_READ_ROOM bytes */
	uint64_t *all_bytes;  /* of every rank */
	uint64_t total_bytes; /* coordinator; then all */
};

static void reading_release(struct reading *it)
{
	ckpt_read_share_free(it->share);
	ckpt_fill_free(it->fill);
	ckpt_read_list_release(&it->list);
	free(it->room);
	free(it->all_bytes);
}

/* --- plans ------------------------------------------------------------------------------------- */

/* In the background there is nobody to hand bytes to. */
static int check_background(const struct reading *it, struct ckpt_err *err)
{
	if (it->request->write)
		return ckpt_err_set(
			err, -EINVAL,
			"a read in the background cannot call ->write; give each want memory of its own");
	for (size_t i = 0; i < it->list.count; i++) {
		if (!it->list.items[i].to.data)
			return ckpt_err_set(
				err, -EINVAL,
				"'%s' is wanted without memory for it, which a read in the background needs; give its want data",
				it->list.items[i].tensor ? it->list.items[i].tensor->fqn
							 : it->list.items[i].blob->fqn);
	}
	return 0;
}

static int prepare_local(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;
	int rc = ckpt_read_list_make(&it->reader->manifest, it->reader->label.data, it->request,
				     &it->list, err);

	return rc < 0 || !it->in_background ? rc : check_background(it, err);
}

static int add_up(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;

	for (int rank = 0; rank < it->reader->job->info.global_world_size; rank++) {
		if (!num_add(it->total_bytes, it->all_bytes[rank], &it->total_bytes))
			return ckpt_err_set(
				err, -EOVERFLOW,
				"what all ranks want is more than 2^64 bytes; want less at a time");
	}
	return 0;
}

/* Who reads what, and how much all ranks get together. */
static int make_plans(struct reading *it)
{
	struct ckpt_mpi *job = it->reader->job;
	int rc = ckpt_job_run(job, CKPT_MPI_PREPARE_LOCAL_PLAN, true, prepare_local, it);

	if (rc == 0 && !it->in_background)
		rc = ckpt_read_share_plan(job, &it->list, &it->share);
	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_GLOBAL_PLAN;
	it->all_bytes = array_alloc((size_t)job->info.global_world_size, sizeof(*it->all_bytes));
	rc = ckpt_job_agree(job, it->all_bytes ? 0 : -ENOMEM, NULL);
	if (rc == 0)
		rc = ckpt_coll_all(job, &it->list.bytes, sizeof(it->list.bytes), it->all_bytes);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_PREPARE_GLOBAL_PLAN, ckpt_job_is_coordinator(job),
				  add_up, it);
	return rc < 0 ? rc : ckpt_coll_max(job, it->total_bytes, &it->total_bytes);
}

/* --- reading ------------------------------------------------------------------------------------- */

static int moved(void *ctx, uint64_t bytes, struct ckpt_err *err)
{
	const struct reading *it = ctx;

	if (!it->handing_round)
		ckpt_progress_add(it->reader->job, bytes);
	return ckpt_job_cancelled(it->reader->job, err);
}

static int open_fill(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;
	const struct ckpt_fill_from from = {
		.dirfd = it->reader->dirfd,
		.label = it->reader->label.data,
		.manifest = &it->reader->manifest,
		.moved = moved,
		.ctx = it,
	};

	it->room = array_alloc(1, CKPT_READ_ROOM);
	it->fill = ckpt_fill_new(&from);
	return it->room && it->fill
		       ? 0
		       : ckpt_err_sys(err, -ENOMEM, "cannot read '%s'", it->reader->label.data);
}

/* What this rank reads for itself alone. */
static int read_items(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;
	int rc = 0;

	for (size_t i = 0; i < it->list.count && rc == 0; i++) {
		if (!it->list.items[i].done)
			rc = ckpt_item_read(&it->list, &it->list.items[i], it->fill, it->room, err);
	}
	return rc;
}

static int read_data(struct reading *it)
{
	struct ckpt_mpi *job = it->reader->job;
	struct ckpt_read_share_end handed = { .code = 0 };
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = ckpt_job_run(job, CKPT_MPI_READ_DATA, true, open_fill, it);

	if (rc == 0)
		rc = ckpt_job_moving(job, CKPT_MPI_READ_DATA, it->list.bytes);
	if (rc == 0 && it->share) {
		it->handing_round = true;
		rc = ckpt_read_share_run(it->share, it->fill, &handed, &err);
		it->handing_round = false;
	}
	if (rc < 0)
		return rc;
	if (handed.code == 0 && !handed.ended)
		handed.code = read_items(it, &err);
	rc = ckpt_job_agree(job, handed.code, &err);
	ckpt_job_moved(job);
	return rc < 0 ? rc : ckpt_job_run(job, CKPT_MPI_READ_DATA_ASYNC, true, NULL, NULL);
}

int ckpt_mpi_reader_read(struct ckpt_mpi_reader *reader,
			 const struct ckpt_mpi_read_request *request, uint64_t *out_total_bytes)
{
	struct reading it = { .reader = reader, .request = request };
	int rc = ckpt_job_begin(reader->job);

	if (rc == 0)
		rc = make_plans(&it);
	if (rc == 0)
		rc = read_data(&it);
	if (rc == 0 && out_total_bytes)
		*out_total_bytes = it.total_bytes;
	reading_release(&it);
	return rc;
}

/* --- in the background -------------------------------------------------------------------------- */

static int end_background(void *ctx, int rc, struct ckpt_mpi_result *out)
{
	const struct reading *it = ctx;

	(void)out;
	ckpt_job_moved(it->reader->job);
	return rc;
}

static void release_background(void *ctx)
{
	reading_release(ctx);
	free(ctx);
}

int ckpt_mpi_read_start(struct ckpt_mpi_reader *reader, const struct ckpt_mpi_read_request *request,
			struct ckpt_mpi_future **out)
{
	struct ckpt_mpi *job = reader->job;
	struct ckpt_async_work work = {
		.phase = CKPT_MPI_READ_DATA_ASYNC,
		.work = read_items,
		.end = end_background,
		.release = release_background,
	};
	struct reading *it;
	int rc = ckpt_job_begin(job);

	*out = NULL;
	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_LOCAL_PLAN;
	it = array_alloc(1, sizeof(*it));
	rc = ckpt_job_agree(job, it ? 0 : -ENOMEM, NULL);
	assert(rc < 0 || it);
	if (it)
		*it = (struct reading){
			.reader = reader,
			.request = request,
			.in_background = true,
		};
	if (rc == 0)
		rc = make_plans(it);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_READ_DATA, true, open_fill, it);
	if (rc == 0)
		rc = ckpt_job_moving(job, CKPT_MPI_READ_DATA_ASYNC, it->list.bytes);
	if (rc < 0) {
		if (it)
			release_background(it);
		return rc;
	}
	work.ctx = it;
	return ckpt_async_start(job, &work, out);
}
