/* cli_rm.c - move committed checkpoints into the trash. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"

static int remove_here(const struct ckpt_place *place, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);

	if (rc == 0)
		rc = ckpt_trash_remove(store, place->name, NULL, err);
	ckpt_store_free(store);
	if (rc == 0)
		mount_refresh(place, place->name);
	return rc;
}

static int remove_path(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_REMOVE };
	struct ckpt_place place;
	int rc = cli_place_whole(cli, path, &place, err);

	if (rc == 0 && cli_place_covered(&place))
		rc = mount_ioctl(place.mount_path, &request, place.name, err);
	else if (rc == 0)
		rc = remove_here(&place, err);
	if (rc == 0)
		(void)printf("%s: removed; bring it back with 'ckptfs undelete %s'\n", place.name,
			     place.folder);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, remove_path);
}

const struct cli_command cli_rm_command = {
	.name = "rm",
	.args = "PATH...",
	.summary = "remove committed checkpoints",
	.details =
		"Each goes into the trash of its store as a whole, and 'ckptfs undelete' brings it\n"
		"back until it is purged: after a day by a mount, by 'ckptfs gc', or when the disk\n"
		"is full. The last one of a group is kept there. Refused for a pinned one, and for\n"
		"an open one, which 'ckptfs abort' drops.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run,
};
