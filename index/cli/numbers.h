/*
 * numbers.h - what is known of the numbers in tensors, for display.
 */
#ifndef CKPT_CLI_NUMBERS_H
#define CKPT_CLI_NUMBERS_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/options.h"

/**
 * numbers_print_all - a line of statistics for each tensor of @checkpoint
 * Reads all of it, with a progress bar. Errors: as ckpt_tensors_stats.
 */
int numbers_print_all(const struct cli_checkpoint *checkpoint, bool json, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * numbers_print_some - all that is known of the tensors called @fqns, with a histogram of each
 * Errors: -ENOENT no tensor is called so (the message names one that is near).
 */
int numbers_print_some(const struct cli_checkpoint *checkpoint, const struct option_list *fqns,
		       bool json, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
