/* slices.c - see slices.h. */
#include "view/slices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/pool.h"

struct run {
	const struct ckpt_slices *slices;
	uint64_t total_bytes;
	pthread_mutex_t mu;
	/* What follows is protected by mu. */
	size_t item; /* the next slice begins here */
	uint64_t offset_bytes;
	uint64_t done_bytes;
	int rc; /* of the first that failed */
	struct ckpt_err *err;
};

/* The next slice; false: there is none, or something has failed. */
static bool take(struct run *run, struct ckpt_slice *slice)
{
	const struct ckpt_slices *slices = run->slices;
	bool taken = false;

	pthread_mutex_lock(&run->mu);
	while (run->rc == 0 && !taken && run->item < slices->item_count) {
		uint64_t size = slices->size_bytes(slices->ctx, run->item);

		if (run->offset_bytes >= size) {
			run->item++;
			run->offset_bytes = 0;
			continue;
		}
		slice->item = run->item;
		slice->offset_bytes = run->offset_bytes;
		slice->len_bytes = num_min(size - run->offset_bytes, CKPT_SLICE_BYTES);
		run->offset_bytes += slice->len_bytes;
		taken = true;
	}
	pthread_mutex_unlock(&run->mu);
	return taken;
}

static void fail_locked(struct run *run, int rc, const struct ckpt_err *why)
{
	if (run->rc == 0)
		run->rc = ckpt_err_set(run->err, rc, "%s", why->msg);
}

static void finish(struct run *run, const struct ckpt_slice *slice, int rc,
		   const struct ckpt_err *why)
{
	const struct ckpt_slices *slices = run->slices;

	pthread_mutex_lock(&run->mu);
	run->done_bytes += slice->len_bytes;
	if (rc < 0)
		fail_locked(run, rc, why);
	else if (slices->progress && run->rc == 0 &&
		 slices->progress(slices->progress_ctx, run->done_bytes, run->total_bytes) != 0)
		run->rc = ckpt_err_set(run->err, -ECANCELED, "interrupted");
	pthread_mutex_unlock(&run->mu);
}

static void work(void *arg)
{
	struct run *run = arg;
	CKPT_FREE char *room = array_alloc(2, CKPT_SLICE_BYTES);
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_slice slice = { .room = room };

	if (!room) {
		ckpt_err_set(&why, -ENOMEM, "out of memory while reading tensors");
		finish(run, &slice, -ENOMEM, &why);
		return;
	}
	while (take(run, &slice)) {
		int rc = run->slices->work(run->slices->ctx, &slice, &why);

		finish(run, &slice, rc, &why);
	}
}

int ckpt_slices_run(const struct ckpt_slices *slices, struct ckpt_err *err)
{
	struct run run = { .slices = slices, .err = err };
	struct ckpt_pool *pool = NULL;
	int rc = ckpt_pool_new(0, 0, &pool, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < slices->item_count; i++)
		run.total_bytes += slices->size_bytes(slices->ctx, i);
	pthread_mutex_init(&run.mu, NULL);
	for (size_t i = 0; rc == 0 && i < ckpt_pool_thread_count(pool); i++)
		rc = ckpt_pool_submit(pool, work, &run);
	ckpt_pool_free(pool);
	pthread_mutex_destroy(&run.mu);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read the tensors");
	return run.rc;
}
