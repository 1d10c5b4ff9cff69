/*
 * cli_mpi_load.c - ckptfs-mpi load: every rank reads its part of every tensor,
 * each block verified, whatever the number of ranks that wrote it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli_mpi.h"
#include "cli_mpi_hook.h"
#include "cli_mpi_out.h"
#include "cli_mpi_progress.h"
#include "collective.h"
#include "mpi_reader.h"

struct loading {
	struct ckpt_mpi *job;
	const struct mpi_options *options;
	struct ckpt_mpi_reader *reader;
	struct mpi_out *out;	     /* NULL: only read and verify */
	struct ckpt_mpi_want *wants; /* one a tensor, if this rank has a part of it */
	uint64_t *boxes;	     /* starts and sizes of the wants */
	uint64_t *first_bytes;	     /* of each want, in its tensor */
	uint64_t *want_bytes;
	size_t want_count;
	struct ckpt_mpi_blob_want *blob_wants; /* dealt to the ranks in turn */
	size_t blob_want_count;
	unsigned char *blob_room;
	unsigned char *room; /* --async: all wants, one behind the other */
	uint64_t bytes;	     /* that this rank wants */
	uint64_t total_bytes;
};

/* This rank's part along dimension 0; a scalar goes to one rank, in turn. */
static void want_part(struct loading *loading, size_t idx, const struct ckpt_mpi_tensor *tensor,
		      uint64_t *box)
{
	const struct ckpt_mpi_rank_info *rank = ckpt_mpi_rank(loading->job);
	struct ckpt_mpi_want *want = &loading->wants[loading->want_count];
	uint64_t row_bytes = tensor->element_bytes;
	uint64_t *size = box + tensor->dim_count;

	if (tensor->dim_count == 0 &&
	    idx % (size_t)rank->global_world_size != (size_t)rank->global_rank)
		return;
	for (uint32_t d = 0; d < tensor->dim_count; d++)
		size[d] = tensor->shape[d];
	for (uint32_t d = 1; d < tensor->dim_count; d++)
		row_bytes *= tensor->shape[d];
	if (tensor->dim_count > 0)
		ckpt_mpi_cut(tensor->shape[0], rank->global_rank, rank->global_world_size, &box[0],
			     &size[0]);
	loading->want_bytes[loading->want_count] = tensor->dim_count > 0 ? size[0] * row_bytes
									 : row_bytes;
	*want = (struct ckpt_mpi_want){ .tensor_idx = idx, .start = box, .size = size };
	loading->first_bytes[loading->want_count++] = tensor->dim_count > 0 ? box[0] * row_bytes
									    : 0;
}

static int alloc_wants(struct loading *loading)
{
	size_t count = ckpt_mpi_reader_tensor_count(loading->reader);
	size_t extent_count = 0;

	for (size_t i = 0; i < count; i++) {
		struct ckpt_mpi_tensor tensor;

		ckpt_mpi_reader_tensor(loading->reader, i, &tensor);
		extent_count += 2 * (size_t)tensor.dim_count;
	}
	loading->wants = array_alloc(count + 1, sizeof(*loading->wants));
	loading->first_bytes = array_alloc(count + 1, sizeof(*loading->first_bytes));
	loading->want_bytes = array_alloc(count + 1, sizeof(*loading->want_bytes));
	loading->boxes = array_alloc(extent_count + 1, sizeof(*loading->boxes));
	return loading->wants && loading->first_bytes && loading->want_bytes && loading->boxes
		       ? 0
		       : -ENOMEM;
}

/* A thread reads into memory only. */
static int give_room(struct loading *loading)
{
	uint64_t bytes = 0;
	unsigned char *at;

	for (size_t i = 0; i < loading->want_count; i++) {
		if (!num_add(bytes, loading->want_bytes[i], &bytes))
			return -ENOMEM;
	}
	loading->bytes += bytes;
	loading->room = malloc(bytes + 1);
	at = loading->room;
	for (size_t i = 0; at && i < loading->want_count; i++) {
		loading->wants[i].data = at;
		at += loading->want_bytes[i];
	}
	return at ? 0 : -ENOMEM;
}

/* They are verified, and go nowhere. */
static int want_blobs(struct loading *loading)
{
	const struct ckpt_mpi_rank_info *rank = ckpt_mpi_rank(loading->job);
	size_t count = ckpt_mpi_reader_blob_count(loading->reader);
	size_t world_size = (size_t)rank->global_world_size;
	uint64_t largest = 0;
	struct ckpt_mpi_stored_blob blob;

	loading->blob_wants = array_alloc(count + 1, sizeof(*loading->blob_wants));
	for (size_t i = (size_t)rank->global_rank; i < count; i += world_size) {
		ckpt_mpi_reader_blob(loading->reader, i, &blob);
		largest = num_max(largest, blob.location.size_bytes);
		loading->bytes += blob.location.size_bytes;
	}
	loading->blob_room = malloc(largest + 1);
	if (!loading->blob_wants || !loading->blob_room)
		return -ENOMEM;
	for (size_t i = (size_t)rank->global_rank; i < count; i += world_size)
		loading->blob_wants[loading->blob_want_count++] =
			(struct ckpt_mpi_blob_want){ .blob_idx = i, .data = loading->blob_room };
	return 0;
}

static int make_wants(void *ctx, struct ckpt_err *err)
{
	struct loading *loading = ctx;
	size_t count = ckpt_mpi_reader_tensor_count(loading->reader);
	uint64_t *box;
	int rc = alloc_wants(loading);

	(void)err;
	if (rc < 0)
		return rc;
	box = loading->boxes;
	for (size_t i = 0; i < count; i++) {
		struct ckpt_mpi_tensor tensor;

		ckpt_mpi_reader_tensor(loading->reader, i, &tensor);
		want_part(loading, i, &tensor, box);
		box += 2 * (size_t)tensor.dim_count;
	}
	rc = want_blobs(loading);
	return rc == 0 && loading->options->is_async ? give_room(loading) : rc;
}

static int write_part(void *ctx, size_t want_idx, uint64_t offset, const void *data, size_t len,
		      char *message)
{
	const struct loading *loading = ctx;
	size_t tensor_idx = loading->wants[want_idx].tensor_idx;

	if (loading->out->offsets[tensor_idx] == 0)
		return 0; /* left out of the file, but verified */
	return mpi_out_write(loading->out, tensor_idx, loading->first_bytes[want_idx] + offset,
			     data, len, message);
}

/* What the thread has read. */
static int write_parts(void *ctx, struct ckpt_err *err)
{
	const struct loading *loading = ctx;
	char message[CKPT_MPI_MESSAGE_MAX];

	for (size_t i = 0; i < loading->want_count; i++) {
		int rc = write_part(ctx, i, 0, loading->wants[i].data, loading->want_bytes[i],
				    message);

		if (rc < 0)
			return ckpt_err_set(err, rc, "%s", message);
	}
	return 0;
}

static int read_in_background(struct loading *loading, struct ckpt_mpi_read_request *request)
{
	struct ckpt_mpi_future *future = NULL;
	int rc;

	request->write = NULL;
	rc = ckpt_mpi_read_start(loading->reader, request, &future);
	if (rc == 0)
		rc = mpi_await(&future, NULL);
	if (rc == 0)
		rc = ckpt_coll_sum(loading->job, loading->bytes, &loading->total_bytes);
	loading->job->phase = CKPT_MPI_READ_DATA;
	return rc == 0 && loading->out ? ckpt_job_go_on(loading->job, true, write_parts, loading)
				       : rc;
}

static int read_parts(struct loading *loading)
{
	struct ckpt_mpi_read_request request = {
		.write = loading->out ? write_part : NULL,
		.ctx = loading,
	};
	int rc;

	loading->job->phase = CKPT_MPI_PREPARE_LOCAL_PLAN;
	rc = ckpt_job_go_on(loading->job, true, make_wants, loading);
	if (rc == 0 && loading->out)
		rc = mpi_out_begin(loading->out, loading->reader);
	if (rc < 0)
		return rc;
	request.wants = loading->wants;
	request.want_count = loading->want_count;
	request.blob_wants = loading->blob_wants;
	request.blob_want_count = loading->blob_want_count;
	return loading->options->is_async
		       ? read_in_background(loading, &request)
		       : ckpt_mpi_reader_read(loading->reader, &request, &loading->total_bytes);
}

/* Nothing is committed by a load: its commit is that OUT takes its name. */
static int run_phases(struct loading *loading)
{
	const char *path = loading->options->args[0];
	const char *folder = loading->reader->folder.data;
	int rc = read_parts(loading);

	if (rc == 0 && loading->out)
		rc = mpi_out_sync(loading->out);
	if (rc == 0)
		rc = mpi_hooks_run(loading->job, CKPT_MPI_PRE_COMMIT, path, folder);
	if (loading->out)
		rc = mpi_out_end(loading->out, rc);
	return rc < 0 ? rc : mpi_hooks_run(loading->job, CKPT_MPI_POST_COMMIT, path, folder);
}

static void print_summary(const struct loading *loading, const char *path, double secs)
{
	if (!mpi_is_speaker(loading->job))
		return;
	(void)printf("%s: loaded %zu tensors on %d ranks (%llu bytes, %.2f s)\n", path,
		     ckpt_mpi_reader_tensor_count(loading->reader),
		     ckpt_mpi_rank(loading->job)->global_world_size,
		     (unsigned long long)loading->total_bytes, secs);
	if (loading->out && loading->out->left_out > 0)
		mpi_say("%zu complex %s not in '%s': safetensors files cannot hold them",
			loading->out->left_out,
			loading->out->left_out == 1 ? "tensor is" : "tensors are",
			loading->out->path);
}

static int load(struct ckpt_mpi *job, const struct mpi_options *options)
{
	struct loading loading = { .job = job, .options = options };
	double began = MPI_Wtime();
	struct mpi_out out;
	int rc;

	mpi_out_init(&out, job, options->to ? options->to : "");
	loading.out = options->to ? &out : NULL;
	rc = ckpt_mpi_reader_new(job, options->args[0], &loading.reader);
	if (rc == 0)
		rc = run_phases(&loading);
	mpi_progress_erase();
	if (rc == 0)
		print_summary(&loading, options->args[0], MPI_Wtime() - began);
	mpi_out_release(&out);
	free(loading.wants);
	free(loading.boxes);
	free(loading.first_bytes);
	free(loading.want_bytes);
	free(loading.blob_wants);
	free(loading.blob_room);
	free(loading.room);
	ckpt_mpi_reader_free(loading.reader);
	return rc < 0 ? mpi_report(job) : MPI_EXIT_OK;
}

const struct mpi_command mpi_load_command = {
	.name = "load",
	.args = "CHECKPOINT",
	.summary = "read a checkpoint on any number of ranks, every block verified",
	.details =
		"Each rank reads its part of every tensor along dimension 0, whatever the\n"
		"number of ranks that wrote it. With --to all ranks write one safetensors file;\n"
		"--pre-commit runs before it takes its name, --post-commit behind that.",
	.doing = "loading",
	.options = "typqacwrFgC",
	.min_args = 1,
	.max_args = 1,
	.run = load,
};
