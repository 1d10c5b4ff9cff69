/*
 * test_read.c - reading in ways a shell cannot: at random offsets, from many threads, through
 * mappings.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "ckpt_test.h"

/* Longest read of `compare`: crosses three blocks of 1 MiB. */
#define COMPARE_READ_MAX ((size_t)2500000)
#define THREADS_MAX 64
#define RANDOM_READ_BYTES ((size_t)4096)

/* One thread of `compare`. */
struct reader {
	const char *path;
	const char *other;
	uint64_t reads;
	uint64_t seed;
	int status;
};

static int open_sized(const char *path, int *out_fd, uint64_t *out_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return test_failed(errno, "cannot open", path);
	if (fstat(fd, &st) < 0) {
		(void)close(fd);
		return test_failed(errno, "cannot stat", path);
	}
	*out_fd = fd;
	*out_size = (uint64_t)st.st_size;
	return 0;
}

/* One pread of each; short reads before the end of the file are a fault of the file system. */
static int compare_at(const struct reader *reader, const int fds[2], char *const bufs[2],
		      uint64_t offset, size_t len)
{
	ssize_t got = pread(fds[0], bufs[0], len, (off_t)offset);
	ssize_t want = pread(fds[1], bufs[1], len, (off_t)offset);

	if (got < 0)
		return test_failed(errno, "cannot read", reader->path);
	if (got == want && memcmp(bufs[0], bufs[1], (size_t)got) == 0)
		return 0;
	(void)fprintf(stderr, "ckpt-test: '%s' at %" PRIu64 "+%zu: %zd bytes, should be %zd%s\n",
		      reader->path, offset, len, got, want, got == want ? "; other bytes" : "");
	return 1;
}

static int compare_random(struct reader *reader, const int fds[2], uint64_t size)
{
	CKPT_FREE char *one = malloc(COMPARE_READ_MAX);
	CKPT_FREE char *two = malloc(COMPARE_READ_MAX);
	char *const bufs[2] = { one, two };
	int status = one && two ? 0 : test_failed(ENOMEM, "no memory to read", reader->path);

	for (uint64_t i = 0; status == 0 && i < reader->reads; i++) {
		/* Three in four reads are small; some begin at or behind the end. */
		uint64_t offset = test_random(&reader->seed) % (size + 5000);
		size_t limit = test_random(&reader->seed) % 4 ? 9000 : COMPARE_READ_MAX;

		status = compare_at(reader, fds, bufs, offset,
				    1 + test_random(&reader->seed) % limit);
	}
	return status;
}

static void *compare_thread(void *arg)
{
	struct reader *reader = arg;
	CKPT_CLOSE int fd = -1;
	CKPT_CLOSE int other = -1;
	uint64_t size = 0;
	uint64_t other_size = 0;

	reader->status = open_sized(reader->path, &fd, &size) ||
			 open_sized(reader->other, &other, &other_size);
	if (reader->status == 0 && size != other_size)
		reader->status = test_failed(0, "not the same size", reader->path);
	if (reader->status == 0)
		reader->status = compare_random(reader, (const int[2]){ fd, other }, size);
	return NULL;
}

int test_compare(int argc, char **argv)
{
	uint64_t reads = argc > 3 ? test_number(argv[3]) : 200;
	uint64_t threads = argc > 4 ? test_number(argv[4]) : 1;
	uint64_t seed = argc > 5 ? test_number(argv[5]) : 1;
	struct reader readers[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	uint64_t started = 0;
	int status = 0;

	if (threads == 0 || threads > THREADS_MAX)
		return 2;
	for (; started < threads; started++) {
		readers[started] = (struct reader){ argv[1], argv[2], reads, seed + started, 1 };
		if (pthread_create(&ids[started], NULL, compare_thread, &readers[started]) != 0)
			break;
	}
	for (uint64_t i = 0; i < started; i++) {
		(void)pthread_join(ids[i], NULL);
		status |= readers[i].status;
	}
	return status | (started != threads);
}

/* The file as a private read-only mapping; an empty one has none. */
static int map_file(const char *path, unsigned char **out, uint64_t *out_size)
{
	CKPT_CLOSE int fd = -1;
	void *map;

	if (open_sized(path, &fd, out_size) != 0)
		return 1;
	*out = NULL;
	if (*out_size == 0)
		return 0;
	map = mmap(NULL, *out_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return test_failed(errno, "cannot map", path);
	*out = map;
	return 0;
}

int test_map_compare(int argc, char **argv)
{
	unsigned char *one;
	unsigned char *two;
	uint64_t size;
	uint64_t other_size;

	(void)argc;
	if (map_file(argv[1], &one, &size) != 0 || map_file(argv[2], &two, &other_size) != 0)
		return 1;
	if (size != other_size || (size && memcmp(one, two, size) != 0))
		return test_failed(0, "mapped bytes differ", argv[1]);
	return 0;
}

int test_map_sum(int argc, char **argv)
{
	unsigned char *map;
	uint64_t size;
	uint64_t sum = 0;

	(void)argc;
	if (map_file(argv[1], &map, &size) != 0)
		return 1;
	for (uint64_t at = 0; at < size; at += sizeof(sum)) {
		uint64_t word = 0;

		memcpy(&word, map + at, size - at < sizeof(word) ? size - at : sizeof(word));
		sum += word;
	}
	printf("%016" PRIx64 "\n", sum);
	return 0;
}

int test_read_random(int argc, char **argv)
{
	uint64_t count = test_number(argv[2]);
	uint64_t seed = argc > 3 ? test_number(argv[3]) : 1;
	CKPT_CLOSE int fd = -1;
	char page[RANDOM_READ_BYTES];
	uint64_t size;

	if (open_sized(argv[1], &fd, &size) != 0)
		return 1;
	if (size < RANDOM_READ_BYTES)
		return test_failed(0, "shorter than one page", argv[1]);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t page_idx = test_random(&seed) % (size / RANDOM_READ_BYTES);

		if (pread(fd, page, sizeof(page), (off_t)(page_idx * RANDOM_READ_BYTES)) !=
		    (ssize_t)sizeof(page))
			return test_failed(errno, "cannot read", argv[1]);
	}
	return 0;
}

int test_pread(int argc, char **argv)
{
	uint64_t offset = test_number(argv[2]);
	size_t len = (size_t)test_number(argv[3]);
	CKPT_FREE char *buf = malloc(len ? len : 1);
	CKPT_CLOSE int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	ssize_t got;

	(void)argc;
	if (fd < 0 || !buf)
		return test_failed(errno, "cannot open", argv[1]);
	got = pread(fd, buf, len, (off_t)offset);
	if (got < 0)
		return test_failed(errno, "cannot read", argv[1]);
	return fwrite(buf, 1, (size_t)got, stdout) == (size_t)got ? 0 : 1;
}
