/* committed.c - see committed.h. */
#include "committed.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "control_dir.h"
#include "node.h"
#include "own_ids.h"
#include "removal.h"
#include "view_nodes.h"

#define NS_PER_SEC INT64_C(1000000000)

/* --- attributes ------------------------------------------------------------------------------- */

/* Folders in the top, as they are shown now. */
static uint32_t top_dirs(struct fs *fs, const struct checkpoint *cp)
{
	struct removal_tree *tree = removal_tree_of(fs, cp->row.slot);
	uint32_t count = tree ? removal_tree_top_dirs(tree) : cp->top_dirs;

	removal_tree_unref(tree);
	return count;
}

void committed_show_top(struct fs *fs, const struct checkpoint *cp, struct stat *st)
{
	st->st_ino = node_committed(cp->row.slot, NODE_TOP_LINE);
	/*
	 * 1 is what file systems say that do not count: nobody may take it that there are no
	 * folders.
	 */
	st->st_nlink = cp->row.entries_indexed ? 2 + top_dirs(fs, cp) : 1;
}

void committed_fill_top(struct fs *fs, const struct checkpoint *cp, const struct stat *st,
			struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){
		.ino = node_committed(cp->row.slot, NODE_TOP_LINE),
		.generation = cp->generation + removal_times(fs, cp->row.slot, NODE_TOP_LINE),
		.attr = *st,
		.attr_timeout = TIMEOUT_LIVE,
		.entry_timeout = TIMEOUT_LIVE,
	};
	committed_show_top(fs, cp, &out->attr);
}

static struct timespec time_of(int64_t ns)
{
	int64_t sec = ns / NS_PER_SEC;
	int64_t rest = ns % NS_PER_SEC;

	if (rest < 0) {
		rest += NS_PER_SEC;
		sec--;
	}
	return (struct timespec){ .tv_sec = sec, .tv_nsec = rest };
}

static mode_t type_of(enum ckpt_entry_kind kind)
{
	switch (kind) {
	case CKPT_ENTRY_DIR:
		return S_IFDIR;
	case CKPT_ENTRY_SYMLINK:
		return S_IFLNK;
	case CKPT_ENTRY_SHARD:
		break;
	}
	return S_IFREG;
}

void committed_show(uint64_t slot, const struct ckpt_db_entry *entry, struct stat *out)
{
	bool is_dir = entry->kind == CKPT_ENTRY_DIR;

	*out = (struct stat){
		.st_ino = node_committed(slot, entry->line),
		.st_mode = type_of(entry->kind) | (entry->mode & (is_dir ? 07777 : 0777)),
		.st_nlink = is_dir ? 2 + entry->child_dirs : 1,
		.st_uid = entry->uid,
		.st_gid = entry->gid,
		.st_size = (off_t)entry->size_bytes,
		.st_blksize = 4096,
		.st_blocks = (blkcnt_t)(entry->size_bytes / 512 + (entry->size_bytes % 512 != 0)),
		.st_mtim = time_of(entry->mtime_ns),
	};
	if (entry->kind == CKPT_ENTRY_SYMLINK)
		out->st_mode |= 0777;
	out->st_atim = out->st_mtim;
	out->st_ctim = out->st_mtim;
	own_ids_show(out);
}

void committed_fill(struct fs *fs, const struct checkpoint *cp, const struct ckpt_db_entry *entry,
		    struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){
		.ino = node_committed(cp->row.slot, entry->line),
		.generation = cp->generation,
		.attr_timeout = TIMEOUT_FOREVER,
		.entry_timeout = TIMEOUT_FOREVER,
	};
	if (entry->kind == CKPT_ENTRY_DIR)
		out->generation += removal_times(fs, cp->row.slot, entry->line);
	committed_show(cp->row.slot, entry, &out->attr);
}

int committed_check_name(const struct checkpoint *cp, const struct ckpt_db_entry *entry)
{
	if (!strchr(entry->name, '/') && entry->line > NODE_TOP_LINE &&
	    ckpt_path_check_entry(entry->name, NULL) == 0)
		return 0;
	fs_log_once(
		"the index holds a name in checkpoint '%s' that no manifest can hold (line %u); "
		"run 'ckptfs reindex %s'",
		cp->row.name, entry->line, cp->row.name);
	return -EIO;
}

/* --- entries ------------------------------------------------------------------------------ */

/* One row by line, or by name in a folder when @name is given. -ENOENT. */
static int read_row(struct fs *fs, fuse_ino_t ino, const char *name, struct ckpt_db_entry *out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(fs->store, &db, &err);

	if (rc == 0) {
		rc = name ? ckpt_db_entry_by_name(db, node_slot(ino), node_line(ino), name, out,
						  &err)
			  : ckpt_db_entry_by_line(db, node_slot(ino), node_line(ino), out, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc < 0 && rc != -ENOENT)
		fs_log_once("%s", err.msg);
	return rc;
}

/* The same of a checkpoint that is being removed, too. */
static int read_entry(struct fs *fs, fuse_ino_t ino, const char *name, struct ckpt_db_entry *out)
{
	struct removal_tree *tree = removal_tree_of(fs, node_slot(ino));
	int rc;

	if (!tree)
		return read_row(fs, ino, name, out);
	rc = removal_tree_entry(tree, node_line(ino), name, out);
	removal_tree_unref(tree);
	return rc;
}

/* Nothing was found: is that the answer, or was the index emptied? */
static int not_found(struct fs *fs, uint64_t slot)
{
	int rc = slots_still_loaded(fs, slot);

	return rc < 0 ? rc : -ENOENT;
}

int committed_entry(struct fs *fs, fuse_ino_t ino, struct ckpt_db_entry *out)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get_loaded(fs, node_slot(ino), &cp);

	if (rc < 0)
		return rc;
	checkpoint_unref(cp);
	rc = read_entry(fs, ino, NULL, out);
	if (rc == -ENOENT) {
		rc = not_found(fs, node_slot(ino));
		return rc == -ENOENT ? -ESTALE : rc;
	}
	return rc;
}

int committed_entry_named(struct fs *fs, fuse_ino_t parent, const char *name,
			  struct ckpt_db_entry *out)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get_loaded(fs, node_slot(parent), &cp);

	if (rc < 0)
		return rc;
	checkpoint_unref(cp);
	rc = read_entry(fs, parent, name, out);
	return rc == -ENOENT ? not_found(fs, node_slot(parent)) : rc;
}

int committed_children(struct fs *fs, const struct ckpt_db_cursor *from,
		       int (*fn)(void *ctx, const struct ckpt_db_entry *entry), void *ctx)
{
	struct removal_tree *tree = removal_tree_of(fs, from->slot);
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db *db = NULL;
	int rc;

	if (tree) {
		rc = removal_tree_children(tree, from, fn, ctx);
		removal_tree_unref(tree);
		return rc < 0 ? rc : 0;
	}
	rc = ckpt_store_db_get(fs->store, &db, &err);
	if (rc == 0) {
		rc = ckpt_db_children(db, from, fn, ctx, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc < 0 && err.msg[0] != '\0')
		fs_log_once("%s", err.msg);
	return rc < 0 ? rc : 0;
}

/* A sub-folder has one where it holds a tensor set. */
static int set_control_dir(struct fs *fs, fuse_ino_t parent, struct fuse_entry_param *out)
{
	int rc = view_control_dir(fs, node_slot(parent), node_line(parent), out);

	if (rc != -ENOENT)
		return rc;
	*out = (struct fuse_entry_param){ .entry_timeout = TIMEOUT_LIVE };
	return 0;
}

int committed_child(struct fs *fs, fuse_ino_t parent, const char *name,
		    struct fuse_entry_param *out)
{
	struct checkpoint *cp = NULL;
	struct ckpt_db_entry entry = { 0 };
	int rc;

	if (strcmp(name, CKPT_CONTROL_DIR) == 0 && node_line(parent) == NODE_TOP_LINE)
		return control_dir_of_checkpoint(fs, node_slot(parent), out);
	if (strcmp(name, CKPT_CONTROL_DIR) == 0)
		return set_control_dir(fs, parent, out);
	rc = slots_get_loaded(fs, node_slot(parent), &cp);
	if (rc < 0)
		return rc;
	rc = committed_entry_named(fs, parent, name, &entry);
	if (rc == 0) {
		rc = committed_check_name(cp, &entry);
		committed_fill(fs, cp, &entry, out);
		ckpt_db_entry_release(&entry);
	} else if (rc == -ENOENT) {
		/* Committed: no such name will ever come; but what was unlinked may come back. */
		bool may_come = removal_is_active(fs, node_slot(parent));

		*out = (struct fuse_entry_param){ .entry_timeout = may_come ? 0 : TIMEOUT_FOREVER };
		rc = 0;
	}
	checkpoint_unref(cp);
	return rc;
}

static int top_attr(struct fs *fs, uint64_t slot, struct stat *out)
{
	struct checkpoint *cp = NULL;
	CKPT_CLOSE int fd = -1;
	int rc = slots_get(fs, slot, &cp);

	if (rc < 0)
		return rc;
	rc = committed_open_folder(fs, cp, &fd);
	if (rc == 0)
		rc = ckpt_io_fstat(fd, out);
	if (rc == 0)
		committed_show_top(fs, cp, out);
	checkpoint_unref(cp);
	return rc;
}

int committed_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct ckpt_db_entry entry = { 0 };
	int rc;

	if (node_line(ino) == NODE_TOP_LINE)
		return top_attr(fs, node_slot(ino), out);
	rc = committed_entry(fs, ino, &entry);
	if (rc < 0)
		return rc;
	committed_show(node_slot(ino), &entry, out);
	ckpt_db_entry_release(&entry);
	return 0;
}

int committed_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target)
{
	struct ckpt_db_entry entry = { 0 };
	int rc = node_line(ino) == NODE_TOP_LINE ? -EINVAL : committed_entry(fs, ino, &entry);

	if (rc < 0)
		return rc;
	if (entry.target)
		ckpt_buf_add_str(target, entry.target);
	rc = entry.target ? ckpt_buf_check(target) : -EINVAL;
	ckpt_db_entry_release(&entry);
	return rc;
}

/* --- stored files ------------------------------------------------------------------------- */

/* Is the manifest in the folder the one the row was made from? */
static int check_manifest(int fd, const struct ckpt_db_checkpoint *row)
{
	struct stat st;
	int rc = ckpt_io_fstatat(fd, CKPT_MANIFEST_FILE, &st, AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		return rc == -ENOENT ? -ESTALE : rc;
	if (st.st_ino != row->manifest_ino || (uint64_t)st.st_size != row->manifest_size_bytes ||
	    st.st_mtim.tv_sec * NS_PER_SEC + st.st_mtim.tv_nsec != row->manifest_mtime_ns)
		return -ESTALE;
	return 0;
}

int committed_open_folder(struct fs *fs, const struct checkpoint *cp, int *out_fd)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	CKPT_CLOSE int fd = -1;
	int rc = removal_open_folder(fs, cp->row.slot, &fd);

	if (rc == -ENOENT)
		rc = ckpt_store_open_checkpoint(fs->store, cp->row.name, &fd, &err);
	if (rc == -ENOENT)
		return -ESTALE;
	if (rc < 0) {
		if (err.msg[0] != '\0')
			fs_log_once("%s", err.msg);
		return rc;
	}
	rc = check_manifest(fd, &cp->row);
	if (rc == 0)
		*out_fd = ckpt_steal_fd(&fd);
	return rc;
}

/* Path of an entry in its checkpoint, and the block sums of a shard. */
static int read_place(struct fs *fs, fuse_ino_t ino, struct ckpt_shard *out)
{
	struct removal_tree *tree = removal_tree_of(fs, node_slot(ino));
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db *db = NULL;
	uint64_t sum_count = 0;
	int rc;

	if (tree) {
		rc = removal_tree_place(tree, node_line(ino), out);
		removal_tree_unref(tree);
		return rc;
	}
	rc = ckpt_store_db_get(fs->store, &db, &err);
	if (rc == 0) {
		rc = ckpt_db_entry_path(db, node_slot(ino), node_line(ino), &out->path, &err);
		if (rc == 0 && out->block_bytes != 0)
			rc = ckpt_db_sums(db, node_slot(ino), node_line(ino), &out->sums,
					  &sum_count, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc == -ENOENT)
		return RC_LOAD_FIRST; /* it was there a moment ago: the index was emptied */
	if (rc < 0)
		fs_log_once("%s", err.msg);
	else if (out->block_bytes != 0 &&
		 sum_count != ckpt_block_count(out->size_bytes, out->block_bytes))
		rc = -EUCLEAN;
	return rc;
}

int committed_stored_open(struct fs *fs, fuse_ino_t ino, int flags, int *out_fd)
{
	struct ckpt_shard place = { 0 };
	struct checkpoint *cp = NULL;
	struct ckpt_db_entry entry = { 0 };
	CKPT_CLOSE int fd = -1;
	int rc = slots_get_loaded(fs, node_slot(ino), &cp);

	if (rc < 0)
		return rc;
	rc = committed_open_folder(fs, cp, &fd);
	if (rc == 0 && node_line(ino) == NODE_TOP_LINE) {
		*out_fd = ckpt_steal_fd(&fd);
		goto out;
	}
	if (rc == 0)
		rc = committed_entry(fs, ino, &entry);
	if (rc == 0)
		rc = entry.pack ? -ENOTSUP : read_place(fs, ino, &place);
	if (rc == 0) {
		rc = ckpt_io_open_beneath(fd, place.path, flags | O_NOFOLLOW, 0);
		if (rc >= 0) {
			*out_fd = rc;
			rc = 0;
		}
	}
out:
	ckpt_shard_release(&place);
	ckpt_db_entry_release(&entry);
	checkpoint_unref(cp);
	return rc;
}

/* --- shards ------------------------------------------------------------------------------- */

/* Take from the row what the reader needs. */
static void shard_from_entry(struct ckpt_db_entry *entry, struct ckpt_shard *out)
{
	out->size_bytes = entry->size_bytes;
	out->mode = entry->mode;
	out->mtime_ns = entry->mtime_ns;
	out->block_bytes = entry->block_bytes;
	out->pack = ckpt_steal_ptr(&entry->pack);
	out->pack_offset_bytes = entry->pack_offset;
}

static int check_is_shard(const struct ckpt_db_entry *entry)
{
	if (entry->kind == CKPT_ENTRY_DIR)
		return -EISDIR;
	return entry->kind == CKPT_ENTRY_SHARD && entry->block_bytes != 0 ? 0 : -ELOOP;
}

static int open_reader(struct fs *fs, struct committed_shard *shard)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	CKPT_CLOSE int fd = -1;
	int rc = committed_open_folder(fs, shard->cp, &fd);

	if (rc < 0)
		return rc;
	rc = ckpt_shard_reader_open(fd, shard->cp->row.name, &shard->shard, &shard->reader, &err);
	if (rc == 0)
		return 0;
	fs_log_once("%s", err.msg);
	/*
	 * Missing, short or replaced while its checkpoint is there: damage, and not the caller's
	 * mistake.
	 */
	return rc == -ENOENT || rc == -ESTALE || rc == -ELOOP ? -EIO : rc;
}

int committed_shard_open(struct fs *fs, fuse_ino_t ino, struct committed_shard **out)
{
	struct committed_shard *shard;
	struct ckpt_db_entry entry = { 0 };
	int rc;

	if (node_line(ino) == NODE_TOP_LINE)
		return -EISDIR;
	shard = calloc(1, sizeof(*shard));
	if (!shard)
		return -ENOMEM;
	atomic_init(&shard->refs, 1);
	rc = committed_entry(fs, ino, &entry);
	if (rc == 0)
		rc = check_is_shard(&entry);
	if (rc == 0)
		rc = slots_get(fs, node_slot(ino), &shard->cp);
	if (rc == 0) {
		shard_from_entry(&entry, &shard->shard);
		rc = read_place(fs, ino, &shard->shard);
	}
	if (rc == 0)
		rc = open_reader(fs, shard);
	ckpt_db_entry_release(&entry);
	if (rc < 0)
		committed_shard_unref(shard);
	else
		*out = shard;
	return rc;
}

struct committed_shard *committed_shard_ref(struct committed_shard *shard)
{
	atomic_fetch_add(&shard->refs, 1);
	return shard;
}

void committed_shard_unref(struct committed_shard *shard)
{
	if (!shard || atomic_fetch_sub(&shard->refs, 1) != 1)
		return;
	ckpt_shard_reader_free(shard->reader);
	ckpt_shard_release(&shard->shard);
	checkpoint_unref(shard->cp);
	free(shard);
}

void committed_log_damage(struct fs *fs, const struct committed_shard *shard,
			  const struct ckpt_damage *damage)
{
	const char *name = shard->cp->row.name;
	const char *pack = shard->shard.pack;
	char found[CKPT_HEX64_LEN + 1];
	char expected[CKPT_HEX64_LEN + 1];

	fs_log_once("cannot read '%s/%s': block %" PRIu64 " (bytes %" PRIu64 "-%" PRIu64
		    "): xxh3-64 is %s, should be %s%s%s; run 'ckptfs verify %s/%s'",
		    name, shard->shard.path, damage->block_idx, damage->start_bytes,
		    damage->end_bytes - 1, ckpt_hex64(damage->found, found),
		    ckpt_hex64(damage->expected, expected), pack ? " in " : "", pack ? pack : "",
		    ckpt_store_path(fs->store), name);
}
