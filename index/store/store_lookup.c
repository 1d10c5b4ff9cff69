/*
 * store_lookup.c - is a name a committed checkpoint, now? The manifest on disk says
 * so; the index only saves reading it. A row whose inode, size and mtime are
 * those of the manifest is believed, any other is made anew.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "store/store_index.h"
#include "store/store_internal.h"

/* --- rows --------------------------------------------------------------------------- */

static int64_t mtime_ns_of(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

bool ckpt_row_fits(const struct ckpt_db_checkpoint *row, const struct stat *st)
{
	return row->manifest_ino == st->st_ino &&
	       row->manifest_size_bytes == (uint64_t)st->st_size &&
	       row->manifest_mtime_ns == mtime_ns_of(st);
}

/* Take what @peek holds into a row; its strings move. */
static void row_from_peek(struct ckpt_manifest_peek *peek, char *name,
			  struct ckpt_db_checkpoint *out)
{
	struct ckpt_manifest_head *head = &peek->head;

	*out = (struct ckpt_db_checkpoint){
		.name = name,
		.seq = head->seq,
		.has_step = head->has_step,
		.step = head->step,
		.has_world_size = head->has_world_size,
		.world_size = head->world_size,
		.writer = head->writer,
		.meta = head->meta,
		.shard_count = peek->shard_count,
		.tensor_count = peek->tensor_count,
		.manifest_ino = peek->ino,
		.manifest_size_bytes = peek->size_bytes,
		.manifest_mtime_ns = peek->mtime_ns,
		.manifest_xxh128 = peek->xxh128,
	};
	head->writer = NULL;
	head->meta = NULL;
	memcpy(out->id, head->id, sizeof(out->id));
	memcpy(out->created, head->created, sizeof(out->created));
	memcpy(out->committed, head->committed, sizeof(out->committed));
}

int ckpt_row_of_manifest(const struct ckpt_store *store, const char *name,
			 struct ckpt_db_checkpoint *out, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_manifest_peek peek = { 0 };
	char *copy;
	int rc = ckpt_store_open_checkpoint(store, name, &fd, err);

	if (rc == 0)
		rc = ckpt_manifest_peek(fd, name, &peek, err);
	if (rc < 0)
		return rc;
	copy = strdup(name);
	if (copy)
		row_from_peek(&peek, copy, out);
	else
		rc = ckpt_err_sys(err, -ENOMEM, "cannot look up '%s'", name);
	ckpt_manifest_head_release(&peek.head);
	return rc;
}

/* --- the index's side ------------------------------------------------------------------ */

/* A row that is asked for by name. */
struct row_query {
	const char *name;
	struct ckpt_db_checkpoint *out;
};

static int read_row(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	const struct row_query *query = ctx;

	return ckpt_db_checkpoint_by_name(db, query->name, query->out, err);
}

static int delete_row(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	const char *const *name = ctx;

	return ckpt_db_delete_checkpoint(db, *name, err);
}

int ckpt_row_forget(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	struct ckpt_db_checkpoint row;
	int rc = ckpt_index_read(store, read_row, &(struct row_query){ .name = name, .out = &row },
				 err);

	/* Nearly always: asking for a name that never was must not take the writer's lock. */
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	ckpt_db_checkpoint_release(&row);
	return ckpt_index_write(store, delete_row, &name, err);
}

/* A row that is put in. */
struct row_put {
	const struct ckpt_store *store;
	struct ckpt_db_checkpoint *row;
};

/*
 * The same manifest at the same inode: touched, or renamed with its folder. A
 * copy is another one: its files may have other owners.
 */
static bool is_same(const struct ckpt_db_checkpoint *a, const struct ckpt_db_checkpoint *b)
{
	return strcmp(a->id, b->id) == 0 && a->manifest_ino == b->manifest_ino &&
	       a->manifest_size_bytes == b->manifest_size_bytes &&
	       ckpt_digest_equal(a->manifest_xxh128, b->manifest_xxh128);
}

/* Take over the row @known when it is ours: 1 done, 0 it is not. @known is released. */
static int take_over(const struct row_put *put, struct ckpt_db *db,
		     struct ckpt_db_checkpoint *known, struct ckpt_err *err)
{
	int rc = 0;

	if (is_same(known, put->row)) {
		rc = ckpt_db_move_checkpoint(db, known->name, put->row, err);
		rc = rc < 0 ? rc : 1;
	}
	ckpt_db_checkpoint_release(known);
	return rc;
}

/*
 * Where nothing is any more at the name that holds the slot, the checkpoint was
 * renamed: it keeps its slot, so its inodes, and its entries. Else the slot is
 * set free. 1: the row is in its place.
 */
static int take_slot(const struct row_put *put, struct ckpt_db *db, struct ckpt_err *err)
{
	struct ckpt_db_checkpoint holder;
	struct stat st;
	int rc = ckpt_db_checkpoint_by_slot(db, put->row->seq, &holder, err);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (strcmp(holder.name, put->row->name) == 0 ||
	    ckpt_manifest_stat(put->store->fd, holder.name, &st) != -ENOENT) {
		ckpt_db_checkpoint_release(&holder);
		return 0;
	}
	if (!is_same(&holder, put->row))
		rc = ckpt_db_delete_checkpoint(db, holder.name, err);
	if (rc == 0)
		return take_over(put, db, &holder, err);
	ckpt_db_checkpoint_release(&holder);
	return rc;
}

static int put_row(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	const struct row_put *put = ctx;
	struct ckpt_db_checkpoint known;
	int rc = ckpt_db_checkpoint_by_name(db, put->row->name, &known, err);

	if (rc == 0)
		rc = take_over(put, db, &known, err);
	else if (rc == -ENOENT)
		rc = 0;
	if (rc == 0)
		rc = take_slot(put, db, err);
	if (rc == 0)
		rc = ckpt_db_put_checkpoint(db, put->row, err);
	return rc < 0 ? rc : 0;
}

/* --- looking up ------------------------------------------------------------------------ */

static int refuse_none(const struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	return ckpt_err_set(
		err, -ENOENT,
		"'%s' is no committed checkpoint of the store '%s'; 'ckptfs ls' lists them", name,
		store->path);
}

/* Nothing committed is at @name: nor shall the index say so. */
static int answer_none(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	int rc = store->index ? ckpt_row_forget(store, name, err) : 0;

	return rc < 0 ? rc : refuse_none(store, name, err);
}

/* Read the manifest and put a new row into the index. */
static int look_anew(struct ckpt_store *store, const char *name, struct ckpt_db_checkpoint *out,
		     struct ckpt_err *err)
{
	struct ckpt_db_checkpoint row;
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = ckpt_row_of_manifest(store, name, &row, &why);

	if (rc == -ENOENT) /* removed this moment */
		return answer_none(store, name, err);
	if (rc < 0) {
		/*
		 * The row of what was there before must not be served; why it cannot be read is
		 * what matters.
		 */
		if (store->index)
			ckpt_ignore(ckpt_row_forget(store, name, NULL));
		return ckpt_err_set(err, rc, "%s", why.msg);
	}
	/* Seen for the first time: once is often enough to look for what a killed commit left. */
	ckpt_leftovers_drop(store, name);
	if (store->index)
		rc = ckpt_index_write(store, put_row,
				      &(struct row_put){ .store = store, .row = &row }, err);
	if (rc < 0) {
		ckpt_db_checkpoint_release(&row);
		return rc;
	}
	*out = row;
	return 0;
}

int ckpt_store_lookup(struct ckpt_store *store, const char *name, struct ckpt_db_checkpoint *out,
		      struct ckpt_err *err)
{
	struct ckpt_db_checkpoint row;
	struct stat st;
	int rc;

	if (ckpt_path_check_name(name, NULL) < 0)
		return refuse_none(store, name, err);
	rc = ckpt_path_is_temporary(name) ? -ENOENT : ckpt_manifest_stat(store->fd, name, &st);
	if (rc == -ENOENT)
		return answer_none(store, name, err);
	if (rc == -EBADMSG) /* reading it says what is in its place */
		return look_anew(store, name, out, err);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look up '%s' in the store '%s'", name,
				    store->path);
	if (!store->index)
		return look_anew(store, name, out, err);
	rc = ckpt_index_read(store, read_row, &(struct row_query){ .name = name, .out = &row },
			     err);
	if (rc == 0 && ckpt_row_fits(&row, &st)) {
		*out = row;
		return 0;
	}
	if (rc == 0)
		ckpt_db_checkpoint_release(&row);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	return look_anew(store, name, out, err);
}
