/*
 * verified.h - which shards were verified, and in which state of their stored
 * files: a table in memory only, of the VERIFIED_MAX that were opened last. What
 * it has forgotten is verified again.
 */
#ifndef CKPT_FS_VERIFIED_H
#define CKPT_FS_VERIFIED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "fuse_api.h"
#include "stamps.h"

/* Some 7 MiB when it is full. */
#define VERIFIED_MAX 65536U

/* A shard as the kernel knows it: its node, and the checkpoint that has the slot now. */
struct shard_key {
	fuse_ino_t ino;
	uint64_t generation;
};

enum trust {
	TRUST_NONE, /* not looked at in this state, or too long ago */
	TRUST_GOOD, /* every block fitted its sum */
	TRUST_BAD,  /* a block did not */
};

struct verified;

/** verified_new - @ttl_ms: how long a verification is trusted; NULL when memory is out. */
struct verified *verified_new(uint64_t ttl_ms);
void verified_free(struct verified *table);
/**
 * verified_ask - what is known of the shard in this state of its file. Thread-safe, as all of
 * these.
 */
enum trust verified_ask(struct verified *table, const struct shard_key *key,
			const struct stamps *stamps);
/** verified_note - all of it was looked at. Without memory it is not remembered. */
void verified_note(struct verified *table, const struct shard_key *key, const struct stamps *stamps,
		   enum trust trust);
/**
 * verified_keeps_pages - may the kernel keep the pages it has of this node?
 * True if the node was opened in this same state of its file last time; the state is noted for the
 * next.
 */
bool verified_keeps_pages(struct verified *table, const struct shard_key *key,
			  const struct stamps *stamps);
/** verified_count - shards in the table. */
size_t verified_count(struct verified *table);

#endif
