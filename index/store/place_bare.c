/*
 * place_bare.c - checkpoints that lie in no store. There is no top to look down from: the folders
 * on the path are looked at from below, and only a few of them, for nobody wants to hear that his
 * home is a checkpoint.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/resolve.h"
#include "store/store.h"
#include "store/store_internal.h"

/* A bare checkpoint is found from what lies at most so many folders deep in it, and by that. */
#define BARE_LEVELS_MAX 3
/* So many folders are looked into for that: who has named his home does not wait for all of it. */
#define BELOW_FOLDERS_MAX 1000

static int no_memory(struct ckpt_err *err)
{
	return ckpt_err_sys(err, -ENOMEM, "cannot tell what a path means");
}

/* A path that leads into no store. */
struct bare {
	const char *typed;
	const struct ckpt_real *real;
	size_t len;	    /* of the folder that is looked at, or was found, in its path */
	enum ckpt_bare top; /* what the lowest folder on the path is */
	char *below; /* heap: where tensors lie below that, if it is nothing itself; or NULL */
	struct ckpt_err *err;
};

/* The folder above; false at the root. */
static bool go_up(struct bare *bare)
{
	const char *path = bare->real->path;

	while (bare->len > 1 && path[bare->len - 1] != '/')
		bare->len--;
	if (bare->len <= 1)
		return false;
	bare->len--;
	return bare->len > 0;
}

/*
 * The lowest folder that is there: what a mount shows in control folders is none of the
 * checkpoint's. False: the path begins with no such folder.
 */
static bool enter_lowest(struct bare *bare)
{
	const struct ckpt_real *real = bare->real;
	const char *control = strstr(real->path, "/" CKPT_CONTROL_DIR);
	size_t control_len = sizeof(CKPT_CONTROL_DIR);

	while (control && control[control_len] != '\0' && control[control_len] != '/')
		control = strstr(control + 1, "/" CKPT_CONTROL_DIR);
	bare->len = real->known_len;
	if (control && (size_t)(control - real->path) <= bare->len) {
		bare->len = (size_t)(control - real->path);
		return bare->len > 0;
	}
	return S_ISDIR(real->mode) ? bare->len > 1 : go_up(bare);
}

static int look_bare(const struct bare *bare, bool any, enum ckpt_bare *out)
{
	CKPT_FREE char *dir = strndup(bare->real->path, bare->len);
	CKPT_CLOSE int fd = -1;

	if (!dir)
		return no_memory(bare->err);
	fd = ckpt_io_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -EACCES) {
		*out = CKPT_BARE_NOTHING;
		return any ? ckpt_err_sys(bare->err, fd, "cannot look into '%s'", dir) : 0;
	}
	if (fd < 0)
		return ckpt_err_sys(bare->err, fd, "cannot look into '%s'", dir);
	return ckpt_bare_of(fd, dir, any, out);
}

/*
 * What is the folder at hand, somewhere above the one that was named? Only one with the name of a
 * checkpoint counts: a model that lies in somebody's home does not make that a checkpoint; nor is
 * one that is called as a day or a user may be.
 */
static int look_above(const struct bare *bare, enum ckpt_bare *out)
{
	CKPT_FREE char *dir = strndup(bare->real->path, bare->len);
	const char *base;

	*out = CKPT_BARE_NOTHING;
	if (!dir)
		return no_memory(bare->err);
	base = ckpt_path_basename(dir);
	if (!ckpt_name_is_numbered(base) || base[strspn(base, "0123456789")] == '\0')
		return 0;
	return look_bare(bare, false, out);
}

/* --- tensors deeper down --------------------------------------------------------------------- */

/* The first folder with tensors, in the order of names. */
struct below {
	struct ckpt_buf path; /* of the folder at hand */
	size_t folder_count;  /* looked into so far */
	bool found;	      /* … and path is its */
	bool is_apart;	      /* it, or one above it, is called as a checkpoint, or is one */
};

static int by_name(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

static void free_names(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

/* The folders in @dirfd that are not hidden, in order; one that may not be read has none. */
static int list_folders(int dirfd, char ***out, size_t *out_count)
{
	unsigned char type;
	const char *name;
	size_t cap = 0;
	DIR *dir;
	int rc;

	if (ckpt_dir_open(dirfd, "", &dir) < 0)
		return 0;
	while ((rc = ckpt_io_readdir_type(dir, &name, &type)) > 0) {
		bool is_dir = false;

		if (name[0] == '.' || ckpt_dirent_is_dir(dirfd, name, type, &is_dir) < 0 || !is_dir)
			continue;
		if (array_grow(out, &cap, *out_count, sizeof(char *)) < 0 ||
		    !((*out)[*out_count] = strdup(name))) {
			rc = -ENOMEM;
			break;
		}
		++*out_count;
	}
	closedir(dir);
	if (*out_count > 0)
		qsort(*out, *out_count, sizeof(char *), by_name);
	return rc == -ENOMEM ? rc : 0;
}

static int look_below(struct below *below, int dirfd, int level);

/* One that cannot be looked into holds nothing. */
static int look_at_folder(struct below *below, int dirfd, const char *name, int level)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	enum ckpt_bare kind = CKPT_BARE_NOTHING;
	bool was_apart = below->is_apart;
	size_t len = below->path.len_bytes;
	struct stat st;
	int rc = 0;

	below->folder_count++;
	if (fd < 0 || ckpt_bare_of(fd, name, false, &kind) < 0)
		return 0;
	ckpt_buf_printf(&below->path, "/%s", name);
	below->is_apart = was_apart || ckpt_name_is_numbered(name) ||
			  ckpt_manifest_stat(fd, "", &st) == 0;
	below->found = kind == CKPT_BARE_CHECKPOINT;
	if (!below->found && level < BARE_LEVELS_MAX)
		rc = look_below(below, fd, level + 1);
	if (rc < 0 || below->found)
		return rc;
	below->is_apart = was_apart;
	if (ckpt_buf_check(&below->path) < 0)
		return -ENOMEM;
	below->path.len_bytes = len;
	below->path.data[len] = '\0';
	return 0;
}

static int look_below(struct below *below, int dirfd, int level)
{
	char **names = NULL;
	size_t count = 0;
	int rc = list_folders(dirfd, &names, &count);

	for (size_t i = 0; rc == 0 && !below->found && i < count; i++) {
		if (below->folder_count >= BELOW_FOLDERS_MAX)
			break;
		rc = look_at_folder(below, dirfd, names[i], level);
	}
	free_names(names, count);
	return rc;
}

/*
 * Tensors may lie deeper than in the folders directly in a checkpoint: then its name decides. Else
 * where they lie is only told. *@out: the folder at hand is a checkpoint by them.
 */
static int find_below(struct bare *bare, bool *out)
{
	CKPT_FREE char *dir = strndup(bare->real->path, bare->len);
	CKPT_CLOSE int fd = -1;
	struct below below = { .folder_count = 0 };
	int rc;

	if (!dir)
		return no_memory(bare->err);
	fd = ckpt_io_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return 0;
	ckpt_buf_init(&below.path);
	ckpt_buf_add_str(&below.path, dir);
	rc = look_below(&below, fd, 1);
	*out = below.found && !below.is_apart && ckpt_name_is_numbered(ckpt_path_basename(dir));
	if (rc == 0 && below.found) {
		bare->below = ckpt_buf_steal(&below.path);
		rc = bare->below ? 0 : -ENOMEM;
	}
	ckpt_buf_release(&below.path);
	return rc < 0 ? no_memory(bare->err) : 0;
}

/* --- what is there --------------------------------------------------------------------------- */

/* -ENOENT: no folder here holds a tensor format. */
static int find_recognised(struct bare *bare)
{
	enum ckpt_bare kind = CKPT_BARE_NOTHING;
	size_t found_len = 0;
	size_t lowest_len;
	bool is_deep = false;
	int rc;

	if (!enter_lowest(bare))
		return -ENOENT;
	lowest_len = bare->len;
	rc = look_bare(bare, true, &bare->top);
	if (rc == 0 && bare->top == CKPT_BARE_CHECKPOINT)
		found_len = bare->len;
	/* A folder of a checkpoint may hold tensors, too: then the checkpoint is right above. */
	for (int level = 1; rc == 0 && level <= (found_len > 0 ? 1 : BARE_LEVELS_MAX); level++) {
		if (!go_up(bare))
			break;
		rc = look_above(bare, &kind);
		if (rc == 0 && kind == CKPT_BARE_CHECKPOINT) {
			found_len = bare->len;
			break;
		}
	}
	bare->len = lowest_len;
	if (rc == 0 && found_len == 0 && bare->top == CKPT_BARE_NOTHING)
		rc = find_below(bare, &is_deep);
	bare->len = is_deep ? lowest_len : found_len;
	return rc == 0 && bare->len == 0 ? -ENOENT : rc;
}

static int refuse_bare(const struct bare *bare, bool looks)
{
	static const char init[] = "run 'ckptfs init' in the folder that holds your checkpoints";

	if (bare->real->path[bare->real->known_len] != '\0' &&
	    !(looks && strstr(bare->real->path, "/" CKPT_CONTROL_DIR)))
		return ckpt_err_set(
			bare->err, -ENOENT,
			"'%s' does not exist, and would lie in no store; for a new one %s",
			bare->typed, init);
	if (looks && bare->top == CKPT_BARE_GROUP)
		return ckpt_err_set(
			bare->err, -ENXIO,
			"'%s' is in no store and is no checkpoint: checkpoints lie in it; name one of them, or make a store of it with 'ckptfs init %s'",
			bare->typed, bare->typed);
	if (bare->below)
		return ckpt_err_set(
			bare->err, -ENXIO,
			"'%s' is in no store and is no checkpoint, but tensors lie below it; name the folder that holds them, '%s', or make a store of it with 'ckptfs init %s'",
			bare->typed, bare->below, bare->typed);
	if (looks)
		return ckpt_err_set(
			bare->err, -ENXIO,
			"'%s' is in no store and is no committed checkpoint, and no tensor format is recognised in it (safetensors, PyTorch DCP, .pt, .npz, .npy); name a folder that holds such files, or %s",
			bare->typed, init);
	return ckpt_err_set(bare->err, -ENXIO,
			    "'%s' is in no store and is no committed checkpoint; %s", bare->typed,
			    init);
}

int ckpt_bare_find(const char *typed, const struct ckpt_real *real, bool looks,
		   struct ckpt_place *out, struct ckpt_err *err)
{
	struct bare bare = { .typed = typed, .real = real, .err = err };
	int rc = ckpt_real_climb(real->path, real->known_len, CKPT_MANIFEST_FILE, &bare.len, err);

	if (rc == -ENOENT && looks)
		rc = find_recognised(&bare);
	if (rc == -ENOENT)
		rc = refuse_bare(&bare, looks);
	free(bare.below);
	if (rc < 0)
		return rc;
	out->folder = strndup(real->path, bare.len);
	out->inner = strdup(real->path + bare.len + strspn(real->path + bare.len, "/"));
	if (out->folder)
		out->name = strdup(ckpt_path_basename(out->folder));
	if (!out->folder || !out->inner || !out->name)
		return no_memory(err);
	out->kind = *out->inner ? CKPT_PLACE_ENTRY : CKPT_PLACE_CHECKPOINT;
	return 0;
}
