/*
 * summing_session.c - the scribe: the one thread that writes what was summed into sessions, and
 * says there what this mount is doing. It looks again every half second while anything is going on,
 * and at once when somebody needs to know: a first writer, a commit that waits.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "summing_internal.h"

/* How often it looks while something is going on, and at most. */
#define TICK_MS 500U
#define PAUSE_MS 20U
/* Sums that are written at a time. */
#define LINES_MAX 512U
/* A session without news is closed; the file stays. */
#define CLOSE_MS 60000U
/* A session that could not be opened is tried again so often. */
#define RETRY_MS 10000U
/* How long it is believed that what lies in a folder belongs to the same checkpoint. */
#define PLACE_MS 1000U
#define PLACES 64U
/* Looks for the place of what is summed, before its sums are given up. */
#define LOST_MAX 3U

struct place {
	char *dir;
	char *name;
	uint64_t until_ms;
};

/* What the scribe needs from one look to the next. */
struct scribe {
	struct summing *s;
	struct place places[PLACES];
};

/* --- where a file belongs ------------------------------------------------------------------- */

static struct place *place_slot(struct scribe *sc, const char *dir)
{
	uint32_t hash = 5381;

	for (const char *at = dir; *at != '\0'; at++)
		hash = hash * 33 ^ (unsigned char)*at;
	return &sc->places[hash % PLACES];
}

/* The open checkpoint that what lies in the folder @dir belongs to; NULL: nobody can tell. */
static const char *place_of(struct scribe *sc, const char *dir)
{
	struct place *place = place_slot(sc, dir);
	uint64_t now_ms = ckpt_clock_mono_ms();
	struct ckpt_buf name;

	if (place->dir && strcmp(place->dir, dir) == 0 && now_ms < place->until_ms)
		return place->name;
	free(place->dir);
	free(place->name);
	*place = (struct place){ .dir = strdup(dir), .until_ms = now_ms + PLACE_MS };
	ckpt_buf_init(&name);
	if (ckpt_session_place(sc->s->fs->store, dir, &name, NULL) == 0)
		place->name = ckpt_buf_steal(&name);
	ckpt_buf_release(&name);
	return place->name;
}

static struct sum_folder *folder_of_locked(struct summing *s, const char *name)
{
	struct sum_folder *folder = s->folders;

	while (folder && (folder->dropped || strcmp(folder->name, name) != 0))
		folder = folder->next;
	if (folder)
		return folder;
	folder = calloc(1, sizeof(*folder));
	if (folder)
		folder->name = strdup(name);
	if (!folder || !folder->name) {
		free(folder);
		return NULL;
	}
	folder->next = s->folders;
	s->folders = folder;
	return folder;
}

/* NULL: its path is not known, or it is not there (any more). */
static const char *find_place(struct scribe *sc, const struct sum_pick *pick)
{
	int store_fd = ckpt_store_fd(sc->s->fs->store);
	struct inode_key key;
	struct ckpt_buf path;
	struct stat st;
	const char *name = NULL;
	char *slash;

	ckpt_buf_init(&path);
	if (inode_locate(sc->s->fs->inodes, pick->node, &path, &key) == 0 &&
	    ckpt_io_fstatat(store_fd, path.data, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == pick->key.ino && st.st_dev == pick->key.dev) {
		slash = strrchr(path.data, '/');
		*(slash ? slash : path.data) = '\0';
		name = place_of(sc, path.data);
	}
	ckpt_buf_release(&path);
	return name;
}

static void place_one(struct scribe *sc, const struct sum_pick *pick)
{
	struct summing *s = sc->s;
	const char *name = find_place(sc, pick);
	struct sum_entry *entry;
	fuse_ino_t node = 0;

	pthread_mutex_lock(&s->mu);
	entry = summing_find_locked(s, pick->key);
	if (entry && entry->place_due) {
		struct sum_folder *folder = name ? folder_of_locked(s, name) : NULL;

		if (folder)
			summing_put_folder_locked(entry, folder);
		/* Not found: it is gone, or is being renamed right now; then the next look finds it. */
		if (entry->folder)
			entry->place_due = false;
		else if (entry->state == SUM_SUMMED && ++entry->lost >= LOST_MAX)
			node = summing_remove_locked(s, entry);
	}
	pthread_mutex_unlock(&s->mu);
	summing_forget(s, node);
}

static bool wants_place(const struct sum_entry *entry, const void *ctx)
{
	(void)ctx;
	return entry->place_due;
}

static void place_all(struct scribe *sc)
{
	struct sum_picks picks = { .items = NULL };
	struct summing *s = sc->s;
	int rc;

	pthread_mutex_lock(&s->mu);
	rc = summing_pick_locked(s, SUM_OPEN, wants_place, NULL, &picks);
	for (int state = SUM_QUEUED; rc == 0 && state <= SUM_SUMMED; state++)
		rc = summing_pick_locked(s, state, wants_place, NULL, &picks);
	pthread_mutex_unlock(&s->mu);
	/* Without memory for all, the rest comes next time. */
	for (size_t i = 0; i < picks.count; i++)
		place_one(sc, &picks.items[i]);
	free(picks.items);
}

/* --- sessions ------------------------------------------------------------------------------- */

static void close_session(struct sum_folder *folder)
{
	ckpt_session_close(folder->session, true);
	folder->session = NULL;
	folder->told = false;
}

static void drop_folder(struct summing *s, struct sum_folder *folder)
{
	pthread_mutex_lock(&s->mu);
	folder->dropped = true;
	pthread_mutex_unlock(&s->mu);
}

static int open_session(struct summing *s, struct sum_folder *folder)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t now_ms = ckpt_clock_mono_ms();
	int rc;

	if (folder->session)
		return 0;
	if (now_ms < folder->retry_ms)
		return -EAGAIN;
	rc = ckpt_session_open(s->fs->store, folder->name, &folder->session, &err);
	if (rc == 0) {
		folder->kept_ms = now_ms;
		return 0;
	}
	folder->session = NULL;
	/* Committed, renamed or removed: by somebody else, or this mount has yet to hear of it. */
	if (rc == -ENOENT || rc == -EROFS || rc == -ENOTDIR) {
		drop_folder(s, folder);
		return -ENOENT;
	}
	folder->retry_ms = now_ms + RETRY_MS;
	fs_log_once("%s; commits there have to read again what was summed", err.msg);
	return rc;
}

/*
 * Something has to be written there. A session that was removed is begun anew where its folder is
 * still there.
 */
static int with_session(struct summing *s, struct sum_folder *folder,
			int (*act)(struct sum_folder *folder, const void *ctx,
				   struct ckpt_err *err),
			const void *ctx)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = -ENOENT;

	for (int i = 0; i < 2 && rc == -ENOENT && !folder->dropped; i++) {
		rc = open_session(s, folder);
		if (rc < 0)
			return rc;
		rc = act(folder, ctx, &err);
		if (rc < 0)
			close_session(folder);
	}
	if (rc == -ENOENT)
		drop_folder(s, folder);
	else if (rc < 0)
		fs_log_once("%s; commits there have to read again what was summed", err.msg);
	else
		folder->kept_ms = ckpt_clock_mono_ms();
	return rc;
}

/* --- sums ------------------------------------------------------------------------------------- */

struct line {
	struct sum_pick pick;
	struct ckpt_stamps stamps;
	struct ckpt_shard sums;
	struct ckpt_buf path;
};
struct lines {
	struct sum_folder *folder;
	struct line *items;
	size_t count;
};

/* Sums that are to be written, all into one session. */
static void take_lines(struct summing *s, struct lines *lines)
{
	lines->folder = NULL;
	lines->count = 0;
	pthread_mutex_lock(&s->mu);
	for (struct sum_entry *e = s->lists[SUM_SUMMED].first; e && lines->count < LINES_MAX;
	     e = e->next) {
		struct line *line = &lines->items[lines->count];

		if (e->place_due || !e->folder || e->at_scribe ||
		    (lines->folder && e->folder != lines->folder))
			continue;
		lines->folder = e->folder;
		line->pick = (struct sum_pick){ .key = e->key, .node = e->node, .stint = e->stint };
		line->stamps = e->stamps;
		line->sums = e->sums;
		e->sums.sums = NULL;
		e->at_scribe = true;
		lines->count++;
	}
	pthread_mutex_unlock(&s->mu);
}

/* The path below the session's folder, for people. */
static void name_line(struct summing *s, const struct lines *lines, struct line *line)
{
	const char *folder = lines->folder->name;
	size_t above = strlen(folder);
	struct inode_key key;
	struct ckpt_buf path;

	ckpt_buf_init(&line->path);
	ckpt_buf_init(&path);
	if (inode_locate(s->fs->inodes, line->pick.node, &path, &key) == 0 && above > 0 &&
	    path.len_bytes > above && ckpt_path_is_below(path.data, folder))
		ckpt_buf_add_str(&line->path, path.data + above + 1);
	else
		ckpt_buf_add_str(&line->path, path.data);
	ckpt_buf_release(&path);
}

static int add_lines(struct sum_folder *folder, const void *ctx, struct ckpt_err *err)
{
	const struct lines *lines = ctx;
	struct ckpt_session_sum *sums = array_alloc(lines->count, sizeof(*sums));
	int rc;

	if (!sums)
		return ckpt_err_sys(err, -ENOMEM, "cannot write a session in '%s'", folder->name);
	for (size_t i = 0; i < lines->count; i++) {
		sums[i] = (struct ckpt_session_sum){ .path = lines->items[i].path.data,
						     .stamps = lines->items[i].stamps,
						     .sums = &lines->items[i].sums };
	}
	rc = ckpt_session_add(folder->session, sums, lines->count, err);
	free(sums);
	return rc;
}

/* Give the sums back. Returns the look-up to be given back. */
static fuse_ino_t settle_line_locked(struct summing *s, struct line *line, bool keep)
{
	struct sum_entry *entry = summing_find_stint_locked(s, &line->pick);

	if (!entry || !entry->at_scribe)
		return 0;
	entry->at_scribe = false;
	entry->sums = line->sums;
	line->sums.sums = NULL;
	if (!keep)
		return summing_remove_locked(s, entry);
	/* Else it was restamped meanwhile, and is written again. */
	if (!ckpt_stamps_equal(&entry->stamps, &line->stamps))
		return 0;
	summing_turn_locked(s, entry, SUM_DONE);
	return summing_unhold_locked(entry);
}

/* What could not be written is not tried again: a commit does without. */
static void settle_lines(struct summing *s, struct lines *lines, bool keep)
{
	for (size_t i = 0; i < lines->count; i++) {
		fuse_ino_t node;

		pthread_mutex_lock(&s->mu);
		node = settle_line_locked(s, &lines->items[i], keep);
		pthread_mutex_unlock(&s->mu);
		summing_forget(s, node);
		free(lines->items[i].sums.sums);
		ckpt_buf_release(&lines->items[i].path);
	}
	pthread_mutex_lock(&s->mu);
	pthread_cond_broadcast(&s->advanced);
	pthread_mutex_unlock(&s->mu);
}

static void forget_oldest(struct summing *s)
{
	const struct sum_list *done = &s->lists[SUM_DONE];

	pthread_mutex_lock(&s->mu);
	while (done->count > SUMMING_DONE_MAX) {
		/* Nothing is held of what is done. */
		fuse_ino_t node = summing_remove_locked(s, done->first);

		assert(node == 0);
		(void)node;
	}
	pthread_mutex_unlock(&s->mu);
}

static void write_all(struct scribe *sc)
{
	struct summing *s = sc->s;
	struct lines lines = { .items = array_alloc(LINES_MAX, sizeof(*lines.items)) };

	while (lines.items) {
		take_lines(s, &lines);
		if (lines.count == 0)
			break;
		for (size_t i = 0; i < lines.count; i++)
			name_line(s, &lines, &lines.items[i]);
		settle_lines(s, &lines, with_session(s, lines.folder, add_lines, &lines) == 0);
	}
	free(lines.items);
	forget_oldest(s);
}

/* --- what it says -------------------------------------------------------------------------- */

static void count_list_locked(struct summing *s, enum sum_state state)
{
	for (const struct sum_entry *e = s->lists[state].first; e; e = e->next) {
		if (!e->folder)
			continue;
		/* What somebody else can write is waited for like what this mount can. */
		if (state == SUM_OPEN || e->refused)
			e->folder->open_count++;
		else
			e->folder->pending_count++;
	}
}

static void count_all(struct summing *s)
{
	pthread_mutex_lock(&s->mu);
	for (struct sum_folder *f = s->folders; f; f = f->next)
		f->open_count = f->pending_count = 0;
	for (int state = SUM_OPEN; state <= SUM_SUMMED; state++)
		count_list_locked(s, state);
	pthread_mutex_unlock(&s->mu);
}

static int tell(struct sum_folder *folder, const void *ctx, struct ckpt_err *err)
{
	const enum ckpt_session_doing *doing = ctx;
	int rc = ckpt_session_tell(folder->session, *doing, err);

	if (rc == 0) {
		folder->doing = *doing;
		folder->told = true;
	}
	return rc;
}

static int keep(struct sum_folder *folder, const void *ctx, struct ckpt_err *err)
{
	(void)ctx;
	(void)err;
	return ckpt_session_keep(folder->session);
}

/*
 * No news for long. A session that is gone tells that its checkpoint was committed, or dropped, by
 * others.
 */
static void rest(struct summing *s, struct sum_folder *folder)
{
	bool gone = ckpt_session_keep(folder->session) == -ENOENT;

	close_session(folder);
	if (gone)
		drop_folder(s, folder);
}

static void tell_one(struct summing *s, struct sum_folder *folder)
{
	enum ckpt_session_doing doing = CKPT_SESSION_IDLE;
	uint64_t now_ms = ckpt_clock_mono_ms();

	/* Of the store's own session nobody could say which folder is meant. */
	if (*folder->name != '\0' && folder->open_count > 0)
		doing = CKPT_SESSION_WRITING;
	else if (*folder->name != '\0' && folder->pending_count > 0)
		doing = CKPT_SESSION_SUMMING;
	if (doing == CKPT_SESSION_IDLE && !folder->session)
		return;
	/* What fails is logged, and tried again where that can help. */
	if (!folder->told || folder->doing != doing)
		ckpt_ignore(with_session(s, folder, tell, &doing));
	else if (doing != CKPT_SESSION_IDLE &&
		 now_ms - folder->kept_ms >= CKPT_SESSION_TOUCH_SECS * UINT64_C(1000))
		ckpt_ignore(with_session(s, folder, keep, NULL));
	else if (doing == CKPT_SESSION_IDLE && now_ms - folder->kept_ms >= CLOSE_MS)
		rest(s, folder);
}

static void tell_all(struct summing *s)
{
	count_all(s);
	for (struct sum_folder *f = s->folders; f; f = f->next) {
		if (!f->dropped)
			tell_one(s, f);
	}
}

/* --- folders that are gone ------------------------------------------------------------------- */

/* What is still to be summed may have moved elsewhere; what was, was told, or is not asked for. */
static fuse_ino_t leave_folder_locked(struct summing *s, struct sum_entry *entry)
{
	if (entry->state == SUM_SUMMED || entry->state == SUM_DONE || entry->state == SUM_FAILED)
		return summing_remove_locked(s, entry);
	summing_put_folder_locked(entry, NULL);
	entry->place_due = true;
	return 0;
}

static bool is_dropped(const struct sum_entry *entry, const void *ctx)
{
	(void)ctx;
	return entry->folder && entry->folder->dropped;
}

static void empty_dropped(struct summing *s)
{
	struct sum_picks picks = { .items = NULL };

	pthread_mutex_lock(&s->mu);
	/* Without memory for all, the rest comes next time. */
	for (int state = 0; state < SUM_STATES; state++)
		ckpt_ignore(summing_pick_locked(s, state, is_dropped, NULL, &picks));
	pthread_mutex_unlock(&s->mu);
	for (size_t i = 0; i < picks.count; i++) {
		struct sum_entry *entry;
		fuse_ino_t node = 0;

		pthread_mutex_lock(&s->mu);
		entry = summing_find_stint_locked(s, &picks.items[i]);
		if (entry)
			node = leave_folder_locked(s, entry);
		pthread_mutex_unlock(&s->mu);
		summing_forget(s, node);
	}
	free(picks.items);
}

static bool any_dropped(struct summing *s)
{
	bool any = false;

	pthread_mutex_lock(&s->mu);
	for (const struct sum_folder *f = s->folders; f; f = f->next)
		any = any || f->dropped;
	pthread_mutex_unlock(&s->mu);
	return any;
}

/* Take a folder that no entry refers to out of the list; NULL: there is none (left). */
static struct sum_folder *take_unused(struct summing *s)
{
	struct sum_folder **slot = &s->folders;
	struct sum_folder *folder;

	pthread_mutex_lock(&s->mu);
	while (*slot && (*slot)->entries > 0)
		slot = &(*slot)->next;
	folder = *slot;
	if (folder)
		*slot = folder->next;
	pthread_mutex_unlock(&s->mu);
	return folder;
}

static void tidy(struct summing *s)
{
	struct sum_folder *folder;

	if (any_dropped(s))
		empty_dropped(s);
	while ((folder = take_unused(s))) {
		close_session(folder);
		free(folder->name);
		free(folder);
	}
}

/* --- the thread ---------------------------------------------------------------------------- */

static void look(struct scribe *sc)
{
	place_all(sc);
	write_all(sc);
	tell_all(sc->s);
	tidy(sc->s);
}

/* When it is to look again if nobody asks for it. */
static uint64_t next_look_locked(const struct summing *s)
{
	uint64_t now_ms = ckpt_clock_mono_ms();

	for (int state = SUM_OPEN; state <= SUM_SUMMED; state++) {
		if (s->lists[state].count > 0)
			return now_ms + TICK_MS;
	}
	return s->folders ? now_ms + CLOSE_MS / 4 : UINT64_MAX;
}

void summing_scribe(struct summing *s)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	struct scribe sc = { .s = s };
	bool stopping;

	do {
		look(&sc);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&s->mu);
		if (!s->scribe_due && !s->stopping)
			summing_wait_locked(s, &s->kicked, next_look_locked(s));
		s->scribe_due = false;
		stopping = s->stopping;
		pthread_mutex_unlock(&s->mu);
	} while (!stopping);
	/* The workers have ended. */
	write_all(&sc);
	for (size_t i = 0; i < PLACES; i++) {
		free(sc.places[i].dir);
		free(sc.places[i].name);
	}
	for (struct sum_folder *f = s->folders; f; f = f->next)
		close_session(f);
}
