/*
 * mpi_test_faults.c - ranks that fail, in one job of 4 that goes on after each:
 *
 *   faults STORE           every phase of a save and a load x every set of ranks; other coordinators
 *   faults-begin           what ckpt_mpi_new() refuses, and ckpt_mpi_close()
 *   faults-alone STORE     without communicator: before MPI_Init, while MPI runs, after MPI_Finalize
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault_state.h"
#include "mpi_test.h"

static int begin(MPI_Comm comm, int coordinator, struct ckpt_mpi **out)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why;
	int rc;

	ckpt_mpi_config_init(&config);
	config.coordinator = coordinator;
	config.write_barrier_timeout_secs = 60;
	rc = ckpt_mpi_new(comm, &config, out, &why);
	return rc < 0 ? mpi_test_fail("no job: %s", why.message) : 0;
}

/* --- every phase, every set of ranks ------------------------------------------------------------ */

struct matrix {
	const char *store;
	MPI_Comm comm;
	int world_size;
	int coordinator;
	const char *saved; /* a checkpoint to load */
	int failed;
};

/* All ranks hold the same table, byte for byte. */
static int check_equal(const struct matrix *m, const struct ckpt_mpi *job, const char *what)
{
	size_t count;
	const struct ckpt_mpi_failure *mine = ckpt_mpi_failures(job, &count);
	static struct ckpt_mpi_failure theirs[64];

	if (m->comm == MPI_COMM_NULL)
		return 0;
	memcpy(theirs, mine, count * sizeof(*mine));
	if (MPI_Bcast(theirs, (int)(count * sizeof(*mine)), MPI_BYTE, 0, m->comm) != MPI_SUCCESS)
		return mpi_test_fail("%s: no broadcast", what);
	return memcmp(theirs, mine, count * sizeof(*mine)) == 0
		       ? 0
		       : mpi_test_fail("%s: another table than that of rank 0", what);
}

/* Committed or not is what the disk says, in the eyes of every rank. */
static int check_committed(const char *path, bool committed, const char *what)
{
	return (access(path, F_OK) == 0) == committed
		       ? 0
		       : mpi_test_fail("%s: it is%s committed", what, committed ? " not" : "");
}

static void save_again(struct matrix *m, const char *path, const char *what)
{
	struct ckpt_mpi *job;

	m->failed |= begin(m->comm, m->coordinator, &job);
	if (m->failed)
		return;
	if (fault_save(job, path, false) < 0 || fault_load(job, path, false) < 0)
		m->failed |= mpi_test_fail("%s: the name cannot be saved again", what);
	(void)ckpt_mpi_close(&job);
}

static void run_case(struct matrix *m, const struct fault_phase *phase, unsigned ranks,
		     const char *path)
{
	unsigned bad = phase->coordinator_only ? ranks & (1U << m->coordinator) : ranks;
	bool stays = bad && phase->phase != CKPT_MPI_POST_COMMIT;
	const struct fault_table expected = { phase->phase, bad, -EIO, "CKPTFS_FAULT" };
	struct ckpt_mpi *job;
	char what[128];
	int rc;

	(void)snprintf(what, sizeof(what), "%s of ranks 0x%x, coordinator %d, %s",
		       ckpt_mpi_phase_name(phase->phase), ranks, m->coordinator,
		       phase->loads ? "load" : "save");
	fault_set(phase->phase, ranks, "error");
	m->failed |= begin(m->comm, m->coordinator, &job);
	if (m->failed)
		return;
	rc = fault_run(job, phase, path);
	if (rc != (bad ? -EIO : 0))
		m->failed |= mpi_test_fail("%s: ended with %d", what, rc);
	m->failed |= fault_check(job, &expected, what);
	m->failed |= check_equal(m, job, what);
	if (!phase->loads)
		m->failed |= check_committed(path, !stays, what);
	if (!ckpt_mpi_usable(job))
		m->failed |= mpi_test_fail("%s: the job is not usable", what);
	fault_set(phase->phase, 0, "");
	if (ckpt_mpi_close(&job) != 0 || job)
		m->failed |= mpi_test_fail("%s: close", what);
	if (phase->loads || !stays)
		return;
	/* A name that failed can be saved again: the next case does so, and after the last this. */
	if (ranks == (1U << m->world_size) - 1)
		save_again(m, path, what);
}

/* One phase: the given sets of ranks, the last of which is all of them. */
static void run_phase(struct matrix *m, const struct fault_phase *phase, const unsigned *sets,
		      size_t count)
{
	char path[4096];

	for (size_t i = 0; i < count && !m->failed; i++) {
		/* What fails leaves its name free for the next, which finds what it left. */
		bool own_name = phase->phase == CKPT_MPI_POST_COMMIT ||
				(phase->coordinator_only && !(sets[i] >> m->coordinator & 1));

		(void)snprintf(path, sizeof(path), "%s/%s-%d-%u", m->store,
			       ckpt_mpi_phase_name(phase->phase), m->coordinator,
			       own_name ? sets[i] : 0);
		run_case(m, phase, sets[i], phase->loads ? m->saved : path);
	}
}

static void save_one(struct matrix *m, char *out, size_t out_size)
{
	struct ckpt_mpi *job;

	(void)snprintf(out, out_size, "%s/whole", m->store);
	fault_set(CKPT_MPI_FINISH, 0, "");
	m->saved = out;
	m->failed |= begin(m->comm, 0, &job);
	if (m->failed)
		return;
	if (fault_save(job, out, false) < 0 || fault_load(job, out, false) < 0)
		m->failed |= mpi_test_fail("no save, no load without a fault");
	(void)ckpt_mpi_close(&job);
}

int mpi_test_faults(int argc, char **argv)
{
	struct matrix m = { .comm = MPI_COMM_WORLD, .world_size = mpi_test_size() };
	unsigned all = (1U << m.world_size) - 1;
	unsigned sets[16];
	unsigned few[] = { 1, 2, 4, 8, all };
	char saved[4096];
	size_t count = 0;

	if (argc != 2 || m.world_size != 4)
		return mpi_test_fail("faults STORE, on 4 ranks");
	m.store = argv[1];
	save_one(&m, saved, sizeof(saved));
	for (unsigned set = 1; set <= all; set++)
		sets[count++] = set;
	for (size_t i = 0; i < FAULT_PHASE_COUNT && !m.failed; i++)
		run_phase(&m, &fault_phases[i], sets, count);
	for (m.coordinator = 1; m.coordinator < m.world_size && !m.failed; m.coordinator++) {
		for (size_t i = 0; i < FAULT_PHASE_COUNT && !m.failed; i++)
			run_phase(&m, &fault_phases[i], few, 5);
	}
	return m.failed;
}

/* --- without communicator ------------------------------------------------------------------------- */

static int run_alone(const char *store, const char *when)
{
	struct matrix m = { .comm = MPI_COMM_NULL, .world_size = 1, .store = store };
	const unsigned self = 1;
	char folder[4096];
	char saved[4096];

	(void)snprintf(folder, sizeof(folder), "%s/%s", store, when);
	m.store = folder;
	save_one(&m, saved, sizeof(saved));
	for (size_t i = 0; i < FAULT_PHASE_COUNT && !m.failed; i++)
		run_phase(&m, &fault_phases[i], &self, 1);
	return m.failed;
}

int mpi_test_faults_alone(int argc, char **argv)
{
	struct ckpt_mpi *job = NULL;
	struct ckpt_mpi_failure why;

	if (argc != 2)
		return mpi_test_fail("faults-alone STORE");
	if (ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, &why) != -EINVAL ||
	    !strstr(why.message, "MPI_Init"))
		return mpi_test_fail("a communicator before MPI_Init is no misuse");
	if (run_alone(argv[1], "before") || MPI_Init(NULL, NULL) != MPI_SUCCESS ||
	    run_alone(argv[1], "between") || MPI_Finalize() != MPI_SUCCESS ||
	    run_alone(argv[1], "after"))
		return 1;
	return 0;
}

/* --- beginning and end ------------------------------------------------------------------------------ */

/* All ranks are refused with the same reason, that of rank @rank, which holds @text. */
static int refused(const struct ckpt_mpi_config *config, int rank, const char *text)
{
	struct ckpt_mpi_failure why = { .rank = -1 };
	struct ckpt_mpi *job = NULL;
	int rc = ckpt_mpi_new(MPI_COMM_WORLD, config, &job, &why);

	if (rc != -EINVAL || job)
		return mpi_test_fail("'%s': ckpt_mpi_new() returned %d", text, rc);
	/* A rank with a reason of its own says that one. */
	if ((why.rank != rank && why.rank != mpi_test_rank()) || !strstr(why.message, text))
		return mpi_test_fail("rank %d says '%s', should be rank %d, '%s'", why.rank,
				     why.message, rank, text);
	return 0;
}

static void no_progress(void *ctx, const struct ckpt_mpi_progress *progress)
{
	(void)ctx;
	(void)progress;
}

/* Only rank 1 is told something else. */
static int check_settings(void)
{
	struct ckpt_mpi_config same;
	struct ckpt_mpi_config config;
	bool odd = mpi_test_rank() == 1;
	int failed = 0;

	ckpt_mpi_config_init(&same);
	if (same.write_barrier_timeout_secs != 600 ||
	    same.min_bytes_per_sec != CKPT_MPI_MIN_BYTES_PER_SEC || same.coordinator != 0)
		return mpi_test_fail("the defaults are others");
	config = same;
	config.coordinator = odd;
	failed |= refused(&config, 1, "coordinator");
	config = same;
	config.coordinator = mpi_test_size();
	failed |= refused(&config, 0, "count from 0");
	config = same;
	config.write_barrier_timeout_secs = odd ? 0 : 600;
	failed |= refused(&config, 1, "time-out of 0 s");
	config = same;
	config.progress = odd ? no_progress : NULL;
	failed |= refused(&config, 1, "progress");
	config = same;
	config.aggregators = mpi_test_size() + 1;
	failed |= refused(&config, 0, "aggregators");
	if (odd)
		(void)setenv("CKPTFS_FAULT", "write_data@1:explode", 1);
	failed |= refused(&same, 1, "explode");
	(void)unsetenv("CKPTFS_FAULT");
	return failed;
}

int mpi_test_faults_begin(int argc, char **argv)
{
	struct ckpt_mpi *job = NULL;
	struct ckpt_mpi *other = NULL;
	int failed = check_settings();

	(void)argv;
	if (argc != 1)
		return mpi_test_fail("faults-begin");
	if (failed || begin(MPI_COMM_WORLD, 0, &job) || begin(MPI_COMM_WORLD, 1, &other))
		return 1;
	if (strlen(ckpt_mpi_rank(job)->host) == 0 || ckpt_mpi_failures(job, &(size_t){ 0 }) == NULL)
		return mpi_test_fail("no host, no table");
	/* The second time there is nothing left to close. */
	for (int i = 0; i < 2; i++) {
		if (ckpt_mpi_close(&other) != 0 || ckpt_mpi_close(&job) != 0 || job || other)
			return mpi_test_fail("close does not end a job, or cannot be called again");
	}
	return 0;
}
