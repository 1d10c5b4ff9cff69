/* db_put.c - putting rows in. What is put keeps the rules by which it is read back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "db_internal.h"

/* Sums of so many blocks are encoded on the stack. */
#define SMALL_COUNT 64U

/* --- checkpoints --------------------------------------------------------------------------- */

static int slot_is_taken(struct ckpt_db *db, uint64_t slot, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_SLOT_TAKEN, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	rc = db_query_row(&query, err);
	db_query_end(&query);
	return rc;
}

/*
 * The slot is the seq, so that inodes are the same on every host and after
 * every rebuild. Copies share a seq: all but the first get one that the name
 * gives, from the upper half, which has no seqs.
 */
static int choose_slot(struct ckpt_db *db, struct ckpt_db_checkpoint *row, struct ckpt_err *err)
{
	const uint64_t half = CKPT_SEQ_MAX + 1;
	uint64_t slot = row->seq;
	int rc = 1;

	if (row->seq >= 1 && row->seq <= CKPT_SEQ_MAX)
		rc = slot_is_taken(db, slot, err);
	if (rc > 0)
		slot = half + ckpt_hash64(row->name, strlen(row->name)) % half;
	for (uint64_t tries = 0; rc > 0 && tries < half; tries++) {
		rc = slot_is_taken(db, slot, err);
		if (rc > 0)
			slot = slot == CKPT_SLOT_MAX ? half : slot + 1;
	}
	if (rc == 0)
		row->slot = slot;
	return rc;
}

static int insert_checkpoint(struct ckpt_db *db, const struct ckpt_db_checkpoint *row,
			     struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_PUT_CHECKPOINT, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, row->slot);
	db_bind_text(&query, row->name);
	db_bind_text(&query, row->id);
	db_bind_u64(&query, row->seq);
	db_bind_opt_u64(&query, row->has_step, row->step);
	db_bind_opt_u64(&query, row->has_world_size, row->world_size);
	db_bind_text(&query, row->created);
	db_bind_text(&query, row->committed);
	db_bind_text(&query, row->writer);
	db_bind_text(&query, row->meta);
	db_bind_u64(&query, row->shard_count);
	db_bind_u64(&query, row->tensor_count);
	db_bind_i64(&query, (int64_t)row->manifest_ino); /* any 64 bits, kept as a signed number */
	db_bind_u64(&query, row->manifest_size_bytes);
	db_bind_i64(&query, row->manifest_mtime_ns);
	db_bind_digest(&query, true, row->manifest_xxh128);
	return db_query_run(&query, err);
}

int ckpt_db_put_checkpoint(struct ckpt_db *db, struct ckpt_db_checkpoint *row, struct ckpt_err *err)
{
	int rc = 0;

	if (!db_checkpoint_is_sound(row))
		return ckpt_err_set(
			err, -EINVAL,
			"checkpoint '%s' cannot be indexed: its name, id or a stamp breaks a rule of"
			" ckptfs-format(5)",
			row->name ? row->name : "");
	rc = ckpt_db_delete_checkpoint(db, row->name, err);
	if (rc == 0)
		rc = choose_slot(db, row, err);
	if (rc == 0)
		rc = insert_checkpoint(db, row, err);
	if (rc < 0)
		return rc;
	row->entries_indexed = false;
	row->size_bytes = 0;
	row->sums_text_bytes = 0;
	row->child_dirs = 0;
	return 0;
}

static int update_place(struct ckpt_db *db, uint64_t slot, const struct ckpt_db_checkpoint *row,
			struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_MOVE_CHECKPOINT, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	db_bind_text(&query, row->name);
	db_bind_i64(&query, (int64_t)row->manifest_ino); /* as in insert_checkpoint */
	db_bind_u64(&query, row->manifest_size_bytes);
	db_bind_i64(&query, row->manifest_mtime_ns);
	return db_query_run(&query, err);
}

int ckpt_db_move_checkpoint(struct ckpt_db *db, const char *old_name,
			    struct ckpt_db_checkpoint *row, struct ckpt_err *err)
{
	struct ckpt_db_checkpoint moved = { 0 };
	int rc = ckpt_db_checkpoint_by_name(db, old_name, &moved, err);
	uint64_t slot = moved.slot;

	if (rc < 0)
		return rc;
	ckpt_db_checkpoint_release(&moved);
	if (strcmp(old_name, row->name) != 0)
		rc = ckpt_db_delete_checkpoint(db, row->name, err);
	if (rc == 0)
		rc = update_place(db, slot, row, err);
	if (rc == 0)
		rc = ckpt_db_checkpoint_by_slot(db, slot, &moved, err);
	if (rc < 0)
		return rc;
	ckpt_db_checkpoint_release(row);
	*row = moved;
	return 0;
}

/* --- entries ------------------------------------------------------------------------------- */

static int insert_entry(struct ckpt_db *db, uint64_t slot, const struct ckpt_db_entry *entry,
			struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_PUT_ENTRY, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, entry->line));
	db_bind_u64(&query, db_key(slot, entry->parent));
	db_bind_text(&query, entry->name);
	db_bind_u64(&query, (uint64_t)entry->kind);
	db_bind_u64(&query, entry->mode);
	db_bind_u64(&query, entry->uid);
	db_bind_u64(&query, entry->gid);
	db_bind_u64(&query, entry->size_bytes);
	db_bind_i64(&query, entry->mtime_ns);
	db_bind_opt_u64(&query, entry->has_rank, entry->rank);
	db_bind_digest(&query, entry->has_xxh128, entry->xxh128);
	db_bind_u64(&query, entry->block_bytes);
	db_bind_text(&query, entry->pack);
	db_bind_u64(&query, entry->pack_offset);
	db_bind_u64(&query, entry->child_dirs);
	db_bind_text(&query, entry->target);
	return db_query_run(&query, err);
}

static void encode_sums(const uint64_t *sums, uint64_t count, unsigned char *out)
{
	for (uint64_t i = 0; i < count; i++) {
		for (unsigned byte = 0; byte < 8; byte++)
			out[8 * i + byte] = (unsigned char)(sums[i] >> 8 * byte);
	}
}

static int insert_sums(struct ckpt_db *db, uint64_t key, const uint64_t *sums, uint64_t count,
		       struct ckpt_err *err)
{
	unsigned char small[8 * SMALL_COUNT];
	CKPT_FREE unsigned char *large = count > SMALL_COUNT ? array_alloc(count, 8) : NULL;
	unsigned char *bytes = count > SMALL_COUNT ? large : small;
	struct db_query query;
	int rc = 0;

	if (!bytes)
		return ckpt_err_sys(err, -ENOMEM, "cannot write index '%s'", db->label);
	rc = db_query_write(db, DB_PUT_SUMS, &query, err);
	if (rc < 0)
		return rc;
	encode_sums(sums, count, bytes);
	db_bind_u64(&query, key);
	db_bind_blob(&query, bytes, 8 * count);
	return db_query_run(&query, err);
}

/* A shard has as many sums as blocks, anything else has none. */
static bool sums_fit(const struct ckpt_db_entry *entry, uint64_t count)
{
	if (entry->kind != CKPT_ENTRY_SHARD)
		return count == 0;
	return count == num_div_up(entry->size_bytes, entry->block_bytes);
}

int ckpt_db_put_entry(struct ckpt_db *db, uint64_t slot, const struct ckpt_db_entry *entry,
		      const uint64_t *sums, uint64_t sum_count, struct ckpt_err *err)
{
	int rc = 0;

	if (!db_entry_is_sound(entry) || !sums_fit(entry, sum_count))
		return ckpt_err_set(err, -EINVAL,
				    "'%s' cannot be indexed: its name, kind or sums break a rule of"
				    " ckptfs-format(5)",
				    entry->name ? entry->name : "");
	rc = insert_entry(db, slot, entry, err);
	if (rc == 0 && sum_count > 0)
		rc = insert_sums(db, db_key(slot, entry->line), sums, sum_count, err);
	return rc;
}

/* --- tensors ------------------------------------------------------------------------------- */

int ckpt_db_put_tensor(struct ckpt_db *db, uint64_t slot, const struct ckpt_db_tensor *tensor,
		       struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_PUT_TENSOR, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, tensor->line));
	db_bind_text(&query, tensor->set);
	db_bind_text(&query, tensor->group);
	db_bind_text(&query, tensor->fqn);
	db_bind_text(&query, tensor->dtype);
	db_bind_text(&query, tensor->shape);
	return db_query_run(&query, err);
}

int ckpt_db_put_chunk(struct ckpt_db *db, uint64_t slot, uint32_t tensor_line, uint32_t shard_line,
		      const char *chunk, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_PUT_CHUNK, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, db_key(slot, shard_line));
	db_bind_u64(&query, db_key(slot, tensor_line));
	db_bind_text(&query, chunk);
	return db_query_run(&query, err);
}

/* --- a digest learned later --------------------------------------------------------------- */

static int update_xxh128(struct ckpt_db *db, uint64_t key, struct ckpt_digest xxh128,
			 struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_SET_XXH128, &query, err);

	if (rc < 0)
		return rc;
	db_bind_u64(&query, key);
	db_bind_digest(&query, true, xxh128);
	return db_query_run(&query, err);
}

static int grow_sums_text(struct ckpt_db *db, uint64_t slot, uint64_t bytes, struct ckpt_err *err)
{
	struct db_query query;
	int rc = db_query_write(db, DB_GROW_SUMS_TEXT, &query, err);

	if (rc < 0)
		return rc;
	db_bind_slot(&query, slot);
	db_bind_u64(&query, bytes);
	return db_query_run(&query, err);
}

int ckpt_db_set_xxh128(struct ckpt_db *db, uint64_t slot, uint32_t line, struct ckpt_digest xxh128,
		       struct ckpt_err *err)
{
	struct ckpt_db_entry entry = { 0 };
	char buf[DB_PATH_BUF];
	const char *path = NULL;
	int rc = ckpt_db_entry_by_line(db, slot, line, &entry, err);

	if (rc < 0)
		return rc;
	if (entry.kind != CKPT_ENTRY_SHARD)
		rc = ckpt_err_set(err, -ENOENT, "index '%s': '%s' is no shard", db->label,
				  entry.name);
	if (rc == 0)
		rc = db_entry_path(db, db_key(slot, line), buf, &path, err);
	if (rc == 0)
		rc = update_xxh128(db, db_key(slot, line), xxh128, err);
	if (rc == 0 && !entry.has_xxh128)
		rc = grow_sums_text(db, slot, db_sums_line_bytes(strlen(path)), err);
	ckpt_db_entry_release(&entry);
	return rc;
}
