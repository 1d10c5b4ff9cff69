/*
 * test_view.h - checkpoints for the tests of views whose every byte is known.
 */
#ifndef CKPT_TEST_VIEW_H
#define CKPT_TEST_VIEW_H

#include <stdint.h>

#include "view/view.h"

/**
 * test_view_make - write shards of random tensors into the folder @path, and a manifest that says
 * where their boxes are: cut in all ways, with and without strides, packed and not. Returns the exit status.
 */
int test_view_make(const char *path, uint64_t seed);
/** test_view_element - element number @idx of tensor @fqn, row-major; as much as its type is long. */
void test_view_element(const char *fqn, uint64_t idx, unsigned char out[16]);

#endif
