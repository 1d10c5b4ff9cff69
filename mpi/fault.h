/*
 * fault.h - faults on demand: CKPTFS_FAULT=PHASE@RANK[,RANK...][:ACTION],
 * `;` between several. ACTION: error (the default) exit kill stop enospc short.
 */
#ifndef CKPT_MPI_FAULT_H
#define CKPT_MPI_FAULT_H

#include <stddef.h>

#include "base/err.h"
#include "ckptfs_mpi.h"

/* Ranks that one text may name in all, for every phase together. */
#define CKPT_FAULT_MAX 256

enum ckpt_fault_action {
	CKPT_FAULT_ERROR,
	CKPT_FAULT_EXIT,
	CKPT_FAULT_KILL,
	CKPT_FAULT_STOP,
	CKPT_FAULT_ENOSPC,
	CKPT_FAULT_SHORT,
};

struct ckpt_fault {
	enum ckpt_mpi_phase phase;
	int rank;
	enum ckpt_fault_action action;
};

struct ckpt_fault_set {
	char *text; /* as given; NULL: none */
	struct ckpt_fault faults[CKPT_FAULT_MAX];
	size_t count;
};

/** ckpt_fault_parse - @text NULL or "" is no fault. -EINVAL names the word. */
int ckpt_fault_parse(const char *text, struct ckpt_fault_set *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_fault_release - may be called again, and on a zeroed set. */
void ckpt_fault_release(struct ckpt_fault_set *set);
/**
 * ckpt_fault_hit - what @rank meets when it enters @phase: 0, -EIO, -ENOSPC; may stop or end the
 * process.
 */
int ckpt_fault_hit(const struct ckpt_fault_set *set, enum ckpt_mpi_phase phase, int rank,
		   struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
