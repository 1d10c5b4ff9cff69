/*
 * views.c - the tree of views of a checkpoint, and the ways through it; see view.h. What it is made
 * of is found in views_load.c.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "view/view_internal.h"

/* Folders of a set, in the order of their numbers. */
static const char *const dir_names[] = {
	[VIEW_ROOT] = CKPT_CONTROL_DIR,
	[VIEW_HF] = "hf",
	[VIEW_SAFETENSORS] = "safetensors",
	[VIEW_TENSORS] = "tensors",
};

struct ckpt_views *ckpt_views_ref(struct ckpt_views *views)
{
	atomic_fetch_add(&views->ref_count, 1);
	return views;
}

static void release_set(struct view_set *set)
{
	for (size_t i = 0; i < set->st_count; i++)
		free(set->sts[i].name);
	for (size_t i = 0; i < set->npy_count; i++)
		free(set->npys[i].name);
	free(set->sts);
	free(set->npys);
	free(set->model.name);
}

static void release_contents(struct ckpt_views *views)
{
	if (views->contents_borrowed) {
		views->contents.tensors = NULL;
		views->contents.tensor_count = 0;
		views->contents.bytes_entries = NULL;
		views->contents.bytes_entry_count = 0;
	}
	ckpt_contents_release(&views->contents);
}

void ckpt_views_unref(struct ckpt_views *views)
{
	if (!views || atomic_fetch_sub(&views->ref_count, 1) > 1)
		return;
	for (size_t i = 0; i < views->set_count; i++)
		release_set(&views->sets[i]);
	free(views->sets);
	for (size_t i = 0; i < views->outside_count; i++)
		free(views->outside[i].path);
	free(views->outside);
	free(views->hidden);
	release_contents(views);
	ckpt_manifest_release(&views->manifest);
	ckpt_scan_list_release(&views->files);
	free(views->label);
	free(views);
}

/* --- sets --------------------------------------------------------------------------------- */

size_t ckpt_views_set_count(const struct ckpt_views *views)
{
	return views->set_count;
}

const char *ckpt_views_set(const struct ckpt_views *views, size_t idx, uint32_t *out_root)
{
	assert(idx < views->set_count);
	if (out_root)
		*out_root = views->sets[idx].first_node + VIEW_ROOT;
	return views->sets[idx].folder;
}

uint32_t ckpt_views_root(const struct ckpt_views *views, const char *folder)
{
	size_t low = 0;
	size_t high = views->set_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(folder, views->sets[middle].folder);

		if (order == 0)
			return views->sets[middle].first_node + VIEW_ROOT;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return CKPT_VIEW_NONE;
}

uint32_t ckpt_views_node_count(const struct ckpt_views *views)
{
	return views->node_count;
}

const struct ckpt_contents *ckpt_views_contents(const struct ckpt_views *views)
{
	return &views->contents;
}

const struct ckpt_manifest *ckpt_views_manifest(const struct ckpt_views *views)
{
	return views->committed ? &views->manifest : NULL;
}

/* --- nodes -------------------------------------------------------------------------------- */

static size_t first_npy(const struct view_set *set)
{
	return VIEW_ST_FIRST + set->st_count;
}

const struct view_set *ckpt_view_set_of(const struct ckpt_views *views, uint32_t node,
					size_t *out_slot)
{
	size_t low = 0;
	size_t high = views->set_count;

	if (node >= views->node_count)
		return NULL;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (node < views->sets[middle].first_node)
			high = middle;
		else
			low = middle;
	}
	*out_slot = node - views->sets[low].first_node;
	return &views->sets[low];
}

static bool is_dir_there(const struct view_set *set, size_t slot)
{
	if (slot == VIEW_HF)
		return set->model.name != NULL;
	return slot != VIEW_SAFETENSORS || set->st_count > 0;
}

static bool companion_node(const struct ckpt_views *views, const struct view_set *set, size_t idx,
			   struct ckpt_view_node *out)
{
	struct ckpt_view_source source;

	if (!set->model.name)
		return false;
	out->name = ckpt_view_hf_name(idx);
	out->parent = set->first_node + VIEW_HF;
	if (idx == VIEW_HF_MODEL) {
		out->size_bytes = set->model.size_bytes;
		return true;
	}
	if (set->companions[idx].source == CKPT_VIEW_NONE)
		return false;
	ckpt_views_source(views, set->companions[idx].source, &source);
	out->size_bytes = source.size_bytes;
	out->is_outside = source.is_outside;
	return true;
}

/* A folder; false where the set has none of its files. */
static bool dir_node(const struct view_set *set, size_t slot, struct ckpt_view_node *out)
{
	out->name = dir_names[slot];
	out->is_dir = true;
	out->parent = slot == VIEW_ROOT ? CKPT_VIEW_NONE : set->first_node + VIEW_ROOT;
	return is_dir_there(set, slot);
}

bool ckpt_views_node(const struct ckpt_views *views, uint32_t node, struct ckpt_view_node *out)
{
	size_t slot = 0;
	const struct view_set *set = ckpt_view_set_of(views, node, &slot);

	*out = (struct ckpt_view_node){ .parent = CKPT_VIEW_NONE };
	if (!set)
		return false;
	if (slot < VIEW_HF_FIRST)
		return dir_node(set, slot, out);
	if (slot < VIEW_ST_FIRST)
		return companion_node(views, set, slot - VIEW_HF_FIRST, out);
	if (slot < first_npy(set)) {
		out->name = set->sts[slot - VIEW_ST_FIRST].name;
		out->size_bytes = set->sts[slot - VIEW_ST_FIRST].size_bytes;
		out->parent = set->first_node + VIEW_SAFETENSORS;
		return true;
	}
	out->name = set->npys[slot - first_npy(set)].name;
	out->size_bytes = set->npys[slot - first_npy(set)].size_bytes;
	out->parent = set->first_node + VIEW_TENSORS;
	return true;
}

const struct ckpt_tensor *ckpt_views_tensor(const struct ckpt_views *views, uint32_t node)
{
	size_t slot = 0;
	const struct view_set *set = ckpt_view_set_of(views, node, &slot);

	if (!set || slot < first_npy(set))
		return NULL;
	return &views->contents.tensors[set->npys[slot - first_npy(set)].tensor_idx];
}

/* --- children ----------------------------------------------------------------------------- */

/* Slots [*@out_first, *@out_end) may be children of the folder in @slot. */
static void child_slots(const struct view_set *set, size_t slot, size_t *out_first, size_t *out_end)
{
	*out_first = 0;
	*out_end = 0;
	if (slot == VIEW_ROOT) {
		*out_first = VIEW_HF;
		*out_end = VIEW_HF_FIRST;
	} else if (slot == VIEW_HF) {
		*out_first = VIEW_HF_FIRST;
		*out_end = VIEW_ST_FIRST;
	} else if (slot == VIEW_SAFETENSORS) {
		*out_first = VIEW_ST_FIRST;
		*out_end = first_npy(set);
	} else if (slot == VIEW_TENSORS) {
		*out_first = first_npy(set);
		*out_end = first_npy(set) + set->npy_count;
	}
}

uint32_t ckpt_views_next(const struct ckpt_views *views, uint32_t dir, uint32_t child)
{
	struct ckpt_view_node node;
	size_t slot = 0;
	size_t first;
	size_t end;
	const struct view_set *set = ckpt_view_set_of(views, dir, &slot);

	if (!set)
		return CKPT_VIEW_NONE;
	child_slots(set, slot, &first, &end);
	if (child != CKPT_VIEW_NONE) {
		if (child < set->first_node + first)
			return CKPT_VIEW_NONE;
		first = (size_t)(child - set->first_node) + 1;
	}
	for (; first < end; first++) {
		uint32_t next = (uint32_t)(set->first_node + first);

		if (ckpt_views_node(views, next, &node))
			return next;
	}
	return CKPT_VIEW_NONE;
}

/* What slot @slot would be called, there or not. */
static const char *slot_name(const struct view_set *set, size_t slot)
{
	if (slot < VIEW_HF_FIRST)
		return dir_names[slot];
	if (slot < VIEW_ST_FIRST)
		return ckpt_view_hf_name(slot - VIEW_HF_FIRST);
	if (slot < first_npy(set))
		return set->sts[slot - VIEW_ST_FIRST].name;
	return set->npys[slot - first_npy(set)].name;
}

uint32_t ckpt_views_child(const struct ckpt_views *views, uint32_t dir, const char *name)
{
	struct ckpt_view_node node;
	size_t slot = 0;
	size_t low;
	size_t high;
	const struct view_set *set = ckpt_view_set_of(views, dir, &slot);

	if (!set)
		return CKPT_VIEW_NONE;
	child_slots(set, slot, &low, &high);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, slot_name(set, middle));
		uint32_t found = (uint32_t)(set->first_node + middle);

		if (order == 0)
			return ckpt_views_node(views, found, &node) ? found : CKPT_VIEW_NONE;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return CKPT_VIEW_NONE;
}

/* --- paths -------------------------------------------------------------------------------- */

/* Where ".ckptfs" begins in @path as a whole component; NULL: nowhere. */
static const char *find_control(const char *path)
{
	size_t len = strlen(CKPT_CONTROL_DIR);

	for (const char *at = path; (at = strstr(at, CKPT_CONTROL_DIR)) != NULL; at++) {
		if ((at == path || at[-1] == '/') && (at[len] == '\0' || at[len] == '/'))
			return at;
	}
	return NULL;
}

uint32_t ckpt_views_find(const struct ckpt_views *views, const char *path)
{
	const char *control = find_control(path);
	char part[CKPT_COMPONENT_MAX + 1];
	char folder[CKPT_ENTRY_PATH_MAX + 1];
	uint32_t node;
	size_t len;

	if (!control || (size_t)(control - path) > CKPT_ENTRY_PATH_MAX)
		return CKPT_VIEW_NONE;
	len = control > path ? (size_t)(control - path) - 1 : 0;
	memcpy(folder, path, len);
	folder[len] = '\0';
	node = ckpt_views_root(views, folder);
	for (path = control + strlen(CKPT_CONTROL_DIR); *path == '/' && node != CKPT_VIEW_NONE;
	     path += len) {
		path++;
		len = strcspn(path, "/");
		if (len == 0)
			continue;
		if (len > CKPT_COMPONENT_MAX)
			return CKPT_VIEW_NONE;
		memcpy(part, path, len);
		part[len] = '\0';
		node = ckpt_views_child(views, node, part);
	}
	return node;
}

/* --- sources ------------------------------------------------------------------------------ */

static size_t inside_count(const struct ckpt_views *views)
{
	return views->committed ? views->manifest.shard_count : views->files.file_count;
}

size_t ckpt_views_source_count(const struct ckpt_views *views)
{
	return inside_count(views) + views->outside_count;
}

static const char *inside_path(const struct ckpt_views *views, size_t idx)
{
	return views->committed ? views->manifest.shards[idx].path : views->files.files[idx].path;
}

void ckpt_views_source(const struct ckpt_views *views, uint32_t source,
		       struct ckpt_view_source *out)
{
	size_t inside = inside_count(views);

	assert(source < ckpt_views_source_count(views));
	*out = (struct ckpt_view_source){ .path = NULL };
	if (source >= inside) {
		out->path = views->outside[source - inside].path;
		out->size_bytes = views->outside[source - inside].size_bytes;
		out->is_outside = true;
		return;
	}
	out->path = inside_path(views, source);
	if (views->committed) {
		out->shard = &views->manifest.shards[source];
		out->shard_idx = source;
		out->size_bytes = out->shard->size_bytes;
	} else {
		out->size_bytes = views->files.files[source].size_bytes;
	}
}

uint32_t ckpt_views_companion(const struct ckpt_views *views, uint32_t node)
{
	size_t slot = 0;
	const struct view_set *set = ckpt_view_set_of(views, node, &slot);

	if (!set || !set->model.name || slot < VIEW_HF_FIRST || slot >= VIEW_ST_FIRST ||
	    slot - VIEW_HF_FIRST == VIEW_HF_MODEL)
		return CKPT_VIEW_NONE;
	return set->companions[slot - VIEW_HF_FIRST].source;
}

uint32_t ckpt_views_source_find(const struct ckpt_views *views, const char *path)
{
	size_t low = 0;
	size_t high = inside_count(views);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(path, inside_path(views, middle));

		if (order == 0)
			return (uint32_t)middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return CKPT_VIEW_NONE;
}
