/*
 * version.h - the one place that names the version; the Makefile and the man pages read it from
 * here.
 */
#ifndef CKPT_BASE_VERSION_H
#define CKPT_BASE_VERSION_H

#define CKPTFS_VERSION "0.1.0"

#endif
