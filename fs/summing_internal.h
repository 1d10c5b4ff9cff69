/*
 * summing_internal.h - what the files behind summing.h share.
 * May be included only by fs/summing*.c.
 *
 * A file goes OPEN → QUEUED → RUNNING → SUMMED → DONE; being opened for writing takes it back to
 * OPEN from anywhere. Workers (summing_job.c) sum what is queued; one thread, the scribe
 * (summing_session.c), writes what is summed into sessions, and is the only one that touches those.
 * Nobody keeps a pointer to an entry without the lock: who works on one knows its key and stint.
 */
#ifndef CKPT_FS_SUMMING_INTERNAL_H
#define CKPT_FS_SUMMING_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inode.h"
#include "summing.h"

/*
 * How long after its last close a file is summed: a rename, chmod or utimens usually follows at
 * once.
 */
#define SUMMING_DELAY_MS 200U
/* A file that is written again and again after it was summed waits longer, up to this. */
#define SUMMING_DELAY_MAX_MS 60000U
/* A file that somebody else writes, or maps for writing: tried again so often. */
#define SUMMING_REFUSED_MS 1000U
/* Smaller files are made durable and summed by the batch. */
#define SUMMING_SMALL_BYTES CKPT_MIB
/* File systems without finer stamps cannot tell two changes within a tick (10 ms) apart. */
#define SUMMING_RACY_MS 20U
/* What stays known of files whose sums are written: some 200 bytes each, and 8 a block. */
#define SUMMING_DONE_MAX ((size_t)1 << 16)
/* Files known at all; what is above that is summed by the commit. */
#define SUMMING_ENTRIES_MAX ((size_t)1 << 20)

enum sum_state {
	SUM_OPEN,    /* may be written through this mount */
	SUM_QUEUED,  /* to be summed; the list is ordered by due_ms */
	SUM_RUNNING, /* a worker has it */
	SUM_SUMMED,  /* durable and summed; to be written into its session */
	SUM_DONE,    /* written; kept in case its stamps change without its bytes */
	SUM_FAILED,  /* could not be made durable: only writing it anew helps */
	SUM_STATES,
};

struct sum_folder {
	struct sum_folder *next;
	char *name;	     /* the open checkpoint that the session lies in; "": the store's own */
	size_t entries;	     /* that refer to it; protected by mu */
	atomic_bool dropped; /* committed or gone; protected by mu */
	size_t open_count, pending_count; /* counted by the scribe; protected by mu */
	/* The rest is the scribe's alone. */
	struct ckpt_session *session;
	bool told; /* … what @doing says */
	enum ckpt_session_doing doing;
	uint64_t kept_ms;  /* when something was last written, or said */
	uint64_t retry_ms; /* the session could not be opened: not again before */
};

struct sum_entry {
	struct sum_entry *chain;
	struct sum_entry *prev, *next; /* of its state */
	struct inode_key key;
	enum sum_state state;
	fuse_ino_t node;
	bool held;    /* one look-up of @node is ours: its path stays known */
	bool refused; /* QUEUED: somebody else could write it when it was tried */
	bool urgent;  /* a commit waits for it */
	bool is_large;
	bool place_due;	 /* @folder is to be looked for, again */
	bool at_scribe;	 /* SUMMED: the scribe has taken the sums, and gives them back */
	uint32_t lost;	 /* SUMMED: looks in vain for its place */
	uint32_t tries;	 /* since it became urgent */
	uint32_t wasted; /* how often sums of a large file became void */
	uint64_t stint;	 /* a new one with each change of state */
	uint64_t due_ms;
	uint64_t changed_ms;	   /* when it was closed last */
	struct sum_folder *folder; /* NULL: not known yet */
	atomic_bool *cancel;	   /* RUNNING: the worker's; else NULL */
	struct ckpt_stamps stamps; /* RUNNING (once it is being read), SUMMED, DONE */
	struct ckpt_shard sums;	   /* SUMMED, DONE */
};

struct sum_list {
	struct sum_entry *first, *last;
	size_t count;
};

struct summing {
	struct fs *fs;
	pthread_mutex_t mu;
	pthread_cond_t queued;	 /* for workers */
	pthread_cond_t kicked;	 /* for the scribe */
	pthread_cond_t advanced; /* for those who settle */
	/* Protected by mu. */
	struct sum_entry **chains;
	size_t chain_count; /* a power of two */
	size_t count;
	struct sum_list lists[SUM_STATES];
	struct sum_folder *folders;
	uint64_t last_stint;
	bool scribe_due;
	uint32_t settling; /* commits that wait */
	/* Set once, under mu; workers look at it without. */
	atomic_bool stopping;
	pthread_t *workers;
	size_t worker_count;
	pthread_t scribe;
	bool scribe_runs;
};

/* --- summing_table.c: all with mu held ------------------------------------------------------- */

struct sum_entry *summing_find_locked(struct summing *s, struct inode_key key);
/**
 * summing_add_locked - NULL: the table is full, or memory is out. In no list's state yet but OPEN.
 */
struct sum_entry *summing_add_locked(struct summing *s, struct inode_key key);
/**
 * summing_turn_locked - put it into another state: a new stint. Sums go where the new state has
 * none.
 */
void summing_turn_locked(struct summing *s, struct sum_entry *entry, enum sum_state state);
/** summing_queue_locked - turn it QUEUED, to be summed in @delay_ms. */
void summing_queue_locked(struct summing *s, struct sum_entry *entry, uint64_t delay_ms);
/** summing_delay_of - how long it is to wait after it was closed. */
uint64_t summing_delay_of(const struct sum_entry *entry);
/** summing_remove_locked - forget it. Returns what summing_unhold_locked() does. */
fuse_ino_t summing_remove_locked(struct summing *s, struct sum_entry *entry) CKPT_MUST_CHECK;
/**
 * summing_unhold_locked - the node whose look-up is to be given back, without mu, by
 * summing_forget(); 0: none.
 */
fuse_ino_t summing_unhold_locked(struct sum_entry *entry) CKPT_MUST_CHECK;
void summing_forget(struct summing *s, fuse_ino_t node);
/** summing_kick_locked - wake the scribe. */
void summing_kick_locked(struct summing *s);
void summing_put_folder_locked(struct sum_entry *entry, struct sum_folder *folder);

/* Entries as they were when they were listed. */
struct sum_pick {
	struct inode_key key;
	fuse_ino_t node;
	uint64_t stint;
	const struct sum_folder *folder; /* only to be compared */
};
struct sum_picks {
	struct sum_pick *items;
	size_t count, cap;
};
/**
 * summing_pick_locked - add every entry of the list of which @is_wanted says so (NULL: all).
 * -ENOMEM.
 */
int summing_pick_locked(struct summing *s, enum sum_state state,
			bool (*is_wanted)(const struct sum_entry *entry, const void *ctx),
			const void *ctx, struct sum_picks *out) CKPT_MUST_CHECK;
/** summing_find_stint_locked - the entry, if nothing has happened to it since it was picked. */
struct sum_entry *summing_find_stint_locked(struct summing *s, const struct sum_pick *pick);

/* --- the threads ------------------------------------------------------------------------------ */

/** summing_work - what a worker does until summing->stopping. */
void summing_work(struct summing *s);
/** summing_scribe - the same for the one that writes sessions; leaves all of them idle. */
void summing_scribe(struct summing *s);

/**
 * summing_wait_locked - wait for @cond, at most until @until_ms of ckpt_clock_mono_ms()
 * (UINT64_MAX: as long as it takes).
 */
void summing_wait_locked(struct summing *s, pthread_cond_t *cond, uint64_t until_ms);

#endif
