/*
 * manifest_rules.c - what lines of a manifest owe to those before them: order, folders, names that
 * occur once, places in packs, shards that exist and are long enough.
 *
 * Memory does not grow with the lines but for the folders' paths, 24 bytes a shard and 32 more
 * where it is packed. A shard's name is kept as its XXH3-128. That is no cryptographic hash: who
 * makes names collide on purpose gets his manifest refused, or a chunk accepted whose shard is not
 * there; ckpt_manifest_load() and the index look shards up by the name itself and find that out.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "store/manifest_internal.h"

/* Parts of what lines of one kind are ordered by: a path, or (set, FQN, shard). */
#define KEY_PARTS 3

struct key {
	const char *part[KEY_PARTS];
};

struct shard_name {
	struct ckpt_digest hash;
	uint64_t size_bytes;
};

/* A shard's place in a pack. */
struct packed {
	uint64_t pack_hash;
	uint64_t offset_bytes;
	uint64_t size_bytes;
	uint32_t line;
};

struct ckpt_manifest_rules {
	enum ckpt_line_kind kind; /* of the last line */
	bool has_prev;		  /* there was a line of that kind, and `prev` is its key */
	struct ckpt_buf prev[KEY_PARTS];

	char **dirs; /* ordered, as their lines are */
	size_t dir_count;
	size_t dir_cap;
	struct ckpt_buf parent; /* a folder that was found last: most neighbours share it */

	struct shard_name *names; /* in line order until names_sorted */
	size_t name_count;
	size_t name_cap;
	bool names_sorted;

	struct packed *packed; /* empty shards, which overlap nothing, are left out */
	size_t packed_count;
	size_t packed_cap;

	uint64_t size_bytes; /* of all shards */
	uint64_t tensor_count;
};

struct ckpt_manifest_rules *ckpt_manifest_rules_new(void)
{
	struct ckpt_manifest_rules *rules = calloc(1, sizeof(*rules));

	if (!rules)
		return NULL;
	for (size_t i = 0; i < KEY_PARTS; i++)
		ckpt_buf_init(&rules->prev[i]);
	ckpt_buf_init(&rules->parent);
	return rules;
}

void ckpt_manifest_rules_free(struct ckpt_manifest_rules *rules)
{
	if (!rules)
		return;
	for (size_t i = 0; i < KEY_PARTS; i++)
		ckpt_buf_release(&rules->prev[i]);
	ckpt_buf_release(&rules->parent);
	for (size_t i = 0; i < rules->dir_count; i++)
		free(rules->dirs[i]);
	free(rules->dirs);
	free(rules->names);
	free(rules->packed);
	free(rules);
}

/* File "'NAME' reason"; FQNs may hold anything, so that the name is escaped. Returns -EBADMSG. */
static int refuse(struct ckpt_err *err, const char *name, const char *reason)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, name);
	ckpt_err_set(err, -EBADMSG, "'%s' %s", shown.data, reason);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

static int out_of_memory(struct ckpt_err *err)
{
	return ckpt_err_sys(err, -ENOMEM, "cannot check it");
}

/* --- order --------------------------------------------------------------------- */

static struct key key_of(const struct ckpt_manifest_line *line)
{
	switch (line->kind) {
	case CKPT_LINE_DIR:
		return (struct key){ { line->dir.path, "", "" } };
	case CKPT_LINE_SHARD:
		return (struct key){ { line->shard.path, "", "" } };
	case CKPT_LINE_SYMLINK:
		return (struct key){ { line->symlink.path, "", "" } };
	case CKPT_LINE_TENSOR:
		return (struct key){ { line->tensor.set, line->tensor.fqn, "" } };
	case CKPT_LINE_BYTES:
		return (struct key){ { line->bytes.set, line->bytes.fqn, line->bytes.shard } };
	case CKPT_LINE_KIND_COUNT:
		break;
	}
	assert(!"no such kind of line");
	return (struct key){ { "", "", "" } };
}

/* What a message calls the line: its path, or its FQN. */
static const char *title_of(const struct ckpt_manifest_line *line)
{
	struct key key = key_of(line);

	return key.part[line->kind >= CKPT_LINE_TENSOR ? 1 : 0];
}

static int compare_with_prev(const struct ckpt_manifest_rules *rules, const struct key *key)
{
	int order = 0;

	for (size_t i = 0; i < KEY_PARTS && order == 0; i++)
		order = strcmp(rules->prev[i].data, key->part[i]);
	return order;
}

static int remember_key(struct ckpt_manifest_rules *rules, const struct key *key,
			struct ckpt_err *err)
{
	for (size_t i = 0; i < KEY_PARTS; i++) {
		ckpt_buf_reset(&rules->prev[i]);
		ckpt_buf_add_str(&rules->prev[i], key->part[i]);
		if (ckpt_buf_check(&rules->prev[i]) < 0)
			return out_of_memory(err);
	}
	rules->has_prev = true;
	return 0;
}

static int check_order(struct ckpt_manifest_rules *rules, const struct ckpt_manifest_line *line,
		       struct ckpt_err *err)
{
	struct key key = key_of(line);
	int order;

	if (line->kind < rules->kind)
		return refuse(err, title_of(line), "stands behind a line of a later kind");
	if (line->kind > rules->kind)
		rules->has_prev = false;
	rules->kind = line->kind;
	if (rules->has_prev) {
		order = compare_with_prev(rules, &key);
		if (order == 0)
			return refuse(err, title_of(line), "is listed twice");
		if (order > 0)
			return refuse(err, title_of(line), "is not in ascending order");
	}
	return remember_key(rules, &key, err);
}

/* --- folders ------------------------------------------------------------------- */

static int compare_dirs(const void *left, const void *right)
{
	const char *const *a = left;
	const char *const *b = right;

	return strcmp(*a, *b);
}

static bool has_dir(const struct ckpt_manifest_rules *rules, const char *path)
{
	return rules->dir_count > 0 &&
	       bsearch(&path, rules->dirs, rules->dir_count, sizeof(*rules->dirs), compare_dirs);
}

/* The folder that @path lies in must have had its line. */
static int check_parent(struct ckpt_manifest_rules *rules, const char *path, struct ckpt_err *err)
{
	size_t len_bytes = (size_t)(ckpt_path_basename(path) - path);
	struct ckpt_buf *parent = &rules->parent;

	if (len_bytes == 0)
		return 0;
	len_bytes--; /* the slash */
	if (parent->len_bytes == len_bytes && memcmp(parent->data, path, len_bytes) == 0)
		return 0;
	ckpt_buf_reset(parent);
	ckpt_buf_add(parent, path, len_bytes);
	if (ckpt_buf_check(parent) < 0)
		return out_of_memory(err);
	if (!has_dir(rules, parent->data)) {
		ckpt_buf_reset(parent);
		return refuse(err, path, "lies in a folder that has no line");
	}
	return 0;
}

static int check_dir(struct ckpt_manifest_rules *rules, const struct ckpt_manifest_dir *dir,
		     struct ckpt_err *err)
{
	char *copy;
	int rc = check_parent(rules, dir->path, err);

	if (rc < 0)
		return rc;
	if (array_grow(&rules->dirs, &rules->dir_cap, rules->dir_count, sizeof(*rules->dirs)) < 0)
		return out_of_memory(err);
	copy = strdup(dir->path);
	if (!copy)
		return out_of_memory(err);
	rules->dirs[rules->dir_count++] = copy;
	return 0;
}

/* --- shards -------------------------------------------------------------------- */

static int compare_names(const void *left, const void *right)
{
	const struct shard_name *a = left;
	const struct shard_name *b = right;

	if (a->hash.hi != b->hash.hi)
		return a->hash.hi < b->hash.hi ? -1 : 1;
	if (a->hash.lo != b->hash.lo)
		return a->hash.lo < b->hash.lo ? -1 : 1;
	return 0;
}

/* The shard @path; NULL if there is none. No shard is added after the first look. */
static const struct shard_name *find_shard(struct ckpt_manifest_rules *rules, const char *path)
{
	struct shard_name key = { .hash = ckpt_hash128(path, strlen(path)) };

	if (rules->name_count == 0)
		return NULL;
	if (!rules->names_sorted)
		qsort(rules->names, rules->name_count, sizeof(*rules->names), compare_names);
	rules->names_sorted = true;
	return bsearch(&key, rules->names, rules->name_count, sizeof(*rules->names), compare_names);
}

static int add_packed(struct ckpt_manifest_rules *rules, uint32_t line,
		      const struct ckpt_shard *shard, struct ckpt_err *err)
{
	if (!shard->pack || shard->size_bytes == 0)
		return 0;
	if (array_grow(&rules->packed, &rules->packed_cap, rules->packed_count,
		       sizeof(*rules->packed)) < 0)
		return out_of_memory(err);
	rules->packed[rules->packed_count++] = (struct packed){
		.pack_hash = ckpt_hash64(shard->pack, strlen(shard->pack)),
		.offset_bytes = shard->pack_offset_bytes,
		.size_bytes = shard->size_bytes,
		.line = line,
	};
	return 0;
}

static int check_shard(struct ckpt_manifest_rules *rules, uint32_t line,
		       const struct ckpt_shard *shard, struct ckpt_err *err)
{
	int rc = check_parent(rules, shard->path, err);

	if (rc < 0)
		return rc;
	if (has_dir(rules, shard->path))
		return refuse(err, shard->path, "is listed twice, as folder and as shard");
	if (!num_add(rules->size_bytes, shard->size_bytes, &rules->size_bytes) ||
	    rules->size_bytes > INT64_MAX)
		return refuse(err, shard->path, "makes the sizes of all shards overflow");
	if (array_grow(&rules->names, &rules->name_cap, rules->name_count, sizeof(*rules->names)) <
	    0)
		return out_of_memory(err);
	rules->names[rules->name_count++] = (struct shard_name){
		.hash = ckpt_hash128(shard->path, strlen(shard->path)),
		.size_bytes = shard->size_bytes,
	};
	return add_packed(rules, line, shard, err);
}

static int check_symlink(struct ckpt_manifest_rules *rules, const struct ckpt_symlink *symlink,
			 struct ckpt_err *err)
{
	int rc = check_parent(rules, symlink->path, err);

	if (rc < 0)
		return rc;
	if (has_dir(rules, symlink->path))
		return refuse(err, symlink->path,
			      "is listed twice, as folder and as symbolic link");
	if (find_shard(rules, symlink->path))
		return refuse(err, symlink->path, "is listed twice, as shard and as symbolic link");
	return 0;
}

/* --- tensors --------------------------------------------------------------------- */

/* "" is the top, which has no line. */
static int check_set(const struct ckpt_manifest_rules *rules, const char *set, struct ckpt_err *err)
{
	if (set[0] != '\0' && !has_dir(rules, set))
		return refuse(err, set, "is called a tensor set, but is no folder with a line");
	return 0;
}

/* The bytes of an entry must end at @end_bytes or before in the shard @path. */
static int check_reach(struct ckpt_manifest_rules *rules, const char *path, uint64_t end_bytes,
		       struct ckpt_err *err)
{
	const struct shard_name *shard = find_shard(rules, path);

	if (!shard)
		return refuse(err, path, "is named by an entry, but is no shard");
	if (end_bytes > shard->size_bytes)
		return refuse(err, path, "is too short for what an entry says it holds");
	return 0;
}

static int check_tensor(struct ckpt_manifest_rules *rules, const struct ckpt_tensor *tensor,
			struct ckpt_err *err)
{
	int rc = check_set(rules, tensor->set, err);

	for (size_t i = 0; rc == 0 && i < tensor->chunk_count; i++) {
		const struct ckpt_chunk *chunk = &tensor->chunks[i];
		uint64_t end_bytes;

		if (ckpt_chunk_end_bytes(tensor, chunk, &end_bytes) < 0)
			rc = ckpt_err_set(err, -EBADMSG, "the size of chunk %zu overflows", i);
		else
			rc = check_reach(rules, chunk->shard, end_bytes, err);
	}
	rules->tensor_count++;
	return rc;
}

static int check_bytes(struct ckpt_manifest_rules *rules, const struct ckpt_bytes_entry *entry,
		       struct ckpt_err *err)
{
	uint64_t end_bytes;
	int rc = check_set(rules, entry->set, err);

	if (rc < 0)
		return rc;
	if (!num_add(entry->offset_bytes, entry->size_bytes, &end_bytes))
		return ckpt_err_set(err, -EBADMSG, "its size overflows");
	rules->tensor_count++;
	return check_reach(rules, entry->shard, end_bytes, err);
}

/* --- all of it ---------------------------------------------------------------------- */

int ckpt_manifest_rules_check(struct ckpt_manifest_rules *rules, uint32_t line_number,
			      const struct ckpt_manifest_line *line, struct ckpt_err *err)
{
	int rc = check_order(rules, line, err);

	if (rc < 0)
		return rc;
	switch (line->kind) {
	case CKPT_LINE_DIR:
		return check_dir(rules, &line->dir, err);
	case CKPT_LINE_SHARD:
		return check_shard(rules, line_number, &line->shard, err);
	case CKPT_LINE_SYMLINK:
		return check_symlink(rules, &line->symlink, err);
	case CKPT_LINE_TENSOR:
		return check_tensor(rules, &line->tensor, err);
	case CKPT_LINE_BYTES:
		return check_bytes(rules, &line->bytes, err);
	case CKPT_LINE_KIND_COUNT:
		break;
	}
	return -EINVAL;
}

static int compare_packed(const void *left, const void *right)
{
	const struct packed *a = left;
	const struct packed *b = right;

	if (a->pack_hash != b->pack_hash)
		return a->pack_hash < b->pack_hash ? -1 : 1;
	if (a->offset_bytes != b->offset_bytes)
		return a->offset_bytes < b->offset_bytes ? -1 : 1;
	return a->line < b->line ? -1 : a->line > b->line;
}

static int check_overlaps(struct ckpt_manifest_rules *rules, struct ckpt_err *err)
{
	if (rules->packed_count > 1)
		qsort(rules->packed, rules->packed_count, sizeof(*rules->packed), compare_packed);
	for (size_t i = 1; i < rules->packed_count; i++) {
		const struct packed *before = &rules->packed[i - 1];
		const struct packed *packed = &rules->packed[i];

		/* The sum was checked when the line was read. */
		if (before->pack_hash == packed->pack_hash &&
		    before->offset_bytes + before->size_bytes > packed->offset_bytes)
			return ckpt_err_set(err, -EBADMSG,
					    "the shards of lines %" PRIu32 " and %" PRIu32
					    " overlap in their pack",
					    before->line, packed->line);
	}
	return 0;
}

int ckpt_manifest_rules_finish(struct ckpt_manifest_rules *rules,
			       const struct ckpt_manifest_end *end, struct ckpt_err *err)
{
	if (rules->name_count != end->shard_count)
		return ckpt_err_set(err, -EBADMSG,
				    "the end line counts %" PRIu64 " shards, there are %zu",
				    end->shard_count, rules->name_count);
	if (rules->tensor_count != end->tensor_count)
		return ckpt_err_set(err, -EBADMSG,
				    "the end line counts %" PRIu64 " tensors and bytes entries, "
				    "there are %" PRIu64,
				    end->tensor_count, rules->tensor_count);
	return check_overlaps(rules, err);
}
