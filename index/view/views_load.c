/*
 * views_load.c - making the tree of views: what the manifest, or else the files themselves, say
 * about tensors, cut into sets. See view.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "view/view_internal.h"

int ckpt_views_note(struct ckpt_views *views, const char *file, const char *reason)
{
	struct ckpt_contents *contents = &views->contents;
	struct ckpt_contents_note note = { .file = strdup(file), .reason = strdup(reason) };
	int rc = note.file && note.reason ? 0 : -ENOMEM;

	if (rc == 0)
		rc = array_grow(&contents->notes, &contents->note_cap, contents->note_count,
				sizeof(*contents->notes));
	if (rc < 0) {
		free(note.file);
		free(note.reason);
		return rc;
	}
	contents->notes[contents->note_count++] = note;
	return 0;
}

static int compare_notes(const void *left, const void *right)
{
	const struct ckpt_contents_note *a = left;
	const struct ckpt_contents_note *b = right;
	int order = strcmp(a->file, b->file);

	return order != 0 ? order : strcmp(a->reason, b->reason);
}

/* --- what there is -------------------------------------------------------------------------- */

/* Have ckpt_contents_read() look at those of the files that are files of their own. */
static int look_inside(struct ckpt_views *views, int dirfd, struct ckpt_err *err)
{
	size_t count = views->committed ? views->manifest.shard_count : views->files.file_count;
	struct ckpt_contents_file *files = array_alloc(num_max(count, 1), sizeof(*files));
	size_t kept = 0;
	int rc;

	if (!files)
		return ckpt_err_sys(err, -ENOMEM, "cannot look into '%s'", views->label);
	for (size_t i = 0; i < count; i++) {
		struct ckpt_view_source source;

		ckpt_views_source(views, (uint32_t)i, &source);
		if (!source.shard || !source.shard->pack)
			files[kept++] =
				(struct ckpt_contents_file){ .path = source.path,
							     .size_bytes = source.size_bytes };
	}
	rc = ckpt_contents_read(dirfd, views->label, files, kept, &views->contents, err);
	free(files);
	return rc;
}

/* The manifest has told already. */
static void borrow_contents(struct ckpt_views *views)
{
	views->contents = (struct ckpt_contents){
		.tensors = views->manifest.tensors,
		.tensor_count = views->manifest.tensor_count,
		.bytes_entries = views->manifest.bytes_entries,
		.bytes_entry_count = views->manifest.bytes_entry_count,
	};
	views->contents_borrowed = true;
}

static int load_contents(struct ckpt_views *views, const struct ckpt_views_from *from,
			 struct ckpt_err *err)
{
	int rc;

	if (from->committed) {
		rc = ckpt_manifest_load(from->dirfd, from->label, &views->manifest, err);
		if (rc < 0)
			return rc;
		views->committed = true;
		if (views->manifest.tensor_count + views->manifest.bytes_entry_count > 0) {
			borrow_contents(views);
			return 0;
		}
	} else {
		rc = ckpt_scan_readable(from->dirfd, from->label, &views->files, err);
		if (rc < 0)
			return rc;
	}
	return look_inside(views, from->dirfd, err);
}

/* --- sets ----------------------------------------------------------------------------------- */

/* One for each folder that tensors lie in; tensors are ordered by it. */
static int split_sets(struct ckpt_views *views)
{
	const struct ckpt_contents *contents = &views->contents;
	struct view_set *set = NULL;

	for (size_t i = 0; i < contents->tensor_count; i++) {
		const char *folder = contents->tensors[i].set;

		if (!set || strcmp(set->folder, folder) != 0) {
			if (array_grow(&views->sets, &views->set_cap, views->set_count,
				       sizeof(*views->sets)) < 0)
				return -ENOMEM;
			set = &views->sets[views->set_count++];
			*set = (struct view_set){ .folder = folder, .first_tensor = i };
		}
		set->tensor_count++;
	}
	return 0;
}

static int fill_sets(struct ckpt_views *views, int group_fd, struct ckpt_err *err)
{
	size_t node_count = 0;

	for (size_t i = 0; i < views->set_count; i++) {
		struct view_set *set = &views->sets[i];
		int rc = ckpt_view_set_name(views, set, err);

		if (rc == 0)
			rc = ckpt_view_hf_fill(views, set, group_fd, err);
		if (rc < 0)
			return rc;
		set->first_node = (uint32_t)node_count;
		node_count += VIEW_ST_FIRST + set->st_count + set->npy_count;
	}
	views->node_count = (uint32_t)node_count;
	return 0;
}

/* Node numbers, of sets without views too, must not run out. */
static bool has_room(const struct ckpt_views *views)
{
	uint64_t sets = views->set_count;
	uint64_t most;

	/* A view for each tensor, and one for its group. */
	return num_mul(sets, VIEW_ST_FIRST + 1, &most) &&
	       num_add(most, 2 * (uint64_t)views->contents.tensor_count, &most) &&
	       most < CKPT_VIEW_NODES_MAX;
}

static int make_tree(struct ckpt_views *views, const struct ckpt_views_from *from,
		     struct ckpt_err *err)
{
	int rc = split_sets(views);

	if (rc == 0 && !has_room(views)) {
		rc = ckpt_views_note(views, CKPT_CONTROL_DIR,
				     "there are no views: they would be more than 2^25 files");
		views->set_count = 0;
	}
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot make the views of '%s'", from->label);
	rc = ckpt_views_check_tensors(views, err);
	return rc < 0 ? rc : fill_sets(views, from->group_fd, err);
}

static struct ckpt_views *new_views(const char *label)
{
	struct ckpt_views *views = calloc(1, sizeof(*views));

	if (!views)
		return NULL;
	atomic_init(&views->ref_count, 1);
	views->label = strdup(label);
	if (views->label)
		return views;
	ckpt_views_unref(views);
	return NULL;
}

int ckpt_views_load(const struct ckpt_views_from *from, struct ckpt_views **out,
		    struct ckpt_err *err)
{
	struct ckpt_views *views = new_views(from->label);
	int rc;

	if (!views)
		return ckpt_err_sys(err, -ENOMEM, "cannot make the views of '%s'", from->label);
	rc = load_contents(views, from, err);
	if (rc == 0)
		rc = make_tree(views, from, err);
	if (rc < 0) {
		ckpt_views_unref(views);
		return rc;
	}
	if (views->contents.note_count > 0)
		qsort(views->contents.notes, views->contents.note_count,
		      sizeof(*views->contents.notes), compare_notes);
	*out = views;
	return 0;
}
