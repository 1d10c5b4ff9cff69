/*
 * commit_files.c - the stored files of a commit: which there are, frozen by
 * leases, and compared again at the end. A slice is what may be open at once;
 * what had to be let go of is leased once more in the last comparison.
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

#define LEASE_WAIT_MS 5000
#define LEASE_POLL_NS (20L * 1000 * 1000)
#define PACK_PREFIX "pack-"

/* --- what is known ---------------------------------------------------------------- */

static const struct ckpt_shard *shard_at(const void *slot)
{
	return &(*(const struct ckpt_known_shard *const *)slot)->shard;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(shard_at(a)->path, shard_at(b)->path);
}

static int by_place(const void *a, const void *b)
{
	const struct ckpt_shard *left = shard_at(a);
	const struct ckpt_shard *right = shard_at(b);
	int order = strcmp(left->pack, right->pack);

	if (order != 0)
		return order;
	if (left->pack_offset_bytes != right->pack_offset_bytes)
		return left->pack_offset_bytes < right->pack_offset_bytes ? -1 : 1;
	/* Empty shards share an offset with the next one. */
	return left->size_bytes < right->size_bytes ? -1 : left->size_bytes > right->size_bytes;
}

/* The two orders of what is known: by path, and of those in packs by place. */
static int order_known(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const struct ckpt_commit_options *options = commit->options;
	size_t count = options->known_count;

	commit->known = array_alloc(num_max(count, 1), sizeof(void *));
	commit->packed = array_alloc(num_max(count, 1), sizeof(void *));
	if (!commit->known || !commit->packed)
		return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", commit->name);
	for (size_t i = 0; i < count; i++) {
		commit->known[i] = &options->known[i];
		if (options->known[i].shard.pack)
			commit->packed[commit->packed_count++] = &options->known[i];
	}
	qsort(commit->known, count, sizeof(void *), by_path);
	qsort(commit->packed, commit->packed_count, sizeof(void *), by_place);
	for (size_t i = 1; i < count; i++) {
		if (by_path(&commit->known[i - 1], &commit->known[i]) == 0)
			return ckpt_err_set(
				err, -EINVAL,
				"cannot commit '%s': its writer describes the shard '%s' twice",
				commit->name, commit->known[i]->shard.path);
	}
	return 0;
}

bool ckpt_commit_known_fits(const struct ckpt_commit_file *file)
{
	const struct ckpt_known_shard *known = file->known;

	return known && known->ino == file->stamp.ino &&
	       known->shard.size_bytes == file->stamp.size_bytes &&
	       known->shard.mtime_ns == ckpt_stamp_ns(file->stamp.mtime) &&
	       known->ctime_ns == ckpt_stamp_ns(file->stamp.ctime);
}

/* --- listing ------------------------------------------------------------------------- */

static int add_file(struct ckpt_commit *commit, const struct ckpt_commit_file *file,
		    struct ckpt_err *err)
{
	if (array_grow(&commit->files, &commit->file_cap, commit->file_count,
		       sizeof(*commit->files)) < 0)
		return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", commit->name);
	commit->files[commit->file_count++] = *file;
	return 0;
}

static int missing(const struct ckpt_commit *commit, const char *path, struct ckpt_err *err)
{
	return ckpt_err_set(
		err, -ENOENT,
		"cannot commit '%s': its writer describes '%s', which is not there; save it again",
		commit->name, path);
}

/* The scanned files, each with what is known of it; both lists are ordered by path. */
static int add_scanned(struct ckpt_commit *commit, struct ckpt_err *err)
{
	size_t known_count = commit->options->known_count;
	size_t k = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < commit->tree.files.count; i++) {
		struct ckpt_tree_entry *entry = &commit->tree.files.items[i];
		struct ckpt_commit_file file = { .path = entry->path,
						 .entry = entry,
						 .known = entry->told,
						 .fd = -1,
						 .stamp = entry->stamp };

		for (; k < known_count && strcmp(commit->known[k]->shard.path, entry->path) < 0;
		     k++) {
			if (!commit->known[k]->shard.pack)
				return missing(commit, commit->known[k]->shard.path, err);
		}
		if (k < known_count && strcmp(commit->known[k]->shard.path, entry->path) == 0)
			file.known = commit->known[k++];
		if (file.known && file.known->shard.pack)
			return ckpt_err_set(
				err, -EEXIST,
				"cannot commit '%s': the shard '%s' is in a pack, and a file has its name; remove that file",
				commit->name, entry->path);
		rc = add_file(commit, &file, err);
	}
	for (; rc == 0 && k < known_count; k++) {
		if (!commit->known[k]->shard.pack)
			return missing(commit, commit->known[k]->shard.path, err);
	}
	return rc;
}

/* One file for each pack that known shards name. */
static int add_packs(struct ckpt_commit *commit, struct ckpt_err *err)
{
	for (size_t i = 0; i < commit->packed_count;) {
		const char *pack = commit->packed[i]->shard.pack;
		struct ckpt_commit_file file = { .path = pack,
						 .fd = -1,
						 .packed = &commit->packed[i] };
		struct stat st;
		int rc = ckpt_path_check_pack(pack, err);

		if (rc < 0)
			return rc;
		while (i < commit->packed_count && strcmp(commit->packed[i]->shard.pack, pack) == 0)
			i++;
		file.packed_count = (size_t)(&commit->packed[i] - file.packed);
		rc = ckpt_io_fstatat(commit->dirfd, pack, &st, AT_SYMLINK_NOFOLLOW);
		if (rc == -ENOENT)
			return missing(commit, pack, err);
		if (rc < 0)
			return ckpt_err_sys(err, rc, "cannot look at '%s/%s'", commit->name, pack);
		file.stamp = ckpt_stamp_of(&st);
		rc = add_file(commit, &file, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static bool pack_is_listed(const struct ckpt_commit *commit, const char *name)
{
	for (size_t i = commit->tree.files.count; i < commit->file_count; i++) {
		if (strcmp(ckpt_path_basename(commit->files[i].path), name) == 0)
			return true;
	}
	return false;
}

/* A pack that nobody describes holds shards that would be lost without a word. */
static int refuse_orphan_packs(const struct ckpt_commit *commit, struct ckpt_err *err)
{
	int control = ckpt_io_openat(commit->dirfd, CKPT_CONTROL_DIR,
				     O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	DIR *dir = control < 0 ? NULL : fdopendir(control);
	const char *name;
	int rc;

	if (!dir) {
		rc = control < 0 ? control : -errno;
		if (control >= 0)
			close(control);
		return ckpt_err_sys(err, rc, "cannot look into '%s/" CKPT_CONTROL_DIR "'",
				    commit->name);
	}
	while ((rc = ckpt_io_readdir(dir, &name)) > 0) {
		if (strncmp(name, PACK_PREFIX, strlen(PACK_PREFIX)) != 0 ||
		    pack_is_listed(commit, name))
			continue;
		rc = ckpt_err_set(
			err, -EINVAL,
			"cannot commit '%s': '" CKPT_CONTROL_DIR
			"/%s' holds shards of a save that did not end; save it again, or drop it with 'ckptfs abort %s'",
			commit->name, name, commit->name);
		goto out;
	}
	if (rc < 0)
		rc = ckpt_err_sys(err, rc, "cannot look into '%s/" CKPT_CONTROL_DIR "'",
				  commit->name);
out:
	closedir(dir);
	return rc;
}

int ckpt_commit_collect(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = order_known(commit, err);

	if (rc == 0)
		rc = add_scanned(commit, err);
	if (rc == 0)
		rc = add_packs(commit, err);
	if (rc == 0)
		rc = refuse_orphan_packs(commit, err);
	if (rc == 0 && commit->file_count == 0)
		return ckpt_err_set(err, -EINVAL, "cannot commit '%s': it holds no file",
				    commit->name);
	return rc;
}

/* --- opening and leasing ----------------------------------------------------------------- */

int ckpt_commit_busy(const struct ckpt_commit *commit, const char *path, struct ckpt_err *err)
{
	return ckpt_err_set(
		err, -EBUSY,
		"cannot commit '%s': '%s/%s' is open for writing; close it and run 'ckptfs commit' again",
		commit->name, commit->name, path);
}

static int changed(const struct ckpt_commit *commit, const char *path, struct ckpt_err *err)
{
	return ckpt_err_set(
		err, -ESTALE,
		"cannot commit '%s': '%s/%s' changed during the commit; run 'ckptfs commit' again when its writer is done",
		commit->name, commit->name, path);
}

/*
 * O_NONBLOCK: neither a FIFO put in its place nor another's write lease makes us wait in the
 * kernel.
 */
static int open_file(const struct ckpt_commit *commit, const struct ckpt_commit_file *file)
{
	return ckpt_io_open_beneath(commit->dirfd, file->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
				    0);
}

/* Open and lease, once. -EAGAIN somebody writes; -EMFILE, -ENFILE as many are open as may be. */
static int try_freeze(const struct ckpt_commit *commit, struct ckpt_commit_file *file,
		      struct ckpt_stamp *out_stamp)
{
	CKPT_CLOSE int fd = open_file(commit, file);
	struct stat st;
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &st);

	if (rc < 0)
		return rc;
	if (!S_ISREG(st.st_mode))
		return -ESTALE;
	rc = commit->leases_work ? ckpt_lease_take(fd) : 0;
	if (rc < 0)
		return rc;
	file->leased = rc > 0;
	/* Only now: what was written before the lease counts. */
	rc = ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return rc;
	*out_stamp = ckpt_stamp_of(&st);
	file->fd = ckpt_steal_fd(&fd);
	return 0;
}

/* As try_freeze, waiting for writers until @deadline_ms. */
static int freeze(struct ckpt_commit *commit, struct ckpt_commit_file *file, uint64_t deadline_ms,
		  struct ckpt_err *err)
{
	const struct timespec poll = { .tv_nsec = LEASE_POLL_NS };
	int rc;

	while ((rc = try_freeze(commit, file, &file->stamp)) == -EAGAIN) {
		if (ckpt_clock_mono_ms() >= deadline_ms)
			return ckpt_commit_busy(commit, file->path, err);
		rc = ckpt_commit_tick(commit, err);
		if (rc < 0)
			return rc;
		nanosleep(&poll, NULL);
	}
	if (rc == -EMFILE || rc == -ENFILE)
		return rc; /* the end of a slice, not of the commit */
	if (rc == -ENOENT || rc == -ESTALE)
		return changed(commit, file->path, err);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot read '%s/%s'",
				    commit->name, commit->name, file->path);
	/* A writer that we waited for has left its last word. */
	if (file->entry)
		file->entry->stamp = file->stamp;
	return 0;
}

const char *ckpt_commit_find_written(const struct ckpt_commit *commit)
{
	for (size_t i = 0; commit->leases_work && i < commit->tree.files.count; i++) {
		const struct ckpt_commit_file file = { .path = commit->tree.files.items[i].path };
		CKPT_CLOSE int fd = open_file(commit, &file);

		if (fd >= 0 && ckpt_lease_take(fd) == -EAGAIN)
			return file.path;
	}
	return NULL;
}

int ckpt_commit_open_slice(struct ckpt_commit *commit, size_t start, size_t *out_end,
			   struct ckpt_err *err)
{
	uint32_t wait_ms = commit->options->lease_wait_ms;
	uint64_t deadline_ms = ckpt_clock_mono_ms() + (wait_ms ? wait_ms : LEASE_WAIT_MS);
	size_t end = num_min(commit->file_count, start + ckpt_lease_slice_max());

	assert(start < commit->file_count);
	for (size_t i = start; i < end; i++) {
		int rc = freeze(commit, &commit->files[i], deadline_ms, err);

		if ((rc == -EMFILE || rc == -ENFILE) && i > start) {
			end = i;
			break;
		}
		if (rc == -EMFILE || rc == -ENFILE)
			return ckpt_err_sys(err, rc, "cannot commit '%s': cannot open '%s/%s'",
					    commit->name, commit->name, commit->files[i].path);
		if (rc < 0)
			return rc;
	}
	*out_end = end;
	return 0;
}

void ckpt_commit_close_slice(struct ckpt_commit *commit, size_t start, size_t end)
{
	for (size_t i = start; i < end; i++) {
		if (commit->files[i].fd >= 0)
			close(commit->files[i].fd);
		commit->files[i].fd = -1;
	}
}

int ckpt_commit_freeze(struct ckpt_commit *commit, struct ckpt_err *err)
{
	struct ckpt_tree_list *scanned = &commit->tree.files;
	size_t end = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < scanned->count; i++) {
		struct ckpt_tree_entry *entry = &scanned->items[i];
		const struct ckpt_commit_file file = {
			.path = entry->path, .entry = entry, .fd = -1, .stamp = entry->stamp
		};

		rc = add_file(commit, &file, err);
	}
	for (size_t start = 0; rc == 0 && start < commit->file_count; start = end) {
		rc = ckpt_commit_open_slice(commit, start, &end, err);
		if (rc == 0 && (start > 0 || end < commit->file_count))
			ckpt_commit_close_slice(commit, start, end);
	}
	return rc;
}

void ckpt_commit_thaw(struct ckpt_commit *commit)
{
	ckpt_commit_close_slice(commit, 0, commit->file_count);
	commit->file_count = 0;
}

/* --- the last comparison -------------------------------------------------------------------- */

/* Was let go of: nobody may have it open for writing now, even if nothing is written yet. */
static int recheck_closed(struct ckpt_commit *commit, struct ckpt_commit_file *file,
			  struct ckpt_err *err)
{
	struct ckpt_stamp now;
	int rc = try_freeze(commit, file, &now);

	if (rc == -EAGAIN)
		return ckpt_commit_busy(commit, file->path, err);
	if (rc == -ENOENT || rc == -ESTALE || (rc == 0 && !ckpt_stamp_equal(&now, &file->stamp)))
		rc = changed(commit, file->path, err);
	else if (rc < 0)
		rc = ckpt_err_sys(err, rc, "cannot commit '%s': cannot look at '%s/%s'",
				  commit->name, commit->name, file->path);
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	return rc;
}

static int recheck_open(struct ckpt_commit *commit, const struct ckpt_commit_file *file,
			struct ckpt_err *err)
{
	struct stat st;
	struct ckpt_stamp now;
	int rc = ckpt_io_fstat(file->fd, &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot look at '%s/%s'",
				    commit->name, commit->name, file->path);
	now = ckpt_stamp_of(&st);
	if (!ckpt_stamp_equal(&now, &file->stamp))
		return changed(commit, file->path, err);
	/* A lease asked for back: somebody is in open(2) for writing, and goes on when we close. */
	if (file->leased && !ckpt_lease_held(file->fd))
		return ckpt_commit_busy(commit, file->path, err);
	return 0;
}

/* Files that came, went or were replaced under their name, folders and links. */
static int recheck_tree(struct ckpt_commit *commit, struct ckpt_err *err)
{
	struct ckpt_tree now;
	const char *path;
	int rc = ckpt_tree_scan(commit->dirfd, commit->name, &now, err);

	if (rc < 0)
		return rc;
	path = ckpt_tree_difference(&commit->tree, &now);
	if (path)
		rc = changed(commit, path, err);
	ckpt_tree_release(&now);
	return rc;
}

int ckpt_commit_recheck(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = recheck_tree(commit, err);

	for (size_t i = 0; rc == 0 && i < commit->file_count; i++) {
		struct ckpt_commit_file *file = &commit->files[i];

		rc = file->fd >= 0 ? recheck_open(commit, file, err)
				   : recheck_closed(commit, file, err);
	}
	return rc;
}
