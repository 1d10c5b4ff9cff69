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
#include "cli/mount_ioctl.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/tree.h"

#define PARTIAL_SUFFIX ".partial"
#define MANIFEST_MODE 0644U

/* What is copied. */
struct source {
	struct cli_checkpoint checkpoint; /* dirfd: also of the folder that holds a loose file */
	struct tree tree;
	const char *top;  /* path of what is copied in the tree; "": all of it */
	const char *name; /* its last component */
	uint64_t file_count;
	uint64_t size_bytes;
};

/* Where to. */
struct target {
	char *dir;		 /* a folder that exists */
	char *name;		 /* what is not yet in it */
	struct ckpt_place place; /* store_path NULL: in no store */
	bool in_checkpoint;
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
	int rc = tree_load(&out->checkpoint, &out->tree, err);

	out->top = out->checkpoint.place.inner;
	if (rc < 0 || out->top[0] == '\0')
		return rc;
	if (ckpt_path_is_below(out->top, CKPT_CONTROL_DIR))
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is made by ckptfs; print it with 'ckptfs cat %s'", path,
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
	rc = cli_place(cli, path, &place, err);
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
	if (rc < 0)
		return rc;
	out->name = ckpt_path_basename(out->top[0] ? out->top : out->checkpoint.place.name);
	tree_sum(&out->tree, out->top, &out->file_count, &out->size_bytes);
	return 0;
}

static void source_release(struct source *source)
{
	tree_release(&source->tree);
	cli_checkpoint_release(&source->checkpoint);
}

/* --- to ---------------------------------------------------------------------------------- */

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

static int target_open(const char *dest, const struct source *source, struct target *out,
		       struct ckpt_err *err)
{
	struct ckpt_buf path;
	struct stat st;
	int rc;

	*out = (struct target){ .dir = NULL };
	ckpt_buf_init(&path);
	rc = split_dest(dest, source->name, out, err);
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
	if (rc == 0 && out->in_checkpoint && source->top[0] == '\0')
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' lies in a checkpoint, and a checkpoint never contains another; copy to another place",
			path.data);
	ckpt_buf_release(&path);
	return rc;
}

static void target_release(struct target *target)
{
	free(target->dir);
	free(target->name);
	ckpt_place_release(&target->place);
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

/* As plain files. */
static int copy_plainly(const struct source *source, const struct target *target, struct copy *copy,
			struct ckpt_err *err)
{
	CKPT_CLOSE int dir_fd = ckpt_io_openat(AT_FDCWD, target->dir, O_RDONLY | O_DIRECTORY, 0);
	const struct tree_entry *entry = source->top[0] ? tree_find(&source->tree, source->top)
							: NULL;
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
	if (entry && entry->kind != TREE_DIR)
		rc = copy_entry(copy, entry, dir_fd, temp.data, err);
	else
		rc = copy_folder(copy, source, dir_fd, temp.data, err);
	if (rc == 0)
		rc = give_name(dir_fd, temp.data, target->name, err);
	if (rc < 0) /* why it failed is the thing to tell */
		ckpt_ignore(ckpt_io_remove_tree(dir_fd, temp.data, NULL));
out:
	ckpt_buf_release(&temp);
	return rc;
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
	int rc = target_open(dest, source, &target, err);

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
		rc = copy_source(&source, args.items[1], &err);
	source_release(&source);
	return rc < 0 ? cli_report(&err) : CLI_OK;
}

const struct cli_command cli_cp_command = {
	.name = "cp",
	.args = "PATH DEST",
	.summary = "copy a checkpoint or a part of one, verified",
	.details =
		"As 'cp -r': to DEST/NAME if DEST is a folder. PATH is a shard, a folder in a\n"
		"checkpoint, a whole checkpoint or a loose file. Every block of a committed\n"
		"checkpoint is checked on its way; modes and times are kept. Outside a store\n"
		"packed shards become files of their own; a whole committed checkpoint copied\n"
		"into a store is committed there. Nothing is overwritten, and a copy that fails\n"
		"or is interrupted is removed.\n",
	.min_args = 2,
	.max_args = 2,
	.run = run,
};
