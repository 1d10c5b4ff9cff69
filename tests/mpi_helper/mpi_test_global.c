/*
 * mpi_test_global.c - layout global.
 *
 *   global matrix STORE    every cut x source x io x number of aggregators, in the foreground and
 *                          the background, against what one rank saves alone
 *   global faults STORE    a rank fails in each way; all know, and the name can be saved again
 *   global stop STORE      a rank stops in the exchange; the others name it and abort
 *   global large STORE     pieces of more than 2 GiB
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "global_state.h"

struct way {
	const char *name;
	enum ckpt_mpi_io io;
	int aggregators;
	bool in_background;
	enum ckpt_mpi_buffers buffers;
};

static struct ckpt_mpi *job_new(MPI_Comm comm, const struct way *way, uint32_t timeout_secs)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why;
	struct ckpt_mpi *job = NULL;

	ckpt_mpi_config_init(&config);
	config.io = way->io;
	config.aggregators = way->aggregators;
	config.write_barrier_timeout_secs = timeout_secs;
	if (ckpt_mpi_new(comm, &config, &job, &why) < 0)
		(void)mpi_test_fail("no job: %s", why.message);
	return job;
}

static int save(struct ckpt_mpi *job, const struct way *way, struct state *state, const char *path,
		struct ckpt_mpi_result *out)
{
	struct ckpt_mpi_save_request request = state_request(state, path);
	struct ckpt_mpi_future *future;
	int rc;

	if (!way->in_background)
		return ckpt_mpi_save(job, &request, out);
	rc = ckpt_mpi_save_start(job, &request, way->buffers, &future);
	return rc < 0 ? rc : ckpt_mpi_wait(&future, out);
}

static int say_failures(const struct ckpt_mpi *job, const char *path)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	for (size_t i = 0; i < count && mpi_test_rank() == 0; i++)
		(void)mpi_test_fail("'%s': rank %d: %s: %s", path, rows[i].rank,
				    ckpt_mpi_phase_name(rows[i].phase), rows[i].message);
	return mpi_test_fail("'%s' is not saved", path);
}

/* --- the bytes ---------------------------------------------------------------------------------- */

static int same_files(const char *left, const char *right)
{
	int a = open(left, O_RDONLY | O_CLOEXEC);
	int b = open(right, O_RDONLY | O_CLOEXEC);
	struct stat a_st;
	struct stat b_st;
	void *a_bytes = MAP_FAILED;
	void *b_bytes = MAP_FAILED;
	int bad = 1;

	if (a >= 0 && b >= 0 && fstat(a, &a_st) == 0 && fstat(b, &b_st) == 0 &&
	    a_st.st_size == b_st.st_size) {
		a_bytes = mmap(NULL, (size_t)a_st.st_size, PROT_READ, MAP_SHARED, a, 0);
		b_bytes = mmap(NULL, (size_t)b_st.st_size, PROT_READ, MAP_SHARED, b, 0);
	}
	if (a_bytes != MAP_FAILED && b_bytes != MAP_FAILED) {
		bad = memcmp(a_bytes, b_bytes, (size_t)a_st.st_size) != 0;
		(void)munmap(a_bytes, (size_t)a_st.st_size);
		(void)munmap(b_bytes, (size_t)b_st.st_size);
	}
	(void)close(a);
	(void)close(b);
	return bad ? mpi_test_fail("'%s' and '%s' differ", left, right) : 0;
}

/* What one process without MPI saves: the measure of the others. Before all else, on all ranks. */
static int save_alone(const char *store)
{
	const struct way way = { .name = "alone" };
	struct state *state = state_new(0, 1, CUT_NOT, FROM_MEMORY);
	struct ckpt_mpi *job = mpi_test_rank() == 0 ? job_new(MPI_COMM_NULL, &way, 60) : NULL;
	char path[4096];
	int bad = 0;

	(void)snprintf(path, sizeof(path), "%s/alone", store);
	if (job)
		bad = save(job, &way, state, path, NULL) < 0 ? say_failures(job, path) : 0;
	ckpt_mpi_close(&job);
	state_free(state);
	return MPI_Bcast(&bad, 1, MPI_INT, 0, MPI_COMM_WORLD) == MPI_SUCCESS ? bad : 1;
}

/* --- matrix ------------------------------------------------------------------------------------- */

static int try_one(const char *store, struct ckpt_mpi *job, const struct way *way,
		   enum state_cut cut, enum state_source source)
{
	struct state *state = state_new(mpi_test_rank(), mpi_test_size(), cut, source);
	struct ckpt_mpi_result result = { .shard_count = 0 };
	char path[2048];
	char file[4096];
	char alone[4096];
	int bad = 0;

	(void)snprintf(path, sizeof(path), "%s/%s/from-%d/%s", store, state_cut_name(cut),
		       (int)source, way->name);
	(void)snprintf(file, sizeof(file), "%s/model.safetensors", path);
	(void)snprintf(alone, sizeof(alone), "%s/alone/model.safetensors", store);
	if (save(job, way, state, path, &result) < 0)
		bad = say_failures(job, path);
	else if (result.shard_count != 1)
		bad = mpi_test_fail("'%s' has %llu shards", path,
				    (unsigned long long)result.shard_count);
	else if (mpi_test_rank() == 0)
		bad = same_files(file, alone);
	if (!bad && source == FROM_READ && !state_complete(state))
		bad = mpi_test_fail("'%s': pieces were not asked for in order, or not all", path);
	state_free(state);
	return bad;
}

/* All cuts in every way, all sources of each in one: what a source gives is the same in all ways. */
static int try_way(const char *store, const struct way *way)
{
	struct ckpt_mpi *job = job_new(MPI_COMM_WORLD, way, 60);
	bool all_sources = way->io == CKPT_MPI_IO_POSIX && way->aggregators == 2;
	int bad = job ? 0 : 1;

	for (int cut = 0; cut < CUT_COUNT && !bad; cut++) {
		for (int source = 0; source < SOURCE_COUNT && !bad; source++) {
			if (source == cut % SOURCE_COUNT || all_sources)
				bad = try_one(store, job, way, (enum state_cut)cut,
					      (enum state_source)source);
		}
	}
	ckpt_mpi_close(&job);
	return bad;
}

static int matrix(const char *store)
{
	const struct way ways[] = {
		{ "posix", CKPT_MPI_IO_POSIX, 0, false, CKPT_MPI_COPY },
		{ "posix-1", CKPT_MPI_IO_POSIX, 1, false, CKPT_MPI_COPY },
		{ "posix-2", CKPT_MPI_IO_POSIX, 2, false, CKPT_MPI_COPY },
		{ "posix-all", CKPT_MPI_IO_POSIX, mpi_test_size(), false, CKPT_MPI_COPY },
		{ "mpiio-1", CKPT_MPI_IO_MPIIO, 1, false, CKPT_MPI_COPY },
		{ "mpiio-2", CKPT_MPI_IO_MPIIO, 2, false, CKPT_MPI_COPY },
		{ "mpiio-all", CKPT_MPI_IO_MPIIO, mpi_test_size(), false, CKPT_MPI_COPY },
		{ "copied", CKPT_MPI_IO_POSIX, 0, true, CKPT_MPI_COPY },
		{ "borrowed", CKPT_MPI_IO_MPIIO, 0, true, CKPT_MPI_BORROW },
	};
	int bad = save_alone(store);

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && !bad; i++) {
		if (ways[i].aggregators <= mpi_test_size())
			bad = try_way(store, &ways[i]);
	}
	return bad;
}

/* --- faults --------------------------------------------------------------------------------------- */

/* The table is one row of that rank, everywhere. */
static int check_table(const struct ckpt_mpi *job, int rc, int rank, int code, const char *text)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	if (rc != code || count != 1 || rows[0].rank != rank || rows[0].code != code ||
	    !strstr(rows[0].message, text))
		return mpi_test_fail(
			"%d, %zu rows, the first of rank %d, %d: '%s'; not rank %d, %d: '%s'", rc,
			count, count ? rows[0].rank : -1, count ? rows[0].code : 0,
			count ? rows[0].message : "", rank, code, text);
	return 0;
}

/* A rank's source fails after so many pieces. */
static int fail_reading(struct ckpt_mpi *job, const struct way *way, const char *path, int rank,
			int pieces)
{
	struct state *state = state_new(mpi_test_rank(), mpi_test_size(), CUT_COLUMNS, FROM_READ);
	int bad;

	if (mpi_test_rank() == rank)
		state->fail_at = pieces;
	bad = check_table(job, save(job, way, state, path, NULL), rank, -ENODATA,
			  "the tape has ended");
	if (access(path, F_OK) == 0)
		bad = mpi_test_fail("'%s' is there after a failure", path);
	state_free(state);
	return bad;
}

static int complex_tensor(struct ckpt_mpi *job, const char *path)
{
	static const float numbers[4];
	const uint64_t start[] = { 0 };
	const uint64_t shape[] = { 2 };
	const struct ckpt_mpi_chunk chunk = { .start = start, .size = shape, .data = numbers };
	const struct ckpt_mpi_entry entry = { .fqn = "phase",
					      .dtype = "C64",
					      .shape = shape,
					      .dim_count = 1,
					      .chunks = &chunk,
					      .chunk_count = 1 };
	const struct ckpt_mpi_save_request request = {
		.path = path,
		.entries = &entry,
		.entry_count = 1,
		.layout = CKPT_MPI_LAYOUT_GLOBAL,
	};
	int rc = ckpt_mpi_save(job, &request, NULL);

	return check_table(job, rc, 0, -EINVAL, "'phase' is complex (C64)");
}

static int faults(const char *store)
{
	const struct way ways[] = {
		{ "posix-again", CKPT_MPI_IO_POSIX, 1, false, CKPT_MPI_COPY },
		{ "mpiio-again", CKPT_MPI_IO_MPIIO, 2, false, CKPT_MPI_COPY },
		{ "copied-again", CKPT_MPI_IO_POSIX, 0, true, CKPT_MPI_COPY },
	};
	int bad = save_alone(store);

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && !bad; i++) {
		struct ckpt_mpi *job = job_new(MPI_COMM_WORLD, &ways[i], 60);
		char path[2048];

		(void)snprintf(path, sizeof(path), "%s/faults-%zu", store, i);
		for (int rank = 0; job && rank < mpi_test_size() && !bad; rank++)
			bad = fail_reading(job, &ways[i], path, rank, rank);
		if (!job || bad)
			return 1;
		bad = complex_tensor(job, path);
		if (!bad)
			bad = try_one(store, job, &ways[i], CUT_MESH, FROM_MEMORY);
		ckpt_mpi_close(&job);
	}
	return bad;
}

/* --- stop ----------------------------------------------------------------------------------------- */

static int stop_here(void *ctx, const struct ckpt_mpi_piece *piece)
{
	(void)ctx;
	memset(piece->out, 0, piece->len);
	if (mpi_test_rank() == 1)
		(void)raise(SIGSTOP);
	return 0;
}

static int stop(const char *store)
{
	const struct way way = { .name = "posix" };
	struct state *state = state_new(mpi_test_rank(), mpi_test_size(), CUT_ROWS, FROM_READ);
	struct ckpt_mpi *job = job_new(MPI_COMM_WORLD, &way, 1);
	struct ckpt_mpi_save_request request;
	char path[2048];

	if (!job)
		return 1;
	(void)snprintf(path, sizeof(path), "%s/stopped", store);
	request = state_request(state, path);
	request.read = stop_here;
	if (check_table(job, ckpt_mpi_save(job, &request, NULL), 1, -ETIMEDOUT, "did not arrive") ==
	    0)
		(void)fprintf(stderr, "rank %d knows who stopped\n", mpi_test_rank());
	/* All survivors have something to say; the first to abort ends the others. */
	if (mpi_test_rank() != ckpt_mpi_reporter(job))
		(void)sleep(10);
	(void)sleep(1);
	return MPI_Abort(MPI_COMM_WORLD, 3);
}

/* --- large ---------------------------------------------------------------------------------------- */

/* What the first rank has of a row, and each of the others. */
#define LARGE_BYTES (UINT64_C(2300) << 20)
#define OTHERS_BYTES (UINT64_C(5) << 20)
#define MARK_STEP (UINT64_C(37) << 20)

/* Zeros, but for a mark now and then that tells where it is. */
static void mark(unsigned char *out, uint64_t at, uint64_t len)
{
	memset(out, 0, len);
	for (uint64_t m = (at + MARK_STEP - 1) / MARK_STEP * MARK_STEP; m + 8 <= at + len;
	     m += MARK_STEP) {
		if (m >= at)
			memcpy(out + (m - at), &m, 8);
	}
}

static int give_large(void *ctx, const struct ckpt_mpi_piece *piece)
{
	const uint64_t *start = ctx;

	mark(piece->out, *start + piece->offset, piece->len);
	return 0;
}

static int check_large(void *ctx, size_t want_idx, uint64_t offset, const void *data, size_t len,
		       char *message)
{
	unsigned char *expected = malloc(len);
	int same;

	(void)ctx;
	(void)want_idx;
	if (!expected)
		return -ENOMEM;
	mark(expected, offset, len);
	same = memcmp(expected, data, len) == 0;
	free(expected);
	if (same)
		return 0;
	(void)snprintf(message, CKPT_MPI_MESSAGE_MAX, "other bytes at %llu",
		       (unsigned long long)offset);
	return -EILSEQ;
}

/* The last rank reads it all. */
static int read_large(struct ckpt_mpi *job, const char *path, const uint64_t *shape)
{
	const uint64_t start[] = { 0 };
	const struct ckpt_mpi_want want = { .tensor_idx = 0, .start = start, .size = shape };
	const struct ckpt_mpi_read_request request = {
		.wants = &want,
		.want_count = mpi_test_rank() == mpi_test_size() - 1,
		.write = check_large,
	};
	struct ckpt_mpi_reader *reader = NULL;
	int rc = ckpt_mpi_reader_new(job, path, &reader);

	if (rc == 0)
		rc = ckpt_mpi_reader_read(reader, &request, NULL);
	ckpt_mpi_reader_free(reader);
	return rc < 0 ? say_failures(job, path) : 0;
}

static int large(const char *store)
{
	const struct way way = { .name = "large" };
	uint64_t rank = (uint64_t)mpi_test_rank();
	const uint64_t shape[] = { LARGE_BYTES + (uint64_t)(mpi_test_size() - 1) * OTHERS_BYTES };
	uint64_t start[] = { rank > 0 ? LARGE_BYTES + (rank - 1) * OTHERS_BYTES : 0 };
	const uint64_t size[] = { rank > 0 ? OTHERS_BYTES : LARGE_BYTES };
	const struct ckpt_mpi_chunk chunk = { .start = start, .size = size };
	const struct ckpt_mpi_entry entry = { .fqn = "large",
					      .dtype = "U8",
					      .shape = shape,
					      .dim_count = 1,
					      .chunks = &chunk,
					      .chunk_count = 1 };
	struct ckpt_mpi *job = job_new(MPI_COMM_WORLD, &way, 600);
	char path[2048];
	const struct ckpt_mpi_save_request request = {
		.path = path,
		.entries = &entry,
		.entry_count = 1,
		.layout = CKPT_MPI_LAYOUT_GLOBAL,
		.read = give_large,
		.ctx = start,
	};
	int bad = 1;

	(void)snprintf(path, sizeof(path), "%s/large", store);
	if (job)
		bad = ckpt_mpi_save(job, &request, NULL) < 0 ? say_failures(job, path)
							     : read_large(job, path, shape);
	ckpt_mpi_close(&job);
	return bad;
}

int mpi_test_global(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const char *store);
	} cases[] = {
		{ "matrix", matrix },
		{ "faults", faults },
		{ "stop", stop },
		{ "large", large },
	};

	for (size_t i = 0; argc == 3 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run(argv[2]);
	}
	return mpi_test_fail("global matrix|faults|stop|large STORE");
}
