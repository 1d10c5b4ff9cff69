/* cli_undelete.c - bring removed checkpoints back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"

#define ID_LEN 36

/* An id, also with what tells copies apart behind it. */
static bool is_id(const char *text)
{
	char id[ID_LEN + 1];

	if (strlen(text) < ID_LEN)
		return false;
	memcpy(id, text, ID_LEN);
	id[ID_LEN] = '\0';
	return ckpt_uuid_check(id) == 0;
}

/* What the trash is asked for: the last component where that is an id, else the whole name. */
static void add_wanted(const struct ckpt_place *place, struct ckpt_buf *out)
{
	ckpt_path_join(out, place->name, place->inner);
	if (place->inner[0] == '\0') {
		ckpt_buf_reset(out);
		ckpt_buf_add_str(out, is_id(ckpt_path_basename(place->name))
					      ? ckpt_path_basename(place->name)
					      : place->name);
	}
}

static int restore_here(const struct ckpt_place *place, const char *wanted, struct ckpt_buf *name,
			struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	struct ckpt_buf room;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);

	ckpt_buf_init(&room);
	if (rc == 0)
		rc = ckpt_trash_find(store, wanted, &room, err);
	if (rc == 0)
		rc = ckpt_trash_restore(store, room.data, name, err);
	ckpt_buf_release(&room);
	ckpt_store_free(store);
	if (rc == 0)
		mount_refresh(place, name->data);
	return rc;
}

static int restore_place(const struct ckpt_place *place, const char *path, struct ckpt_err *err)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_RESTORE };
	struct ckpt_buf wanted;
	struct ckpt_buf name;
	int rc;

	if (place->kind == CKPT_PLACE_STORE || !place->store_path)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is %s; name a removed checkpoint, which 'ckptfs ls' lists, or its id",
			path, place->store_path ? "a store" : "in no store");
	ckpt_buf_init(&wanted);
	ckpt_buf_init(&name);
	add_wanted(place, &wanted);
	rc = ckpt_buf_check(&wanted) < 0 ? ckpt_err_set(err, -ENOMEM, "out of memory") : 0;
	if (rc == 0 && cli_place_covered(place)) {
		rc = mount_ioctl(place->mount_path, &request, wanted.data, err);
		ckpt_buf_add_str(&name, request.name);
	} else if (rc == 0) {
		rc = restore_here(place, wanted.data, &name, err);
	}
	if (rc == 0)
		(void)printf("%s: brought back\n", name.data);
	ckpt_buf_release(&name);
	ckpt_buf_release(&wanted);
	return rc;
}

static int undelete_path(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place(cli, path, &place, err);

	if (rc == 0)
		rc = restore_place(&place, path, err);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, undelete_path);
}

const struct cli_command cli_undelete_command = {
	.name = "undelete",
	.args = "PATH...",
	.summary = "bring removed checkpoints back",
	.details =
		"PATH is what the checkpoint was called, or, below its store, its id; of several\n"
		"with that name, the one that was removed last. 'ckptfs ls' lists what is in the\n"
		"trash. Nothing is replaced: the name must be free.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run,
};
