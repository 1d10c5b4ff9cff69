/*
 * file_mode.c - ckpt_mpi_commit() and ckpt_mpi_import(): files that others wrote, shared among the
 * ranks.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "collective.h"
#include "file_list.h"
#include "import_tree.h"
#include "job.h"
#include "target.h"
#include "wire.h"

struct sealing {
	struct ckpt_mpi *job;
	const struct ckpt_mpi_commit_request *request;
	struct ckpt_target target;
	struct ckpt_buf from;	     /* import: absolute path of the folder */
	struct ckpt_scan_list found; /* coordinator: the files */
	uint64_t from_ino;
	int from_fd;
	struct ckpt_buf wire; /* who does which file */
	struct ckpt_file_list files;
	struct ckpt_record_list records;
};

/* --- where an import comes from ----------------------------------------------------------- */

static int open_from(struct sealing *sealing, struct ckpt_err *err)
{
	struct stat st;
	int rc;

	sealing->from_fd = ckpt_io_openat(AT_FDCWD, sealing->from.data, O_RDONLY | O_DIRECTORY, 0);
	rc = sealing->from_fd < 0 ? sealing->from_fd : ckpt_io_fstat(sealing->from_fd, &st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot open folder '%s' to import it",
				    sealing->from.data);
	if (ckpt_job_is_coordinator(sealing->job))
		sealing->from_ino = st.st_ino;
	else if (sealing->from_ino != st.st_ino)
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another folder at '%s' than rank %d does; import from storage that all ranks share",
			sealing->from.data, sealing->job->config.coordinator);
	return 0;
}

/* The files of a committed checkpoint are only whole together with its packs and manifest. */
static int check_from(const struct sealing *sealing, struct ckpt_err *err)
{
	struct stat st;

	if (ckpt_io_fstatat(sealing->from_fd, CKPT_MANIFEST_FILE, &st, 0) == 0)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is a committed checkpoint; copy it with 'ckptfs cp'",
				    sealing->from.data);
	if (ckpt_io_fstatat(sealing->from_fd, CKPT_STORE_FILE, &st, 0) == 0)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is a store; give the folder of one checkpoint",
				    sealing->from.data);
	return 0;
}

/* What is made for the import must not be found in it. */
static int check_apart(const struct sealing *sealing, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	struct ckpt_buf to;
	bool below = false;
	int rc = ckpt_place_find(sealing->request->path, sealing->job->config.store, &place, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&to);
	if (place.store_path) {
		ckpt_path_join(&to, place.store_path, place.name);
		below = ckpt_path_is_below(to.data, sealing->from.data);
	}
	ckpt_buf_release(&to);
	ckpt_place_release(&place);
	return below ? ckpt_err_set(err, -EINVAL,
				    "cannot import '%s' into itself; choose a name outside of it",
				    sealing->from.data)
		     : 0;
}

/* All that can be wrong with the input is found here, before anything is made. */
static int find_from(void *ctx, struct ckpt_err *err)
{
	struct sealing *sealing = ctx;
	CKPT_FREE char *real = realpath(sealing->request->from, NULL);
	int rc;

	if (!real)
		return ckpt_err_sys(err, -errno, "cannot import '%s'", sealing->request->from);
	ckpt_buf_add_str(&sealing->from, real);
	rc = open_from(sealing, err);
	if (rc == 0)
		rc = check_from(sealing, err);
	if (rc == 0)
		rc = check_apart(sealing, err);
	return rc < 0 ? rc : ckpt_scan_files(sealing->from_fd, real, &sealing->found, err);
}

static int attach_from(void *ctx, struct ckpt_err *err)
{
	return open_from(ctx, err);
}

static int tell_from(struct sealing *sealing)
{
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	ckpt_wire_put_str(&text, sealing->from.data);
	ckpt_wire_put_u64(&text, sealing->from_ino);
	rc = ckpt_coll_bcast(sealing->job, &text);
	if (rc == 0) {
		struct ckpt_wire in = ckpt_wire_over(&text);

		ckpt_buf_reset(&sealing->from);
		ckpt_buf_add_str(&sealing->from, ckpt_wire_str(&in));
		sealing->from_ino = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

static int set_up_from(struct sealing *sealing)
{
	struct ckpt_mpi *job = sealing->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	int rc;

	job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	/* No fault hook here: the phase is met once, in ckpt_target_set_up(). */
	rc = ckpt_job_go_on(job, coordinates, find_from, sealing);
	if (rc == 0)
		rc = tell_from(sealing);
	return rc < 0 ? rc : ckpt_job_go_on(job, !coordinates, attach_from, sealing);
}

/* --- both ------------------------------------------------------------------------------------- */

/* Folders and links first, so that every rank finds the place of its files. */
static int deal(void *ctx, struct ckpt_err *err)
{
	struct sealing *sealing = ctx;
	const struct ckpt_target *target = &sealing->target;
	int rc =
		sealing->request->from
			? ckpt_import_make(sealing->from_fd, target->dirfd, sealing->from.data, err)
			: ckpt_scan_files(target->dirfd, target->name.data, &sealing->found, err);

	return rc < 0 ? rc
		      : ckpt_file_list_deal(&sealing->found, sealing->job->info.global_world_size,
					    &sealing->wire);
}

static int work(void *ctx, struct ckpt_err *err)
{
	struct sealing *sealing = ctx;
	bool imports = sealing->request->from;
	const struct ckpt_file_work what = {
		.job = sealing->job,
		.from_fd = imports ? sealing->from_fd : sealing->target.dirfd,
		.from = imports ? sealing->from.data : sealing->target.name.data,
		.to_fd = sealing->target.dirfd,
		.to = sealing->target.name.data,
	};
	int rc = ckpt_file_list_take(&sealing->wire, sealing->job->info.global_rank,
				     &sealing->files);

	if (rc < 0)
		return rc;
	return imports ? ckpt_file_list_copy(&what, &sealing->files, &sealing->records, err)
		       : ckpt_file_list_sum(&what, &sealing->files, &sealing->records, err);
}

static int seal_folders(void *ctx, struct ckpt_err *err)
{
	struct sealing *sealing = ctx;

	return ckpt_import_seal(sealing->from_fd, sealing->target.dirfd, sealing->from.data, err);
}

static int move_data(struct sealing *sealing)
{
	struct ckpt_mpi *job = sealing->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	int rc = ckpt_job_run(job, CKPT_MPI_PREPARE_GLOBAL_PLAN, coordinates, deal, sealing);

	if (rc == 0)
		rc = ckpt_coll_bcast(job, &sealing->wire);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_WRITE_DATA, true, work, sealing);
	if (rc == 0)
		rc = ckpt_job_go_on(job, coordinates && sealing->request->from, seal_folders,
				    sealing);
	return rc;
}

static int run(struct sealing *sealing, struct ckpt_mpi_result *out)
{
	const struct ckpt_target_commit what = {
		.has_step = sealing->request->has_step,
		.step = sealing->request->step,
		.meta = sealing->request->meta,
	};
	int rc = sealing->request->from ? set_up_from(sealing) : 0;

	if (rc == 0)
		rc = ckpt_target_set_up(&sealing->target);
	if (rc == 0)
		rc = move_data(sealing);
	if (rc == 0)
		rc = ckpt_target_vote(&sealing->target);
	if (rc == 0)
		rc = ckpt_target_finish(&sealing->target, &sealing->records, &what, out);
	return rc < 0 ? ckpt_target_fail(&sealing->target, rc) : 0;
}

static int seal(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		struct ckpt_mpi_result *out)
{
	struct sealing sealing = { .job = job, .request = request, .from_fd = -1 };
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	ckpt_target_init(&sealing.target, job, request->path, request->from);
	ckpt_buf_init(&sealing.from);
	ckpt_buf_init(&sealing.wire);
	rc = run(&sealing, out);
	ckpt_record_list_release(&sealing.records);
	ckpt_file_list_release(&sealing.files);
	ckpt_scan_list_release(&sealing.found);
	ckpt_buf_release(&sealing.wire);
	ckpt_buf_release(&sealing.from);
	ckpt_cleanup_close(&sealing.from_fd);
	ckpt_target_release(&sealing.target);
	return rc;
}

int ckpt_mpi_commit(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		    struct ckpt_mpi_result *out)
{
	struct ckpt_mpi_commit_request in_place = *request;

	in_place.from = NULL;
	return seal(job, &in_place, out);
}

int ckpt_mpi_import(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		    struct ckpt_mpi_result *out)
{
	return request->from ? seal(job, request, out) : -EINVAL;
}
