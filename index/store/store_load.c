/*
 * store_load.c - the entries of one checkpoint, from its manifest into the index: one
 * pass over the manifest, one transaction. Whoever comes while another thread or
 * process is at it waits for the writer's place, and then finds the work done.
 *
 * Owners are no part of a manifest: they are taken from the stored files, once,
 * here. Folders and symlinks have no mtime there either; theirs is the stored
 * one. What is missing on disk gets those of the checkpoint's folder.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/cover.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_index.h"
#include "store/store_internal.h"

/* Line of the header, which stands for the checkpoint's folder. */
#define TOP_LINE 1
/* A manifest that changes again and again while it is read is somebody's mistake. */
#define TRIES_MAX 2

/* --- paths and their lines ----------------------------------------------------------- */

/*
 * Lines come by bytes of the path, so a path is found by bisection: no hash to be fooled by
 * made-up names.
 */
struct path_lines {
	struct ckpt_buf text; /* the paths, each with its NUL */
	struct path_line {
		size_t offset; /* in text */
		uint32_t line;
	} * items;
	size_t count, cap;
};

static int lines_add(struct path_lines *lines, const char *path, uint32_t line)
{
	int rc = array_grow(&lines->items, &lines->cap, lines->count, sizeof(*lines->items));

	if (rc < 0)
		return rc;
	lines->items[lines->count++] =
		(struct path_line){ .offset = lines->text.len_bytes, .line = line };
	ckpt_buf_add(&lines->text, path, strlen(path) + 1);
	return ckpt_buf_check(&lines->text);
}

/* Line of the path that is the first @len bytes of @path; 0: there is none. */
static uint32_t lines_find(const struct path_lines *lines, const char *path, size_t len)
{
	size_t low = 0;
	size_t high = lines->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const char *at = lines->text.data + lines->items[mid].offset;
		int order = strncmp(at, path, len);

		if (order == 0 && at[len] == '\0')
			return lines->items[mid].line;
		/* Equal so far but longer: it comes behind. */
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return 0;
}

static void lines_release(struct path_lines *lines)
{
	ckpt_buf_release(&lines->text);
	free(lines->items);
}

/* --- owners ---------------------------------------------------------------------------- */

/* One checkpoint on its way into the index. */
struct load {
	struct ckpt_store *store;
	struct ckpt_db_checkpoint *row; /* the caller's; replaced at the end */
	struct ckpt_db *db;
	int dirfd;
	struct stat top;	  /* of the checkpoint's folder */
	struct path_lines dirs;	  /* folders */
	struct path_lines shards; /* only where there are tensors to ask for them */
	struct ckpt_catalog catalog;
	/* Entries of one folder follow each other: its descriptor is kept. */
	char *parent; /* heap; NULL: none yet */
	int parent_fd;
	/* So do the shards of one pack. */
	char *pack;
	struct stat pack_st;
};

/* The folder that the first @len bytes of @path name, opened; -1 where it is missing. */
static int parent_fd_of(struct load *load, const char *path, size_t len, int *out)
{
	if (load->parent && strncmp(load->parent, path, len) == 0 && load->parent[len] == '\0') {
		*out = load->parent_fd;
		return 0;
	}
	if (load->parent_fd >= 0)
		close(load->parent_fd);
	load->parent_fd = -1;
	free(load->parent);
	load->parent = strndup(path, len);
	if (!load->parent)
		return -ENOMEM;
	/* A folder that cannot be opened is as one that is missing. */
	load->parent_fd = ckpt_io_open_beneath(load->dirfd, len > 0 ? load->parent : ".",
					       O_PATH | O_DIRECTORY, 0);
	*out = load->parent_fd;
	return 0;
}

/*
 * lstat of a stored file, or of the top folder where it is missing: verify tells what is missing,
 * not we.
 */
static int stat_stored(struct load *load, const char *path, struct stat *out)
{
	const char *name = ckpt_path_basename(path);
	size_t dir_len = name > path ? (size_t)(name - path) - 1 : 0;
	int fd = -1;
	int rc = parent_fd_of(load, path, dir_len, &fd);

	if (rc < 0)
		return rc;
	if (fd < 0 || ckpt_io_fstatat(fd, name, out, AT_SYMLINK_NOFOLLOW) < 0)
		*out = load->top;
	return 0;
}

/* The same of a pack. */
static int stat_pack(struct load *load, const char *pack, struct stat *out)
{
	int rc = 0;

	if (!load->pack || strcmp(load->pack, pack) != 0) {
		free(load->pack);
		load->pack = strdup(pack);
		rc = load->pack ? stat_stored(load, pack, &load->pack_st) : -ENOMEM;
	}
	if (rc == 0)
		*out = load->pack_st;
	return rc;
}

/* --- line by line ------------------------------------------------------------------------ */

static int64_t mtime_ns_of(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static int out_of_memory(const struct load *load, int rc, struct ckpt_err *err)
{
	return ckpt_err_sys(err, rc, "cannot index '%s'", load->row->name);
}

/* Fill in what all kinds have: parent, name, owner. */
static int place_entry(struct load *load, const char *path, const struct stat *st,
		       struct ckpt_db_entry *entry)
{
	const char *name = ckpt_path_basename(path);

	entry->parent = name > path ? lines_find(&load->dirs, path, (size_t)(name - path) - 1)
				    : TOP_LINE;
	/* The manifest's reader has seen to it that every folder has its line before. */
	assert(entry->parent != 0);
	entry->uid = st->st_uid;
	entry->gid = st->st_gid;
	entry->name = strdup(name);
	return entry->name ? 0 : -ENOMEM;
}

static int put_entry(struct load *load, const char *path, const struct stat *st,
		     struct ckpt_db_entry *entry, struct ckpt_err *err)
{
	int rc = place_entry(load, path, st, entry);

	if (rc < 0)
		return out_of_memory(load, rc, err);
	rc = ckpt_db_put_entry(load->db, load->row->slot, entry, NULL, 0, err);
	free(entry->name);
	return rc;
}

static int load_dir(void *ctx, uint32_t line, const struct ckpt_manifest_dir *dir,
		    struct ckpt_err *err)
{
	struct load *load = ctx;
	struct ckpt_db_entry entry = { .line = line, .kind = CKPT_ENTRY_DIR, .mode = dir->mode };
	struct stat st;
	int rc = stat_stored(load, dir->path, &st);

	if (rc == 0)
		rc = lines_add(&load->dirs, dir->path, line);
	if (rc < 0)
		return out_of_memory(load, rc, err);
	entry.mtime_ns = mtime_ns_of(&st);
	return put_entry(load, dir->path, &st, &entry, err);
}

static int load_shard(void *ctx, uint32_t line, const struct ckpt_shard *shard,
		      struct ckpt_err *err)
{
	struct load *load = ctx;
	struct ckpt_db_entry entry = {
		.line = line,
		.kind = CKPT_ENTRY_SHARD,
		.mode = shard->mode,
		.size_bytes = shard->size_bytes,
		.mtime_ns = shard->mtime_ns,
		.has_rank = shard->has_rank,
		.rank = shard->rank,
		.has_xxh128 = shard->has_xxh128,
		.xxh128 = shard->xxh128,
		.block_bytes = shard->block_bytes,
		.pack = shard->pack,
		.pack_offset = shard->pack_offset_bytes,
	};
	uint64_t sum_count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	const struct ckpt_digest *learned =
		shard->has_xxh128 ? NULL : ckpt_catalog_find(&load->catalog, shard->path);
	struct stat st;
	int rc = shard->pack ? stat_pack(load, shard->pack, &st)
			     : stat_stored(load, shard->path, &st);

	if (learned) {
		entry.has_xxh128 = true;
		entry.xxh128 = *learned;
	}
	if (rc == 0 && load->row->tensor_count > 0)
		rc = lines_add(&load->shards, shard->path, line);
	if (rc == 0)
		rc = place_entry(load, shard->path, &st, &entry);
	if (rc < 0)
		return out_of_memory(load, rc, err);
	rc = ckpt_db_put_entry(load->db, load->row->slot, &entry, shard->sums, sum_count, err);
	free(entry.name);
	return rc;
}

static int load_symlink(void *ctx, uint32_t line, const struct ckpt_symlink *symlink,
			struct ckpt_err *err)
{
	struct load *load = ctx;
	struct ckpt_db_entry entry = {
		.line = line,
		.kind = CKPT_ENTRY_SYMLINK,
		.mode = 0777, /* as every symlink's */
		.size_bytes = strlen(symlink->target),
		.target = symlink->target,
	};
	struct stat st;
	int rc = stat_stored(load, symlink->path, &st);

	if (rc < 0)
		return out_of_memory(load, rc, err);
	entry.mtime_ns = mtime_ns_of(&st);
	return put_entry(load, symlink->path, &st, &entry, err);
}

static int load_chunk(struct load *load, uint32_t line, const struct ckpt_tensor *tensor,
		      const struct ckpt_chunk *chunk, struct ckpt_err *err)
{
	uint32_t shard = lines_find(&load->shards, chunk->shard, strlen(chunk->shard));
	struct ckpt_buf text;
	int rc;

	/* As for parents: the manifest has been checked. */
	assert(shard != 0);
	ckpt_buf_init(&text);
	ckpt_buf_add_str(&text, "{\"start\":");
	ckpt_extents_json(chunk->start, tensor->dim_count, &text);
	ckpt_buf_add_str(&text, ",\"size\":");
	ckpt_extents_json(chunk->size, tensor->dim_count, &text);
	ckpt_buf_add_char(&text, '}');
	rc = ckpt_buf_check(&text);
	if (rc < 0)
		out_of_memory(load, rc, err);
	else
		rc = ckpt_db_put_chunk(load->db, load->row->slot, line, shard, text.data, err);
	ckpt_buf_release(&text);
	return rc;
}

static int load_tensor(void *ctx, uint32_t line, const struct ckpt_tensor *tensor,
		       struct ckpt_err *err)
{
	struct load *load = ctx;
	struct ckpt_db_tensor row = {
		.line = line,
		.set = tensor->set,
		.group = tensor->group,
		.fqn = tensor->fqn,
		.dtype = tensor->dtype,
	};
	struct ckpt_buf shape;
	int rc;

	ckpt_buf_init(&shape);
	ckpt_extents_json(tensor->shape, tensor->dim_count, &shape);
	rc = ckpt_buf_check(&shape);
	row.shape = shape.data;
	if (rc < 0)
		out_of_memory(load, rc, err);
	else
		rc = ckpt_db_put_tensor(load->db, load->row->slot, &row, err);
	ckpt_buf_release(&shape);
	for (size_t i = 0; rc == 0 && i < tensor->chunk_count; i++)
		rc = load_chunk(load, line, tensor, &tensor->chunks[i], err);
	return rc;
}

/* A row like a tensor's, but that its type, shape and chunk are empty: what is opaque has none. */
static int load_bytes(void *ctx, uint32_t line, const struct ckpt_bytes_entry *entry,
		      struct ckpt_err *err)
{
	struct load *load = ctx;
	const struct ckpt_db_tensor row = {
		.line = line,
		.set = entry->set,
		.group = entry->group,
		.fqn = entry->fqn,
		.dtype = "",
		.shape = "",
	};
	uint32_t shard = lines_find(&load->shards, entry->shard, strlen(entry->shard));
	int rc = ckpt_db_put_tensor(load->db, load->row->slot, &row, err);

	assert(shard != 0);
	return rc < 0 ? rc : ckpt_db_put_chunk(load->db, load->row->slot, line, shard, "", err);
}

/* --- the whole ------------------------------------------------------------------------- */

/* What the row was made from has been replaced. */
static int refuse_stale(const struct load *load, struct ckpt_err *err)
{
	return ckpt_err_set(err, -ESTALE,
			    "the manifest of '%s' was replaced while it was read; try again",
			    load->row->name);
}

static int check_manifest_unchanged(const struct load *load, struct ckpt_err *err)
{
	struct stat st;
	int rc = ckpt_manifest_stat(load->dirfd, "", &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read the manifest of '%s'", load->row->name);
	return ckpt_row_fits(load->row, &st) ? 0 : refuse_stale(load, err);
}

/*
 * Read all lines into the index. The stamps are compared behind the reading: then what was read is
 * what the row says.
 */
static int load_lines(struct load *load, struct ckpt_err *err)
{
	const struct ckpt_manifest_visitor visitor = {
		.dir = load_dir,
		.shard = load_shard,
		.symlink = load_symlink,
		.tensor = load_tensor,
		.bytes = load_bytes,
		.ctx = load,
	};
	int rc = ckpt_catalog_load(load->store->fd, load->row->id, load->row->manifest_xxh128,
				   &load->catalog);

	if (rc == -ENOMEM)
		return out_of_memory(load, rc, err);
	rc = ckpt_manifest_visit(load->dirfd, load->row->name, &visitor, err);
	if (rc == 0)
		rc = check_manifest_unchanged(load, err);
	return rc == 0 ? ckpt_db_seal_checkpoint(load->db, load->row->slot, err) : rc;
}

static bool same_manifest(const struct ckpt_db_checkpoint *a, const struct ckpt_db_checkpoint *b)
{
	return a->slot == b->slot && strcmp(a->id, b->id) == 0 &&
	       ckpt_digest_equal(a->manifest_xxh128, b->manifest_xxh128);
}

/* Forget what an earlier try may have left. */
static void load_release(struct load *load)
{
	lines_release(&load->dirs);
	lines_release(&load->shards);
	ckpt_catalog_release(&load->catalog);
	free(load->parent);
	free(load->pack);
	if (load->parent_fd >= 0)
		close(load->parent_fd);
}

static void load_reset(struct load *load, struct ckpt_db *db)
{
	load_release(load);
	*load = (struct load){
		.store = load->store,
		.row = load->row,
		.db = db,
		.dirfd = load->dirfd,
		.top = load->top,
		.parent_fd = -1,
	};
	ckpt_buf_init(&load->dirs.text);
	ckpt_buf_init(&load->shards.text);
}

/* Inside the transaction: nobody else writes now. */
static int load_in_transaction(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	struct load *load = ctx;
	struct ckpt_db_checkpoint now;
	bool same;
	bool done;
	int rc = ckpt_db_checkpoint_by_name(db, load->row->name, &now, err);

	if (rc < 0)
		return rc == -ENOENT ? refuse_stale(load, err) : rc;
	same = same_manifest(&now, load->row);
	done = now.entries_indexed;
	ckpt_db_checkpoint_release(&now);
	if (!same)
		return refuse_stale(load, err);
	if (done)
		return 0;
	load_reset(load, db);
	return load_lines(load, err);
}

static int load_once(struct ckpt_store *store, struct ckpt_db_checkpoint *row, struct ckpt_err *err)
{
	struct load load = { .store = store, .row = row, .dirfd = -1, .parent_fd = -1 };
	int rc = ckpt_store_open_checkpoint(store, row->name, &load.dirfd, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&load.dirs.text);
	ckpt_buf_init(&load.shards.text);
	rc = ckpt_io_fstat(load.dirfd, &load.top);
	if (rc < 0)
		ckpt_err_sys(err, rc, "cannot index '%s'", row->name);
	else
		rc = ckpt_index_write(store, load_in_transaction, &load, err);
	load_release(&load);
	close(load.dirfd);
	return rc;
}

/* Put the row as it is now in the place of the caller's. */
static int refresh_row(struct ckpt_store *store, struct ckpt_db_checkpoint *row,
		       struct ckpt_err *err)
{
	struct ckpt_db_checkpoint now;
	int rc = ckpt_store_lookup(store, row->name, &now, err);

	if (rc < 0)
		return rc;
	ckpt_db_checkpoint_release(row);
	*row = now;
	return 0;
}

int ckpt_store_load_entries(struct ckpt_store *store, struct ckpt_db_checkpoint *row,
			    struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = 0;

	for (int tries = 0; rc == 0 && !row->entries_indexed && tries < TRIES_MAX; tries++) {
		rc = load_once(store, row, &why);
		/* Replaced meanwhile, or the index was: begin again with what is there now. */
		if (rc == 0 || rc == -ESTALE)
			rc = refresh_row(store, row, &why);
	}
	if (rc == 0 && !row->entries_indexed)
		rc = ckpt_err_set(&why, -ESTALE,
				  "the manifest of '%s' is being replaced; try again", row->name);
	return rc < 0 ? ckpt_err_set(err, rc, "%s", why.msg) : 0;
}
