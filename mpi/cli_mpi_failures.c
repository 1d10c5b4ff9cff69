/* cli_mpi_failures.c - see cli_mpi_failures.h. */
#include "cli_mpi_failures.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli_mpi.h"
#include "job.h"

/* So long the speaker of a broken job waits for the others' files; ranks without any are named. */
#define AWAIT_MS 2000
#define LOOK_MS 10

static void file_name(struct ckpt_buf *out, const char *path, int rank)
{
	ckpt_buf_printf(out, "%s.%d", path, rank);
}

void mpi_failures_begin(const char *path, int rank)
{
	struct ckpt_buf name;

	ckpt_buf_init(&name);
	file_name(&name, path, rank);
	/* Where it cannot be removed, it cannot be written either, which is said then. */
	ckpt_ignore(ckpt_io_unlinkat(AT_FDCWD, name.data, 0));
	ckpt_buf_release(&name);
}

int mpi_failures_write(const struct ckpt_mpi *job, const char *path, int code)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf text;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&text);
	ckpt_buf_init(&name);
	file_name(&name, path, ckpt_mpi_rank(job)->global_rank);
	ckpt_job_print_failures(job, &text);
	ckpt_buf_add_char(&text, '\n');
	rc = ckpt_buf_check(&text);
	if (rc == 0)
		rc = ckpt_buf_check(&name);
	if (rc == 0)
		rc = ckpt_io_publish(AT_FDCWD, name.data, text.data, text.len_bytes, 0644, &err);
	if (rc < 0)
		mpi_say("cannot write the failure table: %s", err.msg[0] ? err.msg : strerror(-rc));
	ckpt_buf_release(&name);
	ckpt_buf_release(&text);
	return rc < 0 ? MPI_EXIT_FAILED : code;
}

static bool is_named(const struct ckpt_mpi *job, int rank)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	for (size_t i = 0; i < count; i++) {
		if (rows[i].rank == rank)
			return true;
	}
	return false;
}

static bool is_there(const char *path, int rank)
{
	struct ckpt_buf name;
	struct stat st;
	bool there;

	ckpt_buf_init(&name);
	file_name(&name, path, rank);
	there = ckpt_io_fstatat(AT_FDCWD, name.data, &st, AT_SYMLINK_NOFOLLOW) == 0;
	ckpt_buf_release(&name);
	return there;
}

void mpi_failures_await(const struct ckpt_mpi *job, const char *path)
{
	uint64_t until_ms = ckpt_clock_mono_ms() + AWAIT_MS;
	int world_size = ckpt_mpi_rank(job)->global_world_size;

	for (int rank = 0; rank < world_size; rank++) {
		while (!is_named(job, rank) && !is_there(path, rank) &&
		       ckpt_clock_mono_ms() < until_ms)
			(void)poll(NULL, 0, LOOK_MS);
	}
}
