/*
 * test_fsx.c - the same random operations on two files, one of which lies in a
 * mount; whatever one says or holds, the other has to. After the program fsx,
 * which began with Avadis Tevanian at NeXT.
 *
 * Each file is open several times at once, with flags that change: what one
 * handle writes, another reads and a third has mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "ckpt_test.h"

/* Handles on each file. */
#define SLOTS 3
#define FILE_MAX ((off_t)256 * 1024)
#define PIECE_MAX 16384
/* Operations between two comparisons of all bytes. */
#define COMPARE_EVERY 500
/* What is printed of the operations before a difference. */
#define LOG_LINES 24
#define LOG_CHARS 96

enum side {
	MOUNT,
	PLAIN,
	SIDES,
};

struct fsx {
	const char *paths[SIDES];
	int fds[SLOTS][SIDES];
	int flags[SLOTS];
	uint64_t random;
	uint64_t done;
	unsigned char pieces[SIDES][FILE_MAX];
	char log[LOG_LINES][LOG_CHARS];
};

/* One operation: what it is about, and what both sides said. */
struct op {
	int slot;
	off_t at;
	size_t len;
	ssize_t said[SIDES];
	int errnos[SIDES];
};

static uint64_t below(struct fsx *fsx, uint64_t limit)
{
	return test_random(&fsx->random) % limit;
}

static void note(struct fsx *fsx, const char *name, const struct op *op)
{
	(void)snprintf(fsx->log[fsx->done % LOG_LINES], LOG_CHARS,
		       "%" PRIu64 " %s slot %d (flags %o) at %lld len %zu: %zd %s, %zd %s",
		       fsx->done, name, op->slot, (unsigned int)fsx->flags[op->slot],
		       (long long)op->at, op->len, op->said[MOUNT],
		       op->said[MOUNT] < 0 ? ckpt_err_name(op->errnos[MOUNT]) : "", op->said[PLAIN],
		       op->said[PLAIN] < 0 ? ckpt_err_name(op->errnos[PLAIN]) : "");
}

static int differ(struct fsx *fsx, const char *what, off_t at)
{
	for (uint64_t i = fsx->done < LOG_LINES ? 0 : fsx->done - LOG_LINES + 1; i <= fsx->done;
	     i++)
		(void)fprintf(stderr, "%s\n", fsx->log[i % LOG_LINES]);
	(void)fprintf(stderr, "ckpt-test: fsx: operation %" PRIu64 ": %s differs (at %lld)\n",
		      fsx->done, what, (long long)at);
	return 1;
}

static void said(struct op *op, int side, ssize_t rc)
{
	op->said[side] = rc;
	op->errnos[side] = rc < 0 ? errno : 0;
}

static bool agree(const struct op *op)
{
	return op->said[MOUNT] == op->said[PLAIN] && op->errnos[MOUNT] == op->errnos[PLAIN];
}

static int compare_pieces(struct fsx *fsx, size_t len, off_t at)
{
	size_t i = 0;

	if (memcmp(fsx->pieces[MOUNT], fsx->pieces[PLAIN], len) == 0)
		return 0;
	while (fsx->pieces[MOUNT][i] == fsx->pieces[PLAIN][i])
		i++;
	return differ(fsx, "a byte", at + (off_t)i);
}

/* --- operations: each does the same on both sides; 0, or 1 when they differ ------------------ */

static int do_read(struct fsx *fsx, struct op *op)
{
	for (int side = 0; side < SIDES; side++)
		said(op, side, pread(fsx->fds[op->slot][side], fsx->pieces[side], op->len, op->at));
	note(fsx, "read", op);
	if (!agree(op))
		return differ(fsx, "read's answer", op->at);
	return op->said[MOUNT] > 0 ? compare_pieces(fsx, (size_t)op->said[MOUNT], op->at) : 0;
}

static void fill(struct fsx *fsx, size_t len)
{
	uint64_t word = test_random(&fsx->random);

	for (size_t i = 0; i < len; i++)
		fsx->pieces[MOUNT][i] = (unsigned char)(word >> (i % 8 * 8)) ^ (unsigned char)i;
}

static int do_write(struct fsx *fsx, struct op *op)
{
	fill(fsx, op->len);
	for (int side = 0; side < SIDES; side++)
		said(op, side,
		     pwrite(fsx->fds[op->slot][side], fsx->pieces[MOUNT], op->len, op->at));
	note(fsx, "write", op);
	return agree(op) ? 0 : differ(fsx, "write's answer", op->at);
}

static int do_truncate(struct fsx *fsx, struct op *op)
{
	for (int side = 0; side < SIDES; side++)
		said(op, side, ftruncate(fsx->fds[op->slot][side], op->at));
	note(fsx, "truncate", op);
	return agree(op) ? 0 : differ(fsx, "truncate's answer", op->at);
}

static int do_truncate_path(struct fsx *fsx, struct op *op)
{
	for (int side = 0; side < SIDES; side++)
		said(op, side, truncate(fsx->paths[side], op->at));
	note(fsx, "truncate by path", op);
	return agree(op) ? 0 : differ(fsx, "truncate's answer", op->at);
}

/* Write through a mapping that begins at a page, or read by it. */
static ssize_t map(int fd, const struct op *op, unsigned char *bytes, bool write)
{
	off_t page = op->at & ~(off_t)4095;
	size_t skip = (size_t)(op->at - page);
	unsigned char *at = mmap(NULL, skip + op->len, write ? PROT_READ | PROT_WRITE : PROT_READ,
				 MAP_SHARED, fd, page);

	if (at == MAP_FAILED)
		return -1;
	if (write)
		memcpy(at + skip, bytes, op->len);
	else
		memcpy(bytes, at + skip, op->len);
	return munmap(at, skip + op->len) == 0 ? (ssize_t)op->len : -1;
}

/* What lies behind the end cannot be touched: keep to what is there. */
static bool clip(const struct fsx *fsx, struct op *op)
{
	struct stat st;

	if (fstat(fsx->fds[op->slot][PLAIN], &st) < 0 || op->at >= st.st_size)
		return false;
	if ((off_t)op->len > st.st_size - op->at)
		op->len = (size_t)(st.st_size - op->at);
	return true;
}

static int do_map(struct fsx *fsx, struct op *op, bool write)
{
	if (!clip(fsx, op))
		return 0;
	if (write)
		fill(fsx, op->len);
	for (int side = 0; side < SIDES; side++)
		said(op, side,
		     map(fsx->fds[op->slot][side], op, fsx->pieces[write ? MOUNT : side], write));
	note(fsx, write ? "map and write" : "map and read", op);
	if (!agree(op))
		return differ(fsx, "mmap's answer", op->at);
	return write || op->said[MOUNT] < 0 ? 0 : compare_pieces(fsx, op->len, op->at);
}

static int do_map_read(struct fsx *fsx, struct op *op)
{
	return do_map(fsx, op, false);
}

static int do_map_write(struct fsx *fsx, struct op *op)
{
	return do_map(fsx, op, true);
}

static int allocate(struct fsx *fsx, struct op *op, int mode, const char *name)
{
	for (int side = 0; side < SIDES; side++)
		said(op, side, fallocate(fsx->fds[op->slot][side], mode, op->at, (off_t)op->len));
	note(fsx, name, op);
	return agree(op) ? 0 : differ(fsx, "fallocate's answer", op->at);
}

static int do_punch(struct fsx *fsx, struct op *op)
{
	return allocate(fsx, op, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch");
}

static int do_zero(struct fsx *fsx, struct op *op)
{
	return allocate(fsx, op, FALLOC_FL_ZERO_RANGE, "zero");
}

static int do_allocate(struct fsx *fsx, struct op *op)
{
	return allocate(fsx, op, 0, "allocate");
}

/* All of it, in as many calls as it takes. */
static ssize_t copy(int fd, off_t from, off_t to, size_t len)
{
	size_t done = 0;
	ssize_t rc = 1;

	while (rc > 0 && done < len) {
		rc = copy_file_range(fd, &from, fd, &to, len - done, 0);
		if (rc > 0)
			done += (size_t)rc;
	}
	return rc < 0 ? -1 : (ssize_t)done;
}

static int do_copy(struct fsx *fsx, struct op *op)
{
	off_t to = (off_t)below(fsx, FILE_MAX - PIECE_MAX);

	for (int side = 0; side < SIDES; side++)
		said(op, side, copy(fsx->fds[op->slot][side], op->at, to, op->len));
	note(fsx, "copy", op);
	return agree(op) ? 0 : differ(fsx, "copy_file_range's answer", op->at);
}

static int do_sync(struct fsx *fsx, struct op *op)
{
	for (int side = 0; side < SIDES; side++)
		said(op, side, fdatasync(fsx->fds[op->slot][side]));
	note(fsx, "fdatasync", op);
	return agree(op) ? 0 : differ(fsx, "fdatasync's answer", 0);
}

static int open_slot(struct fsx *fsx, int slot, int flags)
{
	for (int side = 0; side < SIDES; side++) {
		/* A plain file refuses lengths that are odd on its device; those of a mount need not. */
		int own = side == PLAIN ? flags & ~O_DIRECT : flags;

		fsx->fds[slot][side] = open(fsx->paths[side], own | O_CLOEXEC, 0644);
		if (fsx->fds[slot][side] < 0)
			return test_failed(errno, "cannot open", fsx->paths[side]);
	}
	fsx->flags[slot] = flags;
	return 0;
}

static int do_reopen(struct fsx *fsx, struct op *op)
{
	static const int flags[] = {
		O_RDWR,
		O_RDWR,
		O_RDWR | O_APPEND,
		O_RDONLY,
		O_WRONLY,
		O_RDWR | O_DIRECT,
		O_RDWR | O_TRUNC,
		O_WRONLY | O_APPEND,
	};
	size_t which = below(fsx, sizeof(flags) / sizeof(flags[0]));

	for (int side = 0; side < SIDES; side++)
		said(op, side, close(fsx->fds[op->slot][side]));
	note(fsx, "close", op);
	if (!agree(op))
		return differ(fsx, "close's answer", 0);
	return open_slot(fsx, op->slot, flags[which]);
}

static int do_stat(struct fsx *fsx, struct op *op)
{
	struct stat by_fd[SIDES];
	struct stat by_path[SIDES];

	for (int side = 0; side < SIDES; side++) {
		said(op, side,
		     fstat(fsx->fds[op->slot][side], &by_fd[side]) == 0 &&
				     stat(fsx->paths[side], &by_path[side]) == 0
			     ? (ssize_t)by_path[side].st_size
			     : -1);
		if (op->said[side] >= 0 && by_fd[side].st_size != by_path[side].st_size)
			return differ(fsx, "stat and fstat", by_fd[side].st_size);
	}
	note(fsx, "stat", op);
	return agree(op) ? 0 : differ(fsx, "the size", 0);
}

/* --- the run ---------------------------------------------------------------------------------- */

static int read_whole(const char *path, unsigned char *bytes, size_t *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : pread(fd, bytes, (size_t)FILE_MAX, 0);

	if (got < 0)
		return test_failed(errno, "cannot read", path);
	*out = (size_t)got;
	return close(fd);
}

static int compare_whole(struct fsx *fsx)
{
	size_t len[SIDES];

	for (int side = 0; side < SIDES; side++)
		if (read_whole(fsx->paths[side], fsx->pieces[side], &len[side]) != 0)
			return 1;
	if (len[MOUNT] != len[PLAIN])
		return differ(fsx, "the length", (off_t)len[PLAIN]);
	return compare_pieces(fsx, len[PLAIN], 0);
}

static int step(struct fsx *fsx)
{
	/* An operation that stands here more often is done more often. */
	static int (*const ops[])(struct fsx *, struct op *) = {
		do_read,      do_read,	    do_read,	 do_read,     do_write,
		do_write,     do_write,	    do_write,	 do_map_read, do_map_read,
		do_map_write, do_map_write, do_truncate, do_punch,    do_zero,
		do_allocate,  do_copy,	    do_reopen,	 do_stat,     do_truncate_path,
	};
	static uint64_t syncs;
	struct op op = {
		.slot = (int)below(fsx, SLOTS),
		.at = (off_t)below(fsx, FILE_MAX - PIECE_MAX),
		.len = below(fsx, PIECE_MAX) + 1,
	};

	/* Rare: each waits for the disk. */
	if (++syncs % 2000 == 0)
		return do_sync(fsx, &op);
	return ops[below(fsx, sizeof(ops) / sizeof(ops[0]))](fsx, &op);
}

static int run(struct fsx *fsx, uint64_t count)
{
	for (fsx->done = 0; fsx->done < count; fsx->done++) {
		if (step(fsx) != 0)
			return 1;
		if (fsx->done % COMPARE_EVERY == 0 && compare_whole(fsx) != 0)
			return 1;
	}
	return compare_whole(fsx);
}

int test_fsx(int argc, char **argv)
{
	struct fsx *fsx = calloc(1, sizeof(*fsx));
	uint64_t count = test_number(argv[3]);
	int rc = 0;

	(void)argc;
	if (!fsx)
		return test_failed(ENOMEM, "cannot run", "fsx");
	fsx->paths[MOUNT] = argv[1];
	fsx->paths[PLAIN] = argv[2];
	fsx->random = test_number(argv[4]);
	printf("fsx: seed %" PRIu64 "\n", fsx->random);
	for (int slot = 0; slot < SLOTS && rc == 0; slot++)
		rc = open_slot(fsx, slot, O_RDWR | O_CREAT | (slot == 0 ? O_TRUNC : 0));
	if (rc == 0)
		rc = run(fsx, count);
	for (int slot = 0; slot < SLOTS && rc == 0; slot++)
		for (int side = 0; side < SIDES; side++)
			rc |= close(fsx->fds[slot][side]) != 0;
	if (rc == 0)
		printf("fsx: %" PRIu64 " operations, no difference\n", count);
	free(fsx);
	return rc;
}
