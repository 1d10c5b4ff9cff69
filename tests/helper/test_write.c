/* test_write.c - ways of writing, and of keeping others from it, that a shell has no words for. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "ckpt_test.h"

/* A record of `append`: no write of it may be torn. */
#define RECORD_BYTES 100
/* Odd on every device. */
#define DIRECT_BYTES 1001
#define DIRECT_OFFSET 777

/* COUNT records of the letter TAG, each one write(2) through one O_APPEND descriptor. */
int test_append(int argc, char **argv)
{
	CKPT_CLOSE int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	uint64_t count = test_number(argv[2]);
	char record[RECORD_BYTES];

	(void)argc;
	if (fd < 0)
		return test_failed(errno, "cannot open", argv[1]);
	memset(record, argv[3][0], sizeof(record));
	record[RECORD_BYTES - 1] = '\n';
	for (uint64_t i = 0; i < count; i++)
		if (write(fd, record, sizeof(record)) != RECORD_BYTES)
			return test_failed(errno, "cannot append to", argv[1]);
	return 0;
}

/* Map the file, close the descriptor, then write TEXT at OFFSET. */
int test_map_write(int argc, char **argv)
{
	size_t offset = (size_t)test_number(argv[2]);
	size_t len = strlen(argv[3]);
	int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	struct stat st;
	char *map;

	(void)argc;
	if (fd < 0 || fstat(fd, &st) < 0)
		return test_failed(errno, "cannot open", argv[1]);
	if (offset + len > (size_t)st.st_size)
		return test_failed(EINVAL, "is too short", argv[1]);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return test_failed(errno, "cannot map", argv[1]);
	if (close(fd) != 0)
		return test_failed(errno, "cannot close", argv[1]);
	memcpy(map + offset, argv[3], len);
	if (munmap(map, (size_t)st.st_size) != 0)
		return test_failed(errno, "cannot unmap", argv[1]);
	return 0;
}

/* O_DIRECT, though offset, length and memory are odd: write, read back, compare. */
int test_direct(int argc, char **argv)
{
	CKPT_CLOSE int fd = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	char out[DIRECT_BYTES + 1];
	char in[DIRECT_BYTES + 1];

	(void)argc;
	if (fd < 0)
		return test_failed(errno, "cannot open", argv[1]);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)('a' + i % 23);
	if (pwrite(fd, out + 1, DIRECT_BYTES, DIRECT_OFFSET) != DIRECT_BYTES)
		return test_failed(errno, "cannot write", argv[1]);
	if (pread(fd, in + 1, DIRECT_BYTES, DIRECT_OFFSET) != DIRECT_BYTES)
		return test_failed(errno, "cannot read", argv[1]);
	return memcmp(in + 1, out + 1, DIRECT_BYTES) == 0
		       ? 0
		       : test_failed(0, "does not hold what was written", argv[1]);
}

/* Copy LEN bytes by copy_file_range(2); prints how many went in the first call, or its errno. */
int test_copy_range(int argc, char **argv)
{
	CKPT_CLOSE int from = open(argv[1], O_RDONLY | O_CLOEXEC);
	CKPT_CLOSE int to = open(argv[2], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	uint64_t len = test_number(argv[3]);
	uint64_t done = 0;
	ssize_t rc = 1;

	(void)argc;
	if (from < 0 || to < 0)
		return test_failed(errno, "cannot open", from < 0 ? argv[1] : argv[2]);
	while (rc > 0 && done < len) {
		rc = copy_file_range(from, NULL, to, NULL, len - done, 0);
		if (rc < 0 && done == 0) {
			puts(ckpt_err_name(errno));
			return 0;
		}
		done += rc > 0 ? (uint64_t)rc : 0;
	}
	printf("%" PRIu64 "\n", done);
	return rc < 0;
}

/* Where the next hole or piece of data begins. */
int test_seek(int argc, char **argv)
{
	CKPT_CLOSE int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	off_t at;

	(void)argc;
	if (fd < 0)
		return test_failed(errno, "cannot open", argv[1]);
	at = lseek(fd, (off_t)test_number(argv[3]),
		   strcmp(argv[2], "hole") == 0 ? SEEK_HOLE : SEEK_DATA);
	if (at < 0)
		puts(ckpt_err_name(errno));
	else
		printf("%lld\n", (long long)at);
	return 0;
}

static int lock(const char *kind, int fd)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (strcmp(kind, "flock") == 0)
		return flock(fd, LOCK_EX | LOCK_NB);
	if (strcmp(kind, "posix") == 0)
		return fcntl(fd, F_SETLK, &all);
	return fcntl(fd, F_OFD_SETLK, &all);
}

/* Lock it, or say the errno; with `hold` keep the lock until killed. */
int test_lock(int argc, char **argv)
{
	CKPT_CLOSE int fd = open(argv[2], O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return test_failed(errno, "cannot open", argv[2]);
	puts(lock(argv[1], fd) == 0 ? "OK" : ckpt_err_name(errno));
	(void)fflush(stdout);
	if (argc > 3) {
		(void)alarm(60);
		(void)pause();
	}
	return 0;
}

/* Open it for reading and for writing COUNT times. */
int test_open_close(int argc, char **argv)
{
	uint64_t count = test_number(argv[2]);

	(void)argc;
	for (uint64_t i = 0; i < count; i++) {
		int fd = open(argv[1], (i % 2 == 0 ? O_RDONLY : O_RDWR) | O_CLOEXEC);

		if (fd < 0 || close(fd) != 0)
			return test_failed(errno, "cannot open", argv[1]);
	}
	return 0;
}
