/*
 * verify_shared.h - a committed checkpoint against its sums, on all ranks
 * together: each reads a part of as many bytes, also of one large shard.
 */
#ifndef CKPT_MPI_VERIFY_SHARED_H
#define CKPT_MPI_VERIFY_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "job.h"

struct ckpt_verify_shared {
	struct ckpt_mpi *job;
	const char *folder;	    /* as system calls take it */
	const char *name;	    /* in findings */
	bool any_failure_is_damage; /* a finding of its own, unless it says nothing about the files */
	/* Out of all ranks' parts: */
	uint64_t shard_count;
	uint64_t size_bytes;
	uint64_t finding_count; /* each counted once */
	/* Coordinator: the findings in natural order, each once; borrowed until release. */
	const char **lines;
	struct ckpt_buf *found; /* what they lie in, one a rank */
};

/** ckpt_verify_shared_init - @folder and @name are borrowed. */
void ckpt_verify_shared_init(struct ckpt_verify_shared *verify, struct ckpt_mpi *job,
			     const char *folder, const char *name);
void ckpt_verify_shared_release(struct ckpt_verify_shared *verify);

/**
 * ckpt_verify_shared_run - phase read_data on all ranks; once an object
 * Damage is a finding, not an error. Errors: the code of the failure table's first row: what keeps
 * some rank from checking (-ENOENT no manifest, or no such folder).
 */
int ckpt_verify_shared_run(struct ckpt_verify_shared *verify) CKPT_MUST_CHECK;

#endif
