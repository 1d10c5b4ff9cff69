/* session_place.c - which open checkpoint a session belongs into; see write_session.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"

/* End the path behind the component that begins at @at; returns where the next begins, or NULL. */
static char *cut(char *at)
{
	char *slash = strchr(at, '/');

	if (!slash)
		return NULL;
	*slash = '\0';
	return slash + 1;
}

static bool is_folder(int store_fd, const char *path)
{
	struct stat st;

	return ckpt_io_fstatat(store_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode);
}

static bool has_temporary_name(int store_fd, const char *folder)
{
	return ckpt_path_component_is_temporary(ckpt_path_basename(folder)) &&
	       is_folder(store_fd, folder);
}

static bool is_open_by_content(int store_fd, const char *folder)
{
	enum ckpt_state state = CKPT_STATE_NONE;

	return ckpt_name_is_numbered(ckpt_path_basename(folder)) && is_folder(store_fd, folder) &&
	       ckpt_state_of(store_fd, folder, &state, NULL, NULL) == 0 && state == CKPT_STATE_OPEN;
}

/* The topmost folder on the way to @path, it included, of which @is_it says so. -ENOENT. */
static int topmost(int store_fd, const char *path, bool (*is_it)(int store_fd, const char *folder),
		   struct ckpt_buf *out)
{
	CKPT_FREE char *folder = strdup(path);
	char *at = folder;

	if (!folder)
		return -ENOMEM;
	for (int depth = 0; at && *at != '\0' && depth < CKPT_NAME_DEPTH_MAX; depth++) {
		char *next = cut(at);

		if (is_it(store_fd, folder) && ckpt_path_check_name(folder, NULL) == 0) {
			ckpt_buf_add_str(out, folder);
			return ckpt_buf_check(out);
		}
		if (next)
			next[-1] = '/';
		at = next;
	}
	return -ENOENT;
}

int ckpt_session_place(struct ckpt_store *store, const char *path, struct ckpt_buf *out,
		       struct ckpt_err *err)
{
	int store_fd = ckpt_store_fd(store);
	int rc = topmost(store_fd, path, has_temporary_name, out);

	if (rc == -ENOENT)
		rc = topmost(store_fd, path, is_open_by_content, out);
	if (rc == -ENOENT)
		rc = 0; /* the store's own */
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot look at '%s'", path) : 0;
}
