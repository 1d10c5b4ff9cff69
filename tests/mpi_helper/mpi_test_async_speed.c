/*
 * mpi_test_async_speed.c - how long an asynchronous save stops the application.
 *
 *   async-speed STORE MIB   three saves of so much a rank
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpi_test.h"

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A line a save: seconds that save_start() took, that a memcpy takes, and the save in all. */
int mpi_test_async_speed(int argc, char **argv)
{
	uint64_t bytes = argc == 3 ? strtoull(argv[2], NULL, 10) << 20 : 0;
	uint64_t shape[2] = { (uint64_t)mpi_test_size(), bytes };
	uint64_t start[2] = { (uint64_t)mpi_test_rank(), 0 };
	uint64_t size[2] = { 1, bytes };
	char *data = malloc(bytes + 1);
	char *other = malloc(bytes + 1);
	const struct ckpt_mpi_chunk chunk = { start, size, data, NULL };
	const struct ckpt_mpi_entry entry = { "w", "U8", shape, 2, &chunk, 1 };
	struct ckpt_mpi_save_request request = { .entries = &entry, .entry_count = 1 };
	struct ckpt_mpi *job = NULL;

	if (!bytes || !data || !other || ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("async-speed STORE MIB");
	memset(data, mpi_test_rank() + 1, bytes);
	for (int round = 0; round < 3; round++) {
		char path[4096];
		struct ckpt_mpi_future *future;
		double began;
		double stopped;
		double copied_in;

		(void)snprintf(path, sizeof(path), "%s/speed-%d", argv[1], round);
		request.path = path;
		began = now();
		memcpy(other, data, bytes);
		copied_in = now() - began;
		began = now();
		if (ckpt_mpi_save_start(job, &request, CKPT_MPI_COPY, &future) < 0)
			return mpi_test_fail("does not start");
		stopped = now() - began;
		if (ckpt_mpi_wait(&future, NULL) < 0)
			return mpi_test_fail("does not end");
		(void)printf("rank %d: stopped %.3f s, memcpy %.3f s, in all %.3f s\n",
			     mpi_test_rank(), stopped, copied_in, now() - began);
	}
	free(data);
	free(other);
	return ckpt_mpi_close(&job);
}
