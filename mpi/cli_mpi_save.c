/*
 * cli_mpi_save.c - ckptfs-mpi save: a safetensors model, cut among the ranks, into a new
 * checkpoint.
 */
#include <stdio.h>

#include "cli_mpi.h"
#include "cli_mpi_progress.h"
#include "cli_mpi_source.h"
#include "job.h"

struct saving {
	struct ckpt_mpi *job;
	const struct mpi_options *options;
	struct mpi_source source;
};

/* Without a mesh all ranks are one axis, which cuts along --shard. */
static int cut(struct saving *saving)
{
	const struct ckpt_mpi_rank_info *rank = ckpt_mpi_rank(saving->job);
	const struct mpi_options *options = saving->options;
	const int all = rank->global_world_size;
	const int dim = (int)options->shard_dim;
	const struct ckpt_mpi_mesh line = { .extents = &all, .placements = &dim, .axis_count = 1 };

	return mpi_source_cut(&saving->source,
			      options->mesh.axis_count > 0 ? &options->mesh : &line,
			      rank->global_rank);
}

static int open_source(void *ctx, struct ckpt_err *err)
{
	struct saving *saving = ctx;
	int rc = mpi_source_open(&saving->source, saving->options->from, err);

	if (rc == 0)
		rc = cut(saving);
	if (rc == 0 && ckpt_mpi_rank(saving->job)->global_rank == 0)
		rc = mpi_source_blobs(&saving->source, &saving->options->blobs, err);
	return rc;
}

/*
 * The coordinator first: what is wrong with the input shall be said once, before anything is
 * touched.
 */
static int open_everywhere(struct saving *saving)
{
	struct ckpt_mpi *job = saving->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	int rc;

	job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	rc = ckpt_job_go_on(job, coordinates, open_source, saving);
	return rc < 0 ? rc : ckpt_job_go_on(job, !coordinates, open_source, saving);
}

/* As an application would that has something else to do. */
static int save_in_background(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
			      struct ckpt_mpi_result *out)
{
	struct ckpt_mpi_future *future = NULL;
	int rc = ckpt_mpi_save_start(job, request, CKPT_MPI_COPY, &future);

	return rc < 0 ? rc : mpi_await(&future, out);
}

static int save_source(struct saving *saving, struct ckpt_mpi_result *out)
{
	const struct mpi_options *options = saving->options;
	struct mpi_source *source = &saving->source;
	const struct ckpt_mpi_save_request request = {
		.path = options->args[0],
		.entries = source->entries,
		.entry_count = source->count,
		.blobs = source->blobs,
		.blob_count = source->blob_count,
		.layout = options->layout,
		.read = mpi_source_read,
		.ctx = source,
		.has_step = options->has_step,
		.step = options->step,
		.meta = options->meta.len_bytes ? options->meta.data : NULL,
	};

	return options->is_async ? save_in_background(saving->job, &request, out)
				 : ckpt_mpi_save(saving->job, &request, out);
}

static int save(struct ckpt_mpi *job, const struct mpi_options *options)
{
	struct saving saving = { .job = job, .options = options };
	struct ckpt_mpi_result result = { .id = "" };
	double began = MPI_Wtime();
	int rc = open_everywhere(&saving);

	if (rc == 0)
		rc = save_source(&saving, &result);
	mpi_progress_erase();
	if (rc == 0 && mpi_is_speaker(job))
		(void)printf(
			"%s: saved %zu tensors from %d ranks (seq %llu, %llu shards, %llu bytes, %.2f s)\n",
			result.name, saving.source.count, ckpt_mpi_rank(job)->global_world_size,
			(unsigned long long)result.seq, (unsigned long long)result.shard_count,
			(unsigned long long)result.size_bytes, MPI_Wtime() - began);
	mpi_source_release(&saving.source);
	return rc < 0 ? mpi_report(job) : MPI_EXIT_OK;
}

const struct mpi_command mpi_save_command = {
	.name = "save",
	.args = "CHECKPOINT --from FILE",
	.summary = "write a safetensors model as a new checkpoint, cut among the ranks",
	.details =
		"Every tensor is cut along one dimension, as torch.chunk cuts, or as --mesh says; a\n"
		"rank's part is a shard 'rank-NNNNN/FQN@START'. It is committed when every rank\n"
		"succeeded. The commands run in the checkpoint's folder, on every rank.",
	.doing = "saving",
	.options = "fdMPlbysmpqaiAcwrFgC",
	.min_args = 1,
	.max_args = 1,
	.run = save,
};
