/* shard_check.c - see shard_check.h. */
#include "shard_check.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/num.h"
#include "block_check.h"

/*
 * Bytes that a thread takes at a time: long enough to be read in one go, short enough to change to
 * another shard.
 */
#define RUN_BYTES (4 * CKPT_MIB)
/* Up to here the request's own worker does it: waking others would take longer. */
#define INLINE_BYTES (2 * CKPT_MIB)
/* How long a check goes on when the last one that waited has left. */
#define GRACE_MS 1000U
/* A file that changes while it is verified is verified again, so often. */
#define ATTEMPTS_MAX 3U
/* What the end of a pass says: the file has changed meanwhile. */
#define PASS_AGAIN 1
/* File systems that stamp by the tick cannot tell two changes within one apart. */
#define TICK_NS 10000000

struct shard_check {
	struct shard_key key;
	struct committed_shard *shard;
	uint64_t block_count;
	uint64_t run_blocks; /* a run of blocks */
	bool is_inline;	     /* its maker does all of it */
	bool is_behind;	     /* nobody waits */
	/* Protected by the checks' mu; written by the one thread that ends a pass, which reads without. */
	struct stamps stamps;
	uint32_t attempts;
	/* Protected by the checks' mu. */
	struct shard_check *next;
	struct request *waiting; /* list, through next_waiting */
	uint64_t next_block;	 /* the first that nobody has taken */
	size_t running;		 /* runs that are being done */
	uint64_t wanted_ms;	 /* when somebody was last seen waiting */
	int rc;			 /* the first failure */
	bool linked;		 /* in the list: others may join */
};

/* One of the threads, for as long as the mount. */
struct worker {
	struct shard_checks *checks;
	struct block_scratch scratch;
};

struct shard_checks {
	struct fs *fs;
	pthread_mutex_t mu;
	pthread_cond_t work;
	pthread_cond_t quiet; /* `count` reached 0 */
	/* Protected by mu. */
	struct shard_check *first;
	size_t count; /* checks that were begun and have not ended, in the list or not */
	bool stopping;
	bool ending; /* and the threads end */
	/* Fixed. */
	size_t thread_count;
	struct worker *workers;
	struct ckpt_pool *pool;
};

static void check_free(struct shard_check *check)
{
	assert(!check->waiting && !check->linked);
	committed_shard_unref(check->shard);
	free(check);
}

/* --- one pass over a shard ---------------------------------------------------------------- */

/* @count blocks from @first on. */
static int check_run(struct fs *fs, const struct shard_check *check,
		     const struct block_scratch *scratch, uint64_t first, uint64_t count)
{
	int rc = 0;

	for (uint64_t idx = first; idx < first + count && rc == 0; idx++)
		rc = block_check(fs, check->shard, scratch, idx);
	return rc;
}

/* A change that comes within the tick of the last one could not be seen: let that tick go by. */
static void let_tick_pass(const struct stamps *stamps)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	struct timespec now;
	int64_t age_ns;

	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		return;
	age_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - stamps->ctime_ns;
	if (age_ns > -TICK_NS && age_ns < TICK_NS)
		nanosleep(&tick, NULL);
}

static void resume_all(struct request *rq, int rc, const struct stamps *stamps)
{
	struct request *next;

	for (; rq; rq = next) {
		next = rq->next_waiting;
		rq->checked_rc = rc;
		rq->checked_stamps = *stamps;
		request_resume(rq);
	}
}

static void unlink_locked(struct shard_checks *checks, struct shard_check *check)
{
	struct shard_check **place = &checks->first;

	while (*place != check)
		place = &(*place)->next;
	*place = check->next;
	check->linked = false;
}

static int fail_changed(const struct shard_check *check)
{
	fs_log_once("shard '%s/%s' changed while it was verified; run 'ckptfs verify %s'",
		    check->shard->cp->row.name, check->shard->shard.path,
		    check->shard->cp->row.name);
	return -EIO;
}

/*
 * What a pass has come to, with nothing of the check written: PASS_AGAIN where the file has changed
 * meanwhile, @out_now is its state then; else the result.
 */
static int judge_pass(const struct shard_check *check, struct stamps *out_now)
{
	struct stat st;
	int rc = check->rc;

	if (rc == 0)
		rc = ckpt_io_fstat(ckpt_shard_reader_fd(check->shard->reader, NULL), &st);
	if (rc != 0)
		return rc;
	*out_now = stamps_of(&st);
	if (stamps_equal(out_now, &check->stamps))
		return 0;
	if (out_now->size_bytes != check->stamps.size_bytes || check->attempts + 1 >= ATTEMPTS_MAX)
		return fail_changed(check);
	let_tick_pass(out_now);
	return PASS_AGAIN;
}

static void note_result(struct fs *fs, const struct shard_check *check, int rc)
{
	/* What somebody waits for is tried again next time: a disk may have erred once. */
	if (rc == 0)
		verified_note(fs->verified, &check->key, &check->stamps, TRUST_GOOD);
	else if (rc == -EBADMSG && check->is_behind)
		verified_note(fs->verified, &check->key, &check->stamps, TRUST_BAD);
}

/* The check is over. Called and left with mu; the check is gone. */
static void end_locked(struct shard_checks *checks, struct shard_check *check, int rc)
{
	struct request *waiting = check->waiting;

	check->waiting = NULL;
	if (check->linked)
		unlink_locked(checks, check);
	pthread_mutex_unlock(&checks->mu);
	resume_all(waiting, rc, &check->stamps);
	check_free(check);
	pthread_mutex_lock(&checks->mu);
	if (--checks->count == 0)
		pthread_cond_broadcast(&checks->quiet);
}

/*
 * The last run of a pass has ended. Called and left with mu. PASS_AGAIN, or the result: then the
 * check is gone.
 */
static int end_pass_locked(struct shard_checks *checks, struct shard_check *check)
{
	struct stamps now;
	int rc;

	/* Nobody else touches it: there is nothing left to take. Others may still join. */
	pthread_mutex_unlock(&checks->mu);
	rc = judge_pass(check, &now);
	note_result(checks->fs, check, rc);
	pthread_mutex_lock(&checks->mu);
	if (rc == PASS_AGAIN && !checks->stopping) {
		check->stamps = now;
		check->attempts++;
		check->next_block = 0;
		return PASS_AGAIN;
	}
	if (rc == PASS_AGAIN)
		rc = -ECANCELED;
	rc = rc == -EBADMSG ? -EIO : rc;
	end_locked(checks, check, rc);
	return rc;
}

/*
 * Take @count blocks of it, and end the pass where they are the last to be done. Called and left
 * with mu; as end_pass_locked, 0 also where others go on.
 */
static int do_run_locked(struct shard_checks *checks, struct shard_check *check,
			 const struct block_scratch *scratch, uint64_t count)
{
	uint64_t first = check->next_block;
	int rc;

	count = num_min(count, check->block_count - first);
	check->next_block += count;
	check->running++;
	pthread_mutex_unlock(&checks->mu);
	rc = check_run(checks->fs, check, scratch, first, count);
	pthread_mutex_lock(&checks->mu);
	check->running--;
	if (rc < 0) {
		check->rc = check->rc < 0 ? check->rc : rc;
		check->next_block = check->block_count;
	}
	if (check->next_block < check->block_count || check->running > 0)
		return 0;
	return end_pass_locked(checks, check);
}

/* --- which one is next -------------------------------------------------------------------- */

static bool is_wanted_locked(struct shard_check *check, uint64_t now_ms)
{
	for (const struct request *rq = check->waiting; rq; rq = rq->next_waiting) {
		if (!request_given_up(rq)) {
			check->wanted_ms = now_ms;
			return true;
		}
	}
	return check->is_behind || now_ms - check->wanted_ms < GRACE_MS;
}

/* Those that need not be finished leave the list; the last run, or we here, end them. */
static void cancel_locked(struct shard_checks *checks, struct shard_check *check)
{
	unlink_locked(checks, check);
	check->rc = -ECANCELED;
	check->next_block = check->block_count;
	if (check->running == 0)
		ckpt_ignore(end_pass_locked(checks, check));
}

/* Half of the threads at most are behind on what nobody waits for. */
static bool may_run_behind(const struct shard_checks *checks)
{
	size_t running = 0;

	for (const struct shard_check *at = checks->first; at; at = at->next)
		running += at->is_behind ? at->running : 0;
	return running < num_max(checks->thread_count / 2, 1);
}

static bool is_before(const struct shard_check *a, const struct shard_check *b)
{
	if (a->is_behind != b->is_behind)
		return b->is_behind;
	return a->block_count - a->next_block < b->block_count - b->next_block;
}

static struct shard_check *best_locked(const struct shard_checks *checks)
{
	struct shard_check *best = NULL;

	for (struct shard_check *at = checks->first; at; at = at->next) {
		if (!at->is_inline && at->next_block < at->block_count &&
		    (!best || is_before(at, best)))
			best = at;
	}
	if (best && best->is_behind && !checks->stopping && !may_run_behind(checks))
		return NULL;
	return best;
}

/* A check to take a run of; NULL: there is none now. */
static struct shard_check *pick_locked(struct shard_checks *checks)
{
	struct shard_check *check;

	while ((check = best_locked(checks))) {
		if (!checks->stopping && is_wanted_locked(check, ckpt_clock_mono_ms()))
			return check;
		cancel_locked(checks, check);
	}
	return NULL;
}

static void work(void *arg)
{
	const struct worker *worker = arg;
	struct shard_checks *checks = worker->checks;
	struct shard_check *check;

	pthread_mutex_lock(&checks->mu);
	while (!checks->ending) {
		check = pick_locked(checks);
		if (check)
			ckpt_ignore(
				do_run_locked(checks, check, &worker->scratch, check->run_blocks));
		else if (!checks->ending)
			pthread_cond_wait(&checks->work, &checks->mu);
	}
	pthread_mutex_unlock(&checks->mu);
}

/* --- joining ------------------------------------------------------------------------------ */

static struct shard_check *find_locked(const struct shard_checks *checks,
				       const struct check_order *order)
{
	struct shard_check *check = checks->first;

	/* The state of the file is not compared: a check that it outdates begins again. */
	while (check && (check->key.ino != order->key.ino ||
			 check->key.generation != order->key.generation ||
			 !stamps_same_file(&check->stamps, &order->stamps)))
		check = check->next;
	return check;
}

static struct shard_check *check_new(const struct check_order *order)
{
	struct shard_check *check = calloc(1, sizeof(*check));
	const struct ckpt_shard *shard;

	if (!check)
		return NULL;
	check->key = order->key;
	check->stamps = order->stamps;
	check->shard = committed_shard_ref(order->shard);
	shard = &check->shard->shard;
	check->block_count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	check->run_blocks = num_max(RUN_BYTES / shard->block_bytes, 1);
	check->wanted_ms = ckpt_clock_mono_ms();
	return check;
}

/* All of it here. Called and left with mu; the result is the check's. */
static int run_inline_locked(struct shard_checks *checks, struct shard_check *check)
{
	struct block_scratch scratch = { 0 };
	int rc = block_scratch_init(&scratch, check->shard->shard.size_bytes);

	if (rc < 0) {
		check->rc = rc;
		check->next_block = check->block_count;
		rc = end_pass_locked(checks, check);
	} else {
		do {
			rc = do_run_locked(checks, check, &scratch, check->block_count);
		} while (rc == PASS_AGAIN);
	}
	block_scratch_release(&scratch);
	return rc;
}

/* Begin a check; NULL: no memory. */
static struct shard_check *begin_locked(struct shard_checks *checks,
					const struct check_order *order)
{
	struct shard_check *check = check_new(order);

	if (check) {
		check->next = checks->first;
		checks->first = check;
		check->linked = true;
		checks->count++;
	}
	return check;
}

static int wait_locked(struct shard_checks *checks, const struct check_order *order,
		       struct request *rq)
{
	struct shard_check *check = find_locked(checks, order);

	if (checks->stopping)
		return -ECANCELED;
	/* One that has just ended: between our look into the table and this one. */
	if (!check && verified_ask(checks->fs->verified, &order->key, &order->stamps) == TRUST_GOOD)
		return 0;
	if (!check) {
		check = begin_locked(checks, order);
		if (!check)
			return -ENOMEM;
		check->is_inline = check->shard->shard.size_bytes <= INLINE_BYTES;
		if (check->is_inline)
			return run_inline_locked(checks, check);
		pthread_cond_broadcast(&checks->work);
	}
	/* A pass behind a large shard is never joined: those are not waited for. */
	check->is_behind = false;
	request_park(rq);
	rq->next_waiting = check->waiting;
	check->waiting = rq;
	return RC_PARKED;
}

int shard_check_wait(const struct check_order *order, struct request *rq)
{
	struct shard_checks *checks = rq->fs->checks;
	int rc;

	let_tick_pass(&order->stamps);
	pthread_mutex_lock(&checks->mu);
	rc = wait_locked(checks, order, rq);
	pthread_mutex_unlock(&checks->mu);
	return rc;
}

void shard_check_behind(struct fs *fs, const struct check_order *order)
{
	struct shard_checks *checks = fs->checks;
	struct shard_check *check;

	pthread_mutex_lock(&checks->mu);
	if (!checks->stopping && !find_locked(checks, order) &&
	    verified_ask(fs->verified, &order->key, &order->stamps) == TRUST_NONE) {
		check = begin_locked(checks, order);
		if (check) {
			check->is_behind = true;
			pthread_cond_broadcast(&checks->work);
		}
	}
	pthread_mutex_unlock(&checks->mu);
}

/* --- the threads -------------------------------------------------------------------------- */

static int start_workers(struct shard_checks *checks, struct ckpt_err *err)
{
	int rc;

	checks->workers = array_alloc(checks->thread_count, sizeof(*checks->workers));
	if (!checks->workers)
		return ckpt_err_sys(err, -ENOMEM, "cannot start threads");
	rc = ckpt_pool_new(checks->thread_count, 0, &checks->pool, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < checks->thread_count && rc == 0; i++) {
		checks->workers[i].checks = checks;
		rc = block_scratch_init(&checks->workers[i].scratch, UINT64_MAX);
		if (rc == 0)
			rc = ckpt_pool_submit(checks->pool, work, &checks->workers[i]);
	}
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot start threads") : 0;
}

int shard_checks_new(struct fs *fs, size_t thread_count, struct shard_checks **out,
		     struct ckpt_err *err)
{
	struct shard_checks *checks = calloc(1, sizeof(*checks));
	int rc;

	if (!checks)
		return ckpt_err_sys(err, -ENOMEM, "cannot start threads");
	checks->fs = fs;
	checks->thread_count = thread_count;
	pthread_mutex_init(&checks->mu, NULL);
	pthread_cond_init(&checks->work, NULL);
	pthread_cond_init(&checks->quiet, NULL);
	rc = start_workers(checks, err);
	if (rc < 0)
		shard_checks_free(checks);
	else
		*out = checks;
	return rc;
}

void shard_checks_stop(struct shard_checks *checks)
{
	pthread_mutex_lock(&checks->mu);
	checks->stopping = true;
	pthread_cond_broadcast(&checks->work);
	while (checks->count > 0)
		pthread_cond_wait(&checks->quiet, &checks->mu);
	pthread_mutex_unlock(&checks->mu);
}

void shard_checks_free(struct shard_checks *checks)
{
	if (!checks)
		return;
	shard_checks_stop(checks);
	pthread_mutex_lock(&checks->mu);
	checks->ending = true;
	pthread_cond_broadcast(&checks->work);
	pthread_mutex_unlock(&checks->mu);
	ckpt_pool_free(checks->pool);
	for (size_t i = 0; checks->workers && i < checks->thread_count; i++)
		block_scratch_release(&checks->workers[i].scratch);
	free(checks->workers);
	pthread_cond_destroy(&checks->quiet);
	pthread_cond_destroy(&checks->work);
	pthread_mutex_destroy(&checks->mu);
	free(checks);
}
