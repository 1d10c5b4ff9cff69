/*
 * cli_mpi_options.h - the options of ckptfs-mpi, one row each: what cli_mpi_options.c parses by and
 * cli_mpi_rows.c holds. Only these two include it.
 */
#ifndef CKPT_MPI_CLI_MPI_OPTIONS_H
#define CKPT_MPI_CLI_MPI_OPTIONS_H

#include <stddef.h>

#include "base/err.h"
#include "cli_mpi.h"

/* What the line is parsed into. */
struct mpi_parse {
	struct mpi_options *options;
	struct ckpt_err *err;
};

struct mpi_row {
	const char *name;  /* without dashes; NULL: only the letter, for -C */
	char letter;	   /* in struct mpi_command.options */
	const char *value; /* NULL: it takes none */
	const char *help;
	int (*take)(struct mpi_parse *parse, const char *text);
};

extern const struct mpi_row mpi_rows[];
extern const size_t mpi_row_count;
/* At least mpi_row_count. */
#define MPI_ROW_MAX 32

/**
 * mpi_rows_check - what can only be told when the whole line was read; @world_size: ranks of the
 * job. -EINVAL.
 */
int mpi_rows_check(struct mpi_parse *parse, int world_size) CKPT_MUST_CHECK;

#endif
