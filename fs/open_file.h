/*
 * open_file.h - files that are open, one object a node: what is behind it was
 * opened, or generated, once, and is given up when the last open is released.
 * node_open() in open_file.c is the one place that decides how a node is read.
 */
#ifndef CKPT_FS_OPEN_FILE_H
#define CKPT_FS_OPEN_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "committed.h"
#include "fs.h"

enum open_content {
	CONTENT_STORED, /* a stored file's bytes as they are: plain files, manifests */
	CONTENT_SHARD,	/* a stored file's bytes, every block verified */
	CONTENT_TEXT,	/* generated */
};

struct open_file {
	fuse_ino_t ino;
	uint64_t id; /* never used again */
	enum open_content content;
	/* A node is of one kind for life: *file*, a stored file that the kernel could read by itself, or *virtual*. */
	bool is_virtual;
	bool is_control; /* its reads are not counted */
	bool keep_cache; /* immutable: pages of earlier opens are as good */
	bool direct_io;	 /* its length is not known before it is opened */
	int fd;		 /* CONTENT_STORED; else -1 */
	struct committed_shard shard;
	struct ckpt_buf text;
	/* What follows belongs to open_file.c, protected by the table's mu. */
	struct open_file *next;
	uint32_t refs;
	bool shared;  /* in the table */
	bool opening; /* one thread opens it, the others wait */
	int rc;	      /* how that went */
};

struct open_files *open_files_new(void);
void open_files_free(struct open_files *files);

/** open_file_get - open a node, or share what is open; open_file_put() it. May read, wait and generate: in a worker. RC_LOAD_FIRST; -ESTALE. */
int open_file_get(struct fs *fs, fuse_ino_t ino, struct open_file **out) CKPT_MUST_CHECK;
/** open_file_hold - one more reference: a read may outlive the release of its file. */
void open_file_hold(struct fs *fs, struct open_file *file);
void open_file_put(struct fs *fs, struct open_file *file);
/** open_file_attr - attributes of a plain file that somebody has open, though its name is gone. -ESTALE nobody has. */
int open_file_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;

#endif
