/*
 * resolve.h - from a path as typed to a real one, and what lies above it.
 * May be included only by index/store/{resolve,place,place_bare,store_init}.c.
 */
#ifndef CKPT_STORE_RESOLVE_H
#define CKPT_STORE_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/mountinfo.h"

/* A path without symlinks, ".", ".." and double slashes. */
struct ckpt_real {
	char *path;	  /* absolute; heap; the root is "/" */
	size_t known_len; /* bytes of it that name something that exists; what follows is only text */
	mode_t mode;	  /* type of that */
};

/**
 * ckpt_real_find - resolve @path
 * Symlinks are followed up to the first store on the way, not inside it: there a symlink is a
 * thing of its own.
 * Errors: -ENOTCONN a dead mount (the message says what to do); -ELOOP; else system. A path that
 * does not exist is no error.
 */
int ckpt_real_find(const char *path, struct ckpt_real *out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_real_release(struct ckpt_real *real);

/**
 * ckpt_real_climb - the lowest folder at or above the first @len bytes of @path that holds @file
 * @out_len: length of that folder's path; 1 is the root
 * Errors: -ENOENT there is none; -ENOTCONN; a folder that may not be entered counts as holding
 * nothing.
 */
int ckpt_real_climb(const char *path, size_t len, const char *file, size_t *out_len,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

struct ckpt_place;
/**
 * ckpt_bare_find - the checkpoint in no store that @real leads to or into
 * @typed: the path in messages; @looks: one without a manifest will do, if tensors are recognised
 * in it
 * @out: filled in as far as it goes, also on failure
 * Errors: -ENOENT it does not exist; -ENXIO nothing is recognised; else system.
 */
int ckpt_bare_find(const char *typed, const struct ckpt_real *real, bool looks,
		   struct ckpt_place *out, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_real_mount - the ckptfs mount that the existing part of @real lies in; NULL: in none. @list
 * is released by the caller.
 */
const struct ckpt_mount *ckpt_real_mount(const struct ckpt_real *real,
					 struct ckpt_mount_list *list);

#endif
