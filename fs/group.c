/* group.c - see group.h. */
#include "group.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

/* Groups remembered: a power of two. A store of more asks more often. */
#define GROUPS_KEPT 256U
/* As long as the kernel keeps a live name. */
#define ASK_AGAIN_MS 900U

struct group {
	char *path;   /* NULL: unused */
	char *latest; /* name below the store; NULL: nothing is committed */
	uint64_t asked_ms;
};

struct groups {
	pthread_mutex_t mu;
	struct group kept[GROUPS_KEPT]; /* protected by mu */
};

struct groups *groups_new(void)
{
	struct groups *groups = calloc(1, sizeof(*groups));

	if (groups)
		pthread_mutex_init(&groups->mu, NULL);
	return groups;
}

static void release(struct group *group)
{
	free(group->path);
	free(group->latest);
	*group = (struct group){ 0 };
}

void groups_expire(struct groups *groups)
{
	pthread_mutex_lock(&groups->mu);
	for (size_t i = 0; i < GROUPS_KEPT; i++)
		release(&groups->kept[i]);
	pthread_mutex_unlock(&groups->mu);
}

void groups_free(struct groups *groups)
{
	if (!groups)
		return;
	groups_expire(groups);
	pthread_mutex_destroy(&groups->mu);
	free(groups);
}

static struct group *place_of(struct groups *groups, const char *path)
{
	return &groups->kept[ckpt_hash64(path, strlen(path)) % GROUPS_KEPT];
}

/*
 * What is remembered and fresh: true; *@out is a copy of the name, NULL where nothing is
 * committed.
 */
static bool recall(struct groups *groups, const char *path, char **out)
{
	const struct group *group = place_of(groups, path);
	bool fresh;

	pthread_mutex_lock(&groups->mu);
	fresh = group->path && strcmp(group->path, path) == 0 &&
		ckpt_clock_mono_ms() - group->asked_ms < ASK_AGAIN_MS;
	*out = fresh && group->latest ? strdup(group->latest) : NULL;
	fresh = fresh && (*out || !group->latest);
	pthread_mutex_unlock(&groups->mu);
	return fresh;
}

/*
 * Something is committed as @latest, so no group on the way to it may be remembered as empty: with
 * -o ro it would be hidden, and `latest` lead nowhere for as long as that is fresh.
 */
static void forget_empty_locked(struct groups *groups, const char *latest)
{
	char *way = strdup(latest);

	for (char *slash = way ? strrchr(way, '/') : NULL; slash; slash = strrchr(way, '/')) {
		struct group *group;

		*slash = '\0';
		group = place_of(groups, way);
		if (group->path && !group->latest && strcmp(group->path, way) == 0)
			release(group);
	}
	free(way);
}

/* Remember an answer; without memory it is asked for again. */
static void remember(struct groups *groups, const char *path, const char *latest)
{
	struct group *group = place_of(groups, path);

	pthread_mutex_lock(&groups->mu);
	if (latest)
		forget_empty_locked(groups, latest);
	release(group);
	group->path = strdup(path);
	group->latest = latest ? strdup(latest) : NULL;
	group->asked_ms = ckpt_clock_mono_ms();
	if (latest && !group->latest)
		release(group);
	pthread_mutex_unlock(&groups->mu);
}

static int ask(struct fs *fs, const char *path, char **out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	rc = ckpt_store_latest(fs->store, path, &name, &err);
	if (rc == 0) {
		*out = ckpt_buf_steal(&name);
		rc = *out ? 0 : -ENOMEM;
	} else if (rc == -ENOENT) {
		*out = NULL;
		rc = 0;
	} else {
		fs_log_once("%s", err.msg);
	}
	ckpt_buf_release(&name);
	if (rc == 0)
		remember(fs->groups, path, *out);
	return rc;
}

int group_latest(struct fs *fs, const char *path, struct ckpt_buf *out)
{
	char *latest = NULL;
	size_t skip = *path ? strlen(path) + 1 : 0;
	int rc = 0;

	if (!recall(fs->groups, path, &latest))
		rc = ask(fs, path, &latest);
	if (rc == 0 && (!latest || strlen(latest) <= skip))
		rc = -ENOENT;
	if (rc == 0) {
		ckpt_buf_add_str(out, latest + skip);
		rc = ckpt_buf_check(out);
	}
	free(latest);
	return rc;
}
