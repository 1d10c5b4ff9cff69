/*
 * files.c - ckpt_mpi_files_*: an open checkpoint into which the application
 * writes files by whatever library it likes. Between begin and commit the
 * library is not called for a long time, perhaps; a thread of the coordinator,
 * which makes no MPI call, says meanwhile that the writer lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "job.h"
#include "seal.h"

/* A session is due so often. Source: ckptfs-format(5) "The commit". */
#define TOUCH_SECS 10

/* The thread, on the coordinator. */
struct keeper {
	pthread_t thread;
	bool runs;
	pthread_mutex_t mu;
	pthread_cond_t wake;
	bool stops; /* protected by mu */
};

struct ckpt_mpi_files {
	struct ckpt_mpi *job;
	char *path;
	struct ckpt_seal seal;
	struct keeper keeper;
	/* Of the target, put back for the commit: other calls of the job may have set theirs. */
	void (*tick)(void *ctx);
	void *tick_ctx;
	char **routed; /* names that this rank asked for */
	size_t routed_count, routed_cap;
	int route_rc; /* the first route that failed, and why */
	struct ckpt_err route_err;
	int vote;
	const char *reason;
};

/* --- the keeper ------------------------------------------------------------------------- */

/* Ten seconds, or less where it is to stop. */
static bool keeper_naps(struct keeper *keeper)
{
	struct timespec until;
	int rc = 0;
	bool goes_on;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += TOUCH_SECS;
	pthread_mutex_lock(&keeper->mu);
	while (!keeper->stops && rc == 0)
		rc = pthread_cond_timedwait(&keeper->wake, &keeper->mu, &until);
	goes_on = !keeper->stops;
	pthread_mutex_unlock(&keeper->mu);
	return goes_on;
}

static void *keep(void *arg)
{
	struct ckpt_mpi_files *files = arg;
	const struct ckpt_target *target = &files->seal.target;

	while (keeper_naps(&files->keeper)) {
		/* Where the folder is gone, the next write or the commit says so. */
		ckpt_ignore(ckpt_open_touch(target->store, target->name.data, NULL));
	}
	return NULL;
}

static void keeper_init(struct keeper *keeper)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&keeper->mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&keeper->wake, &attr);
	pthread_condattr_destroy(&attr);
}

/* Signals are the application's, and go to its own threads. */
static int keeper_start(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_files *files = ctx;
	sigset_t all;
	sigset_t before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&files->keeper.thread, NULL, keep, files);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	files->keeper.runs = rc == 0;
	return rc == 0 ? 0 : ckpt_err_sys(err, -rc, "cannot start a thread for '%s'", files->path);
}

static void keeper_stop(struct keeper *keeper)
{
	if (!keeper->runs)
		return;
	pthread_mutex_lock(&keeper->mu);
	keeper->stops = true;
	pthread_cond_signal(&keeper->wake);
	pthread_mutex_unlock(&keeper->mu);
	pthread_join(keeper->thread, NULL);
	keeper->runs = false;
}

/* --- begin ---------------------------------------------------------------------------------- */

static void files_free(struct ckpt_mpi_files *files)
{
	if (!files)
		return;
	keeper_stop(&files->keeper);
	pthread_cond_destroy(&files->keeper.wake);
	pthread_mutex_destroy(&files->keeper.mu);
	ckpt_seal_release(&files->seal);
	for (size_t i = 0; i < files->routed_count; i++)
		free(files->routed[i]);
	free(files->routed);
	free(files->path);
	free(files);
}

static struct ckpt_mpi_files *files_new(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_files *files = array_alloc(1, sizeof(*files));

	if (!files)
		return NULL;
	files->job = job;
	files->path = strdup(path);
	keeper_init(&files->keeper);
	ckpt_seal_init(&files->seal, job, files->path, true);
	files->seal.is_ours = true;
	if (files->path)
		return files;
	files_free(files);
	return NULL;
}

int ckpt_mpi_files_begin(struct ckpt_mpi *job, const char *path, struct ckpt_mpi_files **out)
{
	struct ckpt_mpi_files *files;
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	files = files_new(job, path);
	rc = ckpt_job_agree(job, files ? 0 : -ENOMEM, NULL);
	if (rc == 0)
		rc = ckpt_target_set_up(&files->seal.target);
	if (rc == 0)
		rc = ckpt_job_go_on(job, ckpt_job_is_coordinator(job), keeper_start, files);
	if (rc < 0) {
		if (files)
			rc = ckpt_target_fail(&files->seal.target, rc);
		files_free(files);
		return rc;
	}
	files->tick = job->tick;
	files->tick_ctx = job->tick_ctx;
	*out = files;
	return 0;
}

/* --- route ------------------------------------------------------------------------------ */

static int make_parent(const struct ckpt_mpi_files *files, const char *name, struct ckpt_err *err)
{
	const char *slash = strrchr(name, '/');
	CKPT_FREE char *parent = slash ? strndup(name, (size_t)(slash - name)) : NULL;

	if (!slash)
		return 0;
	if (!parent)
		return ckpt_err_sys(err, -ENOMEM, "cannot make room for '%s'", name);
	return ckpt_io_mkdirs(files->seal.target.dirfd, parent, err);
}

static int remember(struct ckpt_mpi_files *files, const char *name)
{
	if (array_grow(&files->routed, &files->routed_cap, files->routed_count,
		       sizeof(*files->routed)) < 0)
		return -ENOMEM;
	files->routed[files->routed_count] = strdup(name);
	if (!files->routed[files->routed_count])
		return -ENOMEM;
	files->routed_count++;
	return 0;
}

static int print_route(const struct ckpt_mpi_files *files, const char *name, char *out,
		       size_t out_size, struct ckpt_err *err)
{
	const struct ckpt_target *target = &files->seal.target;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	ckpt_path_join(&path, target->store_path.data, target->name.data);
	ckpt_buf_printf(&path, "/%s", name);
	rc = ckpt_buf_check(&path);
	if (rc == 0 && path.len_bytes >= out_size)
		rc = ckpt_err_set(err, -ENAMETOOLONG,
				  "the path of '%s' takes %zu bytes, and there is room for %zu",
				  name, path.len_bytes + 1, out_size);
	if (rc == 0)
		memcpy(out, path.data, path.len_bytes + 1);
	ckpt_buf_release(&path);
	return rc;
}

static int route(struct ckpt_mpi_files *files, const char *name, char *out, size_t out_size,
		 struct ckpt_err *err)
{
	int rc = ckpt_path_check_entry(name, err);

	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot write file '%s' of a checkpoint", name);
	rc = make_parent(files, name, err);
	if (rc == 0)
		rc = print_route(files, name, out, out_size, err);
	return rc < 0 ? rc : remember(files, name);
}

int ckpt_mpi_files_route(struct ckpt_mpi_files *files, const char *name, char *out, size_t out_size)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	/* Whoever does not look at the code shall not write to where an older path leads. */
	if (out_size > 0)
		out[0] = '\0';
	if (!files)
		return -EINVAL;
	rc = route(files, name, out, out_size, &err);
	if (rc < 0 && files->route_rc == 0) {
		files->route_rc = rc;
		files->route_err = err;
	}
	return rc;
}

/* --- commit --------------------------------------------------------------------------------- */

/* What is in this rank's files, and may have to reach the disk yet. */
static uint64_t routed_bytes(const struct ckpt_mpi_files *files)
{
	uint64_t bytes = 0;
	struct stat st;

	for (size_t i = 0; i < files->routed_count; i++) {
		if (ckpt_io_fstatat(files->seal.target.dirfd, files->routed[i], &st,
				    AT_SYMLINK_NOFOLLOW) == 0)
			bytes += (uint64_t)st.st_size;
	}
	return bytes;
}

/*
 * Another node may hash what this one wrote and has in its cache only: what this rank asked for is
 * durable before anybody reads it. A name that was asked for but not written is no harm.
 */
static int sync_routed(const struct ckpt_mpi_files *files, struct ckpt_err *err)
{
	for (size_t i = 0; i < files->routed_count; i++) {
		CKPT_CLOSE int fd = ckpt_io_open_beneath(files->seal.target.dirfd, files->routed[i],
							 O_RDONLY | O_NONBLOCK, 0);
		int rc = fd < 0 ? 0 : ckpt_io_fdatasync(fd);

		if (rc == 0)
			rc = ckpt_job_cancelled(files->job, err);
		if (rc == -EINTR)
			return rc;
		if (rc < 0)
			return ckpt_err_sys(err, rc, "cannot make '%s' durable", files->routed[i]);
	}
	return 0;
}

static int vote(void *ctx, struct ckpt_err *err)
{
	const struct ckpt_mpi_files *files = ctx;

	if (files->vote != 0)
		/* A positive code would be taken for success further on. */
		return ckpt_err_set(err, files->vote < 0 ? files->vote : -EIO, "%s",
				    files->reason && *files->reason
					    ? files->reason
					    : "this rank could not write its files");
	if (files->route_rc < 0)
		return ckpt_err_set(err, files->route_rc, "%s", files->route_err.msg);
	return sync_routed(files, err);
}

int ckpt_mpi_files_commit(struct ckpt_mpi_files **files, int vote_code, const char *reason,
			  const struct ckpt_mpi_commit_request *what, struct ckpt_mpi_result *out)
{
	static const struct ckpt_mpi_commit_request nothing;
	struct ckpt_mpi_files *it = *files;
	int rc;

	*files = NULL;
	if (!it)
		return -EINVAL;
	it->vote = vote_code;
	it->reason = reason;
	keeper_stop(&it->keeper);
	rc = ckpt_job_begin(it->job);
	it->job->tick = it->tick;
	it->job->tick_ctx = it->tick_ctx;
	if (rc == 0)
		rc = ckpt_job_moving(it->job, CKPT_MPI_WRITE_DATA, routed_bytes(it));
	if (rc == 0)
		rc = ckpt_job_run(it->job, CKPT_MPI_WRITE_DATA, true, vote, it);
	if (rc == 0)
		rc = ckpt_seal_run(&it->seal, what ? what : &nothing, out);
	if (rc < 0)
		rc = ckpt_target_fail(&it->seal.target, rc);
	files_free(it);
	return rc;
}
