/*
 * commit.c - the order of a commit, ckptfs-format(5) "The commit". The commit
 * point is the rename of the manifest, or of the folder where that follows;
 * whatever fails before it leaves the checkpoint open, with nothing changed
 * but a sequence number that nobody uses.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/commit_internal.h"

#define SESSION_WAIT_MS 5000
#define SESSION_POLL_NS (50L * 1000 * 1000)

int ckpt_commit_tick(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const struct ckpt_commit_options *options = commit->options;

	if (!options->progress ||
	    options->progress(options->progress_ctx, atomic_load(&commit->bytes_done),
			      commit->bytes_total) == 0)
		return 0;
	return ckpt_err_set(err, -ECANCELED, "the commit of '%s' was cancelled; it stays open",
			    commit->name);
}

static bool has_manifest(const struct ckpt_commit *commit)
{
	struct stat st;

	return ckpt_io_fstatat(commit->dirfd, CKPT_MANIFEST_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- before anything is touched ---------------------------------------------------------- */

/* The name that the caller wants, where only the last component of the present one is temporary. */
static int take_wanted_name(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const char *wanted = commit->options->final_name;
	struct ckpt_buf own;
	int rc = ckpt_path_check_name(wanted, err);

	if (rc < 0)
		return rc;
	if (ckpt_path_is_temporary(wanted))
		return ckpt_err_set(
			err, -EINVAL,
			"cannot commit '%s' as '%s': that is a temporary name, which is never committed; give a lasting one",
			commit->name, wanted);
	ckpt_buf_add_str(&commit->final_name, wanted);
	if (strcmp(commit->name, wanted) == 0)
		return ckpt_buf_check(&commit->final_name);
	if (!ckpt_path_is_temporary(commit->name))
		return ckpt_err_set(
			err, -EINVAL,
			"cannot commit '%s' as '%s': it has a lasting name already; rename it, then commit it by that name",
			commit->name, wanted);
	ckpt_buf_init(&own);
	rc = ckpt_path_final_name(commit->name, &own, err);
	ckpt_buf_release(&own);
	return rc < 0 ? rc : ckpt_buf_check(&commit->final_name);
}

static int find_final_name(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = ckpt_path_check_name(commit->name, err);

	if (rc < 0)
		return rc;
	if (commit->options->final_name)
		return take_wanted_name(commit, err);
	if (!ckpt_path_is_temporary(commit->name)) {
		ckpt_buf_add_str(&commit->final_name, commit->name);
		return ckpt_buf_check(&commit->final_name);
	}
	rc = ckpt_path_final_name(commit->name, &commit->final_name, err);
	if (rc == 0)
		rc = ckpt_buf_check(&commit->final_name);
	return rc < 0 ? rc : ckpt_path_check_name(commit->final_name.data, err);
}

static int already_committed(const struct ckpt_commit *commit, struct ckpt_err *err)
{
	return ckpt_err_set(err, -EEXIST,
			    "'%s' is committed already, and a committed checkpoint never changes",
			    commit->name);
}

/* A save that failed, or that its ranks gave up while the coordinator was away. */
static int refuse_aborted(const struct ckpt_commit *commit, struct ckpt_err *err)
{
	struct stat st;

	if (ckpt_io_fstatat(commit->dirfd, CKPT_ABORTED_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return ckpt_err_set(
			err, -EINVAL,
			"cannot commit '%s': its save failed, '" CKPT_ABORTED_FILE
			"' in it says why; save it again, or drop it with 'ckptfs abort %s'",
			commit->name, commit->name);
	return 0;
}

/* Names and states; refused here before hours of hashing. */
static int check_names(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = ckpt_open_check_place(commit->store, commit->name, err);

	if (rc < 0)
		return rc;
	if (ckpt_store_read_only(commit->store))
		return ckpt_err_set(
			err, -EROFS,
			"cannot commit '%s': this user cannot write in '%s/" CKPT_CONTROL_DIR
			"', where sequence numbers are taken",
			commit->name, ckpt_store_path(commit->store));
	if (ckpt_commit_is_temporary(commit))
		rc = ckpt_commit_check_target(commit, err);
	else if (has_manifest(commit))
		rc = already_committed(commit, err);
	return rc < 0 ? rc : refuse_aborted(commit, err);
}

/* --- freezing -------------------------------------------------------------------------------- */

static int busy_writer(const struct ckpt_commit *commit, const char *holder, struct ckpt_err *err)
{
	const char *path = ckpt_commit_find_written(commit);

	/* Which file it is says more than who it is. */
	if (path)
		return ckpt_commit_busy(commit, path, err);
	return ckpt_err_set(
		err, -EBUSY,
		"cannot commit '%s': it is being written: %s; wait for it and run 'ckptfs commit' again",
		commit->name, holder);
}

/*
 * One look at the sessions of others: 0 nobody to wait for, 1 look again. A writer has until
 * *@deadline_ms, which is 0 while there was none; one that makes sums has as long as it lives.
 */
static int look_at_sessions(struct ckpt_commit *commit, uint64_t *deadline_ms, struct ckpt_err *err)
{
	uint32_t wait_ms = commit->options->lease_wait_ms;
	struct ckpt_session_look look;
	struct ckpt_buf holder;
	int rc;

	ckpt_buf_init(&holder);
	rc = ckpt_session_look(commit->dirfd, true, &look, &holder);
	if (rc < 0) {
		ckpt_err_sys(err, rc, "cannot look into '%s/" CKPT_CONTROL_DIR "'", commit->name);
	} else if (look.writing && *deadline_ms == 0) {
		*deadline_ms = ckpt_clock_mono_ms() + (wait_ms ? wait_ms : SESSION_WAIT_MS);
	} else if (look.writing && ckpt_clock_mono_ms() >= *deadline_ms) {
		rc = busy_writer(commit, holder.data, err);
	} else if (!look.writing) {
		*deadline_ms = 0;
	}
	if (rc == 0 && (look.writing || look.summing))
		rc = 1;
	ckpt_buf_release(&holder);
	return rc;
}

/*
 * Until no other process writes into it. *@out_waited: there was one, and it may have left more
 * files.
 */
static int wait_for_sessions(struct ckpt_commit *commit, bool *out_waited, struct ckpt_err *err)
{
	const struct timespec poll = { .tv_nsec = SESSION_POLL_NS };
	uint64_t deadline_ms = 0;
	int rc;

	while ((rc = look_at_sessions(commit, &deadline_ms, err)) > 0) {
		*out_waited = true;
		rc = ckpt_commit_tick(commit, err);
		if (rc < 0)
			return rc;
		nanosleep(&poll, NULL);
	}
	return rc;
}

/* Once more, where somebody may have added to what we saw before the lock. */
static int scan_again(struct ckpt_commit *commit, struct ckpt_err *err)
{
	ckpt_tree_release(&commit->tree);
	return ckpt_tree_scan(commit->dirfd, commit->name, &commit->tree, err);
}

/* --- what a crash left behind ------------------------------------------------------------- */

struct leftover {
	int dirfd;
	struct timespec made; /* when its manifest was written */
	uint64_t file_count;  /* shards that are their own file */
	uint64_t dir_count, symlink_count;
	struct ckpt_commit_result *out;
};

static int leftover_head(void *ctx, const struct ckpt_manifest_head *head, struct ckpt_err *err)
{
	struct leftover *left = ctx;

	(void)err;
	memcpy(left->out->id, head->id, sizeof(left->out->id));
	left->out->seq = head->seq;
	return 0;
}

static int leftover_dir(void *ctx, uint32_t line, const struct ckpt_manifest_dir *dir,
			struct ckpt_err *err)
{
	struct leftover *left = ctx;

	(void)line;
	(void)dir;
	(void)err;
	left->dir_count++;
	return 0;
}

static int leftover_symlink(void *ctx, uint32_t line, const struct ckpt_symlink *symlink,
			    struct ckpt_err *err)
{
	struct leftover *left = ctx;

	(void)line;
	(void)symlink;
	(void)err;
	left->symlink_count++;
	return 0;
}

/* Written after the manifest, or within the same tick of the clock? */
static bool is_younger(const struct leftover *left, struct timespec ctime)
{
	return ckpt_stamp_ns(ctime) >= ckpt_stamp_ns(left->made);
}

/* -ESTALE: the stored file is not what the manifest says. */
static int leftover_shard(void *ctx, uint32_t line, const struct ckpt_shard *shard,
			  struct ckpt_err *err)
{
	struct leftover *left = ctx;
	CKPT_CLOSE int fd = ckpt_io_open_beneath(
		left->dirfd, shard->pack ? shard->pack : shard->path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;
	uint64_t have;

	(void)line;
	(void)err;
	if (fd < 0 || ckpt_io_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -ESTALE;
	/* A pack has no file of its own that could be summed again: it gets the benefit of a tick. */
	if (shard->pack ? ckpt_stamp_ns(st.st_ctim) > ckpt_stamp_ns(left->made)
			: is_younger(left, st.st_ctim))
		return -ESTALE;
	have = (uint64_t)st.st_size;
	if (shard->pack ? have < shard->pack_offset_bytes + shard->size_bytes
			: have != shard->size_bytes)
		return -ESTALE;
	left->file_count += shard->pack == NULL;
	left->out->shard_count++;
	left->out->size_bytes += shard->size_bytes;
	return 0;
}

static bool any_younger(const struct leftover *left, const struct ckpt_tree_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		if (is_younger(left, list->items[i].stamp.ctime))
			return true;
	}
	return false;
}

/*
 * A commit that died between steps 5 and 6: is its manifest whole, and does it fit what is there?
 * The folder was open ever since, so whatever changed behind the manifest was written again.
 */
static int check_leftover(struct ckpt_commit *commit, struct ckpt_commit_result *out,
			  struct ckpt_err *err)
{
	const struct ckpt_tree *tree = &commit->tree;
	struct leftover left = { .dirfd = commit->dirfd, .out = out };
	const struct ckpt_manifest_visitor visitor = { .head = leftover_head,
						       .dir = leftover_dir,
						       .shard = leftover_shard,
						       .symlink = leftover_symlink,
						       .ctx = &left };
	struct stat st;
	int rc = ckpt_manifest_stat(commit->dirfd, "", &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at '%s/" CKPT_MANIFEST_FILE "'",
				    commit->name);
	left.made = st.st_mtim;
	rc = ckpt_manifest_visit(commit->dirfd, commit->name, &visitor, err);
	if (rc == 0 &&
	    (left.file_count != tree->files.count || left.dir_count != tree->dirs.count ||
	     left.symlink_count != tree->symlinks.count || any_younger(&left, &tree->dirs) ||
	     any_younger(&left, &tree->symlinks)))
		rc = -ESTALE;
	return rc;
}

/* Finish it if it fits, else take the manifest away. *@out_done: nothing is left but step 7. */
static int finish_leftover(struct ckpt_commit *commit, struct ckpt_commit_result *out,
			   bool *out_done, struct ckpt_err *err)
{
	struct ckpt_err ignored = CKPT_ERR_INIT;
	int rc = ckpt_commit_freeze(commit, err);

	if (rc < 0)
		return rc;
	rc = check_leftover(commit, out, &ignored);
	if (rc == -EBADMSG || rc == -ESTALE) {
		out->shard_count = 0;
		out->size_bytes = 0;
		ckpt_commit_thaw(commit);
		ckpt_commit_unpublish(commit);
		return 0;
	}
	if (rc < 0)
		return ckpt_err_set(err, rc, "%s", ignored.msg);
	*out_done = true;
	return ckpt_commit_publish_name(commit, err);
}

/* --- the order ---------------------------------------------------------------------------- */

/* Steps 2 to 6 of a folder that is scanned. */
static int commit_scanned(struct ckpt_commit *commit, struct ckpt_commit_result *out,
			  struct ckpt_err *err)
{
	struct ckpt_buf text;
	int rc = ckpt_commit_gather(commit, err);

	ckpt_buf_init(&text);
	if (rc == 0)
		rc = ckpt_commit_collect(commit, err);
	if (rc == 0)
		rc = ckpt_commit_sum(commit, err);
	if (rc == 0)
		rc = ckpt_commit_assemble(commit, err);
	if (rc == 0)
		rc = ckpt_commit_print(commit, &text, err);
	if (rc == 0)
		rc = ckpt_commit_sync_dirs(commit, err);
	if (rc == 0)
		rc = ckpt_commit_recheck(commit, err);
	if (rc == 0) /* the last moment to say no */
		rc = ckpt_commit_tick(commit, err);
	if (rc == 0)
		rc = refuse_aborted(commit, err);
	if (rc == 0)
		rc = ckpt_commit_publish(commit, &text, err);
	ckpt_buf_release(&text);
	if (rc < 0)
		return rc;
	memcpy(out->id, commit->manifest.head.id, sizeof(out->id));
	out->seq = commit->manifest.head.seq;
	out->shard_count = commit->manifest.shard_count;
	out->size_bytes = ckpt_manifest_size_bytes(&commit->manifest);
	return 0;
}

/* With commit.lock held. */
static int commit_locked(struct ckpt_commit *commit, struct ckpt_commit_result *out,
			 struct ckpt_err *err)
{
	bool done = false;
	bool waited = false;
	int rc = ckpt_open_still_there(commit->store, commit->name, commit->dirfd);

	/* Between our look and our lock another commit may have ended. */
	if (rc < 0)
		return ckpt_err_sys(err, rc,
				    "cannot commit '%s': it was renamed or dropped meanwhile",
				    commit->name);
	if (!ckpt_commit_is_temporary(commit) && has_manifest(commit))
		return already_committed(commit, err);
	rc = wait_for_sessions(commit, &waited, err);
	if (rc == 0 && waited)
		rc = scan_again(commit, err);
	if (rc == 0 && has_manifest(commit))
		rc = finish_leftover(commit, out, &done, err);
	if (rc == 0 && !done)
		rc = commit_scanned(commit, out, err);
	if (rc == 0) {
		ckpt_session_end_all(commit->dirfd);
		ckpt_running_leave(commit->store);
		/* Of a commit by rule that was taken back; should it stay, nobody reads it. */
		ckpt_ignore(ckpt_io_unlinkat(commit->dirfd, CKPT_MANIFEST_REOPENED, 0));
		ckpt_ignore(ckpt_io_unlinkat(commit->dirfd, CKPT_REPLACES_FILE, 0)); /* likewise */
	}
	return rc;
}

static void commit_release(struct ckpt_commit *commit)
{
	ckpt_commit_close_slice(commit, 0, commit->file_count);
	for (size_t i = 0; i < commit->file_count; i++)
		ckpt_shard_release(&commit->files[i].sums);
	free(commit->files);
	free(commit->known);
	free(commit->packed);
	ckpt_commit_forget_told(commit);
	/* Given tensors are borrowed: they must not go with the manifest. */
	ckpt_commit_drop_tensors(commit);
	ckpt_manifest_release(&commit->manifest);
	ckpt_tree_release(&commit->tree);
	ckpt_buf_release(&commit->final_name);
	if (commit->dirfd >= 0)
		close(commit->dirfd);
}

/* The commit is done: an index that cannot be told finds out at the next look-up. */
static void tell_index(struct ckpt_store *store, const char *name)
{
	struct ckpt_db_checkpoint row;

	if (ckpt_store_lookup(store, name, &row, NULL) < 0)
		return;
	ckpt_ignore(ckpt_store_load_entries(store, &row, NULL)); /* as above */
	ckpt_db_checkpoint_release(&row);
}

static int commit_opened(struct ckpt_commit *commit, struct ckpt_commit_result *out,
			 struct ckpt_err *err)
{
	bool is_network = true;
	int rc = check_names(commit, err);

	/*
	 * Before the lock: a lock that a crash leaves in a group makes it look like a checkpoint.
	 */
	if (rc == 0)
		rc = ckpt_tree_scan(commit->dirfd, commit->name, &commit->tree, err);
	if (rc < 0)
		return rc;
	rc = ckpt_io_is_network_fs(commit->dirfd, &is_network);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot tell its file system",
				    commit->name);
	/*
	 * NFS and SMB answer EAGAIN wherever the server gave no delegation: there a lease says
	 * nothing.
	 */
	commit->leases_work = !is_network;
	rc = ckpt_lock_take(commit->dirfd, commit->name, err);
	if (rc < 0)
		return rc;
	rc = commit_locked(commit, out, err);
	ckpt_lock_drop(commit->dirfd);
	return rc;
}

int ckpt_commit(struct ckpt_store *store, const char *name,
		const struct ckpt_commit_options *options, struct ckpt_commit_result *out,
		struct ckpt_err *err)
{
	static const struct ckpt_commit_options none;
	struct ckpt_commit commit = {
		.store = store, .name = name, .options = options ? options : &none, .dirfd = -1
	};
	struct ckpt_commit_result result = { .name = NULL };
	int rc;

	ckpt_buf_init(&commit.final_name);
	rc = find_final_name(&commit, err);
	if (rc == 0)
		rc = ckpt_open_folder(store, name, &commit.dirfd, err);
	if (rc == 0) {
		result.name = strdup(commit.final_name.data);
		rc = result.name ? commit_opened(&commit, &result, err)
				 : ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", name);
	}
	if (rc == 0) {
		tell_index(store, result.name);
		*out = result;
	} else {
		free(result.name);
	}
	commit_release(&commit);
	return rc;
}
