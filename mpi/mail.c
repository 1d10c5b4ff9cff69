/* mail.c - see mail.h. */
#include "mail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"
#include "rollcall.h"

struct letter {
	struct letter *next;
	MPI_Request request;
	int to;
	bool once;
	unsigned char data[];
};

struct ckpt_mail {
	struct letter *sent; /* MPI may still read them */
	uint64_t *to;	     /* letters to each rank */
	uint64_t taken;
};

struct ckpt_mail *ckpt_mail_new(int world_size)
{
	struct ckpt_mail *mail = array_alloc(1, sizeof(*mail));

	if (!mail)
		return NULL;
	mail->to = array_alloc((size_t)world_size, sizeof(*mail->to));
	if (mail->to)
		return mail;
	free(mail);
	return NULL;
}

void ckpt_mail_free(struct ckpt_mail *mail)
{
	if (!mail)
		return;
	while (mail->sent) {
		struct letter *letter = mail->sent;

		mail->sent = letter->next;
		free(letter);
	}
	free(mail->to);
	free(mail);
}

/* Let go of the letters that have left. */
static void sweep(struct ckpt_mail *mail)
{
	struct letter **at = &mail->sent;

	while (*at) {
		struct letter *letter = *at;
		int done = 0;

		/* Where MPI fails the letter is as good as lost, and MPI may hold on to it. */
		if (MPI_Test(&letter->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done) {
			at = &letter->next;
			continue;
		}
		*at = letter->next;
		free(letter);
	}
}

/*
 * NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): sweep() tests what is sent; nobody waits for
 * it, for its receiver may never look.
 */
static void send_letter(struct ckpt_mpi *job, int to, enum ckpt_mail_tag tag, const void *data,
			size_t bytes, bool once)
{
	struct ckpt_mail *mail = job->mail;
	struct letter *letter;
	int rc;

	letter = malloc(sizeof(*letter) + bytes);
	if (!letter)
		return;
	*letter = (struct letter){ .request = MPI_REQUEST_NULL, .to = to, .once = once };
	memcpy(letter->data, data, bytes);
	/*
	 * Synchronous: it counts as sent when it was taken.
	 */
	rc = once ? MPI_Issend(letter->data, (int)bytes, MPI_BYTE, to, (int)tag, job->comm,
			       &letter->request)
		  : MPI_Isend(letter->data, (int)bytes, MPI_BYTE, to, (int)tag, job->comm,
			      &letter->request);
	if (rc != MPI_SUCCESS) {
		free(letter);
		return;
	}
	letter->next = mail->sent;
	mail->sent = letter;
	mail->to[to]++;
}

void ckpt_mail_send(struct ckpt_mpi *job, int to, enum ckpt_mail_tag tag, const void *data,
		    size_t bytes)
{
	sweep(job->mail);
	send_letter(job, to, tag, data, bytes, false);
}

void ckpt_mail_send_once(struct ckpt_mpi *job, int to, enum ckpt_mail_tag tag, const void *data,
			 size_t bytes)
{
	sweep(job->mail);
	for (const struct letter *letter = job->mail->sent; letter; letter = letter->next) {
		if (letter->once && letter->to == to)
			return;
	}
	send_letter(job, to, tag, data, bytes, true);
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

/* Is there a letter with @tag? With a dead rank MPI may refuse to ask for any: then one by one. */
static bool find(struct ckpt_mpi *job, int tag, MPI_Status *status)
{
	int there = 0;

	if (MPI_Iprobe(MPI_ANY_SOURCE, tag, job->comm, &there, status) == MPI_SUCCESS)
		return there;
	for (int rank = 0; rank < job->info.global_world_size; rank++) {
		if (rank != job->info.global_rank &&
		    MPI_Iprobe(rank, tag, job->comm, &there, status) == MPI_SUCCESS && there)
			return true;
	}
	return false;
}

bool ckpt_mail_take(struct ckpt_mpi *job, enum ckpt_mail_tag tag, void *out, size_t bytes,
		    int *out_source)
{
	MPI_Status status;

	if (!find(job, (int)tag, &status))
		return false;
	*out_source = status.MPI_SOURCE;
	/* It is there, so this waits for nothing. */
	if (MPI_Recv(out, (int)bytes, MPI_BYTE, status.MPI_SOURCE, (int)tag, job->comm, &status) !=
	    MPI_SUCCESS)
		return false;
	job->mail->taken++;
	return true;
}

/* Take one letter, whatever it is about. */
static int take_any(struct ckpt_mpi *job)
{
	MPI_Status status;
	unsigned char *room;
	int bytes;
	int rc;

	if (!find(job, MPI_ANY_TAG, &status))
		return 0;
	if (MPI_Get_count(&status, MPI_BYTE, &bytes) != MPI_SUCCESS)
		return ckpt_job_break(job, -EIO);
	room = array_alloc(1, num_max(1, (uint64_t)bytes));
	if (!room)
		return ckpt_job_break(job, -ENOMEM);
	rc = MPI_Recv(room, bytes, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, job->comm, &status);
	free(room);
	if (rc != MPI_SUCCESS)
		return ckpt_job_break(job, -EIO);
	job->mail->taken++;
	return 0;
}

int ckpt_mail_end(struct ckpt_mpi *job)
{
	struct ckpt_mail *mail = job->mail;
	uint64_t expected = 0;
	uint64_t looks = 0;
	int rc = ckpt_coll_sum_for_me(job, mail->to, &expected);

	if (rc == 0)
		ckpt_roll_enter(job);
	while (rc == 0 && (mail->taken < expected || mail->sent)) {
		rc = take_any(job);
		sweep(mail);
		if (rc == 0)
			rc = ckpt_coll_rest(job, &looks);
	}
	return rc;
}
