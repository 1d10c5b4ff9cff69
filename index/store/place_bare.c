/*
 * place_bare.c - checkpoints that lie in no store. There is no top to look down from: the folders
 * on the path are looked at from below, and only a few of them, for nobody wants to hear that his
 * home is a checkpoint.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/resolve.h"
#include "store/store.h"
#include "store/store_internal.h"

/* A bare checkpoint is found from what lies at most so many folders deep in it. */
#define BARE_LEVELS_MAX 3

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

/* -ENOENT: no folder here holds a tensor format. */
static int find_recognised(struct bare *bare)
{
	enum ckpt_bare kind = CKPT_BARE_NOTHING;
	size_t found_len = 0;
	int rc;

	if (!enter_lowest(bare))
		return -ENOENT;
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
	bare->len = found_len;
	return rc == 0 && found_len == 0 ? -ENOENT : rc;
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
		return refuse_bare(&bare, looks);
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
