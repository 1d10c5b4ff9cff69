/* tensor_stats.c - the statistics of whole tensors, read through their views; see statistics.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "format/format.h"
#include "view/slices.h"
#include "view/view.h"

struct job {
	const struct ckpt_stats_request *request;
	const struct ckpt_contents *contents;
	struct ckpt_view_file **files; /* one a tensor that is asked for */
	struct ckpt_stats *stats;
	struct ckpt_histogram *histogram; /* NULL: none is made now */
	pthread_mutex_t mu;		  /* over stats and histogram */
};

static const struct ckpt_tensor *tensor_of(const struct job *job, size_t item)
{
	return &job->contents->tensors[job->request->tensors[item]];
}

static uint64_t size_of(void *ctx, size_t item)
{
	const struct job *job = ctx;

	return ckpt_view_file_size(job->files[item]);
}

static void take_in(struct job *job, const struct ckpt_slice *slice)
{
	const char *dtype = tensor_of(job, slice->item)->dtype;
	size_t count = slice->len_bytes / ckpt_dtype_size(dtype);
	struct ckpt_histogram histogram;
	struct ckpt_stats stats;

	if (job->histogram) {
		histogram = (struct ckpt_histogram){ .low = job->histogram->low,
						     .high = job->histogram->high };
		ckpt_histogram_add(&histogram, dtype, slice->room, count);
		pthread_mutex_lock(&job->mu);
		for (size_t i = 0; i < CKPT_HISTOGRAM_BINS; i++)
			job->histogram->bins[i] += histogram.bins[i];
		pthread_mutex_unlock(&job->mu);
		return;
	}
	/* The type is known: job_begin() has initialised with it. */
	ckpt_ignore(ckpt_stats_init(&stats, dtype));
	ckpt_stats_add(&stats, dtype, slice->room, count);
	pthread_mutex_lock(&job->mu);
	ckpt_stats_merge(&job->stats[slice->item], &stats);
	pthread_mutex_unlock(&job->mu);
}

static int work(void *ctx, const struct ckpt_slice *slice, struct ckpt_err *err)
{
	struct job *job = ctx;
	struct ckpt_view_room room = { .data = slice->room, .len_bytes = slice->len_bytes };
	int rc = ckpt_view_read(job->request->reader, job->files[slice->item], slice->offset_bytes,
				&room, err);

	if (rc == 0)
		take_in(job, slice);
	return rc;
}

static int job_begin(struct job *job, struct ckpt_err *err)
{
	const struct ckpt_stats_request *request = job->request;
	int rc = 0;

	job->files =
		array_alloc(num_max(request->tensor_count, 1), sizeof(struct ckpt_view_file *));
	if (!job->files)
		return ckpt_err_set(err, -ENOMEM, "out of memory while reading tensors");
	for (size_t i = 0; rc == 0 && i < request->tensor_count; i++) {
		rc = ckpt_view_tensor_open(request->views, request->tensors[i], &job->files[i],
					   err);
		/* No contents hold a tensor of an unknown type. */
		if (rc == 0)
			ckpt_ignore(ckpt_stats_init(&job->stats[i], tensor_of(job, i)->dtype));
	}
	return rc;
}

static void job_end(struct job *job)
{
	for (size_t i = 0; job->files && i < job->request->tensor_count; i++)
		ckpt_view_file_close(job->files[i]);
	free(job->files);
}

static int run(struct job *job, struct ckpt_err *err)
{
	const struct ckpt_slices slices = { .item_count = job->request->tensor_count,
					    .size_bytes = size_of,
					    .work = work,
					    .progress = job->request->progress,
					    .ctx = job,
					    .progress_ctx = job->request->progress_ctx };
	int rc = job_begin(job, err);

	pthread_mutex_init(&job->mu, NULL);
	if (rc == 0)
		rc = ckpt_slices_run(&slices, err);
	pthread_mutex_destroy(&job->mu);
	job_end(job);
	return rc;
}

int ckpt_tensors_stats(const struct ckpt_stats_request *request, struct ckpt_stats *out,
		       struct ckpt_err *err)
{
	struct job job = { .request = request,
			   .contents = ckpt_views_contents(request->views),
			   .stats = out };

	return run(&job, err);
}

int ckpt_tensor_histogram(const struct ckpt_stats_request *request, struct ckpt_histogram *out,
			  struct ckpt_err *err)
{
	struct ckpt_stats stats;
	struct job job = { .request = request,
			   .contents = ckpt_views_contents(request->views),
			   .stats = &stats,
			   .histogram = out };

	return run(&job, err);
}
