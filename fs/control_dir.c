/* control_dir.c - see control_dir.h. */
#include "control_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "committed.h"
#include "control_text.h"
#include "group.h"
#include "inode.h"
#include "slots.h"
#include "view/view.h"
#include "view_nodes.h"
#include "view_trees.h"

#define NS_PER_SEC INT64_C(1000000000)

struct control_name {
	const char *name;
	enum virtual_kind kind;
};

/* What lies in each kind of control folder, in the order it is listed. */
static const struct control_name top_names[] = {
	{ "README", VIRTUAL_README },	      { "latest", VIRTUAL_LATEST },
	{ "stats", VIRTUAL_STATS },	      { "status", VIRTUAL_STATUS },
	{ "store.json", VIRTUAL_STORE_JSON }, { NULL, 0 },
};
static const struct control_name group_names[] = {
	{ "latest", VIRTUAL_LATEST },
	{ NULL, 0 },
};
static const struct control_name checkpoint_names[] = {
	{ "XXH128SUMS", VIRTUAL_SUMS },
	{ "manifest.jsonl", VIRTUAL_MANIFEST },
	{ NULL, 0 },
};

static const struct control_name *names_of(fuse_ino_t dir)
{
	switch (node_kind(dir)) {
	case VIRTUAL_TOP_DIR:
		return top_names;
	case VIRTUAL_GROUP_DIR:
		return group_names;
	case VIRTUAL_CHECKPOINT_DIR:
		return checkpoint_names;
	default:
		return NULL;
	}
}

bool control_is_dir(fuse_ino_t ino)
{
	return names_of(ino) != NULL;
}

bool control_asks_group(fuse_ino_t ino)
{
	switch (node_kind(ino)) {
	case VIRTUAL_TOP_DIR:
	case VIRTUAL_GROUP_DIR:
	case VIRTUAL_LATEST:
	case VIRTUAL_LATEST_LISTED:
		return true;
	default:
		return false;
	}
}

bool control_is_of_checkpoint(fuse_ino_t ino)
{
	switch (node_kind(ino)) {
	case VIRTUAL_CHECKPOINT_DIR:
	case VIRTUAL_MANIFEST:
	case VIRTUAL_SUMS:
		return true;
	default:
		return false;
	}
}

const char *control_list(fuse_ino_t dir, size_t idx)
{
	return node_is_view(dir) ? NULL : names_of(dir)[idx].name;
}

bool control_is_stored(fuse_ino_t ino)
{
	return node_kind(ino) == VIRTUAL_STORE_JSON || node_kind(ino) == VIRTUAL_MANIFEST;
}

bool control_is_live(fuse_ino_t ino)
{
	return node_kind(ino) == VIRTUAL_STATS || node_kind(ino) == VIRTUAL_STATUS;
}

/* --- texts -------------------------------------------------------------------------------- */

static int sums_text(struct fs *fs, uint64_t slot, struct ckpt_buf *out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct checkpoint *cp = NULL;
	struct ckpt_db *db = NULL;
	int rc = slots_get_loaded(fs, slot, &cp);

	if (rc < 0)
		return rc;
	checkpoint_unref(cp);
	rc = slots_still_loaded(fs, slot);
	if (rc == 0)
		rc = ckpt_store_db_get(fs->store, &db, &err);
	if (rc == 0) {
		rc = ckpt_view_sums(db, slot, out, &err);
		ckpt_store_db_put(fs->store, db);
		if (rc < 0)
			fs_log_once("%s", err.msg);
	}
	return rc;
}

int control_text(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *out)
{
	int rc = 0;

	switch (node_kind(ino)) {
	case VIRTUAL_README:
		ckpt_buf_add_str(out, ckpt_store_is_bare(fs->store) ? control_readme_bare
								    : control_readme);
		break;
	case VIRTUAL_STATS:
		stats_print(fs, out);
		break;
	case VIRTUAL_STATUS:
		control_status(fs, out);
		break;
	case VIRTUAL_SUMS:
		rc = sums_text(fs, node_ref(ino), out);
		break;
	default:
		return -EISDIR;
	}
	return rc < 0 ? rc : ckpt_buf_check(out);
}

int control_open_stored(struct fs *fs, fuse_ino_t ino, int *out_fd)
{
	struct checkpoint *cp = NULL;
	CKPT_CLOSE int folder = -1;
	int at = ckpt_store_fd(fs->store);
	int rc = 0;

	if (node_kind(ino) == VIRTUAL_MANIFEST) {
		rc = slots_get(fs, node_ref(ino), &cp);
		if (rc == 0)
			rc = committed_open_folder(fs, cp, &folder);
		checkpoint_unref(cp);
		at = folder;
	}
	if (rc < 0)
		return rc;
	rc = ckpt_io_open_beneath(at, at == folder ? CKPT_MANIFEST_FILE : CKPT_STORE_FILE, O_RDONLY,
				  0);
	if (rc < 0)
		return rc == -ENOENT ? -ESTALE : rc;
	*out_fd = rc;
	return 0;
}

/* --- attributes --------------------------------------------------------------------------- */

static void base_attr(const struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	*out = (struct stat){
		.st_ino = ino,
		.st_mode = S_IFREG | 0444,
		.st_nlink = 1,
		.st_uid = fs->owner_uid,
		.st_gid = fs->owner_gid,
		.st_blksize = 4096,
		.st_atim = fs->started,
		.st_mtim = fs->started,
		.st_ctim = fs->started,
	};
}

static void set_size(struct stat *st, uint64_t size_bytes)
{
	st->st_size = (off_t)size_bytes;
	st->st_blocks = (blkcnt_t)(size_bytes / 512 + (size_bytes % 512 != 0));
}

static int link_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct ckpt_buf target;
	int rc;

	ckpt_buf_init(&target);
	rc = control_readlink(fs, ino, &target);
	out->st_mode = S_IFLNK | 0777;
	set_size(out, target.len_bytes);
	ckpt_buf_release(&target);
	return rc;
}

static int text_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	rc = control_text(fs, ino, &text);
	set_size(out, text.len_bytes);
	ckpt_buf_release(&text);
	return rc;
}

static int stored_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	CKPT_CLOSE int fd = -1;
	struct stat st = { 0 };
	int rc = control_open_stored(fs, ino, &fd);

	if (rc == 0)
		rc = ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return rc;
	set_size(out, (uint64_t)st.st_size);
	out->st_mtim = st.st_mtim;
	out->st_ctim = st.st_mtim;
	out->st_atim = st.st_mtim;
	return 0;
}

/* Files of a checkpoint carry the time of its commit. */
static int commit_time(struct fs *fs, uint64_t slot, struct stat *out)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get(fs, slot, &cp);

	if (rc < 0)
		return rc;
	out->st_mtim.tv_sec = cp->row.manifest_mtime_ns / NS_PER_SEC;
	out->st_mtim.tv_nsec = cp->row.manifest_mtime_ns % NS_PER_SEC;
	out->st_ctim = out->st_mtim;
	out->st_atim = out->st_mtim;
	checkpoint_unref(cp);
	return 0;
}

/* Its size is in the row: nothing is generated for it. */
static int sums_attr(struct fs *fs, uint64_t slot, struct stat *out)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get_loaded(fs, slot, &cp);

	if (rc < 0)
		return rc;
	set_size(out, cp->row.sums_text_bytes);
	checkpoint_unref(cp);
	return commit_time(fs, slot, out);
}

/* A group's number is its counter in this mount; the stored number lasts longer. */
static int group_ino(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct inode_key key;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	rc = inode_locate(fs->inodes, node_group(ino), &path, &key);
	if (rc == 0 && node_group(ino) != FUSE_ROOT_ID)
		out->st_ino = node_virtual(node_kind(ino), key.ino);
	ckpt_buf_release(&path);
	return rc;
}

static int dir_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	out->st_mode = S_IFDIR | 0555;
	out->st_nlink = 2;
	if (node_kind(ino) == VIRTUAL_CHECKPOINT_DIR)
		return commit_time(fs, node_ref(ino), out);
	return group_ino(fs, ino, out);
}

int control_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	int rc;

	if (node_is_view(ino))
		return view_attr(fs, ino, out);
	base_attr(fs, ino, out);
	switch (node_kind(ino)) {
	case VIRTUAL_TOP_DIR:
	case VIRTUAL_GROUP_DIR:
	case VIRTUAL_CHECKPOINT_DIR:
		return dir_attr(fs, ino, out);
	case VIRTUAL_LATEST:
	case VIRTUAL_LATEST_LISTED:
		rc = link_attr(fs, ino, out);
		return rc < 0 ? rc : group_ino(fs, ino, out);
	case VIRTUAL_STORE_JSON:
	case VIRTUAL_MANIFEST:
		return stored_attr(fs, ino, out);
	case VIRTUAL_README:
	case VIRTUAL_STATS:
	case VIRTUAL_STATUS:
		return text_attr(fs, ino, out);
	case VIRTUAL_SUMS:
		return sums_attr(fs, node_ref(ino), out);
	case VIRTUAL_VIEW:
	case VIRTUAL_PLAIN_VIEW:
		break;
	}
	return -ESTALE;
}

/* --- names -------------------------------------------------------------------------------- */

int control_readlink(struct fs *fs, fuse_ino_t ino, struct ckpt_buf *target)
{
	struct inode_key key;
	struct ckpt_buf path;
	int rc;

	if (node_kind(ino) != VIRTUAL_LATEST && node_kind(ino) != VIRTUAL_LATEST_LISTED)
		return -EINVAL;
	ckpt_buf_init(&path);
	rc = inode_locate(fs->inodes, node_group(ino), &path, &key);
	if (rc == 0 && node_kind(ino) == VIRTUAL_LATEST)
		ckpt_buf_add_str(target, "../");
	if (rc == 0)
		rc = group_latest(fs, path.data, target);
	ckpt_buf_release(&path);
	return rc;
}

static int fill(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){ .ino = ino };
	/*
	 * What belongs to a checkpoint is as immutable as it; its folder's own name is looked up
	 * again anyway.
	 */
	if (node_kind(ino) == VIRTUAL_SUMS || node_kind(ino) == VIRTUAL_MANIFEST) {
		struct checkpoint *cp = NULL;
		int rc = slots_get(fs, node_ref(ino), &cp);

		if (rc < 0)
			return rc;
		out->generation = cp->generation;
		checkpoint_unref(cp);
		/* A digest that is learned after the commit makes the sum file longer. */
		out->attr_timeout = node_kind(ino) == VIRTUAL_SUMS ? TIMEOUT_LIVE : TIMEOUT_FOREVER;
		out->entry_timeout = TIMEOUT_FOREVER;
	} else if (!control_is_live(ino)) {
		out->attr_timeout = TIMEOUT_LIVE;
		out->entry_timeout = TIMEOUT_LIVE;
	}
	return control_attr(fs, ino, &out->attr);
}

int control_dir_of_group(struct fs *fs, fuse_ino_t group, struct fuse_entry_param *out)
{
	enum virtual_kind kind = group == FUSE_ROOT_ID ? VIRTUAL_TOP_DIR : VIRTUAL_GROUP_DIR;

	return fill(fs, node_virtual(kind, group), out);
}

int control_dir_of_checkpoint(struct fs *fs, uint64_t slot, struct fuse_entry_param *out)
{
	return fill(fs, node_virtual(VIRTUAL_CHECKPOINT_DIR, slot), out);
}

int control_latest_listed(struct fs *fs, fuse_ino_t group, struct fuse_entry_param *out)
{
	return fill(fs, node_virtual(VIRTUAL_LATEST_LISTED, group), out);
}

/* Any other name needs no look at the tensors. */
static bool is_folder_of_views(const char *name)
{
	return strcmp(name, "tensors") == 0 || strcmp(name, "safetensors") == 0 ||
	       strcmp(name, "hf") == 0;
}

int control_child(struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *out)
{
	const struct control_name *at = names_of(parent);

	if (node_is_view(parent))
		return view_child(fs, parent, name, out);
	if (!at)
		return -ENOTDIR;
	for (; at->name; at++) {
		/* What is no store has none, and a path must not be taken to lead into one. */
		if (at->kind == VIRTUAL_STORE_JSON && ckpt_store_is_bare(fs->store))
			continue;
		if (strcmp(at->name, name) == 0)
			return fill(fs, node_virtual(at->kind, node_ref(parent)), out);
	}
	return views_are_of(fs, parent) && is_folder_of_views(name)
		       ? view_child(fs, parent, name, out)
		       : -ENOENT;
}
