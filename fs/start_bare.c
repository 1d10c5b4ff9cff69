/* start_bare.c - see start_bare.h. */
#include "start_bare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/store.h"

/* A look at a run's folder, and at the runs in it: more is not worth the wait at a mount. */
#define LEVELS_MAX 3
#define FOLDERS_MAX 256U

struct search {
	unsigned int seen;
	bool found;
	bool cut; /* there was more than was looked at */
};

static void look(struct search *search, int parent_fd, const char *name, int level);

static void look_below(struct search *search, int fd, int level)
{
	CKPT_CLOSE int list_fd = ckpt_io_openat(fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = list_fd < 0 ? NULL : fdopendir(list_fd);
	unsigned char type;
	const char *name;

	if (!dir)
		return;
	ckpt_ignore(ckpt_steal_fd(&list_fd)); /* closedir() closes it */
	while (!search->found && ckpt_io_readdir_type(dir, &name, &type) > 0) {
		if ((type == DT_DIR || type == DT_UNKNOWN) && strcmp(name, CKPT_CONTROL_DIR) != 0)
			look(search, fd, name, level);
	}
	closedir(dir);
}

/* Is the folder @name, or one below it, a checkpoint? What cannot be looked at is none. */
static void look(struct search *search, int parent_fd, const char *name, int level)
{
	CKPT_CLOSE int fd = ckpt_io_openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	enum ckpt_bare kind = CKPT_BARE_NOTHING;
	struct stat st;

	search->cut = search->cut || level > LEVELS_MAX || search->seen >= FOLDERS_MAX;
	if (fd < 0 || search->cut)
		return;
	search->seen++;
	search->found = ckpt_bare_of(fd, name, level == 0, &kind) == 0 && kind != CKPT_BARE_NOTHING;
	search->found = search->found ||
			ckpt_io_fstatat(fd, CKPT_MANIFEST_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!search->found)
		look_below(search, fd, level + 1);
}

void start_tell_bare(const struct mount_options *options)
{
	struct search search = { .seen = 0 };

	if (!options->bare)
		return;
	look(&search, AT_FDCWD, options->mount_point, 0);
	(void)fprintf(
		stderr,
		"mount.ckptfs: '%s' is no store: it is shown read-only, and nothing that was never committed can be verified%s\n",
		options->store_path,
		search.found || search.cut ? "" : "; no checkpoint is recognised in it yet");
}
