/* side.c - see side.h. */
#include "cli/side.h"

#include <errno.h>

int side_read(const struct cli_checkpoint *checkpoint, struct side *out, struct ckpt_err *err)
{
	const struct ckpt_views_from from = { .dirfd = checkpoint->dirfd,
					      .group_fd = -1,
					      .label = checkpoint->place.name,
					      .committed = checkpoint->state ==
							   CKPT_STATE_COMMITTED };
	int rc = ckpt_views_load(&from, &out->views, err);

	return rc < 0 ? rc : ckpt_view_reader_new(out->views, &from, &out->reader, err);
}

int side_open(const struct cli *cli, const char *path, struct side *out, struct ckpt_err *err)
{
	int rc = cli_checkpoint_open(cli, path, &out->checkpoint, err);

	if (rc == 0 && out->checkpoint.place.kind == CKPT_PLACE_ENTRY)
		rc = ckpt_err_set(err, -EINVAL,
				  "'%s' is a part of checkpoint '%s'; name the checkpoint", path,
				  out->checkpoint.place.name);
	return rc < 0 ? rc : side_read(&out->checkpoint, out, err);
}

void side_release(struct side *side)
{
	ckpt_view_reader_free(side->reader);
	ckpt_views_unref(side->views);
	cli_checkpoint_release(&side->checkpoint);
	*side = (struct side)SIDE_INIT;
}
