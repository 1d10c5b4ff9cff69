/*
 * mpi_test_progress.c - what config.progress is told, and how long a phase that
 * moves bytes may take.
 *
 *   progress told PATH      a save on a slow source: rank 0 is told, and it adds up
 *   progress slow PATH      a rank that needs longer than the time-out, but not longer than its
 *                           bytes may; and one whose bytes are no excuse
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault_state.h"
#include "mpi_test.h"

/* A tensor of ROWS rows of a mebibyte, cut along the rows. */
#define ROWS 8
#define COLS (UINT64_C(1) << 20)

struct source {
	uint64_t ms_per_row;
	unsigned told;
	bool fell; /* bytes_done went back */
	bool wrong;
	struct ckpt_mpi_progress last; /* of write_data */
};

static int read_slowly(void *ctx, const struct ckpt_mpi_piece *piece)
{
	const struct source *source = ctx;
	uint64_t ms = source->ms_per_row * piece->len / COLS;

	memset(piece->out, (int)piece->offset, piece->len);
	(void)nanosleep(&(struct timespec){ .tv_sec = (time_t)(ms / 1000),
					    .tv_nsec = (long)(ms % 1000) * 1000000 },
			NULL);
	return 0;
}

static void note(void *ctx, const struct ckpt_mpi_progress *progress)
{
	struct source *source = ctx;

	if (progress->phase != CKPT_MPI_WRITE_DATA)
		return;
	source->told++;
	source->fell = source->fell || progress->bytes_done < source->last.bytes_done;
	source->wrong = source->wrong || progress->bytes_total != ROWS * COLS ||
			progress->bytes_done > progress->bytes_total ||
			progress->slowest_rank < 0 || progress->slowest_rank >= mpi_test_size();
	source->last = *progress;
}

/* A chunk a row, so that each is a piece of its own; the rows go round the ranks. */
static int save(struct ckpt_mpi *job, struct source *source, const char *path)
{
	const struct ckpt_mpi_rank_info *me = ckpt_mpi_rank(job);
	static const uint64_t shape[] = { ROWS, COLS };
	struct ckpt_mpi_chunk chunks[ROWS];
	struct ckpt_mpi_entry entry = { "w", "U8", shape, 2, chunks, 0 };
	struct ckpt_mpi_save_request request = { .path = path,
						 .entries = &entry,
						 .entry_count = 1,
						 .read = read_slowly,
						 .ctx = source };
	uint64_t start[ROWS][2];
	uint64_t size[ROWS][2];

	for (uint64_t row = 0; row < ROWS; row++) {
		if (row % (uint64_t)me->global_world_size != (uint64_t)me->global_rank)
			continue;
		start[row][0] = row;
		start[row][1] = 0;
		size[row][0] = 1;
		size[row][1] = COLS;
		chunks[entry.chunk_count++] =
			(struct ckpt_mpi_chunk){ .start = start[row], .size = size[row] };
	}
	return ckpt_mpi_save(job, &request, NULL);
}

static int check_told(const struct source *source)
{
	if (mpi_test_rank() != 0)
		return source->told == 0 ? 0 : mpi_test_fail("it was told");
	if (source->told < 3 || source->fell || source->wrong)
		return mpi_test_fail("told %u times, fell: %d, wrong: %d", source->told,
				     source->fell, source->wrong);
	if (source->last.bytes_done != ROWS * COLS || source->last.slowest_left_bytes != 0)
		return mpi_test_fail("at the end %llu bytes are done, %llu left",
				     (unsigned long long)source->last.bytes_done,
				     (unsigned long long)source->last.slowest_left_bytes);
	return 0;
}

static int run_told(const char *path)
{
	struct source source = { .ms_per_row = 300 };
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job;
	int rc;

	ckpt_mpi_config_init(&config);
	config.progress = note;
	config.progress_ctx = &source;
	if (ckpt_mpi_new(MPI_COMM_WORLD, &config, &job, NULL) < 0)
		return mpi_test_fail("no job");
	rc = save(job, &source, path);
	(void)ckpt_mpi_close(&job);
	return rc < 0 ? mpi_test_fail("it ended with %d", rc) : check_told(&source);
}

/* Rank 1 of each pair needs 3 s, the time-out is 1 s; the bytes of a rank are good for 8 s, or for none. */
static int run_slow(const char *path)
{
	static const struct fault_table late = { CKPT_MPI_WRITE_DATA, 2, -ETIMEDOUT, "within 1 s" };
	static const struct fault_table none = { .bad = 0 };
	bool counted = mpi_test_rank() < 2;
	struct source source = { .ms_per_row = mpi_test_rank() % 2 == 1 ? 750 : 0 };
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job;
	MPI_Comm pair;
	char name[4096];
	int failed = 0;
	int rc;

	ckpt_mpi_config_init(&config);
	config.write_barrier_timeout_secs = 1;
	config.min_bytes_per_sec = counted ? COLS / 2 : 0;
	(void)snprintf(name, sizeof(name), "%s-%d", path, counted);
	if (MPI_Comm_split(MPI_COMM_WORLD, counted, 0, &pair) != MPI_SUCCESS ||
	    ckpt_mpi_new(pair, &config, &job, NULL) < 0)
		return mpi_test_fail("no job");
	rc = save(job, &source, name);
	if (rc != (counted ? 0 : -ETIMEDOUT))
		failed = mpi_test_fail("it ended with %d", rc);
	failed |= fault_check(job, counted ? &none : &late, "slow");
	return ckpt_mpi_close(&job) == 0 ? failed : mpi_test_fail("close");
}

int mpi_test_progress(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "told") == 0)
		return run_told(argv[2]);
	if (argc == 3 && strcmp(argv[1], "slow") == 0 && mpi_test_size() == 4)
		return run_slow(argv[2]);
	return mpi_test_fail("progress told PATH, or, on 4 ranks, progress slow PATH");
}
