/*
 * store_index.c - where the index of a store lies, and opening it.
 *
 * The index is opened at the first need. When its file was deleted, replaced or
 * found damaged it is opened anew: the old handle is retired, and freed when its
 * last borrower has given it back. When it cannot be written (no space, turned
 * read-only) the next place is taken: the store's control folder, the user's
 * cache, memory. An index that was opened anew gets the header of every
 * checkpoint before others see it, so that the slots by which the mount knows
 * its inodes are found again.
 *
 * Locks: one mutex here. It is held while a database is opened (rare, and all
 * others need that database), never during a call of a borrower.
 */
#include "store/store_index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"

/* The store's own folder, the user's cache, memory. */
#define PLACE_MAX 3
/* Connections for reading: more threads than this wait a few microseconds for each other. */
#define READER_MAX 8
/* How long a deleted index may go unnoticed. */
#define ALIVE_CHECK_MS 200
/*
 * Opening anew and moving elsewhere: each place can fail once, and a damaged file be replaced
 * once.
 */
#define TRIES_MAX (PLACE_MAX + 1)

static const char cache_of_root[] = "/var/cache/ckptfs";
static const char in_memory[] = ":memory:";

struct place {
	char *path;	    /* as SQLite gets it */
	char *shown;	    /* as people get it */
	char *private_dir;  /* folder to be made for it; NULL: it is there */
	const char *reason; /* why it is not in the store; "" in the store */
};

/* An open database and who uses it. */
struct handle {
	struct ckpt_db *db;
	unsigned int users;
	struct handle *next; /* of the retired */
};

struct ckpt_index {
	struct ckpt_store *store; /* borrowed: the store owns us */
	struct place places[PLACE_MAX];
	size_t place_count;
	pthread_mutex_t mu;
	pthread_cond_t refilled;
	/* All below is protected by mu. */
	size_t place_idx;
	struct handle *current; /* NULL until needed */
	struct handle *retired;
	uint64_t checked_ms;
	bool opened_once;
	bool refilling;
	pthread_t refiller; /* valid while refilling */
};

/* --- where ---------------------------------------------------------------------- */

static void place_release(struct place *place)
{
	free(place->path);
	free(place->shown);
	free(place->private_dir);
}

/*
 * Takes ownership of the three strings, also on failure; NULL for one that there is no memory for.
 */
static int add_place(struct ckpt_index *index, struct place place)
{
	assert(index->place_count < PLACE_MAX);
	if (!place.path || !place.shown) {
		place_release(&place);
		return -ENOMEM;
	}
	index->places[index->place_count++] = place;
	return 0;
}

/* "@dir/@name" as a heap string; NULL: no memory. */
static char *join(const char *dir, const char *name)
{
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	ckpt_path_join(&path, dir, name);
	return ckpt_buf_steal(&path);
}

/* Why the store's own folder will not do; NULL if it will. */
static const char *store_is_unfit(const struct ckpt_store *store)
{
	CKPT_CLOSE int control =
		ckpt_io_open_beneath(store->fd, CKPT_CONTROL_DIR, O_PATH | O_DIRECTORY, 0);
	bool network = true;

	if (ckpt_store_is_bare(store))
		return "the folder is no store, and nothing is written into it";
	if (control < 0)
		return "its control folder cannot be opened";
	if (ckpt_io_is_network_fs(control, &network) < 0 || network)
		return "the store lies on a network or FUSE file system";
	return store->read_only ? "the store cannot be written" : NULL;
}

static int add_store_place(struct ckpt_index *index)
{
	const char *in_store = CKPT_CONTROL_DIR "/index.db";
	struct ckpt_buf path;

	/*
	 * By descriptor: a mount may cover the store's path, and the daemon must not wait for
	 * itself.
	 */
	ckpt_buf_init(&path);
	ckpt_buf_printf(&path, "/proc/self/fd/%d/%s", index->store->fd, in_store);
	return add_place(index, (struct place){ .path = ckpt_buf_steal(&path),
						.shown = join(index->store->path, in_store),
						.reason = "" });
}

/*
 * The folder for caches of this user; NULL when there is none (or no memory: then there is no
 * cache).
 */
static char *cache_dir(void)
{
	const char *xdg = secure_getenv("XDG_CACHE_HOME");
	const char *home = secure_getenv("HOME");

	if (geteuid() == 0)
		return strdup(cache_of_root);
	/* XDG Base Directory Specification: a relative one is ignored. */
	if (xdg && xdg[0] == '/')
		return join(xdg, "ckptfs");
	if (home && home[0] == '/')
		return join(home, ".cache/ckptfs");
	return NULL;
}

static int add_cache_place(struct ckpt_index *index, const char *reason)
{
	struct place place = { .reason = reason, .private_dir = cache_dir() };
	struct ckpt_buf path;

	if (!place.private_dir)
		return 0;
	ckpt_buf_init(&path);
	ckpt_buf_printf(&path, "%s/%s.db", place.private_dir, index->store->id);
	place.path = ckpt_buf_steal(&path);
	place.shown = place.path ? strdup(place.path) : NULL;
	return add_place(index, place);
}

static int plan(struct ckpt_index *index, const char *index_path)
{
	const char *reason = NULL;
	int rc = 0;

	if (index_path)
		return add_place(index, (struct place){ .path = strdup(index_path),
							.shown = strdup(index_path),
							.reason = "another place was asked for" });
	reason = store_is_unfit(index->store);
	if (!reason)
		rc = add_store_place(index);
	if (rc == 0)
		rc = add_cache_place(index, reason ? reason : "");
	if (rc == 0)
		rc = add_place(index, (struct place){ .path = strdup(in_memory),
						      .shown = strdup(in_memory),
						      .reason = reason ? reason : "" });
	return rc;
}

int ckpt_index_new(struct ckpt_store *store, const char *index_path, struct ckpt_index **out,
		   struct ckpt_err *err)
{
	struct ckpt_index *index = calloc(1, sizeof(*index));
	int rc = -ENOMEM;

	if (index) {
		index->store = store;
		/* Neither can fail on Linux with default attributes. */
		ckpt_ignore(pthread_mutex_init(&index->mu, NULL));
		ckpt_ignore(pthread_cond_init(&index->refilled, NULL));
		rc = plan(index, index_path);
	}
	if (rc < 0) {
		ckpt_index_free(index);
		return ckpt_err_sys(err, rc, "cannot open the store '%s'", store->path);
	}
	*out = index;
	return 0;
}

const char *ckpt_index_place(struct ckpt_index *index, const char **out_reason)
{
	const struct place *place;

	pthread_mutex_lock(&index->mu);
	place = &index->places[index->place_idx];
	if (out_reason)
		*out_reason = place->reason;
	pthread_mutex_unlock(&index->mu);
	/* Places live as long as the index, reasons for ever. */
	return place->shown;
}

/* --- opening -------------------------------------------------------------------- */

/* Make a private folder and those above it. */
static int make_private_dirs(const char *path)
{
	CKPT_FREE char *copy = strdup(path);
	char *slash = copy;
	int rc = 0;

	if (!copy)
		return -ENOMEM;
	while (rc == 0 && slash) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		rc = ckpt_io_mkdirat(AT_FDCWD, copy, 0700);
		/* What is no folder is found out by the next, or by who opens a file in it. */
		if (rc == -EEXIST || rc == -EROFS || rc == -EACCES)
			rc = 0;
		if (slash)
			*slash = '/';
	}
	return rc;
}

/* The user's cache may lie on a network file system, too. */
static int prepare_place(const struct place *place, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	bool network = false;
	int rc;

	if (!place->private_dir)
		return 0;
	rc = make_private_dirs(place->private_dir);
	if (rc == 0)
		rc = fd = ckpt_io_openat(AT_FDCWD, place->private_dir, O_PATH | O_DIRECTORY, 0);
	if (rc >= 0)
		rc = ckpt_io_is_network_fs(fd, &network);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot use the folder '%s' for the index",
				    place->private_dir);
	if (network)
		return ckpt_err_set(err, -EACCES,
				    "'%s' lies on a network file system, where no index may lie",
				    place->private_dir);
	return 0;
}

static const char *reason_of(int rc)
{
	switch (rc) {
	case -EROFS:
	case -EACCES:
	case -EPERM:
		return "the index in the store cannot be written";
	case -ENOSPC:
	case -EDQUOT:
		return "no space is left for it in the store";
	default:
		return "the index in the store cannot be opened";
	}
}

/* Go to the next place, because of @rc; false when there is none. */
static bool move_on_locked(struct ckpt_index *index, int rc)
{
	struct place *next;

	if (index->place_idx + 1 >= index->place_count)
		return false;
	next = &index->places[++index->place_idx];
	if (next->reason[0] == '\0')
		next->reason = reason_of(rc);
	return true;
}

static int open_handle_locked(struct ckpt_index *index, struct ckpt_err *err)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	struct ckpt_err why;
	int rc;

	if (!handle)
		return ckpt_err_sys(err, -ENOMEM, "cannot open the index");
	do {
		const struct place *place = &index->places[index->place_idx];
		/*
		 * Fresh or not, the rows are compared with the manifests when they are asked for.
		 */
		bool fresh;

		rc = prepare_place(place, &why);
		if (rc == 0)
			rc = ckpt_db_open(place->path, index->store->id, READER_MAX, &handle->db,
					  &fresh, &why);
	} while (rc < 0 && rc != -ENOMEM && move_on_locked(index, rc));
	if (rc < 0) {
		free(handle);
		return ckpt_err_set(err, rc, "%s", why.msg);
	}
	index->current = handle;
	index->checked_ms = ckpt_clock_mono_ms();
	return 0;
}

/* Nobody new gets the current handle. Returns it when it can be freed at once. */
static struct handle *retire_locked(struct ckpt_index *index)
{
	struct handle *handle = index->current;

	index->current = NULL;
	if (handle->users == 0)
		return handle;
	handle->next = index->retired;
	index->retired = handle;
	return NULL;
}

static void handle_free(struct handle *handle)
{
	if (!handle)
		return;
	ckpt_db_free(handle->db);
	free(handle);
}

/*
 * Is the file still the one we have open? Asked now and then; between, a deleted index merely
 * answers a little longer.
 */
static bool is_stale_locked(struct ckpt_index *index)
{
	uint64_t now_ms;

	if (!index->current)
		return false;
	now_ms = ckpt_clock_mono_ms();
	if (now_ms - index->checked_ms < ALIVE_CHECK_MS)
		return false;
	index->checked_ms = now_ms;
	return ckpt_db_alive(index->current->db) == -ESTALE;
}

static void refill(struct ckpt_index *index)
{
	struct ckpt_err why;

	/* What cannot be read now is looked up when it is asked for, and told then. */
	ckpt_ignore(ckpt_store_walk(index->store, "", NULL, NULL, &why));
	pthread_mutex_lock(&index->mu);
	index->refilling = false;
	pthread_cond_broadcast(&index->refilled);
	pthread_mutex_unlock(&index->mu);
}

static bool refilled_by_other_locked(const struct ckpt_index *index)
{
	return index->refilling && !pthread_equal(index->refiller, pthread_self());
}

/* The current handle, opened if need be; *@out_refill: the caller is to fill it. */
static int get_locked(struct ckpt_index *index, struct ckpt_db **out, bool *out_refill,
		      struct ckpt_err *err)
{
	int rc;

	if (!index->current) {
		rc = open_handle_locked(index, err);
		if (!index->current)
			return rc;
		/* At the first opening whoever needs more than one look-up walks anyway. */
		*out_refill = index->opened_once && !index->refilling;
		index->opened_once = true;
	}
	if (*out_refill) {
		index->refilling = true;
		index->refiller = pthread_self();
	}
	index->current->users++;
	*out = index->current->db;
	return 0;
}

int ckpt_store_db_get(struct ckpt_store *store, struct ckpt_db **out, struct ckpt_err *err)
{
	struct ckpt_index *index = store->index;
	struct handle *stale = NULL;
	bool must_refill = false;
	int rc;

	if (!index)
		return ckpt_err_set(err, -ENXIO, "the store '%s' was opened without its index",
				    store->path);
	pthread_mutex_lock(&index->mu);
	while (refilled_by_other_locked(index))
		pthread_cond_wait(&index->refilled, &index->mu);
	if (is_stale_locked(index))
		stale = retire_locked(index);
	rc = get_locked(index, out, &must_refill, err);
	pthread_mutex_unlock(&index->mu);
	handle_free(stale);
	if (must_refill)
		refill(index);
	return rc;
}

/* Take a retired handle without users off its list; NULL unless @db is one. */
static struct handle *unlink_unused_locked(struct ckpt_index *index, const struct ckpt_db *db)
{
	for (struct handle **at = &index->retired; *at; at = &(*at)->next) {
		struct handle *handle = *at;

		if (handle->db != db)
			continue;
		if (--handle->users > 0)
			return NULL;
		*at = handle->next;
		return handle;
	}
	assert(!"a database that was not borrowed here");
	return NULL;
}

void ckpt_store_db_put(struct ckpt_store *store, struct ckpt_db *db)
{
	struct ckpt_index *index = store->index;
	struct handle *unused = NULL;

	pthread_mutex_lock(&index->mu);
	if (index->current && index->current->db == db)
		index->current->users--;
	else
		unused = unlink_unused_locked(index, db);
	pthread_mutex_unlock(&index->mu);
	handle_free(unused);
}

void ckpt_index_free(struct ckpt_index *index)
{
	if (!index)
		return;
	assert(!index->retired);
	handle_free(index->current);
	pthread_cond_destroy(&index->refilled);
	pthread_mutex_destroy(&index->mu);
	for (size_t i = 0; i < index->place_count; i++)
		place_release(&index->places[i]);
	free(index);
}

/* --- using ---------------------------------------------------------------------- */

static bool is_out_of_room(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS;
}

/* Damaged, deleted or given to another store: opened anew it will do. */
static bool is_worn_out(const struct ckpt_db *db, int rc)
{
	/* The database alone knows whether it, or what was looked up in it, is stale. */
	return rc == -EUCLEAN || (rc == -ESTALE && ckpt_db_alive(db) == -ESTALE);
}

/* Is there another index to try after @db answered @rc? */
static bool replace(struct ckpt_index *index, const struct ckpt_db *db, int rc)
{
	struct handle *unused = NULL;
	bool worn_out = is_worn_out(db, rc);
	bool again = true;

	if (!worn_out && !is_out_of_room(rc))
		return false;
	pthread_mutex_lock(&index->mu);
	/* Somebody else may have replaced it already. */
	if (index->current && index->current->db == db) {
		again = worn_out || move_on_locked(index, rc);
		if (again)
			unused = retire_locked(index);
	}
	pthread_mutex_unlock(&index->mu);
	handle_free(unused);
	return again;
}

/* What is called with the index. */
struct job {
	int (*fn)(void *ctx, struct ckpt_db *db, struct ckpt_err *err);
	void *ctx;
	bool writes;
};

static int run_once(struct ckpt_db *db, const struct job *job, struct ckpt_err *err)
{
	int rc;

	if (!job->writes)
		return job->fn(job->ctx, db, err);
	rc = ckpt_db_begin(db, err);
	if (rc < 0)
		return rc;
	rc = job->fn(job->ctx, db, err);
	if (rc >= 0) {
		int commit_rc = ckpt_db_commit(db, err);

		return commit_rc < 0 ? commit_rc : rc;
	}
	ckpt_db_rollback(db);
	return rc;
}

static int run(struct ckpt_store *store, const struct job *job, struct ckpt_err *err)
{
	/* Not into @err at once: a message of a try that was mended must not stay. */
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = 0;

	for (int tries = 0; tries < TRIES_MAX; tries++) {
		struct ckpt_db *db = NULL;
		bool again;

		rc = ckpt_store_db_get(store, &db, &why);
		if (rc < 0)
			break;
		rc = run_once(db, job, &why);
		again = replace(store->index, db, rc);
		ckpt_store_db_put(store, db);
		if (!again)
			break;
	}
	return rc < 0 ? ckpt_err_set(err, rc, "%s", why.msg) : rc;
}

int ckpt_index_read(struct ckpt_store *store,
		    int (*fn)(void *ctx, struct ckpt_db *db, struct ckpt_err *err), void *ctx,
		    struct ckpt_err *err)
{
	return run(store, &(struct job){ .fn = fn, .ctx = ctx }, err);
}

int ckpt_index_write(struct ckpt_store *store,
		     int (*fn)(void *ctx, struct ckpt_db *db, struct ckpt_err *err), void *ctx,
		     struct ckpt_err *err)
{
	return run(store, &(struct job){ .fn = fn, .ctx = ctx, .writes = true }, err);
}
