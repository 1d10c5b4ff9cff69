/*
 * db_vfs.c - SQLite's own unix VFS, but for how it makes a path absolute.
 *
 * The store hands in "/proc/self/fd/N/.ckptfs/index.db" where a mount covers its
 * own path. The stock xFullPathname follows that link by readlink(2) to the
 * path it had, which now leads into the mount: the daemon would wait for itself.
 * So absolute paths stay as they are; that the last component is no symbolic
 * link is checked by db_file_look(), and os_unix.c opens with O_NOFOLLOW.
 */
#include <assert.h>
#include <string.h>

#include "db_internal.h"

static sqlite3_vfs ckptfs_vfs;
static bool registered;

static int full_pathname(sqlite3_vfs *vfs, const char *path, int out_size, char *out)
{
	size_t len_bytes = strlen(path);

	(void)vfs;
	assert(path[0] == '/');
	if (out_size <= 0 || len_bytes >= (size_t)out_size)
		return SQLITE_CANTOPEN;
	memcpy(out, path, len_bytes + 1);
	return SQLITE_OK;
}

static void register_once(void)
{
	const sqlite3_vfs *stock = sqlite3_vfs_find("unix");

	if (!stock)
		return;
	ckptfs_vfs = *stock;
	ckptfs_vfs.zName = "ckptfs";
	ckptfs_vfs.pNext = NULL;
	ckptfs_vfs.xFullPathname = full_pathname;
	registered = sqlite3_vfs_register(&ckptfs_vfs, 0) == SQLITE_OK;
}

const char *db_vfs_name(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_once);
	return registered ? ckptfs_vfs.zName : NULL;
}
