/* test_hold.c - what stays open, what is damaged, and where a listing goes on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "ckpt_test.h"

/* Entries of the largest folder that is listed. */
#define NAMES_MAX 20000
#define HOLD_SECS_MAX 600

/*
 * Map the first page for writing and let the descriptor go: only the kernel still knows of this
 * writer.
 */
static int map_and_close(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *map;

	if (fd < 0)
		return test_failed(errno, "cannot open", path);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return test_failed(errno, "cannot map", path);
	return close(fd) == 0 ? 0 : 1;
}

static int open_only(const char *path, int flags)
{
	/* Left open on purpose: that is what the caller wants held. */
	if (open(path, flags | O_CLOEXEC) < 0)
		return test_failed(errno, "cannot open", path);
	return 0;
}

int test_hold(int argc, char **argv)
{
	int status;

	(void)argc;
	if (strcmp(argv[1], "read") == 0)
		status = open_only(argv[2], O_RDONLY);
	else if (strcmp(argv[1], "write") == 0)
		status = open_only(argv[2], O_WRONLY);
	else if (strcmp(argv[1], "map") == 0)
		status = map_and_close(argv[2]);
	else
		return 2;
	if (status != 0)
		return status;
	puts("ready");
	(void)fflush(stdout);
	/* Until somebody kills it, but no longer than any test takes. */
	(void)alarm(HOLD_SECS_MAX);
	(void)pause();
	return 0;
}

int test_flip(int argc, char **argv)
{
	uint64_t offset = test_number(argv[2]);
	unsigned int bit = argc > 3 ? (unsigned int)(test_number(argv[3]) % 8) : 0;
	CKPT_CLOSE int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	unsigned char byte;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return test_failed(errno, "cannot open", argv[1]);
	if (pread(fd, &byte, 1, (off_t)offset) != 1)
		return test_failed(errno, "cannot read", argv[1]);
	byte = (unsigned char)(byte ^ (1U << bit));
	if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
		return test_failed(errno, "cannot write", argv[1]);
	/* As a failing disk does it: nothing that stat shows tells of the change. */
	if (futimens(fd, (const struct timespec[2]){ st.st_atim, st.st_mtim }) < 0)
		return test_failed(errno, "cannot put back the mtime of", argv[1]);
	return 0;
}

int test_random_bytes(int argc, char **argv)
{
	uint64_t seed = test_number(argv[1]);
	uint64_t left = test_number(argv[2]);

	(void)argc;
	while (left > 0) {
		uint64_t word = test_random(&seed);
		size_t part = left < sizeof(word) ? (size_t)left : sizeof(word);

		if (fwrite(&word, 1, part, stdout) != part)
			return test_failed(errno, "cannot write", "stdout");
		left -= part;
	}
	return 0;
}

/* Positions and names of a whole listing. */
struct listing {
	long at[NAMES_MAX]; /* as telldir() said before the entry was read */
	char *name[NAMES_MAX];
	size_t count;
};

static int list(DIR *dir, const char *path, struct listing *out)
{
	for (;;) {
		long at = telldir(dir);
		const struct dirent *entry;

		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return errno ? test_failed(errno, "cannot list", path) : 0;
		if (out->count == NAMES_MAX)
			return test_failed(0, "too many entries in", path);
		out->at[out->count] = at;
		out->name[out->count] = strdup(entry->d_name);
		if (!out->name[out->count])
			return test_failed(ENOMEM, "cannot list", path);
		out->count++;
	}
}

/* From the last position to the first, so that no step is where the listing stands already. */
static int check_positions(DIR *dir, const struct listing *found)
{
	for (size_t i = found->count; i > 0; i--) {
		const struct dirent *entry;

		seekdir(dir, found->at[i - 1]);
		entry = readdir(dir);
		if (!entry || strcmp(entry->d_name, found->name[i - 1]) != 0)
			return test_failed(0, "seekdir does not lead back to", found->name[i - 1]);
	}
	return 0;
}

int test_seekdir(int argc, char **argv)
{
	CKPT_FREE struct listing *found = calloc(1, sizeof(*found));
	DIR *dir = opendir(argv[1]);
	int status;

	(void)argc;
	if (!dir || !found)
		return test_failed(errno, "cannot open", argv[1]);
	status = list(dir, argv[1], found);
	if (status == 0)
		status = check_positions(dir, found);
	if (status == 0)
		printf("%zu entries\n", found->count);
	for (size_t i = 0; i < found->count; i++)
		free(found->name[i]);
	(void)closedir(dir);
	return status;
}
