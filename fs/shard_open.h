/* shard_open.h - opening a shard of a committed checkpoint; in file.c. */
#ifndef CKPT_FS_SHARD_OPEN_H
#define CKPT_FS_SHARD_OPEN_H

#include "open_file.h"
#include "request.h"

/**
 * shard_open - open the shard of node @ino, and have verified what is to be before it is read
 * @rq:   who asks; may be about another node
 * @want: receives the shard (committed_shard_unref() it, also on failure), and what is known of it
 * Errors: RC_WORKER; RC_PARKED; as committed_shard_open, shard_check_wait.
 */
int shard_open(struct request *rq, fuse_ino_t ino, struct open_want *want) CKPT_MUST_CHECK;

#endif
