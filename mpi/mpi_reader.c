/* mpi_reader.c - the collective reader of ckptfs_mpi.h, phase by phase. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "collective.h"
#include "job.h"
#include "manifest_wire.h"
#include "mpi_reader.h"
#include "store/store.h"

/* A manifest is read whole: more than any machine's memory is a mistake. */
#define MANIFEST_MAX (UINT64_C(1) << 40)

void ckpt_mpi_reader_free(struct ckpt_mpi_reader *reader)
{
	if (!reader)
		return;
	ckpt_manifest_release(&reader->manifest);
	ckpt_buf_release(&reader->text);
	ckpt_buf_release(&reader->label);
	ckpt_buf_release(&reader->folder);
	ckpt_cleanup_close(&reader->dirfd);
	free(reader);
}

/* --- set_up_storage_reader ---------------------------------------------------------------- */

/* A checkpoint that this user may not enter looks like any folder: that is what to say of it. */
static int no_checkpoint(const struct ckpt_mpi_reader *reader, const struct ckpt_place *place,
			 struct ckpt_err *err)
{
	struct ckpt_buf manifest;
	struct stat st;
	int rc;

	ckpt_buf_init(&manifest);
	ckpt_path_join(&manifest, place->folder ? place->folder : reader->path, CKPT_MANIFEST_FILE);
	rc = ckpt_buf_check(&manifest);
	if (rc == 0)
		rc = ckpt_io_fstatat(AT_FDCWD, manifest.data, &st, 0);
	ckpt_buf_release(&manifest);
	if (rc == -EACCES)
		return ckpt_err_sys(err, rc, "cannot look into '%s'", reader->path);
	return ckpt_err_set(err, -ENOENT, "'%s' is no checkpoint; 'ckptfs ls' lists what is there",
			    reader->path);
}

static int check_committed(const struct ckpt_mpi_reader *reader, const struct ckpt_place *place,
			   struct ckpt_err *err)
{
	struct ckpt_store *store;
	enum ckpt_state state;
	int rc;

	if (place->kind != CKPT_PLACE_CHECKPOINT)
		return no_checkpoint(reader, place, err);
	if (!place->store_path)
		return 0; /* a bare folder with a manifest */
	rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);
	if (rc < 0)
		return rc;
	rc = ckpt_state_of(ckpt_store_fd(store), place->name, &state, NULL, err);
	ckpt_store_free(store);
	if (rc == 0 && state != CKPT_STATE_COMMITTED)
		return ckpt_err_set(
			err, -ENOENT,
			"'%s' is not committed, so nothing can be loaded from it; commit it first",
			reader->path);
	return rc;
}

static int open_folder(struct ckpt_mpi_reader *reader, struct ckpt_err *err)
{
	struct stat st;
	int rc;

	reader->dirfd = ckpt_io_openat(AT_FDCWD, reader->folder.data, O_RDONLY | O_DIRECTORY, 0);
	rc = reader->dirfd < 0 ? reader->dirfd : ckpt_io_fstat(reader->dirfd, &st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot open checkpoint '%s' on this host",
				    reader->folder.data);
	if (ckpt_job_is_coordinator(reader->job))
		reader->ino = st.st_ino;
	else if (reader->ino != st.st_ino)
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another folder at '%s' than rank %d on %s does; the checkpoint must be on storage that all ranks share",
			reader->folder.data, reader->job->config.coordinator,
			reader->job->hosts[reader->job->config.coordinator]);
	return 0;
}

static int find(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_reader *reader = ctx;
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(reader->path, reader->job->config.store, &place, err);

	if (rc < 0)
		return rc;
	rc = check_committed(reader, &place, err);
	if (rc == 0) {
		ckpt_buf_add_str(&reader->folder, place.folder);
		ckpt_buf_add_str(&reader->label, place.name);
		rc = open_folder(reader, err);
	}
	ckpt_place_release(&place);
	return rc;
}

static int attach(void *ctx, struct ckpt_err *err)
{
	return open_folder(ctx, err);
}

static int tell(struct ckpt_mpi_reader *reader)
{
	bool tells = ckpt_job_is_coordinator(reader->job);
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	if (tells) {
		ckpt_wire_put_str(&text, reader->folder.data);
		ckpt_wire_put_str(&text, reader->label.data);
		ckpt_wire_put_u64(&text, reader->ino);
	}
	rc = ckpt_coll_bcast(reader->job, &text);
	if (rc == 0 && !tells) {
		struct ckpt_wire in = ckpt_wire_over(&text);

		ckpt_buf_add_str(&reader->folder, ckpt_wire_str(&in));
		ckpt_buf_add_str(&reader->label, ckpt_wire_str(&in));
		reader->ino = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

static int set_up(struct ckpt_mpi_reader *reader)
{
	bool coordinates = ckpt_job_is_coordinator(reader->job);
	int rc = ckpt_job_run(reader->job, CKPT_MPI_SET_UP_STORAGE_READER, true,
			      coordinates ? find : NULL, reader);

	if (rc == 0)
		rc = tell(reader);
	if (rc == 0)
		rc = ckpt_job_go_on(reader->job, !coordinates, attach, reader);
	return rc;
}

/* --- read_metadata ------------------------------------------------------------------------- */

/* The coordinator checks the manifest, the others take its word. */
static int load(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_reader *reader = ctx;
	int rc = ckpt_io_read_file(reader->dirfd, CKPT_MANIFEST_FILE, MANIFEST_MAX, &reader->text,
				   err);

	if (rc < 0)
		return ckpt_err_prefix(err, rc, "'%s'", reader->label.data);
	rc = ckpt_manifest_load_text(reader->text.data, reader->text.len_bytes, reader->label.data,
				     &reader->manifest, err);
	if (rc < 0)
		return rc;
	ckpt_buf_reset(&reader->text);
	ckpt_wire_put_manifest(&reader->text, &reader->manifest);
	return ckpt_buf_check(&reader->text);
}

static int take_over(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_reader *reader = ctx;
	int rc = ckpt_wire_manifest(&reader->text, &reader->manifest);

	return rc == -EBADMSG
		       ? ckpt_err_set(
				 err, rc,
				 "the manifest of '%s' came over damaged from the coordinator; the ranks run different versions of the library",
				 reader->label.data)
		       : rc;
}

static int read_metadata(struct ckpt_mpi_reader *reader)
{
	bool coordinates = ckpt_job_is_coordinator(reader->job);
	int rc = ckpt_job_run(reader->job, CKPT_MPI_READ_METADATA, true, coordinates ? load : NULL,
			      reader);

	if (rc == 0)
		rc = ckpt_coll_bcast(reader->job, &reader->text);
	if (rc == 0)
		rc = ckpt_job_go_on(reader->job, !coordinates, take_over, reader);
	ckpt_buf_release(&reader->text);
	return rc;
}

int ckpt_mpi_reader_new(struct ckpt_mpi *job, const char *path, struct ckpt_mpi_reader **out)
{
	struct ckpt_mpi_reader *reader;
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_SET_UP_STORAGE_READER;
	reader = array_alloc(1, sizeof(*reader));
	rc = ckpt_job_agree(job, reader ? 0 : -ENOMEM, NULL);
	if (reader) {
		reader->job = job;
		reader->path = path;
		reader->dirfd = -1;
		ckpt_buf_init(&reader->folder);
		ckpt_buf_init(&reader->label);
		ckpt_buf_init(&reader->text);
	}
	assert(rc < 0 || reader);
	if (rc == 0)
		rc = set_up(reader);
	if (rc == 0)
		rc = read_metadata(reader);
	if (rc < 0) {
		ckpt_mpi_reader_free(reader);
		return rc;
	}
	*out = reader;
	return 0;
}
