/* place_of.c - from a path on the command line to the thing it names. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/path.h"
#include "cli/cli.h"

int cli_place(const struct cli *cli, const char *path, struct ckpt_place *out, struct ckpt_err *err)
{
	if (path)
		return ckpt_place_find(path, cli->base, out, err);
	return ckpt_place_find(cli->base ? cli->base : ".", NULL, out, err);
}

int cli_place_look(const struct cli *cli, const char *path, struct ckpt_place *out,
		   struct ckpt_err *err)
{
	if (path)
		return ckpt_place_look(path, cli->base, out, err);
	return ckpt_place_look(cli->base ? cli->base : ".", NULL, out, err);
}

const char *cli_place_describe(enum ckpt_place_kind kind)
{
	switch (kind) {
	case CKPT_PLACE_STORE:
		return "a store";
	case CKPT_PLACE_GROUP:
		return "a group";
	case CKPT_PLACE_CHECKPOINT:
		return "a checkpoint";
	case CKPT_PLACE_ENTRY:
		return "a part of a checkpoint";
	case CKPT_PLACE_LOOSE:
		return "a loose file";
	case CKPT_PLACE_NOTHING:
		return "not there";
	}
	return "unknown";
}

static int refuse_kind(const struct cli *cli, const struct ckpt_place *place, const char *path,
		       struct ckpt_err *err)
{
	const char *command = cli->command->name;

	if (place->kind == CKPT_PLACE_NOTHING)
		return ckpt_err_set(err, -ENOENT,
				    "'%s' does not exist; see what does with 'ckptfs ls'", path);
	if (place->kind == CKPT_PLACE_GROUP)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is a group; name the checkpoints in it, as in 'ckptfs %s %s/*'", path,
			command, path);
	if (place->kind == CKPT_PLACE_ENTRY)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is a part of a checkpoint; name it as a whole: 'ckptfs %s %s'", path,
			command, place->folder);
	return ckpt_err_set(err, -EINVAL,
			    "'%s' is %s, not a checkpoint; name one that 'ckptfs ls' shows", path,
			    cli_place_describe(place->kind));
}

int cli_place_whole(const struct cli *cli, const char *path, struct ckpt_place *out,
		    struct ckpt_err *err)
{
	int rc;

	*out = (struct ckpt_place){ .name = NULL };
	rc = cli_place(cli, path, out, err);
	if (rc < 0)
		return rc;
	if (out->kind != CKPT_PLACE_CHECKPOINT)
		return refuse_kind(cli, out, path, err);
	if (!out->store_path)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is in no store; '%s' is for checkpoints in one: make one of a folder above it with 'ckptfs init'",
			path, cli->command->name);
	return 0;
}

bool cli_place_covered(const struct ckpt_place *place)
{
	return place->mount_path && place->store_path &&
	       ckpt_path_is_below(place->store_path, place->mount_path);
}

static int open_in_store(struct cli_checkpoint *checkpoint, struct ckpt_err *err)
{
	const struct ckpt_place *place = &checkpoint->place;
	int rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &checkpoint->store,
				 err);

	if (rc < 0)
		return rc;
	rc = ckpt_state_of(ckpt_store_fd(checkpoint->store), place->name, &checkpoint->state,
			   &checkpoint->waits_for, err);
	if (rc < 0)
		return rc;
	return ckpt_store_open_checkpoint(checkpoint->store, place->name, &checkpoint->dirfd, err);
}

/* A folder in no store: it has a manifest, or was recognised by what it holds. */
static int open_bare(struct cli_checkpoint *checkpoint, struct ckpt_err *err)
{
	struct stat st;
	int fd = ckpt_io_openat(AT_FDCWD, checkpoint->place.folder, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open checkpoint '%s'",
				    checkpoint->place.folder);
	checkpoint->dirfd = fd;
	/* Whatever lies at the manifest's place, reading it will tell what is wrong with it. */
	if (ckpt_io_fstatat(fd, CKPT_MANIFEST_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		checkpoint->state = CKPT_STATE_COMMITTED;
		return 0;
	}
	checkpoint->state = CKPT_STATE_OPEN;
	ckpt_buf_add_str(&checkpoint->waits_for, "nothing: it is in no store");
	return ckpt_buf_check(&checkpoint->waits_for);
}

int cli_checkpoint_open(const struct cli *cli, const char *path, struct cli_checkpoint *out,
			struct ckpt_err *err)
{
	int rc;

	*out = (struct cli_checkpoint){ .dirfd = -1 };
	ckpt_buf_init(&out->waits_for);
	rc = cli_place_look(cli, path, &out->place, err);
	if (rc < 0)
		return rc;
	if (out->place.kind == CKPT_PLACE_NOTHING)
		return ckpt_err_set(err, -ENOENT,
				    "'%s' does not exist; see what does with 'ckptfs ls'", path);
	/* What may not be entered shows nothing by which it could be known. */
	if (out->place.kind == CKPT_PLACE_GROUP && access(out->place.folder, R_OK | X_OK) != 0 &&
	    errno == EACCES)
		return ckpt_err_sys(err, -EACCES, "cannot look into '%s'", path ? path : ".");
	if (out->place.kind != CKPT_PLACE_CHECKPOINT && out->place.kind != CKPT_PLACE_ENTRY)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is %s, not a checkpoint; name one that 'ckptfs ls' shows",
				    path ? path : ".", cli_place_describe(out->place.kind));
	return out->place.store_path ? open_in_store(out, err) : open_bare(out, err);
}

void cli_checkpoint_release(struct cli_checkpoint *checkpoint)
{
	if (checkpoint->dirfd >= 0)
		close(checkpoint->dirfd);
	ckpt_store_free(checkpoint->store);
	ckpt_buf_release(&checkpoint->waits_for);
	ckpt_place_release(&checkpoint->place);
	*checkpoint = (struct cli_checkpoint){ .dirfd = -1 };
	ckpt_buf_init(&checkpoint->waits_for);
}
