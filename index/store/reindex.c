/*
 * reindex.c - forget what the index holds and make it again from the manifests.
 * The header rows are replaced in one transaction, so that nobody meets a store
 * without checkpoints; the entries follow in one transaction a checkpoint.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "store/store_index.h"
#include "store/store_internal.h"

/* The caller's function for what is passed over. */
struct complaint {
	void (*fn)(void *ctx, const struct ckpt_err *err);
	void *ctx;
};

struct rebuild {
	struct ckpt_store *store;
	const char *below;
	struct complaint problem;
	struct ckpt_db_checkpoint *rows; /* of the usable manifests, by name */
	size_t count, cap;
};

static void complain(const struct rebuild *rebuild, const struct ckpt_err *err)
{
	if (rebuild->problem.fn)
		rebuild->problem.fn(rebuild->problem.ctx, err);
}

/* Read the header anew: what the index says about it is not asked. */
static int note_row(void *ctx, const struct ckpt_found *found)
{
	struct rebuild *rebuild = ctx;
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_db_checkpoint row;
	int rc;

	if (found->problem)
		complain(rebuild, found->problem);
	if (!found->row)
		return 0;
	rc = ckpt_row_of_manifest(rebuild->store, found->name, &row, &why);
	if (rc < 0 && rc != -ENOENT)
		complain(rebuild, &why);
	if (rc < 0)
		return rc == -ENOMEM ? rc : 0;
	rc = array_grow(&rebuild->rows, &rebuild->cap, rebuild->count, sizeof(row));
	if (rc < 0) {
		ckpt_db_checkpoint_release(&row);
		return rc;
	}
	rebuild->rows[rebuild->count++] = row;
	return 0;
}

/* Names that are in the index below a group. */
struct old_names {
	char **names;
	size_t count, cap;
};

static int note_old(void *ctx, const struct ckpt_db_checkpoint *row)
{
	struct old_names *old = ctx;
	int rc = array_grow(&old->names, &old->cap, old->count, sizeof(*old->names));

	if (rc < 0)
		return rc;
	old->names[old->count] = strdup(row->name);
	return old->names[old->count++] ? 0 : -ENOMEM;
}

static int forget_below(struct ckpt_db *db, const char *below, struct ckpt_err *err)
{
	struct old_names old = { 0 };
	int rc = ckpt_db_checkpoints(db, below, note_old, &old, err);

	for (size_t i = 0; i < old.count; i++) {
		if (rc == 0)
			rc = ckpt_db_delete_checkpoint(db, old.names[i], err);
		free(old.names[i]);
	}
	free(old.names);
	return rc;
}

/* In one transaction. */
static int replace_rows(void *ctx, struct ckpt_db *db, struct ckpt_err *err)
{
	struct rebuild *rebuild = ctx;
	int rc = *rebuild->below ? forget_below(db, rebuild->below, err) : ckpt_db_clear(db, err);

	for (size_t i = 0; rc == 0 && i < rebuild->count; i++)
		rc = ckpt_db_put_checkpoint(db, &rebuild->rows[i], err);
	return rc;
}

/* The index may be gone or full: that ends it. A manifest is only its own trouble. */
static bool is_of_manifest(int rc)
{
	return rc == -EBADMSG || rc == -ENOTSUP || rc == -ESTALE || rc == -ENOENT || rc == -EFBIG;
}

static int load_all(struct rebuild *rebuild, uint64_t *out_count, struct ckpt_err *err)
{
	uint64_t count = 0;

	for (size_t i = 0; i < rebuild->count; i++) {
		struct ckpt_err why = CKPT_ERR_INIT;
		int rc = ckpt_store_load_entries(rebuild->store, &rebuild->rows[i], &why);

		if (rc == 0)
			count++;
		else if (is_of_manifest(rc))
			complain(rebuild, &why);
		else
			return ckpt_err_set(err, rc, "%s", why.msg);
	}
	*out_count = count;
	return 0;
}

int ckpt_store_reindex(struct ckpt_store *store, const char *below,
		       void (*problem)(void *ctx, const struct ckpt_err *err), void *ctx,
		       uint64_t *out_count, struct ckpt_err *err)
{
	struct rebuild rebuild = { .store = store,
				   .below = below,
				   .problem = { .fn = problem, .ctx = ctx } };
	int rc = ckpt_store_walk(store, below, note_row, &rebuild, err);

	if (rc == -ENOMEM)
		ckpt_err_sys(err, rc, "cannot rebuild the index");
	if (rc == 0)
		rc = ckpt_index_write(store, replace_rows, &rebuild, err);
	if (rc == 0)
		rc = load_all(&rebuild, out_count, err);
	for (size_t i = 0; i < rebuild.count; i++)
		ckpt_db_checkpoint_release(&rebuild.rows[i]);
	free(rebuild.rows);
	return rc;
}
