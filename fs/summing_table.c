/* summing_table.c - the files that were written through this mount, by (dev, ino), and by state. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/num.h"
#include "summing_internal.h"

/* First size of the hash table; it doubles when entries outnumber chains. */
#define CHAINS_MIN 1024U

static size_t chain_of(const struct summing *s, struct inode_key key)
{
	/* Fibonacci hashing, as the inode table does it. */
	uint64_t mixed =
		((uint64_t)key.ino ^ (uint64_t)key.dev << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(mixed >> 32) & (s->chain_count - 1);
}

struct sum_entry *summing_find_locked(struct summing *s, struct inode_key key)
{
	struct sum_entry *entry = s->chain_count > 0 ? s->chains[chain_of(s, key)] : NULL;

	while (entry && (entry->key.ino != key.ino || entry->key.dev != key.dev))
		entry = entry->chain;
	return entry;
}

/* Twice the chains. Without memory they only get longer; false: there are none at all. */
static bool grow_locked(struct summing *s)
{
	size_t old_count = s->chain_count;
	struct sum_entry **old = s->chains;
	size_t count = old_count > 0 ? old_count * 2 : CHAINS_MIN;
	struct sum_entry **chains = array_alloc(count, sizeof(struct sum_entry *));

	if (!chains)
		return old_count > 0;
	s->chains = chains;
	s->chain_count = count;
	for (size_t i = 0; i < old_count; i++) {
		while (old[i]) {
			struct sum_entry *entry = old[i];
			struct sum_entry **head = &chains[chain_of(s, entry->key)];

			old[i] = entry->chain;
			entry->chain = *head;
			*head = entry;
		}
	}
	free(old);
	return true;
}

/*
 * --- lists -------------------------------------------------------------------------------------
 */

static void unlist(struct sum_list *list, struct sum_entry *entry)
{
	*(entry->prev ? &entry->prev->next : &list->first) = entry->next;
	*(entry->next ? &entry->next->prev : &list->last) = entry->prev;
	entry->prev = entry->next = NULL;
	assert(list->count > 0);
	list->count--;
}

/* Behind @before; NULL: as the first. */
static void list_behind(struct sum_list *list, struct sum_entry *entry, struct sum_entry *before)
{
	entry->prev = before;
	entry->next = before ? before->next : list->first;
	*(entry->prev ? &entry->prev->next : &list->first) = entry;
	*(entry->next ? &entry->next->prev : &list->last) = entry;
	list->count++;
}

/*
 * --- entries ------------------------------------------------------------------------------------
 */

static void drop_sums(struct sum_entry *entry)
{
	free(entry->sums.sums);
	entry->sums = (struct ckpt_shard){ .sums = NULL };
	entry->at_scribe = false;
}

struct sum_entry *summing_add_locked(struct summing *s, struct inode_key key)
{
	struct sum_entry *entry;
	struct sum_entry **head;

	if (s->count >= SUMMING_ENTRIES_MAX || (s->count >= s->chain_count && !grow_locked(s)))
		return NULL;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->key = key;
	entry->state = SUM_OPEN;
	entry->stint = ++s->last_stint;
	entry->place_due = true;
	head = &s->chains[chain_of(s, key)];
	entry->chain = *head;
	*head = entry;
	s->count++;
	list_behind(&s->lists[SUM_OPEN], entry, s->lists[SUM_OPEN].last);
	return entry;
}

/* A worker that has it stops, and finds another stint. */
static void leave_state_locked(struct summing *s, struct sum_entry *entry)
{
	if (entry->cancel)
		atomic_store(entry->cancel, true);
	entry->cancel = NULL;
	entry->stint = ++s->last_stint;
	entry->lost = 0;
	unlist(&s->lists[entry->state], entry);
}

void summing_turn_locked(struct summing *s, struct sum_entry *entry, enum sum_state state)
{
	assert(state != SUM_QUEUED);
	leave_state_locked(s, entry);
	if (state != SUM_SUMMED && state != SUM_DONE)
		drop_sums(entry);
	entry->state = state;
	list_behind(&s->lists[state], entry, s->lists[state].last);
}

void summing_queue_locked(struct summing *s, struct sum_entry *entry, uint64_t delay_ms)
{
	struct sum_list *list = &s->lists[SUM_QUEUED];
	struct sum_entry *before;

	leave_state_locked(s, entry);
	drop_sums(entry);
	entry->state = SUM_QUEUED;
	entry->due_ms = ckpt_clock_mono_ms() + delay_ms;
	/* Nearly all wait equally long: those with a later turn are few. */
	for (before = list->last; before && before->due_ms > entry->due_ms;)
		before = before->prev;
	list_behind(list, entry, before);
	pthread_cond_signal(&s->queued);
}

uint64_t summing_delay_of(const struct sum_entry *entry)
{
	return num_min((uint64_t)SUMMING_DELAY_MS << num_min(entry->wasted, 16),
		       SUMMING_DELAY_MAX_MS);
}

fuse_ino_t summing_unhold_locked(struct sum_entry *entry)
{
	fuse_ino_t node = entry->held ? entry->node : 0;

	entry->held = false;
	return node;
}

void summing_forget(struct summing *s, fuse_ino_t node)
{
	if (node != 0)
		inode_forget(s->fs->inodes, node, 1);
}

fuse_ino_t summing_remove_locked(struct summing *s, struct sum_entry *entry)
{
	struct sum_entry **slot = &s->chains[chain_of(s, entry->key)];
	fuse_ino_t node = summing_unhold_locked(entry);

	while (*slot != entry)
		slot = &(*slot)->chain;
	*slot = entry->chain;
	s->count--;
	leave_state_locked(s, entry);
	drop_sums(entry);
	summing_put_folder_locked(entry, NULL);
	free(entry);
	return node;
}

void summing_put_folder_locked(struct sum_entry *entry, struct sum_folder *folder)
{
	if (entry->folder)
		entry->folder->entries--;
	entry->folder = folder;
	if (folder)
		folder->entries++;
}

void summing_kick_locked(struct summing *s)
{
	s->scribe_due = true;
	pthread_cond_signal(&s->kicked);
}

/*
 * --- looking at many ----------------------------------------------------------------------------
 */

int summing_pick_locked(struct summing *s, enum sum_state state,
			bool (*is_wanted)(const struct sum_entry *entry, const void *ctx),
			const void *ctx, struct sum_picks *out)
{
	for (const struct sum_entry *e = s->lists[state].first; e; e = e->next) {
		if (is_wanted && !is_wanted(e, ctx))
			continue;
		if (array_grow(&out->items, &out->cap, out->count, sizeof(*out->items)) < 0)
			return -ENOMEM;
		out->items[out->count++] = (struct sum_pick){
			.key = e->key, .node = e->node, .stint = e->stint, .folder = e->folder
		};
	}
	return 0;
}

struct sum_entry *summing_find_stint_locked(struct summing *s, const struct sum_pick *pick)
{
	struct sum_entry *entry = summing_find_locked(s, pick->key);

	return entry && entry->stint == pick->stint ? entry : NULL;
}

void summing_wait_locked(struct summing *s, pthread_cond_t *cond, uint64_t until_ms)
{
	struct timespec at;

	if (until_ms == UINT64_MAX) {
		pthread_cond_wait(cond, &s->mu);
		return;
	}
	at.tv_sec = (time_t)(until_ms / 1000);
	at.tv_nsec = (long)(until_ms % 1000) * 1000000L;
	/* Too early or too late: whoever waits looks again. */
	ckpt_ignore(pthread_cond_timedwait(cond, &s->mu, &at));
}
