/*
 * seal.h - files shared among the ranks, hashed and synced (in an import copied
 * first), then committed: what all of file mode ends in.
 */
#ifndef CKPT_MPI_SEAL_H
#define CKPT_MPI_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "file_list.h"
#include "record.h"
#include "target.h"

struct ckpt_seal {
	struct ckpt_mpi *job;
	struct ckpt_target target;
	const char *
		from; /* import: the folder whose files are copied; borrowed. NULL: they are there */
	int from_fd;  /* of that folder; borrowed */
	bool is_ours; /* this job's ranks wrote the files, and phase write_data has begun */
	struct ckpt_scan_list found; /* coordinator: the files, of an import before it begins */
	struct ckpt_buf wire;	     /* who does which file */
	struct ckpt_file_list files; /* of this rank */
	struct ckpt_record_list records;
};

/** ckpt_seal_init - nothing on disk yet; ckpt_target_set_up(&seal->target) comes next. */
void ckpt_seal_init(struct ckpt_seal *seal, struct ckpt_mpi *job, const char *path, bool is_new);
void ckpt_seal_release(struct ckpt_seal *seal);

/**
 * ckpt_seal_run - every phase behind set_up_storage_writer, up to the commit; collective
 * @request: for step and meta
 * Errors: the code of the failure table's first row. The caller calls ckpt_target_fail().
 */
int ckpt_seal_run(struct ckpt_seal *seal, const struct ckpt_mpi_commit_request *request,
		  struct ckpt_mpi_result *out) CKPT_MUST_CHECK;

#endif
