/*
 * mpi_test_seed.c - the reference's tables of failures, with its own state
 * dict, in the library: each case synchronous and asynchronous, and on one
 * process without MPI. All in one run, for starting ranks takes the time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_test.h"
#include "seed_state.h"

/* Who fails, where; one row of the table, the same on every rank. */
struct seed_case {
	enum ckpt_mpi_phase phase;
	int rank;
	int coordinator;
};

/* test_save_error_handling and test_load_error_handling, on 4 ranks. */
static const struct seed_case saves[] = {
	{ CKPT_MPI_SET_UP_STORAGE_WRITER, 0, 0 },
	{ CKPT_MPI_FINISH, 0, 0 },
	{ CKPT_MPI_PREPARE_GLOBAL_PLAN, 0, 0 },
	{ CKPT_MPI_PREPARE_LOCAL_PLAN, 0, 0 },
	{ CKPT_MPI_WRITE_DATA, 2, 0 },
	{ CKPT_MPI_WRITE_DATA_ASYNC, 3, 0 },
	{ CKPT_MPI_SET_UP_STORAGE_WRITER, 1, 1 },
	{ CKPT_MPI_FINISH, 1, 1 },
};
static const struct seed_case loads[] = {
	{ CKPT_MPI_SET_UP_STORAGE_READER, 0, 0 },
	{ CKPT_MPI_PREPARE_GLOBAL_PLAN, 0, 0 },
	{ CKPT_MPI_READ_METADATA, 0, 0 },
	{ CKPT_MPI_PREPARE_LOCAL_PLAN, 1, 0 },
	{ CKPT_MPI_READ_DATA, 3, 0 },
	{ CKPT_MPI_READ_DATA_ASYNC, 1, 0 },
	{ CKPT_MPI_SET_UP_STORAGE_READER, 0, 3 },
	{ CKPT_MPI_READ_METADATA, 3, 1 },
	{ CKPT_MPI_READ_DATA, 0, 2 },
	{ CKPT_MPI_READ_DATA_ASYNC, 2, 3 },
	{ CKPT_MPI_PREPARE_GLOBAL_PLAN, 1, 1 },
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct seed_run {
	const char *path;
	bool alone; /* no MPI */
	bool async;
	const struct seed_case *fault; /* NULL: none */
};

static struct ckpt_mpi *begin(const struct seed_run *run)
{
	char text[64] = "";
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job = NULL;

	if (run->fault)
		(void)snprintf(text, sizeof(text), "%s@%d", ckpt_mpi_phase_name(run->fault->phase),
			       run->fault->rank);
	if (setenv("CKPTFS_FAULT", text, 1) < 0)
		return NULL;
	ckpt_mpi_config_init(&config);
	config.coordinator = run->fault ? run->fault->coordinator : 0;
	config.write_barrier_timeout_secs = 20; /* a rank that is lost ends the test */
	if (ckpt_mpi_new(run->alone ? MPI_COMM_NULL : MPI_COMM_WORLD, &config, &job, NULL) < 0)
		return NULL;
	return job;
}

static int save(struct ckpt_mpi *job, const struct seed_run *run, struct seed_state *state)
{
	const struct ckpt_mpi_save_request request = seed_state_save_request(state, run->path);
	struct ckpt_mpi_future *future = NULL;
	int rc;

	if (!run->async)
		return ckpt_mpi_save(job, &request, NULL);
	rc = ckpt_mpi_save_start(job, &request, CKPT_MPI_COPY, &future);
	return rc < 0 ? rc : ckpt_mpi_wait(&future, NULL);
}

static int read_all(struct ckpt_mpi_reader *reader, const struct seed_run *run,
		    struct seed_state *state)
{
	const struct ckpt_mpi_read_request request = seed_state_read_request(state, reader);
	struct ckpt_mpi_future *future = NULL;
	int rc;

	if (!run->async)
		rc = ckpt_mpi_reader_read(reader, &request, NULL);
	else
		rc = ckpt_mpi_read_start(reader, &request, &future);
	if (rc == 0 && run->async)
		rc = ckpt_mpi_wait(&future, NULL);
	/* What was read is right where nothing was said to have failed. */
	return rc == 0 && !seed_state_is_whole(state) ? -EBADMSG : rc;
}

static int load(struct ckpt_mpi *job, const struct seed_run *run, struct seed_state *state)
{
	struct ckpt_mpi_reader *reader = NULL;
	int rc = ckpt_mpi_reader_new(job, run->path, &reader);

	if (rc == 0)
		rc = read_all(reader, run, state);
	ckpt_mpi_reader_free(reader);
	return rc;
}

/* The keys of the table are exactly the failing ranks, and each row says what was met. */
static int check_table(const struct ckpt_mpi *job, const struct seed_run *run, int rc)
{
	const char *how = run->async ? "asynchronous" : "synchronous";
	const char *phase = run->fault ? ckpt_mpi_phase_name(run->fault->phase) : "none";
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	if (!run->fault)
		return rc == 0 && count == 0
			       ? 0
			       : mpi_test_fail("%s, no fault: returned %d, %zu rows: %s", how, rc,
					       count, count ? rows[0].message : "");
	if (rc != -EIO || count != 1)
		return mpi_test_fail("%s, fault in %s on rank %d: returned %d with %zu rows", how,
				     phase, run->fault->rank, rc, count);
	if (rows[0].rank != run->fault->rank || rows[0].phase != run->fault->phase ||
	    rows[0].code != -EIO || !rows[0].host[0] || !rows[0].message[0])
		return mpi_test_fail(
			"%s, fault in %s on rank %d: the row is rank %d on '%s', %s, %d: '%s'", how,
			phase, run->fault->rank, rows[0].rank, rows[0].host,
			ckpt_mpi_phase_name(rows[0].phase), rows[0].code, rows[0].message);
	return 0;
}

static int run_case(const struct seed_run *run, bool loads_it)
{
	struct seed_state *state = malloc(sizeof(*state));
	struct ckpt_mpi *job = begin(run);
	int code;
	int rc;

	if (!state || !job) {
		free(state);
		return mpi_test_fail("no job could be begun");
	}
	seed_state_make(state, mpi_test_rank(), mpi_test_size());
	rc = loads_it ? load(job, run, state) : save(job, run, state);
	code = check_table(job, run, rc);
	if (ckpt_mpi_close(&job) != 0)
		code = mpi_test_fail("close failed");
	free(state);
	return code;
}

/* Every case of a table, synchronous and asynchronous, then without a fault. */
static int run_table(const char *path, const struct seed_case *cases, size_t count, bool loads_it)
{
	int code = 0;

	for (int async = 0; async < 2; async++) {
		for (size_t i = 0; i < count; i++)
			code |= run_case(&(struct seed_run){ .path = path,
							     .async = async,
							     .fault = &cases[i] },
					 loads_it);
	}
	return code;
}

int mpi_test_seed(int argc, char **argv)
{
	struct seed_run good = { .path = argc > 1 ? argv[1] : "" };
	char second[4096];
	int code = run_table(good.path, saves, COUNT(saves), false);

	/* After so many failures the name can be had. */
	code |= run_case(&good, false);
	code |= run_table(good.path, loads, COUNT(loads), true);
	code |= run_case(&good, true);
	(void)snprintf(second, sizeof(second), "%s-async", good.path);
	good = (struct seed_run){ .path = second, .async = true };
	code |= run_case(&good, false);
	return code | run_case(&good, true);
}

static int find_phase(const char *name, struct seed_case *out)
{
	for (int i = 0; i < CKPT_MPI_PHASE_COUNT; i++) {
		out->phase = (enum ckpt_mpi_phase)i;
		if (strcmp(name, ckpt_mpi_phase_name(out->phase)) == 0)
			return 0;
	}
	return mpi_test_fail("'%s' is no phase", name);
}

int mpi_test_seed_alone(int argc, char **argv)
{
	struct seed_case fault = { .rank = 0 };
	struct seed_run run = { .alone = true };
	int code = 0;

	if (argc < 3)
		return 2;
	run.path = argv[2];
	if (argc > 3) {
		if (find_phase(argv[3], &fault) != 0)
			return 2;
		run.fault = &fault;
	}
	for (int async = 0; async < 2; async++) {
		run.async = async;
		/* Two saves that succeed need two names. */
		if (!run.fault && async && strcmp(argv[1], "save") == 0)
			continue;
		code |= run_case(&run, strcmp(argv[1], "load") == 0);
	}
	return code;
}
