/*
 * dir.c - opendir, readdir, readdirplus, releasedir.
 *
 * Where a listing goes on (the cookie of an entry) is:
 *   committed  the entry's line in the manifest: nothing is kept for an open folder
 *   control    the entry's position
 *   plain      what the stored folder itself says (d_off), so a plain folder that is open is a
 *   stream of it
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "committed.h"
#include "control_dir.h"
#include "dir.h"
#include "inode.h"
#include "node.h"
#include "ops.h"
#include "plain.h"
#include "removal.h"
#include "request.h"
#include "resave.h"
#include "view_nodes.h"
#include "view_trees.h"

/*
 * Committed: "." is followed by the entry with this cookie, ".."; its own is 1, the header's line,
 * behind which entries begin.
 */
#define COOKIE_DOT (INT64_C(1) << 62)
#define COOKIE_DOTDOT ((int64_t)NODE_TOP_LINE)
/*
 * Plain, with -o ro: `latest` comes first, under a position that no file system gives (ext4 ends
 * at INT64_MAX).
 */
#define COOKIE_LATEST (INT64_MAX - 1)
/*
 * Plain, in other mounts: checkpoints that are being removed come first, each under a position that
 * is made of its id, so that one that ends meanwhile moves no other.
 */
#define COOKIE_REMOVED_MIN (COOKIE_LATEST - (INT64_C(1) << 30))
/* Control folders: their own names come first, behind COOKIE_VIEWS the nodes of the view tree. */
#define CONTROL_NAMES_MAX 16
#define COOKIE_VIEWS 32
/* Bytes of names read from the stored folder at a time. */
#define STREAM_BYTES 32768U

/* --- a reply that fills up ---------------------------------------------------------------- */

struct listing {
	struct request *rq;
	char *data;
	size_t len_bytes;
	bool full;
	/* Nodes that were looked up for it, to be forgotten if it does not arrive. */
	fuse_ino_t *nodes;
	size_t node_count, node_cap;
};

static int listing_init(struct listing *list, struct request *rq)
{
	*list = (struct listing){ .rq = rq, .data = malloc(rq->size_bytes) };
	return list->data ? 0 : -ENOMEM;
}

static void listing_release(struct listing *list)
{
	free(list->data);
	free(list->nodes);
}

static void listing_reply(struct listing *list)
{
	struct request *rq = list->rq;

	if (request_claim(rq) && fuse_reply_buf(rq->req, list->data, list->len_bytes) >= 0)
		return;
	for (size_t i = 0; i < list->node_count; i++)
		node_forget(rq->fs, list->nodes[i], 1);
}

/* Note a node that was looked up; false: no memory, then it is listed without. */
static bool note_node(struct listing *list, fuse_ino_t ino)
{
	if (array_grow(&list->nodes, &list->node_cap, list->node_count, sizeof(*list->nodes)) < 0)
		return false;
	list->nodes[list->node_count++] = ino;
	return true;
}

/* Is there room for one more name? Asked before it is looked up. */
static bool has_room(struct listing *list, const char *name)
{
	fuse_req_t none = NULL; /* libfuse only counts here */
	size_t need = list->rq->plus ? fuse_add_direntry_plus(none, NULL, 0, name, NULL, 0)
				     : fuse_add_direntry(none, NULL, 0, name, NULL, 0);

	if (need > list->rq->size_bytes - list->len_bytes)
		list->full = true;
	return !list->full;
}

/* Add a name there is room for. An entry with node 0 is listed, and not looked up by this. */
static void add(struct listing *list, const char *name, const struct fuse_entry_param *entry,
		int64_t cookie)
{
	char *at = list->data + list->len_bytes;
	size_t room = list->rq->size_bytes - list->len_bytes;

	list->len_bytes += list->rq->plus
				   ? fuse_add_direntry_plus(NULL, at, room, name, entry, cookie)
				   : fuse_add_direntry(NULL, at, room, name, &entry->attr, cookie);
}

/* "." and "..": numbers and types only. */
static void add_dots(struct listing *list, const char *name, ino_t ino, int64_t cookie)
{
	struct fuse_entry_param entry = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };

	if (!list->full && has_room(list, name))
		add(list, name, &entry, cookie);
}

/* --- committed ---------------------------------------------------------------------------- */

struct committed_listing {
	struct listing *list;
	const struct checkpoint *cp;
	bool any;
};

static int add_committed(void *ctx, const struct ckpt_db_entry *entry)
{
	struct committed_listing *at = ctx;
	struct fuse_entry_param param;
	int rc = committed_check_name(at->cp, entry);

	at->any = true;
	if (rc < 0)
		return rc;
	if (!has_room(at->list, entry->name))
		return 1;
	committed_fill(at->list->rq->fs, at->cp, entry, &param);
	add(at->list, entry->name, &param, entry->line);
	return 0;
}

static int list_entries(struct fs *fs, struct committed_listing *at, uint32_t parent,
			uint32_t after)
{
	struct ckpt_db_cursor from = { .slot = at->cp->row.slot, .parent = parent, .after = after };
	int rc = committed_children(fs, &from, add_committed, at);

	/* Nothing at all: an empty folder, its end, or an index that was emptied. */
	if (rc == 0 && !at->any)
		rc = slots_still_loaded(fs, from.slot);
	return rc;
}

static int list_committed(struct listing *list)
{
	struct request *rq = list->rq;
	struct committed_listing at = { .list = list };
	struct checkpoint *cp = NULL;
	int64_t cookie = (int64_t)rq->offset;
	int rc = slots_get_loaded(rq->fs, node_slot(rq->ino), &cp);

	if (rc < 0)
		return rc;
	at.cp = cp;
	if (cookie == 0)
		add_dots(list, ".", rq->ino, COOKIE_DOT);
	if (cookie == 0 || cookie == COOKIE_DOT) {
		add_dots(list, "..", FUSE_ROOT_ID, COOKIE_DOTDOT);
		cookie = COOKIE_DOTDOT;
	}
	if (cookie < 0 || cookie > (int64_t)UINT32_MAX)
		rc = -EINVAL;
	else if (!list->full)
		rc = list_entries(rq->fs, &at, node_line(rq->ino), (uint32_t)cookie);
	checkpoint_unref(cp);
	return rc;
}

/* --- control folders ---------------------------------------------------------------------- */

static bool add_view(void *ctx, const char *name, const struct fuse_entry_param *entry,
		     uint64_t position)
{
	struct listing *list = ctx;

	if (has_room(list, name))
		add(list, name, entry, COOKIE_VIEWS + (int64_t)position);
	return !list->full;
}

/* What cannot be made ready is not listed: the log tells why. */
static int list_views(struct listing *list, uint64_t after)
{
	struct fs *fs = list->rq->fs;
	fuse_ino_t dir = list->rq->ino;
	int rc = views_are_of(fs, dir) ? view_list(fs, dir, after, add_view, list) : 0;

	return node_is_view(dir) || rc == RC_LOAD_FIRST || rc == RC_VIEWS_FIRST ? rc : 0;
}

static int list_control(struct listing *list)
{
	struct request *rq = list->rq;
	int64_t cookie = (int64_t)rq->offset;
	const char *name = NULL;

	if (cookie < 0)
		return -EINVAL;
	if (cookie > COOKIE_VIEWS)
		return list_views(list, (uint64_t)(cookie - COOKIE_VIEWS));
	if (cookie > CONTROL_NAMES_MAX)
		return -EINVAL;
	if (cookie == 0)
		add_dots(list, ".", rq->ino, ++cookie);
	if (cookie == 1)
		add_dots(list, "..", FUSE_ROOT_ID, ++cookie);
	for (; !list->full && (name = control_list(rq->ino, (size_t)cookie - 2)); cookie++) {
		struct fuse_entry_param entry = { 0 };
		int rc = control_child(rq->fs, rq->ino, name, &entry);

		/* `latest` of a group with nothing committed is not there. */
		if (rc == RC_LOAD_FIRST || rc == RC_VIEWS_FIRST)
			return rc;
		if (rc == 0 && has_room(list, name))
			add(list, name, &entry, cookie + 1);
	}
	return list->full ? 0 : list_views(list, 0);
}

/* --- plain folders ------------------------------------------------------------------------ */

/* An open plain folder. */
struct dir_stream {
	_Atomic uint32_t refs;
	int fd;
	pthread_mutex_t mu; /* of all below: one reader at a time */
	size_t at;
	size_t len_bytes;
	_Alignas(struct dirent64) char data[STREAM_BYTES];
};

static struct dir_stream *stream_of(const struct fuse_file_info *fi)
{
	/* libfuse keeps it as a number. NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (struct dir_stream *)(uintptr_t)fi->fh;
}

/* Go to a position; where the last reply ended, which is the rule, nothing is read again. */
static int stream_seek(struct dir_stream *stream, int64_t off)
{
	const struct dirent64 *entry;

	for (size_t at = 0; at < stream->len_bytes; at += entry->d_reclen) {
		entry = (const struct dirent64 *)(const void *)(stream->data + at);
		if (entry->d_off == off && off != 0) {
			stream->at = at + entry->d_reclen;
			return 0;
		}
	}
	stream->at = 0;
	stream->len_bytes = 0;
	return lseek(stream->fd, off, SEEK_SET) < 0 ? -errno : 0;
}

/* The next entry, which stays next until stream_step(); NULL at the end. */
static int stream_peek(struct dir_stream *stream, const struct dirent64 **out)
{
	ssize_t got;

	*out = NULL;
	if (stream->at >= stream->len_bytes) {
		got = getdents64(stream->fd, stream->data, sizeof(stream->data));
		if (got < 0)
			return -errno;
		stream->at = 0;
		stream->len_bytes = (size_t)got;
	}
	if (stream->at < stream->len_bytes)
		*out = (const struct dirent64 *)(const void *)(stream->data + stream->at);
	return 0;
}

static void stream_step(struct dir_stream *stream)
{
	const struct dirent64 *entry =
		(const struct dirent64 *)(const void *)(stream->data + stream->at);

	stream->at += entry->d_reclen;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What a folder entry's number and type are without looking it up. */
static struct fuse_entry_param bare_entry(struct fs *fs, const struct dirent64 *entry)
{
	struct fuse_entry_param out = { .attr = { .st_ino = entry->d_ino,
						  .st_dev = fs->dev,
						  .st_mode = (mode_t)DTTOIF(entry->d_type) } };

	plain_show(fs, &out.attr);
	return out;
}

/* Look the entry up as the listing needs it; false: it is not shown. */
static bool look_up(struct listing *list, const struct plain_dir *dir, const struct dirent64 *entry,
		    struct fuse_entry_param *out)
{
	struct fs *fs = list->rq->fs;
	int rc;

	*out = bare_entry(fs, entry);
	if (is_dots(entry->d_name))
		return true;
	if (strcmp(entry->d_name, CKPT_CONTROL_DIR) == 0)
		return false;
	if (list->rq->plus) {
		struct fuse_entry_param found;

		rc = plain_entry(fs, dir, entry->d_name, &found);
		if (rc == 0 && note_node(list, found.ino))
			*out = found;
		else if (rc == 0)
			node_forget(fs, found.ino, 1);
		/*
		 * What cannot be looked up is listed all the same: the application's own look-up
		 * gets the error.
		 */
		return rc != -ENOENT;
	}
	return entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN
		       ? plain_peek(fs, dir, entry->d_name, &out->attr.st_ino)
		       : true;
}

static int add_plain(struct listing *list, const struct plain_dir *dir, struct dir_stream *stream)
{
	const struct dirent64 *entry = NULL;
	struct fuse_entry_param param;
	int rc;

	while ((rc = stream_peek(stream, &entry)) == 0 && entry) {
		if (!has_room(list, entry->d_name))
			return 0;
		if (!resave_hides(list->rq->fs, dir->path, entry->d_name) &&
		    look_up(list, dir, entry, &param))
			add(list, entry->d_name, &param, entry->d_off);
		stream_step(stream);
	}
	return rc;
}

/* With -o ro, `latest` of a group that has none of its own. */
static void add_latest(struct listing *list, const struct plain_dir *dir)
{
	struct fuse_entry_param entry;

	if (plain_has_latest(list->rq->fs, dir) &&
	    control_latest_listed(list->rq->fs, dir->ino, &entry) == 0 && has_room(list, "latest"))
		add(list, "latest", &entry, COOKIE_LATEST);
}

/* A position of ours, before the stored folder begins. */
static bool is_before_stored(int64_t cookie)
{
	return cookie == 0 || (cookie >= COOKIE_REMOVED_MIN && cookie <= COOKIE_LATEST);
}

static int64_t cookie_of(const struct removal_listed *removed)
{
	return COOKIE_REMOVED_MIN + (int64_t)(removed->id & ((UINT64_C(1) << 30) - 1));
}

/* Checkpoints that lie in the trash, and whose names somebody is still removing. */
static void add_removed(struct listing *list, const struct plain_dir *dir, uint64_t after)
{
	struct removal_listed at = { .id = after };
	struct fs *fs = list->rq->fs;
	struct fuse_entry_param entry;

	while (!list->full && removal_next(fs, dir->path, at.id, &at) == 0) {
		struct stat st;

		/* What has the name now, or again, is listed as the stored folder has it. */
		if (ckpt_io_fstatat(dir->fd, at.name, &st, AT_SYMLINK_NOFOLLOW) != -ENOENT ||
		    !has_room(list, at.name) || plain_entry(fs, dir, at.name, &entry) < 0)
			continue;
		if (node_class(entry.ino) == NODE_COMMITTED)
			add(list, at.name, &entry, cookie_of(&at));
		else
			node_forget(fs, entry.ino, 1); /* made this moment */
	}
}

static int list_plain_locked(struct listing *list, const struct plain_dir *dir,
			     struct dir_stream *stream)
{
	int64_t cookie = (int64_t)list->rq->offset;
	bool is_ours = is_before_stored(cookie);
	int rc;

	if (cookie == 0)
		add_latest(list, dir);
	if (is_ours && cookie != COOKIE_LATEST)
		add_removed(list, dir, cookie == 0 ? 0 : (uint64_t)(cookie - COOKIE_REMOVED_MIN));
	if (list->full)
		return 0;
	rc = stream_seek(stream, is_ours ? 0 : cookie);
	if (rc == 0)
		rc = add_plain(list, dir, stream);
	/* What was added is told first; the error comes again. */
	return list->len_bytes > 0 ? 0 : rc;
}

static int list_plain(struct listing *list)
{
	struct request *rq = list->rq;
	struct dir_stream *stream = rq->stream;
	struct plain_dir dir = { .ino = rq->ino, .fd = stream->fd };
	struct inode_key key;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	rc = inode_locate(rq->fs->inodes, rq->ino, &path, &key);
	if (rc == 0) {
		dir.path = path.data;
		pthread_mutex_lock(&stream->mu);
		rc = list_plain_locked(list, &dir, stream);
		pthread_mutex_unlock(&stream->mu);
	}
	ckpt_buf_release(&path);
	return rc;
}

static int stream_open(struct fs *fs, fuse_ino_t ino, struct dir_stream **out)
{
	struct dir_stream *stream;
	struct stat st;
	int fd = plain_open(fs, ino, O_RDONLY | O_DIRECTORY, NULL, &st);

	if (fd < 0)
		return fd;
	stream = calloc(1, sizeof(*stream));
	if (!stream) {
		close(fd);
		return -ENOMEM;
	}
	stream->fd = fd;
	atomic_init(&stream->refs, 1);
	pthread_mutex_init(&stream->mu, NULL);
	*out = stream;
	return 0;
}

void dir_stream_put(struct dir_stream *stream)
{
	if (atomic_fetch_sub(&stream->refs, 1) != 1)
		return;
	close(stream->fd);
	pthread_mutex_destroy(&stream->mu);
	free(stream);
}

/* --- the operations ----------------------------------------------------------------------- */

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct dir_stream *stream = NULL;
	int rc = 0;

	fi->fh = 0;
	if (node_class(ino) == NODE_PLAIN) {
		rc = stream_open(fs_of(req), ino, &stream);
		fi->fh = (uintptr_t)stream;
	} else if (node_class(ino) == NODE_COMMITTED &&
		   !removal_is_active(fs_of(req), node_slot(ino))) {
		/*
		 * The listing of a committed folder never changes. When one is removed the kernel
		 * sees each entry go; when that is undone it is told to forget (removal_undo.c).
		 */
		fi->cache_readdir = 1;
		fi->keep_cache = 1;
	}
	if (rc < 0)
		ckpt_ignore(fuse_reply_err(req, fs_errno(rc)));
	else if (fuse_reply_open(req, fi) < 0 && stream)
		dir_stream_put(stream);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	if (fi->fh != 0)
		dir_stream_put(stream_of(fi));
	ckpt_ignore(fuse_reply_err(req, 0));
}

static int list_node(struct listing *list)
{
	switch (node_class(list->rq->ino)) {
	case NODE_COMMITTED:
		return list_committed(list);
	case NODE_VIRTUAL:
		return control_is_dir(list->rq->ino) || node_is_view(list->rq->ino)
			       ? list_control(list)
			       : -ENOTDIR;
	case NODE_PLAIN:
		break;
	}
	return list_plain(list);
}

static int run_readdir(struct request *rq)
{
	struct listing list;
	int rc = listing_init(&list, rq);

	if (rc < 0)
		return rc;
	rc = list_node(&list);
	if (rc == 0)
		listing_reply(&list);
	listing_release(&list);
	return rc;
}

static void start(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi,
		  bool plus)
{
	struct request rq;

	request_init(&rq, req, ino, run_readdir);
	rq.size_bytes = size;
	rq.offset = (uint64_t)off;
	rq.plus = plus;
	rq.stream = stream_of(fi);
	if (rq.stream)
		atomic_fetch_add(&rq.stream->refs, 1);
	request_start(&rq);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	start(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	start(req, ino, size, off, fi, true);
}

static int run_fsyncdir(struct request *rq)
{
	int rc = ckpt_io_fsync(rq->stream->fd);

	if (rc == 0)
		request_reply_err(rq, 0);
	return rc;
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct request rq;

	(void)datasync;
	/* What is committed is durable; control folders are nowhere. */
	if (fi->fh == 0) {
		ckpt_ignore(fuse_reply_err(req, 0));
		return;
	}
	request_init(&rq, req, ino, run_fsyncdir);
	rq.stream = stream_of(fi);
	atomic_fetch_add(&rq.stream->refs, 1);
	request_submit(&rq, LANE_WRITES);
}
