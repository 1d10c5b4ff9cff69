/*
 * commit_manifest.c - put together what the manifest of a commit says: header,
 * folders, shards, links, tensors and bytes entries, and print it. What was printed is read
 * back by the reader's own rules before anything is written.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "base/version.h"
#include "store/commit_internal.h"

#define TRAINER_STATE "trainer_state.json"
#define TRAINER_STATE_MAX (64 * CKPT_MIB)
/* Of a folder that only packed shards lie in: nothing on disk has a mode to copy. */
#define PACKED_DIR_MODE 0755

static int no_memory(const struct ckpt_commit *commit, struct ckpt_err *err)
{
	return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", commit->name);
}

/* --- header --------------------------------------------------------------------------- */

/*
 * Transformers' own word for the step. -ENOENT where there is no such file, or it says nothing
 * usable.
 */
static int step_of_trainer(int dirfd, uint64_t *out)
{
	const struct ckpt_json *value;
	struct ckpt_json *root = NULL;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	rc = ckpt_io_read_file(dirfd, TRAINER_STATE, TRAINER_STATE_MAX, &text, NULL);
	if (rc == 0)
		rc = ckpt_json_parse(text.data, text.len_bytes, &root, NULL);
	ckpt_buf_release(&text);
	if (rc < 0)
		return -ENOENT;
	value = ckpt_json_kind(root) == CKPT_JSON_OBJECT ? ckpt_json_get(root, "global_step")
							 : NULL;
	if (value && ckpt_json_kind(value) == CKPT_JSON_INT && ckpt_json_int(value) >= 0 &&
	    (uint64_t)ckpt_json_int(value) <= CKPT_STEP_MAX)
		*out = (uint64_t)ckpt_json_int(value);
	else
		rc = -ENOENT;
	ckpt_json_free(root);
	return rc;
}

static void choose_step(const struct ckpt_commit *commit, struct ckpt_manifest_head *head)
{
	unsigned long long step = 0;

	head->has_step = true;
	if (commit->options->has_step)
		head->step = commit->options->step;
	else if (step_of_trainer(commit->dirfd, &head->step) < 0) {
		head->has_step = ckpt_path_step(commit->final_name.data, &step) == 0;
		head->step = step;
	}
}

/* The folder's birth, where the file system knows it, else its last change. */
static void choose_created(const struct ckpt_commit *commit, struct ckpt_manifest_head *head)
{
	const char *given = commit->options->created;
	struct timespec at = { .tv_sec = 0 };
	struct statx stx;
	struct stat st;

	if (given && ckpt_clock_check_rfc3339(given) == 0) {
		memcpy(head->created, given, CKPT_RFC3339_SIZE);
		return;
	}
	if (statx(commit->dirfd, "", AT_EMPTY_PATH, STATX_BTIME, &stx) == 0 &&
	    (stx.stx_mask & STATX_BTIME))
		at = (struct timespec){ .tv_sec = stx.stx_btime.tv_sec,
					.tv_nsec = stx.stx_btime.tv_nsec };
	else if (ckpt_io_fstat(commit->dirfd, &st) == 0)
		at = st.st_ctim;
	ckpt_clock_rfc3339_at(at, head->created);
}

static int make_head(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const struct ckpt_commit_options *options = commit->options;
	struct ckpt_manifest_head *head = &commit->manifest.head;
	int rc = ckpt_uuid(head->id);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s': cannot make an id", commit->name);
	head->name = strdup(commit->final_name.data);
	head->writer = strdup(options->writer ? options->writer : "ckptfs " CKPTFS_VERSION);
	head->meta = strdup(options->meta ? options->meta : "{}");
	if (!head->name || !head->writer || !head->meta)
		return no_memory(commit, err);
	choose_step(commit, head);
	choose_created(commit, head);
	head->has_world_size = options->has_world_size;
	head->world_size = options->world_size;
	ckpt_clock_rfc3339(head->committed);
	return ckpt_store_next_seq(commit->store, &head->seq, err);
}

/* --- folders ---------------------------------------------------------------------------- */

static int add_dir(struct ckpt_manifest *manifest, const char *path, size_t len_bytes,
		   uint32_t mode)
{
	struct ckpt_manifest_dir dir = { .mode = mode };

	if (array_grow(&manifest->dirs, &manifest->dir_cap, manifest->dir_count, sizeof(dir)) < 0)
		return -ENOMEM;
	dir.path = strndup(path, len_bytes);
	if (!dir.path)
		return -ENOMEM;
	manifest->dirs[manifest->dir_count++] = dir;
	return 0;
}

static bool has_dir(const struct ckpt_tree_list *dirs, const char *path, size_t len_bytes)
{
	size_t low = 0;
	size_t high = dirs->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const char *have = dirs->items[mid].path;
		int order = strncmp(have, path, len_bytes);

		if (order == 0 && have[len_bytes] == '\0')
			return true;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* How much of @path the one before it has already made folders for. */
static size_t common_dirs(const char *before, const char *path)
{
	size_t common = 0;

	for (size_t i = 0; path[i] != '\0' && before[i] == path[i]; i++) {
		if (path[i] == '/')
			common = i + 1;
	}
	return common;
}

/*
 * The folders on the way to a packed shard that are not on disk; @before is the packed shard
 * before it, by path.
 */
static int add_packed_dirs(struct ckpt_commit *commit, const char *before, const char *path)
{
	const char *slash = path + common_dirs(before, path);

	while ((slash = strchr(slash, '/'))) {
		size_t len_bytes = (size_t)(slash - path);
		int rc = 0;

		if (!has_dir(&commit->tree.dirs, path, len_bytes))
			rc = add_dir(&commit->manifest, path, len_bytes, PACKED_DIR_MODE);
		if (rc < 0)
			return rc;
		slash++;
	}
	return 0;
}

static int add_dirs(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const char *before = "";
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < commit->tree.dirs.count; i++) {
		const struct ckpt_tree_entry *dir = &commit->tree.dirs.items[i];

		rc = add_dir(&commit->manifest, dir->path, strlen(dir->path), dir->mode);
	}
	for (size_t i = 0; rc == 0 && i < commit->options->known_count; i++) {
		const struct ckpt_shard *shard = &commit->known[i]->shard;

		if (!shard->pack)
			continue;
		rc = add_packed_dirs(commit, before, shard->path);
		before = shard->path;
	}
	return rc < 0 ? no_memory(commit, err) : 0;
}

/* --- shards and links ------------------------------------------------------------------------ */

/* Sums of @from copied into @to. */
static int copy_sums(struct ckpt_shard *to, const struct ckpt_shard *from)
{
	uint64_t count = ckpt_block_count(from->size_bytes, from->block_bytes);

	to->block_bytes = from->block_bytes;
	to->has_xxh128 = from->has_xxh128;
	to->xxh128 = from->xxh128;
	if (count == 0)
		return 0;
	to->sums = array_alloc(count, sizeof(*to->sums));
	if (!to->sums)
		return -ENOMEM;
	memcpy(to->sums, from->sums, count * sizeof(*to->sums));
	return 0;
}

/* Append @shard, which is owned by the manifest from then on. */
static int add_shard(struct ckpt_manifest *manifest, const struct ckpt_shard *shard)
{
	int rc = array_grow(&manifest->shards, &manifest->shard_cap, manifest->shard_count,
			    sizeof(*shard));

	if (rc == 0)
		manifest->shards[manifest->shard_count++] = *shard;
	return rc;
}

static int add_file_shard(struct ckpt_manifest *manifest, struct ckpt_commit_file *file)
{
	const struct ckpt_known_shard *known = file->known;
	struct ckpt_shard shard = { .size_bytes = file->stamp.size_bytes,
				    .mode = file->entry->mode,
				    .mtime_ns = ckpt_stamp_ns(file->stamp.mtime),
				    .has_rank = known && known->shard.has_rank,
				    .rank = known ? known->shard.rank : 0,
				    .path = strdup(file->path) };
	int rc = shard.path ? 0 : -ENOMEM;

	assert(known || file->sums.block_bytes > 0);
	if (rc == 0 && file->sums.block_bytes == 0) {
		rc = copy_sums(&shard, &known->shard);
	} else if (rc == 0) {
		shard.block_bytes = file->sums.block_bytes;
		shard.has_xxh128 = file->sums.has_xxh128;
		shard.xxh128 = file->sums.xxh128;
		shard.sums = ckpt_steal_ptr(&file->sums.sums);
	}
	if (rc == 0)
		rc = add_shard(manifest, &shard);
	if (rc < 0)
		ckpt_shard_release(&shard);
	return rc;
}

static int add_packed_shard(struct ckpt_manifest *manifest, const struct ckpt_shard *known)
{
	struct ckpt_shard shard = *known;
	int rc;

	shard.path = strdup(known->path);
	shard.pack = strdup(known->pack);
	shard.sums = NULL;
	rc = shard.path && shard.pack ? copy_sums(&shard, known) : -ENOMEM;
	if (rc == 0)
		rc = add_shard(manifest, &shard);
	if (rc < 0)
		ckpt_shard_release(&shard);
	return rc;
}

static int add_symlink(struct ckpt_manifest *manifest, const struct ckpt_tree_entry *entry)
{
	struct ckpt_symlink link = { .path = NULL };
	int rc = array_grow(&manifest->symlinks, &manifest->symlink_cap, manifest->symlink_count,
			    sizeof(link));

	if (rc < 0)
		return rc;
	link.path = strdup(entry->path);
	link.target = strdup(entry->target);
	/* Also half filled: released with the manifest. */
	manifest->symlinks[manifest->symlink_count++] = link;
	return link.path && link.target ? 0 : -ENOMEM;
}

static int add_entries(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < commit->file_count; i++) {
		struct ckpt_commit_file *file = &commit->files[i];

		if (!file->packed)
			rc = add_file_shard(&commit->manifest, file);
	}
	for (size_t i = 0; rc == 0 && i < commit->packed_count; i++)
		rc = add_packed_shard(&commit->manifest, &commit->packed[i]->shard);
	for (size_t i = 0; rc == 0 && i < commit->tree.symlinks.count; i++)
		rc = add_symlink(&commit->manifest, &commit->tree.symlinks.items[i]);
	return rc < 0 ? no_memory(commit, err) : 0;
}

/* --- all of it ---------------------------------------------------------------------------- */

/*
 * The tensors and bytes entries that the caller gave: borrowed with all they hold, only the arrays
 * are ours.
 */
static int borrow_tensors(struct ckpt_commit *commit, struct ckpt_err *err)
{
	const struct ckpt_commit_options *options = commit->options;
	struct ckpt_manifest *manifest = &commit->manifest;
	size_t tensor_bytes = options->tensor_count * sizeof(*manifest->tensors);
	size_t entry_bytes = options->bytes_entry_count * sizeof(*manifest->bytes_entries);

	manifest->tensors = array_alloc(1, num_max(tensor_bytes, 1));
	manifest->bytes_entries = array_alloc(1, num_max(entry_bytes, 1));
	if (!manifest->tensors || !manifest->bytes_entries)
		return no_memory(commit, err);
	if (tensor_bytes > 0)
		memcpy(manifest->tensors, options->tensors, tensor_bytes);
	if (entry_bytes > 0)
		memcpy(manifest->bytes_entries, options->bytes_entries, entry_bytes);
	manifest->tensor_count = options->tensor_count;
	manifest->bytes_entry_count = options->bytes_entry_count;
	return 0;
}

int ckpt_commit_assemble(struct ckpt_commit *commit, struct ckpt_err *err)
{
	int rc = make_head(commit, err);

	if (rc == 0)
		rc = add_dirs(commit, err);
	if (rc == 0)
		rc = add_entries(commit, err);
	if (rc < 0)
		return rc;
	/* A writer that described anything has described all. */
	commit->own_tensors = commit->options->tensor_count == 0 &&
			      commit->options->bytes_entry_count == 0;
	return commit->own_tensors ? ckpt_commit_catalogue(commit, err)
				   : borrow_tensors(commit, err);
}

void ckpt_commit_drop_tensors(struct ckpt_commit *commit)
{
	struct ckpt_manifest *manifest = &commit->manifest;

	for (size_t i = 0; commit->own_tensors && i < manifest->tensor_count; i++)
		ckpt_tensor_release(&manifest->tensors[i]);
	free(manifest->tensors);
	manifest->tensors = NULL;
	manifest->tensor_count = 0;
	manifest->tensor_cap = 0;
	for (size_t i = 0; commit->own_tensors && i < manifest->bytes_entry_count; i++)
		ckpt_bytes_entry_release(&manifest->bytes_entries[i]);
	free(manifest->bytes_entries);
	manifest->bytes_entries = NULL;
	manifest->bytes_entry_count = 0;
	manifest->bytes_entry_cap = 0;
}

/* Print, and read what was printed as any reader would. */
static int print_checked(struct ckpt_commit *commit, struct ckpt_buf *out, struct ckpt_err *err)
{
	struct ckpt_manifest check = { .dirs = NULL };
	int rc;

	ckpt_buf_reset(out);
	ckpt_manifest_sort(&commit->manifest);
	rc = ckpt_manifest_print(&commit->manifest, out);
	if (rc < 0)
		return no_memory(commit, err);
	rc = ckpt_manifest_load_text(out->data, out->len_bytes, commit->final_name.data, &check,
				     err);
	if (rc == 0)
		ckpt_manifest_release(&check);
	return rc;
}

/* What a reader would advise, to restore a copy, is no advice here. */
static void cut_advice(struct ckpt_err *err)
{
	char *advice = err ? strrchr(err->msg, ';') : NULL;

	if (advice)
		*advice = '\0';
}

int ckpt_commit_print(struct ckpt_commit *commit, struct ckpt_buf *out, struct ckpt_err *err)
{
	int rc = print_checked(commit, out, err);

	/* What we found in the files by ourselves is a note, never a reason not to commit. */
	if (rc == -EBADMSG && commit->own_tensors &&
	    commit->manifest.tensor_count + commit->manifest.bytes_entry_count > 0) {
		ckpt_commit_drop_tensors(commit);
		rc = print_checked(commit, out, err);
	}
	if (rc != -EBADMSG)
		return rc;
	cut_advice(err);
	return ckpt_err_prefix(err, -EINVAL, "cannot commit '%s': its writer described it wrongly",
			       commit->name);
}
