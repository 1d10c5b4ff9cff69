/*
 * norms.h - the L2 norms of tensors over the checkpoints of a history, for plots.
 */
#ifndef CKPT_CLI_NORMS_H
#define CKPT_CLI_NORMS_H

#include <stddef.h>

#include "base/err.h"
#include "cli/history.h"
#include "cli/options.h"

/* One value for each tensor of each checkpoint; NAN where it has no such tensor. */
struct norms {
	double *values; /* checkpoint after checkpoint, in the order of the history */
	size_t tensor_count;
};

/**
 * norms_load - read the tensors called @fqns of every checkpoint of @history
 * @place: where the history was loaded from
 * @out: norms_release() it, also after a failure
 * Reads all of them, with a progress bar. Errors: -ENOENT no checkpoint has a tensor of that name;
 * as ckpt_tensors_stats.
 */
int norms_load(const struct ckpt_place *place, const struct history *history,
	       const struct option_list *fqns, struct norms *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void norms_release(struct norms *norms);

#endif
