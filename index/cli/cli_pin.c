/* cli_pin.c - pin and unpin: checkpoints that cannot be removed. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"

static int set_here(const struct ckpt_place *place, bool pin, bool *out_was, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	int rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);

	if (rc == 0)
		rc = pin ? ckpt_pin(store, place->name, out_was, err)
			 : ckpt_unpin(store, place->name, out_was, err);
	ckpt_store_free(store);
	if (rc == 0)
		mount_refresh(place, place->name);
	return rc;
}

static int set_by_daemon(const struct ckpt_place *place, bool pin, bool *out_was,
			 struct ckpt_err *err)
{
	struct ckpt_control request = { .op = pin ? CKPT_CONTROL_PIN : CKPT_CONTROL_UNPIN };
	int rc = mount_ioctl(place->mount_path, &request, place->name, err);

	*out_was = request.was != 0;
	return rc;
}

static int set_path(const struct cli *cli, const char *path, bool pin, struct ckpt_err *err)
{
	struct ckpt_place place;
	bool was = false;
	int rc = cli_place_whole(cli, path, &place, err);

	if (rc == 0 && cli_place_covered(&place))
		rc = set_by_daemon(&place, pin, &was, err);
	else if (rc == 0)
		rc = set_here(&place, pin, &was, err);
	if (rc == 0 && was)
		(void)printf("%s: %s\n", place.name,
			     pin ? "is pinned already" : "is not pinned, nothing to do");
	else if (rc == 0)
		(void)printf("%s: %s\n", place.name, pin ? "pinned" : "unpinned");
	ckpt_place_release(&place);
	return rc;
}

static int pin_path(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	return set_path(cli, path, true, err);
}

static int unpin_path(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	return set_path(cli, path, false, err);
}

static int run_pin(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, pin_path);
}

static int run_unpin(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, unpin_path);
}

const struct cli_command cli_pin_command = {
	.name = "pin",
	.args = "PATH...",
	.summary = "keep committed checkpoints from being removed",
	.details = "Neither 'ckptfs rm' nor an rm in a mount removes a pinned checkpoint, until\n"
		   "'ckptfs unpin'. The pin lies in the store, and holds for the checkpoint under\n"
		   "whatever name it has.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run_pin,
};

const struct cli_command cli_unpin_command = {
	.name = "unpin",
	.args = "PATH...",
	.summary = "let pinned checkpoints be removed again",
	.details = "It takes away what 'ckptfs pin' has put there; the checkpoint stays.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run_unpin,
};
