/*
 * view_sources.c - files that bytes of views come from: opened when they are needed, no more than
 * so many at a time. See view_sources.h.
 */
#include "view/view_sources.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

/* Descriptors at a time: a quarter of the usual limit of a process. */
#define OPEN_MAX_COUNT 256

struct view_sources {
	const struct ckpt_views *views;
	char *label;
	int dirfd;
	int group_fd;
	pthread_mutex_t mu;
	pthread_cond_t released;
	struct view_source slots[OPEN_MAX_COUNT]; /* protected by mu, but what a pin keeps */
	size_t slot_count;			  /* protected by mu */
	uint64_t tick;				  /* protected by mu */
};

int ckpt_view_sources_new(const struct ckpt_views *views, const struct ckpt_views_from *from,
			  struct view_sources **out, struct ckpt_err *err)
{
	struct view_sources *sources = calloc(1, sizeof(*sources));

	if (!sources)
		return ckpt_err_sys(err, -ENOMEM, "cannot read views of '%s'", from->label);
	sources->views = views;
	sources->label = strdup(from->label);
	sources->dirfd = fcntl(from->dirfd, F_DUPFD_CLOEXEC, 0);
	sources->group_fd = from->group_fd < 0 ? -1 : fcntl(from->group_fd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_init(&sources->mu, NULL);
	pthread_cond_init(&sources->released, NULL);
	if (!sources->label || sources->dirfd < 0 ||
	    (from->group_fd >= 0 && sources->group_fd < 0)) {
		int rc = sources->label ? -errno : -ENOMEM;

		ckpt_view_sources_free(sources);
		return ckpt_err_sys(err, rc, "cannot read views of '%s'", from->label);
	}
	*out = sources;
	return 0;
}

static void close_slot(struct view_source *slot)
{
	if (slot->reader)
		ckpt_shard_reader_free(slot->reader);
	else if (slot->fd >= 0)
		close(slot->fd);
}

void ckpt_view_sources_free(struct view_sources *sources)
{
	if (!sources)
		return;
	for (size_t i = 0; i < sources->slot_count; i++)
		close_slot(&sources->slots[i]);
	if (sources->dirfd >= 0)
		close(sources->dirfd);
	if (sources->group_fd >= 0)
		close(sources->group_fd);
	pthread_mutex_destroy(&sources->mu);
	pthread_cond_destroy(&sources->released);
	free(sources->label);
	free(sources);
}

/* --- opening -------------------------------------------------------------------------------- */

static int stale(const struct view_sources *sources, const struct ckpt_view_source *info,
		 struct ckpt_err *err)
{
	return ckpt_err_set(err, -ESTALE,
			    "file '%s' of '%s' is no longer the file of %" PRIu64
			    " bytes that it was; look at the checkpoint anew",
			    info->path, sources->label, info->size_bytes);
}

int ckpt_view_source_check(struct view_sources *sources, struct view_source *slot,
			   struct view_stamp *out, struct ckpt_err *err)
{
	struct stat st;
	int rc = ckpt_io_fstat(slot->fd, &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s' of '%s'", slot->info.path,
				    sources->label);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != slot->info.size_bytes)
		return stale(sources, &slot->info, err);
	*out = (struct view_stamp){ .mtime = st.st_mtim, .ctime = st.st_ctim };
	return 0;
}

/* Into a slot that nobody else knows. */
static int open_slot(struct view_sources *sources, uint32_t source, struct view_source *slot,
		     struct ckpt_err *err)
{
	struct view_stamp stamp;
	int rc;

	*slot = (struct view_source){ .idx = source, .fd = -1 };
	ckpt_views_source(sources->views, source, &slot->info);
	if (slot->info.shard) {
		rc = ckpt_shard_reader_open(sources->dirfd, sources->label, slot->info.shard,
					    &slot->reader, err);
		if (rc == 0)
			slot->fd = ckpt_shard_reader_fd(slot->reader, NULL);
		return rc;
	}
	slot->fd = ckpt_io_open_beneath(slot->info.is_outside ? sources->group_fd : sources->dirfd,
					slot->info.path, O_RDONLY | O_NONBLOCK, 0);
	if (slot->fd == -ENOENT)
		return stale(sources, &slot->info, err);
	if (slot->fd < 0)
		return ckpt_err_sys(err, slot->fd, "cannot open '%s' of '%s'", slot->info.path,
				    sources->label);
	rc = ckpt_view_source_check(sources, slot, &stamp, err);
	if (rc < 0)
		close_slot(slot);
	return rc;
}

/* --- slots ---------------------------------------------------------------------------------- */

static struct view_source *find_locked(struct view_sources *sources, uint32_t source)
{
	for (size_t i = 0; i < sources->slot_count; i++) {
		if (sources->slots[i].idx == source)
			return &sources->slots[i];
	}
	return NULL;
}

/* A slot to be filled: a new one, or the one unused longest; waits while all are in use. */
static struct view_source *free_slot_locked(struct view_sources *sources)
{
	for (;;) {
		struct view_source *oldest = NULL;

		if (sources->slot_count < OPEN_MAX_COUNT)
			return &sources->slots[sources->slot_count++];
		for (size_t i = 0; i < OPEN_MAX_COUNT; i++) {
			struct view_source *slot = &sources->slots[i];

			if (slot->pins == 0 && (!oldest || slot->used < oldest->used))
				oldest = slot;
		}
		if (oldest) {
			close_slot(oldest);
			return oldest;
		}
		pthread_cond_wait(&sources->released, &sources->mu);
	}
}

static struct view_source *pin_locked(struct view_sources *sources, struct view_source *slot)
{
	slot->pins++;
	slot->used = ++sources->tick;
	return slot;
}

int ckpt_view_source_get(struct view_sources *sources, uint32_t source, struct view_source **out,
			 struct ckpt_err *err)
{
	struct view_source opened;
	struct view_source *slot;
	int rc;

	pthread_mutex_lock(&sources->mu);
	slot = find_locked(sources, source);
	if (slot)
		*out = pin_locked(sources, slot);
	pthread_mutex_unlock(&sources->mu);
	if (slot)
		return 0;
	rc = open_slot(sources, source, &opened, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&sources->mu);
	slot = free_slot_locked(sources);
	*slot = opened;
	*out = pin_locked(sources, slot);
	pthread_mutex_unlock(&sources->mu);
	return 0;
}

void ckpt_view_source_put(struct view_sources *sources, struct view_source *slot)
{
	pthread_mutex_lock(&sources->mu);
	assert(slot->pins > 0);
	slot->pins--;
	pthread_cond_signal(&sources->released);
	pthread_mutex_unlock(&sources->mu);
}

const char *ckpt_view_sources_label(const struct view_sources *sources)
{
	return sources->label;
}
