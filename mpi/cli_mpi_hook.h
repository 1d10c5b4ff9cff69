/*
 * cli_mpi_hook.h - the commands of --pre-commit and --post-commit, as hooks of the library.
 */
#ifndef CKPT_MPI_CLI_MPI_HOOK_H
#define CKPT_MPI_CLI_MPI_HOOK_H

#include "cli_mpi.h"

struct mpi_hooks {
	const char *pre_commit; /* commands; NULL none */
	const char *post_commit;
	uint32_t timeout_secs;
	struct ckpt_mpi *job;	   /* that runs them; set when there is one */
	struct ckpt_mpi_arg *args; /* heap */
	size_t arg_count;
};

/** mpi_hooks_init - from the command line, which outlives it. -ENOMEM. */
int mpi_hooks_init(struct mpi_hooks *hooks, const struct mpi_options *options) CKPT_MUST_CHECK;
void mpi_hooks_release(struct mpi_hooks *hooks);

/** mpi_hooks_configure - make them the job's. */
void mpi_hooks_configure(struct mpi_hooks *hooks, struct ckpt_mpi_config *config);

/**
 * mpi_hooks_run - a phase of a load: the command of @phase, if there is one, on every rank;
 * collective
 * @path: the caller's; @folder: of the committed checkpoint, as system calls take it
 */
int mpi_hooks_run(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, const char *path,
		  const char *folder) CKPT_MUST_CHECK;

#endif
