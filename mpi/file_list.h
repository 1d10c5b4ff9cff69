/* file_list.h - files that ranks share among themselves, and what one rank does with its part. */
#ifndef CKPT_MPI_FILE_LIST_H
#define CKPT_MPI_FILE_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "job.h"
#include "record.h"
#include "store/store.h"

struct ckpt_file_list {
	char **paths;
	size_t count, cap;
	uint64_t bytes; /* of all of them */
};

/**
 * ckpt_file_list_deal - print who does which file: large ones first, each to the rank with the
 * least bytes so far.
 */
int ckpt_file_list_deal(const struct ckpt_scan_list *files, int world_size,
			struct ckpt_buf *out_wire) CKPT_MUST_CHECK;
/** ckpt_file_list_take - @rank's files out of that. -EBADMSG, -ENOMEM. */
int ckpt_file_list_take(const struct ckpt_buf *wire, int rank, struct ckpt_file_list *out)
	CKPT_MUST_CHECK;
void ckpt_file_list_release(struct ckpt_file_list *list);

/* What is done with a file. */
struct ckpt_file_work {
	struct ckpt_mpi *job;
	int from_fd;	  /* folder the paths are in */
	const char *from; /* as messages name it */
	int to_fd;	  /* where they are copied to; -1: nothing is copied */
	const char *to;
};

/** ckpt_file_list_sum - hash every file, make it durable, record it. */
int ckpt_file_list_sum(const struct ckpt_file_work *work, const struct ckpt_file_list *list,
		       struct ckpt_record_list *records, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_file_list_copy - copy every file with mode and mtime, hash it on the way, make it durable,
 * record it.
 */
int ckpt_file_list_copy(const struct ckpt_file_work *work, const struct ckpt_file_list *list,
			struct ckpt_record_list *records, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
