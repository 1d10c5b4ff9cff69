/*
 * cli_cp.c - copy a checkpoint, a part of one, or a loose file, as cp -r does;
 * what is committed is verified on the way.
 *
 * The copy grows under DEST.partial and gets its name at the end, so that DEST
 * is whole or is not there. Outside a store, and inside an open checkpoint, it
 * is plain files. A whole committed checkpoint copied into a store takes its
 * packs and its manifest along and is committed there too: it goes the way of
 * every writer, from ckpt_open_begin() to ckpt_commit(), which finds the
 * manifest and only has to publish the name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/copy.h"
#include "cli/copy_target.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/tree.h"
#include "cli/view_copy.h"
#include "cli/view_of.h"

#define MANIFEST_MODE 0644U

/* What is copied. */
struct source {
	struct cli_checkpoint checkpoint; /* dirfd: also of the folder that holds a loose file */
	bool is_view;			  /* then what is copied is @view, and there is no tree */
	struct view_of view;
	struct tree tree;
	const char *top;  /* path of what is copied in the tree; "": all of it */
	const char *name; /* its last component */
	uint64_t file_count;
	uint64_t size_bytes;
};

/* --- from ------------------------------------------------------------------------------- */

static int open_loose(const struct ckpt_place *place, struct source *out, struct ckpt_err *err)
{
	int fd = ckpt_io_openat(AT_FDCWD, place->store_path, O_RDONLY | O_DIRECTORY, 0);
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open store '%s'", place->store_path);
	out->checkpoint.dirfd = fd;
	rc = tree_load_file(fd, place->name, &out->tree, err);
	if (rc == 0)
		out->top = out->tree.entries[0].path;
	return rc;
}

static int open_part(const char *path, struct source *out, struct ckpt_err *err)
{
	int rc;

	if (view_is_path(out->checkpoint.place.inner)) {
		out->is_view = true;
		return view_of_open(&out->checkpoint, &out->view, err);
	}
	rc = tree_load(&out->checkpoint, &out->tree, err);

	out->top = out->checkpoint.place.inner;
	if (rc < 0 || out->top[0] == '\0')
		return rc;
	if (ckpt_path_is_below(out->top, CKPT_CONTROL_DIR))
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is part of the control folder; print it with 'ckptfs cat %s'", path,
			path);
	if (!tree_find(&out->tree, out->top))
		return ckpt_err_set(err, -ENOENT,
				    "there is no '%s' in '%s'; see what is with 'ckptfs ls %s'",
				    out->top, out->checkpoint.place.name,
				    out->checkpoint.place.folder);
	return 0;
}

static int source_open(const struct cli *cli, const char *path, struct source *out,
		       struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc;

	*out = (struct source){ .checkpoint = { .dirfd = -1 }, .top = "" };
	ckpt_buf_init(&out->checkpoint.waits_for);
	rc = cli_place_look(cli, path, &place, err);
	if (rc < 0)
		return rc;
	if (place.kind == CKPT_PLACE_STORE || place.kind == CKPT_PLACE_GROUP) {
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is %s; copy its checkpoints one by one, as 'ckptfs ls %s' lists them",
			path, cli_place_describe(place.kind), path);
	} else if (place.kind == CKPT_PLACE_LOOSE) {
		rc = open_loose(&place, out, err);
		out->checkpoint.place = place;
		place = (struct ckpt_place){ .name = NULL };
	} else {
		rc = cli_checkpoint_open(cli, path, &out->checkpoint, err);
		if (rc == 0)
			rc = open_part(path, out, err);
	}
	ckpt_place_release(&place);
	if (rc < 0 || out->is_view)
		return rc;
	out->name = ckpt_path_basename(out->top[0] ? out->top : out->checkpoint.place.name);
	tree_sum(&out->tree, out->top, &out->file_count, &out->size_bytes);
	return 0;
}

static void source_release(struct source *source)
{
	view_of_release(&source->view);
	tree_release(&source->tree);
	cli_checkpoint_release(&source->checkpoint);
}

/* --- the work -------------------------------------------------------------------------------- */

/* Path of @entry below what is copied; NULL for that itself and for what lies elsewhere. */
static const char *below_top(const struct source *source, const struct tree_entry *entry)
{
	size_t top_len = strlen(source->top);

	if (top_len == 0)
		return entry->path;
	if (!ckpt_path_is_below(entry->path, source->top) || entry->path[top_len] == '\0')
		return NULL;
	return entry->path + top_len + 1;
}

/* Everything in the tree below the top, into the folder @to_fd. */
static int copy_inside(struct copy *copy, const struct source *source, int to_fd,
		       struct ckpt_err *err)
{
	const struct tree *tree = &source->tree;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < tree->count; i++) {
		const char *path = below_top(source, &tree->entries[i]);

		if (path)
			rc = copy_entry(copy, &tree->entries[i], to_fd, path, err);
	}
	/*
	 * Inner folders before outer ones: a mode may close a folder, and what is made in it
	 * changes its time.
	 */
	for (size_t i = tree->count; rc == 0 && i > 0; i--) {
		const struct tree_entry *entry = &tree->entries[i - 1];
		const char *path = below_top(source, entry);

		if (path && entry->kind == TREE_DIR)
			rc = copy_finish_dir(copy, entry, to_fd, path, err);
	}
	return rc;
}

static int copy_folder(struct copy *copy, const struct source *source, int dir_fd, const char *temp,
		       struct ckpt_err *err)
{
	CKPT_CLOSE int to_fd = -1;
	int rc = ckpt_io_mkdirat(dir_fd, temp, 0700);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make folder '%s'", temp);
	to_fd = ckpt_io_openat(dir_fd, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (to_fd < 0)
		return ckpt_err_sys(err, to_fd, "cannot open folder '%s'", temp);
	rc = copy_inside(copy, source, to_fd, err);
	if (rc == 0)
		rc = copy_finish_dir(copy,
				     source->top[0] ? tree_find(&source->tree, source->top) : NULL,
				     dir_fd, temp, err);
	return rc;
}

struct plain_copy {
	struct copy *copy;
	const struct source *source;
};

static int fill_plainly(void *ctx, int dir_fd, const char *temp, struct ckpt_err *err)
{
	const struct plain_copy *plain = ctx;
	const struct source *source = plain->source;
	const struct tree_entry *entry = source->top[0] ? tree_find(&source->tree, source->top)
							: NULL;

	if (entry && entry->kind != TREE_DIR)
		return copy_entry(plain->copy, entry, dir_fd, temp, err);
	return copy_folder(plain->copy, source, dir_fd, temp, err);
}

/* As plain files. */
static int copy_plainly(const struct source *source, const struct target *target, struct copy *copy,
			struct ckpt_err *err)
{
	struct plain_copy plain = { .copy = copy, .source = source };

	return target_fill(target, fill_plainly, &plain, err);
}

/* The manifest last, and under its name only when all it speaks of is durable. */
static int copy_manifest(struct copy *copy, int to_fd, struct ckpt_err *err)
{
	char path[] = CKPT_MANIFEST_FILE;
	struct tree_entry manifest = { .kind = TREE_FILE, .path = path, .mode = MANIFEST_MODE };
	struct timespec now = { .tv_sec = 0 };
	struct stat st;
	int rc = ckpt_io_fstatat(copy->from_fd, path, &st, AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at the manifest of '%s'", copy->label);
	/* Its own time, not the original's: the commit takes it for that of the files only if they are older. */
	ckpt_ignore(clock_gettime(CLOCK_REALTIME, &now)); /* always there */
	manifest.mtime_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	copy->total_bytes += (uint64_t)st.st_size;
	rc = copy_entry(copy, &manifest, to_fd, CKPT_MANIFEST_TEMP, err);
	if (rc < 0)
		return rc;
	rc = ckpt_io_syncfs(to_fd);
	if (rc == 0)
		rc = ckpt_io_renameat(to_fd, CKPT_MANIFEST_TEMP, to_fd, CKPT_MANIFEST_FILE);
	if (rc == 0)
		rc = ckpt_io_sync_dir(to_fd, CKPT_CONTROL_DIR);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make the copy of '%s' durable", copy->label);
	return 0;
}

static int fill_open(struct ckpt_store *store, const char *open_name, const struct source *source,
		     struct copy *copy, struct ckpt_err *err)
{
	CKPT_CLOSE int path_fd = -1;
	CKPT_CLOSE int to_fd = -1;
	struct ckpt_commit_result result = { .name = NULL };
	int rc = ckpt_store_open_checkpoint(store, open_name, &path_fd, err);

	if (rc < 0)
		return rc;
	to_fd = ckpt_io_openat(path_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	if (to_fd < 0)
		return ckpt_err_sys(err, to_fd, "cannot open '%s'", open_name);
	copy->keep_packs = true;
	copy->store = store;
	copy->open_name = open_name;
	rc = copy_inside(copy, source, to_fd, err);
	if (rc == 0)
		rc = copy_manifest(copy, to_fd, err);
	if (rc == 0)
		rc = copy_finish_dir(copy, NULL, to_fd, ".", err);
	if (rc == 0)
		rc = ckpt_commit(store, open_name, NULL, &result, err);
	free(result.name);
	return rc;
}

/* A whole committed checkpoint into a store: committed there too. */
static int copy_into_store(const struct source *source, const struct target *target,
			   struct copy *copy, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	struct ckpt_buf open_name;
	int rc;

	if (cli_place_covered(&target->place))
		return ckpt_err_set(
			err, -EROFS,
			"'%s' is covered by its mount, which makes no control folders; 'ckptfs umount %s' and copy again",
			target->place.store_path, target->place.mount_path);
	ckpt_buf_init(&open_name);
	rc = ckpt_store_open(target->place.store_path, 0, NULL, &store, err);
	if (rc == 0)
		rc = ckpt_open_begin(store, target->place.name, &open_name, err);
	if (rc == 0) {
		rc = fill_open(store, open_name.data, source, copy, err);
		/*
		 * Ours alone, and perhaps on a full disk: removed in place, not by way of the
		 * trash.
		 */
		if (rc < 0)
			ckpt_ignore(
				ckpt_io_remove_tree(ckpt_store_fd(store), open_name.data, NULL));
	}
	if (rc == 0)
		mount_refresh(&target->place, target->place.name);
	ckpt_buf_release(&open_name);
	ckpt_store_free(store);
	return rc;
}

static int copy_source(const struct source *source, const char *dest, struct ckpt_err *err)
{
	const struct cli_checkpoint *checkpoint = &source->checkpoint;
	bool whole = source->top[0] == '\0' && checkpoint->state == CKPT_STATE_COMMITTED;
	struct target target;
	struct ckpt_buf label;
	struct copy copy;
	int rc = target_open(dest, source->name, source->top[0] == '\0', &target, err);

	if (rc == 0) {
		ckpt_buf_init(&label);
		ckpt_buf_printf(&label, "copying %s", source->name);
		progress_start(label.data);
		copy_init(&copy, checkpoint->dirfd, checkpoint->place.name, source->size_bytes);
		copy.to_label = target.name;
		rc = whole && target.place.store_path ? copy_into_store(source, &target, &copy, err)
						      : copy_plainly(source, &target, &copy, err);
		copy_release(&copy);
		progress_end();
		ckpt_buf_release(&label);
	}
	target_release(&target);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	const struct option_row rows[] = { OPTION_END };
	struct source source;
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	signals_catch();
	rc = source_open(cli, args.items[0], &source, &err);
	if (rc == 0)
		rc = source.is_view ? view_copy(&source.view, args.items[1], &err)
				    : copy_source(&source, args.items[1], &err);
	source_release(&source);
	return rc < 0 ? cli_report(&err) : CLI_OK;
}

const struct cli_command cli_cp_command = {
	.name = "cp",
	.args = "PATH DEST",
	.summary = "copy a checkpoint or a part of one, verified",
	.details =
		"As 'cp -r': to DEST/NAME if DEST is a folder. PATH is a shard, a folder in a\n"
		"checkpoint, a whole checkpoint, a loose file, or a view: CHECKPOINT/.ckptfs/hf is a\n"
		"model folder for others, .ckptfs/tensors/FQN.npy one tensor. Every block of a committed\n"
		"checkpoint is checked on its way; modes and times are kept. Outside a store\n"
		"packed shards become files of their own; a whole committed checkpoint copied\n"
		"into a store is committed there. Nothing is overwritten, and a copy that fails\n"
		"or is interrupted is removed.\n",
	.min_args = 2,
	.max_args = 2,
	.run = run,
};
