/*
 * tensor_list.h - the tensors of a checkpoint, printed: one a line, or as a tree of their FQNs, cut
 * at the dots.
 */
#ifndef CKPT_CLI_TENSOR_LIST_H
#define CKPT_CLI_TENSOR_LIST_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/inventory.h"

/** tensor_list_print - a table, to stdout. Errors: -ENOMEM. */
int tensor_list_print(const struct inventory *inventory, bool json, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * tensor_list_print_tree - each level indented, with the count and the bytes of what is below
 * @json: an array of {"set","path","tensors","bytes"}, one for each inner node
 * Names that only lead on to one another are one level. Errors: -ENOMEM; system.
 */
int tensor_list_print_tree(const struct inventory *inventory, bool json, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
