/*
 * fs.h - what the files of fs/ share: the running mount and the few rules all of them keep.
 *
 * One process serves one mount of one store. Lock order: see inode.c.
 */
#ifndef CKPT_FS_FS_H
#define CKPT_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"
#include "base/pool.h"
#include "fuse_api.h"
#include "mount_options.h"
#include "stats.h"
#include "store/store.h"

struct inode_table;
struct slots;
struct groups;
struct open_files;
struct block_cache;
struct shard_checks;
struct verified;
struct changes;
struct summing;
struct autocommit;
struct removals;
struct resaves;
struct views;

struct fs {
	const struct mount_options *options;
	struct ckpt_store *store;
	struct fuse_session *session;
	struct inode_table *inodes;
	struct slots *slots;
	struct groups *groups;
	struct open_files *open_files;
	struct block_cache *blocks;
	struct verified *verified;
	struct shard_checks *checks;
	struct changes *changes;
	struct summing *summing;
	struct autocommit *autocommit; /* NULL: nothing is committed by rule */
	struct removals *removals;
	struct resaves *resaves;
	struct views *views;
	struct ckpt_pool *reads;   /* reading and verifying shards: short jobs */
	struct ckpt_pool *writes;  /* waiting for a disk to write: fsync, copies, a full disk */
	struct ckpt_pool *tasks;   /* indexing a checkpoint's entries, removals: long jobs */
	struct ckpt_pool *commits; /* and what else commands ask for: longer ones */
	struct stats stats;
	struct timespec started; /* the time that virtual files show */
	dev_t dev;		 /* of the store's folder */
	_Atomic bool
		ending; /* nobody reads requests any more: long work stops, and nothing waits for the kernel */
	uid_t owner_uid; /* of the store's folder */
	gid_t owner_gid;
	bool is_root; /* files can be given to who made them */
};

/* How long the kernel may keep names and attributes, in seconds. */
#define TIMEOUT_LIVE 0.9    /* what others may change: shown within the second that is promised */
#define TIMEOUT_FOREVER 1e9 /* what lies below a committed checkpoint; the kernel clamps it */

/* A request needs the entries of a checkpoint that are not in the index yet: see request.h. */
#define RC_LOAD_FIRST (-EINPROGRESS)
/* A request needs a tree of views that is not made yet: see view_trees.h. */
#define RC_VIEWS_FIRST (-EUNATCH)
/* A request cannot go on in a thread of libfuse. */
#define RC_WORKER (-ENOTBLK)
/* A request waits for something without a thread: see request.h. */
#define RC_PARKED (-EALREADY)

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/**
 * fs_errno - the positive errno that an application sees for our code: damage and what cannot be
 * understood are EIO.
 */
int fs_errno(int rc);

/**
 * fs_log_once - log a message, unless it was logged lately: one line for each damaged block, not
 * one for each try.
 */
void fs_log_once(const char *fmt, ...) CKPT_PRINTF(1, 2);

#endif
