/*
 * rollcall.h - who did not arrive? Asked when a collective call outlasts its time.
 *
 * The rank whose time is up first sends HERE to all others; whoever waits in
 * the same call answers with HERE of its own. After a short grace the lowest
 * rank that answered sends the VERDICT, the list of the missing, to all, and
 * every waiting rank takes it, so that all survivors have one table. Should
 * the call end meanwhile, the roll call ends with it. O(n^2) small messages,
 * in a run that has failed anyway.
 */
#ifndef CKPT_MPI_ROLLCALL_H
#define CKPT_MPI_ROLLCALL_H

#include "job.h"

/** ckpt_roll_new - a heap object for the job's communicator; NULL when memory is out. */
struct ckpt_roll *ckpt_roll_new(int world_size);
/** ckpt_roll_free - not after a roll call was held: MPI may still read the messages. */
void ckpt_roll_free(struct ckpt_roll *roll);
/** ckpt_roll_enter - this rank enters the next collective call. */
void ckpt_roll_enter(struct ckpt_mpi *job);
/**
 * ckpt_roll_poll - one look while waiting
 * Returns 0: go on waiting; -ETIMEDOUT: the verdict is in the job's table and the job is broken;
 * -EIO.
 */
int ckpt_roll_poll(struct ckpt_mpi *job) CKPT_MUST_CHECK;

#endif
