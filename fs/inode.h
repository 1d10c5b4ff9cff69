/*
 * inode.h - the table of plain nodes: what the kernel holds of the folders and
 * files that are passed through. A node is known by (dev, ino) of the stored
 * file, holds no descriptor, and goes when the kernel forgets it. Its path is
 * put together from the names of its parents, so that a renamed folder costs
 * nothing; whoever opens it compares (dev, ino) again. Of a file with hard links the names that it
 * was met under are kept, so that it is still found when one of them goes.
 */
#ifndef CKPT_FS_INODE_H
#define CKPT_FS_INODE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "fuse_api.h"

struct inode_table;

/* Which stored file a node stands for. */
struct inode_key {
	dev_t dev;
	ino_t ino;
};

/** inode_table_new - @top: the store's folder, node FUSE_ROOT_ID; NULL when memory is out. */
struct inode_table *inode_table_new(const struct stat *top);
void inode_table_free(struct inode_table *table);
/** inode_table_count - nodes held now, without the top. */
size_t inode_table_count(struct inode_table *table);

/**
 * inode_remember - the kernel is told of a child: one more look-up of its node
 * @parent, @name: where it was met; the node's path from now on
 * @st: the stored file
 * Errors: -ESTALE @parent is not known, or lies below the child (folders were moved while we
 * looked); -ENOMEM.
 */
int inode_remember(struct inode_table *table, fuse_ino_t parent, const char *name,
		   const struct stat *st, fuse_ino_t *out) CKPT_MUST_CHECK;
/**
 * inode_made - the same for a file that was made this moment
 * A node that is known by its inode number is another file's, which was removed behind the mount:
 * to go on as that one would have the kernel move a folder of its cache, which it may refuse
 * (-ESTALE), or show the new file under an old name.
 */
int inode_made(struct inode_table *table, fuse_ino_t parent, const char *name,
	       const struct stat *st, fuse_ino_t *out);
/**
 * inode_relocate - a stored file was met under this name: should the kernel hold a plain node of
 * it, that is its place now.
 */
void inode_relocate(struct inode_table *table, fuse_ino_t parent, const char *name,
		    const struct stat *st);
/* A name in a plain folder. */
struct inode_place {
	fuse_ino_t parent;
	const char *name;
};
/**
 * inode_renamed - a stored file has left one name for another
 * @st: the file. Without memory the node stays where it was, and answers ESTALE.
 */
void inode_renamed(struct inode_table *table, const struct inode_place *from,
		   const struct inode_place *to, const struct stat *st);
/**
 * inode_unlinked - a stored file has lost this name
 * @after: what fstat(2) says of it now; where it has no other name (st_nlink 0; a folder) its node
 *         leads nowhere from now on, and its number is free for another file.
 */
void inode_unlinked(struct inode_table *table, fuse_ino_t parent, const char *name,
		    const struct stat *after);
/** inode_hold - one more look-up, which no reply to the kernel stands for; -ESTALE it has none. */
int inode_hold(struct inode_table *table, fuse_ino_t ino) CKPT_MUST_CHECK;
/** inode_forget - the kernel gives @count look-ups back. */
void inode_forget(struct inode_table *table, fuse_ino_t ino, uint64_t count);

/**
 * inode_locate - path below the store ("" is the top), appended to @path, and the stored file it
 * should lead to. -ESTALE; -ENAMETOOLONG.
 */
int inode_locate(struct inode_table *table, fuse_ino_t ino, struct ckpt_buf *path,
		 struct inode_key *key) CKPT_MUST_CHECK;
/**
 * inode_locate_by - the same by the @idx-th name that the node is known by; 0 is the one met last.
 * -ENOENT there are fewer.
 */
int inode_locate_by(struct inode_table *table, fuse_ino_t ino, size_t idx, struct ckpt_buf *path,
		    struct inode_key *key) CKPT_MUST_CHECK;
/** inode_find - the node of a stored file; 0 where the kernel holds none. */
fuse_ino_t inode_find(struct inode_table *table, const struct stat *st);
/** inode_parent - node of the folder it was met in; the top is its own. -ESTALE. */
int inode_parent(struct inode_table *table, fuse_ino_t ino, fuse_ino_t *out) CKPT_MUST_CHECK;

#endif
