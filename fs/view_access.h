/*
 * view_access.h - who may read the views of a tree: who may read every file that they are made
 * from. One answer for all files of a tree; only modes count, as everywhere in the mount.
 */
#ifndef CKPT_FS_VIEW_ACCESS_H
#define CKPT_FS_VIEW_ACCESS_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/err.h"
#include "view/view.h"

struct view_access {
	mode_t mode;   /* of 0444 */
	bool is_owned; /* uid and gid are those of the first file that not everybody may read */
	uid_t uid;
	gid_t gid;
};

/**
 * view_access_of - look at the modes of what @views are made from, and of the folders it lies in
 * @from: where they lie. Errors: -ENOMEM; system.
 */
int view_access_of(const struct ckpt_views *views, const struct ckpt_views_from *from,
		   struct view_access *out) CKPT_MUST_CHECK;

#endif
