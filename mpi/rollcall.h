/*
 * rollcall.h - who did not arrive? Asked when a collective call outlasts its time.
 *
 * The rank whose time is up first CALLs all others; whoever waits in a
 * collective call (this one or another: it may be held up by the same missing
 * rank) answers HERE, and calls itself. After a short grace the lowest rank
 * that answered sends the VERDICT, the list of the missing, to all, and every
 * waiting rank takes it, so that all survivors have one table; a missing one
 * that comes late finds itself in it. Should the call end meanwhile, the roll
 * call ends with it. Where nobody is missing, but MPI failed on some rank or
 * the call does not end at all, the verdict says that.
 *
 * O(n^2) small messages, in a run that has failed anyway. What cannot be had:
 * a rank that arrives in the very moment of the verdict may leave the call
 * that others have given up; it hears of it at its next one.
 */
#ifndef CKPT_MPI_ROLLCALL_H
#define CKPT_MPI_ROLLCALL_H

#include "job.h"

/** ckpt_roll_new - a heap object for the job's communicator; NULL when memory is out. */
struct ckpt_roll *ckpt_roll_new(int world_size);
/** ckpt_roll_free - NULL is a no-op. */
void ckpt_roll_free(struct ckpt_roll *roll);
/** ckpt_roll_enter - this rank enters the next collective call: its time starts. */
void ckpt_roll_enter(struct ckpt_mpi *job);
/**
 * ckpt_roll_mpi_failed - MPI failed on this rank in this call, which therefore never ends here. The
 * cause may be a rank that is gone: the roll is called when the time is up, not before.
 */
void ckpt_roll_mpi_failed(struct ckpt_mpi *job, const char *why);
/**
 * ckpt_roll_poll - one look while waiting
 * Time in which this rank did not look, because it was stopped or computed, hardly counts.
 * Returns 0: go on waiting; -ETIMEDOUT, -EIO: the verdict is in the job's table and the job is
 * broken.
 */
int ckpt_roll_poll(struct ckpt_mpi *job) CKPT_MUST_CHECK;
/** ckpt_roll_hear - is there a verdict? Else nothing is done. Returns as ckpt_roll_poll. */
int ckpt_roll_hear(struct ckpt_mpi *job) CKPT_MUST_CHECK;
/**
 * ckpt_roll_part - after a verdict: the reporter has left on disk what it had to; the others wait
 * for it, some seconds at most
 * Many launchers end a job when its first rank leaves: that shall not be while the reporter still
 * works. Local in a job that is not broken.
 */
void ckpt_roll_part(struct ckpt_mpi *job);

#endif
