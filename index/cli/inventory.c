/* inventory.c - see inventory.h. */
#include "cli/inventory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "format/format.h"

static const char *const st_suffix = ".safetensors";

struct loader {
	struct inventory *inventory;
	struct ckpt_err *err;
};

static int out_of_memory(const struct loader *loader)
{
	return ckpt_err_set(loader->err, -ENOMEM, "out of memory while listing tensors");
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

/* Takes copies of @item's texts; @shape belongs to it from here on. */
static int add_item(const struct loader *loader, const struct inventory_item *item,
		    struct ckpt_buf *shape)
{
	struct inventory *inventory = loader->inventory;
	struct inventory_item own = *item;

	if (array_grow(&inventory->items, &inventory->item_cap, inventory->item_count,
		       sizeof(own)) < 0)
		return out_of_memory(loader);
	own.set = copy(item->set);
	own.group = copy(item->group);
	own.fqn = copy(item->fqn);
	own.dtype = copy(item->dtype);
	own.shape = item->dtype ? ckpt_buf_steal(shape) : NULL;
	inventory->items[inventory->item_count++] = own;
	if (!own.set || !own.fqn || (item->group && !own.group) ||
	    (item->dtype && (!own.dtype || !own.shape)))
		return out_of_memory(loader);
	return 0;
}

static int add_note(const struct loader *loader, const char *file, const char *reason)
{
	struct inventory *inventory = loader->inventory;
	struct inventory_note note = { .file = strdup(file), .reason = strdup(reason) };

	if (!note.file || !note.reason ||
	    array_grow(&inventory->notes, &inventory->note_cap, inventory->note_count,
		       sizeof(note)) < 0) {
		free(note.file);
		free(note.reason);
		return out_of_memory(loader);
	}
	inventory->notes[inventory->note_count++] = note;
	return 0;
}

static void print_shape(struct ckpt_buf *out, const uint64_t *shape, uint32_t dim_count)
{
	ckpt_buf_add_char(out, '[');
	for (uint32_t i = 0; i < dim_count; i++)
		ckpt_buf_printf(out, "%s%" PRIu64, i > 0 ? "," : "", shape[i]);
	ckpt_buf_add_char(out, ']');
}

/* --- from the manifest -------------------------------------------------------------- */

static int add_tensor(const struct loader *loader, const struct ckpt_tensor *tensor)
{
	struct inventory_item item = { .set = tensor->set,
				       .group = tensor->group,
				       .fqn = tensor->fqn,
				       .chunk_count = tensor->chunk_count };
	struct ckpt_buf shape;
	char dtype[sizeof(tensor->dtype)];
	int rc =
		ckpt_shape_bytes(tensor->dtype, tensor->shape, tensor->dim_count, &item.size_bytes);

	if (rc < 0)
		return ckpt_err_set(loader->err, rc, "tensor '%s': its shape has no size",
				    tensor->fqn);
	memcpy(dtype, tensor->dtype, sizeof(dtype));
	item.dtype = dtype;
	ckpt_buf_init(&shape);
	print_shape(&shape, tensor->shape, tensor->dim_count);
	rc = add_item(loader, &item, &shape);
	ckpt_buf_release(&shape);
	return rc;
}

static int add_manifest(const struct loader *loader, const struct ckpt_manifest *manifest)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < manifest->tensor_count; i++)
		rc = add_tensor(loader, &manifest->tensors[i]);
	for (size_t i = 0; rc == 0 && i < manifest->bytes_entry_count; i++) {
		const struct ckpt_bytes_entry *entry = &manifest->bytes_entries[i];
		struct inventory_item item = { .set = entry->set,
					       .group = entry->group,
					       .fqn = entry->fqn,
					       .size_bytes = entry->size_bytes,
					       .chunk_count = 1 };

		rc = add_item(loader, &item, NULL);
	}
	return rc;
}

/* --- safetensors files ---------------------------------------------------------------- */

static bool is_safetensors(const struct tree_entry *entry)
{
	size_t len = strlen(entry->path);
	size_t suffix_len = strlen(st_suffix);

	if (entry->kind != TREE_FILE || len < suffix_len || (entry->shard && entry->shard->pack))
		return false;
	return strcmp(entry->path + len - suffix_len, st_suffix) == 0;
}

static int read_header(const struct cli_checkpoint *checkpoint, const char *path,
		       struct ckpt_st_header *out, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(checkpoint->dirfd, path, O_RDONLY | O_NONBLOCK, 0);

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open it");
	return ckpt_st_read(fd, path, out, err);
}

/* The tensors of one file of an open checkpoint: its folder is the set. */
static int add_header(const struct loader *loader, const char *path,
		      const struct ckpt_st_header *header)
{
	const char *slash = strrchr(path, '/');
	CKPT_FREE char *set = strndup(path, slash ? (size_t)(slash - path) : 0);
	int rc = set ? 0 : out_of_memory(loader);

	for (size_t i = 0; rc == 0 && i < header->tensor_count; i++) {
		struct ckpt_st_tensor *tensor = &header->tensors[i];
		struct inventory_item item = { .set = set,
					       .fqn = tensor->fqn,
					       .dtype = tensor->dtype,
					       .size_bytes = tensor->size_bytes,
					       .chunk_count = 1 };
		struct ckpt_buf shape;

		ckpt_buf_init(&shape);
		print_shape(&shape, tensor->shape, tensor->dim_count);
		rc = add_item(loader, &item, &shape);
		ckpt_buf_release(&shape);
	}
	return rc;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int text_to_text(const void *key, const void *text)
{
	return strcmp(key, *(const char *const *)text);
}

/* The shards that hold a tensor's chunk, sorted; the texts are the manifest's. */
struct shard_names {
	const char **items;
	size_t count, cap;
};

static int collect_shards(const struct loader *loader, const struct ckpt_manifest *manifest,
			  struct shard_names *out)
{
	for (size_t i = 0; i < manifest->tensor_count; i++) {
		for (size_t c = 0; c < manifest->tensors[i].chunk_count; c++) {
			if (array_grow(&out->items, &out->cap, out->count, sizeof(*out->items)) < 0)
				return out_of_memory(loader);
			out->items[out->count++] = manifest->tensors[i].chunks[c].shard;
		}
	}
	if (out->count > 0)
		qsort(out->items, out->count, sizeof(*out->items), by_text);
	return 0;
}

/* A message about 'FILE' without its FILE, which is printed before it. */
static const char *reason_of(const char *path, const char *message)
{
	size_t len = strlen(path);

	if (message[0] == '\'' && strncmp(message + 1, path, len) == 0 &&
	    strncmp(message + 1 + len, "' ", 2) == 0)
		return message + len + 3;
	return message;
}

/* A file whose tensors are in no line: say why, or add them while it is open. */
static int look_into(const struct loader *loader, const struct cli_checkpoint *checkpoint,
		     const char *path)
{
	struct ckpt_st_header header = { .tensors = NULL };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	if (read_header(checkpoint, path, &header, &why) < 0)
		return add_note(loader, path, reason_of(path, why.msg));
	if (checkpoint->state != CKPT_STATE_COMMITTED)
		rc = add_header(loader, path, &header);
	else if (header.tensor_count > 0)
		rc = add_note(
			loader, path,
			"its tensors were not recorded at the commit, as another file in its folder has some of the same names");
	else
		rc = 0;
	ckpt_st_header_release(&header);
	return rc;
}

static int look_into_files(const struct loader *loader, const struct cli_checkpoint *checkpoint,
			   const struct tree *tree)
{
	struct shard_names known = { .items = NULL };
	int rc = tree->committed ? collect_shards(loader, &tree->manifest, &known) : 0;

	for (size_t i = 0; rc == 0 && i < tree->count; i++) {
		const char *path = tree->entries[i].path;

		if (!is_safetensors(&tree->entries[i]))
			continue;
		if (known.count == 0 ||
		    !bsearch(path, known.items, known.count, sizeof(*known.items), text_to_text))
			rc = look_into(loader, checkpoint, path);
	}
	free(known.items);
	return rc;
}

static int by_set_and_fqn(const void *a, const void *b)
{
	const struct inventory_item *left = a;
	const struct inventory_item *right = b;
	int order = strcmp(left->set, right->set);

	return order ? order : strcmp(left->fqn, right->fqn);
}

int inventory_load(const struct cli_checkpoint *checkpoint, const struct tree *tree,
		   struct inventory *out, struct ckpt_err *err)
{
	struct loader loader = { .inventory = out, .err = err };
	int rc;

	*out = (struct inventory){ .items = NULL };
	rc = tree->committed ? add_manifest(&loader, &tree->manifest) : 0;
	if (rc == 0)
		rc = look_into_files(&loader, checkpoint, tree);
	if (out->item_count > 0)
		qsort(out->items, out->item_count, sizeof(*out->items), by_set_and_fqn);
	return rc;
}

void inventory_release(struct inventory *inventory)
{
	for (size_t i = 0; i < inventory->item_count; i++) {
		free(inventory->items[i].set);
		free(inventory->items[i].group);
		free(inventory->items[i].fqn);
		free(inventory->items[i].dtype);
		free(inventory->items[i].shape);
	}
	for (size_t i = 0; i < inventory->note_count; i++) {
		free(inventory->notes[i].file);
		free(inventory->notes[i].reason);
	}
	free(inventory->items);
	free(inventory->notes);
	*inventory = (struct inventory){ .items = NULL };
}
