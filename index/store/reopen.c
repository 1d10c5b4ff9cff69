/*
 * reopen.c - a checkpoint that a completion rule committed too early is open
 * again. Its manifest stays beside as `manifest.reopened`, which nobody reads: it
 * tells people what happened, and the next commit removes it.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/rules.h"
#include "store/store.h"
#include "store/store_internal.h"

int ckpt_manifest_stamps(const struct ckpt_store *store, const char *name, struct ckpt_stamps *out)
{
	struct stat st;
	int rc = ckpt_manifest_stat(ckpt_store_fd(store), name, &st);

	if (rc == 0)
		*out = ckpt_stamps_of(&st);
	return rc;
}

static int refuse(const char *name, const char *why, struct ckpt_err *err)
{
	return ckpt_err_set(err, -EROFS, "'%s' is committed and stays so: %s", name, why);
}

static int check_pin(const struct ckpt_store *store, int dirfd, const char *name,
		     struct ckpt_err *err)
{
	struct ckpt_manifest_peek peek = { 0 };
	int rc = ckpt_manifest_peek(dirfd, name, &peek, err);

	if (rc == 0 && ckpt_is_pinned(store, peek.head.id))
		rc = refuse(name, "it is pinned; 'ckptfs unpin' it first", err);
	ckpt_manifest_head_release(&peek.head);
	return rc;
}

/* Nobody but this process has a reason to touch a manifest between our look and the rename. */
static int set_aside(int dirfd, const char *name, const struct ckpt_stamps *made,
		     struct ckpt_err *err)
{
	CKPT_CLOSE int control = -1;
	struct ckpt_stamps stamps;
	struct stat st;
	int rc = ckpt_manifest_stat(dirfd, "", &st);

	if (rc == 0) {
		stamps = ckpt_stamps_of(&st);
		if (!ckpt_stamps_equal(&stamps, made))
			return refuse(name, "somebody else committed it", err);
		/* By no path: its owner may put a symbolic link there at any moment. */
		rc = control = ckpt_io_openat(dirfd, CKPT_CONTROL_DIR,
					      O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (rc >= 0)
		rc = ckpt_io_renameat(control, ckpt_path_basename(CKPT_MANIFEST_FILE), control,
				      ckpt_path_basename(CKPT_MANIFEST_REOPENED));
	if (rc == 0)
		rc = ckpt_io_sync_dir(control, ".");
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot open '%s' again", name);
	return 0;
}

/* The index finds out at the next look-up; this is that. */
static void tell_index(struct ckpt_store *store, const char *name)
{
	struct ckpt_db_checkpoint row;

	if (ckpt_store_lookup(store, name, &row, NULL) == 0)
		ckpt_db_checkpoint_release(&row);
}

int ckpt_reopen(struct ckpt_store *store, const char *name, const struct ckpt_stamps *made,
		struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	int rc = ckpt_store_open_checkpoint(store, name, &fd, err);

	if (rc == 0)
		rc = check_pin(store, fd, name, err);
	if (rc == 0)
		rc = set_aside(fd, name, made, err);
	if (rc == 0)
		tell_index(store, name);
	return rc;
}
