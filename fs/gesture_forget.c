/*
 * gesture_forget.c - names that the kernel is to ask for again.
 *
 * The kernel takes the lock of the parent folder for that, which it also holds while a rename or a
 * look-up there is being answered: so it is told by a thread that nobody waits for. After a rename
 * it is told when the reply has gone out, by itself.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "gesture.h"
#include "inode.h"

struct name {
	struct name *next;
	char path[];
};

/* One mount a process. */
static struct {
	pthread_mutex_t mu;
	pthread_cond_t wake;
	pthread_t thread;
	/* Protected by mu. */
	struct name *first;
	struct name **last;
	bool running;
	bool stopping;
} queue = { .mu = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

/* The plain node of a folder; 0: the kernel holds none. */
static fuse_ino_t node_of_folder(struct fs *fs, const char *path)
{
	struct stat st;
	CKPT_CLOSE int fd = -1;

	if (*path == '\0')
		return FUSE_ROOT_ID;
	fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), path, O_PATH | O_DIRECTORY, 0);
	if (fd < 0 || ckpt_io_fstat(fd, &st) < 0)
		return 0;
	return inode_find(fs->inodes, &st);
}

/* The node of the folder that @path lies in; 0: the kernel holds none. */
static fuse_ino_t node_above(struct fs *fs, const char *path)
{
	const char *base = ckpt_path_basename(path);
	CKPT_FREE char *above = strdup(path);

	if (!above || *path == '\0')
		return 0;
	above[base == path ? 0 : (size_t)(base - path) - 1] = '\0';
	return node_of_folder(fs, above);
}

void gesture_relocate(struct fs *fs, const char *path)
{
	fuse_ino_t parent = node_above(fs, path);
	struct stat st;
	CKPT_CLOSE int fd = ckpt_io_open_beneath(ckpt_store_fd(fs->store), path, O_PATH, 0);

	if (parent != 0 && fd >= 0 && ckpt_io_fstat(fd, &st) == 0)
		inode_relocate(fs->inodes, parent, ckpt_path_basename(path), &st);
}

void gesture_forget_now(struct fs *fs, const char *path)
{
	const char *base = ckpt_path_basename(path);
	fuse_ino_t parent;

	/*
	 * The kernel may have to wait for a look-up in that folder, which nobody answers at the
	 * end.
	 */
	if (fs->ending)
		return;
	parent = node_above(fs, path);
	if (parent == 0)
		return;
	gesture_relocate(fs, path);
	/* It fails where the kernel does not know the name: then there is nothing to forget. */
	ckpt_ignore(fuse_lowlevel_notify_inval_entry(fs->session, parent, base, strlen(base)));
}

/* --- the thread ------------------------------------------------------------------------------ */

static struct name *next_name(void)
{
	struct name *name;

	pthread_mutex_lock(&queue.mu);
	while (!queue.first && !queue.stopping)
		pthread_cond_wait(&queue.wake, &queue.mu);
	name = queue.first;
	if (name)
		queue.first = name->next;
	if (!queue.first)
		queue.last = &queue.first;
	pthread_mutex_unlock(&queue.mu);
	return name;
}

static void *forget_main(void *arg)
{
	struct name *name;

	while ((name = next_name())) {
		gesture_forget_now(arg, name->path);
		free(name);
	}
	return NULL;
}

static bool start_locked(struct fs *fs)
{
	sigset_t all;
	sigset_t old;

	if (queue.running || queue.stopping)
		return queue.running;
	queue.last = &queue.first;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	queue.running = pthread_create(&queue.thread, NULL, forget_main, fs) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return queue.running;
}

void gesture_forget_name(struct fs *fs, const char *path)
{
	size_t size = strlen(path) + 1;
	struct name *name = malloc(sizeof(*name) + size);

	/* What cannot be told shows within a second by itself. */
	if (!name)
		return;
	name->next = NULL;
	memcpy(name->path, path, size);
	pthread_mutex_lock(&queue.mu);
	if (start_locked(fs)) {
		*queue.last = name;
		queue.last = &name->next;
		name = NULL;
		pthread_cond_signal(&queue.wake);
	}
	pthread_mutex_unlock(&queue.mu);
	free(name);
}

void gesture_stop(void)
{
	bool running;

	pthread_mutex_lock(&queue.mu);
	queue.stopping = true;
	running = queue.running;
	pthread_cond_signal(&queue.wake);
	pthread_mutex_unlock(&queue.mu);
	if (running)
		pthread_join(queue.thread, NULL);
}
