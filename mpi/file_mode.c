/*
 * file_mode.c - ckpt_mpi_commit() and ckpt_mpi_import(): files that others wrote.
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
#include "job.h"
#include "seal.h"
#include "wire.h"

struct import {
	const struct ckpt_mpi_commit_request *request;
	struct ckpt_seal seal;
	struct ckpt_buf from; /* absolute path of the folder */
	uint64_t from_ino;
	int from_fd;
};

/* --- where an import comes from ----------------------------------------------------------- */

static int open_from(struct import *import, struct ckpt_err *err)
{
	struct stat st;
	int rc;

	import->from_fd = ckpt_io_openat(AT_FDCWD, import->from.data, O_RDONLY | O_DIRECTORY, 0);
	rc = import->from_fd < 0 ? import->from_fd : ckpt_io_fstat(import->from_fd, &st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot open folder '%s' to import it",
				    import->from.data);
	if (ckpt_job_is_coordinator(import->seal.job))
		import->from_ino = st.st_ino;
	else if (import->from_ino != st.st_ino)
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another folder at '%s' than rank %d does; import from storage that all ranks share",
			import->from.data, import->seal.job->config.coordinator);
	return 0;
}

/* The files of a committed checkpoint are only whole together with its packs and manifest. */
static int check_from(const struct import *import, struct ckpt_err *err)
{
	struct stat st;

	if (ckpt_io_fstatat(import->from_fd, CKPT_MANIFEST_FILE, &st, 0) == 0)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is a committed checkpoint; copy it with 'ckptfs cp'",
				    import->from.data);
	if (ckpt_io_fstatat(import->from_fd, CKPT_STORE_FILE, &st, 0) == 0)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is a store; give the folder of one checkpoint",
				    import->from.data);
	return 0;
}

/* What is made for the import must not be found in it. */
static int check_apart(const struct import *import, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	struct ckpt_buf to;
	bool below = false;
	int rc =
		ckpt_place_find(import->request->path, import->seal.job->config.store, &place, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&to);
	if (place.store_path) {
		ckpt_path_join(&to, place.store_path, place.name);
		below = ckpt_path_is_below(to.data, import->from.data);
	}
	ckpt_buf_release(&to);
	ckpt_place_release(&place);
	return below ? ckpt_err_set(err, -EINVAL,
				    "cannot import '%s' into itself; choose a name outside of it",
				    import->from.data)
		     : 0;
}

/* All that can be wrong with the input is found here, before anything is made. */
static int find_from(void *ctx, struct ckpt_err *err)
{
	struct import *import = ctx;
	CKPT_FREE char *real = realpath(import->request->from, NULL);
	int rc;

	if (!real)
		return ckpt_err_sys(err, -errno, "cannot import '%s'", import->request->from);
	ckpt_buf_add_str(&import->from, real);
	rc = open_from(import, err);
	if (rc == 0)
		rc = check_from(import, err);
	if (rc == 0)
		rc = check_apart(import, err);
	return rc < 0 ? rc : ckpt_scan_files(import->from_fd, real, &import->seal.found, err);
}

static int attach_from(void *ctx, struct ckpt_err *err)
{
	return open_from(ctx, err);
}

static int tell_from(struct import *import)
{
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	ckpt_wire_put_str(&text, import->from.data);
	ckpt_wire_put_u64(&text, import->from_ino);
	rc = ckpt_coll_bcast(import->seal.job, &text);
	if (rc == 0) {
		struct ckpt_wire in = ckpt_wire_over(&text);

		ckpt_buf_reset(&import->from);
		ckpt_buf_add_str(&import->from, ckpt_wire_str(&in));
		import->from_ino = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

static int set_up_from(struct import *import)
{
	struct ckpt_mpi *job = import->seal.job;
	bool coordinates = ckpt_job_is_coordinator(job);
	int rc;

	job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	/* No fault hook here: the phase is met once, in ckpt_target_set_up(). */
	rc = ckpt_job_go_on(job, coordinates, find_from, import);
	if (rc == 0)
		rc = tell_from(import);
	return rc < 0 ? rc : ckpt_job_go_on(job, !coordinates, attach_from, import);
}

/* --- both ------------------------------------------------------------------------------------- */

static int run(struct ckpt_seal *seal, const struct ckpt_mpi_commit_request *request,
	       struct ckpt_mpi_result *out)
{
	int rc = ckpt_target_set_up(&seal->target);

	if (rc == 0)
		rc = ckpt_seal_run(seal, request, out);
	return rc < 0 ? ckpt_target_fail(&seal->target, rc) : 0;
}

int ckpt_mpi_commit(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		    struct ckpt_mpi_result *out)
{
	struct ckpt_seal seal;
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	ckpt_seal_init(&seal, job, request->path, false);
	rc = run(&seal, request, out);
	ckpt_seal_release(&seal);
	return rc;
}

int ckpt_mpi_import(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		    struct ckpt_mpi_result *out)
{
	struct import import = { .request = request, .from_fd = -1 };
	int rc = request->from ? ckpt_job_begin(job) : -EINVAL;

	if (rc < 0)
		return rc;
	ckpt_seal_init(&import.seal, job, request->path, true);
	ckpt_buf_init(&import.from);
	rc = set_up_from(&import);
	import.seal.from = import.from.data;
	import.seal.from_fd = import.from_fd;
	if (rc == 0)
		rc = run(&import.seal, request, out);
	ckpt_seal_release(&import.seal);
	ckpt_buf_release(&import.from);
	ckpt_cleanup_close(&import.from_fd);
	return rc;
}
