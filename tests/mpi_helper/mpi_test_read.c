/*
 * mpi_test_read.c - `read`: a checkpoint of known bytes (mpi_samples.h) is read
 * in every way.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi_read_sheet.h"
#include "mpi_test.h"

static struct sample_box random_box(const struct sample *sample)
{
	struct sample_box box = { .start = { 0 } };

	for (uint32_t d = 0; d < sample->dim_count; d++) {
		box.start[d] = random_below(sample->shape[d] + 1);
		box.size[d] = random_below(sample->shape[d] - box.start[d] + 1);
	}
	return box;
}

/* --- what a rank may want ------------------------------------------------------------------------- */

enum habit {
	LIKE_ROWS,
	LIKE_COLS,
	LIKE_ALL,
	LIKE_ODD_RANKS,
	LIKE_RANDOM,
	HABIT_COUNT
};
static const char *const habit_names[] = { "rows", "columns", "everything", "odd ranks", "random" };

static void want_by_habit(struct read_sheet *sheet, enum habit habit)
{
	const struct ckpt_mpi_rank_info *who = ckpt_mpi_rank(sheet->job);

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		const struct sample *sample = &samples[i];
		struct sample_box box = sample_whole(sample);
		uint32_t dim = habit == LIKE_COLS ? sample->dim_count - 1 : 0;

		if (habit == LIKE_ODD_RANKS && who->global_rank % 2 == 0)
			continue;
		if (habit == LIKE_RANDOM)
			box = random_box(sample);
		if ((habit == LIKE_ROWS || habit == LIKE_COLS) && sample->dim_count > 0)
			ckpt_mpi_cut(sample->shape[dim], who->global_rank, who->global_world_size,
				     &box.start[dim], &box.size[dim]);
		want(sheet, sample, &box, (enum memory)random_below(MEMORY_COUNT));
	}
	if (habit == LIKE_ALL || (habit == LIKE_ODD_RANKS && who->global_rank % 2 == 1))
		want_blobs(sheet);
}

/* --- cases: each with a job of all ranks of @comm ------------------------------------------------ */

static struct ckpt_mpi *job_of(MPI_Comm comm)
{
	struct ckpt_mpi_failure why;
	struct ckpt_mpi *job = NULL;

	if (ckpt_mpi_new(comm, NULL, &job, &why) < 0) {
		(void)mpi_test_fail("no job: %s", why.message);
		abort();
	}
	return job;
}

static int save_on(MPI_Comm comm, const char *path)
{
	struct ckpt_mpi *job = job_of(comm);
	int rc = sample_save(job, path);
	int code = rc < 0 ? say_failures(job, "save", rc) : 0;

	return ckpt_mpi_close(&job) < 0 ? 1 : code;
}

static int load_on(MPI_Comm comm, const char *path, unsigned int habits)
{
	struct ckpt_mpi *job = job_of(comm);
	struct read_sheet *sheet = read_sheet_new(job, path);
	int code = sheet ? 0 : 1;

	for (int habit = 0; habit < HABIT_COUNT && code == 0; habit++) {
		if (!(habits & 1U << habit))
			continue;
		want_by_habit(sheet, (enum habit)habit);
		code = read_and_check(sheet, habit_names[habit]);
	}
	if (sheet)
		read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 ? 1 : code;
}

/* The first @count ranks; MPI_COMM_NULL for the others. */
static MPI_Comm first_ranks(int count)
{
	MPI_Comm comm;

	if (MPI_Comm_split(MPI_COMM_WORLD, mpi_test_rank() < count ? 0 : MPI_UNDEFINED, 0, &comm) !=
	    MPI_SUCCESS)
		abort();
	return comm;
}

static int worst(int code)
{
	if (MPI_Allreduce(MPI_IN_PLACE, &code, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD) != MPI_SUCCESS)
		return 1;
	return code;
}

/* Saved on 1 … all ranks, each loaded on 1 … all ranks. */
static int run_matrix(const char *store)
{
	int code = 0;

	for (int saved = 1; saved <= mpi_test_size() && code == 0; saved++) {
		MPI_Comm comm = first_ranks(saved);
		char path[4096];

		(void)snprintf(path, sizeof(path), "%s/on-%d", store, saved);
		if (comm != MPI_COMM_NULL)
			code = save_on(comm, path) || MPI_Comm_free(&comm) != MPI_SUCCESS;
		code = worst(code);
		for (int loads = 1; loads <= mpi_test_size() && code == 0; loads++) {
			/* What all want alike needs no other cut to be seen with each world size. */
			unsigned int habits =
				1U << LIKE_ROWS | 1U << LIKE_COLS |
				(saved % 2 == 1 ? 1U << LIKE_ALL | 1U << LIKE_ODD_RANKS : 0);

			comm = first_ranks(loads);
			if (comm != MPI_COMM_NULL)
				code = load_on(comm, path, habits) ||
				       MPI_Comm_free(&comm) != MPI_SUCCESS;
			code = worst(code);
		}
	}
	return code;
}

static int run_save(const char *path)
{
	return save_on(MPI_COMM_WORLD, path);
}

static int run_random(const char *path)
{
	struct ckpt_mpi *job = job_of(MPI_COMM_WORLD);
	struct read_sheet *sheet = read_sheet_new(job, path);
	int code = sheet ? 0 : 1;

	for (int i = 0; i < 60 && code == 0; i++) {
		want_by_habit(sheet, LIKE_RANDOM);
		/* Some that are in no box of their own: two wants of one rank, one for two ranks. */
		if (random_below(2) == 0) {
			const struct sample *sample = &samples[random_below(SAMPLE_COUNT)];
			const struct sample_box box = sample_whole(sample);

			want(sheet, sample, &box, STRIDED);
			want(sheet, sample, &box, (enum memory)random_below(MEMORY_COUNT));
		}
		code = worst(read_and_check(sheet, "random"));
	}
	if (sheet)
		read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 ? 1 : code;
}

/* --- how much is read, and what is told ----------------------------------------------------------- */

/* Bytes that this process has read by system calls. */
static unsigned long long read_so_far(void)
{
	FILE *file = fopen("/proc/self/io", "r");
	char line[64] = "";
	unsigned long long bytes;

	if (!file || !fgets(line, sizeof(line), file) || strncmp(line, "rchar: ", 7) != 0)
		abort();
	bytes = strtoull(line + 7, NULL, 10);
	(void)fclose(file);
	return bytes;
}

/* All ranks want everything: @times as many bytes as are stored are read in all, a tenth more at most. */
static int run_once(const char *path, const char *times)
{
	struct ckpt_mpi *job = job_of(MPI_COMM_WORLD);
	struct read_sheet *sheet = read_sheet_new(job, path);
	unsigned long long wanted = 0;
	unsigned long long bytes;
	unsigned long long all = 0;
	int code = 1;

	if (!sheet)
		return 1;
	for (int memory = 0; memory < MEMORY_COUNT; memory++) {
		want_everything(sheet, (enum memory)memory);
		wanted = 0;
		for (size_t i = 0; i < sheet->want_count; i++)
			wanted += sample_bytes(sheet->wanted[i].sample, &sheet->wanted[i].box);
		for (size_t i = 0; i < sheet->blob_want_count; i++)
			wanted += sheet->blob_wanted[i].data_bytes;
		bytes = read_so_far();
		code = read_and_check(sheet, "once");
		bytes = read_so_far() - bytes;
		if (MPI_Allreduce(&bytes, &all, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM,
				  MPI_COMM_WORLD) != MPI_SUCCESS)
			code = 1;
		code = worst(code);
		wanted *= strtoull(times, NULL, 10);
		if (code == 0 && (all < wanted || all > wanted + wanted / 10))
			code = mpi_test_fail(
				"the ranks read %llu bytes in all; about %llu are enough", all,
				wanted);
		if (code != 0)
			break;
	}
	read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 ? 1 : code;
}

/* All ranks want everything of what is damaged; the table goes to stdout, once. */
static int run_table(const char *path)
{
	struct ckpt_mpi *job = job_of(MPI_COMM_WORLD);
	struct read_sheet *sheet = read_sheet_new(job, path);
	const struct ckpt_mpi_failure *rows;
	size_t count;
	int rc;

	if (!sheet)
		return 1;
	want_everything(sheet, DENSE);
	rc = ckpt_mpi_reader_read(sheet->reader, request_of(sheet, false), NULL);
	rows = ckpt_mpi_failures(job, &count);
	for (size_t i = 0; i < count && ckpt_mpi_reporter(job) == mpi_test_rank(); i++)
		(void)printf("%d %s %s\n", rows[i].rank, ckpt_mpi_phase_name(rows[i].phase),
			     rows[i].message);
	read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 || rc == 0 ? 1 : 0;
}

/* The table of the last call has exactly these rows. */
static int told(const struct ckpt_mpi *job, const char *what, int rc, int code, const char *ranks,
		enum ckpt_mpi_phase phase)
{
	char found[256] = "";
	size_t len = 0;
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);
	bool good = rc == code;

	for (size_t i = 0; i < count; i++) {
		len += (size_t)snprintf(found + len, sizeof(found) - len, "%s%d", i ? "," : "",
					rows[i].rank);
		good = good && rows[i].code == code && rows[i].phase == phase;
	}
	if (good && strcmp(found, ranks) == 0)
		return 0;
	return mpi_test_fail("%s: %d, ranks %s in the table, first in %s; should be %d, %s, %s",
			     what, rc, found, count ? ckpt_mpi_phase_name(rows[0].phase) : "none",
			     code, ranks, ckpt_mpi_phase_name(phase));
}

/* Rank 2 stops with bytes in its hands that others wait for it to take. */
static int stop_there(void *ctx, size_t want_idx, uint64_t offset, const void *data, size_t len,
		      char *message)
{
	(void)ctx;
	(void)want_idx;
	(void)offset;
	(void)data;
	(void)len;
	(void)message;
	return mpi_test_rank() == 2 ? raise(SIGSTOP) : 0;
}

static int run_stopped(const char *path)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why;
	struct ckpt_mpi_read_request request;
	struct ckpt_mpi *job;
	struct read_sheet *sheet;
	int rc;

	ckpt_mpi_config_init(&config);
	config.write_barrier_timeout_secs = 2;
	if (ckpt_mpi_new(MPI_COMM_WORLD, &config, &job, &why) < 0)
		return mpi_test_fail("no job: %s", why.message);
	sheet = read_sheet_new(job, path);
	if (!sheet)
		return 1;
	want_everything(sheet, mpi_test_rank() == 2 ? HANDED : DENSE);
	request = *request_of(sheet, false);
	request.write = stop_there;
	rc = ckpt_mpi_reader_read(sheet->reader, &request, NULL);
	if (told(job, "a stopped rank", rc, -ETIMEDOUT, "2", CKPT_MPI_READ_DATA) == 0)
		(void)printf("rank 2 did not arrive\n");
	(void)fflush(stdout);
	(void)sleep(1); /* the others say so, too */
	return MPI_Abort(MPI_COMM_WORLD, 1);
}

/* What cannot be wanted, by rank 1 of all. */
static int run_bad(const char *path)
{
	static const uint64_t far[] = { UINT64_MAX / 2, 1 };
	struct ckpt_mpi *job = job_of(MPI_COMM_WORLD);
	struct read_sheet *sheet = read_sheet_new(job, path);
	const struct sample_box box = { .start = { 30, 40 }, .size = { 8, 10 } };
	const struct sample_box whole = sample_whole(&samples[0]);
	bool mine = mpi_test_rank() == 1;
	int code = sheet ? 0 : 1;

	for (int i = 0; i < 4 && code == 0; i++) {
		struct ckpt_mpi_blob_want blob = { .blob_idx = 1000 };
		struct ckpt_mpi_read_request request;
		int rc;

		want(sheet, &samples[0], mine && i == 0 ? &box : &whole, DENSE);
		if (mine && i == 1)
			sheet->wants[0].tensor_idx = SIZE_MAX;
		if (mine && i == 2)
			sheet->wants[0].strides = far;
		request = *request_of(sheet, false);
		if (mine && i == 3) {
			request.blob_wants = &blob;
			request.blob_want_count = 1;
		}
		rc = ckpt_mpi_reader_read(sheet->reader, &request, NULL);
		code = worst(told(job, "a bad want", rc, i == 2 ? -EOVERFLOW : -EINVAL, "1",
				  CKPT_MPI_PREPARE_LOCAL_PLAN));
		forget_wants(sheet);
	}
	if (sheet)
		read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 ? 1 : code;
}

/* --- in the background ---------------------------------------------------------------------------- */

/* Start, test some times, wait. */
static int read_behind(struct read_sheet *sheet, const struct ckpt_mpi_read_request *request)
{
	struct ckpt_mpi_future *future = NULL;
	struct ckpt_mpi_future *second = NULL;
	bool ended = false;
	int rc = ckpt_mpi_read_start(sheet->reader, request, &future);

	if (rc < 0)
		return rc;
	if (ckpt_mpi_read_start(sheet->reader, request, &second) != -EBUSY)
		return -ENOTRECOVERABLE;
	for (int i = 0; i < 3 && !ended && rc == 0; i++)
		rc = ckpt_mpi_test(future, &ended);
	rc = ckpt_mpi_wait(&future, NULL);
	return rc == 0 && future ? -ENOTRECOVERABLE : rc;
}

struct async_case {
	const char *fault;
	const char *ranks; /* that are in the table; "" none */
	enum ckpt_mpi_phase phase;
};

static int run_async_case(const char *path, const struct async_case *it)
{
	struct ckpt_mpi *job;
	struct read_sheet *sheet;
	int rc;
	int code = 1;

	if (setenv("CKPTFS_FAULT", it->fault, 1) < 0)
		return 1;
	job = job_of(MPI_COMM_WORLD);
	sheet = read_sheet_new(job, path);
	if (!sheet)
		return 1;
	want_everything(sheet, STRIDED);
	rc = read_behind(sheet, request_of(sheet, false));
	if (*it->ranks)
		code = told(job, it->fault, rc, -EIO, it->ranks, it->phase);
	else
		code = rc < 0 ? say_failures(job, "async", rc) : check_all(sheet);
	read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 ? 1 : worst(code);
}

static int run_async(const char *path)
{
	static const struct async_case cases[] = {
		{ "", "", CKPT_MPI_READ_DATA },
		{ "read_data@1", "1", CKPT_MPI_READ_DATA },
		{ "read_data_async@2", "2", CKPT_MPI_READ_DATA_ASYNC },
		{ "read_data_async@0,3", "0,3", CKPT_MPI_READ_DATA_ASYNC },
		{ "read_data@0;read_data_async@3", "0", CKPT_MPI_READ_DATA },
		{ "", "", CKPT_MPI_READ_DATA },
	};
	int code = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && code == 0; i++)
		code = run_async_case(path, &cases[i]);
	return code;
}

/* What a read in the background cannot do, asked of it by all ranks. */
static int run_async_bad(const char *path)
{
	struct ckpt_mpi *job = job_of(MPI_COMM_WORLD);
	struct read_sheet *sheet = read_sheet_new(job, path);
	struct ckpt_mpi_future *future = NULL;
	int code = sheet ? 0 : 1;

	for (int i = 0; i < 2 && code == 0; i++) {
		want_everything(sheet, i == 0 ? HANDED : DENSE);
		if (ckpt_mpi_read_start(sheet->reader, request_of(sheet, i == 1), &future) !=
		    -EINVAL)
			code = mpi_test_fail("a read in the background took what it cannot");
		code = worst(code);
		forget_wants(sheet);
	}
	if (sheet)
		read_sheet_free(sheet);
	return ckpt_mpi_close(&job) < 0 ? 1 : code;
}

int mpi_test_read(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const char *path);
	} cases[] = {
		{ "matrix", run_matrix },
		{ "save", run_save },
		{ "random", run_random },
		{ "table", run_table },
		{ "bad", run_bad },
		{ "async", run_async },
		{ "async-bad", run_async_bad },
		{ "stopped", run_stopped },
	};

	if (argc < 3)
		return mpi_test_fail("read CASE PATH [NUMBER]");
	/* Where boxes are random, NUMBER is the seed. */
	random_seed((argc > 3 ? strtoull(argv[3], NULL, 10) : 1) * 1000003 +
		    (unsigned int)mpi_test_rank() + 1);
	if (strcmp(argv[1], "once") == 0)
		return run_once(argv[2], argc > 3 ? argv[3] : "1");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].name) == 0)
			return cases[i].run(argv[2]);
	}
	return mpi_test_fail("'%s' is no case of read", argv[1]);
}
