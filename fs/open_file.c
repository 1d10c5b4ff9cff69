/* open_file.c - see open_file.h. */
#include "open_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "autocommit.h"
#include "base/hash.h"
#include "base/io.h"
#include "block_cache.h"
#include "control_dir.h"
#include "inode.h"
#include "node.h"
#include "passthrough.h"
#include "plain.h"
#include "summing.h"
#include "view_read.h"

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

static void handle_free(struct handle *handle)
{
	if (handle->fd >= 0)
		close(handle->fd);
	free(handle);
}

static void release(struct open_file *file)
{
	if (file->backing_id > 0)
		passthrough_backing_close(file->backing_id);
	if (file->fd >= 0)
		close(file->fd);
	committed_shard_unref(file->shard);
	ckpt_buf_release(&file->text);
	view_open_free(file->view);
	free(file);
}

/* What the kernel had open when the mount was taken away. */
static void release_all(struct open_file *file)
{
	struct handle *next;

	for (struct handle *handle = file->handles; handle; handle = next) {
		next = handle->next;
		handle_free(handle);
	}
	release(file);
}

void open_files_free(struct open_files *files)
{
	struct open_file *next;

	if (!files)
		return;
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct open_file *file = files->chains[i]; file; file = next) {
			next = file->next;
			release_all(file);
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

/* The descriptor is the handle's. */
static int open_plain(struct fs *fs, struct open_file *file, const struct open_want *want)
{
	file->content = CONTENT_STORED;
	hand_over(fs, file, want->fd);
	return 0;
}

static int open_committed(struct fs *fs, struct open_file *file, const struct open_want *want)
{
	file->content = CONTENT_SHARD;
	file->stamps = want->stamps;
	file->is_virtual = want->shard->shard.pack != NULL;
	/* Who has it open may ask for it when it is gone from the index. */
	file->has_shown = committed_attr(fs, file->ino, &file->shown) == 0;
	/* With verify=read the daemon sees every read, those of mappings too. */
	if (!file->is_virtual && fs->options->verify != VERIFY_READ)
		hand_over(fs, file, ckpt_shard_reader_fd(want->shard->reader, NULL));
	return 0;
}

static int open_view(struct fs *fs, struct open_file *file)
{
	int rc = view_open_new(fs, file->ino, &file->view, &file->shown);

	if (rc < 0)
		return rc;
	file->is_virtual = true;
	file->content = CONTENT_VIEW;
	file->has_shown = true;
	file->stamps = (struct stamps){
		.size_bytes = (uint64_t)file->shown.st_size,
		.ctime_ns = (int64_t)view_open_generation(file->view),
	};
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
		return node_is_view(file->ino) ? open_view(fs, file) : open_control(fs, file);
	case NODE_PLAIN:
		break;
	}
	return open_plain(fs, file, want);
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

static void open_file_put(struct fs *fs, struct open_file *file)
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

/*
 * Is what is open the stored file that @want has found? Plain nodes and control files are. A view
 * of a plain folder is no longer that when the folder has changed.
 */
static bool is_same(const struct open_file *file, const struct open_want *want)
{
	if (file->content == CONTENT_VIEW)
		return view_open_generation(file->view) == want->generation;
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

static int open_file_get(struct fs *fs, fuse_ino_t ino, const struct open_want *want,
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

/* --- who writes --------------------------------------------------------------------------- */

/*
 * summing.h hears of the first handle that writes and of the end of the last one, in that order,
 * whichever threads they run in. The lock is not held meanwhile: this flag is.
 */
static void begin_telling_locked(struct open_files *files, struct open_file *file)
{
	while (file->telling)
		pthread_cond_wait(&files->opened, &files->mu);
	file->telling = true;
}

static void end_telling_locked(struct open_files *files, struct open_file *file)
{
	file->telling = false;
	pthread_cond_broadcast(&files->opened);
}

static void tell_opened(struct fs *fs, struct open_file *file, const struct stat *st)
{
	struct open_files *files = fs->open_files;
	bool first;

	pthread_mutex_lock(&files->mu);
	begin_telling_locked(files, file);
	first = !file->told;
	pthread_mutex_unlock(&files->mu);
	/* Kept until it is closed: the kernel may forget the node before we handle its release. */
	if (first && inode_hold(fs->inodes, file->ino) == 0) {
		summing_opened(fs, file->ino, st);
		file->told = true; /* nobody else looks while we tell */
	}
	pthread_mutex_lock(&files->mu);
	end_telling_locked(files, file);
	pthread_mutex_unlock(&files->mu);
}

/* The path may be another one, or gone, by now: then there is nothing that could be complete. */
static void tell_path(struct fs *fs, fuse_ino_t ino)
{
	struct inode_key key;
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	if (inode_locate(fs->inodes, ino, &path, &key) == 0)
		autocommit_saw(fs, path.data);
	ckpt_buf_release(&path);
}

/* A handle that could write has closed its descriptor. */
static void tell_closed(struct fs *fs, struct open_file *file)
{
	struct open_files *files = fs->open_files;
	bool last;

	pthread_mutex_lock(&files->mu);
	file->writers--;
	begin_telling_locked(files, file);
	last = file->told && file->writers == 0;
	pthread_mutex_unlock(&files->mu);
	if (last) {
		file->told = false;
		summing_closed(fs, file->ino);
		tell_path(fs, file->ino);
		inode_forget(fs->inodes, file->ino, 1);
	}
	pthread_mutex_lock(&files->mu);
	end_telling_locked(files, file);
	pthread_mutex_unlock(&files->mu);
}

/* --- handles ------------------------------------------------------------------------------ */

int handle_open(struct fs *fs, fuse_ino_t ino, const struct open_want *want, struct handle **out)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	struct open_file *file = NULL;
	int rc;

	if (!handle)
		return -ENOMEM;
	rc = open_file_get(fs, ino, want, &file);
	if (rc < 0) {
		free(handle);
		return rc;
	}
	*handle = (struct handle){
		.file = file,
		.fd = want->fd,
		.writes = want->writes,
		.can_write = want->can_write,
		.refs = 1,
	};
	pthread_mutex_lock(&fs->open_files->mu);
	file->writers += handle->writes;
	if (handle->fd >= 0) {
		handle->next = file->handles;
		file->handles = handle;
	}
	pthread_mutex_unlock(&fs->open_files->mu);
	if (handle->writes)
		tell_opened(fs, file, &want->st);
	*out = handle;
	return 0;
}

void handle_hold(struct fs *fs, struct handle *handle)
{
	pthread_mutex_lock(&fs->open_files->mu);
	handle->refs++;
	pthread_mutex_unlock(&fs->open_files->mu);
}

/* Give up one reference; true: it was the last one, and nobody finds the handle any more. */
static bool handle_unref(struct open_files *files, struct handle *handle)
{
	struct handle **slot = &handle->file->handles;
	bool last;

	pthread_mutex_lock(&files->mu);
	assert(handle->refs > 0);
	last = --handle->refs == 0;
	if (last && handle->fd >= 0) {
		while (*slot != handle)
			slot = &(*slot)->next;
		*slot = handle->next;
	}
	pthread_mutex_unlock(&files->mu);
	return last;
}

void handle_put(struct fs *fs, struct handle *handle)
{
	struct open_file *file = handle->file;
	bool writes = handle->writes;

	if (!handle_unref(fs->open_files, handle))
		return;
	/* First of all: who sums the file takes a lease, which a writer's descriptor stands against. */
	handle_free(handle);
	if (writes)
		tell_closed(fs, file);
	open_file_put(fs, file);
}

/* A handle of a plain file that is open now, held; NULL: there is none. */
static struct handle *find_handle(struct open_files *files, fuse_ino_t ino, bool to_write)
{
	struct handle *handle = NULL;
	struct open_file *file;

	pthread_mutex_lock(&files->mu);
	file = find_locked(files, ino);
	if (file)
		handle = file->handles;
	while (handle && to_write && !handle->can_write)
		handle = handle->next;
	if (handle)
		handle->refs++;
	pthread_mutex_unlock(&files->mu);
	return handle;
}

int open_file_dup(struct fs *fs, fuse_ino_t ino, bool to_write, int *out_fd)
{
	struct handle *handle = find_handle(fs->open_files, ino, to_write);
	int rc = -ESTALE;

	if (!handle)
		return rc;
	rc = fcntl(handle->fd, F_DUPFD_CLOEXEC, 0);
	if (rc >= 0)
		*out_fd = rc;
	else
		rc = -errno;
	handle_put(fs, handle);
	return rc < 0 ? rc : 0;
}

/* What an open shard looked like. -ESTALE nobody has it open. */
static int shown_attr(struct open_files *files, fuse_ino_t ino, struct stat *out)
{
	const struct open_file *file;
	int rc = -ESTALE;

	pthread_mutex_lock(&files->mu);
	file = find_locked(files, ino);
	if (file && !file->opening && file->has_shown) {
		*out = file->shown;
		rc = 0;
	}
	pthread_mutex_unlock(&files->mu);
	return rc;
}

int open_file_attr(struct fs *fs, fuse_ino_t ino, struct stat *out)
{
	struct handle *handle = find_handle(fs->open_files, ino, false);
	int rc;

	if (!handle)
		return shown_attr(fs->open_files, ino, out);
	rc = ckpt_io_fstat(handle->fd, out);
	if (rc == 0)
		plain_show(fs, out);
	handle_put(fs, handle);
	return rc;
}
