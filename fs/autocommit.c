/*
 * autocommit.c - see autocommit.h.
 *
 * One thread does all the work. Others only leave it the paths that they saw,
 * if the name can mean anything to a rule. The thread finds the open checkpoint
 * that such a path lies in, and looks at it again and again: when nothing in it
 * has changed for the quiet time, neither through this mount (fs/summing.h knows
 * who has files open) nor behind it (the stamps of all that is in it), the rules
 * are asked, and what they call complete is committed. What they do not is
 * forgotten: the file that is missing will be seen.
 *
 * Lock: mu, held for list work only, below no other and with none below it.
 */
#include "autocommit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "base/path.h"
#include "candidates.h"
#include "gesture.h"
#include "group.h"
#include "resave.h"
#include "summing.h"

/* Paths that wait for the thread; each costs it some look-ups. */
#define SEEN_MAX 4096U
/* How long a commit by rule can be taken back. */
#define REOPEN_MS (UINT64_C(600) * 1000)
/* A folder is looked at four times in its quiet time, within these bounds. */
#define LOOK_MIN_MS UINT64_C(100)
#define LOOK_MAX_MS UINT64_C(5000)
/* After a commit that did not succeed; doubled each time, up to the quiet time. */
#define AGAIN_MIN_MS UINT64_C(500)
#define MS_PER_SEC UINT64_C(1000)
#define NS_PER_MS 1000000

/* What others leave for the thread. */
struct seen {
	char *path;    /* below the store */
	bool reopened; /* a checkpoint that was taken back: the kernel has to be told */
};

/* A checkpoint that was committed here by a rule. */
struct done {
	char *name;
	uint64_t at_ms;
	struct ckpt_stamps manifest;
	bool reopening; /* some thread takes it back */
};

struct autocommit {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	bool ending; /* protected by mu, as all up to `done_count` */
	struct seen seen[SEEN_MAX];
	size_t seen_count;
	char *committing; /* name; NULL: none */
	struct done *dones;
	size_t done_count, done_cap;
	_Atomic bool yield; /* give the commit up: somebody wants to write */
	/* The thread's own. */
	struct candidates candidates;
};

/* --- what was seen ------------------------------------------------------------------------ */

/* With mu held. True: it was new and there was room. */
static bool push_locked(struct autocommit *ac, const char *path, bool reopened)
{
	struct seen *last = ac->seen_count > 0 ? &ac->seen[ac->seen_count - 1] : NULL;
	char *copy;

	if (last && last->reopened == reopened && strcmp(last->path, path) == 0)
		return true;
	copy = ac->seen_count < SEEN_MAX ? strdup(path) : NULL;
	if (!copy)
		return false;
	ac->seen[ac->seen_count++] = (struct seen){ .path = copy, .reopened = reopened };
	return true;
}

static void push(struct autocommit *ac, const char *path, bool reopened)
{
	bool kept;

	pthread_mutex_lock(&ac->mu);
	kept = push_locked(ac, path, reopened);
	pthread_cond_broadcast(&ac->changed);
	pthread_mutex_unlock(&ac->mu);
	if (!kept)
		fs_log_once("'%s' was not noted for a commit by rule: too much happens at once; "
			    "'ckptfs commit --all' finds what is complete",
			    path);
}

void autocommit_saw(struct fs *fs, const char *path)
{
	if (!fs->autocommit || !ckpt_rules_may_complete(path))
		return;
	/*
	 * A folder with a temporary name waits for its rename, whatever is in it, unless it is one
	 * of ours.
	 */
	if (!ckpt_path_is_temporary(path) || fs->options->resave_replace)
		push(fs->autocommit, path, false);
}

/* --- candidates ---------------------------------------------------------------------------- */

static uint64_t quiet_ms(const struct autocommit *ac)
{
	return ac->fs->options->autocommit_ms;
}

static void add_candidate(struct autocommit *ac, const char *name)
{
	if (candidates_add(&ac->candidates, name, AGAIN_MIN_MS) < 0)
		fs_log_once("out of memory: '%s' is not committed by rule", name);
}

/* A checkpoint that is saved again lies under a temporary name of this mount's choice. */
static bool may_be_complete(struct fs *fs, const char *name)
{
	return !ckpt_path_is_temporary(name) || resave_is_stored(fs, name);
}

static void take_in(struct autocommit *ac, const struct seen *seen)
{
	struct ckpt_buf name;

	if (seen->reopened) {
		gesture_forget_name(ac->fs, seen->path);
		add_candidate(ac, seen->path);
		return;
	}
	ckpt_buf_init(&name);
	/* What cannot be looked at now will not be committed by a guess. */
	if (ckpt_rules_completes(ckpt_store_fd(ac->fs->store), seen->path, &name) == 0 &&
	    may_be_complete(ac->fs, name.data))
		add_candidate(ac, name.data);
	ckpt_buf_release(&name);
}

/* --- commits that were made ---------------------------------------------------------------- */

/* With mu held; NULL: none. */
static struct done *find_done(struct autocommit *ac, const char *name)
{
	for (size_t i = 0; i < ac->done_count; i++) {
		if (strcmp(ac->dones[i].name, name) == 0)
			return &ac->dones[i];
	}
	return NULL;
}

static void drop_done(struct autocommit *ac, struct done *done)
{
	free(done->name);
	*done = ac->dones[--ac->done_count];
}

static void drop_old_dones(struct autocommit *ac)
{
	uint64_t now_ms = ckpt_clock_mono_ms();

	for (size_t i = ac->done_count; i > 0; i--) {
		struct done *done = &ac->dones[i - 1];

		if (!done->reopening && now_ms - done->at_ms > REOPEN_MS)
			drop_done(ac, done);
	}
}

/* Without it the commit cannot be taken back, which is no reason to fail. */
static void remember(struct autocommit *ac, const char *name)
{
	struct done done = { .name = strdup(name), .at_ms = ckpt_clock_mono_ms() };
	struct done *known;

	if (!done.name || ckpt_manifest_stamps(ac->fs->store, name, &done.manifest) < 0) {
		free(done.name);
		return;
	}
	pthread_mutex_lock(&ac->mu);
	drop_old_dones(ac);
	known = find_done(ac, name);
	if (known && !known->reopening)
		drop_done(ac, known);
	if (array_grow(&ac->dones, &ac->done_cap, ac->done_count, sizeof(done)) == 0)
		ac->dones[ac->done_count++] = done;
	else
		free(done.name);
	pthread_mutex_unlock(&ac->mu);
}

/* --- committing ------------------------------------------------------------------------------ */

static bool given_up(void *ctx)
{
	const struct autocommit *ac = ctx;

	return ac->fs->ending || atomic_load(&ac->yield);
}

/* NULL: the commit is over, and who waits for that may go on. */
static void set_committing(struct autocommit *ac, const char *name)
{
	char *copy = name ? strdup(name) : NULL;

	pthread_mutex_lock(&ac->mu);
	free(ac->committing);
	ac->committing = copy;
	atomic_store(&ac->yield, false);
	pthread_cond_broadcast(&ac->changed);
	pthread_mutex_unlock(&ac->mu);
}

/* It may succeed later, by itself. */
static bool is_passing(int rc)
{
	return rc == -EBUSY || rc == -ECANCELED || rc == -ESTALE || rc == -EAGAIN || rc == -EINTR;
}

/* It may succeed when somebody has helped. */
static bool is_worth_retrying(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EIO || rc == -ENOMEM || rc == -EMFILE;
}

/* True: it was committed, or never will be from here. */
static bool settle(struct autocommit *ac, struct candidate *candidate, int rc,
		   const struct ckpt_err *err)
{
	uint64_t again_max_ms = num_max(quiet_ms(ac), AGAIN_MIN_MS);

	candidate->due_ms = ckpt_clock_mono_ms() + candidate->again_ms;
	candidate->again_ms = num_min(2 * candidate->again_ms, again_max_ms);
	if (is_passing(rc))
		return false;
	/* Somebody else was first. */
	if (rc == -EEXIST || rc == -ENOENT)
		return true;
	fs_log_once("%s", err->msg);
	return !is_worth_retrying(rc);
}

static bool commit(struct autocommit *ac, struct candidate *candidate, const char *rule)
{
	const struct gesture gesture = {
		.name = candidate->name, .rule = rule, .given_up = given_up, .ctx = ac
	};
	struct ckpt_commit_result result = { .name = NULL };
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	set_committing(ac, candidate->name);
	rc = gesture_commit(ac->fs, &gesture, &result, &err);
	if (rc == 0)
		remember(ac, result.name);
	set_committing(ac, NULL);
	if (rc < 0)
		return settle(ac, candidate, rc, &err);
	free(result.name);
	return true;
}

/* --- looking ----------------------------------------------------------------------------------- */

static uint64_t look_ms(const struct autocommit *ac)
{
	return num_min(num_max(quiet_ms(ac) / 4, LOOK_MIN_MS), LOOK_MAX_MS);
}

/* Has it been quiet long enough? Sets when to look again. -ENOENT: it is gone. */
static int is_quiet(struct autocommit *ac, struct candidate *candidate, bool *out)
{
	uint64_t now_ms = ckpt_clock_mono_ms();
	struct ckpt_calm calm;
	int rc = ckpt_calm_of(ckpt_store_fd(ac->fs->store), candidate->name, &calm);

	if (rc < 0)
		return rc;
	if (!candidate->looked || calm.fingerprint != candidate->calm.fingerprint) {
		candidate->looked = true;
		candidate->calm = calm;
		candidate->calm_ms = now_ms;
	}
	*out = now_ms - candidate->calm_ms >= quiet_ms(ac) &&
	       !summing_is_busy(ac->fs, candidate->name, quiet_ms(ac));
	candidate->due_ms = now_ms + look_ms(ac);
	if (candidate->calm_ms + quiet_ms(ac) > now_ms)
		candidate->due_ms = num_min(candidate->due_ms, candidate->calm_ms + quiet_ms(ac));
	return 0;
}

/* What the rules say of it, by the name that it will have. */
static int ask_rules(struct autocommit *ac, const struct candidate *candidate,
		     struct ckpt_rule_verdict *out)
{
	struct ckpt_buf lasting;
	int rc = 0;

	ckpt_buf_init(&lasting);
	if (ckpt_path_is_temporary(candidate->name))
		rc = ckpt_path_final_name(candidate->name, &lasting, NULL);
	else
		ckpt_buf_add_str(&lasting, candidate->name);
	if (rc == 0)
		rc = ckpt_buf_check(&lasting);
	if (rc == 0)
		rc = ckpt_rules_judge_as(ckpt_store_fd(ac->fs->store), candidate->name,
					 lasting.data, out, NULL, NULL);
	ckpt_buf_release(&lasting);
	return rc;
}

/*
 * Of a group's checkpoints the one that was seen first is committed first, for the sequence number
 * tells which is the latest. But none waits for longer than half a quiet time: the other may be
 * written for hours, or fail.
 */
static bool waits_for_older(struct autocommit *ac, struct candidate *candidate)
{
	const struct candidate *older = candidates_older(&ac->candidates, candidate);
	uint64_t now_ms = ckpt_clock_mono_ms();

	if (!older || now_ms - candidate->calm_ms >= quiet_ms(ac) + 2 * look_ms(ac))
		return false;
	candidate->due_ms = num_max(older->due_ms, now_ms + 1);
	return true;
}

/* True: there is nothing more to do about it. */
static bool look_at(struct autocommit *ac, struct candidate *candidate)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	struct ckpt_rule_verdict verdict = { .rule = NULL };
	bool quiet = false;

	if (ckpt_state_of(ckpt_store_fd(ac->fs->store), candidate->name, &state, NULL, NULL) < 0 ||
	    state != CKPT_STATE_OPEN || !may_be_complete(ac->fs, candidate->name) ||
	    is_quiet(ac, candidate, &quiet) < 0)
		return true;
	if (!quiet || waits_for_older(ac, candidate))
		return false;
	if (ask_rules(ac, candidate, &verdict) < 0 || !verdict.complete)
		return true;
	return commit(ac, candidate, verdict.rule);
}

static void look_at_due(struct autocommit *ac)
{
	struct candidates *list = &ac->candidates;

	for (size_t i = 0; i < list->count && !ac->fs->ending;) {
		if (list->items[i].due_ms <= ckpt_clock_mono_ms() && look_at(ac, &list->items[i]))
			candidates_drop(list, i);
		else
			i++;
	}
}

/* --- the thread -------------------------------------------------------------------------------- */

/* With mu held: until something was seen, a candidate is due, or the end. */
static void wait_locked(struct autocommit *ac)
{
	uint64_t due_ms = UINT64_MAX;
	struct timespec until;

	for (size_t i = 0; i < ac->candidates.count; i++)
		due_ms = num_min(due_ms, ac->candidates.items[i].due_ms);
	until.tv_sec = (time_t)(due_ms / MS_PER_SEC);
	until.tv_nsec = (long)(due_ms % MS_PER_SEC) * NS_PER_MS;
	while (!ac->ending && ac->seen_count == 0) {
		if (due_ms == UINT64_MAX)
			pthread_cond_wait(&ac->changed, &ac->mu);
		else if (pthread_cond_timedwait(&ac->changed, &ac->mu, &until) == ETIMEDOUT)
			break;
	}
}

/* The oldest path that was seen; false: none. */
static bool take_seen(struct autocommit *ac, struct seen *out)
{
	bool any;

	pthread_mutex_lock(&ac->mu);
	any = ac->seen_count > 0 && !ac->ending;
	if (any) {
		*out = ac->seen[0];
		memmove(ac->seen, ac->seen + 1, --ac->seen_count * sizeof(ac->seen[0]));
	}
	pthread_mutex_unlock(&ac->mu);
	return any;
}

static void *work(void *arg)
{
	struct autocommit *ac = arg;
	bool ending;

	do {
		struct seen seen;

		pthread_mutex_lock(&ac->mu);
		wait_locked(ac);
		ending = ac->ending;
		pthread_mutex_unlock(&ac->mu);
		while (take_seen(ac, &seen)) {
			take_in(ac, &seen);
			free(seen.path);
		}
		look_at_due(ac);
	} while (!ending);
	return NULL;
}

/* Signals are for the thread that serves the mount. */
static int start_thread(struct autocommit *ac)
{
	sigset_t all;
	sigset_t old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&ac->thread, NULL, work, ac);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

static void release(struct autocommit *ac)
{
	for (size_t i = 0; i < ac->seen_count; i++)
		free(ac->seen[i].path);
	while (ac->done_count > 0)
		drop_done(ac, &ac->dones[ac->done_count - 1]);
	candidates_release(&ac->candidates);
	free(ac->dones);
	free(ac->committing);
	pthread_cond_destroy(&ac->changed);
	pthread_mutex_destroy(&ac->mu);
	free(ac);
}

int autocommit_new(struct fs *fs, struct autocommit **out, struct ckpt_err *err)
{
	struct autocommit *ac;
	pthread_condattr_t attr;
	int rc;

	*out = NULL;
	if (fs->options->read_only || fs->options->autocommit_ms == 0)
		return 0;
	ac = calloc(1, sizeof(*ac));
	if (!ac)
		return ckpt_err_sys(err, -ENOMEM, "cannot start commits by rule");
	ac->fs = fs;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ac->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&ac->mu, NULL);
	rc = start_thread(ac);
	if (rc < 0) {
		release(ac);
		return ckpt_err_sys(err, rc, "cannot start the thread of commits by rule");
	}
	*out = ac;
	return 0;
}

void autocommit_free(struct autocommit *ac)
{
	if (!ac)
		return;
	pthread_mutex_lock(&ac->mu);
	ac->ending = true;
	pthread_cond_broadcast(&ac->changed);
	pthread_mutex_unlock(&ac->mu);
	atomic_store(&ac->yield, true);
	pthread_join(ac->thread, NULL);
	release(ac);
}

/* --- taking a commit back ---------------------------------------------------------------------- */

/* With mu held: no commit by rule and no other thread is at it any more. */
static void await_locked(struct autocommit *ac, const char *name)
{
	for (;;) {
		const struct done *done = find_done(ac, name);
		bool mine = ac->committing && strcmp(ac->committing, name) == 0;

		if (!mine && !(done && done->reopening))
			return;
		if (mine)
			atomic_store(&ac->yield, true);
		pthread_cond_wait(&ac->changed, &ac->mu);
	}
}

/* What was committed here and can be taken back, which is this thread's to do now. */
static bool claim_done(struct autocommit *ac, const char *name, struct ckpt_stamps *out)
{
	struct done *done;

	pthread_mutex_lock(&ac->mu);
	await_locked(ac, name);
	drop_old_dones(ac);
	done = find_done(ac, name);
	if (done) {
		done->reopening = true;
		*out = done->manifest;
	}
	pthread_mutex_unlock(&ac->mu);
	return done != NULL;
}

static void end_claim(struct autocommit *ac, const char *name)
{
	struct done *done;

	pthread_mutex_lock(&ac->mu);
	done = find_done(ac, name);
	if (done)
		drop_done(ac, done);
	pthread_cond_broadcast(&ac->changed);
	pthread_mutex_unlock(&ac->mu);
}

/* Nothing of ours: 0 where it is open (again), so that it may be written. */
static int state_rc(struct fs *fs, const char *name)
{
	enum ckpt_guard guard = CKPT_GUARD_FREE;
	int rc = ckpt_guard_of(ckpt_store_fd(fs->store), name, &guard, NULL);

	if (rc < 0)
		return rc;
	if (guard == CKPT_GUARD_COMMITTED)
		return -EROFS;
	return guard == CKPT_GUARD_FROZEN ? -EBUSY : 0;
}

static int reopen(struct fs *fs, const char *name, const struct ckpt_stamps *made)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = ckpt_reopen(fs->store, name, made, &err);

	if (rc == -ENOENT)
		return state_rc(fs, name);
	if (rc < 0) {
		fs_log_once("%s", err.msg);
		return rc;
	}
	ckpt_log("'%s' was committed by rule and is written to: it is open again", name);
	groups_expire(fs->groups);
	/* The kernel is told by our thread: the one that serves this request must not. */
	push(fs->autocommit, name, true);
	return 0;
}

int autocommit_reopen(struct fs *fs, const char *name)
{
	struct ckpt_stamps made;
	int rc;

	if (!fs->autocommit)
		return state_rc(fs, name);
	if (!claim_done(fs->autocommit, name, &made))
		return state_rc(fs, name);
	rc = reopen(fs, name, &made);
	end_claim(fs->autocommit, name);
	return rc;
}
