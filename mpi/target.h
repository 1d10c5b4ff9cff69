/*
 * target.h - the checkpoint that a job writes: made by the coordinator, seen
 * and opened by every rank, committed or marked aborted at the end.
 */
#ifndef CKPT_MPI_TARGET_H
#define CKPT_MPI_TARGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "job.h"
#include "record.h"
#include "store/store.h"

struct ckpt_target {
	struct ckpt_mpi *job;
	const char *path; /* as the caller gave it */
	bool is_new;	  /* made by this job: marked aborted when it fails */
	bool committed;
	struct ckpt_store *store;
	struct ckpt_buf store_path;
	struct ckpt_buf
		mount_path;   /* where the caller's path runs through a mount; coordinator only */
	struct ckpt_buf name; /* of the open checkpoint, below the store */
	uint64_t ino;	      /* of its folder, as the coordinator sees it */
	int dirfd;
	char since[CKPT_RFC3339_SIZE];	 /* when it was begun */
	atomic_uint_fast64_t touched_ms; /* when the session was, last */
};

/* What the commit is told besides the records. */
struct ckpt_target_commit {
	bool has_step;
	uint64_t step;
	const char *meta;
	bool has_world_size; /* this job's ranks wrote it */
	const struct ckpt_tensor *tensors;
	size_t tensor_count;
	const struct ckpt_bytes_entry *bytes_entries;
	size_t bytes_entry_count;
};

/** ckpt_target_init - nothing on disk yet. @is_new: it is to be made; else it is there, open. */
void ckpt_target_init(struct ckpt_target *target, struct ckpt_mpi *job, const char *path,
		      bool is_new);
/** ckpt_target_release - local. */
void ckpt_target_release(struct ckpt_target *target);

/**
 * ckpt_target_set_up - phase set_up_storage_writer: find or make it, open it on every rank, check
 * that all see one folder.
 */
int ckpt_target_set_up(struct ckpt_target *target) CKPT_MUST_CHECK;

/** ckpt_target_vote - phases pre_commit and barrier. */
int ckpt_target_vote(struct ckpt_target *target) CKPT_MUST_CHECK;

/**
 * ckpt_target_finish - phases finish and post_commit; @mine: this rank's records. *@out is filled
 * in once it was committed.
 */
int ckpt_target_finish(struct ckpt_target *target, const struct ckpt_record_list *mine,
		       const struct ckpt_target_commit *what, struct ckpt_mpi_result *out)
	CKPT_MUST_CHECK;

/**
 * ckpt_target_fail - after any failure: leave the failure table in the open checkpoint, if this
 * job made it. Returns @code.
 */
int ckpt_target_fail(struct ckpt_target *target, int code);

#endif
