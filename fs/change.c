/*
 * change.c - see change.h.
 *
 * A freeze has to wait for the changes that began before it, and for no other: those that go on
 * elsewhere never stop. So changes are counted by two epochs: a freeze sends new ones to the other
 * count, and waits until the old one has run dry.
 */
#include "change.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"

struct freeze {
	struct freeze *next;
	char path[];
};

struct changes {
	pthread_mutex_t mu;
	pthread_cond_t quiet; /* a count came to 0, or a freeze has waited long enough */
	/* The rest is protected by mu. */
	struct freeze *first;
	uint64_t counts[2]; /* changes under way, by the epoch in which they began */
	unsigned int epoch; /* of those that begin now; the other count is 0 unless `waiting` */
	bool waiting;	    /* a freeze waits for the other count; the next one waits for it */
};

/* The changes that this thread is in. */
static _Thread_local struct {
	unsigned int depth;
	unsigned int epoch;
} held;

struct changes *changes_new(void)
{
	struct changes *changes = calloc(1, sizeof(*changes));

	if (!changes)
		return NULL;
	pthread_mutex_init(&changes->mu, NULL);
	pthread_cond_init(&changes->quiet, NULL);
	return changes;
}

void changes_free(struct changes *changes)
{
	struct freeze *next;

	if (!changes)
		return;
	for (struct freeze *freeze = changes->first; freeze; freeze = next) {
		next = freeze->next;
		free(freeze);
	}
	pthread_cond_destroy(&changes->quiet);
	pthread_mutex_destroy(&changes->mu);
	free(changes);
}

/* --- changes ------------------------------------------------------------------------------ */

/* Is any component of @path the name of a control folder? */
static bool names_control(const char *path)
{
	size_t len = strlen(CKPT_CONTROL_DIR);

	for (;;) {
		size_t component = strcspn(path, "/");

		if (component == len && memcmp(path, CKPT_CONTROL_DIR, len) == 0)
			return true;
		if (path[component] == '\0')
			return false;
		path += component + 1;
	}
}

/* The folder that @path is frozen by; NULL: it is not. */
static const char *frozen_by_locked(const struct changes *changes, const char *path)
{
	const struct freeze *freeze = changes->first;

	while (freeze && !ckpt_path_is_below(path, freeze->path))
		freeze = freeze->next;
	return freeze ? freeze->path : NULL;
}

int change_frozen_by(struct fs *fs, const char *path, struct ckpt_buf *out)
{
	const char *by;

	pthread_mutex_lock(&fs->changes->mu);
	by = frozen_by_locked(fs->changes, path);
	if (by)
		ckpt_buf_add_str(out, by);
	pthread_mutex_unlock(&fs->changes->mu);
	return by ? ckpt_buf_check(out) : -ENOENT;
}

static int enter(struct changes *changes, const char *path)
{
	int rc = 0;

	pthread_mutex_lock(&changes->mu);
	if (frozen_by_locked(changes, path)) {
		rc = -EBUSY;
	} else if (held.depth++ == 0) {
		held.epoch = changes->epoch;
		changes->counts[held.epoch]++;
	}
	pthread_mutex_unlock(&changes->mu);
	return rc;
}

void change_end(struct fs *fs)
{
	struct changes *changes = fs->changes;

	assert(held.depth > 0);
	if (--held.depth > 0)
		return;
	pthread_mutex_lock(&changes->mu);
	if (--changes->counts[held.epoch] == 0)
		pthread_cond_broadcast(&changes->quiet);
	pthread_mutex_unlock(&changes->mu);
}

/* What the disk says: others commit, too. */
static int ask_disk(struct fs *fs, const char *path)
{
	enum ckpt_guard guard = CKPT_GUARD_FREE;
	int rc = ckpt_guard_of(ckpt_store_fd(fs->store), path, &guard, NULL);

	if (rc < 0)
		return rc;
	switch (guard) {
	case CKPT_GUARD_COMMITTED:
		return -EROFS;
	case CKPT_GUARD_FROZEN:
		return -EBUSY;
	case CKPT_GUARD_FREE:
		break;
	}
	return 0;
}

int change_begin(struct fs *fs, const char *path)
{
	int rc;

	if (names_control(path))
		return -EPERM;
	rc = enter(fs->changes, path);
	if (rc < 0)
		return rc;
	rc = ask_disk(fs, path);
	if (rc < 0)
		change_end(fs);
	return rc;
}

/* --- freezes ------------------------------------------------------------------------------ */

static bool is_above_freeze_locked(const struct changes *changes, const char *path)
{
	const struct freeze *freeze = changes->first;

	while (freeze && !ckpt_path_is_below(freeze->path, path))
		freeze = freeze->next;
	return freeze != NULL;
}

bool change_is_above_freeze(struct fs *fs, const char *path)
{
	bool is_above;

	pthread_mutex_lock(&fs->changes->mu);
	is_above = is_above_freeze_locked(fs->changes, path);
	pthread_mutex_unlock(&fs->changes->mu);
	return is_above;
}

/* Wait for every change that began before now. */
static void drain_locked(struct changes *changes)
{
	unsigned int old;

	while (changes->waiting)
		pthread_cond_wait(&changes->quiet, &changes->mu);
	changes->waiting = true;
	old = changes->epoch;
	changes->epoch = 1 - old;
	while (changes->counts[old] > 0)
		pthread_cond_wait(&changes->quiet, &changes->mu);
	changes->waiting = false;
	pthread_cond_broadcast(&changes->quiet);
}

int change_freeze(struct fs *fs, const char *path)
{
	struct changes *changes = fs->changes;
	size_t size = strlen(path) + 1;
	struct freeze *freeze = malloc(sizeof(*freeze) + size);

	assert(held.depth == 0); /* it would wait for itself */
	if (!freeze)
		return -ENOMEM;
	memcpy(freeze->path, path, size);
	pthread_mutex_lock(&changes->mu);
	if (frozen_by_locked(changes, path) || is_above_freeze_locked(changes, path)) {
		pthread_mutex_unlock(&changes->mu);
		free(freeze);
		return -EBUSY;
	}
	freeze->next = changes->first;
	changes->first = freeze;
	drain_locked(changes);
	pthread_mutex_unlock(&changes->mu);
	return 0;
}

void change_thaw(struct fs *fs, const char *path)
{
	struct changes *changes = fs->changes;
	struct freeze **slot = &changes->first;
	struct freeze *freeze;

	pthread_mutex_lock(&changes->mu);
	while (*slot && strcmp((*slot)->path, path) != 0)
		slot = &(*slot)->next;
	freeze = *slot;
	assert(freeze);
	*slot = freeze->next;
	pthread_mutex_unlock(&changes->mu);
	free(freeze);
}
