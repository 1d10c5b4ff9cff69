/* gesture_look.c - is a rename a commit? */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "gesture.h"
#include "store/store.h"

/* Only the last component is temporary: what lies in an open folder is part of it. */
static bool is_temporary_name(const char *path)
{
	const char *base = ckpt_path_basename(path);
	struct ckpt_buf above;
	bool yes;

	if (!ckpt_path_component_is_temporary(base))
		return false;
	ckpt_buf_init(&above);
	if (base > path)
		ckpt_buf_add(&above, path, (size_t)(base - path) - 1);
	yes = ckpt_buf_check(&above) == 0 && !ckpt_path_is_temporary(above.data);
	ckpt_buf_release(&above);
	return yes;
}

/* Does it lie in a checkpoint, whatever that is called? Then it becomes none by itself. */
static bool lies_in_checkpoint(struct fs *fs, const char *path)
{
	struct ckpt_buf above;
	bool yes = false;

	ckpt_buf_init(&above);
	for (const char *slash = strchr(path, '/'); slash && !yes; slash = strchr(slash + 1, '/')) {
		enum ckpt_state state = CKPT_STATE_NONE;

		ckpt_buf_reset(&above);
		ckpt_buf_add(&above, path, (size_t)(slash - path));
		yes = ckpt_state_of(ckpt_store_fd(fs->store), above.data, &state, NULL, NULL) ==
			      0 &&
		      state != CKPT_STATE_NONE;
	}
	ckpt_buf_release(&above);
	return yes;
}

/* What a look at a folder and all below it finds. */
struct content {
	bool has_file;
	bool has_checkpoint; /* another one, inside */
};

static bool holds_manifest(int dirfd)
{
	struct stat st;

	return ckpt_io_fstatat(dirfd, CKPT_MANIFEST_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void look_in(int dirfd, unsigned int depth, struct content *out);

static void look_at(int dirfd, const char *name, unsigned char type, unsigned int depth,
		    struct content *out)
{
	CKPT_CLOSE int fd = -1;
	struct stat st;

	if (strcmp(name, CKPT_CONTROL_DIR) == 0)
		return;
	if (type == DT_UNKNOWN && ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
	out->has_file = out->has_file || type == DT_REG;
	if (type != DT_DIR)
		return;
	fd = ckpt_io_openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return; /* the commit will say why */
	out->has_checkpoint = out->has_checkpoint || holds_manifest(fd);
	if (depth < CKPT_ENTRY_DEPTH_MAX)
		look_in(ckpt_steal_fd(&fd), depth + 1, out);
}

/* Takes @dirfd over. */
static void look_in(int dirfd, unsigned int depth, struct content *out)
{
	const char *name = NULL;
	unsigned char type = DT_UNKNOWN;
	DIR *dir = fdopendir(dirfd);

	if (!dir) {
		close(dirfd);
		return;
	}
	while (!out->has_checkpoint && ckpt_io_readdir_type(dir, &name, &type) == 1)
		look_at(dirfd, name, type, depth, out);
	closedir(dir);
}

/* At least one file, and no checkpoint that is one already. */
static bool holds_one_checkpoint(struct fs *fs, const char *path)
{
	struct content content = { .has_file = false };
	int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), path, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return false;
	look_in(fd, 0, &content);
	return content.has_file && !content.has_checkpoint;
}

bool gesture_is_rename(struct fs *fs, const char *from, const char *to)
{
	enum ckpt_state state = CKPT_STATE_NONE;

	if (!is_temporary_name(from) || ckpt_path_is_temporary(to) || lies_in_checkpoint(fs, from))
		return false;
	if (ckpt_state_of(ckpt_store_fd(fs->store), from, &state, NULL, NULL) < 0)
		return false;
	return (state == CKPT_STATE_OPEN || state == CKPT_STATE_ABORTED) &&
	       holds_one_checkpoint(fs, from);
}
