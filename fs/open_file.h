/*
 * open_file.h - files that are open. What is behind a node was opened, or
 * generated, once for all who have it open: one object a node, given up with the
 * last of them. Beside it every open has a handle of its own; that of a plain
 * file holds a descriptor with the caller's access mode, on which permissions,
 * fsync(2) and the rest act as on the stored file, whatever its name is by then.
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
	CONTENT_VIEW,	/* put together from shards */
};

struct handle;
struct view_open;

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
	struct stat shown;    /* of a shard or a view: what was said of it then, if @has_shown */
	bool has_shown;
	int fd; /* CONTENT_STORED, but for plain files: theirs are the handles'; else -1 */
	/*
	 * CONTENT_SHARD; NULL where no read comes here. Set once, protected by the table's mu
	 * until then.
	 */
	struct committed_shard *shard;
	struct ckpt_buf text;
	struct view_open *view; /* CONTENT_VIEW; else NULL */
	/* What follows belongs to open_file.c, protected by the table's mu. */
	struct open_file *next;
	struct handle *handles; /* of a plain file: those with a descriptor */
	uint32_t refs;
	uint32_t writers; /* handles that may write */
	bool shared;	  /* in the table */
	bool opening;	  /* one thread opens it, the others wait */
	bool telling;	  /* one thread tells summing.h, the others wait */
	bool told; /* summing.h knows that it is open for writing; a look-up of its node is kept */
	int rc;	   /* how the opening went */
};

/* One open of a node: what fi->fh points to. */
struct handle {
	struct open_file *file;
	int fd;		/* a plain file's; else -1 */
	bool writes;	/* bytes may have been changed by it */
	bool can_write; /* its descriptor */
	/* What follows belongs to open_file.c, protected by the table's mu. */
	struct handle *next; /* of the same file */
	uint32_t refs;
};

struct open_files *open_files_new(void);
void open_files_free(struct open_files *files);

/* What is known of a node that is to be opened. */
struct open_want {
	struct committed_shard *shard; /* of a committed node: borrowed */
	struct stamps stamps;
	uint64_t generation; /* of a view: its tree's as it is now */
	bool trusted;	     /* as in struct open_file */
	bool direct; /* reads have to come to the daemon, whatever the kernel could do by itself */
	bool writes; /* as in struct handle */
	bool can_write;
	int fd;		/* of a plain node: its descriptor, the handle's on success; else -1 */
	struct stat st; /* of a plain node that is opened for writing: before the first byte */
};

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	/* libfuse keeps it as a number. NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (struct handle *)(uintptr_t)fi->fh;
}

/**
 * handle_open - open a node, or share what is open of it; handle_put() it. May read, wait and
 * generate: in a worker, but for plain nodes. RC_LOAD_FIRST; -ESTALE; -EIO the stored file was
 * replaced while it is open.
 */
int handle_open(struct fs *fs, fuse_ino_t ino, const struct open_want *want, struct handle **out)
	CKPT_MUST_CHECK;
/** handle_hold - one more reference: a request may outlive the release of its file. */
void handle_hold(struct fs *fs, struct handle *handle);
/** handle_put - with the last reference its descriptor is closed; then summing.h is told. */
void handle_put(struct fs *fs, struct handle *handle);

/**
 * open_file_dup - a descriptor of a plain file that somebody has open, though its name may be gone;
 * caller closes
 * @to_write: one that can write
 * Errors: -ESTALE nobody has it open so.
 */
int open_file_dup(struct fs *fs, fuse_ino_t ino, bool to_write, int *out_fd) CKPT_MUST_CHECK;
/**
 * open_file_attr - attributes of a plain file or a shard that somebody has open, though its name is
 * gone.
 * -ESTALE nobody has.
 */
int open_file_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;

#endif
