/* summing.c - see summing.h; its threads are in summing_job.c and summing_session.c. */
#include "summing.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/path.h"
#include "summing_internal.h"

/* More of them wait for the disk, not for processors. */
#define WORKERS_MAX 16U
/* How often those who settle are asked whether they still want to. */
#define ASK_MS 50U

/* --- beginning and end --------------------------------------------------------------------- */

static void *worker_main(void *arg)
{
	summing_work(arg);
	return NULL;
}

static void *scribe_main(void *arg)
{
	summing_scribe(arg);
	return NULL;
}

/* Signals are libfuse's. */
static int start_thread(pthread_t *out, void *(*run)(void *arg), void *arg)
{
	sigset_t all;
	sigset_t old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(out, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

static void init(struct summing *s, struct fs *fs)
{
	pthread_condattr_t attr;

	s->fs = fs;
	pthread_mutex_init(&s->mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->queued, &attr);
	pthread_cond_init(&s->kicked, &attr);
	pthread_cond_init(&s->advanced, &attr);
	pthread_condattr_destroy(&attr);
}

static int start_threads(struct summing *s)
{
	size_t count = (size_t)num_min(ckpt_cpu_count(), WORKERS_MAX);
	int rc = 0;

	s->workers = array_alloc(count, sizeof(*s->workers));
	if (!s->workers)
		return -ENOMEM;
	while (rc == 0 && s->worker_count < count) {
		rc = start_thread(&s->workers[s->worker_count], worker_main, s);
		s->worker_count += rc == 0;
	}
	if (rc == 0)
		rc = start_thread(&s->scribe, scribe_main, s);
	s->scribe_runs = rc == 0;
	return rc;
}

int summing_new(struct fs *fs, struct summing **out, struct ckpt_err *err)
{
	struct summing *s;
	int rc;

	/* Nothing is written through it. */
	if (fs->options->read_only || ckpt_store_read_only(fs->store))
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return ckpt_err_sys(err, -ENOMEM, "cannot mount '%s'", fs->options->store_path);
	init(s, fs);
	rc = start_threads(s);
	if (rc < 0) {
		summing_free(s);
		return ckpt_err_sys(err, rc, "cannot start a thread");
	}
	*out = s;
	return 0;
}

static void stop(struct summing *s)
{
	pthread_mutex_lock(&s->mu);
	atomic_store(&s->stopping, true);
	pthread_cond_broadcast(&s->queued);
	pthread_mutex_unlock(&s->mu);
	for (size_t i = 0; i < s->worker_count; i++)
		pthread_join(s->workers[i], NULL);
	if (!s->scribe_runs)
		return;
	pthread_mutex_lock(&s->mu);
	summing_kick_locked(s);
	pthread_mutex_unlock(&s->mu);
	pthread_join(s->scribe, NULL);
}

void summing_free(struct summing *s)
{
	struct sum_folder *next;

	if (!s)
		return;
	stop(s);
	for (int state = 0; state < SUM_STATES; state++) {
		while (s->lists[state].first)
			summing_forget(s, summing_remove_locked(s, s->lists[state].first));
	}
	for (struct sum_folder *folder = s->folders; folder; folder = next) {
		next = folder->next;
		free(folder->name);
		free(folder);
	}
	pthread_cond_destroy(&s->advanced);
	pthread_cond_destroy(&s->kicked);
	pthread_cond_destroy(&s->queued);
	pthread_mutex_destroy(&s->mu);
	free((void *)s->chains);
	free(s->workers);
	free(s);
}

/* --- what happens to files ------------------------------------------------------------------- */

static bool has_sums(const struct sum_entry *entry)
{
	return entry->state == SUM_RUNNING || entry->state == SUM_SUMMED ||
	       entry->state == SUM_DONE;
}

/* Returns the look-up to be given back. */
static fuse_ino_t reopen_locked(struct summing *s, struct sum_entry *entry, fuse_ino_t ino)
{
	fuse_ino_t held = summing_unhold_locked(entry);

	/* What is large and written again and again is read less often. */
	if (has_sums(entry) && entry->stamps.size_bytes >= SUMMING_SMALL_BYTES)
		entry->wasted++;
	summing_turn_locked(s, entry, SUM_OPEN);
	entry->node = ino;
	entry->refused = false;
	entry->urgent = false;
	/* Others are to see at once that somebody writes there. */
	if (!entry->folder || entry->folder->dropped || entry->folder->open_count == 0) {
		entry->place_due = true;
		summing_kick_locked(s);
	}
	return held;
}

void summing_opened(struct fs *fs, fuse_ino_t ino, const struct stat *st)
{
	const struct inode_key key = { .dev = st->st_dev, .ino = st->st_ino };
	struct summing *s = fs->summing;
	struct sum_entry *entry;
	fuse_ino_t held = 0;

	if (!s || !S_ISREG(st->st_mode))
		return;
	pthread_mutex_lock(&s->mu);
	entry = summing_find_locked(s, key);
	if (!entry)
		entry = summing_add_locked(s, key);
	if (entry)
		held = reopen_locked(s, entry, ino);
	pthread_mutex_unlock(&s->mu);
	summing_forget(s, held);
}

static struct sum_entry *find_open_locked(struct summing *s, fuse_ino_t ino)
{
	struct sum_entry *entry = s->lists[SUM_OPEN].last;

	/* Who is closed was mostly opened lately. */
	while (entry && entry->node != ino)
		entry = entry->prev;
	return entry;
}

void summing_closed(struct fs *fs, fuse_ino_t ino)
{
	struct summing *s = fs->summing;
	struct sum_entry *entry;
	fuse_ino_t held = ino;
	bool is_there;

	if (!s)
		return;
	/* Its path is needed later, and the kernel may forget it any moment. */
	is_there = inode_hold(fs->inodes, ino) == 0;
	if (!is_there)
		held = 0;
	pthread_mutex_lock(&s->mu);
	entry = find_open_locked(s, ino);
	if (entry && !is_there) {
		held = summing_remove_locked(s, entry);
	} else if (entry) {
		held = 0;
		entry->held = true;
		entry->changed_ms = ckpt_clock_mono_ms();
		summing_queue_locked(s, entry, summing_delay_of(entry));
	}
	pthread_mutex_unlock(&s->mu);
	summing_forget(s, held);
}

/* The look-up that @held stands for is taken over where it is needed. */
static void restamp_locked(struct summing *s, struct sum_entry *entry, const struct stat *before,
			   const struct stat *after, fuse_ino_t *held)
{
	const struct ckpt_stamps old = ckpt_stamps_of(before);
	const struct ckpt_stamps new = ckpt_stamps_of(after);

	entry->place_due = true;
	if (!has_sums(entry) || !ckpt_stamps_equal(&entry->stamps, &old))
		return;
	/*
	 * Its mtime was set: a write of somebody else between the two looks would not show. (What
	 * sets it, mostly follows the close at once, before anything was summed.)
	 */
	if (new.mtime_ns != old.mtime_ns || new.size_bytes != old.size_bytes) {
		if (*held == 0)
			return;
		if (!entry->held) {
			entry->held = true;
			entry->node = *held;
			*held = 0;
		}
		summing_queue_locked(s, entry, summing_delay_of(entry));
		return;
	}
	entry->stamps = new;
	if (entry->state == SUM_DONE)
		summing_turn_locked(s, entry, SUM_SUMMED);
	if (entry->state == SUM_SUMMED)
		summing_kick_locked(s);
}

void summing_restamped(struct fs *fs, const struct stat *before, const struct stat *after)
{
	const struct inode_key key = { .dev = after->st_dev, .ino = after->st_ino };
	struct summing *s = fs->summing;
	struct sum_entry *entry;
	fuse_ino_t held;

	if (!s || !S_ISREG(after->st_mode))
		return;
	held = inode_find(fs->inodes, after);
	if (held != 0 && inode_hold(fs->inodes, held) < 0)
		held = 0;
	pthread_mutex_lock(&s->mu);
	entry = summing_find_locked(s, key);
	if (entry)
		restamp_locked(s, entry, before, after, &held);
	pthread_mutex_unlock(&s->mu);
	summing_forget(s, held);
}

/*
 * --- what lies below a folder ------------------------------------------------------------------
 */

static bool lies_below(struct summing *s, fuse_ino_t node, const char *path)
{
	struct inode_key key;
	struct ckpt_buf at;
	bool below;

	ckpt_buf_init(&at);
	below = inode_locate(s->fs->inodes, node, &at, &key) == 0 &&
		ckpt_path_is_below(at.data, path);
	ckpt_buf_release(&at);
	return below;
}

/* Keep those that lie at or below @path. The inode table is asked without the lock. */
static void keep_below(struct summing *s, const char *path, struct sum_picks *picks)
{
	size_t kept = 0;

	for (size_t i = 0; i < picks->count; i++) {
		if (lies_below(s, picks->items[i].node, path))
			picks->items[kept++] = picks->items[i];
	}
	picks->count = kept;
}

/* All in the states @first to @last that lie at or below @path. */
static int pick_below(struct summing *s, const char *path, enum sum_state first,
		      enum sum_state last, struct sum_picks *out)
{
	int rc = 0;

	pthread_mutex_lock(&s->mu);
	for (int state = (int)first; rc == 0 && state <= (int)last; state++)
		rc = summing_pick_locked(s, state, NULL, NULL, out);
	pthread_mutex_unlock(&s->mu);
	if (rc == 0)
		keep_below(s, path, out);
	return rc;
}

/*
 * --- settling -----------------------------------------------------------------------------------
 */

static bool is_pending(const struct sum_entry *entry)
{
	return (entry->state == SUM_QUEUED && !entry->refused) || entry->state == SUM_RUNNING ||
	       entry->state == SUM_SUMMED;
}

static void hurry_locked(struct summing *s, const struct sum_picks *picks)
{
	for (size_t i = 0; i < picks->count; i++) {
		struct sum_entry *entry = summing_find_locked(s, picks->items[i].key);

		if (!entry)
			continue;
		entry->urgent = true;
		entry->tries = 0;
		entry->refused = false;
		if (entry->state == SUM_QUEUED)
			summing_queue_locked(s, entry, 0);
	}
	pthread_cond_broadcast(&s->queued);
}

/* Drop from @picks what is settled; *@failed: something could not be made durable. */
static void drop_settled_locked(struct summing *s, struct sum_picks *picks, bool *failed)
{
	size_t kept = 0;

	for (size_t i = 0; i < picks->count; i++) {
		struct sum_entry *entry = summing_find_locked(s, picks->items[i].key);

		if (entry && entry->state == SUM_FAILED)
			*failed = true;
		if (entry && is_pending(entry))
			picks->items[kept++] = picks->items[i];
		else if (entry)
			entry->urgent = false;
	}
	picks->count = kept;
}

static int await_settled(struct summing *s, struct sum_picks *picks, bool (*given_up)(void *ctx),
			 void *ctx)
{
	bool failed = false;
	int rc = 0;

	pthread_mutex_lock(&s->mu);
	s->settling++;
	hurry_locked(s, picks);
	for (;;) {
		drop_settled_locked(s, picks, &failed);
		if (picks->count == 0 || rc < 0)
			break;
		summing_kick_locked(s);
		summing_wait_locked(s, &s->advanced, ckpt_clock_mono_ms() + ASK_MS);
		pthread_mutex_unlock(&s->mu);
		if (s->fs->ending || given_up(ctx))
			rc = -ECANCELED;
		pthread_mutex_lock(&s->mu);
	}
	s->settling--;
	pthread_mutex_unlock(&s->mu);
	return rc < 0 ? rc : failed ? -EIO : 0;
}

int summing_settle(struct fs *fs, const char *path, bool (*given_up)(void *ctx), void *ctx)
{
	struct sum_picks picks = { .items = NULL };
	int rc;

	if (!fs->summing)
		return 0;
	rc = pick_below(fs->summing, path, SUM_QUEUED, SUM_SUMMED, &picks);
	if (rc == 0)
		rc = pick_below(fs->summing, path, SUM_FAILED, SUM_FAILED, &picks);
	if (rc == 0 && picks.count > 0)
		rc = await_settled(fs->summing, &picks, given_up, ctx);
	free(picks.items);
	return rc;
}

/*
 * --- what others ask ---------------------------------------------------------------------------
 */

void summing_committed(struct fs *fs, const char *path)
{
	struct summing *s = fs->summing;
	struct sum_picks picks = { .items = NULL };

	if (!s)
		return;
	/* Without memory they stay until they are found to be committed. */
	ckpt_ignore(pick_below(s, path, SUM_QUEUED, SUM_FAILED, &picks));
	for (size_t i = 0; i < picks.count; i++) {
		struct sum_entry *entry;
		fuse_ino_t node = 0;

		pthread_mutex_lock(&s->mu);
		entry = summing_find_stint_locked(s, &picks.items[i]);
		if (entry)
			node = summing_remove_locked(s, entry);
		pthread_mutex_unlock(&s->mu);
		summing_forget(s, node);
	}
	free(picks.items);
	pthread_mutex_lock(&s->mu);
	for (struct sum_folder *folder = s->folders; folder; folder = folder->next)
		folder->dropped = folder->dropped ||
				  (*folder->name && ckpt_path_is_below(folder->name, path));
	summing_kick_locked(s);
	pthread_mutex_unlock(&s->mu);
}

static bool is_recent(const struct sum_entry *entry, const void *ctx)
{
	const uint64_t *since_ms = ctx;

	return entry->changed_ms >= *since_ms;
}

/* The kernel may have forgotten a file that is done: the place of its sums tells enough. */
static bool is_done_there_locked(const struct summing *s, const char *path, uint64_t since_ms)
{
	const struct sum_entry *entry = s->lists[SUM_DONE].last;

	/* In the order in which they were done, which is nearly that in which they were closed. */
	for (; entry && entry->changed_ms + SUMMING_DELAY_MAX_MS >= since_ms; entry = entry->prev) {
		if (entry->changed_ms >= since_ms && entry->folder && *entry->folder->name &&
		    ckpt_path_is_below(entry->folder->name, path))
			return true;
	}
	return false;
}

static bool any_below(struct summing *s, const struct sum_picks *picks, const char *path)
{
	for (size_t i = 0; i < picks->count; i++) {
		if (lies_below(s, picks->items[i].node, path))
			return true;
	}
	return false;
}

bool summing_is_busy(struct fs *fs, const char *path, uint64_t quiet_ms)
{
	uint64_t now_ms = ckpt_clock_mono_ms();
	uint64_t since_ms = now_ms > quiet_ms ? now_ms - quiet_ms : 0;
	struct sum_picks picks = { .items = NULL };
	struct summing *s = fs->summing;
	bool busy;
	int rc;

	if (!s)
		return false;
	pthread_mutex_lock(&s->mu);
	busy = is_done_there_locked(s, path, since_ms);
	rc = summing_pick_locked(s, SUM_OPEN, NULL, NULL, &picks);
	for (int state = SUM_QUEUED; rc == 0 && state < SUM_STATES; state++)
		rc = summing_pick_locked(s, state, is_recent, &since_ms, &picks);
	pthread_mutex_unlock(&s->mu);
	busy = busy || rc < 0 || any_below(s, &picks, path);
	free(picks.items);
	return busy;
}

void summing_each(struct fs *fs, void (*fn)(void *ctx, const struct summing_tally *tally),
		  void *ctx)
{
	struct summing *s = fs->summing;

	if (!s)
		return;
	pthread_mutex_lock(&s->mu);
	for (const struct sum_folder *folder = s->folders; folder; folder = folder->next) {
		const struct summing_tally tally = { .name = folder->name,
						     .open_count = folder->open_count,
						     .pending_count = folder->pending_count };

		/* Loose files are no save; and what is committed is none any more. */
		if (*folder->name != '\0' && !folder->dropped)
			fn(ctx, &tally);
	}
	pthread_mutex_unlock(&s->mu);
}
