/* record.h - what each rank wrote, told to the coordinator, which commits with it. */
#ifndef CKPT_MPI_RECORD_H
#define CKPT_MPI_RECORD_H

#include <stddef.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "job.h"
#include "store/store.h"

struct ckpt_record_list {
	struct ckpt_known_shard *items;
	size_t count, cap;
};

/**
 * ckpt_record_add - room for one more, zeroed; NULL when memory is out. Borrowed until the next
 * add.
 */
struct ckpt_known_shard *ckpt_record_add(struct ckpt_record_list *list);
/**
 * ckpt_record_stamp - size, mode, times and inode of the stored file, as it is now that it is
 * durable.
 */
void ckpt_record_stamp(struct ckpt_known_shard *record, const struct stat *st);
void ckpt_record_list_release(struct ckpt_record_list *list);

/**
 * ckpt_record_gather - collective: all ranks' records to the coordinator, into @out (empty
 * elsewhere). Fails on all ranks alike.
 */
int ckpt_record_gather(struct ckpt_mpi *job, const struct ckpt_record_list *mine,
		       struct ckpt_record_list *out) CKPT_MUST_CHECK;

#endif
