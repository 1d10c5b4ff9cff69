/* resave.c - see resave.h. */
#include "resave.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "committed.h"
#include "removal.h"
#include "slots.h"

/* One name that is being written again. */
struct resave {
	struct resave *next;
	char name[]; /* the lasting one, below the store */
};

struct resaves {
	_Atomic size_t count; /* read without the lock: nearly always 0 */
	pthread_mutex_t mu;
	struct resave *first; /* protected by mu */
};

struct resaves *resaves_new(void)
{
	struct resaves *resaves = calloc(1, sizeof(*resaves));

	if (resaves)
		pthread_mutex_init(&resaves->mu, NULL);
	return resaves;
}

void resaves_free(struct resaves *resaves)
{
	if (!resaves)
		return;
	while (resaves->first) {
		struct resave *next = resaves->first->next;

		free(resaves->first);
		resaves->first = next;
	}
	pthread_mutex_destroy(&resaves->mu);
	free(resaves);
}

/* --- the table ---------------------------------------------------------------------------- */

/* Where @name is, or would be put: the end of the list. */
static struct resave **find_locked(struct resaves *resaves, const char *name)
{
	struct resave **slot = &resaves->first;

	while (*slot && strcmp((*slot)->name, name) != 0)
		slot = &(*slot)->next;
	return slot;
}

static bool is_known(struct resaves *resaves, const char *name)
{
	bool known;

	if (atomic_load(&resaves->count) == 0)
		return false;
	pthread_mutex_lock(&resaves->mu);
	known = *find_locked(resaves, name) != NULL;
	pthread_mutex_unlock(&resaves->mu);
	return known;
}

/* *@out_new: it was not known. */
static int note(struct resaves *resaves, const char *name, bool *out_new)
{
	size_t size = strlen(name) + 1;
	struct resave *resave = calloc(1, sizeof(*resave) + size);
	struct resave **slot;

	if (!resave)
		return -ENOMEM;
	memcpy(resave->name, name, size);
	pthread_mutex_lock(&resaves->mu);
	slot = find_locked(resaves, name);
	*out_new = !*slot;
	if (*out_new) {
		*slot = resave;
		atomic_fetch_add(&resaves->count, 1);
	}
	pthread_mutex_unlock(&resaves->mu);
	if (!*out_new)
		free(resave);
	return 0;
}

void resave_ended(struct fs *fs, const char *name)
{
	struct resaves *resaves = fs->resaves;
	struct resave **slot;
	struct resave *ended;

	if (atomic_load(&resaves->count) == 0)
		return;
	pthread_mutex_lock(&resaves->mu);
	slot = find_locked(resaves, name);
	ended = *slot;
	if (ended) {
		*slot = ended->next;
		atomic_fetch_sub(&resaves->count, 1);
	}
	pthread_mutex_unlock(&resaves->mu);
	free(ended);
}

/* --- asking ------------------------------------------------------------------------------- */

static bool is_there(const struct fs *fs, const char *path)
{
	struct stat st;

	return ckpt_io_fstatat(ckpt_store_fd(fs->store), path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int resave_stored(struct fs *fs, const char *path, struct ckpt_buf *out)
{
	struct ckpt_buf stored;
	int rc;

	if (!is_known(fs->resaves, path))
		return -ENOENT;
	ckpt_buf_init(&stored);
	ckpt_buf_printf(&stored, "%s" CKPT_PARTIAL_SUFFIX, path);
	rc = ckpt_buf_check(&stored);
	/* Committed, dropped or moved by somebody else. */
	if (rc == 0 && !is_there(fs, stored.data)) {
		resave_ended(fs, path);
		rc = -ENOENT;
	}
	if (rc == 0) {
		ckpt_buf_add_str(out, stored.data);
		rc = ckpt_buf_check(out);
	}
	ckpt_buf_release(&stored);
	return rc;
}

int resave_redirect(struct fs *fs, const char *parent_path, const char *name, struct ckpt_buf *out)
{
	struct ckpt_buf path;
	struct ckpt_buf stored;
	int rc;

	if (atomic_load(&fs->resaves->count) == 0)
		return -ENOENT;
	ckpt_buf_init(&path);
	ckpt_buf_init(&stored);
	ckpt_path_join(&path, parent_path, name);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = resave_stored(fs, path.data, &stored);
	if (rc == 0) {
		ckpt_buf_add_str(out, ckpt_path_basename(stored.data));
		rc = ckpt_buf_check(out);
	}
	ckpt_buf_release(&stored);
	ckpt_buf_release(&path);
	return rc;
}

/* The lasting path behind NAME.partial; heap, NULL: @path is none, or memory is out. */
static char *lasting_path(const char *path)
{
	size_t len = strlen(path);
	size_t suffix_len = strlen(CKPT_PARTIAL_SUFFIX);

	if (len <= suffix_len || strcmp(path + len - suffix_len, CKPT_PARTIAL_SUFFIX) != 0)
		return NULL;
	return strndup(path, len - suffix_len);
}

bool resave_is_stored(struct fs *fs, const char *path)
{
	CKPT_FREE char *lasting = NULL;

	if (atomic_load(&fs->resaves->count) == 0)
		return false;
	lasting = lasting_path(path);
	return lasting && is_known(fs->resaves, lasting);
}

bool resave_hides(struct fs *fs, const char *parent_path, const char *name)
{
	CKPT_FREE char *lasting = NULL;
	struct ckpt_buf path;

	if (atomic_load(&fs->resaves->count) == 0)
		return false;
	ckpt_buf_init(&path);
	ckpt_path_join(&path, parent_path, name);
	if (ckpt_buf_check(&path) == 0)
		lasting = lasting_path(path.data);
	ckpt_buf_release(&path);
	/* Where the old one was removed meanwhile, nothing else is listed for it. */
	return lasting && is_known(fs->resaves, lasting) && is_there(fs, lasting);
}

/* --- beginning ---------------------------------------------------------------------------- */

static int refuse(const struct fs *fs, const char *name)
{
	fs_log_once("'%s' is committed and is not written again: save under another name, remove "
		    "it first with 'ckptfs rm %s/%s', or mount with -o resave=replace",
		    name, ckpt_store_path(fs->store), name);
	return -EROFS;
}

static int refuse_pinned(const struct fs *fs, const char *name)
{
	fs_log_once("'%s' is pinned and is not written again: save under another name, or run "
		    "'ckptfs unpin %s/%s' first",
		    name, ckpt_store_path(fs->store), name);
	return -EROFS;
}

static int begin(struct fs *fs, const char *name)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf open_name;
	bool is_new = false;
	int rc;

	ckpt_buf_init(&open_name);
	rc = ckpt_open_again(fs->store, name, &open_name, &err);
	if (rc == 0)
		rc = note(fs->resaves, name, &is_new);
	if (rc < 0 && err.msg[0] != '\0')
		fs_log_once("%s", err.msg);
	if (rc == 0 && is_new)
		ckpt_log("'%s' is written again: the new files go to '%s', which replaces it when "
			 "it is committed",
			 name, open_name.data);
	ckpt_buf_release(&open_name);
	return rc < 0 ? rc : -ESTALE;
}

/* Is the open folder there? Then the caller has looked the name up before it was. */
static bool has_begun(struct fs *fs, const char *name)
{
	struct ckpt_buf stored;
	bool begun;

	ckpt_buf_init(&stored);
	begun = resave_stored(fs, name, &stored) == 0;
	ckpt_buf_release(&stored);
	return begun;
}

int resave_begin(struct fs *fs, uint64_t slot)
{
	struct checkpoint *cp = NULL;
	CKPT_CLOSE int fd = -1;
	int rc = slots_get(fs, slot, &cp);

	if (rc < 0)
		return rc;
	if (!fs->options->resave_replace || removal_is_active(fs, slot))
		rc = refuse(fs, cp->row.name);
	else if (ckpt_is_pinned(fs->store, cp->row.id))
		rc = refuse_pinned(fs, cp->row.name);
	else if (has_begun(fs, cp->row.name))
		rc = -ESTALE;
	else
		rc = committed_open_folder(fs, cp, &fd);
	if (rc == 0)
		rc = begin(fs, cp->row.name);
	checkpoint_unref(cp);
	return rc;
}
