/*
 * mpi_test_causes.c - failures with a real cause that the program ckptfs-mpi
 * cannot be led into: wrong plans, and what goes wrong in the background.
 * Every rank must get the table with the one row that is given as arguments.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi_test.h"

#define ROW_BYTES 1024
/* Rows a rank: enough for a shard that is a file of its own. */
#define ROWS 2048

/* "w": ROWS rows of each rank, one below the other. */
struct big {
	unsigned char *data;
	uint64_t shape[2];
	uint64_t start[2];
	uint64_t size[2];
	struct ckpt_mpi_chunk chunk;
	struct ckpt_mpi_entry entry;
};

static void make_big(struct big *big)
{
	*big = (struct big){
		.data = malloc((size_t)ROWS * ROW_BYTES),
		.shape = { (uint64_t)mpi_test_size() * ROWS, ROW_BYTES },
		.start = { (uint64_t)mpi_test_rank() * ROWS, 0 },
		.size = { ROWS, ROW_BYTES },
	};
	if (!big->data)
		abort();
	memset(big->data, mpi_test_rank() + 1, (size_t)ROWS * ROW_BYTES);
	big->chunk = (struct ckpt_mpi_chunk){ .start = big->start,
					      .size = big->size,
					      .data = big->data };
	big->entry = (struct ckpt_mpi_entry){ "w", "U8", big->shape, 2, &big->chunk, 1 };
}

static struct ckpt_mpi_save_request save_of(const struct big *big, const char *path)
{
	return (struct ckpt_mpi_save_request){ .path = path,
					       .entries = &big->entry,
					       .entry_count = 1 };
}

/* Rank 1's chunk reaches out of the tensor. */
static int bad_chunk(struct ckpt_mpi *job, struct big *big, const char *path)
{
	const struct ckpt_mpi_save_request request = save_of(big, path);

	if (mpi_test_rank() == 1)
		big->start[1] = 1;
	return ckpt_mpi_save(job, &request, NULL);
}

/* Each chunk is right by itself; rank 1's lies on rank 0's last row. */
static int overlap(struct ckpt_mpi *job, struct big *big, const char *path)
{
	const struct ckpt_mpi_save_request request = save_of(big, path);

	if (mpi_test_rank() == 1)
		big->start[0]--;
	return ckpt_mpi_save(job, &request, NULL);
}

static int save_async(struct ckpt_mpi *job, struct big *big, const char *path)
{
	const struct ckpt_mpi_save_request request = save_of(big, path);
	struct ckpt_mpi_future *future = NULL;
	int rc = ckpt_mpi_save_start(job, &request, CKPT_MPI_BORROW, &future);

	return rc < 0 ? rc : ckpt_mpi_wait(&future, NULL);
}

/* What was saved is read again, with @grow columns more than there are on rank 1. */
static int read_again(struct ckpt_mpi *job, struct big *big, const char *path, bool async,
		      uint64_t grow)
{
	const struct ckpt_mpi_want want = { .start = big->start,
					    .size = big->size,
					    .data = big->data };
	const struct ckpt_mpi_read_request request = { .wants = &want, .want_count = 1 };
	struct ckpt_mpi_reader *reader = NULL;
	struct ckpt_mpi_future *future = NULL;
	int rc = ckpt_mpi_reader_new(job, path, &reader);

	big->size[1] += mpi_test_rank() == 1 ? grow : 0;
	if (rc == 0 && async)
		rc = ckpt_mpi_read_start(reader, &request, &future);
	else if (rc == 0)
		rc = ckpt_mpi_reader_read(reader, &request, NULL);
	if (rc == 0 && async)
		rc = ckpt_mpi_wait(&future, NULL);
	ckpt_mpi_reader_free(reader);
	return rc;
}

static int bad_want(struct ckpt_mpi *job, struct big *big, const char *path)
{
	const struct ckpt_mpi_save_request request = save_of(big, path);
	int rc = ckpt_mpi_save(job, &request, NULL);

	return rc < 0 ? rc : read_again(job, big, path, false, 1);
}

/* Rank 1's shard is gone before anybody reads it. */
static int read_async(struct ckpt_mpi *job, struct big *big, const char *path)
{
	const struct ckpt_mpi_save_request request = save_of(big, path);
	int rc = ckpt_mpi_save(job, &request, NULL);
	char shard[4096];

	(void)snprintf(shard, sizeof(shard), "%s/rank-00001/w@%d_0", path, ROWS);
	if (rc == 0 && mpi_test_rank() == 1)
		rc = unlink(shard);
	return rc < 0 ? rc : read_again(job, big, path, true, 0);
}

static const struct {
	const char *name;
	int (*run)(struct ckpt_mpi *job, struct big *big, const char *path);
} cases[] = {
	{ "bad-chunk", bad_chunk }, { "overlap", overlap },	  { "save-async", save_async },
	{ "bad-want", bad_want },   { "read-async", read_async },
};

/* argv: RANK PHASE ENAME */
static int check_row(const struct ckpt_mpi *job, int rc, char **argv)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	if (rc == 0 || count != 1 || rows[0].code != rc ||
	    rows[0].rank != (int)strtol(argv[0], NULL, 10) ||
	    strcmp(ckpt_mpi_phase_name(rows[0].phase), argv[1]) != 0 ||
	    strcmp(strerrorname_np(-rows[0].code), argv[2]) != 0)
		return mpi_test_fail("returned %d with %zu rows; the first: rank %d: %s: %d: %s",
				     rc, count, count ? rows[0].rank : -1,
				     count ? ckpt_mpi_phase_name(rows[0].phase) : "",
				     count ? rows[0].code : 0, count ? rows[0].message : "");
	return 0;
}

int mpi_test_causes(int argc, char **argv)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job = NULL;
	struct big big;
	int code = 2;

	ckpt_mpi_config_init(&config);
	config.write_barrier_timeout_secs = 20;
	if (argc < 6 || ckpt_mpi_new(MPI_COMM_WORLD, &config, &job, NULL) < 0)
		return code;
	make_big(&big);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].name) == 0)
			code = check_row(job, cases[i].run(job, &big, argv[2]), argv + 3);
	}
	free(big.data);
	return code | ckpt_mpi_close(&job);
}
