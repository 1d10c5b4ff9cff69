/* mpiio.c - see mpiio.h. */
#include "mpiio.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

#include "base/path.h"

/* MPI's word for what went wrong, as an errno. */
static int code_of(int mpi_rc)
{
	int class = MPI_ERR_OTHER;

	if (MPI_Error_class(mpi_rc, &class) != MPI_SUCCESS)
		return -EIO;
	switch (class) {
	case MPI_ERR_NO_SPACE:
		return -ENOSPC;
	case MPI_ERR_QUOTA:
		return -EDQUOT;
	case MPI_ERR_ACCESS:
		return -EACCES;
	case MPI_ERR_READ_ONLY:
		return -EROFS;
	case MPI_ERR_NO_SUCH_FILE:
		return -ENOENT;
	default:
		return -EIO;
	}
}

static int failed(const struct ckpt_mpiio *io, int mpi_rc, const char *what, struct ckpt_err *err)
{
	return ckpt_err_sys(err, code_of(mpi_rc), "cannot %s '%s/%s' with MPI-IO", what,
			    io->target->name.data, io->path);
}

int ckpt_mpiio_open(struct ckpt_mpiio *io, MPI_Comm comm, struct ckpt_err *err)
{
	struct ckpt_buf folder;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&folder);
	ckpt_buf_init(&path);
	ckpt_path_join(&folder, io->target->store_path.data, io->target->name.data);
	ckpt_path_join(&path, folder.data, io->path);
	rc = ckpt_buf_check(&path);
	if (rc == 0) {
		int mpi_rc =
			MPI_File_open(comm, path.data, MPI_MODE_WRONLY, MPI_INFO_NULL, &io->file);

		if (mpi_rc != MPI_SUCCESS)
			rc = failed(io, mpi_rc, "open", err);
	}
	ckpt_buf_release(&path);
	ckpt_buf_release(&folder);
	return rc;
}

int ckpt_mpiio_write(struct ckpt_mpiio *io, uint64_t at, const void *data, size_t len_bytes,
		     struct ckpt_err *err)
{
	MPI_Status status;
	int count = 0;
	int rc;

	assert(len_bytes <= INT_MAX);
	rc = MPI_File_write_at_all(io->file, (MPI_Offset)at, data, (int)len_bytes, MPI_BYTE,
				   &status);
	if (rc != MPI_SUCCESS)
		return failed(io, rc, "write", err);
	/* Success with fewer bytes, or none, has been seen. */
	if (MPI_Get_count(&status, MPI_BYTE, &count) != MPI_SUCCESS || (size_t)count != len_bytes)
		return ckpt_err_set(err, -EIO,
				    "cannot write '%s/%s': MPI-IO wrote %d of %zu bytes at %llu",
				    io->target->name.data, io->path, count, len_bytes,
				    (unsigned long long)at);
	return 0;
}

int ckpt_mpiio_end(struct ckpt_mpiio *io, struct ckpt_err *err)
{
	int rc = MPI_File_sync(io->file);
	int close_rc = MPI_File_close(&io->file);

	if (rc != MPI_SUCCESS)
		return failed(io, rc, "sync", err);
	return close_rc != MPI_SUCCESS ? failed(io, close_rc, "close", err) : 0;
}

void ckpt_mpiio_drop(struct ckpt_mpiio *io)
{
	/* After a time-out it would wait for the missing. */
	if (io->file != MPI_FILE_NULL && !io->target->job->broken)
		ckpt_ignore(MPI_File_close(&io->file)); /* the failure is known already */
}
