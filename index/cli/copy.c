/* copy.c - see copy.h. */
#include "cli/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/progress.h"

/* setuid, setgid and sticky do not travel: a copy belongs to whoever makes it. */
#define MODE_KEPT 0777U
#define NS_PER_SEC 1000000000
/* How often a session wants to be touched (store.h, ckpt_open_touch). */
#define TOUCH_MS 10000

void copy_init(struct copy *copy, int from_fd, const char *label, uint64_t total_bytes)
{
	*copy = (struct copy){ .from_fd = from_fd, .label = label, .total_bytes = total_bytes };
}

void copy_release(struct copy *copy)
{
	free(copy->buffer);
	copy->buffer = NULL;
}

static int reserve(struct copy *copy, size_t bytes, struct ckpt_err *err)
{
	if (copy->buffer_bytes >= bytes)
		return 0;
	free(copy->buffer);
	copy->buffer_bytes = 0;
	copy->buffer = array_alloc(bytes, 1);
	if (!copy->buffer)
		return ckpt_err_set(err, -ENOMEM, "out of memory while copying '%s'", copy->label);
	copy->buffer_bytes = bytes;
	return 0;
}

/* Others take a session that is not touched for dead; a copy of many gigabytes takes longer. */
static int keep_session(struct copy *copy, struct ckpt_err *err)
{
	uint64_t now_ms = ckpt_clock_mono_ms();

	if (!copy->store || now_ms - copy->touched_ms < TOUCH_MS)
		return 0;
	copy->touched_ms = now_ms;
	return ckpt_open_touch(copy->store, copy->open_name, err);
}

/* One piece is there: show it, and see whether to go on. */
static int advance(struct copy *copy, size_t bytes, struct ckpt_err *err)
{
	copy->done_bytes += bytes;
	if (progress_update(NULL, copy->done_bytes, copy->total_bytes) != 0)
		return ckpt_err_set(err, -ECANCELED,
				    "interrupted; what was copied of '%s' is removed again",
				    copy->label);
	return keep_session(copy, err);
}

static int write_piece(struct copy *copy, int fd, size_t len, uint64_t offset, struct ckpt_err *err)
{
	int rc = ckpt_io_pwrite_full(fd, copy->buffer, len, offset);

	if (rc == -ENOSPC || rc == -EDQUOT)
		return ckpt_err_set(
			err, rc,
			"no space left for '%s', the copy of '%s'; free some and copy again",
			copy->to_label, copy->label);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot write '%s', the copy of '%s'", copy->to_label,
				    copy->label);
	return advance(copy, len, err);
}

/* --- bytes ----------------------------------------------------------------------------- */

static int copy_blocks(struct copy *copy, const struct ckpt_shard *shard, int fd, uint64_t offset,
		       struct ckpt_err *err)
{
	struct ckpt_shard_reader *reader = NULL;
	uint64_t count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	int rc = reserve(copy, num_min(shard->block_bytes, shard->size_bytes), err);

	if (rc == 0)
		rc = ckpt_shard_reader_open(copy->from_fd, copy->label, shard, &reader, err);
	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		size_t len = 0;

		rc = ckpt_shard_reader_block(reader, i, copy->buffer, &len, NULL, err);
		if (rc == 0)
			rc = write_piece(copy, fd, len, offset + i * shard->block_bytes, err);
	}
	ckpt_shard_reader_free(reader);
	return rc;
}

/* A file without sums: of an open checkpoint, or loose. */
static int copy_plain(struct copy *copy, const char *path, int fd, struct ckpt_err *err)
{
	CKPT_CLOSE int from = ckpt_io_open_beneath(copy->from_fd, path, O_RDONLY | O_NONBLOCK, 0);
	uint64_t at = 0;
	int rc = reserve(copy, CKPT_IO_CHUNK, err);

	if (from < 0)
		return ckpt_err_sys(err, from, "cannot open '%s' in '%s'", path, copy->label);
	while (rc == 0) {
		ssize_t got = ckpt_io_pread(from, copy->buffer, CKPT_IO_CHUNK, at);

		if (got < 0)
			return ckpt_err_sys(err, (int)got, "cannot read '%s' in '%s'", path,
					    copy->label);
		if (got == 0)
			break;
		rc = write_piece(copy, fd, (size_t)got, at, err);
		at += (uint64_t)got;
	}
	return rc;
}

/* --- names ------------------------------------------------------------------------------- */

static struct timespec time_of_ns(int64_t ns)
{
	struct timespec out = { .tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC };

	if (out.tv_nsec < 0) {
		out.tv_sec--;
		out.tv_nsec += NS_PER_SEC;
	}
	return out;
}

static int finish_file(const struct tree_entry *entry, int fd, const char *path,
		       struct ckpt_err *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, time_of_ns(entry->mtime_ns) };

	if (fchmod(fd, entry->mode & MODE_KEPT) < 0 || futimens(fd, times) < 0)
		return ckpt_err_sys(err, -errno, "cannot set mode and time of '%s'", path);
	return 0;
}

static int make_file(struct copy *copy, const struct tree_entry *entry, int to_fd,
		     const char *to_path, struct ckpt_err *err)
{
	CKPT_CLOSE int fd =
		ckpt_io_openat(to_fd, to_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot make '%s'", to_path);
	rc = entry->shard ? copy_blocks(copy, entry->shard, fd, 0, err)
			  : copy_plain(copy, entry->path, fd, err);
	if (rc == 0)
		rc = finish_file(entry, fd, to_path, err);
	return rc;
}

/*
 * Into its place in a pack that may hold others already; the gaps stay zero, as the format wants
 * them.
 */
static int add_to_pack(struct copy *copy, const struct ckpt_shard *shard, int to_fd,
		       struct ckpt_err *err)
{
	CKPT_CLOSE int fd =
		ckpt_io_openat(to_fd, shard->pack, O_WRONLY | O_CREAT | O_NOFOLLOW, 0644);
	uint64_t end = shard->pack_offset_bytes + shard->size_bytes;
	struct stat st;
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, &st);

	/* An empty shard writes nothing, and may lie behind a gap. */
	if (rc == 0 && (uint64_t)st.st_size < end)
		rc = ckpt_io_ftruncate(fd, end);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make '%s'", shard->pack);
	return copy_blocks(copy, shard, fd, shard->pack_offset_bytes, err);
}

int copy_entry(struct copy *copy, const struct tree_entry *entry, int to_fd, const char *to_path,
	       struct ckpt_err *err)
{
	int rc = 0;

	switch (entry->kind) {
	case TREE_DIR:
		rc = ckpt_io_mkdirat(to_fd, to_path, 0700);
		break;
	case TREE_SYMLINK:
		rc = ckpt_io_symlinkat(entry->target, to_fd, to_path);
		break;
	case TREE_FILE:
		if (copy->keep_packs && entry->shard && entry->shard->pack)
			return add_to_pack(copy, entry->shard, to_fd, err);
		return make_file(copy, entry, to_fd, to_path, err);
	case TREE_OTHER:
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' in '%s' is neither file, folder nor symbolic link; remove it, or copy with cp(1)",
			entry->path, copy->label);
	}
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make '%s'", to_path);
	return 0;
}

int copy_finish_dir(const struct copy *copy, const struct tree_entry *entry, int to_fd,
		    const char *to_path, struct ckpt_err *err)
{
	struct stat st;
	bool stored = ckpt_io_fstatat(copy->from_fd, entry ? entry->path : ".", &st,
				      AT_SYMLINK_NOFOLLOW) == 0;
	mode_t mode = entry ? entry->mode : st.st_mode;

	/*
	 * Of shards in packs alone there need not be a folder: then the copy's own time is as
	 * good.
	 */
	if (stored) {
		struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, st.st_mtim };

		if (utimensat(to_fd, to_path, times, 0) < 0)
			return ckpt_err_sys(err, -errno, "cannot set the time of '%s'", to_path);
	} else if (!entry) {
		return 0;
	}
	if (fchmodat(to_fd, to_path, mode & MODE_KEPT, 0) < 0)
		return ckpt_err_sys(err, -errno, "cannot set the mode of '%s'", to_path);
	return 0;
}
