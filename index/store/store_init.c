/*
 * store_init.c - make a store of a folder: one folder and one file are added,
 * nothing is moved, copied or read. Killed half way it leaves a control folder
 * without store.json, which is no store; the next init goes on from there.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "store/resolve.h"
#include "store/store.h"
#include "store/store_internal.h"

/*
 * Refuse what lies below @file, looked for from the first @len bytes of the path up: "it lies in
 * the @what 'FOLDER'; @remedy".
 */
static int refuse_below(const struct ckpt_real *real, size_t len, const char *file,
			const char *const what[2], struct ckpt_err *err)
{
	size_t found = 0;
	int rc = ckpt_real_climb(real->path, len, file, &found, err);

	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	return ckpt_err_set(err, -EEXIST,
			    "cannot make a store of '%s': it lies in the %s '%.*s'; %s", real->path,
			    what[0], (int)found, real->path, what[1]);
}

/*
 * The folder itself may have become a store this moment, by another init: that one is none above
 * it.
 */
static int refuse_in_store(const struct ckpt_real *real, struct ckpt_err *err)
{
	static const char *const what[2] = {
		"store", "stores do not nest: use that one, or give a folder outside it"
	};
	bool exists = real->path[real->known_len] == '\0';
	size_t len = exists ? (size_t)(ckpt_path_basename(real->path) - real->path)
			    : real->known_len;

	/* Of "/a" the root is above, of "/a/b" it is "/a". */
	if (exists && len > 1)
		len--;
	return strcmp(real->path, "/") == 0 ? 0
					    : refuse_below(real, len, CKPT_STORE_FILE, what, err);
}

/* A mount shows a store that is somewhere else: nothing can be made in it. */
static int refuse_mount(const struct ckpt_real *real, struct ckpt_err *err)
{
	struct ckpt_mount_list list = { 0 };
	const struct ckpt_mount *mount = ckpt_real_mount(real, &list);
	int rc = 0;

	if (mount)
		rc = ckpt_err_set(
			err, -EEXIST,
			"cannot make a store of '%s': it lies in the mount '%s' of the store '%s'; give a folder outside it",
			real->path, mount->point, mount->source);
	ckpt_mount_list_release(&list);
	return rc;
}

/*
 * Is @real itself the top of a store, at its own path? One that a mount over it covers counts as
 * well.
 */
static int is_store(const struct ckpt_real *real, bool *out, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, real->path, O_PATH | O_DIRECTORY, 0);
	struct ckpt_mount_list list = { 0 };
	const struct ckpt_mount *mount;
	char id[37];
	int rc;

	*out = false;
	if (fd < 0) /* whoever makes the folder will say why it cannot */
		return 0;
	mount = ckpt_real_mount(real, &list);
	rc = mount && strcmp(mount->source, real->path) != 0
		     ? -ENOENT
		     : ckpt_store_file_read(fd, real->path, id, err);
	ckpt_mount_list_release(&list);
	*out = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

static int check_place(const struct ckpt_real *real, struct ckpt_err *err)
{
	static const char *const checkpoint[2] = { "committed checkpoint",
						   "give a folder above it" };
	int rc = 0;

	if (!S_ISDIR(real->mode) && real->path[real->known_len] == '\0')
		rc = ckpt_err_set(err, -ENOTDIR,
				  "cannot make a store of '%s': it is not a folder; give a folder",
				  real->path);
	if (rc == 0)
		rc = refuse_mount(real, err);
	if (rc == 0)
		rc = refuse_in_store(real, err);
	if (rc == 0)
		rc = refuse_below(real, real->known_len, CKPT_MANIFEST_FILE, checkpoint, err);
	return rc;
}

static int print_store_file(struct ckpt_buf *out)
{
	char created[CKPT_RFC3339_SIZE];
	char id[37];
	int rc = ckpt_uuid(id);

	if (rc < 0)
		return rc;
	ckpt_buf_printf(out, "{\"ckptfs\":%d,\"id\":\"%s\",\"created\":\"%s\"}\n",
			CKPT_STORE_VERSION, id, ckpt_clock_rfc3339(created));
	return ckpt_buf_check(out);
}

/* Two processes at once must not give the store two ids: one waits, and finds it done. */
static int publish_once(int control, bool *out_existed, struct ckpt_err *err)
{
	struct ckpt_buf text;
	struct stat st;
	int rc;

	/* Where a file system cannot lock folders, only a race of two inits is not kept apart. */
	ckpt_ignore(flock(control, LOCK_EX));
	rc = ckpt_io_fstatat(control, "store.json", &st, AT_SYMLINK_NOFOLLOW);
	*out_existed = rc == 0;
	if (rc == 0)
		return 0;
	ckpt_buf_init(&text);
	rc = print_store_file(&text);
	if (rc < 0)
		ckpt_err_sys(err, rc, "cannot make an id");
	else
		rc = ckpt_io_publish(control, "store.json", text.data, text.len_bytes, 0644, err);
	ckpt_buf_release(&text);
	return rc;
}

static int make_control(int dirfd, const char *dir, bool *out_existed, struct ckpt_err *err)
{
	CKPT_CLOSE int control = -1;
	int made = ckpt_io_mkdirat(dirfd, CKPT_CONTROL_DIR, 0755);
	int rc = made == -EEXIST ? 0 : made;

	if (rc == 0)
		rc = control = ckpt_io_openat(dirfd, CKPT_CONTROL_DIR,
					      O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make the folder '%s/" CKPT_CONTROL_DIR "'",
				    dir);
	rc = publish_once(control, out_existed, err);
	/* Ahead of need: removing must work on a disk that has no room for it. A mount tries again. */
	if (rc == 0)
		ckpt_ignore(ckpt_io_mkdirat(control, "trash", 0777));
	if (rc == 0)
		rc = ckpt_io_sync_dir(dirfd, ".");
	else if (made == 0) /* as it was before; if that fails, too, an empty folder stays */
		ckpt_ignore(ckpt_io_unlinkat(dirfd, CKPT_CONTROL_DIR, AT_REMOVEDIR));
	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot make a store of '%s'", dir);
	return 0;
}

/* Make @real, unless it is there, and the store in it. */
static int make_store(const struct ckpt_real *real, bool *out_existed, struct ckpt_err *err)
{
	bool is_new = real->path[real->known_len] != '\0';
	CKPT_CLOSE int fd = -1;
	int rc = 0;

	if (is_new)
		rc = ckpt_io_mkdirs(AT_FDCWD, real->path, err);
	if (rc < 0)
		return rc;
	fd = ckpt_io_openat(AT_FDCWD, real->path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot make a store of '%s'", real->path);
	rc = make_control(fd, real->path, out_existed, err);
	if (rc < 0 && is_new) /* only when nothing came to lie in it */
		ckpt_ignore(ckpt_io_unlinkat(AT_FDCWD, real->path, AT_REMOVEDIR));
	return rc;
}

int ckpt_store_init(const char *dir, bool *out_existed, struct ckpt_err *err)
{
	struct ckpt_real real = { 0 };
	bool existed = false;
	int rc = ckpt_real_find(dir, &real, err);

	if (rc == 0)
		rc = is_store(&real, &existed, err);
	if (rc == 0 && !existed)
		rc = check_place(&real, err);
	if (rc == 0 && !existed)
		rc = make_store(&real, &existed, err);
	ckpt_real_release(&real);
	if (rc == 0)
		*out_existed = existed;
	return rc;
}
