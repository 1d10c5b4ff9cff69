/* view_access.c - see view_access.h. */
#include "view_access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "store/store.h"

/* What r is for a file is x for a folder on the way to it. */
#define DIR_BITS(mode) (((mode)&0111U) << 2)

struct look {
	const struct ckpt_views *views;
	const struct ckpt_views_from *from;
	struct view_access *access;
	bool *seen; /* a source each */
};

/* Gone, or nothing that this process could read for anybody. */
static bool is_out_of_reach(int rc)
{
	return rc == -ENOENT || rc == -ENOTDIR || rc == -EACCES;
}

/*
 * What not all may read, not everybody may: he may be the owner, or in the group, that has less than
 * others. So its owner may if the mode lets him, its group if also the owner may, nobody else.
 */
static void narrow(struct view_access *access, const struct stat *st, mode_t bits)
{
	bool is_owner;
	mode_t may = 0;

	if ((bits & 0444U) == 0444U)
		return;
	if (!access->is_owned) {
		access->is_owned = true;
		access->uid = st->st_uid;
		access->gid = st->st_gid;
	}
	is_owner = st->st_uid == access->uid;
	if (is_owner)
		may |= bits & S_IRUSR;
	if (st->st_gid == access->gid && (is_owner || (bits & S_IRUSR)))
		may |= bits & S_IRGRP;
	access->mode &= may;
}

/* What was committed keeps the modes that it had then: @mode. */
static int narrow_committed(const struct look *look, const char *path, mode_t bits)
{
	struct stat st;
	int rc = 0;

	if ((bits & 0444U) == 0444U)
		return 0;
	rc = ckpt_io_fstatat(look->from->dirfd, path, &st, AT_SYMLINK_NOFOLLOW);
	/* In a pack, or a folder of what lies in packs: those are the checkpoint's owner's. */
	if (is_out_of_reach(rc))
		rc = ckpt_io_fstat(look->from->dirfd, &st);
	if (rc == 0)
		narrow(look->access, &st, bits);
	return rc;
}

static int narrow_plain(const struct look *look, int dirfd, const char *path, bool is_dir)
{
	struct stat st;
	int rc = ckpt_io_fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW);

	if (rc == 0)
		narrow(look->access, &st, is_dir ? DIR_BITS(st.st_mode) : st.st_mode);
	return is_out_of_reach(rc) ? 0 : rc;
}

/* The folders on the way to a file of a folder that was never committed. */
static int narrow_dirs(const struct look *look, const char *path)
{
	CKPT_FREE char *dir = strdup(path);
	int rc = dir ? 0 : -ENOMEM;

	for (char *at = dir; rc == 0 && (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		rc = narrow_plain(look, look->from->dirfd, dir, true);
		*at = '/';
	}
	return rc;
}

static int look_at_source(const struct look *look, uint32_t idx)
{
	struct ckpt_view_source source;
	int rc = 0;

	if (idx == CKPT_VIEW_NONE || look->seen[idx])
		return 0;
	look->seen[idx] = true;
	ckpt_views_source(look->views, idx, &source);
	if (source.is_outside)
		return narrow_plain(look, look->from->group_fd, source.path, false);
	if (source.shard)
		return narrow_committed(look, source.path, source.shard->mode);
	rc = narrow_dirs(look, source.path);
	return rc == 0 ? narrow_plain(look, look->from->dirfd, source.path, false) : rc;
}

static int look_at_tensors(const struct look *look)
{
	const struct ckpt_contents *contents = ckpt_views_contents(look->views);
	int rc = 0;

	for (size_t i = 0; i < contents->tensor_count; i++) {
		const struct ckpt_tensor *tensor = &contents->tensors[i];

		for (size_t k = 0; rc == 0 && k < tensor->chunk_count; k++)
			rc = look_at_source(look, ckpt_views_source_find(look->views,
									 tensor->chunks[k].shard));
	}
	return rc;
}

static int look_at_companions(const struct look *look)
{
	uint32_t count = ckpt_views_node_count(look->views);
	int rc = 0;

	for (uint32_t node = 0; rc == 0 && node < count; node++)
		rc = look_at_source(look, ckpt_views_companion(look->views, node));
	return rc;
}

static int look_at_dirs(const struct look *look)
{
	const struct ckpt_manifest *manifest = ckpt_views_manifest(look->views);
	int rc = 0;

	for (size_t i = 0; manifest && rc == 0 && i < manifest->dir_count; i++)
		rc = narrow_committed(look, manifest->dirs[i].path,
				      DIR_BITS(manifest->dirs[i].mode));
	return rc;
}

int view_access_of(const struct ckpt_views *views, const struct ckpt_views_from *from,
		   struct view_access *out)
{
	struct view_access access = { .mode = 0444 };
	CKPT_FREE bool *seen =
		array_alloc(num_max(ckpt_views_source_count(views), 1), sizeof(*seen));
	const struct look look = { views, from, &access, seen };
	int rc;

	if (!seen)
		return -ENOMEM;
	rc = look_at_tensors(&look);
	if (rc == 0)
		rc = look_at_companions(&look);
	if (rc == 0)
		rc = look_at_dirs(&look);
	if (rc == 0)
		*out = access;
	return rc;
}
