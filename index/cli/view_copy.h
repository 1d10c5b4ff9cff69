/*
 * view_copy.h - views into files of their own, read on all cores.
 */
#ifndef CKPT_CLI_VIEW_COPY_H
#define CKPT_CLI_VIEW_COPY_H

#include "base/err.h"
#include "cli/view_of.h"

/**
 * view_copy - copy the view, or the folder of views, @view to @dest, as cp -r does
 * Files get mode 0644. Nothing is overwritten; after a failure or a signal nothing is left.
 * Errors: as target_open, ckpt_view_read; -ENOSPC; -ECANCELED.
 */
int view_copy(const struct view_of *view, const char *dest, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
