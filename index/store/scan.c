/*
 * scan.c - what lies in a checkpoint's folder: every folder, file and symbolic
 * link with its stamps, in the order of the manifest. What a manifest cannot
 * hold (a name that is no UTF-8, a socket, a checkpoint inside) is refused by
 * name. Nothing is followed and nothing is opened but folders.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/commit_internal.h"

/* What a symbolic link may point to, as the format has it: PATH_MAX less its NUL. */
#define TARGET_MAX 4095
#define NS_PER_SEC 1000000000

struct scan {
	const char *label;
	uint64_t dev;
	struct ckpt_buf path; /* of the entry at hand, below the checkpoint */
	struct ckpt_tree *tree;
	bool lenient; /* pass over what a manifest cannot hold: only checkpoints inside matter, … */
	bool looking; /* … or not even they: nothing will be committed */
	bool passed_over;
	struct ckpt_err *err;
};

struct ckpt_stamp ckpt_stamp_of(const struct stat *st)
{
	return (struct ckpt_stamp){ .ino = st->st_ino,
				    .size_bytes = (uint64_t)st->st_size,
				    .mtime = st->st_mtim,
				    .ctime = st->st_ctim };
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool ckpt_stamp_equal(const struct ckpt_stamp *a, const struct ckpt_stamp *b)
{
	return a->ino == b->ino && a->size_bytes == b->size_bytes &&
	       same_time(a->mtime, b->mtime) && same_time(a->ctime, b->ctime);
}

int64_t ckpt_stamp_ns(struct timespec at)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)at.tv_sec, (int64_t)NS_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)at.tv_nsec, &ns))
		return at.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

/* "'LABEL/PATH' cannot be part of a checkpoint: REASON", the path fit for a terminal. */
static int refuse(struct scan *scan, int code, const char *reason)
{
	struct ckpt_buf shown;

	if (scan->lenient && (code != -ENOTEMPTY || scan->looking)) {
		scan->passed_over = true;
		return 0;
	}
	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, scan->path.data);
	ckpt_err_set(scan->err, code, "'%s/%s' cannot be part of a checkpoint: %s", scan->label,
		     shown.data, reason);
	ckpt_buf_release(&shown);
	return code;
}

static int failed(const struct scan *scan, int code)
{
	return ckpt_err_sys(scan->err, code, "cannot look at '%s%s%s'", scan->label,
			    scan->path.len_bytes > 0 ? "/" : "", scan->path.data);
}

/* One component at the end of scan->path: 1 the manifest can hold it, 0 it is passed over. */
static int check_name(struct scan *scan, const char *name, int depth)
{
	if (!ckpt_path_is_utf8(name, strlen(name)))
		return refuse(scan, -EILSEQ,
			      "its name is not UTF-8, or holds control characters; rename it");
	if (strcmp(name, CKPT_CONTROL_DIR) == 0)
		return refuse(
			scan, -ENOTEMPTY,
			"a checkpoint never contains another; commit that one by its own name, or move it away");
	if (scan->path.len_bytes > CKPT_ENTRY_PATH_MAX)
		return refuse(scan, -ENAMETOOLONG, "its path has more than 3072 bytes");
	if (depth >= CKPT_ENTRY_DEPTH_MAX)
		return refuse(scan, -EINVAL, "it lies more than 64 levels deep");
	return 1;
}

/* Append an entry that owns a copy of the path; NULL when memory is out. */
static struct ckpt_tree_entry *add(struct scan *scan, struct ckpt_tree_list *list,
				   const struct stat *st)
{
	struct ckpt_tree_entry *entry;
	char *path;

	if (array_grow(&list->items, &list->cap, list->count, sizeof(*list->items)) < 0)
		return NULL;
	path = strdup(scan->path.data);
	if (!path)
		return NULL;
	entry = &list->items[list->count++];
	*entry = (struct ckpt_tree_entry){ .path = path,
					   .mode = st->st_mode & 07777,
					   .uid = st->st_uid,
					   .stamp = ckpt_stamp_of(st) };
	return entry;
}

static int add_symlink(struct scan *scan, int dirfd, const char *name, const struct stat *st)
{
	char target[TARGET_MAX + 1];
	ssize_t len_bytes = readlinkat(dirfd, name, target, sizeof(target));
	struct ckpt_tree_entry *entry;

	if (len_bytes < 0)
		return failed(scan, -errno);
	if (len_bytes == 0 || len_bytes > TARGET_MAX ||
	    !ckpt_path_is_utf8(target, (size_t)len_bytes))
		return refuse(
			scan, -EILSEQ,
			"the target of this symbolic link is not UTF-8, holds control characters or is too long; remove it");
	entry = add(scan, &scan->tree->symlinks, st);
	if (entry)
		entry->target = strndup(target, (size_t)len_bytes);
	return entry && entry->target ? 0 : failed(scan, -ENOMEM);
}

static int scan_dir(struct scan *scan, int fd, int depth);

static int add_dir(struct scan *scan, int dirfd, const char *name, const struct stat *st, int depth)
{
	int fd;

	if ((uint64_t)st->st_dev != scan->dev)
		return refuse(
			scan, -EXDEV,
			"another file system is mounted there; unmount it or copy its files in");
	if (!add(scan, &scan->tree->dirs, st))
		return failed(scan, -ENOMEM);
	fd = ckpt_io_openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	return fd < 0 ? failed(scan, fd) : scan_dir(scan, fd, depth + 1);
}

static int scan_entry(struct scan *scan, int dirfd, const char *name, int depth)
{
	struct stat st;
	int rc = check_name(scan, name, depth);

	if (rc <= 0)
		return rc;
	rc = ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return failed(scan, rc);
	if (S_ISDIR(st.st_mode))
		return add_dir(scan, dirfd, name, &st, depth);
	if (S_ISLNK(st.st_mode))
		return add_symlink(scan, dirfd, name, &st);
	if (!S_ISREG(st.st_mode))
		return refuse(scan, -EINVAL, "it is a socket, a FIFO or a device; remove it");
	/* A single file can be mounted over, too. */
	if ((uint64_t)st.st_dev != scan->dev)
		return refuse(scan, -EXDEV, "another file is mounted over it; unmount that");
	return add(scan, &scan->tree->files, &st) ? 0 : failed(scan, -ENOMEM);
}

/* Everything in the folder @fd, which is closed here; scan->path names it. */
static int scan_dir(struct scan *scan, int fd, int depth)
{
	size_t path_len = scan->path.len_bytes;
	DIR *dir = fdopendir(fd);
	const char *name;
	int rc;

	if (!dir) {
		rc = failed(scan, -errno);
		close(fd);
		return rc;
	}
	while ((rc = ckpt_io_readdir(dir, &name)) > 0) {
		if (depth == 0 && strcmp(name, CKPT_CONTROL_DIR) == 0)
			continue;
		if (path_len > 0)
			ckpt_buf_add_char(&scan->path, '/');
		ckpt_buf_add_str(&scan->path, name);
		rc = ckpt_buf_check(&scan->path);
		rc = rc < 0 ? failed(scan, rc) : scan_entry(scan, dirfd(dir), name, depth);
		scan->path.len_bytes = path_len;
		scan->path.data[path_len] = '\0';
		if (rc < 0)
			goto out;
	}
	if (rc < 0)
		rc = failed(scan, rc);
out:
	closedir(dir);
	return rc;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct ckpt_tree_entry *)a)->path,
		      ((const struct ckpt_tree_entry *)b)->path);
}

static void sort(struct ckpt_tree_list *list)
{
	if (list->count > 0)
		qsort(list->items, list->count, sizeof(*list->items), by_path);
}

static int scan_top(int dirfd, struct scan *scan)
{
	struct stat st;
	int fd = ckpt_io_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &st);

	*scan->tree = (struct ckpt_tree){ .dirs = { .count = 0 } };
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return ckpt_err_sys(scan->err, rc, "cannot look into '%s'", scan->label);
	}
	scan->dev = st.st_dev;
	ckpt_buf_init(&scan->path);
	rc = scan_dir(scan, fd, 0);
	ckpt_buf_release(&scan->path);
	if (rc < 0)
		ckpt_tree_release(scan->tree);
	return rc;
}

int ckpt_tree_scan(int dirfd, const char *label, struct ckpt_tree *out, struct ckpt_err *err)
{
	struct scan scan = { .label = label, .tree = out, .err = err };
	int rc = scan_top(dirfd, &scan);

	if (rc < 0)
		return rc;
	sort(&out->dirs);
	sort(&out->files);
	sort(&out->symlinks);
	return 0;
}

int ckpt_tree_check_inside(int dirfd, const char *label, bool *out_empty, struct ckpt_err *err)
{
	struct ckpt_tree tree = { .dirs = { .count = 0 } };
	struct scan scan = { .label = label, .tree = &tree, .lenient = true, .err = err };
	int rc = scan_top(dirfd, &scan);

	if (rc < 0)
		return rc;
	*out_empty = tree.dirs.count + tree.files.count + tree.symlinks.count == 0 &&
		     !scan.passed_over;
	ckpt_tree_release(&tree);
	return 0;
}

static void list_release(struct ckpt_tree_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].path);
		free(list->items[i].target);
	}
	free(list->items);
	*list = (struct ckpt_tree_list){ .items = NULL };
}

void ckpt_tree_release(struct ckpt_tree *tree)
{
	list_release(&tree->dirs);
	list_release(&tree->files);
	list_release(&tree->symlinks);
}

/* --- comparing two scans ------------------------------------------------------------ */

/* Stamps count for files only: our own work below touches folders. */
static bool entry_equal(const struct ckpt_tree_entry *a, const struct ckpt_tree_entry *b,
			bool files)
{
	if (strcmp(a->path, b->path) != 0 || a->mode != b->mode)
		return false;
	if (files && !ckpt_stamp_equal(&a->stamp, &b->stamp))
		return false;
	return !a->target || strcmp(a->target, b->target) == 0;
}

static const char *list_difference(const struct ckpt_tree_list *a, const struct ckpt_tree_list *b,
				   bool files)
{
	size_t count = num_min(a->count, b->count);

	for (size_t i = 0; i < count; i++) {
		if (entry_equal(&a->items[i], &b->items[i], files))
			continue;
		/* Of two names the lesser is in one list only. */
		return strcmp(a->items[i].path, b->items[i].path) <= 0 ? a->items[i].path
								       : b->items[i].path;
	}
	if (a->count == b->count)
		return NULL;
	return a->count > count ? a->items[count].path : b->items[count].path;
}

const char *ckpt_tree_difference(const struct ckpt_tree *a, const struct ckpt_tree *b)
{
	const char *path = list_difference(&a->files, &b->files, true);

	if (!path)
		path = list_difference(&a->dirs, &b->dirs, false);
	return path ? path : list_difference(&a->symlinks, &b->symlinks, false);
}

/* --- for those who only want the files ------------------------------------------------ */

/* The files of @tree, which is released, by path. */
static int take_files(struct ckpt_tree *tree, const char *label, struct ckpt_scan_list *out,
		      struct ckpt_err *err)
{
	size_t count = tree->files.count;
	struct ckpt_scan_file *files = array_alloc(num_max(count, 1), sizeof(*files));

	if (!files) {
		ckpt_tree_release(tree);
		return ckpt_err_sys(err, -ENOMEM, "cannot look into '%s'", label);
	}
	for (size_t i = 0; i < count; i++) {
		struct ckpt_tree_entry *entry = &tree->files.items[i];

		files[i].path = ckpt_steal_ptr(&entry->path);
		files[i].size_bytes = entry->stamp.size_bytes;
	}
	ckpt_tree_release(tree);
	*out = (struct ckpt_scan_list){ .files = files, .file_count = count, .file_cap = count };
	return 0;
}

int ckpt_scan_files(int dirfd, const char *label, struct ckpt_scan_list *out, struct ckpt_err *err)
{
	struct ckpt_tree tree;
	int rc = ckpt_tree_scan(dirfd, label, &tree, err);

	return rc < 0 ? rc : take_files(&tree, label, out, err);
}

int ckpt_scan_readable(int dirfd, const char *label, struct ckpt_scan_list *out,
		       struct ckpt_err *err)
{
	struct ckpt_tree tree = { .dirs = { .count = 0 } };
	struct scan scan = {
		.label = label, .tree = &tree, .lenient = true, .looking = true, .err = err
	};
	int rc = scan_top(dirfd, &scan);

	if (rc < 0)
		return rc;
	sort(&tree.files);
	return take_files(&tree, label, out, err);
}

void ckpt_scan_list_release(struct ckpt_scan_list *list)
{
	for (size_t i = 0; i < list->file_count; i++)
		free(list->files[i].path);
	free(list->files);
	*list = (struct ckpt_scan_list){ .files = NULL };
}
