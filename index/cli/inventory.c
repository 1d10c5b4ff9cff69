/* inventory.c - see inventory.h. */
#include "cli/inventory.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cover.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"

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
	ckpt_extents_json(tensor->shape, tensor->dim_count, &shape);
	rc = add_item(loader, &item, &shape);
	ckpt_buf_release(&shape);
	return rc;
}

static int add_bytes(const struct loader *loader, const struct ckpt_bytes_entry *entry)
{
	const struct inventory_item item = { .set = entry->set,
					     .group = entry->group,
					     .fqn = entry->fqn,
					     .size_bytes = entry->size_bytes,
					     .chunk_count = 1 };

	return add_item(loader, &item, NULL);
}

static int add_manifest(const struct loader *loader, const struct ckpt_manifest *manifest)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < manifest->tensor_count; i++)
		rc = add_tensor(loader, &manifest->tensors[i]);
	for (size_t i = 0; rc == 0 && i < manifest->bytes_entry_count; i++)
		rc = add_bytes(loader, &manifest->bytes_entries[i]);
	return rc;
}

/* --- what the files say ------------------------------------------------------------- */

/* Files of their own, by path; *@out is heap. */
static int list_files(const struct loader *loader, const struct tree *tree,
		      struct ckpt_contents_file **out, size_t *out_count)
{
	struct ckpt_contents_file *files = array_alloc(num_max(tree->count, 1), sizeof(*files));
	size_t count = 0;

	if (!files)
		return out_of_memory(loader);
	for (size_t i = 0; i < tree->count; i++) {
		const struct tree_entry *entry = &tree->entries[i];

		if (entry->kind == TREE_FILE && !(entry->shard && entry->shard->pack))
			files[count++] =
				(struct ckpt_contents_file){ .path = entry->path,
							     .size_bytes = entry->size_bytes };
	}
	*out = files;
	*out_count = count;
	return 0;
}

/*
 * Who described the tensors at the commit is believed: then only what is not understood is new. (A
 * writer that described any has described all, and its shards are no files of a known format.)
 */
static int add_contents(const struct loader *loader, const struct cli_checkpoint *checkpoint,
			const struct tree *tree)
{
	bool described = tree->committed &&
			 tree->manifest.tensor_count + tree->manifest.bytes_entry_count > 0;
	CKPT_FREE struct ckpt_contents_file *files = NULL;
	struct ckpt_contents contents = { .tensors = NULL };
	size_t count = 0;
	int rc = list_files(loader, tree, &files, &count);

	if (rc == 0)
		rc = ckpt_contents_read(checkpoint->dirfd, checkpoint->place.name, files, count,
					&contents, loader->err);
	for (size_t i = 0; rc == 0 && !described && i < contents.tensor_count; i++)
		rc = add_tensor(loader, &contents.tensors[i]);
	for (size_t i = 0; rc == 0 && !described && i < contents.bytes_entry_count; i++)
		rc = add_bytes(loader, &contents.bytes_entries[i]);
	for (size_t i = 0; rc == 0 && i < contents.note_count; i++)
		rc = add_note(loader, contents.notes[i].file, contents.notes[i].reason);
	ckpt_contents_release(&contents);
	return rc;
}

static bool is_called(const char *path, const char *pattern)
{
	return fnmatch(pattern, ckpt_path_basename(path), 0) == 0;
}

/* As Hugging Face's cache has them: to say nothing of those would look as if nothing was there. */
static int add_links(const struct loader *loader, const struct tree *tree)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < tree->count; i++) {
		const struct tree_entry *entry = &tree->entries[i];

		if (entry->kind == TREE_SYMLINK &&
		    (is_called(entry->path, "*.safetensors") ||
		     is_called(entry->path, "*.distcp") || is_called(entry->path, ".metadata")))
			rc = add_note(
				loader, entry->path,
				"it is a symbolic link, and none is followed; copy what it leads to, as 'cp -rL' does");
	}
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
		rc = add_contents(&loader, checkpoint, tree);
	if (rc == 0)
		rc = add_links(&loader, tree);
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
