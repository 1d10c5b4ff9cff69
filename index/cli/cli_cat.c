/*
 * cli_cat.c - the bytes of a shard or view on standard output. Of a committed
 * checkpoint a block is written only after its sum was found right; files of
 * open checkpoints and loose files, which have no sums, come as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/tree.h"
#include "cli/view_of.h"
#include "view/view.h"

#define SUMS_FILE CKPT_CONTROL_DIR "/XXH128SUMS"
/* As many symbolic links one after the other as the kernel follows (path_resolution(7)). */
#define SYMLINK_MAX 40

static int copy_plain(int fd, const char *label, struct ckpt_err *err)
{
	CKPT_FREE char *buffer = array_alloc(CKPT_IO_CHUNK, 1);
	uint64_t at = 0;
	int rc = 0;

	if (!buffer)
		return ckpt_err_set(err, -ENOMEM, "out of memory while reading '%s'", label);
	while (rc == 0) {
		ssize_t got = ckpt_io_pread(fd, buffer, CKPT_IO_CHUNK, at);

		if (got < 0)
			return ckpt_err_sys(err, (int)got, "cannot read '%s'", label);
		if (got == 0)
			break;
		rc = cli_write(buffer, (size_t)got, err);
		at += (uint64_t)got;
	}
	return rc;
}

static int cat_plain(int dirfd, const char *path, const char *label, struct ckpt_err *err)
{
	/* NONBLOCK: a FIFO shall not keep us waiting for its writer. */
	CKPT_CLOSE int fd = ckpt_io_openat(dirfd, path, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s'", label);
	rc = ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at '%s'", label);
	if (S_ISDIR(st.st_mode))
		return ckpt_err_set(err, -EISDIR, "'%s' is a folder; list it with 'ckptfs ls'",
				    label);
	if (!S_ISREG(st.st_mode))
		return ckpt_err_set(err, -EINVAL, "'%s' is no regular file", label);
	return copy_plain(fd, label, err);
}

static int cat_blocks(const struct ckpt_shard_reader *reader, const struct ckpt_shard *shard,
		      struct ckpt_err *err)
{
	uint64_t count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	CKPT_FREE char *buffer = array_alloc(num_min(shard->block_bytes, shard->size_bytes), 1);
	int rc = 0;

	if (!buffer)
		return ckpt_err_set(err, -ENOMEM, "out of memory while reading '%s'", shard->path);
	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		size_t len;

		rc = ckpt_shard_reader_block(reader, i, buffer, &len, NULL, err);
		if (rc == 0)
			rc = cli_write(buffer, len, err);
	}
	return rc;
}

static int cat_shard(const struct cli_checkpoint *checkpoint, const struct ckpt_shard *shard,
		     struct ckpt_err *err)
{
	struct ckpt_shard_reader *reader = NULL;
	int rc = ckpt_shard_reader_open(checkpoint->dirfd, checkpoint->place.name, shard, &reader,
					err);

	if (rc == 0)
		rc = cat_blocks(reader, shard, err);
	ckpt_shard_reader_free(reader);
	return rc;
}

/* Where @target, met at @path, leads inside the checkpoint; -EXDEV outside of it. */
static int resolve_target(const char *path, const char *target, struct ckpt_buf *out)
{
	const char *slash = strrchr(path, '/');

	if (target[0] == '/')
		return -EXDEV;
	ckpt_buf_reset(out);
	ckpt_buf_add(out, path, slash ? (size_t)(slash - path) : 0);
	while (*target) {
		size_t len = strcspn(target, "/");

		if (len == 2 && strncmp(target, "..", 2) == 0) {
			char *up = strrchr(out->data, '/');

			if (out->len_bytes == 0)
				return -EXDEV;
			out->len_bytes = up ? (size_t)(up - out->data) : 0;
			out->data[out->len_bytes] = '\0';
		} else if (len > 0 && !(len == 1 && target[0] == '.')) {
			if (out->len_bytes > 0)
				ckpt_buf_add_char(out, '/');
			ckpt_buf_add(out, target, len);
		}
		target += len + (target[len] == '/');
	}
	return ckpt_buf_check(out);
}

/* What @path leads to by way of symbolic links; *@out is NULL where that is not there. */
static int follow(const struct tree *tree, const char *label, struct ckpt_buf *path,
		  const struct tree_entry **out, struct ckpt_err *err)
{
	for (unsigned int i = 0; i < SYMLINK_MAX; i++) {
		const struct tree_entry *entry = tree_find(tree, path->data);
		struct ckpt_buf next;
		int rc;

		if (!entry || entry->kind != TREE_SYMLINK) {
			*out = entry;
			return 0;
		}
		ckpt_buf_init(&next);
		rc = resolve_target(entry->path, entry->target, &next);
		if (rc < 0) {
			ckpt_buf_release(&next);
			return ckpt_err_set(
				err, rc,
				"symbolic link '%s' in '%s' leads out of the checkpoint, to '%s'",
				entry->path, label, entry->target);
		}
		ckpt_buf_release(path);
		*path = next;
	}
	return ckpt_err_set(err, -ELOOP, "symbolic link '%s' in '%s' leads in a circle", path->data,
			    label);
}

static int cat_entry(const struct cli_checkpoint *checkpoint, const struct tree *tree,
		     struct ckpt_err *err)
{
	const char *label = checkpoint->place.name;
	const struct tree_entry *entry = NULL;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_add_str(&path, checkpoint->place.inner);
	rc = follow(tree, label, &path, &entry, err);
	if (rc == 0 && !entry)
		rc = ckpt_err_set(err, -ENOENT,
				  "there is no '%s' in '%s'; see what is with 'ckptfs ls %s'",
				  path.data, label, checkpoint->place.folder);
	else if (rc == 0 && entry->kind == TREE_DIR)
		rc = ckpt_err_set(err, -EISDIR, "'%s/%s' is a folder; list it with 'ckptfs ls'",
				  label, path.data);
	else if (rc == 0)
		rc = cat_shard(checkpoint, entry->shard, err);
	ckpt_buf_release(&path);
	return rc;
}

static int cat_sums(const struct ckpt_manifest *manifest, struct ckpt_err *err)
{
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	rc = ckpt_view_sums_manifest(manifest, &text);
	if (rc == 0)
		rc = cli_write(text.data, text.len_bytes, err);
	else
		rc = ckpt_err_sys(err, rc, "cannot make '%s'", SUMS_FILE);
	ckpt_buf_release(&text);
	return rc;
}

static int cat_committed(const struct cli_checkpoint *checkpoint, struct ckpt_err *err)
{
	const char *inner = checkpoint->place.inner;
	struct tree tree = { .committed = false };
	struct ckpt_buf label;
	int rc = tree_load(checkpoint, &tree, err);

	ckpt_buf_init(&label);
	if (rc < 0)
		goto out;
	if (strcmp(inner, CKPT_MANIFEST_FILE) == 0) {
		ckpt_path_join(&label, checkpoint->place.name, inner);
		rc = cat_plain(checkpoint->dirfd, inner, label.data, err);
	} else if (strcmp(inner, SUMS_FILE) == 0) {
		rc = cat_sums(&tree.manifest, err);
	} else {
		rc = cat_entry(checkpoint, &tree, err);
	}
out:
	ckpt_buf_release(&label);
	tree_release(&tree);
	return rc;
}

static int cat_view(const struct cli_checkpoint *checkpoint, struct ckpt_err *err)
{
	struct view_of view;
	int rc = view_of_open(checkpoint, &view, err);

	if (rc == 0)
		rc = view_of_cat(&view, err);
	view_of_release(&view);
	return rc;
}

static int cat_in_checkpoint(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct cli_checkpoint checkpoint;
	int rc = cli_checkpoint_open(cli, path, &checkpoint, err);

	if (rc == 0 && checkpoint.place.kind == CKPT_PLACE_CHECKPOINT)
		rc = ckpt_err_set(
			err, -EISDIR,
			"'%s' is a checkpoint; name a shard in it, as 'ckptfs ls %s' lists them",
			path, path);
	else if (rc == 0 && view_is_path(checkpoint.place.inner))
		rc = cat_view(&checkpoint, err);
	else if (rc == 0 && checkpoint.state == CKPT_STATE_COMMITTED)
		rc = cat_committed(&checkpoint, err);
	else if (rc == 0 && ckpt_path_is_below(checkpoint.place.inner, CKPT_CONTROL_DIR))
		rc = ckpt_err_set(err, -ENOENT,
				  "there is no '%s' in '%s': a commit makes it, and it is %s",
				  checkpoint.place.inner, checkpoint.place.name,
				  ckpt_state_name(checkpoint.state));
	else if (rc == 0)
		rc = cat_plain(checkpoint.dirfd, checkpoint.place.inner, path, err);
	cli_checkpoint_release(&checkpoint);
	return rc;
}

static int cat_loose(const struct ckpt_place *place, const char *path, struct ckpt_err *err)
{
	struct ckpt_buf stored;
	int rc;

	ckpt_buf_init(&stored);
	ckpt_path_join(&stored, place->store_path, place->name);
	rc = cat_plain(AT_FDCWD, stored.data, path, err);
	ckpt_buf_release(&stored);
	return rc;
}

static int cat(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place_look(cli, path, &place, err);

	if (rc == 0 && place.kind == CKPT_PLACE_LOOSE)
		rc = cat_loose(&place, path, err);
	else if (rc == 0)
		rc = cat_in_checkpoint(cli, path, err);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, cat);
}

const struct cli_command cli_cat_command = {
	.name = "cat",
	.args = "PATH",
	.summary = "the bytes of a shard or view, verified",
	.details =
		"PATH is a shard (packed ones too), .ckptfs/manifest.jsonl or .ckptfs/XXH128SUMS of\n"
		"a committed checkpoint, or a view, as .ckptfs/safetensors/all.safetensors, that\n"
		"'ckptfs ls CHECKPOINT/.ckptfs' lists. The checkpoint lies in a mount, in a store,\n"
		"or in no store: any folder that holds tensors. A block leaves only after its sum was found right: at\n"
		"damage the output ends before the damaged block, with exit code 1. Files of open\n"
		"checkpoints and loose files have no sums and come as they are.\n",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
