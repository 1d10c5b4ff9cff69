/*
 * shard_check.h - verifying whole shards: one check a shard however many wait
 * for it, by all processors, block by block; a request that waits holds no
 * thread.
 *
 * Which shard is next: one that somebody waits for before one that nobody does,
 * and the one with the fewest blocks left, so that a small shard is never held
 * up by large ones. Those that nobody waits for any more stop a second later;
 * until then, whoever comes again finds it going on.
 */
#ifndef CKPT_FS_SHARD_CHECK_H
#define CKPT_FS_SHARD_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "committed.h"
#include "request.h"
#include "verified.h"

struct shard_checks;

/** shard_checks_new - start the threads. shard_checks_free() it, when no request is left. */
int shard_checks_new(struct fs *fs, size_t thread_count, struct shard_checks **out,
		     struct ckpt_err *err) CKPT_MUST_CHECK;
void shard_checks_free(struct shard_checks *checks);
/**
 * shard_checks_stop - end what is going on and refuse what comes; whoever waits is resumed with
 * -ECANCELED.
 */
void shard_checks_stop(struct shard_checks *checks);

/* A shard that is to be verified, as it was opened. */
struct check_order {
	struct shard_key key;
	struct stamps stamps;
	struct committed_shard *shard; /* a file of its own */
};

/**
 * shard_check_wait - have it verified for a request
 * @rq: runs in a worker; on RC_PARKED it belongs to the check, which resumes it: request.h
 * Returns 0 where all of it is right. Errors: -EIO damage, or it cannot be read (logged);
 * -ECANCELED the mount ends; -ENOMEM.
 */
int shard_check_wait(const struct check_order *order, struct request *rq) CKPT_MUST_CHECK;
/**
 * shard_check_behind - have it verified with nobody waiting; the table of verified shards is told.
 * It does nothing without memory.
 */
void shard_check_behind(struct fs *fs, const struct check_order *order);

#endif
