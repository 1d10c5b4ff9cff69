/*
 * mail.h - small messages between ranks, beside the collective calls.
 *
 * Sending never waits and never fails: a rank that cannot be reached will be
 * missed anyway. What was sent is counted, so that at the end of a job every
 * rank knows how many letters it has to take, and none is left behind. In a
 * broken job letters may be under way for ever: then nothing is freed.
 */
#ifndef CKPT_MPI_MAIL_H
#define CKPT_MPI_MAIL_H

#include <stdbool.h>
#include <stddef.h>

#include "job.h"

/* What letters are about; each is of its own kind and size. */
enum ckpt_mail_tag {
	CKPT_MAIL_ROLL = 1,
	CKPT_MAIL_VERDICT,
	CKPT_MAIL_PROGRESS,
	CKPT_MAIL_PART,
};

/** ckpt_mail_new - NULL when memory is out. */
struct ckpt_mail *ckpt_mail_new(int world_size);
/** ckpt_mail_free - after ckpt_mail_end() alone. */
void ckpt_mail_free(struct ckpt_mail *mail);

/** ckpt_mail_send - @data is copied. Lost where memory is out. */
void ckpt_mail_send(struct ckpt_mpi *job, int to, enum ckpt_mail_tag tag, const void *data,
		    size_t bytes);
/**
 * ckpt_mail_send_once - unless the last letter that was sent so to @to is not taken yet
 * Letters to a rank that is too busy to look do not pile up.
 */
void ckpt_mail_send_once(struct ckpt_mpi *job, int to, enum ckpt_mail_tag tag, const void *data,
			 size_t bytes);
/** ckpt_mail_take - one letter of @bytes with @tag, of any rank; false: there is none. */
bool ckpt_mail_take(struct ckpt_mpi *job, enum ckpt_mail_tag tag, void *out, size_t bytes,
		    int *out_source);
/** ckpt_mail_end - take what is still under way; collective. */
int ckpt_mail_end(struct ckpt_mpi *job) CKPT_MUST_CHECK;

#endif
