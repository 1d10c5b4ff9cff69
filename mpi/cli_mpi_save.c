/*
 * cli_mpi_save.c - ckptfs-mpi save: a safetensors model, cut among the ranks, into a new
 * checkpoint.
 */
#include <stdio.h>

#include "cli_mpi.h"
#include "cli_mpi_source.h"
#include "job.h"

struct saving {
	struct ckpt_mpi *job;
	const struct mpi_options *options;
	struct mpi_source source;
};

static int open_source(void *ctx, struct ckpt_err *err)
{
	struct saving *saving = ctx;
	int rc = mpi_source_open(&saving->source, saving->options->from, err);

	return rc < 0 ? rc
		      : mpi_source_cut(&saving->source, saving->options->shard_dim,
				       ckpt_mpi_rank(saving->job));
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

static int save(struct ckpt_mpi *job, const struct mpi_options *options)
{
	struct saving saving = { .job = job, .options = options };
	struct ckpt_mpi_result result = { .id = "" };
	double began = MPI_Wtime();
	int rc = open_everywhere(&saving);

	if (rc == 0) {
		const struct ckpt_mpi_save_request request = {
			.path = options->args[0],
			.entries = saving.source.entries,
			.entry_count = saving.source.count,
			.read = mpi_source_read,
			.ctx = &saving.source,
			.has_step = options->has_step,
			.step = options->step,
			.meta = options->meta.len_bytes ? options->meta.data : NULL,
		};

		rc = ckpt_mpi_save(job, &request, &result);
	}
	mpi_source_release(&saving.source);
	if (rc < 0)
		return mpi_report(job);
	if (mpi_is_speaker(job))
		(void)printf(
			"%s: saved %zu tensors from %d ranks (seq %llu, %llu shards, %llu bytes, %.2f s)\n",
			result.name, saving.source.count, ckpt_mpi_rank(job)->global_world_size,
			(unsigned long long)result.seq, (unsigned long long)result.shard_count,
			(unsigned long long)result.size_bytes, MPI_Wtime() - began);
	return MPI_EXIT_OK;
}

const struct mpi_command mpi_save_command = {
	.name = "save",
	.args = "CHECKPOINT --from FILE",
	.summary = "write a safetensors model as a new checkpoint, cut among the ranks",
	.details =
		"Every tensor is cut along one dimension, as torch.chunk cuts; a rank's part is a\n"
		"shard 'rank-NNNNN/FQN@START'. It is committed when every rank succeeded.",
	.options = "fdsmicwC",
	.min_args = 1,
	.max_args = 1,
	.run = save,
};
