/* view_nodes.c - see view_nodes.h. */
#include "view_nodes.h"

#include <errno.h>
#include <string.h>

#include "node.h"
#include "store/store.h"

/* The node in the tree that a folder's number stands for; CKPT_VIEW_NONE: there are no views in it. */
static uint32_t dir_node(const struct view_tree *tree, fuse_ino_t dir)
{
	return node_is_view(dir) ? node_view_idx(dir) : ckpt_views_root(tree->views, "");
}

static fuse_ino_t ino_of(const struct view_tree *tree, uint32_t node)
{
	return tree->cp ? node_view(tree->ref, node)
			: node_plain_view(tree->ref, tree->epoch, node);
}

static void show(const struct fs *fs, const struct view_tree *tree, fuse_ino_t ino,
		 const struct ckpt_view_node *node, struct stat *out)
{
	uint64_t size_bytes = node->is_dir ? 0 : node->size_bytes;

	*out = (struct stat){
		.st_ino = ino,
		.st_mode = node->is_dir ? S_IFDIR | 0555 : S_IFREG | tree->access.mode,
		.st_nlink = node->is_dir ? 2 : 1,
		.st_uid = tree->access.is_owned ? tree->access.uid : fs->owner_uid,
		.st_gid = tree->access.is_owned ? tree->access.gid : fs->owner_gid,
		.st_size = (off_t)size_bytes,
		.st_blocks = (blkcnt_t)(size_bytes / 512 + (size_bytes % 512 != 0)),
		/* Reads go past the page cache: small ones are dear. */
		.st_blksize = node->is_dir ? 4096 : 1024 * 1024,
		.st_atim = tree->time,
		.st_mtim = tree->time,
		.st_ctim = tree->time,
	};
}

/* What is committed never changes; a plain folder may, and companions from outside. */
static void fill(const struct fs *fs, const struct view_tree *tree, uint32_t idx,
		 const struct ckpt_view_node *node, struct fuse_entry_param *out)
{
	double timeout = tree->cp && !node->is_outside ? TIMEOUT_FOREVER : TIMEOUT_LIVE;

	*out = (struct fuse_entry_param){
		.ino = ino_of(tree, idx),
		.generation = (uint32_t)tree->generation,
		.attr_timeout = timeout,
		.entry_timeout = timeout,
	};
	show(fs, tree, out->ino, node, &out->attr);
}

static int find(const struct fs *fs, const struct view_tree *tree, uint32_t idx,
		struct fuse_entry_param *out)
{
	struct ckpt_view_node node;

	if (idx == CKPT_VIEW_NONE || !ckpt_views_node(tree->views, idx, &node))
		return -ENOENT;
	fill(fs, tree, idx, &node, out);
	return 0;
}

int view_child(struct fs *fs, fuse_ino_t dir, const char *name, struct fuse_entry_param *out)
{
	struct view_tree *tree = NULL;
	uint32_t at;
	int rc = views_get(fs, dir, &tree);

	if (rc < 0)
		return rc;
	at = dir_node(tree, dir);
	rc = at == CKPT_VIEW_NONE ? -ENOENT
				  : find(fs, tree, ckpt_views_child(tree->views, at, name), out);
	view_tree_unref(tree);
	return rc;
}

int view_control_dir(struct fs *fs, uint64_t slot, uint32_t line, struct fuse_entry_param *out)
{
	struct view_tree *tree = NULL;
	const struct ckpt_manifest *manifest;
	uint64_t idx = (uint64_t)line - NODE_TOP_LINE - 1;
	int rc = views_get(fs, node_committed(slot, line), &tree);

	if (rc < 0)
		return rc;
	manifest = ckpt_views_manifest(tree->views);
	rc = idx < manifest->dir_count
		     ? find(fs, tree, ckpt_views_root(tree->views, manifest->dirs[idx].path), out)
		     : -ENOENT;
	view_tree_unref(tree);
	return rc;
}

static int node_of(struct fs *fs, fuse_ino_t ino, struct view_tree **out_tree,
		   struct ckpt_view_node *out)
{
	int rc = views_get(fs, ino, out_tree);

	if (rc == 0 && !ckpt_views_node((*out_tree)->views, node_view_idx(ino), out)) {
		view_tree_unref(*out_tree);
		rc = -ESTALE;
	}
	return rc;
}

int view_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct ckpt_view_node node = { .name = NULL };
	struct view_tree *tree = NULL;
	int rc = node_of(fs, ino, &tree, &node);

	if (rc < 0)
		return rc;
	show(fs, tree, ino, &node, out);
	view_tree_unref(tree);
	return 0;
}

int view_tensor(struct fs *fs, fuse_ino_t ino, struct view_tree **out_tree,
		const struct ckpt_tensor **out)
{
	struct ckpt_view_node node = { .name = NULL };
	struct view_tree *tree = NULL;
	int rc = node_of(fs, ino, &tree, &node);

	if (rc < 0)
		return rc;
	*out = ckpt_views_tensor(tree->views, node_view_idx(ino));
	if (!*out) {
		view_tree_unref(tree);
		return -ENODATA;
	}
	*out_tree = tree;
	return 0;
}

static int list(struct fs *fs, const struct view_tree *tree, uint32_t dir, uint64_t after,
		bool (*fn)(void *ctx, const char *name, const struct fuse_entry_param *entry,
			   uint64_t position),
		void *ctx)
{
	uint32_t child = CKPT_VIEW_NONE;
	struct fuse_entry_param entry;
	struct ckpt_view_node node;

	if (after > 0) {
		child = (uint32_t)(after - 1);
		if (after > CKPT_VIEW_NODES_MAX || !ckpt_views_node(tree->views, child, &node) ||
		    node.parent != dir)
			return -EINVAL;
	}
	while ((child = ckpt_views_next(tree->views, dir, child)) != CKPT_VIEW_NONE) {
		if (!ckpt_views_node(tree->views, child, &node))
			continue;
		fill(fs, tree, child, &node, &entry);
		if (!fn(ctx, node.name, &entry, (uint64_t)child + 1))
			break;
	}
	return 0;
}

int view_list(struct fs *fs, fuse_ino_t dir, uint64_t after,
	      bool (*fn)(void *ctx, const char *name, const struct fuse_entry_param *entry,
			 uint64_t position),
	      void *ctx)
{
	struct view_tree *tree = NULL;
	uint32_t at;
	int rc = views_get(fs, dir, &tree);

	if (rc < 0)
		return rc;
	at = dir_node(tree, dir);
	if (at != CKPT_VIEW_NONE)
		rc = list(fs, tree, at, after, fn, ctx);
	view_tree_unref(tree);
	return rc;
}
