/*
 * contents_check.c - are the archives of torch and numpy what their CRC-32s say? Of a `.distcp` the
 * `.metadata` tells where in it the archives lie; any other file is one by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "base/pool.h"
#include "format/dcp.h"
#include "format/zip.h"
#include "store/contents_internal.h"

/* An archive, whole or as an entry of a file. */
struct archive {
	const struct ckpt_contents_file *file;
	uint64_t offset_bytes;
	uint64_t len_bytes;
};

struct run {
	int dirfd;
	const char *label;
	const struct ckpt_contents_check *check;
	struct archive *archives; /* by path and offset: neighbours share an open file */
	size_t count, cap;
	uint64_t total_bytes;
	pthread_mutex_t mu;
	/* What follows is protected by mu. */
	size_t next;
	uint64_t done_bytes;
	uint64_t findings;
	bool *told; /* one a file: that it could not be looked into was said */
	int rc;	    /* of the first that could not be checked */
	struct ckpt_err *err;
};

/* --- which there are ------------------------------------------------------------------------- */

static int no_memory(const struct run *run)
{
	return ckpt_err_sys(run->err, -ENOMEM, "cannot check the archives of '%s'", run->label);
}

static int add_archive(struct run *run, const struct ckpt_contents_file *file, uint64_t offset,
		       uint64_t len)
{
	if (file->is_summed)
		return 0;
	if (array_grow(&run->archives, &run->cap, run->count, sizeof(*run->archives)) < 0)
		return no_memory(run);
	run->archives[run->count++] = (struct archive){ file, offset, len };
	run->total_bytes += len;
	return 0;
}

static int path_and_file(const void *path, const void *file)
{
	return strcmp(path, ((const struct ckpt_contents_file *)file)->path);
}

/* The entries of one folder's `.metadata`. What it says wrongly is the catalogue's business. */
static int add_entries(struct run *run, const char *folder, size_t folder_len,
		       const struct ckpt_dcp_metadata *metadata)
{
	struct ckpt_buf path;
	int rc = 0;

	ckpt_buf_init(&path);
	for (size_t i = 0; rc == 0 && i < metadata->entry_count; i++) {
		for (size_t k = 0; rc == 0 && k < metadata->entries[i].chunk_count; k++) {
			const struct ckpt_dcp_chunk *chunk = &metadata->entries[i].chunks[k];
			const struct ckpt_contents_file *file;

			ckpt_buf_reset(&path);
			ckpt_buf_add(&path, folder, folder_len);
			ckpt_buf_add_str(&path, chunk->file);
			if (ckpt_buf_check(&path) < 0) {
				rc = no_memory(run);
				break;
			}
			file = bsearch(path.data, run->check->files, run->check->file_count,
				       sizeof(*file), path_and_file);
			if (file && chunk->offset_bytes <= file->size_bytes &&
			    chunk->len_bytes <= file->size_bytes - chunk->offset_bytes)
				rc = add_archive(run, file, chunk->offset_bytes, chunk->len_bytes);
		}
	}
	ckpt_buf_release(&path);
	return rc;
}

/* Is there a file beside, or below, the metadata whose bytes nobody has summed? */
static bool has_unsummed(const struct run *run, const struct ckpt_contents_file *metadata)
{
	size_t len = (size_t)(ckpt_path_basename(metadata->path) - metadata->path);

	for (size_t i = 0; i < run->check->file_count; i++) {
		const struct ckpt_contents_file *file = &run->check->files[i];

		if (file != metadata && !file->is_summed &&
		    strncmp(file->path, metadata->path, len) == 0)
			return true;
	}
	return false;
}

/* Once a file. A name in @why may hold anything. */
static void tell_unchecked(struct run *run, const struct ckpt_contents_file *file, const char *why)
{
	bool *told = &run->told[file - run->check->files];
	struct ckpt_buf line;

	if (!run->check->unchecked)
		return;
	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s: not checked: ", file->path);
	ckpt_path_escape(&line, why);
	pthread_mutex_lock(&run->mu);
	if (line.data && !*told)
		run->check->unchecked(run->check->ctx, line.data);
	*told = true;
	pthread_mutex_unlock(&run->mu);
	ckpt_buf_release(&line);
}

static int parse_metadata(struct run *run, const struct ckpt_contents_file *file,
			  const struct ckpt_buf *text)
{
	struct ckpt_dcp_metadata metadata = { .entries = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = ckpt_dcp_parse(text->data, text->len_bytes, CKPT_DCP_METADATA_FILE, &metadata,
				&why);

	if (rc == -EBADMSG)
		tell_unchecked(run, file, why.msg);
	if (rc < 0)
		return rc == -EBADMSG ? 0 : ckpt_err_set(run->err, rc, "%s", why.msg);
	rc = add_entries(run, file->path, (size_t)(ckpt_path_basename(file->path) - file->path),
			 &metadata);
	ckpt_dcp_metadata_release(&metadata);
	return rc;
}

static int look_into_metadata(struct run *run, const struct ckpt_contents_file *file)
{
	struct ckpt_buf text;
	int rc = 0;

	if (!has_unsummed(run, file))
		return 0;
	if (file->size_bytes > CKPT_DCP_METADATA_MAX) {
		tell_unchecked(run, file, "it is longer than 1 GiB");
		return 0;
	}
	ckpt_buf_init(&text);
	/* What cannot be read is found by whoever verifies the blocks. */
	if (ckpt_io_read_file(run->dirfd, file->path, CKPT_DCP_METADATA_MAX, &text, NULL) == 0)
		rc = parse_metadata(run, file, &text);
	ckpt_buf_release(&text);
	return rc;
}

static int list_archives(struct run *run)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < run->check->file_count; i++) {
		const struct ckpt_contents_file *file = &run->check->files[i];

		if (strcmp(contents_name_of(file->path), CKPT_DCP_METADATA_FILE) == 0)
			rc = look_into_metadata(run, file);
		if (rc == 0 &&
		    (contents_may_be_torch(file->path) || contents_is_called(file->path, ".npz")))
			rc = add_archive(run, file, 0, file->size_bytes);
	}
	return rc;
}

static int by_place(const void *left, const void *right)
{
	const struct archive *a = left;
	const struct archive *b = right;
	int order = strcmp(a->file->path, b->file->path);

	return order != 0
		       ? order
		       : (a->offset_bytes > b->offset_bytes) - (a->offset_bytes < b->offset_bytes);
}

/* --- checking -------------------------------------------------------------------------------- */

static const struct archive *take(struct run *run)
{
	const struct archive *archive = NULL;

	pthread_mutex_lock(&run->mu);
	if (run->rc == 0 && run->next < run->count)
		archive = &run->archives[run->next++];
	pthread_mutex_unlock(&run->mu);
	return archive;
}

static void stop(struct run *run, int rc, const char *why)
{
	pthread_mutex_lock(&run->mu);
	if (run->rc == 0)
		run->rc = ckpt_err_set(run->err, rc, "%s", why);
	pthread_mutex_unlock(&run->mu);
}

static int advance(void *ctx, uint64_t bytes)
{
	struct run *run = ctx;
	int rc = 0;

	pthread_mutex_lock(&run->mu);
	run->done_bytes += bytes;
	if (run->check->progress)
		rc = run->check->progress(run->check->ctx, run->done_bytes, run->total_bytes);
	pthread_mutex_unlock(&run->mu);
	return rc == 0 ? 0 : -ECANCELED;
}

/* "'FILE': REASON" becomes "FILE: REASON", as findings are spelled. */
static void report(struct run *run, const struct archive *archive, const char *why)
{
	const char *reason = strstr(why, "': ");
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	ckpt_buf_printf(&line, "%s: %s", archive->file->path, reason ? reason + 3 : why);
	pthread_mutex_lock(&run->mu);
	run->findings++;
	if (line.data)
		run->check->finding(run->check->ctx, line.data);
	pthread_mutex_unlock(&run->mu);
	ckpt_buf_release(&line);
}

/* What does not, torch.save before 1.6 for one, has no sums. */
static bool begins_as_archive(const struct archive *archive, int fd)
{
	unsigned char magic[4] = { 0 };
	size_t got = 0;

	return ckpt_io_pread_full(fd, magic, sizeof(magic), archive->offset_bytes, &got) == 0 &&
	       memcmp(magic, "PK\3\4", sizeof(magic)) == 0;
}

static void check_archive(struct run *run, const struct archive *archive, int fd)
{
	struct ckpt_zip *zip = NULL;
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = ckpt_zip_open(fd, archive->offset_bytes, archive->len_bytes, archive->file->path,
			       &zip, &why);

	/* Without its directory there is no sum to compare. */
	if (rc == -EBADMSG) {
		if (begins_as_archive(archive, fd))
			tell_unchecked(run, archive->file, why.msg);
		return;
	}
	if (rc == 0)
		rc = ckpt_zip_check(zip, fd, archive->file->path, advance, run, &why);
	ckpt_zip_free(zip);
	if (rc == -EBADMSG)
		report(run, archive, why.msg);
	else if (rc < 0)
		stop(run, rc, rc == -ECANCELED ? "interrupted" : why.msg);
}

/* One that is gone, or may not be read, is found by whoever compares the files with the manifest. */
static int open_file(struct run *run, const char *path)
{
	int fd = ckpt_io_open_beneath(run->dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct ckpt_err why = CKPT_ERR_INIT;

	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM) {
		ckpt_err_sys(&why, fd, "cannot check '%s/%s'", run->label, path);
		stop(run, fd, why.msg);
	}
	return fd;
}

static void work(void *arg)
{
	struct run *run = arg;
	const struct archive *archive;
	const char *open_path = NULL;
	int fd = -1;

	while ((archive = take(run))) {
		if (!open_path || strcmp(open_path, archive->file->path) != 0) {
			if (fd >= 0)
				close(fd);
			fd = open_file(run, archive->file->path);
			open_path = archive->file->path;
		}
		if (fd >= 0)
			check_archive(run, archive, fd);
	}
	if (fd >= 0)
		close(fd);
}

static int check_all(struct run *run)
{
	struct ckpt_pool *pool = NULL;
	int rc;

	if (run->count == 0)
		return 0;
	qsort(run->archives, run->count, sizeof(*run->archives), by_place);
	rc = ckpt_pool_new(0, 0, &pool, run->err);
	for (size_t i = 0; rc == 0 && i < ckpt_pool_thread_count(pool); i++) {
		if (ckpt_pool_submit(pool, work, run) < 0)
			rc = no_memory(run);
	}
	ckpt_pool_free(pool);
	return rc < 0 ? rc : run->rc;
}

int ckpt_contents_check(int dirfd, const char *label, const struct ckpt_contents_check *check,
			uint64_t *out_findings, struct ckpt_err *err)
{
	struct run run = { .dirfd = dirfd, .label = label, .check = check, .err = err };
	int rc;

	run.told = array_alloc(num_max(check->file_count, 1), sizeof(*run.told));
	if (!run.told)
		return no_memory(&run);
	pthread_mutex_init(&run.mu, NULL);
	rc = list_archives(&run);
	if (rc == 0)
		rc = check_all(&run);
	pthread_mutex_destroy(&run.mu);
	free(run.archives);
	free(run.told);
	if (rc == 0)
		*out_findings = run.findings;
	return rc;
}
