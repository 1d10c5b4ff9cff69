/*
 * fuse_api.h - the one place that says which libfuse interface is spoken: the low-level one of
 * 3.14.
 */
#ifndef CKPT_FS_FUSE_API_H
#define CKPT_FS_FUSE_API_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#endif
