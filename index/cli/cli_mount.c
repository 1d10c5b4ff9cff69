/*
 * cli_mount.c - mount a store: checks what people get wrong, clears a dead
 * mount out of the way, and runs mount.ckptfs, which does the work.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/mounts.h"
#include "cli/options.h"

static const char *const program = "mount.ckptfs";

/* mount.ckptfs ends like mount(8). */
#define MOUNT_USAGE 1

/* --- where to ---------------------------------------------------------------------------- */

/* The mount point, ready to be mounted on; *@out_done: it is mounted there already. */
static int clear_point(const char *point, const char *store_path, bool *out_done,
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
		*out_done = strcmp(mount->source, store_path) == 0;
		if (!*out_done)
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

/* Absolute path of the store that @path names. */
static int find_store(const char *path, struct ckpt_buf *out, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(path, NULL, &place, err);

	if (rc == -ENXIO)
		return ckpt_err_set(err, rc,
				    "'%s' is no store; make one of it with 'ckptfs init %s'", path,
				    path);
	if (rc < 0)
		return rc;
	if (place.kind == CKPT_PLACE_STORE)
		ckpt_buf_add_str(out, place.store_path);
	else if (!place.store_path)
		rc = ckpt_err_set(
			err, -ENXIO,
			"'%s' is a checkpoint in no store; make a store of a folder above it with 'ckptfs init'",
			path);
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
static void find_program(struct ckpt_buf *out)
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

static int run_program(const char *path, char *const argv[], struct ckpt_err *err)
{
	int status = 0;
	pid_t child;

	(void)fflush(NULL);
	child = fork();
	if (child < 0)
		return ckpt_err_sys(err, -errno, "cannot start '%s'", path);
	if (child == 0) {
		/* The daemon lives on: it must not hold our caller's pipes and files open. */
		ckpt_ignore((int)syscall(SYS_close_range, 3U, ~0U, 0U));
		(void)execvp(path, argv);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFSIGNALED(status))
		return ckpt_err_set(err, -EINTR, "'%s' was ended by signal %d", path,
				    WTERMSIG(status));
	if (WEXITSTATUS(status) == 127)
		return ckpt_err_set(
			err, -ENOENT,
			"cannot run '%s': it is neither beside 'ckptfs' nor in PATH; is it installed?",
			program);
	return WEXITSTATUS(status);
}

/* Exit code for the command: what mount.ckptfs had to say, it has said. */
static int mount_store(const char *store_path, const char *point, const struct option_list *options,
		       struct ckpt_err *err)
{
	char **argv = array_alloc(2 * options->count + 4, sizeof(*argv));
	CKPT_FREE char *name = strdup(program);
	CKPT_FREE char *source = strdup(store_path);
	CKPT_FREE char *target = strdup(point);
	CKPT_FREE char *dash_o = strdup("-o");
	struct ckpt_buf path;
	size_t argc = 0;
	int rc;

	if (!argv || !name || !source || !target || !dash_o) {
		free(argv);
		return ckpt_err_set(err, -ENOMEM, "out of memory");
	}
	argv[argc++] = name;
	argv[argc++] = source;
	argv[argc++] = target;
	for (size_t i = 0; i < options->count; i++) {
		argv[argc++] = dash_o;
		memcpy(&argv[argc++], &options->items[i],
		       sizeof(argv[0])); /* exec does not write to it */
	}
	ckpt_buf_init(&path);
	find_program(&path);
	rc = run_program(path.data, argv, err);
	ckpt_buf_release(&path);
	free(argv);
	if (rc == 0 || rc == MOUNT_USAGE)
		return rc == 0 ? CLI_OK : CLI_USAGE;
	return rc < 0 ? rc : CLI_FAILED;
}

/* @point: NULL is over the store itself. Returns an exit code, or a negative errno. */
static int mount(const char *store, const char *point, const struct option_list *options,
		 struct ckpt_err *err)
{
	struct ckpt_buf store_path;
	struct ckpt_buf point_path;
	bool done = false;
	int rc;

	ckpt_buf_init(&store_path);
	ckpt_buf_init(&point_path);
	rc = mounts_absolute(point ? point : store, &point_path, err);
	/* Before the store is looked at: where both are one folder, a dead mount hides it. */
	if (rc == 0)
		rc = clear_point(point_path.data, NULL, &done, err);
	if (rc == 0)
		rc = find_store(store, &store_path, err);
	if (rc == 0 && !point) {
		ckpt_buf_reset(&point_path);
		ckpt_buf_add_str(&point_path, store_path.data);
	}
	if (rc == 0)
		rc = clear_point(point_path.data, store_path.data, &done, err);
	if (rc == 0 && done)
		(void)printf("'%s' is mounted on '%s' already\n", store_path.data, point_path.data);
	else if (rc == 0)
		rc = check_point(point_path.data, err);
	if (rc == 0 && !done)
		rc = mount_store(store_path.data, point_path.data, options, err);
	ckpt_buf_release(&point_path);
	ckpt_buf_release(&store_path);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct option_list options = { .items = NULL };
	const struct option_row rows[] = {
		{ "options", 'o', OPTION_LIST, &options, "OPT,...",
		  "mount options, as mount.ckptfs(8) has them" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	int code;

	if (options_parse(cli, argc, argv, rows, &args, &code)) {
		code = mount(args.items[0], args.count > 1 ? args.items[1] : NULL, &options, &err);
		code = cli_flush(code < 0 ? cli_report(&err) : code);
	}
	option_list_release(&options);
	return code;
}

const struct cli_command cli_mount_command = {
	.name = "mount",
	.args = "STORE [MNT] [-o OPT,...]",
	.summary = "show a store as a file system",
	.details =
		"MNT left out: over STORE itself, so that no path changes. Returns when the mount\n"
		"answers. A dead mount in the place is taken off first; a store that is mounted\n"
		"there already is left as it is, with exit code 0.\n",
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
