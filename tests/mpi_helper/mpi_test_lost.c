/*
 * mpi_test_lost.c - ranks that end, or stop, in the middle of a save or a load.
 *
 *   faults-lost STORE OUT SPEC...
 *
 * Every four ranks are a job of their own, with a SPEC each:
 * save|load:PHASE:exit|kill|stop:SET, SET the bits of the ranks that are lost;
 * a save is called STORE/gN. Each rank that comes to its end checks what it
 * sees and writes OUT-N.RANK: "ok MILLISECONDS", or what is wrong. Stopped
 * ranks are continued when the others are through, and must find themselves in
 * the table. For a launcher that lets the survivors live.
 *
 *   faults-again PATH...     save them, all being well
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fault_state.h"
#include "mpi_test.h"

#define RANKS 4
#define TIMEOUT_SECS 2
/* In all, the time for the roll call included. */
#define END_MS 8000

struct lost {
	MPI_Comm comm;
	int group;
	int rank; /* in its group */
	const struct fault_phase *phase;
	char action[8];
	unsigned named;	   /* ranks in the SPEC */
	unsigned ranks;	   /* that are lost */
	pid_t pids[RANKS]; /* of the group */
	char path[4096];
	char out[4096];
};

/* The next word of @spec, up to a colon. */
static const char *word(char **spec)
{
	const char *found = strsep(spec, ":");

	return found ? found : "";
}

static int parse(struct lost *lost, const char *given)
{
	char text[128];
	char *spec = text;
	const char *operation;
	const char *phase;

	(void)snprintf(text, sizeof(text), "%s", given);
	operation = word(&spec);
	phase = word(&spec);
	lost->phase = fault_phase_find(phase, strcmp(operation, "load") == 0);
	(void)snprintf(lost->action, sizeof(lost->action), "%s", word(&spec));
	lost->named = (unsigned)strtoul(word(&spec), NULL, 10);
	if (!lost->phase || lost->named == 0)
		return mpi_test_fail("'%s' is not save|load:PHASE:ACTION:SET", given);
	/* The others do not run it. */
	lost->ranks = lost->phase->coordinator_only ? lost->named & 1 : lost->named;
	return 0;
}

static int join(struct lost *lost, int argc, char **argv)
{
	pid_t self = getpid();

	lost->group = mpi_test_rank() / RANKS;
	if (argc != 3 + mpi_test_size() / RANKS || mpi_test_size() % RANKS != 0)
		return mpi_test_fail("faults-lost STORE OUT SPEC..., a SPEC every %d ranks", RANKS);
	(void)snprintf(lost->path, sizeof(lost->path), "%s/g%d", argv[1], lost->group);
	if (MPI_Comm_split(MPI_COMM_WORLD, lost->group, 0, &lost->comm) != MPI_SUCCESS ||
	    MPI_Comm_rank(lost->comm, &lost->rank) != MPI_SUCCESS ||
	    MPI_Allgather(&self, sizeof(self), MPI_BYTE, lost->pids, sizeof(self), MPI_BYTE,
			  lost->comm) != MPI_SUCCESS)
		return mpi_test_fail("no group");
	(void)snprintf(lost->out, sizeof(lost->out), "%s-%d.%d", argv[2], lost->group, lost->rank);
	return parse(lost, argv[3 + lost->group]);
}

static int begin(const struct lost *lost, uint32_t timeout_secs, struct ckpt_mpi **out)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why;

	ckpt_mpi_config_init(&config);
	config.write_barrier_timeout_secs = timeout_secs;
	return ckpt_mpi_new(lost->comm, &config, out, &why) < 0
		       ? mpi_test_fail("no job: %s", why.message)
		       : 0;
}

/* Something to load. */
static int save_first(const struct lost *lost)
{
	struct ckpt_mpi *job;
	int rc;

	if (begin(lost, 60, &job))
		return 1;
	rc = fault_save(job, lost->path, false);
	(void)ckpt_mpi_close(&job);
	return rc < 0 ? mpi_test_fail("no save: %d", rc) : 0;
}

static bool is_lost(const struct lost *lost, int rank)
{
	return lost->ranks >> rank & 1;
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int check(const struct lost *lost, const struct ckpt_mpi *job, int rc, int64_t took_ms)
{
	const struct fault_table expected = { lost->phase->phase, lost->ranks, -ETIMEDOUT,
					      "did not arrive" };
	bool committed = lost->phase->loads || lost->phase->phase == CKPT_MPI_POST_COMMIT;
	int reporter = 0;

	while (is_lost(lost, reporter))
		reporter++;
	if (rc != -ETIMEDOUT)
		return mpi_test_fail("it ended with %d", rc);
	if (fault_check(job, &expected, ckpt_mpi_phase_name(lost->phase->phase)))
		return 1;
	if (ckpt_mpi_usable(job) || ckpt_mpi_reporter(job) != reporter)
		return mpi_test_fail("usable: %d, reporter: %d", ckpt_mpi_usable(job),
				     ckpt_mpi_reporter(job));
	if ((access(lost->path, F_OK) == 0) != committed)
		return mpi_test_fail("committed: %d", !committed);
	if (took_ms > END_MS && !is_lost(lost, lost->rank))
		return mpi_test_fail("it took %lld ms", (long long)took_ms);
	return 0;
}

static void tell(const struct lost *lost, int failed, int64_t took_ms)
{
	FILE *file = fopen(lost->out, "w");

	if (!file)
		return;
	(void)fprintf(file, failed ? "failed\n" : "ok %lld\n", (long long)took_ms);
	(void)fclose(file);
}

/* The lowest of those that live wakes the stopped, when all that live have had the time to end. */
static void wake(const struct lost *lost)
{
	for (int rank = 0; rank < lost->rank; rank++) {
		if (!is_lost(lost, rank))
			return;
	}
	(void)nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
	for (int rank = 0; rank < RANKS && strcmp(lost->action, "stop") == 0; rank++) {
		if (is_lost(lost, rank))
			(void)kill(lost->pids[rank], SIGCONT);
	}
}

int mpi_test_faults_lost(int argc, char **argv)
{
	struct lost lost = { .group = 0 };
	struct ckpt_mpi *job;
	int64_t begun_ms;
	int64_t took_ms;
	int failed;
	int rc;

	if (join(&lost, argc, argv) || !lost.phase || (lost.phase->loads && save_first(&lost)))
		return 1;
	fault_set(lost.phase->phase, lost.named, lost.action);
	if (begin(&lost, TIMEOUT_SECS, &job) || MPI_Barrier(lost.comm) != MPI_SUCCESS)
		return 1;
	begun_ms = now_ms();
	rc = fault_run(job, lost.phase, lost.path);
	took_ms = now_ms() - begun_ms;
	failed = check(&lost, job, rc, took_ms);
	/* It must neither wait nor crash. */
	if (ckpt_mpi_close(&job) != 0)
		failed |= mpi_test_fail("close");
	tell(&lost, failed, took_ms);
	if (!is_lost(&lost, lost.rank))
		wake(&lost);
	/* MPI_Finalize would wait for the lost ones. */
	_exit(failed);
}

int mpi_test_faults_again(int argc, char **argv)
{
	struct ckpt_mpi *job;
	int failed = 0;

	if (ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	for (int i = 1; i < argc; i++) {
		int rc = fault_save(job, argv[i], false);

		if (rc == 0)
			rc = fault_load(job, argv[i], false);
		if (rc < 0)
			failed |= mpi_test_fail("'%s' cannot be saved again: %d", argv[i], rc);
	}
	(void)ckpt_mpi_close(&job);
	return failed;
}
