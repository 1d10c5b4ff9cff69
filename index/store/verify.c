/*
 * verify.c - a committed checkpoint against its manifest. Worker threads take
 * units of some blocks of one shard, so that a single huge shard keeps every
 * core busy; block sums are enough, because they are the truth about a shard.
 * Memory: the manifest, and a block a thread.
 * What is wrong is a finding and never ends the work; errors are only what
 * keeps it from looking.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/pool.h"
#include "store/commit_internal.h"

/*
 * Bytes of a unit: small enough that the threads end together, large enough that opening the file
 * does not count.
 */
#define UNIT_BYTES (16 * CKPT_MIB)

struct verify {
	int dirfd;
	const char *label;
	const struct ckpt_verify_options *options;
	struct ckpt_manifest manifest;
	uint64_t bytes_total;
	uint64_t part_start; /* of what `at` counts: units that begin in it are this part's */
	uint64_t part_end;
	pthread_mutex_t mu; /* protects all below, and calls of finding and progress */
	size_t next_shard;
	uint64_t next_block;
	uint64_t at; /* where the next unit begins, all shards laid end to end */
	uint64_t bytes_done;
	bool *reported; /* one a shard: that its file cannot be read was said already */
	struct ckpt_learning learning; /* its digests; the rest does not change */
	struct ckpt_verify_result result;
	int rc; /* the first error: all threads stop */
	struct ckpt_err err;
};

struct unit {
	const struct ckpt_shard *shard;
	size_t shard_idx;
	uint64_t first_block;
	uint64_t block_count; /* 0 for an empty shard: only its file is looked at */
};

/* A block, in memory that grows with the largest one met. */
struct room {
	char *data;
	size_t size_bytes;
	size_t len_bytes; /* of the block that was read last */
};

/* Symbolic links and packs, which cost little. */
static bool in_part(const struct verify *v, size_t idx)
{
	return v->options->part_count == 0 || idx % v->options->part_count == v->options->part_idx;
}

static void report(struct verify *v, const struct ckpt_buf *line)
{
	pthread_mutex_lock(&v->mu);
	v->result.finding_count++;
	if (v->options->finding)
		v->options->finding(v->options->ctx, line->data);
	pthread_mutex_unlock(&v->mu);
}

static void fail(struct verify *v, int rc, const struct ckpt_err *err)
{
	pthread_mutex_lock(&v->mu);
	if (v->rc == 0) {
		v->rc = rc;
		v->err = *err;
	}
	pthread_mutex_unlock(&v->mu);
}

/* Errors that say nothing about the file. */
static bool is_ours(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

/* --- a file that cannot be read as it should ------------------------------------------- */

/* Its place in the file: false, and *@out says so, where the file does not have the bytes. */
static bool explain_size(const struct ckpt_shard *shard, uint64_t file_bytes, struct ckpt_buf *out)
{
	uint64_t offset = shard->pack ? shard->pack_offset_bytes : 0;
	uint64_t have;

	if (file_bytes < offset) {
		ckpt_buf_add_str(out, "lies behind the end");
		return false;
	}
	have = file_bytes - offset;
	if (shard->pack ? have >= shard->size_bytes : have == shard->size_bytes)
		return true;
	ckpt_buf_printf(out, "is %llu bytes, should be %llu", (unsigned long long)have,
			(unsigned long long)shard->size_bytes);
	return false;
}

/*
 * What is wrong with the stored file behind @shard, as the end of a finding; @rc is what opening
 * or reading it answered.
 */
static void explain(const struct verify *v, const struct ckpt_shard *shard, int rc,
		    struct ckpt_buf *out)
{
	const char *path = shard->pack ? shard->pack : shard->path;
	CKPT_CLOSE int fd = ckpt_io_open_beneath(v->dirfd, path, O_PATH | O_NOFOLLOW, 0);
	struct ckpt_err text = CKPT_ERR_INIT;
	struct stat st;

	if (fd == -ENOENT || fd == -ENOTDIR) {
		ckpt_buf_add_str(out, "missing");
		return;
	}
	if (fd == -ELOOP) {
		ckpt_buf_add_str(out, "lies behind a symbolic link, should be a regular file");
		return;
	}
	if (fd >= 0 && ckpt_io_fstat(fd, &st) == 0) {
		if (!S_ISREG(st.st_mode)) {
			ckpt_buf_printf(out, "is %s, should be a regular file",
					S_ISLNK(st.st_mode)   ? "a symbolic link"
					: S_ISDIR(st.st_mode) ? "a folder"
							      : "a special file");
			return;
		}
		if (!explain_size(shard, (uint64_t)st.st_size, out))
			return;
	}
	ckpt_err_sys(&text, rc, "cannot be read");
	ckpt_buf_add_str(out, text.msg);
}

/* One finding a shard, however many units meet it. */
static void report_file(struct verify *v, const struct unit *unit, int rc)
{
	struct ckpt_buf line;
	bool first;

	pthread_mutex_lock(&v->mu);
	first = !v->reported[unit->shard_idx];
	v->reported[unit->shard_idx] = true;
	pthread_mutex_unlock(&v->mu);
	if (!first)
		return;
	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s/%s: ", v->label, unit->shard->path);
	explain(v, unit->shard, rc, &line);
	if (unit->shard->pack)
		ckpt_buf_printf(&line, " in %s", unit->shard->pack);
	report(v, &line);
	ckpt_buf_release(&line);
}

/* --- blocks -------------------------------------------------------------------------------- */

static void report_block(struct verify *v, const struct ckpt_shard *shard,
			 const struct ckpt_damage *damage)
{
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	ckpt_damage_print(&line, v->label, shard, damage);
	report(v, &line);
	ckpt_buf_release(&line);
}

/* A block that the disk does not give back. */
static void report_unread(struct verify *v, const struct ckpt_shard *shard, uint64_t block_idx,
			  int rc)
{
	struct ckpt_err text = CKPT_ERR_INIT;
	struct ckpt_buf line;
	uint64_t start = block_idx * shard->block_bytes;

	ckpt_err_sys(&text, rc, "cannot be read");
	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s/%s: block %llu (bytes %llu-%llu): %s", v->label, shard->path,
			(unsigned long long)block_idx, (unsigned long long)start,
			(unsigned long long)num_min(start + shard->block_bytes, shard->size_bytes) -
				1,
			text.msg);
	if (shard->pack)
		ckpt_buf_printf(&line, " in %s", shard->pack);
	report(v, &line);
	ckpt_buf_release(&line);
}

static int make_room(const struct ckpt_shard *shard, struct room *room)
{
	size_t need = num_min(shard->block_bytes, shard->size_bytes);
	char *data;

	if (need <= room->size_bytes)
		return 0;
	data = realloc(room->data, need);
	if (!data)
		return -ENOMEM;
	room->data = data;
	room->size_bytes = need;
	return 0;
}

/* One block. 1: it is right, with the block in the room; 0: that it is not was reported. */
static int check_block(struct verify *v, const struct unit *unit,
		       const struct ckpt_shard_reader *reader, uint64_t block_idx,
		       struct room *room, struct ckpt_err *err)
{
	struct ckpt_damage damage;
	int rc = ckpt_shard_reader_block(reader, block_idx, room->data, &room->len_bytes, &damage,
					 err);

	if (rc == 0)
		return 1;
	if (rc == -EBADMSG)
		report_block(v, unit->shard, &damage);
	else if (rc == -ESTALE)
		report_file(v, unit, rc);
	else if (is_ours(rc))
		return rc;
	else
		report_unread(v, unit->shard, block_idx, rc);
	return 0;
}

static int check_blocks(struct verify *v, const struct unit *unit,
			const struct ckpt_shard_reader *reader, struct room *room,
			struct ckpt_err *err)
{
	for (uint64_t i = 0; i < unit->block_count; i++) {
		int rc = check_block(v, unit, reader, unit->first_block + i, room, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int keep_learned(struct verify *v, const struct unit *unit, struct ckpt_digest xxh128)
{
	int rc;

	pthread_mutex_lock(&v->mu);
	rc = ckpt_learning_add(&v->learning, unit->shard_idx, xxh128);
	pthread_mutex_unlock(&v->mu);
	return rc;
}

/* The same of a whole shard, in order, summing it as it goes; one that is damaged teaches nothing. */
static int learn_blocks(struct verify *v, const struct unit *unit,
			const struct ckpt_shard_reader *reader, struct room *room,
			struct ckpt_err *err)
{
	struct ckpt_hash128 *whole = ckpt_hash128_new();
	bool good = true;
	int rc = whole ? 0 : ckpt_err_sys(err, -ENOMEM, "cannot verify '%s'", v->label);

	for (uint64_t i = 0; rc == 0 && i < unit->block_count; i++) {
		rc = check_block(v, unit, reader, i, room, err);
		good = good && rc > 0;
		if (rc > 0)
			ckpt_hash128_update(whole, room->data, room->len_bytes);
		rc = rc > 0 ? 0 : rc;
	}
	if (rc == 0 && good) {
		rc = keep_learned(v, unit, ckpt_hash128_digest(whole));
		if (rc < 0)
			ckpt_err_sys(err, rc, "cannot verify '%s'", v->label);
	}
	ckpt_hash128_free(whole);
	return rc;
}

static int check_unit(struct verify *v, const struct unit *unit, struct room *room,
		      struct ckpt_err *err)
{
	struct ckpt_shard_reader *reader = NULL;
	int rc = make_room(unit->shard, room);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot verify '%s'", v->label);
	rc = ckpt_shard_reader_open(v->dirfd, v->label, unit->shard, &reader, err);
	if (rc < 0) {
		if (is_ours(rc))
			return rc;
		report_file(v, unit, rc);
		return 0;
	}
	rc = v->learning.unknown[unit->shard_idx] ? learn_blocks(v, unit, reader, room, err)
						  : check_blocks(v, unit, reader, room, err);
	ckpt_shard_reader_free(reader);
	return rc;
}

/* --- sharing the work --------------------------------------------------------------------- */

static uint64_t unit_bytes(const struct unit *unit)
{
	uint64_t start = unit->first_block * unit->shard->block_bytes;
	uint64_t end = num_min(start + unit->block_count * unit->shard->block_bytes,
			       unit->shard->size_bytes);

	return end - start;
}

/* The next unit of the shard at hand, moving on to the next one behind its end. */
static void next_unit_locked(struct verify *v, struct unit *out)
{
	const struct ckpt_shard *shard = &v->manifest.shards[v->next_shard];
	uint64_t blocks = ckpt_block_count(shard->size_bytes, shard->block_bytes);

	*out = (struct unit){ .shard = shard,
			      .shard_idx = v->next_shard,
			      .first_block = v->next_block };
	/* What is summed as a whole is read in order. */
	out->block_count = v->learning.unknown[v->next_shard]
				   ? blocks
				   : num_min(blocks - v->next_block,
					     num_max(UNIT_BYTES / shard->block_bytes, 1));
	v->at += unit_bytes(out);
	v->next_block += out->block_count;
	if (v->next_block < blocks)
		return;
	v->next_shard++;
	v->next_block = 0;
	v->at++; /* to open a file is work, too */
}

/* The next unit of this part; false when there is none. */
static bool take_unit_locked(struct verify *v, struct unit *out)
{
	while (v->next_shard < v->manifest.shard_count && v->at < v->part_end) {
		bool is_mine = v->at >= v->part_start;

		next_unit_locked(v, out);
		if (is_mine)
			return true;
	}
	return false;
}

static bool take_unit(struct verify *v, struct unit *out)
{
	bool taken;

	pthread_mutex_lock(&v->mu);
	taken = v->rc == 0 && take_unit_locked(v, out);
	pthread_mutex_unlock(&v->mu);
	return taken;
}

/* Parts of as many bytes each, and what lies in this one. Before there are threads. */
static void find_part(struct verify *v)
{
	uint64_t count = num_max(v->options->part_count, 1);
	uint64_t idx = v->options->part_idx;
	uint64_t all = 0;
	struct unit unit;

	for (size_t i = 0; i < v->manifest.shard_count; i++)
		all += v->manifest.shards[i].size_bytes + 1;
	v->part_start = all / count * idx + num_min(idx, all % count);
	v->part_end = all / count * (idx + 1) + num_min(idx + 1, all % count);
	while (take_unit_locked(v, &unit)) {
		v->result.shard_count += unit.first_block == 0;
		v->result.size_bytes += unit_bytes(&unit);
	}
	v->bytes_total = v->result.size_bytes;
	v->next_shard = 0;
	v->next_block = 0;
	v->at = 0;
}

static void advance(struct verify *v, const struct unit *unit)
{
	const struct ckpt_verify_options *options = v->options;

	pthread_mutex_lock(&v->mu);
	v->bytes_done += unit_bytes(unit);
	if (v->rc == 0 && options->progress &&
	    options->progress(options->ctx, v->bytes_done, v->bytes_total) != 0)
		v->rc = ckpt_err_set(&v->err, -ECANCELED, "the verification of '%s' was cancelled",
				     v->label);
	pthread_mutex_unlock(&v->mu);
}

static void work(void *arg)
{
	struct verify *v = arg;
	struct room room = { .data = NULL };
	struct unit unit;

	while (take_unit(v, &unit)) {
		struct ckpt_err err = CKPT_ERR_INIT;
		int rc = check_unit(v, &unit, &room, &err);

		if (rc < 0)
			fail(v, rc, &err);
		advance(v, &unit);
	}
	free(room.data);
}

static int check_shards(struct verify *v, struct ckpt_err *err)
{
	struct ckpt_pool *pool = NULL;
	size_t threads;
	int rc = ckpt_pool_new(v->options->thread_count, 0, &pool, err);

	if (rc < 0)
		return rc;
	threads = ckpt_pool_thread_count(pool);
	for (size_t i = 0; rc == 0 && i < threads; i++)
		rc = ckpt_pool_submit(pool, work, v);
	ckpt_pool_free(pool);
	/* A worker that was not started is missed by nobody, unless it is the only one. */
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot verify '%s'", v->label);
	if (v->rc < 0 && err)
		*err = v->err;
	return v->rc;
}

/* --- packs and links ---------------------------------------------------------------------- */

struct pack {
	struct verify *v;
	const char *path;
};

static int report_gap(void *ctx, const struct ckpt_pack_dirt *dirt)
{
	const struct pack *pack = ctx;
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s/%s: bytes %llu-%llu are in no shard and not zero",
			pack->v->label, pack->path, (unsigned long long)dirt->start_bytes,
			(unsigned long long)dirt->end_bytes - 1);
	report(pack->v, &line);
	ckpt_buf_release(&line);
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct ckpt_shard *left = *(const struct ckpt_shard *const *)a;
	const struct ckpt_shard *right = *(const struct ckpt_shard *const *)b;
	int order = strcmp(left->pack, right->pack);

	if (order != 0)
		return order;
	return left->pack_offset_bytes < right->pack_offset_bytes
		       ? -1
		       : left->pack_offset_bytes > right->pack_offset_bytes;
}

/* Gaps of one pack; that it is missing or cannot be read is said of the shards in it. */
static int check_pack(struct verify *v, const struct ckpt_shard *const *shards, size_t count)
{
	struct pack pack = { .v = v, .path = shards[0]->pack };
	CKPT_CLOSE int fd =
		ckpt_io_open_beneath(v->dirfd, pack.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int rc = fd < 0 ? fd : ckpt_pack_check_gaps(fd, shards, count, report_gap, &pack);

	return is_ours(rc) ? rc : 0;
}

static int check_packs(struct verify *v, struct ckpt_err *err)
{
	const struct ckpt_manifest *manifest = &v->manifest;
	CKPT_FREE const struct ckpt_shard **packed =
		array_alloc(num_max(manifest->shard_count, 1), sizeof(void *));
	size_t count = 0;
	size_t pack_idx = 0;
	int rc = packed ? 0 : -ENOMEM;

	for (size_t i = 0; rc == 0 && i < manifest->shard_count; i++) {
		if (manifest->shards[i].pack)
			packed[count++] = &manifest->shards[i];
	}
	if (rc == 0 && count > 0)
		qsort(packed, count, sizeof(void *), by_place);
	for (size_t start = 0, end; rc == 0 && start < count; start = end, pack_idx++) {
		for (end = start;
		     end < count && strcmp(packed[end]->pack, packed[start]->pack) == 0;)
			end++;
		if (in_part(v, pack_idx))
			rc = check_pack(v, packed + start, end - start);
	}
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot verify '%s'", v->label) : 0;
}

static void check_symlink(struct verify *v, const struct ckpt_symlink *link)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(v->dirfd, link->path, O_PATH | O_NOFOLLOW, 0);
	char target[4096];
	ssize_t len_bytes = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target));
	struct ckpt_buf line;

	if (len_bytes > 0 && (size_t)len_bytes == strlen(link->target) &&
	    memcmp(target, link->target, (size_t)len_bytes) == 0)
		return;
	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s/%s: ", v->label, link->path);
	if (fd == -ENOENT || fd == -ENOTDIR)
		ckpt_buf_add_str(&line, "missing");
	else
		ckpt_buf_printf(&line, "is not the symbolic link to '%s' that it should be",
				link->target);
	report(v, &line);
	ckpt_buf_release(&line);
}

/* --- all of it ---------------------------------------------------------------------------- */

/* The manifest itself is the finding: "LABEL/.ckptfs/manifest.jsonl: REASON". */
static void report_manifest(struct verify *v, const struct ckpt_err *err)
{
	const char *reason = strstr(err->msg, CKPT_MANIFEST_FILE "': ");
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s/" CKPT_MANIFEST_FILE ": %s", v->label,
			reason ? reason + strlen(CKPT_MANIFEST_FILE "': ") : err->msg);
	report(v, &line);
	ckpt_buf_release(&line);
}

static int check_all(struct verify *v, struct ckpt_err *err)
{
	const struct ckpt_manifest *manifest = &v->manifest;

	v->reported = array_alloc(num_max(manifest->shard_count, 1), sizeof(*v->reported));
	if (!v->reported)
		return ckpt_err_sys(err, -ENOMEM, "cannot verify '%s'", v->label);
	for (size_t i = 0; i < manifest->symlink_count; i++) {
		if (in_part(v, i))
			check_symlink(v, &manifest->symlinks[i]);
	}
	int rc = ckpt_learning_begin(&v->learning, v->options, v->dirfd, v->label, manifest, err);

	if (rc == 0) {
		find_part(v);
		rc = check_packs(v, err);
	}
	if (rc == 0)
		rc = check_shards(v, err);
	if (rc == 0)
		rc = ckpt_verify_deep(v->dirfd, v->label, manifest, v->options, &v->result, err);
	ckpt_learning_keep(&v->learning, v->options, v->label, manifest);
	return rc;
}

int ckpt_verify(int dirfd, const char *label, const struct ckpt_verify_options *options,
		struct ckpt_verify_result *out, struct ckpt_err *err)
{
	static const struct ckpt_verify_options none;
	struct verify v = { .dirfd = dirfd, .label = label, .options = options ? options : &none };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	pthread_mutex_init(&v.mu, NULL);
	rc = ckpt_manifest_load(dirfd, label, &v.manifest, &why);
	if (rc == 0) {
		rc = check_all(&v, err);
		ckpt_manifest_release(&v.manifest);
	} else if (rc == -EBADMSG) {
		report_manifest(&v, &why);
		rc = 0;
	} else {
		ckpt_err_set(err, rc, "%s", why.msg);
	}
	free(v.reported);
	ckpt_learning_release(&v.learning);
	pthread_mutex_destroy(&v.mu);
	if (rc == 0)
		*out = v.result;
	return rc;
}
