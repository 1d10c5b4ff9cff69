/*
 * mpi_test_files.c - file mode as an application uses it: what each rank gets
 * from begin, route and commit, from latest, and from should_save.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mpi_test.h"

#define PATH_BYTES 4096
/* Of the file that all ranks write together, a rank. */
#define SHARE_BYTES 300000

struct files_case {
	const char *name;
	int (*run)(struct ckpt_mpi *job, const char *path);
};

/* --- checking ---------------------------------------------------------------------------- */

static int check_code(const char *what, int is, int should_be)
{
	return is == should_be ? 0
			       : mpi_test_fail("%s is %d (%s), should be %d", what, is,
					       is < 0 ? strerror(-is) : "no error", should_be);
}

/* The table is one row: this rank, this phase, these words in the message. */
static int check_row(const struct ckpt_mpi *job, int rank, enum ckpt_mpi_phase phase, int code,
		     const char *words)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	if (count != 1)
		return mpi_test_fail("the table has %zu rows, should be 1", count);
	if (rows->rank != rank || rows->phase != phase || rows->code != code ||
	    !strstr(rows->message, words))
		return mpi_test_fail("the table says rank %d, %s, %d, '%s'", rows->rank,
				     ckpt_mpi_phase_name(rows->phase), rows->code, rows->message);
	return 0;
}

/* --- writing --------------------------------------------------------------------------- */

static int begin(struct ckpt_mpi *job, const char *path, struct ckpt_mpi_files **out)
{
	return check_code("begin", ckpt_mpi_files_begin(job, path, out), 0);
}

static int write_at(const char *path, const void *data, size_t len, off_t offset)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ssize_t done = fd < 0 ? -1 : pwrite(fd, data, len, offset);

	if (fd >= 0)
		close(fd);
	return done == (ssize_t)len ? 0 : mpi_test_fail("cannot write '%s'", path);
}

/* One file of all ranks, and one of each. */
static int write_files(struct ckpt_mpi_files *files)
{
	static unsigned char share[SHARE_BYTES];
	char name[64];
	char path[PATH_BYTES];
	int rank = mpi_test_rank();

	memset(share, 'a' + rank, sizeof(share));
	if (ckpt_mpi_files_route(files, "together/field.bin", path, sizeof(path)) < 0)
		return mpi_test_fail("field.bin is not routed");
	if (write_at(path, share, sizeof(share), (off_t)rank * SHARE_BYTES))
		return 1;
	(void)snprintf(name, sizeof(name), "own/deep/%d.txt", rank);
	if (ckpt_mpi_files_route(files, name, path, sizeof(path)) < 0)
		return mpi_test_fail("%s is not routed", name);
	return write_at(path, name, strlen(name), 0);
}

static int tell(const struct ckpt_mpi *job, const char *what)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	return mpi_test_fail("%s: %s", what, count > 0 ? rows->message : "no table");
}

/* The whole of it must work. */
static int save(struct ckpt_mpi *job, const char *path)
{
	const struct ckpt_mpi_commit_request what = { .has_step = true,
						      .step = 7,
						      .meta = "{\"code\":\"test\"}" };
	struct ckpt_mpi_result result = { .id = "" };
	struct ckpt_mpi_files *files = NULL;
	uint64_t size = (uint64_t)mpi_test_size();
	char first_id[37];

	if (begin(job, path, &files) || write_files(files))
		return 1;
	if (ckpt_mpi_files_commit(&files, 0, NULL, &what, &result) < 0)
		return tell(job, "commit");
	if (files)
		return mpi_test_fail("files are left after the commit");
	if (result.shard_count != size + 1 || result.size_bytes < size * SHARE_BYTES)
		return mpi_test_fail("the result says %llu shards, %llu bytes",
				     (unsigned long long)result.shard_count,
				     (unsigned long long)result.size_bytes);
	memcpy(first_id, result.id, sizeof(first_id));
	if (MPI_Bcast(first_id, sizeof(first_id), MPI_CHAR, 0, MPI_COMM_WORLD) != MPI_SUCCESS ||
	    strcmp(first_id, result.id) != 0)
		return mpi_test_fail("another id than rank 0's");
	return 0;
}

/* --- cases ----------------------------------------------------------------------------- */

/* One votes against it, with and without a reason; then the name can be used again. */
static int votes(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_files *files = NULL;
	int last = mpi_test_size() - 1;
	bool against = mpi_test_rank() == last;
	int rc;

	if (begin(job, path, &files) || write_files(files))
		return 1;
	rc = ckpt_mpi_files_commit(&files, against ? -EDQUOT : 0, "the quota is used up", NULL,
				   NULL);
	if (check_code("commit", rc, -EDQUOT) ||
	    check_row(job, last, CKPT_MPI_WRITE_DATA, -EDQUOT, "the quota is used up"))
		return 1;
	/* A code that is no errno, as libraries have them. */
	if (begin(job, path, &files))
		return 1;
	rc = ckpt_mpi_files_commit(&files, against ? 17 : 0, NULL, NULL, NULL);
	if (check_code("commit", rc, -EIO) ||
	    check_row(job, last, CKPT_MPI_WRITE_DATA, -EIO, "could not write its files"))
		return 1;
	return save(job, path);
}

static int refused(struct ckpt_mpi_files *files, const char *name)
{
	char path[PATH_BYTES] = "as before";

	if (check_code(name, ckpt_mpi_files_route(files, name, path, sizeof(path)), -EINVAL))
		return 1;
	return path[0] ? mpi_test_fail("'%s' is refused, and still leads to '%s'", name, path) : 0;
}

/* Names that lead out; what a rank overlooked is its vote against. */
static int names(struct ckpt_mpi *job, const char *path)
{
	static const char *const bad[] = {
		"../out", "/tmp/out", "", ".", "a/../../b", "a//b", ".ckptfs/manifest.jsonl", "a/",
	};
	struct ckpt_mpi_files *files = NULL;
	char tiny[8];
	int rc;

	if (begin(job, path, &files) || write_files(files))
		return 1;
	for (size_t i = 0; mpi_test_rank() == 1 && i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (refused(files, bad[i]))
			return 1;
	}
	if (mpi_test_rank() == 1 &&
	    check_code("tiny", ckpt_mpi_files_route(files, "fine", tiny, sizeof(tiny)),
		       -ENAMETOOLONG))
		return 1;
	rc = ckpt_mpi_files_commit(&files, 0, NULL, NULL, NULL);
	if (check_code("commit", rc, -EINVAL) ||
	    check_row(job, 1, CKPT_MPI_WRITE_DATA, -EINVAL, "'../out'"))
		return 1;
	return save(job, path);
}

/* A name that is taken, and what a caller does that looks at no code. */
static int taken(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_files *files = NULL;
	char out[PATH_BYTES] = "as before";

	if (save(job, path) ||
	    check_code("begin", ckpt_mpi_files_begin(job, path, &files), -EEXIST) ||
	    check_row(job, 0, CKPT_MPI_SET_UP_STORAGE_WRITER, -EEXIST, "committed already"))
		return 1;
	if (files)
		return mpi_test_fail("files are there after a begin that failed");
	if (check_code("route", ckpt_mpi_files_route(files, "x", out, sizeof(out)), -EINVAL) ||
	    check_code("commit", ckpt_mpi_files_commit(&files, 0, NULL, NULL, NULL), -EINVAL))
		return 1;
	return out[0] ? mpi_test_fail("a route without files leads to '%s'", out) : 0;
}

/* Two at a time, and another save of the same job between begin and commit. */
static int nested(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_files *outer = NULL;
	char other[PATH_BYTES];
	int signal_number = -1;
	int rc;

	(void)snprintf(other, sizeof(other), "%s-inner", path);
	if (begin(job, path, &outer) || save(job, other) ||
	    check_code("should_save", ckpt_mpi_should_save(job, &signal_number), 0) ||
	    write_files(outer))
		return 1;
	rc = ckpt_mpi_files_commit(&outer, 0, NULL, NULL, NULL);
	return check_code("commit", rc, 0);
}

/* A rank that meets a fault in any phase of it is in the table, alone. */
static int one_fault(const char *path, enum ckpt_mpi_phase phase, int rank)
{
	struct ckpt_mpi *job = NULL;
	struct ckpt_mpi_files *files = NULL;
	char text[64];
	int bad = 0;
	int rc;

	(void)snprintf(text, sizeof(text), "%s@%d", ckpt_mpi_phase_name(phase), rank);
	if (setenv("CKPTFS_FAULT", text, 1) < 0 ||
	    ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	rc = ckpt_mpi_files_begin(job, path, &files);
	if (rc == 0) {
		bad = write_files(files);
		rc = ckpt_mpi_files_commit(&files, 0, NULL, NULL, NULL);
	}
	bad = bad || check_code(text, rc, -EIO) || check_row(job, rank, phase, -EIO, "");
	ckpt_mpi_close(&job);
	(void)unsetenv("CKPTFS_FAULT");
	return bad;
}

static int faults(struct ckpt_mpi *job, const char *path)
{
	static const enum ckpt_mpi_phase everywhere[] = {
		CKPT_MPI_SET_UP_STORAGE_WRITER, CKPT_MPI_PREPARE_LOCAL_PLAN, CKPT_MPI_WRITE_DATA,
		CKPT_MPI_WRITE_DATA_ASYNC,	CKPT_MPI_PRE_COMMIT,	     CKPT_MPI_BARRIER,
	};
	int bad = 0;

	for (size_t i = 0; !bad && i < sizeof(everywhere) / sizeof(everywhere[0]); i++)
		bad = one_fault(path, everywhere[i], 1);
	bad = bad || one_fault(path, CKPT_MPI_PREPARE_GLOBAL_PLAN, 0) ||
	      one_fault(path, CKPT_MPI_FINISH, 0);
	return bad || save(job, path);
}

/* Stays open for that many seconds: the store must not take it for left behind. */
static int slow(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_files *files = NULL;
	const char *secs = getenv("MPI_TEST_SECS");

	if (!secs || begin(job, path, &files) || write_files(files))
		return mpi_test_fail("MPI_TEST_SECS says how long");
	sleep((unsigned int)strtoul(secs, NULL, 10));
	return ckpt_mpi_files_commit(&files, 0, NULL, NULL, NULL) < 0 ? tell(job, "commit") : 0;
}

static const struct files_case cases[] = {
	{ "save", save },     { "votes", votes },   { "names", names }, { "taken", taken },
	{ "nested", nested }, { "faults", faults }, { "slow", slow },
};

static int with_job(int (*run)(struct ckpt_mpi *job, const char *path), const char *path)
{
	struct ckpt_mpi *job = NULL;
	int code;

	if (ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	code = run(job, path);
	ckpt_mpi_close(&job);
	return code;
}

/* files PATH CASE…: each with a checkpoint PATH-CASE. */
int mpi_test_files(int argc, char **argv)
{
	char path[PATH_BYTES];
	int done = 0;

	for (int i = 2; i < argc; i++) {
		for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
			if (strcmp(cases[c].name, argv[i]) != 0)
				continue;
			(void)snprintf(path, sizeof(path), "%s-%s", argv[1], cases[c].name);
			if (with_job(cases[c].run, path))
				return mpi_test_fail("case %s failed", cases[c].name);
			done++;
		}
	}
	return done == argc - 2 && done > 0 ? 0 : mpi_test_fail("%d cases done", done);
}

/* --- latest ------------------------------------------------------------------------------ */

/* Line @idx says @words, or there is none where @words is NULL. */
static int check_passed_over(const struct ckpt_mpi *job, size_t idx, const char *words)
{
	const char *line = ckpt_mpi_passed_over(job, idx);

	if (!words)
		return line ? mpi_test_fail("passed over, too: %s", line) : 0;
	if (!line || !strstr(line, words))
		return mpi_test_fail("passed over as number %zu: %s, should hold: %s", idx,
				     line ? line : "none", words);
	return 0;
}

static int check_found(int rc, const char *expected, const char *path,
		       const struct ckpt_mpi_result *result)
{
	size_t path_len = strlen(path);
	size_t len = strlen(expected);

	if (strcmp(expected, "none") == 0)
		return check_code("latest", rc, -ENOENT);
	if (check_code("latest", rc, 0))
		return 1;
	if (strcmp(result->name, expected) != 0 || path_len < len ||
	    strcmp(path + path_len - len, expected) != 0 || result->shard_count == 0 ||
	    result->size_bytes == 0)
		return mpi_test_fail("latest is '%s' at '%s' (%llu shards), should be '%s'",
				     result->name, path, (unsigned long long)result->shard_count,
				     expected);
	return access(path, R_OK) == 0 ? 0 : mpi_test_fail("'%s' cannot be read", path);
}

/* latest GROUP NAME|none [WORDS…]: what is found, and what is said of those passed over, in order. */
int mpi_test_latest(int argc, char **argv)
{
	struct ckpt_mpi_result result = { .id = "" };
	struct ckpt_mpi *job = NULL;
	char path[PATH_BYTES] = "";
	int bad;
	int rc;

	if (argc < 3 || ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	rc = ckpt_mpi_latest(job, argv[1], path, sizeof(path), &result);
	bad = check_found(rc, argv[2], path, &result);
	for (int i = 3; !bad && i <= argc; i++)
		bad = check_passed_over(job, (size_t)(i - 3), i < argc ? argv[i] : NULL);
	if (bad && rc < 0)
		(void)tell(job, "latest");
	ckpt_mpi_close(&job);
	return bad;
}

/* --- signals ------------------------------------------------------------------------------ */

static int expect_signal(struct ckpt_mpi *job, int expected)
{
	int is = -1;

	/* Signals of others, sent before the call, are there when it begins. */
	if (MPI_Barrier(MPI_COMM_WORLD) != MPI_SUCCESS)
		return mpi_test_fail("no barrier");
	if (check_code("should_save", ckpt_mpi_should_save(job, &is), 0))
		return 1;
	return is == expected ? 0
			      : mpi_test_fail("should_save says %d, should be %d", is, expected);
}

/* Some ranks send signals to themselves; all hear of it, once. */
int mpi_test_signals(int argc, char **argv)
{
	struct ckpt_mpi *job = NULL;
	int last = mpi_test_size() - 1;
	int rank = mpi_test_rank();
	int bad;

	(void)argc;
	(void)argv;
	if (check_code("catch_signals", ckpt_mpi_catch_signals(), 0) ||
	    ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	bad = expect_signal(job, 0);
	if (rank == last)
		(void)raise(SIGUSR1);
	bad = bad || expect_signal(job, SIGUSR1) || expect_signal(job, 0);
	(void)raise(rank == 0 ? SIGTERM : SIGUSR1);
	bad = bad || expect_signal(job, SIGTERM) || expect_signal(job, 0);
	/* Caught twice is still caught. */
	if (rank == last) {
		(void)raise(SIGTERM);
		(void)raise(SIGTERM);
	}
	bad = bad || expect_signal(job, SIGTERM) || expect_signal(job, 0);
	ckpt_mpi_close(&job);
	return bad;
}
