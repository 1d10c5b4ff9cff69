/*
 * ops.h - the operations that session.c gives to libfuse, and what they share:
 * each looks at the class of the node and asks plain.h, committed.h or control_dir.h.
 */
#ifndef CKPT_FS_OPS_H
#define CKPT_FS_OPS_H

#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "fs.h"

/**
 * node_child - look a name up; a plain node in @out counts one look-up more. @out->ino 0: there is
 * none, and the kernel may keep that.
 */
int node_child(struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *out)
	CKPT_MUST_CHECK;
void node_forget(struct fs *fs, fuse_ino_t ino, uint64_t count);
int node_attr(struct fs *fs, fuse_ino_t ino, struct stat *out) CKPT_MUST_CHECK;

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_statfs(fuse_req_t req, fuse_ino_t ino);

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_bytes,
	      size_t out_bytes);

#endif
