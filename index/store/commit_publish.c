/*
 * commit_publish.c - steps 5 and 6 of a commit: the manifest gets its name, then
 * the folder its lasting one. What had that name goes to the trash right before
 * the rename, and comes back where the rename fails.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

bool ckpt_commit_is_temporary(const struct ckpt_commit *commit)
{
	return strcmp(commit->name, commit->final_name.data) != 0;
}

/* --- the lasting name, before it is taken --------------------------------------------------- */

static bool target_is_committed(const struct ckpt_commit *commit)
{
	struct stat st;

	return ckpt_manifest_stat(ckpt_store_fd(commit->store), commit->final_name.data, &st) == 0;
}

/* A pinned one is never removed: said now, and not after hours of hashing. */
static int check_unpinned(const struct ckpt_commit *commit, struct ckpt_err *err)
{
	const char *name = commit->final_name.data;
	struct ckpt_manifest_peek peek;
	CKPT_CLOSE int fd = -1;
	bool pinned;
	int rc = ckpt_store_open_checkpoint(commit->store, name, &fd, err);

	if (rc == 0)
		rc = ckpt_manifest_peek(fd, name, &peek, err);
	if (rc < 0)
		return rc;
	pinned = ckpt_is_pinned(commit->store, peek.head.id);
	ckpt_manifest_head_release(&peek.head);
	if (pinned)
		return ckpt_err_set(
			err, -EPERM,
			"cannot commit '%s': '%s' is pinned and cannot be replaced; run 'ckptfs unpin %s' first, or take another name",
			commit->name, name, name);
	return 0;
}

int ckpt_commit_check_target(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const char *name = commit->final_name.data;
	CKPT_CLOSE int parent = -1;
	int rc = ckpt_open_check_place(commit->store, name, err);

	if (rc < 0)
		return rc;
	rc = ckpt_open_parent(commit->store, name, &parent);
	if (rc < 0)
		return ckpt_err_sys(err, rc,
				    "cannot commit '%s' as '%s': the folder that it would lie in",
				    commit->name, name);
	if (commit->options->replace && target_is_committed(commit))
		return check_unpinned(commit, err);
	return ckpt_open_check_free(commit->store, name, err);
}

/* --- step 5 ----------------------------------------------------------------------------------- */

static int cannot_write(const struct ckpt_commit *commit, int rc, struct ckpt_err *err)
{
	if (rc == -ENOSPC || rc == -EDQUOT)
		return ckpt_err_set(err, rc,
				    "cannot commit '%s': no space left for '%s/" CKPT_MANIFEST_TEMP
				    "'; free some and run 'ckptfs commit' again",
				    commit->name, commit->name);
	return ckpt_err_sys(err, rc, "cannot commit '%s': cannot write '%s/" CKPT_MANIFEST_TEMP "'",
			    commit->name, commit->name);
}

/*
 * Its control folder. It is the user's own, who may put a symbolic link in its place at any moment,
 * and root may be the one who commits: so nothing is written or removed by a path through it.
 */
static int open_control(const struct ckpt_commit *commit)
{
	return ckpt_io_openat(commit->dirfd, CKPT_CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
			      0);
}

/* The text as a durable file that reads back as it was written. */
static int write_temp(int control, const char *temp, const struct ckpt_buf *text)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf back;
	int rc = ckpt_io_unlinkat(control, temp, 0);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	fd = ckpt_io_openat(control, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	if (fd < 0)
		return fd;
	rc = ckpt_io_pwrite_full(fd, text->data, text->len_bytes, 0);
	if (rc == 0)
		rc = ckpt_io_fsync(fd);
	if (rc < 0)
		return rc;
	ckpt_buf_init(&back);
	rc = ckpt_io_read_file(control, temp, text->len_bytes, &back, NULL);
	if (rc == 0 && (back.len_bytes != text->len_bytes ||
			memcmp(back.data, text->data, text->len_bytes) != 0))
		rc = -EIO;
	ckpt_buf_release(&back);
	return rc;
}

/* What fails here the next commit finds and finishes. */
void ckpt_commit_unpublish(const struct ckpt_commit *commit)
{
	CKPT_CLOSE int control = open_control(commit);

	if (control < 0)
		return;
	ckpt_ignore(ckpt_io_unlinkat(control, ckpt_path_basename(CKPT_MANIFEST_FILE), 0));
	ckpt_ignore(ckpt_io_sync_dir(control, "."));
}

/* Step 5. */
static int publish_manifest(const struct ckpt_commit *commit, const struct ckpt_buf *text,
			    struct ckpt_err *err)
{
	const char *temp = ckpt_path_basename(CKPT_MANIFEST_TEMP);
	CKPT_CLOSE int control = open_control(commit);
	int rc = control < 0 ? control : write_temp(control, temp, text);

	if (rc == 0)
		rc = ckpt_io_renameat(control, temp, control,
				      ckpt_path_basename(CKPT_MANIFEST_FILE));
	if (rc < 0) {
		/*
		 * The failure to write is the one to tell; what stays is replaced by the next
		 * commit.
		 */
		if (control >= 0)
			ckpt_ignore(ckpt_io_unlinkat(control, temp, 0));
		return cannot_write(commit, rc, err);
	}
	rc = ckpt_io_sync_dir(control, ".");
	if (rc < 0) {
		ckpt_commit_unpublish(commit);
		return ckpt_err_sys(err, rc,
				    "cannot commit '%s': cannot make '%s/" CKPT_MANIFEST_FILE
				    "' durable",
				    commit->name, commit->name);
	}
	return 0;
}

/* --- step 6 ----------------------------------------------------------------------------------- */

static int cannot_rename(const struct ckpt_commit *commit, int rc, struct ckpt_err *err)
{
	if (rc == -ENOTEMPTY || rc == -EEXIST || rc == -ENOTDIR)
		return ckpt_err_set(
			err, -EEXIST,
			"cannot commit '%s': '%s' came to be meanwhile; move that away and run 'ckptfs commit' again",
			commit->name, commit->final_name.data);
	return ckpt_err_sys(err, rc, "cannot commit '%s': cannot rename it to '%s'", commit->name,
			    commit->final_name.data);
}

/* A rename never replaces a folder that is not empty. */
static int rename_folder(const struct ckpt_commit *commit, struct ckpt_err *err)
{
	const char *from = ckpt_path_basename(commit->name);
	const char *to = ckpt_path_basename(commit->final_name.data);
	CKPT_CLOSE int old_parent = -1;
	CKPT_CLOSE int parent = -1;
	int rc = ckpt_open_parent(commit->store, commit->name, &old_parent);

	if (rc == 0)
		rc = ckpt_open_parent(commit->store, commit->final_name.data, &parent);
	if (rc == 0)
		rc = ckpt_io_renameat(old_parent, from, parent, to);
	if (rc < 0)
		return cannot_rename(commit, rc, err);
	/* The new name first: a crash may leave it two names, but never none. */
	rc = ckpt_io_sync_dir(parent, ".");
	if (rc == 0)
		rc = ckpt_io_sync_dir(old_parent, ".");
	if (rc < 0) {
		/*
		 * Not durable is not committed. If this fails too it is committed, and only a
		 * power cut could tell.
		 */
		ckpt_ignore(ckpt_io_renameat(parent, to, old_parent, from));
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot make its new name durable",
				    commit->name);
	}
	return 0;
}

/* Where it cannot come back, say where it is. */
static int bring_back(struct ckpt_commit *commit, const char *room, int rc, struct ckpt_err *err)
{
	struct ckpt_buf name;
	int back;

	ckpt_buf_init(&name);
	back = ckpt_trash_restore(commit->store, room, &name, NULL);
	ckpt_buf_release(&name);
	if (back == 0)
		return rc;
	return ckpt_err_prefix(
		err, rc,
		"the checkpoint '%s' that was to be replaced is in the trash; bring it back with 'ckptfs undelete %s'",
		commit->final_name.data, commit->final_name.data);
}

int ckpt_commit_publish_name(struct ckpt_commit *commit, struct ckpt_err *err)
{
	struct ckpt_buf room;
	bool replaced = commit->options->replace && target_is_committed(commit);
	int rc = 0;

	ckpt_buf_init(&room);
	if (replaced)
		rc = ckpt_trash_remove(commit->store, commit->final_name.data, &room, err);
	if (rc < 0) {
		ckpt_err_prefix(err, rc, "cannot commit '%s'", commit->name);
	} else {
		rc = rename_folder(commit, err);
		if (rc < 0 && replaced)
			rc = bring_back(commit, room.data, rc, err);
	}
	ckpt_buf_release(&room);
	return rc;
}

int ckpt_commit_publish(struct ckpt_commit *commit, const struct ckpt_buf *text,
			struct ckpt_err *err)
{
	int rc = publish_manifest(commit, text, err);

	if (rc < 0 || !ckpt_commit_is_temporary(commit))
		return rc;
	rc = ckpt_commit_publish_name(commit, err);
	if (rc < 0)
		ckpt_commit_unpublish(commit);
	return rc;
}
