/* cli_mpi_out.c - see cli_mpi_out.h. */
#include "cli_mpi_out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "collective.h"
#include "format/format.h"

void mpi_out_init(struct mpi_out *out, struct ckpt_mpi *job, const char *path)
{
	*out = (struct mpi_out){ .job = job, .path = path, .fd = -1 };
	ckpt_buf_init(&out->header);
	ckpt_buf_init(&out->partial);
	ckpt_buf_printf(&out->partial, "%s.partial", path);
}

void mpi_out_release(struct mpi_out *out)
{
	ckpt_cleanup_close(&out->fd);
	free(out->offsets);
	ckpt_buf_release(&out->header);
	ckpt_buf_release(&out->partial);
}

/* --- the layout: every rank comes to the same ------------------------------------------------ */

struct layout {
	struct mpi_out *out;
	const struct ckpt_mpi_reader *reader;
};

/* Items are sorted by the layout; shapes lead back to the tensors they came from. */
static size_t idx_of(const struct ckpt_st_item *item, const struct ckpt_mpi_reader *reader,
		     size_t count)
{
	struct ckpt_mpi_tensor tensor;
	size_t low = 0;
	size_t high = count;

	/* The reader's tensors are ordered by FQN: they are all of one set. */
	while (low + 1 < high) {
		size_t middle = low + (high - low) / 2;

		ckpt_mpi_reader_tensor(reader, middle, &tensor);
		if (strcmp(tensor.fqn, item->fqn) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static int collect_items(struct mpi_out *out, const struct ckpt_mpi_reader *reader,
			 struct ckpt_st_item *items, size_t *out_count, struct ckpt_err *err)
{
	struct ckpt_mpi_tensor first = { .set = NULL };

	*out_count = 0;
	for (size_t i = 0; i < ckpt_mpi_reader_tensor_count(reader); i++) {
		struct ckpt_mpi_tensor tensor;

		ckpt_mpi_reader_tensor(reader, i, &tensor);
		if (i == 0)
			first = tensor;
		if (strcmp(tensor.set, first.set) != 0)
			return ckpt_err_set(
				err, -EINVAL,
				"the checkpoint has several tensor sets ('%s', '%s'), which one file cannot hold; load it without --to",
				first.set, tensor.set);
		/* Complex tensors are left out, as they are in all.safetensors. */
		if (tensor.dtype[0] == 'C') {
			out->left_out++;
			continue;
		}
		items[(*out_count)++] = (struct ckpt_st_item){
			.fqn = tensor.fqn,
			.dtype = tensor.dtype,
			.shape = tensor.shape,
			.dim_count = tensor.dim_count,
		};
	}
	return 0;
}

static int lay_out(void *ctx, struct ckpt_err *err)
{
	const struct layout *layout = ctx;
	struct mpi_out *out = layout->out;
	size_t count = ckpt_mpi_reader_tensor_count(layout->reader);
	CKPT_FREE struct ckpt_st_item *items = array_alloc(count + 1, sizeof(*items));
	size_t item_count;
	int rc;

	out->offsets = array_alloc(count + 1, sizeof(*out->offsets));
	if (!items || !out->offsets)
		return -ENOMEM;
	rc = collect_items(out, layout->reader, items, &item_count, err);
	if (rc == 0)
		rc = ckpt_st_layout(items, item_count, &out->header, &out->file_bytes, err);
	for (size_t i = 0; rc == 0 && i < item_count; i++)
		out->offsets[idx_of(&items[i], layout->reader, count)] = items[i].offset_bytes;
	return rc;
}

/* --- the file ----------------------------------------------------------------------------- */

static int fail(const struct mpi_out *out, int code, struct ckpt_err *err)
{
	return ckpt_err_sys(err, code, "cannot write '%s'", out->partial.data);
}

/* The coordinator: the file at its full size, with its header. */
static int create(void *ctx, struct ckpt_err *err)
{
	struct mpi_out *out = ctx;
	struct stat st;
	int rc = ckpt_io_fstatat(AT_FDCWD, out->path, &st, 0);

	if (rc == 0 && !S_ISREG(st.st_mode))
		return ckpt_err_set(err, -EEXIST,
				    "'%s' is there and no regular file; choose another name",
				    out->path);
	out->fd = ckpt_io_openat(AT_FDCWD, out->partial.data,
				 O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0666);
	if (out->fd < 0)
		return fail(out, out->fd, err);
	out->created = true; /* the others learn it with the inode */
	rc = ckpt_io_fallocate(out->fd, 0, out->file_bytes);
	if (rc == -EOPNOTSUPP)
		rc = ckpt_io_ftruncate(out->fd, out->file_bytes);
	if (rc == 0)
		rc = ckpt_io_pwrite_full(out->fd, out->header.data, out->header.len_bytes, 0);
	if (rc == 0)
		rc = ckpt_io_fstat(out->fd, &st);
	if (rc < 0)
		return fail(out, rc, err);
	out->ino = st.st_ino;
	return 0;
}

static int attach(void *ctx, struct ckpt_err *err)
{
	struct mpi_out *out = ctx;
	struct stat st;
	int rc;

	out->fd = ckpt_io_openat(AT_FDCWD, out->partial.data, O_WRONLY | O_NOFOLLOW, 0);
	rc = out->fd < 0 ? out->fd : ckpt_io_fstat(out->fd, &st);
	if (rc < 0)
		return fail(out, rc, err);
	if (st.st_ino != out->ino)
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another file at '%s' than rank %d does; write to storage that all ranks share",
			out->partial.data, out->job->config.coordinator);
	return 0;
}

int mpi_out_begin(struct mpi_out *out, const struct ckpt_mpi_reader *reader)
{
	struct layout layout = { .out = out, .reader = reader };
	struct ckpt_mpi *job = out->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	int rc;

	job->phase = CKPT_MPI_PREPARE_GLOBAL_PLAN;
	/* One rank says what is wrong with the checkpoint; then it is wrong for none. */
	rc = ckpt_job_go_on(job, coordinates, lay_out, &layout);
	if (rc == 0)
		rc = ckpt_job_go_on(job, !coordinates, lay_out, &layout);
	if (rc == 0)
		rc = ckpt_job_go_on(job, coordinates, create, out);
	if (rc == 0)
		rc = ckpt_coll_max(job, out->ino, &out->ino);
	out->created = out->created || rc == 0;
	return rc < 0 ? rc : ckpt_job_go_on(job, !coordinates, attach, out);
}

int mpi_out_write(struct mpi_out *out, size_t tensor_idx, uint64_t offset, const void *data,
		  size_t len, char *message)
{
	int rc = ckpt_io_pwrite_full(out->fd, data, len, out->offsets[tensor_idx] + offset);

	if (rc < 0)
		(void)snprintf(message, CKPT_MPI_MESSAGE_MAX, "cannot write '%s': %s",
			       out->partial.data, strerror(-rc));
	return rc;
}

static int sync_bytes(void *ctx, struct ckpt_err *err)
{
	struct mpi_out *out = ctx;
	int rc = ckpt_io_fsync(out->fd);

	return rc < 0 ? fail(out, rc, err) : 0;
}

/* The folder that OUT is in. */
static void add_folder(struct ckpt_buf *out, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash)
		ckpt_buf_add(out, path, (size_t)(slash - path) + 1);
	else
		ckpt_buf_add_char(out, '.');
}

static int publish(void *ctx, struct ckpt_err *err)
{
	struct mpi_out *out = ctx;
	struct ckpt_buf folder;
	int rc = ckpt_io_renameat(AT_FDCWD, out->partial.data, AT_FDCWD, out->path);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot rename '%s' to '%s'", out->partial.data,
				    out->path);
	out->created = false;
	ckpt_buf_init(&folder);
	add_folder(&folder, out->path);
	rc = ckpt_buf_check(&folder);
	if (rc == 0)
		rc = ckpt_io_sync_dir(AT_FDCWD, folder.data);
	ckpt_buf_release(&folder);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot make the name '%s' durable", out->path) : 0;
}

int mpi_out_sync(struct mpi_out *out)
{
	out->job->phase = CKPT_MPI_READ_DATA;
	return ckpt_job_go_on(out->job, true, sync_bytes, out);
}

int mpi_out_end(struct mpi_out *out, int code)
{
	const struct ckpt_mpi *job = out->job;
	int rc = code;
	int remover;

	out->job->phase = CKPT_MPI_READ_DATA;
	if (rc == 0)
		rc = ckpt_job_go_on(out->job, ckpt_job_is_coordinator(out->job), publish, out);
	/* Where the coordinator does not answer any more, another must do it. */
	remover = ckpt_mpi_usable(job) ? job->config.coordinator : ckpt_mpi_reporter(job);
	if (rc < 0 && out->created && job->info.global_rank == remover)
		ckpt_ignore(ckpt_io_unlinkat(AT_FDCWD, out->partial.data,
					     0)); /* what led here is what is reported */
	return rc;
}
