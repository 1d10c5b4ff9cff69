/* norms.c - see norms.h. */
#include "cli/norms.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli/progress.h"
#include "cli/side.h"
#include "cli/signals.h"
#include "view/view.h"

/* The first tensor of that name, in whatever set; SIZE_MAX: there is none. */
static size_t find_tensor(const struct ckpt_contents *contents, const char *fqn)
{
	for (size_t i = 0; i < contents->tensor_count; i++) {
		if (strcmp(contents->tensors[i].fqn, fqn) == 0)
			return i;
	}
	return SIZE_MAX;
}

static int norm_of(const struct side *side, const char *fqn, double *out, struct ckpt_err *err)
{
	size_t idx = find_tensor(ckpt_views_contents(side->views), fqn);
	const struct ckpt_stats_request request = { .views = side->views,
						    .reader = side->reader,
						    .tensors = &idx,
						    .tensor_count = 1,
						    .progress = progress_update };
	struct ckpt_stats stats;
	int rc;

	*out = NAN;
	if (idx == SIZE_MAX)
		return 0;
	rc = ckpt_tensors_stats(&request, &stats, err);
	if (rc == 0)
		*out = ckpt_stats_norm(&stats);
	return rc;
}

static int read_checkpoint(const struct ckpt_store *store, const char *name,
			   const struct option_list *fqns, double *out, struct ckpt_err *err)
{
	struct cli_checkpoint checkpoint = { .dirfd = -1, .state = CKPT_STATE_COMMITTED };
	struct side side = SIDE_INIT;
	int rc = ckpt_store_open_checkpoint(store, name, &checkpoint.dirfd, err);

	ckpt_buf_init(&checkpoint.waits_for);
	if (rc == 0) {
		checkpoint.place.name = strdup(name);
		if (!checkpoint.place.name)
			rc = ckpt_err_set(err, -ENOMEM, "out of memory while reading '%s'", name);
	}
	if (rc == 0)
		rc = side_read(&checkpoint, &side, err);
	for (size_t i = 0; rc == 0 && i < fqns->count; i++)
		rc = norm_of(&side, fqns->items[i], &out[i], err);
	side_release(&side);
	cli_checkpoint_release(&checkpoint);
	return rc;
}

/* Each must be somewhere. */
static int check_found(const struct norms *norms, size_t checkpoint_count,
		       const struct option_list *fqns, struct ckpt_err *err)
{
	for (size_t i = 0; i < fqns->count; i++) {
		bool found = false;

		for (size_t k = 0; k < checkpoint_count; k++)
			found = found || !isnan(norms->values[k * norms->tensor_count + i]);
		if (!found)
			return ckpt_err_set(
				err, -ENOENT,
				"no checkpoint here has a tensor '%s'; 'ckptfs show --tensors' lists them",
				fqns->items[i]);
	}
	return 0;
}

int norms_load(const struct ckpt_place *place, const struct history *history,
	       const struct option_list *fqns, struct norms *out, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	uint64_t count;
	int rc;

	*out = (struct norms){ .tensor_count = fqns->count };
	if (fqns->count == 0)
		return 0;
	if (!num_mul(history->count, fqns->count, &count))
		return ckpt_err_set(err, -ENOMEM, "out of memory while plotting");
	out->values = array_alloc(num_max(count, 1), sizeof(*out->values));
	if (!out->values)
		return ckpt_err_set(err, -ENOMEM, "out of memory while plotting");
	rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);
	signals_catch();
	progress_start("reading tensors");
	for (size_t i = 0; rc == 0 && i < history->count; i++)
		rc = read_checkpoint(store, history->items[i].found->name, fqns,
				     out->values + i * fqns->count, err);
	progress_end();
	ckpt_store_free(store);
	return rc < 0 ? rc : check_found(out, history->count, fqns, err);
}

void norms_release(struct norms *norms)
{
	free(norms->values);
	*norms = (struct norms){ .values = NULL };
}
