/*
 * fault_state.h - a small state to save and load while ranks fail: a tensor cut
 * along its rows, one that all ranks hold, and bytes of each rank.
 */
#ifndef CKPT_FAULT_STATE_H
#define CKPT_FAULT_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "../../mpi/ckptfs_mpi.h"

/* A phase of one of the two operations, and who runs it. */
struct fault_phase {
	enum ckpt_mpi_phase phase;
	bool loads;
	bool coordinator_only;
	bool in_background; /* of the asynchronous operation */
};
#define FAULT_PHASE_COUNT 15
extern const struct fault_phase fault_phases[FAULT_PHASE_COUNT];

/** fault_phase_find - by its name, of a save or a load; NULL. */
const struct fault_phase *fault_phase_find(const char *name, bool loads);

/** fault_save - ckpt_mpi_save(), or (@in_background) _start() and _wait(). */
int fault_save(struct ckpt_mpi *job, const char *path, bool in_background);
/** fault_load - the same for a read of what fault_save() saved; -EILSEQ: other bytes. */
int fault_load(struct ckpt_mpi *job, const char *path, bool in_background);
/** fault_run - the operation of a phase. */
int fault_run(struct ckpt_mpi *job, const struct fault_phase *phase, const char *path);

/** fault_set - $CKPTFS_FAULT: @phase, the ranks of the bit set @ranks, @action. 0 ranks: none. */
void fault_set(enum ckpt_mpi_phase phase, unsigned ranks, const char *action);

/**
 * fault_check - this rank's table is exactly this: the ranks of @bad, each in @phase with @code,
 * on this host, with a message that holds @text. Says what is not so; returns 0 or 1.
 */
struct fault_table {
	enum ckpt_mpi_phase phase;
	unsigned bad;
	int code;
	const char *text;
};
int fault_check(const struct ckpt_mpi *job, const struct fault_table *expected, const char *what);

#endif
