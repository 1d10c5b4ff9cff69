/* cli_abort.c - drop an open checkpoint. */
#include <errno.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"

static int abort_here(const struct ckpt_place *place, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	int rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);

	if (rc == 0)
		rc = ckpt_abort(store, place->name, err);
	ckpt_store_free(store);
	if (rc == 0)
		mount_refresh(place, place->name);
	return rc;
}

static int abort_place(const struct ckpt_place *place, const char *path, struct ckpt_err *err)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_ABORT };
	int rc;

	if (place->kind == CKPT_PLACE_NOTHING)
		return ckpt_err_set(err, -ENOENT,
				    "'%s' does not exist; see what does with 'ckptfs ls'", path);
	if (place->kind != CKPT_PLACE_CHECKPOINT)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is %s, not an open checkpoint; nothing was dropped", path,
				    cli_place_describe(place->kind));
	if (!place->store_path)
		return ckpt_err_set(
			err, -EROFS,
			"'%s' is a committed checkpoint, and in no store; nothing was dropped",
			path);
	if (cli_place_covered(place))
		rc = mount_ioctl(place->mount_path, &request, place->name, err);
	else
		rc = abort_here(place, err);
	if (rc == 0)
		(void)printf("%s: dropped\n", place->name);
	return rc;
}

static int abort_path(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place(cli, path, &place, err);

	if (rc == 0)
		rc = abort_place(&place, path, err);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, abort_path);
}

const struct cli_command cli_abort_command = {
	.name = "abort",
	.args = "PATH",
	.summary = "drop an open checkpoint",
	.details = "It is gone as a whole, then its files are removed. Refused for a committed\n"
		   "checkpoint, and while a living writer or a commit holds it.\n",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
