/* db_checkpoints.c - reading the rows of checkpoints. */
#include <errno.h>

#include "base/buf.h"
#include "db_internal.h"

/* The one row of @query, which it ends. @what, @name say what was looked for. */
static int read_one(struct db_query *query, struct ckpt_db_checkpoint *out, struct ckpt_err *err)
{
	int rc = db_query_row(query, err);

	if (rc > 0)
		rc = db_checkpoint_row_read(query, out, err);
	else if (rc == 0)
		rc = ckpt_err_set(err, -ENOENT, "index '%s' has no such checkpoint",
				  query->db->label);
	db_query_end(query);
	return rc;
}

int ckpt_db_checkpoint_by_name(struct ckpt_db *db, const char *name, struct ckpt_db_checkpoint *out,
			       struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_read(db, DB_READ_CHECKPOINT_BY_NAME, &query, err);

	if (rc < 0)
		return rc;
	db_bind_text(&query, name);
	return read_one(&query, out, err);
}

int ckpt_db_checkpoint_by_slot(struct ckpt_db *db, uint64_t slot, struct ckpt_db_checkpoint *out,
			       struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_read(db, DB_READ_CHECKPOINT_BY_SLOT, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	return read_one(&query, out, err);
}

struct visit {
	int (*fn)(void *ctx, const struct ckpt_db_checkpoint *row);
	void *ctx;
};

/* Every name from @low to before @high, by bytes. */
static int visit_range(struct ckpt_db *db, const char *low, const char *high,
		       const struct visit *visit, struct ckpt_err *err)
{
	struct ckpt_db_checkpoint row = { 0 };
	struct db_query query;
	int rc = db_query_read(db, DB_READ_CHECKPOINTS, &query, err);

	if (rc < 0)
		return rc;
	db_bind_text(&query, low);
	db_bind_text(&query, high);
	while ((rc = db_query_row(&query, err)) > 0) {
		rc = db_checkpoint_row_read(&query, &row, err);
		if (rc < 0)
			break;
		rc = visit->fn(visit->ctx, &row);
		ckpt_db_checkpoint_release(&row);
		if (rc != 0)
			break;
	}
	db_query_end(&query);
	return rc;
}

/* Two ranges, because "a-b" sorts between "a" and "a/b". '0' is the byte behind '/'. */
int ckpt_db_checkpoints(struct ckpt_db *db, const char *below,
			int (*fn)(void *ctx, const struct ckpt_db_checkpoint *row), void *ctx,
			struct ckpt_err *err)
{
	const struct visit visit = { .fn = fn, .ctx = ctx };
	struct ckpt_buf low;
	struct ckpt_buf high;
	int rc = 0;

	if (below[0] == '\0') /* 0xff is in no UTF-8 text */
		return visit_range(db, "", "\xff", &visit, err);
	ckpt_buf_init(&low);
	ckpt_buf_init(&high);
	ckpt_buf_printf(&high, "%s\x01", below); /* names hold no control characters */
	rc = ckpt_buf_check(&high);
	if (rc == 0)
		rc = visit_range(db, below, high.data, &visit, err);
	ckpt_buf_reset(&high);
	ckpt_buf_printf(&low, "%s/", below);
	ckpt_buf_printf(&high, "%s0", below);
	if (rc == 0 && (ckpt_buf_check(&low) < 0 || ckpt_buf_check(&high) < 0))
		rc = ckpt_err_sys(err, -ENOMEM, "cannot list the checkpoints below '%s'", below);
	if (rc == 0)
		rc = visit_range(db, low.data, high.data, &visit, err);
	ckpt_buf_release(&low);
	ckpt_buf_release(&high);
	return rc;
}
