/* open_file.c - see open_file.h. */
#include "open_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "block_cache.h"
#include "control_dir.h"
#include "node.h"
#include "passthrough.h"
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
	if (file->backing_id > 0)
		passthrough_backing_close(file->backing_id);
	if (file->fd >= 0)
		close(file->fd);
	committed_shard_unref(file->shard);
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

/* --- opening a node ----------------------------------------------------------------------- */

/* Have the kernel read a stored file by itself, if it will; else it is read here. */
static void hand_over(struct fs *fs, struct open_file *file, int fd)
{
	int rc;

	if (!passthrough_active())
		return;
	rc = passthrough_backing_open(fd, &file->backing_id);
	if (rc < 0)
		fs_log_once(
			"passthrough: the kernel does not take a file of '%s' (error %d); it is read through "
			"the daemon",
			ckpt_store_path(fs->store), -rc);
}

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
	/* Stays open also where the kernel reads: fstat(2) wants it when the name is gone. */
	file->fd = fd;
	hand_over(fs, file, fd);
	return 0;
}

static int open_committed(struct fs *fs, struct open_file *file, const struct open_want *want)
{
	file->content = CONTENT_SHARD;
	file->stamps = want->stamps;
	file->is_virtual = want->shard->shard.pack != NULL;
	/* With verify=read the daemon sees every read, those of mappings too. */
	if (!file->is_virtual && fs->options->verify != VERIFY_READ)
		hand_over(fs, file, ckpt_shard_reader_fd(want->shard->reader, NULL));
	return 0;
}

static int open_control(struct fs *fs, struct open_file *file)
{
	struct stat st;
	int rc;

	file->is_virtual = true;
	file->is_control = true;
	file->is_live = control_is_live(file->ino);
	if (control_is_stored(file->ino)) {
		file->content = CONTENT_STORED;
		rc = control_open_stored(fs, file->ino, &file->fd);
		if (rc == 0)
			rc = ckpt_io_fstat(file->fd, &st);
		if (rc == 0)
			file->stamps = stamps_of(&st);
		return rc;
	}
	file->content = CONTENT_TEXT;
	rc = control_text(fs, file->ino, &file->text);
	/* A text's state is the text. */
	if (rc == 0 && !file->is_live)
		file->stamps = (struct stamps){
			.size_bytes = file->text.len_bytes,
			.ctime_ns = (int64_t)ckpt_hash64(file->text.data, file->text.len_bytes),
		};
	return rc;
}

/* The one place that decides what a node's bytes are. */
static int node_open(struct fs *fs, struct open_file *file, const struct open_want *want)
{
	switch (node_class(file->ino)) {
	case NODE_COMMITTED:
		return open_committed(fs, file, want);
	case NODE_VIRTUAL:
		return open_control(fs, file);
	case NODE_PLAIN:
		break;
	}
	return open_plain(fs, file);
}

/* --- the table ---------------------------------------------------------------------------- */

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
	if (file->content == CONTENT_SHARD && file->shard)
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

/* Is what is open the stored file that @want has found? Plain and virtual nodes are. */
static bool is_same(const struct open_file *file, const struct open_want *want)
{
	return !want->shard || stamps_same_file(&file->stamps, &want->stamps);
}

/*
 * Share what is open. -EAGAIN: its stored file was replaced meanwhile, and the next one opens
 * that.
 */
static int share_same_locked(struct open_files *files, struct open_file *file,
			     const struct open_want *want)
{
	int rc = share_locked(files, file);

	if (rc < 0 || is_same(file, want))
		return rc;
	/* The kernel takes one stored file a node at a time. */
	if (file->backing_id > 0)
		return -ETXTBSY;
	unlink_locked(files, file);
	return -EAGAIN;
}

/* The node's file: what is open of it, or else one to be opened (*@out_found false). */
static int find_or_add(struct open_files *files, fuse_ino_t ino, const struct open_want *want,
		       struct open_file **out, bool *out_found)
{
	bool shared = node_class(ino) != NODE_VIRTUAL || !control_is_live(ino);
	int rc = 0;

	pthread_mutex_lock(&files->mu);
	*out = shared ? find_locked(files, ino) : NULL;
	*out_found = *out != NULL;
	if (*out_found) {
		rc = share_same_locked(files, *out, want);
	} else {
		*out = add_locked(files, ino, shared);
		rc = *out ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&files->mu);
	return rc;
}

/* A read through @want has to find an open shard. */
static void adopt(struct open_files *files, struct open_file *file, const struct open_want *want)
{
	if (!want->shard || (file->backing_id > 0 && !want->direct))
		return;
	pthread_mutex_lock(&files->mu);
	if (!file->shard)
		file->shard = committed_shard_ref(want->shard);
	pthread_mutex_unlock(&files->mu);
}

static void log_replaced(const struct committed_shard *shard)
{
	fs_log_once(
		"shard '%s/%s' was replaced in the store while a process has the old file open; it can be "
		"opened again when that one has closed it",
		shard->cp->row.name, shard->shard.path);
}

/* One try. *@out is held also on failure, unless it is NULL. */
static int get(struct fs *fs, fuse_ino_t ino, const struct open_want *want, struct open_file **out)
{
	bool found;
	int rc = find_or_add(fs->open_files, ino, want, out, &found);

	if (!found && *out) {
		rc = node_open(fs, *out, want);
		settle(fs->open_files, *out, rc);
	}
	if (rc != -ETXTBSY)
		return rc;
	log_replaced(want->shard);
	return -EIO;
}

int open_file_get(struct fs *fs, fuse_ino_t ino, const struct open_want *want,
		  struct open_file **out)
{
	struct open_file *file = NULL;
	int rc;

	while ((rc = get(fs, ino, want, &file)) < 0) {
		if (file)
			open_file_put(fs, file);
		if (rc != -EAGAIN)
			return rc;
	}
	if (want->trusted)
		atomic_store(&file->trusted, true);
	adopt(fs->open_files, file, want);
	*out = file;
	return 0;
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
