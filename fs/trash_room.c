/*
 * trash_room.c - see trash_room.h.
 *
 * A thread looks at the trash and at the disk: once a second, and every FAST_MS while the disk is
 * nearly full and the trash could make room, for a writer to whom the kernel passes the disk's own
 * answer (passthrough) asks nobody before he meets ENOSPC.
 */
#include "trash_room.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/num.h"
#include "ops.h"
#include "removal.h"

#define SLOW_MS 1000U
#define FAST_MS 50U
/*
 * What the trash holds is counted anew when its folder has changed, and after so long: what is kept
 * for its group's sake depends on what else is committed.
 */
#define COUNT_MS 10000U
/* How often removed checkpoints are looked at for their age. */
#define AGE_MS 60000U
/*
 * Room that is kept free for writers while the trash can give it: what a fast disk takes in the
 * time that a purge takes to begin; of a small disk an eighth.
 */
#define MARGIN_MAX (4U * CKPT_GIB)
#define MARGIN_SHARE 8U
/* With less than this free new writers write through the daemon, … */
#define TIGHT_BYTES (16U * CKPT_GIB)
/* … because with less than this, which a disk of 16 GB/s fills in seconds, the thread looks often. */
#define FAST_BYTES (64U * CKPT_GIB)

struct trash_room {
	struct fs *fs;
	pthread_t thread;
	bool has_thread;
	_Atomic uint64_t purgeable_bytes; /* what a purge of all would free */
	atomic_bool is_tight;		  /* see trash_is_tight() */
	bool is_fast;			  /* the thread's own: look again soon */
	pthread_mutex_t mu;
	pthread_cond_t wake;   /* of the thread */
	pthread_cond_t purged; /* a purge has ended */
	/* Protected by mu. */
	bool stopping;
	bool is_changed;
	bool is_purging;
	uint64_t purge_count; /* purges that freed something */
	/* The thread's own. */
	struct timespec seen; /* mtime of the trash's folder when it was counted */
	uint64_t counted_ms;  /* 0: not yet */
	uint64_t aged_ms;
};

/* --- purging ------------------------------------------------------------------------------- */

static void log_purged(void *ctx, const struct ckpt_removed *removed)
{
	(void)ctx;
	ckpt_log("purged '%s', removed %s, from the trash: %" PRIu64 " bytes", removed->name,
		 removed->removed, removed->size_bytes);
}

static bool purge(struct trash_room *room, uint64_t max_age_secs, uint64_t want_bytes)
{
	const struct ckpt_purge_options options = {
		.max_age_secs = max_age_secs,
		.want_bytes = want_bytes,
		.purged = log_purged,
	};
	struct ckpt_purge_result result = { 0 };
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = ckpt_trash_purge(room->fs->store, &options, &result, &err);

	if (rc < 0)
		fs_log_once("%s", err.msg);
	return rc == 0 && result.freed_bytes > 0;
}

/* One at a time; who waits for one that frees something needs none of his own. */
static bool purge_in_turn(struct trash_room *room, uint64_t want_bytes)
{
	uint64_t count;
	bool freed;

	pthread_mutex_lock(&room->mu);
	count = room->purge_count;
	while (room->is_purging)
		pthread_cond_wait(&room->purged, &room->mu);
	freed = room->purge_count != count;
	if (!freed)
		room->is_purging = true;
	pthread_mutex_unlock(&room->mu);
	if (freed)
		return true;
	freed = purge(room, UINT64_MAX, want_bytes);
	pthread_mutex_lock(&room->mu);
	room->is_purging = false;
	room->is_changed = true;
	room->purge_count += freed;
	pthread_cond_broadcast(&room->purged);
	pthread_cond_signal(&room->wake);
	pthread_mutex_unlock(&room->mu);
	return freed;
}

/* --- looking ------------------------------------------------------------------------------- */

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void count_trash(struct trash_room *room, bool is_changed)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t now = ckpt_clock_mono_ms();
	uint64_t bytes = 0;
	struct stat st;
	int rc = ckpt_io_fstatat(ckpt_store_fd(room->fs->store), CKPT_TRASH_DIR, &st,
				 AT_SYMLINK_NOFOLLOW);

	if (rc == 0 && !is_changed && room->counted_ms != 0 && now - room->counted_ms < COUNT_MS &&
	    is_same_time(st.st_mtim, room->seen))
		return;
	if (rc == 0)
		rc = ckpt_trash_bytes(room->fs->store, &bytes, &err);
	/* Without a trash folder nothing was ever removed. */
	if (rc < 0 && err.msg[0] != '\0')
		fs_log_once("%s", err.msg);
	atomic_store(&room->purgeable_bytes, rc == 0 ? bytes : 0);
	room->counted_ms = now;
	if (rc == 0)
		room->seen = st.st_mtim;
}

static uint64_t margin_of(const struct statvfs *st)
{
	return num_min(MARGIN_MAX, (uint64_t)st->f_blocks * st->f_frsize / MARGIN_SHARE);
}

/* Keep some room free. Where it cannot be had at once, the next look tries again. */
static void look_at_disk(struct trash_room *room)
{
	struct statvfs st;
	uint64_t margin;
	uint64_t free_bytes;
	bool has_trash = atomic_load(&room->purgeable_bytes) > 0;

	room->is_fast = false;
	if (!has_trash || fstatvfs(ckpt_store_fd(room->fs->store), &st) < 0) {
		atomic_store(&room->is_tight, false);
		return;
	}
	margin = margin_of(&st);
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	room->is_fast = free_bytes < FAST_BYTES;
	atomic_store(&room->is_tight, free_bytes < TIGHT_BYTES);
	/* What was freed goes from the count with the next look, which is due at once. */
	if (free_bytes < margin)
		ckpt_ignore(purge_in_turn(room, margin - free_bytes));
}

static void look_at_age(struct trash_room *room)
{
	uint64_t now = ckpt_clock_mono_ms();

	if (room->aged_ms != 0 && now - room->aged_ms < AGE_MS)
		return;
	room->aged_ms = now;
	if (atomic_load(&room->purgeable_bytes) > 0 &&
	    purge(room, room->fs->options->trash_max_age_secs, 0))
		room->counted_ms = 0;
}

/* *@out_changed: somebody says so. False: the mount ends. */
static bool wait_for_look(struct trash_room *room, bool *out_changed)
{
	uint64_t pause_ms = room->is_fast ? FAST_MS : SLOW_MS;
	struct timespec until;
	bool stopping;

	/* CLOCK_MONOTONIC is always there; the condition goes by it. */
	ckpt_ignore(clock_gettime(CLOCK_MONOTONIC, &until));
	until.tv_nsec += (long)(pause_ms % 1000) * 1000000L;
	until.tv_sec += (time_t)(pause_ms / 1000) + until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&room->mu);
	while (!room->stopping && !room->is_changed &&
	       pthread_cond_timedwait(&room->wake, &room->mu, &until) != ETIMEDOUT)
		;
	stopping = room->stopping;
	*out_changed = room->is_changed;
	room->is_changed = false;
	pthread_mutex_unlock(&room->mu);
	return !stopping;
}

static void *thread_main(void *arg)
{
	struct trash_room *room = arg;
	bool changed = true;

	do {
		count_trash(room, changed);
		look_at_age(room);
		look_at_disk(room);
	} while (wait_for_look(room, &changed));
	return NULL;
}

/* --- asking -------------------------------------------------------------------------------- */

void trash_room_changed(struct trash_room *room)
{
	if (!room)
		return;
	pthread_mutex_lock(&room->mu);
	room->is_changed = true;
	pthread_cond_signal(&room->wake);
	pthread_mutex_unlock(&room->mu);
}

bool trash_make_room(struct fs *fs)
{
	struct trash_room *room = removals_room(fs->removals);
	struct statvfs st;

	if (!room)
		return false;
	if (fstatvfs(ckpt_store_fd(fs->store), &st) < 0)
		return false;
	return purge_in_turn(room, num_max(margin_of(&st), 1));
}

bool trash_is_tight(struct fs *fs)
{
	struct trash_room *room = removals_room(fs->removals);

	return room && atomic_load(&room->is_tight);
}

/*
 * The file system that the store lies on. What a purge would free counts as free: a trainer that
 * asks first must not stop for it.
 */
void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct trash_room *room = removals_room(fs->removals);
	struct statvfs st;
	fsblkcnt_t more = 0;

	(void)ino;
	if (fstatvfs(ckpt_store_fd(fs->store), &st) < 0) {
		ckpt_ignore(fuse_reply_err(req, errno));
		return;
	}
	if (room && st.f_frsize > 0)
		more = atomic_load(&room->purgeable_bytes) / st.f_frsize;
	/* Blocks of the reserve may be freed, too; nobody can have more than there is. */
	st.f_bfree = (fsblkcnt_t)num_min(st.f_blocks, st.f_bfree + more);
	st.f_bavail = (fsblkcnt_t)num_min(st.f_bfree, st.f_bavail + more);
	ckpt_ignore(fuse_reply_statfs(req, &st));
}

/* --- beginning and end --------------------------------------------------------------------- */

static int start(struct trash_room *room, struct ckpt_err *err)
{
	sigset_t all;
	sigset_t old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&room->thread, NULL, thread_main, room);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return ckpt_err_sys(err, -rc, "cannot start a thread");
	room->has_thread = true;
	return 0;
}

int trash_room_new(struct fs *fs, struct trash_room **out, struct ckpt_err *err)
{
	struct trash_room *room = calloc(1, sizeof(*room));
	pthread_condattr_t attr;
	int rc;

	if (!room)
		return ckpt_err_sys(err, -ENOMEM, "cannot mount '%s'", fs->options->store_path);
	room->fs = fs;
	pthread_mutex_init(&room->mu, NULL);
	pthread_cond_init(&room->purged, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&room->wake, &attr);
	pthread_condattr_destroy(&attr);
	/* Ahead of need: a disk that is full has no room for it. */
	if (!fs->options->read_only && !ckpt_store_read_only(fs->store))
		ckpt_ignore(ckpt_trash_prepare(fs->store));
	rc = start(room, err);
	if (rc < 0)
		trash_room_free(room);
	else
		*out = room;
	return rc;
}

void trash_room_free(struct trash_room *room)
{
	if (!room)
		return;
	pthread_mutex_lock(&room->mu);
	room->stopping = true;
	pthread_cond_signal(&room->wake);
	pthread_mutex_unlock(&room->mu);
	if (room->has_thread)
		pthread_join(room->thread, NULL);
	pthread_cond_destroy(&room->wake);
	pthread_cond_destroy(&room->purged);
	pthread_mutex_destroy(&room->mu);
	free(room);
}
