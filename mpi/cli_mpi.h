/*
 * cli_mpi.h - what the files of the program ckptfs-mpi share. Every rank runs
 * the same code; what is printed is printed by one rank, once.
 */
#ifndef CKPT_MPI_CLI_MPI_H
#define CKPT_MPI_CLI_MPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "ckptfs_mpi.h"

enum mpi_exit {
	MPI_EXIT_OK = 0,
	MPI_EXIT_FAILED = 1, /* not done, or damage found */
	MPI_EXIT_USAGE = 2,  /* the command line is wrong; nothing was touched */
};

/* A mesh has at most this many axes: no tensor has more dimensions. */
#define MPI_MESH_AXES_MAX CKPT_MPI_DIM_MAX

/* KEY=VALUE of the command line. */
struct mpi_pair {
	char *key; /* heap */
	const char *value;
};

struct mpi_pair_list {
	struct mpi_pair *items;
	size_t count, cap;
};

/* Strings are argv's. */
struct mpi_options {
	char **args; /* what is left of argv */
	size_t arg_count;
	const char *base; /* -C, else $CKPTFS_STORE; NULL */
	const char *from;
	const char *to;
	struct mpi_pair_list blobs; /* names and files */
	struct ckpt_buf meta;	    /* JSON object; "" none */
	uint64_t step;
	uint64_t shard_dim;
	struct ckpt_mpi_mesh mesh; /* axis_count 0: none; points to the two at the end */
	size_t placement_count;
	uint64_t min_bytes_per_sec;
	const char *pre_commit; /* commands; NULL none */
	const char *post_commit;
	struct mpi_pair_list hook_args;
	const char *failures; /* NULL none */
	uint64_t size_bytes;  /* bench */
	uint64_t rounds;
	uint64_t shard_count; /* bench: small ones a rank; 0: large tensors */
	int world_size;	      /* ranks of the job */
	int coordinator;
	int aggregators;
	uint32_t timeout_secs;
	enum ckpt_mpi_layout layout;
	enum ckpt_mpi_io io;
	int mesh_extents[MPI_MESH_AXES_MAX];
	int mesh_placements[MPI_MESH_AXES_MAX];
	bool has_step;
	bool has_shard_dim;
	bool is_async;
	bool progress; /* also where stderr is no terminal */
	bool json;
};

struct mpi_command {
	const char *name;
	const char *args;
	const char *summary;
	const char *details;
	const char *options; /* the letters of the rows that it takes, see cli_mpi_rows.c */
	const char *doing;   /* label of its bar: "saving"; NULL: by what it does */
	size_t min_args;
	size_t max_args;
	int (*run)(struct ckpt_mpi *job, const struct mpi_options *options);
};

extern const struct mpi_command mpi_save_command;
extern const struct mpi_command mpi_load_command;
extern const struct mpi_command mpi_commit_command;
extern const struct mpi_command mpi_import_command;
extern const struct mpi_command mpi_verify_command;
extern const struct mpi_command mpi_bench_command;

/**
 * mpi_options_parse - take the command line apart
 * @out: world_size is set: a mesh must have as many places; mpi_options_release() it, also after a
 * failure
 * @out_command: the command to run; NULL: only print @text and exit 0 (--help, --version)
 * Errors: -EINVAL, with what is wrong and the remedy.
 */
int mpi_options_parse(int argc, char **argv, struct mpi_options *out,
		      const struct mpi_command **out_command, struct ckpt_buf *text,
		      struct ckpt_err *err) CKPT_MUST_CHECK;
void mpi_options_release(struct mpi_options *options);

/**
 * mpi_report - print the failure table, if this rank is the one to do it; returns MPI_EXIT_FAILED.
 */
int mpi_report(const struct ckpt_mpi *job);
/**
 * mpi_await - the end of what goes on in the background, by testing, as an application would that
 * has something else to do; returns as ckpt_mpi_wait
 */
int mpi_await(struct ckpt_mpi_future **future, struct ckpt_mpi_result *out) CKPT_MUST_CHECK;
/** mpi_is_speaker - this rank prints what the job has to say. */
bool mpi_is_speaker(const struct ckpt_mpi *job);
/** mpi_say - one line on stderr, "ckptfs-mpi: …", whatever the rank. */
void mpi_say(const char *fmt, ...) CKPT_PRINTF(1, 2);
/**
 * mpi_flush - stdout is out; MPI_EXIT_FAILED, said on stderr, when it could not be written; else
 * @code.
 */
int mpi_flush(int code);

#endif
