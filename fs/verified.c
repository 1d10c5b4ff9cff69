/*
 * verified.c - see verified.h: a hash table over an array of records, in a ring by their last use.
 */
#include "verified.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/num.h"

/* Chains, a power of two; with the table full there are four records to each. */
#define CHAINS 16384U
/* No record: the end of a chain. Record 0 is the head of the ring and never used. */
#define NONE 0U

struct record {
	struct shard_key key;
	struct stamps stamps; /* of the file when all of it was looked at */
	struct stamps pages;  /* of the file when the node was opened last */
	uint64_t looked_ms;   /* monotonic */
	enum trust trust;
	uint32_t next; /* in its chain */
	uint32_t newer, older;
};

struct verified {
	uint64_t ttl_ms;
	pthread_mutex_t mu;
	/* The rest is protected by mu. */
	struct record *records; /* [0] is the ring's head: its older is the newest */
	size_t count;		/* with the head */
	size_t cap;
	uint32_t chains[CHAINS];
};

struct verified *verified_new(uint64_t ttl_ms)
{
	struct verified *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	if (array_grow(&table->records, &table->cap, 0, sizeof(*table->records)) < 0) {
		free(table);
		return NULL;
	}
	table->records[0] = (struct record){ .newer = 0, .older = 0 };
	table->count = 1;
	table->ttl_ms = ttl_ms;
	pthread_mutex_init(&table->mu, NULL);
	return table;
}

void verified_free(struct verified *table)
{
	if (!table)
		return;
	pthread_mutex_destroy(&table->mu);
	free(table->records);
	free(table);
}

static uint32_t *chain_of(struct verified *table, fuse_ino_t ino)
{
	/* Fibonacci hashing: lines of one checkpoint come in runs. */
	return &table->chains[(size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 40) % CHAINS];
}

static uint32_t find_locked(struct verified *table, const struct shard_key *key)
{
	uint32_t at = *chain_of(table, key->ino);

	while (at != NONE && table->records[at].key.ino != key->ino)
		at = table->records[at].next;
	/* Another checkpoint had the slot: nothing of it holds for this one. */
	if (at != NONE && table->records[at].key.generation != key->generation)
		table->records[at] = (struct record){ .key = *key,
						      .next = table->records[at].next,
						      .newer = table->records[at].newer,
						      .older = table->records[at].older };
	return at;
}

static void leave_ring_locked(struct verified *table, uint32_t at)
{
	struct record *record = &table->records[at];

	table->records[record->newer].older = record->older;
	table->records[record->older].newer = record->newer;
}

static void enter_ring_locked(struct verified *table, uint32_t at)
{
	struct record *head = &table->records[0];

	table->records[at].newer = 0;
	table->records[at].older = head->older;
	table->records[head->older].newer = at;
	head->older = at;
}

static void leave_chain_locked(struct verified *table, uint32_t at)
{
	uint32_t *place = chain_of(table, table->records[at].key.ino);

	while (*place != at)
		place = &table->records[*place].next;
	*place = table->records[at].next;
}

/* A record to be filled: a new one, or that of the shard used longest ago. NONE: no memory. */
static uint32_t take_record_locked(struct verified *table)
{
	uint32_t at;

	if (table->count <= VERIFIED_MAX) {
		if (array_grow(&table->records, &table->cap, table->count,
			       sizeof(*table->records)) < 0)
			return NONE;
		return (uint32_t)table->count++;
	}
	at = table->records[0].newer;
	assert(at != 0);
	leave_ring_locked(table, at);
	leave_chain_locked(table, at);
	return at;
}

/* The shard's record, made where there is none, as the newest. NULL: no memory. */
static struct record *use_locked(struct verified *table, const struct shard_key *key)
{
	uint32_t at = find_locked(table, key);
	uint32_t *chain = chain_of(table, key->ino);

	if (at != NONE) {
		leave_ring_locked(table, at);
	} else {
		at = take_record_locked(table);
		if (at == NONE)
			return NULL;
		table->records[at] = (struct record){ .key = *key, .next = *chain };
		*chain = at;
	}
	enter_ring_locked(table, at);
	return &table->records[at];
}

enum trust verified_ask(struct verified *table, const struct shard_key *key,
			const struct stamps *stamps)
{
	enum trust trust = TRUST_NONE;
	uint32_t at;

	pthread_mutex_lock(&table->mu);
	at = find_locked(table, key);
	if (at != NONE && stamps_equal(&table->records[at].stamps, stamps) &&
	    ckpt_clock_mono_ms() - table->records[at].looked_ms < table->ttl_ms) {
		trust = table->records[at].trust;
		leave_ring_locked(table, at);
		enter_ring_locked(table, at);
	}
	pthread_mutex_unlock(&table->mu);
	return trust;
}

void verified_note(struct verified *table, const struct shard_key *key, const struct stamps *stamps,
		   enum trust trust)
{
	struct record *record;

	pthread_mutex_lock(&table->mu);
	record = use_locked(table, key);
	if (record) {
		record->stamps = *stamps;
		record->trust = trust;
		record->looked_ms = ckpt_clock_mono_ms();
	}
	pthread_mutex_unlock(&table->mu);
}

bool verified_keeps_pages(struct verified *table, const struct shard_key *key,
			  const struct stamps *stamps)
{
	struct record *record;
	bool keeps = false;

	pthread_mutex_lock(&table->mu);
	record = use_locked(table, key);
	if (record) {
		keeps = stamps_equal(&record->pages, stamps);
		record->pages = *stamps;
	}
	pthread_mutex_unlock(&table->mu);
	return keeps;
}

size_t verified_count(struct verified *table)
{
	size_t count;

	pthread_mutex_lock(&table->mu);
	count = table->count - 1;
	pthread_mutex_unlock(&table->mu);
	return count;
}
