/* mounting.c - see mounting.h. */
#include "cli/mounting.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/mounts.h"

static const char *const program = "mount.ckptfs";

/* mount.ckptfs ends like mount(8). */
#define MOUNT_USAGE 1

/* --- where to ---------------------------------------------------------------------------- */

/* The mount point, ready to be mounted on; *@out_mounted: it is mounted there already. */
static int clear_point(const char *point, const char *store_path, bool *out_mounted,
		       struct ckpt_err *err)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	const struct ckpt_mount *mount;
	int rc = ckpt_mount_list_read(&list, err);

	if (rc < 0)
		return rc;
	mount = mounts_at(&list, point);
	if (mount && mounts_is_dead(point)) {
		if (ckpt_mount_is_ours(mount)) {
			cli_error("detaching the dead mount at '%s', whose daemon has ended",
				  point);
			rc = mounts_detach(point, true, err);
		} else {
			rc = ckpt_err_set(
				err, -ENOTCONN,
				"'%s' is a dead mount of type %s; take it off with 'fusermount3 -u %s'",
				point, mount->fstype, point);
		}
	} else if (mount && ckpt_mount_is_ours(mount) && store_path) {
		*out_mounted = strcmp(mount->source, store_path) == 0;
		if (!*out_mounted)
			rc = ckpt_err_set(
				err, -EBUSY,
				"on '%s' the store '%s' is mounted; choose another folder, or 'ckptfs umount %s' first",
				point, mount->source, point);
	}
	ckpt_mount_list_release(&list);
	return rc;
}

static int check_point(const char *point, struct ckpt_err *err)
{
	struct stat st;

	if (stat(point, &st) < 0) {
		if (errno == ENOENT)
			return ckpt_err_set(
				err, -ENOENT,
				"mount point '%s' does not exist; make it with 'mkdir -p %s'",
				point, point);
		return ckpt_err_sys(err, -errno, "cannot use mount point '%s'", point);
	}
	if (!S_ISDIR(st.st_mode))
		return ckpt_err_set(
			err, -ENOTDIR,
			"mount point '%s' is no folder; choose one, or make one with 'mkdir'",
			point);
	return 0;
}

/* --- what ---------------------------------------------------------------------------------- */

/* A folder that is no store, and lies in none: it can be looked at. */
static int find_bare(const char *path, struct ckpt_buf *out, struct ckpt_err *err)
{
	CKPT_FREE char *real = realpath(path, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return ckpt_err_sys(err, -errno, "cannot mount '%s'", path);
	if (!S_ISDIR(st.st_mode))
		return ckpt_err_set(
			err, -ENOTDIR,
			"'%s' is a file; mount the folder that it lies in, or the one that holds your checkpoints",
			path);
	ckpt_buf_add_str(out, real);
	return ckpt_buf_check(out);
}

/* Absolute path of the store, or of the folder in none, that @path names. */
static int find_store(const char *path, struct ckpt_buf *out, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(path, NULL, &place, err);

	if (rc == -ENXIO)
		return find_bare(path, out, err);
	if (rc < 0)
		return rc;
	if (place.kind == CKPT_PLACE_STORE)
		ckpt_buf_add_str(out, place.store_path);
	else if (!place.store_path && place.kind == CKPT_PLACE_CHECKPOINT)
		rc = find_bare(path, out, err);
	else if (!place.store_path)
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is a part of the checkpoint '%s'; mount that, or a folder above it",
			path, place.folder);
	else if (place.kind == CKPT_PLACE_NOTHING)
		rc = ckpt_err_set(err, -ENOENT,
				  "'%s' does not exist; name the store: 'ckptfs mount %s'", path,
				  place.store_path);
	else
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is %s, not a store; mount the store it lies in: 'ckptfs mount %s'",
			path, cli_place_describe(place.kind), place.store_path);
	ckpt_place_release(&place);
	return rc;
}

/* --- the program ------------------------------------------------------------------------------ */

static bool is_program(const struct ckpt_buf *path)
{
	return ckpt_buf_check(path) == 0 && access(path->data, X_OK) == 0;
}

/* Beside our own executable, in the sbin next to its folder, else left to PATH. */
void mounting_program(struct ckpt_buf *out)
{
	static const char *const places[] = { "", "/../sbin" };
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[len > 0 ? len : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		*slash = '\0';
		ckpt_buf_reset(out);
		ckpt_buf_printf(out, "%s%s/%s", self, places[i], program);
		if (is_program(out))
			return;
	}
	ckpt_buf_reset(out);
	ckpt_buf_add_str(out, program);
}

/* --- all together ---------------------------------------------------------------------------- */

int mounting_prepare(const char *store, const char *point, struct mounting *out,
		     struct ckpt_err *err)
{
	int rc;

	*out = (struct mounting){ .is_mounted = false };
	ckpt_buf_init(&out->store_path);
	ckpt_buf_init(&out->point);
	rc = mounts_absolute(point ? point : store, &out->point, err);
	/* Before the store is looked at: where both are one folder, a dead mount hides it. */
	if (rc == 0)
		rc = clear_point(out->point.data, NULL, &out->is_mounted, err);
	if (rc == 0)
		rc = find_store(store, &out->store_path, err);
	if (rc == 0 && !point) {
		ckpt_buf_reset(&out->point);
		ckpt_buf_add_str(&out->point, out->store_path.data);
	}
	if (rc == 0)
		rc = clear_point(out->point.data, out->store_path.data, &out->is_mounted, err);
	if (rc == 0 && !out->is_mounted)
		rc = check_point(out->point.data, err);
	return rc;
}

void mounting_release(struct mounting *mounting)
{
	ckpt_buf_release(&mounting->point);
	ckpt_buf_release(&mounting->store_path);
}

void mounting_argv_free(char **argv)
{
	for (size_t i = 0; argv && argv[i]; i++)
		free(argv[i]);
	free(argv);
}

char **mounting_argv(const struct mounting *mounting, const struct option_list *options,
		     const char *const extra[])
{
	size_t extra_count = 0;
	size_t argc = 0;
	char **argv;

	while (extra[extra_count])
		extra_count++;
	argv = array_alloc(2 * options->count + extra_count + 4, sizeof(*argv));
	if (!argv)
		return NULL;
	argv[argc++] = strdup(program);
	argv[argc++] = strdup(mounting->store_path.data);
	argv[argc++] = strdup(mounting->point.data);
	/* The user's own come last: what is given twice is what was given last. */
	for (size_t i = 0; i < extra_count; i++)
		argv[argc++] = strdup(extra[i]);
	for (size_t i = 0; i < options->count; i++) {
		argv[argc++] = strdup("-o");
		argv[argc++] = strdup(options->items[i]);
	}
	for (size_t i = 0; i < argc; i++) {
		if (!argv[i]) {
			mounting_argv_free(argv);
			return NULL;
		}
	}
	return argv;
}

int mounting_code(int status, struct ckpt_err *err)
{
	if (WIFSIGNALED(status))
		return ckpt_err_set(err, -EINTR, "'%s' was ended by signal %d", program,
				    WTERMSIG(status));
	if (WEXITSTATUS(status) == MOUNTING_NOT_FOUND)
		return ckpt_err_set(
			err, -ENOENT,
			"cannot run '%s': it is neither beside 'ckptfs' nor in PATH; is it installed?",
			program);
	if (WEXITSTATUS(status) == MOUNT_USAGE)
		return CLI_USAGE;
	return WEXITSTATUS(status) == 0 ? CLI_OK : CLI_FAILED;
}
