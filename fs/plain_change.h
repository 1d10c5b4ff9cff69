/*
 * plain_change.h - changing names and attributes of what is not committed. Every function checks by
 * change.h, acts on the stored folder, gives what it made to the caller of the request, and keeps
 * the table of plain nodes and the sums in the making (summing.h) right.
 */
#ifndef CKPT_FS_PLAIN_CHANGE_H
#define CKPT_FS_PLAIN_CHANGE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "caller.h"
#include "fs.h"
#include "request.h"

/* --- one change --------------------------------------------------------------------------- */

/* What is changed: a plain node, or a name in a plain folder. */
struct plain_place {
	fuse_ino_t ino;
	int fd;		       /* the node: O_PATH */
	struct stat st;	       /* of it */
	struct ckpt_buf where; /* its path */
	struct ckpt_buf name;  /* in it, as it is stored; "": the node itself changes */
	struct ckpt_buf path;  /* of what changes; told also on failure */
	bool begun;
};

/**
 * plain_begin - begin a change of @name in the folder @ino (NULL: of the node @ino itself): the
 * node is open, its path is as told, and change_begin() has allowed it. plain_end() it, also on
 * failure. Errors: as change_begin(); -ESTALE; -ENOTDIR.
 */
int plain_begin(struct fs *fs, fuse_ino_t ino, const char *name, struct plain_place *out)
	CKPT_MUST_CHECK;
void plain_end(struct fs *fs, struct plain_place *place);

/**
 * plain_made - answer with what was made at @place, whose attributes are @st; counts a look-up.
 * @is_new: by this request; else it is a further name of a file
 */
int plain_made(struct fs *fs, const struct plain_place *place, const struct stat *st, bool is_new,
	       struct fuse_entry_param *out) CKPT_MUST_CHECK;

/* How a request changes what is at a place; called between plain_begin() and plain_end(). */
struct plain_act {
	const char *name; /* as in plain_begin() */
	bool makes;	  /* a file comes to be, or gets other bytes: see refuse_path() */
	int (*act)(struct request *rq, const struct plain_place *place, void *ctx);
	void *ctx;
};
/**
 * plain_change - have a request do @act to the plain node rq->ino; where that is committed, or the
 * disk is full, see whether something can be done about it, and try again
 * Errors: as plain_begin() and @act; RC_WORKER.
 */
int plain_change(struct request *rq, const struct plain_act *act) CKPT_MUST_CHECK;
/**
 * plain_clear - a change of what lies at @path has failed with @rc: 0 what was in the way is
 * cleared, try once more; RC_WORKER; else the error to answer with. @makes: as in refuse_path()
 */
int plain_clear(struct request *rq, const char *path, bool makes, int rc) CKPT_MUST_CHECK;

/* --- what is committed -------------------------------------------------------------------- */

/**
 * refuse_node, refuse_path - somebody changes a committed node, or what lies at @path (a plain
 * node's, whose folder is committed by now, or being committed): the one place that decides what
 * happens
 * @makes: a file is made in it, or opened for writing: it may be written again (resave.h)
 * Errors: -ESTALE the name leads to an open folder now: try once more; -EROFS;
 * -EBUSY it is being committed. In a worker.
 */
int refuse_node(struct fs *fs, fuse_ino_t ino, bool makes) CKPT_MUST_CHECK;
int refuse_path(struct fs *fs, const char *path, bool makes) CKPT_MUST_CHECK;
/**
 * refuse - the same for a request about a committed or virtual node: RC_WORKER where it is in none;
 * -EPERM for control folders.
 */
int refuse(struct request *rq, fuse_ino_t ino, bool makes) CKPT_MUST_CHECK;

/* --- files ---------------------------------------------------------------------------------- */

/* A file that is to be made. */
struct plain_new {
	struct caller who;
	mode_t mode; /* the umask is in it already */
	int flags;   /* as the caller gave them; O_DIRECT and O_APPEND are not passed on */
};
/**
 * plain_create - open(2) with O_CREAT of @name in the plain folder @parent
 * @out_fd: opened with @what->flags; caller closes. @out: one look-up of its node is counted.
 * Errors: as open(2); -EROFS, -EBUSY, -EPERM of change_begin(); -ESTALE, also where a file has come
 * to be meanwhile: the kernel looks it up, checks what the caller may do, and opens it.
 */
int plain_create(struct fs *fs, fuse_ino_t parent, const char *name, const struct plain_new *what,
		 int *out_fd, struct fuse_entry_param *out) CKPT_MUST_CHECK;

/**
 * plain_open_change - open a plain file for writing, or with O_TRUNC
 * As plain_open(), between change_begin() and change_end(). Returns the descriptor. -EAGAIN:
 * somebody has a lease on it, and was asked to give it up: plain_wait_lease().
 */
int plain_open_change(struct fs *fs, fuse_ino_t ino, int flags, struct stat *st) CKPT_MUST_CHECK;

/**
 * plain_wait_lease - what a request makes of the result @rc of an open: -EAGAIN try again (after a
 * moment); RC_WORKER; -EBUSY it was not given up; else @rc. @tries: 0 at first.
 */
int plain_wait_lease(const struct request *rq, int rc, unsigned int *tries) CKPT_MUST_CHECK;

/**
 * plain_change_open - change the attributes of a file that is not at any name this mount
 * knows (plain_change() says -ESTALE), through a descriptor that somebody has of it. It may have lost its name, or was
 * moved by others: then it may be part of a committed checkpoint by now, and where it lies decides.
 */
int plain_change_open(struct request *rq, int (*act)(struct request *rq, int fd)) CKPT_MUST_CHECK;

#endif
