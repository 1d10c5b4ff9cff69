/* slots.c - see slots.h. */
#include "slots.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/path.h"
#include "node.h"
#include "removal.h"

/* Checkpoints kept, by slot modulo this: half a megabyte. A miss costs one row. */
#define SLOTS_KEPT 1024U

struct slots {
	pthread_mutex_t mu;
	struct checkpoint *kept[SLOTS_KEPT]; /* protected by mu */
};

struct slots *slots_new(void)
{
	struct slots *slots = calloc(1, sizeof(*slots));

	if (slots)
		pthread_mutex_init(&slots->mu, NULL);
	return slots;
}

void checkpoint_unref(struct checkpoint *cp)
{
	if (!cp || atomic_fetch_sub(&cp->refs, 1) != 1)
		return;
	ckpt_db_checkpoint_release(&cp->row);
	free(cp);
}

void slots_free(struct slots *slots)
{
	if (!slots)
		return;
	for (size_t i = 0; i < SLOTS_KEPT; i++)
		checkpoint_unref(slots->kept[i]);
	pthread_mutex_destroy(&slots->mu);
	free(slots);
}

static struct checkpoint *find(struct slots *slots, uint64_t slot)
{
	struct checkpoint *cp;

	pthread_mutex_lock(&slots->mu);
	cp = slots->kept[slot % SLOTS_KEPT];
	if (cp && cp->row.slot == slot)
		atomic_fetch_add(&cp->refs, 1);
	else
		cp = NULL;
	pthread_mutex_unlock(&slots->mu);
	return cp;
}

static int count_dir(void *ctx, const struct ckpt_db_entry *entry)
{
	uint32_t *count = ctx;

	/* In a manifest folders come before all else. */
	if (entry->kind != CKPT_ENTRY_DIR)
		return 1;
	(*count)++;
	return 0;
}

/*
 * Where it cannot be counted now the top says less than it has: only tools that guess from it
 * would care.
 */
static uint32_t count_top_dirs(struct fs *fs, uint64_t slot)
{
	struct ckpt_db_cursor top = { .slot = slot,
				      .parent = NODE_TOP_LINE,
				      .after = NODE_TOP_LINE };
	struct ckpt_db *db = NULL;
	uint32_t count = 0;

	if (ckpt_store_db_get(fs->store, &db, NULL) < 0)
		return 0;
	if (ckpt_db_children(db, &top, count_dir, &count, NULL) < 0)
		count = 0;
	ckpt_store_db_put(fs->store, db);
	return count;
}

/* Does the row tell nothing new? */
static bool is_known(const struct checkpoint *cp, const struct ckpt_db_checkpoint *row)
{
	return cp->row.entries_indexed == row->entries_indexed &&
	       cp->row.sums_text_bytes == row->sums_text_bytes &&
	       cp->row.manifest_ino == row->manifest_ino &&
	       cp->row.manifest_mtime_ns == row->manifest_mtime_ns &&
	       ckpt_digest_equal(cp->row.manifest_xxh128, row->manifest_xxh128) &&
	       strcmp(cp->row.id, row->id) == 0 && strcmp(cp->row.name, row->name) == 0;
}

/*
 * A checkpoint with two references, the table's and the caller's; takes over what @row points to,
 * if it is made.
 */
static struct checkpoint *checkpoint_new(struct fs *fs, struct ckpt_db_checkpoint *row)
{
	struct checkpoint *cp = calloc(1, sizeof(*cp));

	if (!cp)
		return NULL;
	cp->row = *row;
	*row = (struct ckpt_db_checkpoint){ 0 };
	/* The kernel keeps 32 bits of it. */
	cp->generation = (uint32_t)(cp->row.manifest_xxh128.lo ^ cp->row.manifest_xxh128.hi);
	if (cp->row.entries_indexed)
		cp->top_dirs = count_top_dirs(fs, cp->row.slot);
	atomic_init(&cp->refs, 2);
	return cp;
}

int slots_note(struct fs *fs, struct ckpt_db_checkpoint *row, struct checkpoint **out)
{
	struct checkpoint **place = &fs->slots->kept[row->slot % SLOTS_KEPT];
	struct checkpoint *old = find(fs->slots, row->slot);
	struct checkpoint *cp;

	assert(row->name);
	if (removal_conflicts(fs, row)) {
		checkpoint_unref(old);
		ckpt_db_checkpoint_release(row);
		return -EBUSY;
	}
	if (old && is_known(old, row)) {
		ckpt_db_checkpoint_release(row);
		*out = old;
		return 0;
	}
	checkpoint_unref(old);
	cp = checkpoint_new(fs, row);
	if (!cp) {
		ckpt_db_checkpoint_release(row);
		return -ENOMEM;
	}
	pthread_mutex_lock(&fs->slots->mu);
	old = *place;
	*place = cp;
	pthread_mutex_unlock(&fs->slots->mu);
	checkpoint_unref(old);
	*out = cp;
	return 0;
}

/* The row as the index has it now. */
static int read_row(struct fs *fs, uint64_t slot, struct ckpt_db_checkpoint *out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db *db = NULL;
	int rc = ckpt_store_db_get(fs->store, &db, &err);

	if (rc == 0) {
		rc = ckpt_db_checkpoint_by_slot(db, slot, out, &err);
		ckpt_store_db_put(fs->store, db);
	}
	if (rc < 0 && rc != -ENOENT)
		fs_log_once("%s", err.msg);
	return rc == -ENOENT ? -ESTALE : rc;
}

/* What is being removed is in no index any more. */
static struct checkpoint *find_removed(struct fs *fs, uint64_t slot)
{
	struct removal_tree *tree = removal_tree_of(fs, slot);
	struct checkpoint *cp = NULL;

	if (tree) {
		cp = removal_tree_checkpoint(tree);
		atomic_fetch_add(&cp->refs, 1);
	}
	removal_tree_unref(tree);
	return cp;
}

int slots_get(struct fs *fs, uint64_t slot, struct checkpoint **out)
{
	struct ckpt_db_checkpoint row = { 0 };
	int rc;

	*out = find_removed(fs, slot);
	if (!*out)
		*out = find(fs->slots, slot);
	if (*out)
		return 0;
	rc = read_row(fs, slot, &row);
	return rc < 0 ? rc : slots_note(fs, &row, out);
}

int slots_get_loaded(struct fs *fs, uint64_t slot, struct checkpoint **out)
{
	struct checkpoint *cp = NULL;
	int rc = slots_get(fs, slot, &cp);

	if (rc < 0)
		return rc;
	if (!cp->row.entries_indexed) {
		checkpoint_unref(cp);
		return RC_LOAD_FIRST;
	}
	*out = cp;
	return 0;
}

/* Look at the folder by its name; *@out is noted, its entries are not loaded yet. */
static int look_again(struct fs *fs, uint64_t slot, struct ckpt_db_checkpoint *out)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct checkpoint *cp = NULL;
	int rc = slots_get(fs, slot, &cp);

	if (rc < 0)
		return rc;
	rc = ckpt_store_lookup(fs->store, cp->row.name, out, &err);
	if (rc == 0 && (out->slot != slot || strcmp(out->id, cp->row.id) != 0)) {
		ckpt_db_checkpoint_release(out);
		rc = -ENOENT; /* another one has the name now */
	}
	if (rc < 0 && rc != -ENOENT)
		fs_log_once("%s", err.msg);
	checkpoint_unref(cp);
	return rc == -ENOENT ? -ESTALE : rc;
}

int slots_load(struct fs *fs, uint64_t slot)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_db_checkpoint row = { 0 };
	struct checkpoint *cp = NULL;
	int rc;

	if (removal_is_active(fs, slot))
		return 0;
	rc = look_again(fs, slot, &row);
	if (rc < 0)
		return rc;
	if (!row.entries_indexed) {
		rc = ckpt_store_load_entries(fs->store, &row, &err);
		stats_add(&fs->stats.entry_loads, 1);
	}
	if (rc < 0) {
		fs_log_once("%s", err.msg);
		ckpt_db_checkpoint_release(&row);
		return rc == -ENOENT ? -ESTALE : rc;
	}
	rc = slots_note(fs, &row, &cp);
	if (rc == 0)
		checkpoint_unref(cp);
	return rc;
}

int slots_still_loaded(struct fs *fs, uint64_t slot)
{
	struct ckpt_db_checkpoint row = { 0 };
	bool loaded;
	int rc;

	if (removal_is_active(fs, slot))
		return 0;
	rc = read_row(fs, slot, &row);
	/* No row: its name may still be known here, and lead to the folder. */
	if (rc == -ESTALE)
		return RC_LOAD_FIRST;
	if (rc < 0)
		return rc;
	loaded = row.entries_indexed;
	ckpt_db_checkpoint_release(&row);
	return loaded ? 0 : RC_LOAD_FIRST;
}

/* --- names that change --------------------------------------------------------------------- */

/* The next checkpoint that is kept from place *@at on and lies at or below @path; NULL: no more. */
static struct checkpoint *next_below(struct slots *slots, const char *path, size_t *at)
{
	struct checkpoint *cp = NULL;

	pthread_mutex_lock(&slots->mu);
	for (; !cp && *at < SLOTS_KEPT; (*at)++) {
		cp = slots->kept[*at];
		if (cp && !ckpt_path_is_below(cp->row.name, path))
			cp = NULL;
	}
	if (cp)
		atomic_fetch_add(&cp->refs, 1);
	pthread_mutex_unlock(&slots->mu);
	return cp;
}

/* Look it up by its new name, which gives its row in the index that name, too. */
static void follow(struct fs *fs, const struct checkpoint *cp, const char *new_name)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct checkpoint *noted = NULL;
	struct ckpt_db_checkpoint row;
	int rc = ckpt_store_lookup(fs->store, new_name, &row, &err);

	if (rc == 0 && slots_note(fs, &row, &noted) < 0)
		noted = NULL;
	else if (rc < 0 && rc != -ENOENT)
		fs_log_once("%s", err.msg);
	/* What is kept under the old name leads nowhere. */
	if (!noted || noted->row.slot != cp->row.slot)
		slots_drop(fs, cp->row.slot);
	checkpoint_unref(noted);
}

void slots_renamed(struct fs *fs, const char *old_path, const char *new_path)
{
	struct checkpoint *cp;
	struct ckpt_buf name;
	size_t at = 0;

	ckpt_buf_init(&name);
	while ((cp = next_below(fs->slots, old_path, &at))) {
		ckpt_buf_reset(&name);
		ckpt_buf_printf(&name, "%s%s", new_path, cp->row.name + strlen(old_path));
		if (ckpt_buf_check(&name) == 0)
			follow(fs, cp, name.data);
		checkpoint_unref(cp);
	}
	ckpt_buf_release(&name);
}

void slots_drop(struct fs *fs, uint64_t slot)
{
	struct checkpoint **place = &fs->slots->kept[slot % SLOTS_KEPT];
	struct checkpoint *old = NULL;

	pthread_mutex_lock(&fs->slots->mu);
	if (*place && (*place)->row.slot == slot) {
		old = *place;
		*place = NULL;
	}
	pthread_mutex_unlock(&fs->slots->mu);
	checkpoint_unref(old);
}
