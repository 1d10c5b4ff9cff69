/* io_fault.c - CKPTFS_IO_FAULT, in test builds only; see io_fault.h. */
#include "io_fault.h"

#ifdef CKPT_TEST_FAULTS

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "num.h"

/* Longest value looked at; the longest sensible one has some 40 bytes. */
#define FAULT_TEXT_MAX 128
/* Linux numbers its errors below this. */
#define ERRNO_MAX 4096

static const char *const call_names[IO_CALL_COUNT] = {
	[IO_OPENAT] = "openat",
	[IO_OPENAT2] = "openat2",
	[IO_PREAD] = "pread",
	[IO_PWRITE] = "pwrite",
	[IO_FSTAT] = "fstat",
	[IO_FSTATAT] = "fstatat",
	[IO_FSYNC] = "fsync",
	[IO_FDATASYNC] = "fdatasync",
	[IO_SYNCFS] = "syncfs",
	[IO_RENAMEAT] = "renameat",
	[IO_MKDIRAT] = "mkdirat",
	[IO_UNLINKAT] = "unlinkat",
	[IO_SYMLINKAT] = "symlinkat",
	[IO_FTRUNCATE] = "ftruncate",
	[IO_FALLOCATE] = "fallocate",
	[IO_READDIR] = "readdir",
	[IO_FSTATFS] = "fstatfs",
	[IO_STATX] = "statx",
	[IO_COPY_RANGE] = "copy_file_range",
};

/* Set once, before main; only `made` changes after. */
static struct {
	bool armed;
	enum io_call call;
	uint64_t at; /* the K of CALL:K:… */
	bool kill;
	int code; /* negative errno */
	_Atomic uint64_t made;
} fault;

static void die(const char *text, const char *reason)
{
	(void)fprintf(stderr, "ckptfs: CKPTFS_IO_FAULT='%s': %s\n", text, reason);
	_exit(2);
}

static bool find_call(const char *name, enum io_call *out)
{
	for (int i = 0; i < IO_CALL_COUNT; i++) {
		if (strcmp(name, call_names[i]) == 0) {
			*out = (enum io_call)i;
			return true;
		}
	}
	return false;
}

static bool find_errno(const char *name, int *out)
{
	for (int code = 1; code < ERRNO_MAX; code++) {
		const char *known = strerrorname_np(code);

		if (known && strcmp(name, known) == 0) {
			*out = -code;
			return true;
		}
	}
	return false;
}

/* Does "@RANK" mean this process? True where there is no "@RANK". */
static bool is_our_rank(const char *text, const char *rank)
{
	/* NOLINTBEGIN(concurrency-mt-unsafe): runs before main, in one thread */
	const char *ours = getenv("OMPI_COMM_WORLD_RANK");
	uint64_t number;

	if (!rank)
		return true;
	if (num_parse_u64(rank, &number) < 0)
		die(text, "RANK must be a number");
	if (!ours)
		ours = getenv("PMI_RANK");
	/* NOLINTEND(concurrency-mt-unsafe) */
	return ours && strcmp(ours, rank) == 0;
}

static void parse(const char *text)
{
	char copy[FAULT_TEXT_MAX];
	char *rest = copy;
	const char *call;
	const char *count;
	const char *action;

	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
		die(text, "too long");
	call = strsep(&rest, ":");
	count = strsep(&rest, ":");
	action = strsep(&rest, "@");
	if (!count || !action)
		die(text, "must be CALL:K:ERRNO|kill[@RANK]");
	if (!find_call(call, &fault.call))
		die(text, "unknown CALL");
	if (num_parse_u64(count, &fault.at) < 0 || fault.at == 0)
		die(text, "K must be a number from 1 on");
	fault.kill = strcmp(action, "kill") == 0;
	if (!fault.kill && !find_errno(action, &fault.code))
		die(text, "unknown ERRNO");
	fault.armed = is_our_rank(text, rest);
}

/* Before main, so that a misspelt fault never looks like a passed test. */
__attribute__((constructor)) static void arm(void)
{
	const char *text =
		getenv("CKPTFS_IO_FAULT"); /* NOLINT(concurrency-mt-unsafe): one thread */

	if (text && *text != '\0')
		parse(text);
}

int io_fault_check(enum io_call call)
{
	const char *what;

	if (!fault.armed || call != fault.call)
		return 0;
	if (atomic_fetch_add(&fault.made, 1) + 1 != fault.at)
		return 0;
	what = fault.kill ? "kill" : strerrorname_np(-fault.code);
	(void)fprintf(stderr, "ckptfs: io fault: %s number %llu: %s\n", call_names[call],
		      (unsigned long long)fault.at, what);
	if (fault.kill)
		(void)kill(getpid(), SIGKILL);
	return fault.code;
}

#endif
