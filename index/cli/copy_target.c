/* copy_target.c - see copy_target.h. */
#include "cli/copy_target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "cli/cli.h"

#define PARTIAL_SUFFIX ".partial"

static int out_of_memory(struct ckpt_err *err)
{
	ckpt_err_set(err, -ENOMEM, "out of memory");
	return -ENOMEM;
}

/* The folder that @dest lies in, and its last component; a dest of "x" lies in ".". */
static void split_path(const char *dest, struct target *out)
{
	size_t len = strlen(dest);
	size_t dir_len;

	while (len > 1 && dest[len - 1] == '/')
		len--;
	dir_len = len;
	while (dir_len > 0 && dest[dir_len - 1] != '/')
		dir_len--;
	out->name = strndup(dest + dir_len, len - dir_len);
	while (dir_len > 1 && dest[dir_len - 1] == '/')
		dir_len--;
	out->dir = dir_len > 0 ? strndup(dest, dir_len) : strdup(".");
}

/* DEST/NAME where @dest is a folder, else @dest itself. */
static int split_dest(const char *dest, const char *source_name, struct target *out,
		      struct ckpt_err *err)
{
	struct stat st;

	if (stat(dest, &st) == 0 && S_ISDIR(st.st_mode)) {
		out->dir = strdup(dest);
		out->name = strdup(source_name);
	} else {
		split_path(dest, out);
	}
	if (!out->dir || !out->name)
		return out_of_memory(err);
	if (out->name[0] == '\0' || strcmp(out->name, ".") == 0 || strcmp(out->name, "..") == 0 ||
	    strcmp(out->name, CKPT_CONTROL_DIR) == 0)
		return ckpt_err_set(err, -EINVAL, "'%s' is no name for a copy; take another one",
				    dest);
	return 0;
}

/* The copy's name in the store whose folder @place is. */
static int name_in_store(struct ckpt_place *place, const char *name, struct ckpt_err *err)
{
	struct ckpt_buf whole;

	ckpt_buf_init(&whole);
	ckpt_path_join(&whole, place->name, name);
	free(place->name);
	place->name = ckpt_buf_steal(&whole);
	return place->name ? 0 : out_of_memory(err);
}

/* In which store, if any, the copy will lie; and not in a checkpoint that is final. */
static int place_target(struct target *target, struct ckpt_err *err)
{
	struct cli_checkpoint around;
	const struct cli cli = { .base = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = ckpt_place_find(target->dir, NULL, &target->place, &why);

	if (rc == -ENXIO)
		return 0;
	if (rc < 0)
		return ckpt_err_set(err, rc, "%s", why.msg);
	if (target->place.kind == CKPT_PLACE_STORE || target->place.kind == CKPT_PLACE_GROUP)
		return name_in_store(&target->place, target->name, err);
	target->in_checkpoint = true;
	rc = cli_checkpoint_open(&cli, target->dir, &around, err);
	if (rc == 0 && around.state == CKPT_STATE_COMMITTED)
		rc = ckpt_err_set(
			err, -EROFS,
			"'%s' lies in the committed checkpoint '%s', which never changes; copy to another place",
			target->dir, around.place.name);
	cli_checkpoint_release(&around);
	return rc;
}

int target_open(const char *dest, const char *name, bool is_checkpoint, struct target *out,
		struct ckpt_err *err)
{
	struct ckpt_buf path;
	struct stat st;
	int rc;

	*out = (struct target){ .dir = NULL };
	ckpt_buf_init(&path);
	rc = split_dest(dest, name, out, err);
	if (rc == 0) {
		ckpt_path_join(&path, out->dir, out->name);
		if (lstat(path.data, &st) == 0)
			rc = ckpt_err_set(
				err, -EEXIST,
				"'%s' exists, and is not overwritten; remove it, or copy to another name",
				path.data);
		else if (stat(out->dir, &st) < 0)
			rc = ckpt_err_sys(err, -errno,
					  "cannot copy to '%s': make its folder with 'mkdir -p %s'",
					  path.data, out->dir);
		else if (!S_ISDIR(st.st_mode))
			rc = ckpt_err_set(err, -ENOTDIR, "cannot copy to '%s': '%s' is no folder",
					  path.data, out->dir);
	}
	if (rc == 0)
		rc = place_target(out, err);
	if (rc == 0 && out->in_checkpoint && is_checkpoint)
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' lies in a checkpoint, and a checkpoint never contains another; copy to another place",
			path.data);
	ckpt_buf_release(&path);
	return rc;
}

void target_release(struct target *target)
{
	free(target->dir);
	free(target->name);
	ckpt_place_release(&target->place);
}

/* --- making it ------------------------------------------------------------------------------- */

/* The last step: never over what came to be there meanwhile. */
static int give_name(int dir_fd, const char *temp, const char *name, struct ckpt_err *err)
{
	struct stat st;
	int rc = 0;

	if (renameat2(dir_fd, temp, dir_fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return ckpt_err_sys(err, -errno, "cannot give the copy its name '%s'", name);
	/* A file system without the flag: look, then rename. */
	if (ckpt_io_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		rc = -EEXIST;
	else
		rc = ckpt_io_renameat(dir_fd, temp, dir_fd, name);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot give the copy its name '%s'", name) : 0;
}

int target_fill(const struct target *target,
		int (*fill)(void *ctx, int dir_fd, const char *temp, struct ckpt_err *err),
		void *ctx, struct ckpt_err *err)
{
	CKPT_CLOSE int dir_fd = ckpt_io_openat(AT_FDCWD, target->dir, O_RDONLY | O_DIRECTORY, 0);
	struct ckpt_buf temp;
	struct stat st;
	int rc;

	if (dir_fd < 0)
		return ckpt_err_sys(err, dir_fd, "cannot open folder '%s'", target->dir);
	ckpt_buf_init(&temp);
	ckpt_buf_printf(&temp, "%s" PARTIAL_SUFFIX, target->name);
	if (ckpt_io_fstatat(dir_fd, temp.data, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		rc = ckpt_err_set(
			err, -EEXIST,
			"'%s/%s' is in the way, from a copy that was killed or still runs; remove it if none runs",
			target->dir, temp.data);
		goto out;
	}
	rc = fill(ctx, dir_fd, temp.data, err);
	if (rc == 0)
		rc = give_name(dir_fd, temp.data, target->name, err);
	if (rc < 0) /* why it failed is the thing to tell */
		ckpt_ignore(ckpt_io_remove_tree(dir_fd, temp.data, NULL));
out:
	ckpt_buf_release(&temp);
	return rc;
}
