/* rollcall.c - see rollcall.h. */
#include "rollcall.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"
#include "mail.h"

/*
 * For a message to arrive at a rank that polls: far more than the network needs, little beside the
 * time-out.
 */
#define GRACE_MS 1500
/* How long the leader drives MPI on, so that the verdict leaves this process. */
#define FLUSH_MS 200
/* How long the others stay for the reporter's sake. */
#define PART_MS 3000
/* Of the time between two looks, no more than this counts as waiting. */
#define GAP_MS 1000
/* Calls in vain: all were there, and yet the collective call did not end. */
#define VAIN_MAX 10
/* Calls after each of which another rank should have sent the verdict, and did not. */
#define UNHEARD_MAX 3

/* Longest account of how MPI failed that is handed on. */
#define WHY_MAX 256

enum word {
	WORD_CALL, /* the time is up: answer, and call yourself */
	WORD_JOIN, /* a call that another one led to: answer */
	WORD_HERE, /* the answer */
};

struct letter {
	uint32_t word;
	uint32_t call; /* number of the caller's call */
	bool mpi_failed;
	char why[WHY_MAX];
};

enum presence {
	MISSING,
	PRESENT,
	MPI_FAILED,
};

/* Followed by a presence a rank. */
struct verdict {
	uint32_t phase;
	uint32_t waited_secs;
	char why[WHY_MAX]; /* how MPI failed */
	unsigned char presence[];
};

struct ckpt_roll {
	int world_size;
	bool calling;
	uint32_t call; /* answers to earlier ones count for nothing: who gave them may be gone */
	enum presence *presence;
	int awaited; /* rank whose verdict is waited for; -1 */
	int unheard;
	int vain;
	uint64_t looked_ms;
	uint64_t waited_ms;   /* in this call */
	uint64_t deadline_ms; /* in that time, as the next one */
	uint64_t grace_end_ms;
	bool mpi_failed;
	char why[WHY_MAX]; /* how MPI failed, here or elsewhere */
	struct verdict *verdict;
	size_t verdict_bytes;
};

struct ckpt_roll *ckpt_roll_new(int world_size)
{
	struct ckpt_roll *roll = array_alloc(1, sizeof(*roll));

	if (!roll)
		return NULL;
	roll->world_size = world_size;
	roll->awaited = -1;
	roll->verdict_bytes = sizeof(*roll->verdict) + (size_t)world_size;
	roll->presence = array_alloc((size_t)world_size, sizeof(*roll->presence));
	roll->verdict = array_alloc(1, roll->verdict_bytes);
	if (roll->presence && roll->verdict)
		return roll;
	ckpt_roll_free(roll);
	return NULL;
}

void ckpt_roll_free(struct ckpt_roll *roll)
{
	if (!roll)
		return;
	free(roll->presence);
	free(roll->verdict);
	free(roll);
}

/* --- the time ------------------------------------------------------------------------------ */

static void look_at_clock(struct ckpt_roll *roll)
{
	uint64_t now_ms = ckpt_clock_mono_ms();

	roll->waited_ms += num_min(now_ms - roll->looked_ms, GAP_MS);
	roll->looked_ms = now_ms;
}

/* The same collective call; its time starts anew. */
static void start_anew(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;

	look_at_clock(roll);
	roll->calling = false;
	roll->awaited = -1;
	roll->unheard = 0;
	roll->deadline_ms = roll->waited_ms + ckpt_job_limit_secs(job) * 1000;
}

void ckpt_roll_enter(struct ckpt_mpi *job)
{
	job->roll->mpi_failed = false;
	job->roll->vain = 0;
	start_anew(job);
}

void ckpt_roll_mpi_failed(struct ckpt_mpi *job, const char *why)
{
	job->roll->mpi_failed = true;
	(void)snprintf(job->roll->why, sizeof(job->roll->why), "%s", why);
}

/* --- the verdict ----------------------------------------------------------------------------- */

static bool anybody(const struct ckpt_roll *roll, enum presence presence)
{
	for (int rank = 0; rank < roll->world_size; rank++) {
		if (roll->verdict->presence[rank] == presence)
			return true;
	}
	return false;
}

/* What is said of those in the table; @out_code: why nothing may follow. */
static void word_verdict(const struct ckpt_roll *roll, char *out, size_t out_size, int *out_code)
{
	const struct verdict *verdict = roll->verdict;

	*out_code = -EIO;
	if (anybody(roll, MISSING)) {
		*out_code = -ETIMEDOUT;
		(void)snprintf(
			out, out_size,
			"did not arrive within %u s: it was killed, is stopped, hangs or lags behind; look for it on its host, or raise the time-out",
			verdict->waited_secs);
	} else if (anybody(roll, MPI_FAILED)) {
		(void)snprintf(out, out_size,
			       "MPI failed here, though every rank lives: %s; look at the network",
			       verdict->why);
	} else {
		(void)snprintf(
			out, out_size,
			"a collective call does not end, though every rank waits in it; look at the network between the hosts");
	}
}

/* The verdict in roll->verdict becomes this rank's table. */
static int accept_verdict(struct ckpt_mpi *job)
{
	const struct ckpt_roll *roll = job->roll;
	enum presence named = anybody(roll, MISSING)	  ? MISSING
			      : anybody(roll, MPI_FAILED) ? MPI_FAILED
							  : PRESENT;
	char message[WHY_MAX + 128];
	int code;

	word_verdict(roll, message, sizeof(message), &code);
	job->reporter = -1;
	job->failure_count = 0;
	/* All ranks name one phase, though they may have left the one before at different times. */
	if (roll->verdict->phase < CKPT_MPI_PHASE_COUNT)
		job->phase = (enum ckpt_mpi_phase)roll->verdict->phase;
	for (int rank = 0; rank < roll->world_size; rank++) {
		if (roll->verdict->presence[rank] == named)
			ckpt_job_put_failure(job, rank, code, message);
		if (roll->verdict->presence[rank] != MISSING && job->reporter < 0)
			job->reporter = rank;
	}
	return ckpt_job_break(job, code);
}

int ckpt_roll_hear(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	int source;

	if (job->broken || job->comm == MPI_COMM_NULL)
		return job->broken;
	return ckpt_mail_take(job, CKPT_MAIL_VERDICT, roll->verdict, roll->verdict_bytes, &source)
		       ? accept_verdict(job)
		       : 0;
}

/* Let MPI do what it has to, until the reporter takes its leave, or the time is over. */
static void drive(struct ckpt_mpi *job, uint64_t ms)
{
	uint64_t until_ms = ckpt_clock_mono_ms() + ms;
	unsigned char nothing;
	int source;

	while (ckpt_clock_mono_ms() < until_ms &&
	       !ckpt_mail_take(job, CKPT_MAIL_PART, &nothing, sizeof(nothing), &source))
		(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

void ckpt_roll_part(struct ckpt_mpi *job)
{
	const unsigned char nothing = 0;

	if (!job->broken || job->comm == MPI_COMM_NULL)
		return;
	if (job->reporter != job->info.global_rank) {
		drive(job, PART_MS);
		return;
	}
	for (int rank = 0; rank < job->roll->world_size; rank++) {
		if (rank != job->info.global_rank)
			ckpt_mail_send(job, rank, CKPT_MAIL_PART, &nothing, sizeof(nothing));
	}
	drive(job, FLUSH_MS);
}

static int announce(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	struct verdict *verdict = roll->verdict;
	int rc = ckpt_roll_hear(job);

	if (rc < 0)
		return rc; /* of another rank, in the same moment */
	verdict->phase = (uint32_t)job->phase;
	verdict->waited_secs = (uint32_t)num_min(ckpt_job_limit_secs(job), UINT32_MAX);
	memcpy(verdict->why, roll->why, sizeof(verdict->why));
	for (int rank = 0; rank < roll->world_size; rank++)
		verdict->presence[rank] = (unsigned char)roll->presence[rank];
	for (int rank = 0; rank < roll->world_size; rank++) {
		if (rank != job->info.global_rank)
			ckpt_mail_send(job, rank, CKPT_MAIL_VERDICT, verdict, roll->verdict_bytes);
	}
	drive(job, FLUSH_MS);
	return accept_verdict(job);
}

/* --- the call --------------------------------------------------------------------------------- */

static void say(struct ckpt_mpi *job, int to, enum word word, uint32_t call)
{
	struct letter letter = { .word = word, .call = call, .mpi_failed = job->roll->mpi_failed };

	if (letter.mpi_failed)
		memcpy(letter.why, job->roll->why, sizeof(letter.why));
	ckpt_mail_send(job, to, CKPT_MAIL_ROLL, &letter, sizeof(letter));
}

static void start_call(struct ckpt_mpi *job, enum word word)
{
	struct ckpt_roll *roll = job->roll;
	int me = job->info.global_rank;

	roll->calling = true;
	roll->call++;
	roll->grace_end_ms = roll->waited_ms + GRACE_MS;
	for (int rank = 0; rank < roll->world_size; rank++) {
		roll->presence[rank] = rank != me	  ? MISSING
				       : roll->mpi_failed ? MPI_FAILED
							  : PRESENT;
		if (rank != me)
			say(job, rank, word, roll->call);
	}
}

static void hear_answer(struct ckpt_roll *roll, const struct letter *letter, int source)
{
	if (!roll->calling || letter->call != roll->call)
		return;
	roll->presence[source] = letter->mpi_failed ? MPI_FAILED : PRESENT;
	/* One account is enough: what a verdict says, all say. */
	if (letter->mpi_failed && !roll->mpi_failed)
		memcpy(roll->why, letter->why, sizeof(roll->why));
}

/* Calls of others are answered and joined, answers are kept. */
static void listen(struct ckpt_mpi *job)
{
	struct letter letter;
	int source = 0;

	while (ckpt_mail_take(job, CKPT_MAIL_ROLL, &letter, sizeof(letter), &source)) {
		letter.why[sizeof(letter.why) - 1] = '\0';
		if (letter.word == WORD_HERE) {
			hear_answer(job->roll, &letter, source);
			continue;
		}
		say(job, source, WORD_HERE, letter.call);
		if (letter.word == WORD_CALL && !job->roll->calling)
			start_call(job, WORD_JOIN);
	}
}

/* All are there: the collective call is only slow, or MPI is broken. */
static int none_missing(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	bool failed = false;

	for (int rank = 0; rank < roll->world_size; rank++)
		failed = failed || roll->presence[rank] == MPI_FAILED;
	if (!failed && ++roll->vain < VAIN_MAX) {
		start_anew(job);
		return 0;
	}
	if (job->info.global_rank == 0)
		return announce(job);
	/* Rank 0 comes to the same end. */
	start_anew(job);
	return 0;
}

/* The grace is over, or everybody has answered: who leads, and is anybody missing? */
static int decide(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	int missing_count = 0;
	int leader = -1;

	for (int rank = 0; rank < roll->world_size; rank++) {
		if (roll->presence[rank] == MISSING)
			missing_count++;
		else if (leader < 0)
			leader = rank;
	}
	assert(leader >= 0);
	if (missing_count == 0)
		return none_missing(job);
	if (leader == job->info.global_rank || roll->unheard >= UNHEARD_MAX)
		return announce(job);
	if (roll->awaited == leader) {
		/* It answered, and then stayed silent: is it there still? */
		roll->awaited = -1;
		roll->unheard++;
		start_call(job, WORD_CALL);
		return 0;
	}
	roll->awaited = leader;
	roll->grace_end_ms = roll->waited_ms + GRACE_MS;
	return 0;
}

static bool all_answered(const struct ckpt_roll *roll)
{
	for (int rank = 0; rank < roll->world_size; rank++) {
		if (roll->presence[rank] == MISSING)
			return false;
	}
	return true;
}

int ckpt_roll_poll(struct ckpt_mpi *job)
{
	struct ckpt_roll *roll = job->roll;
	int rc = ckpt_roll_hear(job);

	if (rc < 0 || job->comm == MPI_COMM_NULL)
		return rc;
	look_at_clock(roll);
	listen(job);
	if (!roll->calling && roll->waited_ms >= roll->deadline_ms)
		start_call(job, WORD_CALL);
	if (roll->calling && (roll->waited_ms >= roll->grace_end_ms || all_answered(roll)))
		return decide(job);
	return 0;
}
