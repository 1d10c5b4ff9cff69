/* cli_mpi_files.c - ckptfs-mpi commit and import: files that others wrote. */
#include <stdio.h>

#include "cli_mpi.h"
#include "cli_mpi_progress.h"

typedef int (*sealer)(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		      struct ckpt_mpi_result *out);

static int seal(struct ckpt_mpi *job, const struct mpi_options *options, sealer how,
		const char *from)
{
	const struct ckpt_mpi_commit_request request = {
		.path = options->args[options->arg_count - 1],
		.from = from,
		.has_step = options->has_step,
		.step = options->step,
		.meta = options->meta.len_bytes ? options->meta.data : NULL,
	};
	struct ckpt_mpi_result result = { .id = "" };
	double began = MPI_Wtime();

	if (how(job, &request, &result) < 0)
		return mpi_report(job);
	mpi_progress_erase();
	if (mpi_is_speaker(job))
		(void)printf("%s: %s by %d ranks (seq %llu, %llu shards, %llu bytes, %.2f s)\n",
			     result.name, from ? "imported" : "committed",
			     ckpt_mpi_rank(job)->global_world_size, (unsigned long long)result.seq,
			     (unsigned long long)result.shard_count,
			     (unsigned long long)result.size_bytes, MPI_Wtime() - began);
	return MPI_EXIT_OK;
}

static int commit(struct ckpt_mpi *job, const struct mpi_options *options)
{
	return seal(job, options, ckpt_mpi_commit, NULL);
}

static int import(struct ckpt_mpi *job, const struct mpi_options *options)
{
	return seal(job, options, ckpt_mpi_import, options->args[0]);
}

const struct mpi_command mpi_commit_command = {
	.name = "commit",
	.args = "CHECKPOINT",
	.summary = "hash what others wrote on all ranks, then commit it",
	.details = "CHECKPOINT is the folder of an open checkpoint; nobody may be writing to it.",
	.doing = "committing",
	.options = "smpqacwrFgC",
	.min_args = 1,
	.max_args = 1,
	.run = commit,
};

const struct mpi_command mpi_import_command = {
	.name = "import",
	.args = "DIR CHECKPOINT",
	.summary = "copy a folder into a new checkpoint on all ranks, then commit it",
	.details = "Modes, times and symbolic links are kept. DIR stays as it is.",
	.doing = "importing",
	.options = "smpqacwrFgC",
	.min_args = 2,
	.max_args = 2,
	.run = import,
};
