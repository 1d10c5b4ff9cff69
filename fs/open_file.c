/* open_file.c - see open_file.h. */
#include "open_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "block_cache.h"
#include "control_dir.h"
#include "node.h"
#include "plain.h"

/* Chains of the table, a power of two: opens are hundreds, not millions. */
#define CHAINS 256U

struct open_files {
	pthread_mutex_t mu;
	pthread_cond_t opened; /* some file's `opening` ended */
	/* The rest is protected by mu. */
	struct open_file *chains[CHAINS];
	uint64_t last_id;
};

struct open_files *open_files_new(void)
{
	struct open_files *files = calloc(1, sizeof(*files));

	if (!files)
		return NULL;
	pthread_mutex_init(&files->mu, NULL);
	pthread_cond_init(&files->opened, NULL);
	return files;
}

static void release(struct open_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	committed_shard_release(&file->shard);
	ckpt_buf_release(&file->text);
	free(file);
}

void open_files_free(struct open_files *files)
{
	struct open_file *next;

	if (!files)
		return;
	/* What the kernel had open when the mount was taken away. */
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct open_file *file = files->chains[i]; file; file = next) {
			next = file->next;
			release(file);
		}
	}
	pthread_cond_destroy(&files->opened);
	pthread_mutex_destroy(&files->mu);
	free(files);
}

/* --- opening a node ------------------------------------------------------------------------------ */

static int open_plain(struct fs *fs, struct open_file *file)
{
	struct stat st;
	int fd = plain_open(fs, file->ino, O_RDONLY, NULL, &st);

	if (fd < 0)
		return fd;
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return S_ISDIR(st.st_mode) ? -EISDIR : -ESTALE;
	}
	file->content = CONTENT_STORED;
	file->fd = fd;
	return 0;
}

static int open_committed(struct fs *fs, struct open_file *file)
{
	int rc = committed_shard_open(fs, file->ino, &file->shard);

	file->content = CONTENT_SHARD;
	file->is_virtual = file->shard.shard.pack != NULL;
	file->keep_cache = true;
	return rc;
}

static int open_control(struct fs *fs, struct open_file *file)
{
	file->is_virtual = true;
	file->is_control = true;
	file->direct_io = control_is_live(file->ino);
	/* Of a checkpoint or of this daemon: the same for as long as the node is. */
	file->keep_cache = !file->direct_io && node_kind(file->ino) != VIRTUAL_STORE_JSON;
	if (control_is_stored(file->ino)) {
		file->content = CONTENT_STORED;
		return control_open_stored(fs, file->ino, &file->fd);
	}
	file->content = CONTENT_TEXT;
	return control_text(fs, file->ino, &file->text);
}

/* The one place that decides what a node's bytes are and what the kernel may do with them. */
static int node_open(struct fs *fs, struct open_file *file)
{
	switch (node_class(file->ino)) {
	case NODE_COMMITTED:
		return open_committed(fs, file);
	case NODE_VIRTUAL:
		return open_control(fs, file);
	case NODE_PLAIN:
		break;
	}
	return open_plain(fs, file);
}

/* --- the table --------------------------------------------------------------------------------------- */

static struct open_file **chain_of(struct open_files *files, fuse_ino_t ino)
{
	return &files->chains[(ino ^ ino >> 32) % CHAINS];
}

static struct open_file *find_locked(struct open_files *files, fuse_ino_t ino)
{
	struct open_file *file = *chain_of(files, ino);

	while (file && file->ino != ino)
		file = file->next;
	return file;
}

static struct open_file *add_locked(struct open_files *files, fuse_ino_t ino, bool shared)
{
	struct open_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->ino = ino;
	file->id = ++files->last_id;
	file->fd = -1;
	file->refs = 1;
	file->opening = true;
	ckpt_buf_init(&file->text);
	if (shared) {
		struct open_file **chain = chain_of(files, ino);

		file->next = *chain;
		*chain = file;
		file->shared = true;
	}
	return file;
}

static void unlink_locked(struct open_files *files, struct open_file *file)
{
	struct open_file **slot = chain_of(files, file->ino);

	if (!file->shared)
		return;
	while (*slot != file)
		slot = &(*slot)->next;
	*slot = file->next;
	file->shared = false;
}

/* Give up one reference; true: it was the last one, release it without the lock. */
static bool unref_locked(struct open_files *files, struct open_file *file)
{
	assert(file->refs > 0);
	if (--file->refs > 0)
		return false;
	unlink_locked(files, file);
	return true;
}

void open_file_hold(struct fs *fs, struct open_file *file)
{
	pthread_mutex_lock(&fs->open_files->mu);
	file->refs++;
	pthread_mutex_unlock(&fs->open_files->mu);
}

void open_file_put(struct fs *fs, struct open_file *file)
{
	struct open_files *files = fs->open_files;
	bool last;

	pthread_mutex_lock(&files->mu);
	last = unref_locked(files, file);
	pthread_mutex_unlock(&files->mu);
	if (!last)
		return;
	if (file->content == CONTENT_SHARD)
		block_cache_drop(fs, file->id);
	release(file);
}

/* Someone has it open, or is opening it. */
static int share_locked(struct open_files *files, struct open_file *file)
{
	file->refs++;
	while (file->opening)
		pthread_cond_wait(&files->opened, &files->mu);
	return file->rc;
}

static void settle(struct open_files *files, struct open_file *file, int rc)
{
	pthread_mutex_lock(&files->mu);
	file->opening = false;
	file->rc = rc;
	/* A failure is for those who wait now; who comes later tries again. */
	if (rc < 0)
		unlink_locked(files, file);
	pthread_cond_broadcast(&files->opened);
	pthread_mutex_unlock(&files->mu);
}

int open_file_get(struct fs *fs, fuse_ino_t ino, struct open_file **out)
{
	bool shared = node_class(ino) != NODE_VIRTUAL || !control_is_live(ino);
	struct open_files *files = fs->open_files;
	struct open_file *file;
	bool found;
	int rc = 0;

	pthread_mutex_lock(&files->mu);
	file = shared ? find_locked(files, ino) : NULL;
	found = file != NULL;
	if (found)
		rc = share_locked(files, file);
	else
		file = add_locked(files, ino, shared);
	pthread_mutex_unlock(&files->mu);
	if (!file)
		return -ENOMEM;
	if (!found) {
		rc = node_open(fs, file);
		settle(files, file, rc);
	}
	if (rc < 0)
		open_file_put(fs, file);
	else
		*out = file;
	return rc;
}

/* What is open of a node now; NULL: nothing. */
static struct open_file *find_open(struct open_files *files, fuse_ino_t ino)
{
	struct open_file *file;

	pthread_mutex_lock(&files->mu);
	file = find_locked(files, ino);
	if (file && file->opening)
		file = NULL;
	if (file)
		file->refs++;
	pthread_mutex_unlock(&files->mu);
	return file;
}

int open_file_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct open_file *file = find_open(fs->open_files, ino);
	int rc;

	if (!file)
		return -ESTALE;
	rc = file->content == CONTENT_STORED ? ckpt_io_fstat(file->fd, out) : -ESTALE;
	if (rc == 0)
		plain_show(fs, out);
	open_file_put(fs, file);
	return rc;
}
