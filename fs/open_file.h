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
#include "stamps.h"

enum open_content {
	CONTENT_STORED, /* a stored file's bytes as they are: plain files, manifests */
	CONTENT_SHARD,	/* a stored file's bytes, verified */
	CONTENT_TEXT,	/* generated */
};

struct open_file {
	fuse_ino_t ino;
	uint64_t id; /* never used again */
	enum open_content content;
	/*
	 * A node is of one kind for life: *file*, a stored file that the kernel could read by
	 * itself, or *virtual*.
	 */
	bool is_virtual;
	bool is_control; /* its reads are not counted */
	bool is_live;	 /* its length is not known before it is opened */
	_Atomic bool
		trusted; /* CONTENT_SHARD: all of it was verified, or nothing is to be: reads need no sums */
	/*
	 * The kernel reads it by itself, by this number; 0: it does not. While anybody has it
	 * open, it is the same one.
	 */
	int32_t backing_id;
	struct stamps stamps; /* of the stored file when it was opened first */
	int fd;		      /* CONTENT_STORED; else -1 */
	/*
	 * CONTENT_SHARD; NULL where no read comes here. Set once, protected by the table's mu
	 * until then.
	 */
	struct committed_shard *shard;
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

/* What is known of a node that is to be opened. */
struct open_want {
	struct committed_shard *shard; /* of a committed node: borrowed */
	struct stamps stamps;
	bool trusted; /* as in struct open_file */
	bool direct;  /* reads have to come to the daemon, whatever the kernel could do by itself */
};

/**
 * open_file_get - open a node, or share what is open; open_file_put() it. May read, wait and
 * generate: in a worker. RC_LOAD_FIRST; -ESTALE; -EIO the stored file was replaced while it is
 * open.
 */
int open_file_get(struct fs *fs, fuse_ino_t ino, const struct open_want *want,
		  struct open_file **out) CKPT_MUST_CHECK;
/** open_file_hold - one more reference: a read may outlive the release of its file. */
void open_file_hold(struct fs *fs, struct open_file *file);
void open_file_put(struct fs *fs, struct open_file *file);
/**
 * open_file_attr - attributes of a plain file that somebody has open, though its name is gone.
 * -ESTALE nobody has.
 */
int open_file_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;

#endif
