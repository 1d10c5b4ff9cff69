/*
 * job_progress.h - how far the moving of bytes is, over all ranks.
 *
 * Every rank counts what it has moved and tells the coordinator once a second,
 * and rank 0 five times a second where config.progress asks for it, in letters
 * of a few bytes (mail.h): one to a rank at a time, so that they never pile
 * up. They go from the thread that called the library alone.
 */
#ifndef CKPT_MPI_JOB_PROGRESS_H
#define CKPT_MPI_JOB_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "job.h"

/** ckpt_progress_new - NULL when memory is out. */
struct ckpt_progress *ckpt_progress_new(int world_size);
/** ckpt_progress_free - NULL is a no-op. */
void ckpt_progress_free(struct ckpt_progress *progress);

/** ckpt_progress_begin - every rank moves @bytes[rank]; local. ckpt_job_moving() calls it. */
void ckpt_progress_begin(struct ckpt_mpi *job, enum ckpt_mpi_phase phase, const uint64_t *bytes);
/** ckpt_progress_end - all was moved; local. ckpt_job_moved() calls it. */
void ckpt_progress_end(struct ckpt_mpi *job);

/** ckpt_progress_forget - nothing is known: another operation begins; local. */
void ckpt_progress_forget(struct ckpt_mpi *job);

/** ckpt_progress_add - this rank has moved @bytes more; from any thread, cheap. */
void ckpt_progress_add(struct ckpt_mpi *job, uint64_t bytes);
/** ckpt_progress_poll - send and take what is due; from the thread that called the library. */
void ckpt_progress_poll(struct ckpt_mpi *job);
/**
 * ckpt_progress_known - what this rank knows of all; from any thread
 * On the coordinator, and on rank 0 where config.progress is set. After the bytes are moved it says
 * so until others are, or another operation begins. Returns false where it knows nothing.
 */
bool ckpt_progress_known(const struct ckpt_mpi *job, struct ckpt_mpi_progress *out);

#endif
