/*
 * store_index.h - the store's handle, and where its index lies.
 * May be included only by
 * index/store/{store,store_index,store_lookup,store_load,walk,reindex,seq,catalog}.c.
 */
#ifndef CKPT_STORE_STORE_INDEX_H
#define CKPT_STORE_STORE_INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "store/store.h"

struct ckpt_index;

struct ckpt_store {
	int fd;	    /* of the top folder */
	char *path; /* for messages and for paths that are shown */
	char id[37];
	unsigned int flags; /* CKPT_STORE_* */
	bool read_only;
	struct ckpt_index *index; /* NULL with CKPT_STORE_NO_INDEX */
};

/**
 * ckpt_index_new - decide where the index of @store may lie; opens nothing
 * @index_path: NULL for the usual places
 * Errors: -ENOMEM. ckpt_index_free() it; NULL is a no-op.
 */
int ckpt_index_new(struct ckpt_store *store, const char *index_path, struct ckpt_index **out,
		   struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_index_free(struct ckpt_index *index);
/** ckpt_index_place - as ckpt_store_index_place. */
const char *ckpt_index_place(struct ckpt_index *index, const char **out_reason);

/**
 * ckpt_index_read, ckpt_index_write - call @fn with the index; write: inside one transaction,
 * which ends with it
 * A damaged index is opened anew and one that is out of space moves elsewhere; then @fn is called
 * again, and must begin at the beginning.
 * Errors: those of @fn; as ckpt_store_db_get.
 */
int ckpt_index_read(struct ckpt_store *store,
		    int (*fn)(void *ctx, struct ckpt_db *db, struct ckpt_err *err), void *ctx,
		    struct ckpt_err *err) CKPT_MUST_CHECK;
int ckpt_index_write(struct ckpt_store *store,
		     int (*fn)(void *ctx, struct ckpt_db *db, struct ckpt_err *err), void *ctx,
		     struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- store_lookup.c ------------------------------------------------------------------------ */

/**
 * ckpt_row_of_manifest - a row from header and end line of the manifest of @name; slot is 0.
 * Errors: as ckpt_manifest_peek.
 */
int ckpt_row_of_manifest(const struct ckpt_store *store, const char *name,
			 struct ckpt_db_checkpoint *out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_row_fits - was @row made from the manifest that @st is of? */
bool ckpt_row_fits(const struct ckpt_db_checkpoint *row, const struct stat *st);
/** ckpt_row_forget - drop the row of @name if there is one. */
int ckpt_row_forget(struct ckpt_store *store, const char *name, struct ckpt_err *err)
	CKPT_MUST_CHECK;

#endif
