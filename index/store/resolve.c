/* resolve.c - paths as people type them; see resolve.h. */
#include "store/resolve.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/store.h"

/* As the kernel's own limit (path_resolution(7)). */
#define LINKS_MAX 40

/* A resolution under way. */
struct walk {
	struct ckpt_buf at; /* reached so far; "" is the root */
	size_t known_len;   /* of it exists; less: what follows is text */
	mode_t mode;	    /* type of that */
	char *rest;	    /* heap: what is still to be walked */
	int links;
};

/* What the kernel answers for everything in a mount whose daemon has ended. */
static bool is_dead(int rc)
{
	return rc == -ENOTCONN || rc == -ECONNABORTED;
}

static int refuse_dead(const char *path, struct ckpt_err *err)
{
	struct ckpt_mount_list list = { 0 };
	const struct ckpt_mount *mount = NULL;
	const char *point;

	/* Without the list the path itself must do. */
	if (ckpt_mount_list_read(&list, NULL) == 0)
		mount = ckpt_mount_list_find(&list, path);
	point = mount ? mount->point : path;
	ckpt_err_set(err, -ENOTCONN,
		     "mount '%s' is dead: its daemon has ended; run 'ckptfs umount %s'", point,
		     point);
	ckpt_mount_list_release(&list);
	return -ENOTCONN;
}

/*
 * Is there a regular file @file in the folder @dir, with no symlink between them? 0; -ENOENT; else
 * system.
 */
static int has_file(const char *dir, const char *file)
{
	CKPT_CLOSE int dirfd = ckpt_io_openat(AT_FDCWD, dir, O_PATH | O_DIRECTORY, 0);
	CKPT_CLOSE int fd = -1;
	struct stat st = { .st_mode = 0 };
	int rc;

	if (dirfd < 0)
		return dirfd;
	fd = ckpt_io_open_beneath(dirfd, file, O_PATH | O_NOFOLLOW, 0);
	rc = fd < 0 ? fd : ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return rc;
	return S_ISREG(st.st_mode) ? 0 : -ENOENT;
}

/* The length of the folder's path above; the root's is 1. */
static size_t parent_len(const char *path, size_t len)
{
	do {
		len--;
	} while (len > 1 && path[len] != '/');
	return len;
}

int ckpt_real_climb(const char *path, size_t len, const char *file, size_t *out_len,
		    struct ckpt_err *err)
{
	CKPT_FREE char *dir = strndup(path, len);
	int rc;

	assert(path[0] == '/');
	assert(len > 0);
	if (!dir)
		return ckpt_err_sys(err, -ENOMEM, "cannot look above '%s'", path);
	for (;;) {
		rc = has_file(dir, file);
		if (rc == 0 || is_dead(rc) || len == 1)
			break;
		len = parent_len(dir, len);
		dir[len] = '\0';
	}
	if (is_dead(rc))
		return refuse_dead(dir, err);
	if (rc < 0)
		return -ENOENT;
	*out_len = len;
	return 0;
}

static const char *shown(const struct ckpt_buf *path)
{
	return path->len_bytes > 0 ? path->data : "/";
}

/* Symlinks that lie in a store belong to it. */
static bool lies_in_store(const struct ckpt_buf *path)
{
	size_t found;

	return ckpt_real_climb(shown(path), path->len_bytes > 0 ? path->len_bytes : 1,
			       CKPT_STORE_FILE, &found, NULL) == 0;
}

static void go_up(struct walk *walk)
{
	char *slash = strrchr(walk->at.data, '/');

	if (!slash)
		return;
	walk->at.len_bytes = (size_t)(slash - walk->at.data);
	walk->at.data[walk->at.len_bytes] = '\0';
	if (walk->at.len_bytes < walk->known_len) {
		walk->known_len = walk->at.len_bytes;
		walk->mode = S_IFDIR;
	}
}

/* Put the target of the symlink @path before what is still to be walked. */
static int follow(struct walk *walk, const char *path)
{
	char target[PATH_MAX];
	struct ckpt_buf rest;
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	if (len < 0)
		return -errno;
	target[len] = '\0';
	if (++walk->links > LINKS_MAX)
		return -ELOOP;
	if (target[0] == '/') {
		ckpt_buf_reset(&walk->at);
		walk->known_len = 0;
	}
	ckpt_buf_init(&rest);
	ckpt_buf_printf(&rest, "%s/%s", target, walk->rest);
	free(walk->rest);
	walk->rest = ckpt_buf_steal(&rest);
	return walk->rest ? 0 : -ENOMEM;
}

/* Go on to @name, which exists if all before it does. */
static int go_down(struct walk *walk, const char *name)
{
	bool all_known = walk->known_len == walk->at.len_bytes && S_ISDIR(walk->mode);
	size_t before = walk->at.len_bytes;
	struct stat st;
	int rc;

	ckpt_buf_printf(&walk->at, "/%s", name);
	rc = ckpt_buf_check(&walk->at);
	if (rc < 0 || !all_known)
		return rc;
	rc = ckpt_io_fstatat(AT_FDCWD, walk->at.data, &st, AT_SYMLINK_NOFOLLOW);
	if (rc == -ENOENT || rc == -ENAMETOOLONG)
		return 0;
	if (rc < 0)
		return rc;
	if (S_ISLNK(st.st_mode)) {
		CKPT_FREE char *link = strdup(walk->at.data);

		if (!link)
			return -ENOMEM;
		walk->at.len_bytes = before;
		walk->at.data[before] = '\0';
		if (!lies_in_store(&walk->at))
			return follow(walk, link);
		ckpt_buf_printf(&walk->at, "/%s", name);
	}
	walk->known_len = walk->at.len_bytes;
	walk->mode = st.st_mode & S_IFMT;
	return ckpt_buf_check(&walk->at);
}

/* Walk one component of what is left; 0 when there is none, 1 when there may be more. */
static int step(struct walk *walk)
{
	CKPT_FREE char *name = NULL;
	char *start = walk->rest + strspn(walk->rest, "/");
	size_t len = strcspn(start, "/");
	int rc = 0;

	if (len == 0)
		return 0;
	name = strndup(start, len);
	if (!name)
		return -ENOMEM;
	memmove(walk->rest, start + len, strlen(start + len) + 1);
	if (strcmp(name, "..") == 0)
		go_up(walk);
	else if (strcmp(name, ".") != 0)
		rc = go_down(walk, name);
	return rc < 0 ? rc : 1;
}

/* The absolute form of @path as heap text. */
static int make_absolute(const char *path, char **out)
{
	char cwd[PATH_MAX];
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	if (path[0] != '/') {
		if (!getcwd(cwd, sizeof(cwd)))
			return -errno;
		if (cwd[0] != '/') /* "(unreachable)": a folder outside our root */
			return -ENOENT;
		ckpt_buf_printf(&text, "%s/", cwd);
	}
	ckpt_buf_add_str(&text, path);
	*out = ckpt_buf_steal(&text);
	return *out ? 0 : -ENOMEM;
}

int ckpt_real_find(const char *path, struct ckpt_real *out, struct ckpt_err *err)
{
	struct walk walk = { .mode = S_IFDIR };
	int rc;

	if (*path == '\0')
		return ckpt_err_set(err, -ENOENT, "an empty path names nothing");
	ckpt_buf_init(&walk.at);
	rc = make_absolute(path, &walk.rest);
	if (rc == 0) {
		do {
			rc = step(&walk);
		} while (rc > 0);
	}
	free(walk.rest);
	if (is_dead(rc))
		rc = refuse_dead(shown(&walk.at), err);
	else if (rc < 0)
		ckpt_err_sys(err, rc, "cannot reach '%s'", path);
	if (rc == 0) {
		out->known_len = walk.known_len > 0 ? walk.known_len : 1;
		out->mode = walk.mode;
		out->path = strdup(shown(&walk.at));
		if (!out->path)
			rc = ckpt_err_sys(err, -ENOMEM, "cannot reach '%s'", path);
	}
	ckpt_buf_release(&walk.at);
	return rc;
}

void ckpt_real_release(struct ckpt_real *real)
{
	free(real->path);
	*real = (struct ckpt_real){ 0 };
}

const struct ckpt_mount *ckpt_real_mount(const struct ckpt_real *real, struct ckpt_mount_list *list)
{
	const struct ckpt_mount *mount = NULL;
	CKPT_FREE char *known = strndup(real->path, real->known_len);

	/* Where the mounts cannot be listed nothing can be said about them. */
	if (known && ckpt_mount_list_read(list, NULL) == 0)
		mount = ckpt_mount_list_find(list, known);
	return mount && ckpt_mount_is_ours(mount) ? mount : NULL;
}
