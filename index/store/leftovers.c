/*
 * leftovers.c - what dead processes have left in committed checkpoints (their locks and sessions),
 * and sessions of the store that nobody has use for. Nothing of it is in anybody's way; it is only
 * cleared away. Open checkpoints are left alone: what lies in them may still be of use.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/commit_internal.h"
#include "store/trash.h"

struct sweep {
	struct ckpt_store *store;
	const struct ckpt_leftovers_options *options;
	const char *folder;    /* that the files lie in, below the store */
	uint64_t min_age_secs; /* of sessions */
	uint64_t count;
};

static void drop(struct sweep *sweep, int dirfd, const char *name)
{
	struct ckpt_buf path;

	if (!sweep->options->dry_run && ckpt_io_unlinkat(dirfd, name, 0) < 0)
		return; /* not ours to remove: it stays */
	sweep->count++;
	if (!sweep->options->removed)
		return;
	ckpt_buf_init(&path);
	ckpt_path_join(&path, sweep->folder, name);
	if (ckpt_buf_check(&path) == 0)
		sweep->options->removed(sweep->options->ctx, path.data);
	ckpt_buf_release(&path);
}

static bool is_old(int dirfd, const char *name, uint64_t min_age_secs)
{
	struct stat st;
	time_t now = ckpt_session_now(dirfd);

	return ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       now >= st.st_mtim.tv_sec && (uint64_t)(now - st.st_mtim.tv_sec) >= min_age_secs;
}

static int look_at_session(void *ctx, int control, const char *name)
{
	struct sweep *sweep = ctx;
	struct ckpt_session_head head;
	uint64_t min_age_secs;
	int rc = ckpt_session_head_read(control, name, &head);

	if (rc < 0 && rc != -EBADMSG)
		return 0;
	if (rc == 0 && ckpt_session_lives(&head, ckpt_session_now(control)))
		return 0;
	/* One in the making is damaged, for a moment. */
	min_age_secs = rc < 0 ? num_max(sweep->min_age_secs, CKPT_SESSION_DEAD_SECS)
			      : sweep->min_age_secs;
	if (is_old(control, name, min_age_secs))
		drop(sweep, control, name);
	return 0;
}

/* --- in a committed checkpoint --------------------------------------------------------------- */

static void look_at_lock(struct sweep *sweep, int dirfd)
{
	CKPT_CLOSE int control =
		ckpt_io_openat(dirfd, CKPT_CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	static const char *const files[] = { CKPT_COMMIT_LOCK, CKPT_MANIFEST_TEMP };
	struct ckpt_buf holder;
	struct stat st;
	int rc;

	ckpt_buf_init(&holder);
	rc = ckpt_lock_holder(dirfd, &holder);
	ckpt_buf_release(&holder);
	for (size_t i = 0; rc == -ENOENT && control >= 0 && i < sizeof(files) / sizeof(files[0]);
	     i++) {
		const char *name = ckpt_path_basename(files[i]);

		if (ckpt_io_fstatat(control, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			drop(sweep, control, name);
	}
}

static int look_at_found(void *ctx, const struct ckpt_found *found)
{
	struct sweep *sweep = ctx;
	CKPT_CLOSE int dirfd = -1;
	struct ckpt_buf folder;

	if (found->state != CKPT_STATE_COMMITTED)
		return 0;
	dirfd = ckpt_io_open_beneath(ckpt_store_fd(sweep->store), found->name,
				     O_RDONLY | O_DIRECTORY, 0);
	if (dirfd < 0)
		return 0; /* gone, or not ours to look into */
	ckpt_buf_init(&folder);
	ckpt_path_join(&folder, found->name, CKPT_CONTROL_DIR);
	if (ckpt_buf_check(&folder) == 0) {
		sweep->folder = folder.data;
		look_at_lock(sweep, dirfd);
		ckpt_ignore(ckpt_session_each(dirfd, CKPT_CONTROL_DIR, CKPT_SESSION_PREFIX,
					      look_at_session, sweep));
	}
	ckpt_buf_release(&folder);
	return 0;
}

int ckpt_leftovers_sweep(struct ckpt_store *store, const struct ckpt_leftovers_options *options,
			 uint64_t *out_count, struct ckpt_err *err)
{
	struct sweep sweep = { .store = store, .options = options };
	const char *below = options->below ? options->below : "";
	int rc = ckpt_store_walk(store, below, look_at_found, &sweep, err);

	if (rc == 0 && *below == '\0') {
		sweep.folder = CKPT_SESSIONS_DIR;
		sweep.min_age_secs = options->max_age_secs;
		/* None is there, as a rule. */
		ckpt_ignore(ckpt_session_each(ckpt_store_fd(store), CKPT_SESSIONS_DIR, "",
					      look_at_session, &sweep));
	}
	*out_count = sweep.count;
	return rc;
}
