/* tree.c - see tree.h. */
#include "cli/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

static int out_of_memory(struct ckpt_err *err)
{
	return ckpt_err_set(err, -ENOMEM, "out of memory while listing a checkpoint");
}

/* Copies the texts of @entry. */
static int add(struct tree *tree, struct tree_entry entry, struct ckpt_err *err)
{
	if (array_grow(&tree->entries, &tree->cap, tree->count, sizeof(entry)) < 0)
		return out_of_memory(err);
	entry.path = strdup(entry.path);
	entry.target = entry.target ? strdup(entry.target) : NULL;
	tree->entries[tree->count++] = entry;
	if (!entry.path || (entry.kind == TREE_SYMLINK && !entry.target))
		return out_of_memory(err);
	return 0;
}

static void sort(struct tree *tree)
{
	if (tree->count > 0)
		qsort(tree->entries, tree->count, sizeof(*tree->entries), by_path);
}

/* --- from the manifest ---------------------------------------------------------- */

static int add_dirs(struct tree *tree, struct ckpt_err *err)
{
	for (size_t i = 0; i < tree->manifest.dir_count; i++) {
		const struct ckpt_manifest_dir *dir = &tree->manifest.dirs[i];
		struct tree_entry entry = { .kind = TREE_DIR,
					    .path = dir->path,
					    .mode = dir->mode };
		int rc = add(tree, entry, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int add_shards(struct tree *tree, struct ckpt_err *err)
{
	for (size_t i = 0; i < tree->manifest.shard_count; i++) {
		const struct ckpt_shard *shard = &tree->manifest.shards[i];
		struct tree_entry entry = {
			.kind = TREE_FILE,
			.path = shard->path,
			.mode = shard->mode,
			.size_bytes = shard->size_bytes,
			.mtime_ns = shard->mtime_ns,
			.shard = shard,
		};
		int rc = add(tree, entry, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int add_symlinks(struct tree *tree, struct ckpt_err *err)
{
	for (size_t i = 0; i < tree->manifest.symlink_count; i++) {
		const struct ckpt_symlink *symlink = &tree->manifest.symlinks[i];
		struct tree_entry entry = {
			.kind = TREE_SYMLINK,
			.path = symlink->path,
			.mode = 0777,
			.size_bytes = strlen(symlink->target),
			.target = symlink->target,
		};
		int rc = add(tree, entry, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int load_manifest(const struct cli_checkpoint *checkpoint, struct tree *tree,
			 struct ckpt_err *err)
{
	int rc =
		ckpt_manifest_load(checkpoint->dirfd, checkpoint->place.name, &tree->manifest, err);

	if (rc < 0)
		return rc;
	tree->committed = true;
	rc = add_dirs(tree, err);
	if (rc == 0)
		rc = add_shards(tree, err);
	if (rc == 0)
		rc = add_symlinks(tree, err);
	sort(tree);
	return rc;
}

/* --- from the disk ---------------------------------------------------------------- */

struct walk {
	struct tree *tree;
	const char *label;
	struct ckpt_err *err;
};

static enum tree_kind kind_of_mode(mode_t mode)
{
	if (S_ISDIR(mode))
		return TREE_DIR;
	if (S_ISREG(mode))
		return TREE_FILE;
	return S_ISLNK(mode) ? TREE_SYMLINK : TREE_OTHER;
}

static int walk_dir(const struct walk *walk, int dirfd, const char *path, unsigned int depth);

/* The entry at @path, its last component in @dirfd, which @st describes. */
static int add_found(const struct walk *walk, int dirfd, const struct ckpt_buf *path,
		     const struct stat *st)
{
	char target[PATH_MAX];
	struct tree_entry entry = {
		.kind = kind_of_mode(st->st_mode),
		.path = path->data,
		.mode = st->st_mode & 07777,
		.size_bytes = S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
	};

	if (entry.kind == TREE_SYMLINK) {
		ssize_t len = readlinkat(dirfd, ckpt_path_basename(path->data), target,
					 sizeof(target) - 1);

		/* Gone or changed meanwhile: an empty target tells as much. */
		target[len > 0 ? len : 0] = '\0';
		entry.target = target;
	}
	return add(walk->tree, entry, walk->err);
}

static int walk_sub(const struct walk *walk, int dirfd, const char *path, unsigned int depth)
{
	CKPT_CLOSE int sub = ckpt_io_openat(dirfd, ckpt_path_basename(path),
					    O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (sub == -ENOENT)
		return 0;
	if (sub < 0)
		return ckpt_err_sys(walk->err, sub, "cannot open folder '%s/%s'", walk->label,
				    path);
	return walk_dir(walk, sub, path, depth + 1);
}

/*
 * One name in the folder @dirfd, which is at @dir_path. What is gone meanwhile is no error:
 * somebody is writing here.
 */
static int walk_name(const struct walk *walk, int dirfd, const char *dir_path, const char *name,
		     unsigned int depth)
{
	struct ckpt_buf path;
	struct stat st;
	int rc = ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (rc == -ENOENT)
		return 0;
	ckpt_buf_init(&path);
	ckpt_path_join(&path, dir_path, name);
	if (rc < 0)
		rc = ckpt_err_sys(walk->err, rc, "cannot look at '%s/%s'", walk->label, path.data);
	else
		rc = add_found(walk, dirfd, &path, &st);
	if (rc == 0 && S_ISDIR(st.st_mode))
		rc = walk_sub(walk, dirfd, path.data, depth);
	ckpt_buf_release(&path);
	return rc;
}

static bool is_skipped(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	       strcmp(name, CKPT_CONTROL_DIR) == 0;
}

static int walk_dir(const struct walk *walk, int dirfd, const char *path, unsigned int depth)
{
	int fd;
	DIR *dir;
	const struct dirent *entry;
	int rc = 0;

	if (depth > CKPT_ENTRY_DEPTH_MAX)
		return ckpt_err_set(walk->err, -ENAMETOOLONG,
				    "'%s/%s' lies more than %d folders deep", walk->label, path,
				    CKPT_ENTRY_DEPTH_MAX);
	/* fdopendir() takes what it is given. */
	fd = ckpt_io_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		rc = ckpt_err_sys(walk->err, fd < 0 ? fd : -errno, "cannot list folder '%s/%s'",
				  walk->label, path);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			break;
		if (!is_skipped(entry->d_name))
			rc = walk_name(walk, dirfd, path, entry->d_name, depth);
	}
	if (rc == 0 && errno != 0)
		rc = ckpt_err_sys(walk->err, -errno, "cannot list folder '%s/%s'", walk->label,
				  path);
	(void)closedir(dir);
	return rc;
}

int tree_load_dir(int dirfd, const char *label, struct tree *out, struct ckpt_err *err)
{
	struct walk walk = { .tree = out, .label = label, .err = err };
	int rc;

	*out = (struct tree){ .committed = false };
	rc = walk_dir(&walk, dirfd, "", 0);
	sort(out);
	return rc;
}

int tree_load_file(int dirfd, const char *path, struct tree *out, struct ckpt_err *err)
{
	CKPT_FREE char *own = strdup(path);
	struct tree_entry entry = { .path = own };
	struct stat st;
	int rc = own ? ckpt_io_fstatat(dirfd, path, &st, 0) : -ENOMEM;

	*out = (struct tree){ .committed = false };
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at '%s'", path);
	entry.kind = S_ISREG(st.st_mode) ? TREE_FILE : TREE_OTHER;
	entry.mode = st.st_mode & 07777;
	entry.size_bytes = (uint64_t)st.st_size;
	entry.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return add(out, entry, err);
}

int tree_load(const struct cli_checkpoint *checkpoint, struct tree *out, struct ckpt_err *err)
{
	if (checkpoint->state != CKPT_STATE_COMMITTED)
		return tree_load_dir(checkpoint->dirfd, checkpoint->place.name, out, err);
	*out = (struct tree){ .committed = false };
	return load_manifest(checkpoint, out, err);
}

void tree_release(struct tree *tree)
{
	for (size_t i = 0; i < tree->count; i++) {
		free(tree->entries[i].path);
		free(tree->entries[i].target);
	}
	free(tree->entries);
	if (tree->committed)
		ckpt_manifest_release(&tree->manifest);
	*tree = (struct tree){ .committed = false };
}

static int path_to_entry(const void *path, const void *entry)
{
	return strcmp(path, ((const struct tree_entry *)entry)->path);
}

const struct tree_entry *tree_find(const struct tree *tree, const char *path)
{
	if (tree->count == 0)
		return NULL;
	return bsearch(path, tree->entries, tree->count, sizeof(*tree->entries), path_to_entry);
}

void tree_sum(const struct tree *tree, const char *below, uint64_t *out_files, uint64_t *out_bytes)
{
	uint64_t files = 0;
	uint64_t bytes = 0;

	for (size_t i = 0; i < tree->count; i++) {
		if (tree->entries[i].kind != TREE_FILE ||
		    !ckpt_path_is_below(tree->entries[i].path, below))
			continue;
		files++;
		bytes += tree->entries[i].size_bytes;
	}
	*out_files = files;
	*out_bytes = bytes;
}
