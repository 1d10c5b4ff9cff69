/*
 * import_tree.h - folders and symbolic links of an import; the files between them are copied by
 * all ranks.
 */
#ifndef CKPT_MPI_IMPORT_TREE_H
#define CKPT_MPI_IMPORT_TREE_H

#include "base/err.h"

/**
 * ckpt_import_make - make the folders and links of @from_fd in @to_fd; the control folder is left
 * out. Messages name @label.
 */
int ckpt_import_make(int from_fd, int to_fd, const char *label, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * ckpt_import_seal - give the folders the modes and mtimes they have in @from_fd, once everything
 * is in them.
 */
int ckpt_import_seal(int from_fd, int to_fd, const char *label, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
