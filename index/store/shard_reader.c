/*
 * shard_reader.c - the bytes of a shard, from its own file or its pack, through its block sums.
 * No byte leaves here that was not part of a block whose sum was right. See sums.h.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "store/sums.h"

struct ckpt_shard_reader {
	int fd;
	uint64_t base_bytes; /* where the shard begins in the file */
	const struct ckpt_shard *shard;
	char *label;
	/* The block that was used last, where only a part of it was wanted. */
	char *cache;
	uint64_t cached_idx;
	bool has_cached;
};

/* --- opening ---------------------------------------------------------------------- */

static int open_file(int dirfd, const char *path)
{
	/* O_NONBLOCK: opening a FIFO must not hang. */
	return ckpt_io_open_beneath(dirfd, path, O_RDONLY | O_NONBLOCK, 0);
}

/*
 * A packed shard whose pack is not there, but a file of its name: the checkpoint was copied through
 * a mount, or is read through one, and a mount shows packed shards as files.
 */
static int open_unpacked(int dirfd, const struct ckpt_shard *shard)
{
	CKPT_CLOSE int fd = open_file(dirfd, shard->path);
	struct stat st;
	int rc;

	if (fd < 0)
		return fd;
	rc = ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return rc;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != shard->size_bytes)
		return -ENOENT;
	return ckpt_steal_fd(&fd);
}

/* The file as it may be named in a message: where the bytes should be. */
static const char *stored_path(const struct ckpt_shard *shard)
{
	return shard->pack ? shard->pack : shard->path;
}

static int refuse_open(int code, const char *label, const struct ckpt_shard *shard,
		       struct ckpt_err *err)
{
	if (code == -ENOENT || code == -ENOTDIR)
		return ckpt_err_set(err, -ENOENT,
				    "cannot open shard '%s/%s': '%s' is missing; restore it from "
				    "a copy, then run 'ckptfs verify %s'",
				    label, shard->path, stored_path(shard), label);
	if (code == -ELOOP)
		return ckpt_err_set(err, -ESTALE,
				    "cannot open shard '%s/%s': '%s' is a symbolic link or lies "
				    "behind one; restore it from a copy, then run 'ckptfs verify "
				    "%s'",
				    label, shard->path, stored_path(shard), label);
	return ckpt_err_sys(err, code, "cannot open shard '%s/%s'", label, shard->path);
}

/* The file must be regular, and have the shard's size or reach behind its place in the pack. */
static int check_file(const struct ckpt_shard_reader *reader, bool is_pack, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = reader->shard;
	struct stat st;
	uint64_t need = reader->base_bytes + shard->size_bytes; /* checked with the manifest */
	int rc = ckpt_io_fstat(reader->fd, &st);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read shard '%s/%s'", reader->label,
				    shard->path);
	if (!S_ISREG(st.st_mode))
		return ckpt_err_set(err, -ESTALE,
				    "cannot open shard '%s/%s': '%s' is no regular file; restore "
				    "it from a copy, then run 'ckptfs verify %s'",
				    reader->label, shard->path, stored_path(shard), reader->label);
	if (is_pack ? (uint64_t)st.st_size >= need : (uint64_t)st.st_size == need)
		return 0;
	return ckpt_err_set(err, -ESTALE,
			    "cannot open shard '%s/%s': '%s' has %" PRIu64 " bytes, should have "
			    "%s%" PRIu64 "; restore it from a copy, then run 'ckptfs verify %s'",
			    reader->label, shard->path, stored_path(shard), (uint64_t)st.st_size,
			    is_pack ? "at least " : "", need, reader->label);
}

static int open_stored(int dirfd, struct ckpt_shard_reader *reader, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = reader->shard;
	bool is_pack = shard->pack != NULL;
	int missing;

	reader->base_bytes = is_pack ? shard->pack_offset_bytes : 0;
	reader->fd = open_file(dirfd, stored_path(shard));
	if (is_pack && (reader->fd == -ENOENT || reader->fd == -ENOTDIR)) {
		missing = reader->fd;
		is_pack = false;
		reader->base_bytes = 0;
		reader->fd = open_unpacked(dirfd, shard);
		/*
		 * What is wrong is that the pack is missing, unless there is a file that fails
		 * otherwise.
		 */
		if (reader->fd == -ELOOP)
			reader->fd = missing;
	}
	if (reader->fd < 0)
		return refuse_open(reader->fd, reader->label, shard, err);
	return check_file(reader, is_pack, err);
}

int ckpt_shard_reader_open(int dirfd, const char *label, const struct ckpt_shard *shard,
			   struct ckpt_shard_reader **out, struct ckpt_err *err)
{
	struct ckpt_shard_reader *reader = calloc(1, sizeof(*reader));
	int rc;

	if (!reader)
		return ckpt_err_sys(err, -ENOMEM, "cannot open shard '%s/%s'", label, shard->path);
	reader->fd = -1;
	reader->shard = shard;
	reader->label = strdup(label);
	if (reader->label)
		rc = open_stored(dirfd, reader, err);
	else
		rc = ckpt_err_sys(err, -ENOMEM, "cannot open shard '%s/%s'", label, shard->path);
	if (rc < 0) {
		ckpt_shard_reader_free(reader);
		return rc;
	}
	*out = reader;
	return 0;
}

void ckpt_shard_reader_free(struct ckpt_shard_reader *reader)
{
	if (!reader)
		return;
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader->label);
	free(reader->cache);
	free(reader);
}

int ckpt_shard_reader_fd(const struct ckpt_shard_reader *reader, uint64_t *out_base)
{
	if (out_base)
		*out_base = reader->base_bytes;
	return reader->fd;
}

/* --- reading ------------------------------------------------------------------------ */

static uint64_t block_start(const struct ckpt_shard *shard, uint64_t block_idx)
{
	return block_idx * shard->block_bytes;
}

/* Bytes of a block; the last one may be shorter. */
static size_t block_len(const struct ckpt_shard *shard, uint64_t block_idx)
{
	return num_min(shard->block_bytes, shard->size_bytes - block_start(shard, block_idx));
}

static int report_damage(const struct ckpt_shard_reader *reader, const struct ckpt_damage *found,
			 struct ckpt_damage *out, struct ckpt_err *err)
{
	struct ckpt_buf line;

	if (out)
		*out = *found;
	ckpt_buf_init(&line);
	ckpt_damage_print(&line, reader->label, reader->shard, found);
	ckpt_err_set(err, -EBADMSG, "%s; restore it from a copy, then run 'ckptfs verify %s'",
		     line.data, reader->label);
	ckpt_buf_release(&line);
	return -EBADMSG;
}

int ckpt_shard_reader_block(const struct ckpt_shard_reader *reader, uint64_t block_idx, void *out,
			    size_t *out_len, struct ckpt_damage *damage, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = reader->shard;
	uint64_t start = block_start(shard, block_idx);
	size_t len_bytes;
	size_t got = 0;
	uint64_t found;
	int rc;

	assert(block_idx < ckpt_block_count(shard->size_bytes, shard->block_bytes));
	len_bytes = block_len(shard, block_idx);
	rc = ckpt_io_pread_full(reader->fd, out, len_bytes, reader->base_bytes + start, &got);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read shard '%s/%s' at byte %" PRIu64,
				    reader->label, shard->path, start);
	if (got < len_bytes)
		return ckpt_err_set(err, -ESTALE,
				    "shard '%s/%s' became shorter: it ends at byte %" PRIu64
				    "; restore it from a copy, then run 'ckptfs verify %s'",
				    reader->label, shard->path, start + got, reader->label);
	found = ckpt_hash64(out, len_bytes);
	if (found != shard->sums[block_idx])
		return report_damage(reader,
				     &(struct ckpt_damage){ .block_idx = block_idx,
							    .start_bytes = start,
							    .end_bytes = start + len_bytes,
							    .found = found,
							    .expected = shard->sums[block_idx] },
				     damage, err);
	*out_len = len_bytes;
	return 0;
}

/* Have the block in the cache. */
static int load_block(struct ckpt_shard_reader *reader, uint64_t block_idx, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = reader->shard;
	size_t len_bytes;
	int rc;

	if (reader->has_cached && reader->cached_idx == block_idx)
		return 0;
	if (!reader->cache)
		reader->cache = malloc(num_min(shard->block_bytes, shard->size_bytes));
	if (!reader->cache)
		return ckpt_err_sys(err, -ENOMEM, "cannot read shard '%s/%s'", reader->label,
				    shard->path);
	reader->has_cached = false;
	rc = ckpt_shard_reader_block(reader, block_idx, reader->cache, &len_bytes, NULL, err);
	if (rc < 0)
		return rc;
	reader->cached_idx = block_idx;
	reader->has_cached = true;
	return 0;
}

/* At most @len_bytes at @off, as far as its block goes; > 0 bytes of the shard follow @off. */
static int read_in_block(struct ckpt_shard_reader *reader, uint64_t off, size_t len_bytes,
			 char *out, size_t *out_len, struct ckpt_err *err)
{
	const struct ckpt_shard *shard = reader->shard;
	uint64_t block_idx = off / shard->block_bytes;
	size_t skip = off % shard->block_bytes;
	size_t whole = block_len(shard, block_idx);
	int rc;

	/* A whole block goes where it is wanted, without a copy. */
	if (skip == 0 && len_bytes >= whole)
		return ckpt_shard_reader_block(reader, block_idx, out, out_len, NULL, err);
	rc = load_block(reader, block_idx, err);
	if (rc < 0)
		return rc;
	*out_len = num_min(len_bytes, whole - skip);
	memcpy(out, reader->cache + skip, *out_len);
	return 0;
}

int ckpt_shard_reader_read(struct ckpt_shard_reader *reader, uint64_t off, size_t len_bytes,
			   void *out, size_t *out_len, struct ckpt_err *err)
{
	uint64_t size_bytes = reader->shard->size_bytes;
	size_t done = 0;

	assert(out || len_bytes == 0);
	if (off >= size_bytes)
		len_bytes = 0;
	else
		len_bytes = num_min(len_bytes, size_bytes - off);
	while (done < len_bytes) {
		size_t got = 0;
		int rc = read_in_block(reader, off + done, len_bytes - done, (char *)out + done,
				       &got, err);

		if (rc < 0)
			return rc;
		done += got;
	}
	*out_len = done;
	return 0;
}
