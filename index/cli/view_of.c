/* view_of.c - see view_of.h. */
#include "cli/view_of.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/suggest.h"
#include "cli/table.h"

#define SUMS_NAME "XXH128SUMS"
/* What is printed at a time: reading by large pieces is what a view is fast at. */
#define CAT_BYTES (4 * CKPT_IO_CHUNK)
/* So many names are told to who asked for another. */
#define TOLD_MAX 8

/* Where in @inner the component ".ckptfs" begins; NULL. */
static const char *control_in(const char *inner)
{
	const size_t len = sizeof(CKPT_CONTROL_DIR) - 1;

	for (const char *at = inner; (at = strstr(at, CKPT_CONTROL_DIR)); at++) {
		if ((at == inner || at[-1] == '/') && (at[len] == '\0' || at[len] == '/'))
			return at;
	}
	return NULL;
}

bool view_is_path(const char *inner)
{
	static const char *const stored[] = { "manifest.jsonl", SUMS_NAME };
	const char *control = control_in(inner);

	if (!control)
		return false;
	control += sizeof(CKPT_CONTROL_DIR) - 1;
	control += *control == '/';
	for (size_t i = 0; i < sizeof(stored) / sizeof(stored[0]); i++) {
		if (strcmp(control, stored[i]) == 0)
			return false;
	}
	return true;
}

/* --- what is not there ------------------------------------------------------------------ */

static void tell_sets(const struct ckpt_views *views, struct ckpt_buf *out)
{
	size_t count = ckpt_views_set_count(views);

	for (size_t i = 0; i < count && i < TOLD_MAX; i++) {
		uint32_t root;
		const char *folder = ckpt_views_set(views, i, &root);

		ckpt_buf_printf(out, "%s'%s%s" CKPT_CONTROL_DIR "'", i > 0 ? ", " : "", folder,
				*folder ? "/" : "");
	}
	if (count > TOLD_MAX)
		ckpt_buf_printf(out, " and %zu more", count - TOLD_MAX);
}

static int refuse_folder(const struct view_of *view, const char *folder, struct ckpt_err *err)
{
	const struct ckpt_place *place = &view->checkpoint->place;
	struct ckpt_buf sets;
	int rc;

	ckpt_buf_init(&sets);
	tell_sets(view->views, &sets);
	if (sets.len_bytes > 0)
		rc = ckpt_err_set(
			err, -ENOENT,
			"there are no views in '%s%s%s': it is not the folder of a tensor set; there are %s",
			place->name, *folder ? "/" : "", folder, sets.data);
	else
		rc = ckpt_err_set(
			err, -ENOENT,
			"there are no views of '%s': no tensors are understood in it; 'ckptfs show %s' says why",
			place->name, place->folder);
	ckpt_buf_release(&sets);
	return rc;
}

/* Names in the folder @dir; @near: the one that @name may stand for. */
static void tell_names(const struct ckpt_views *views, uint32_t dir, const char *name,
		       struct ckpt_buf *out, const char **near)
{
	size_t best = SIZE_MAX;
	size_t count = 0;

	for (uint32_t child = CKPT_VIEW_NONE;
	     (child = ckpt_views_next(views, dir, child)) != CKPT_VIEW_NONE; count++) {
		struct ckpt_view_node node;
		size_t distance;

		if (!ckpt_views_node(views, child, &node))
			continue;
		if (count < TOLD_MAX)
			ckpt_buf_printf(out, "%s'%s'", count > 0 ? ", " : "", node.name);
		distance = suggest_distance(name, node.name);
		if (distance < best && suggest_near(name, distance)) {
			best = distance;
			*near = node.name;
		}
	}
	if (count > TOLD_MAX)
		ckpt_buf_printf(out, " and %zu more", count - TOLD_MAX);
}

static int refuse_name(const struct view_of *view, uint32_t dir, const char *dir_path,
		       const char *name, struct ckpt_err *err)
{
	const struct ckpt_place *place = &view->checkpoint->place;
	const char *near = NULL;
	struct ckpt_view_node node;
	struct ckpt_buf names;
	int rc;

	if (ckpt_views_node(view->views, dir, &node) && !node.is_dir)
		return ckpt_err_set(err, -ENOTDIR, "'%s' in '%s' is a file; nothing lies in it",
				    dir_path, place->name);
	ckpt_buf_init(&names);
	tell_names(view->views, dir, name, &names, &near);
	rc = ckpt_err_set(err, -ENOENT, "there is no '%s' in '%s' of '%s'%s%s%s; there %s %s", name,
			  dir_path, place->name, near ? " (did you mean '" : "", near ? near : "",
			  near ? "'?)" : "", names.len_bytes > 0 ? "are" : "is",
			  names.len_bytes > 0 ? names.data : "nothing");
	ckpt_buf_release(&names);
	return rc;
}

/* --- the node ----------------------------------------------------------------------------- */

/* @rest: below the root, components that are looked up one by one. */
static int descend(struct view_of *view, const char *control, struct ckpt_err *err)
{
	const char *inner = view->checkpoint->place.inner;
	const char *rest = control + sizeof(CKPT_CONTROL_DIR) - 1;

	while (rest += strspn(rest, "/"), *rest) {
		size_t len = strcspn(rest, "/");
		CKPT_FREE char *name = strndup(rest, len);
		CKPT_FREE char *dir = strndup(inner, (size_t)(rest - inner) - 1);
		uint32_t child;

		if (!name || !dir)
			return ckpt_err_sys(err, -ENOMEM, "cannot look up '%s'", inner);
		child = ckpt_views_child(view->views, view->node, name);
		if (child == CKPT_VIEW_NONE)
			return refuse_name(view, view->node, dir, name, err);
		view->node = child;
		rest += len;
	}
	return 0;
}

static int find_node(struct view_of *view, struct ckpt_err *err)
{
	const char *inner = view->checkpoint->place.inner;
	const char *control = control_in(inner);
	CKPT_FREE char *folder = NULL;

	/* The top's own is "", another's ends before the slash. */
	folder = strndup(inner, control > inner ? (size_t)(control - inner) - 1 : 0);
	if (!folder)
		return ckpt_err_sys(err, -ENOMEM, "cannot look up '%s'", inner);
	view->node = ckpt_views_root(view->views, folder);
	if (view->node == CKPT_VIEW_NONE)
		return refuse_folder(view, folder, err);
	return descend(view, control, err);
}

int view_of_open(const struct cli_checkpoint *checkpoint, struct view_of *out, struct ckpt_err *err)
{
	struct ckpt_views_from from = { .dirfd = checkpoint->dirfd,
					.label = checkpoint->place.name,
					.committed = checkpoint->state == CKPT_STATE_COMMITTED };
	int rc;

	*out = (struct view_of){ .checkpoint = checkpoint, .node = CKPT_VIEW_NONE };
	/* Only companions of hf/ are missing where it cannot be opened. */
	out->group_fd = ckpt_io_openat(checkpoint->dirfd, "..", O_RDONLY | O_DIRECTORY, 0);
	from.group_fd = out->group_fd < 0 ? -1 : out->group_fd;
	rc = ckpt_views_load(&from, &out->views, err);
	if (rc == 0)
		rc = find_node(out, err);
	return rc < 0 ? rc : ckpt_view_reader_new(out->views, &from, &out->reader, err);
}

void view_of_release(struct view_of *view)
{
	ckpt_view_reader_free(view->reader);
	ckpt_views_unref(view->views);
	if (view->checkpoint && view->group_fd >= 0)
		close(view->group_fd);
	*view = (struct view_of){ .group_fd = -1 };
}

/* --- all below it -------------------------------------------------------------------------- */

struct each {
	const struct view_of *view;
	int (*fn)(void *ctx, uint32_t node, const struct ckpt_view_node *what, const char *path);
	void *ctx;
	struct ckpt_buf path;
};

/* Three levels deep at most: the set's root, a folder, its files. */
static int visit(struct each *each, uint32_t node)
{
	struct ckpt_views *views = each->view->views;
	size_t len = each->path.len_bytes;
	struct ckpt_view_node what;
	int rc;

	if (!ckpt_views_node(views, node, &what))
		return 0;
	rc = each->fn(each->ctx, node, &what, each->path.data);
	if (!what.is_dir)
		return rc;
	for (uint32_t child = CKPT_VIEW_NONE;
	     rc == 0 && (child = ckpt_views_next(views, node, child)) != CKPT_VIEW_NONE;) {
		struct ckpt_view_node below;

		if (!ckpt_views_node(views, child, &below))
			continue;
		ckpt_buf_printf(&each->path, "/%s", below.name);
		rc = ckpt_buf_check(&each->path);
		if (rc == 0)
			rc = visit(each, child);
		each->path.len_bytes = len;
		each->path.data[len] = '\0';
	}
	return rc;
}

int view_of_each(const struct view_of *view,
		 int (*fn)(void *ctx, uint32_t node, const struct ckpt_view_node *what,
			   const char *path),
		 void *ctx, struct ckpt_err *err)
{
	struct each each = { .view = view, .fn = fn, .ctx = ctx };
	int rc;

	ckpt_buf_init(&each.path);
	ckpt_buf_add_str(&each.path, view->checkpoint->place.inner);
	while (each.path.len_bytes > 0 && each.path.data[each.path.len_bytes - 1] == '/')
		each.path.data[--each.path.len_bytes] = '\0';
	rc = ckpt_buf_check(&each.path);
	if (rc == 0)
		rc = visit(&each, view->node);
	ckpt_buf_release(&each.path);
	if (rc == -ENOMEM)
		ckpt_err_sys(err, rc, "cannot list the views of '%s'",
			     view->checkpoint->place.name);
	return rc;
}

/* --- cat ------------------------------------------------------------------------------------ */

static int print_file(const struct view_of *view, const struct ckpt_view_file *file,
		      struct ckpt_err *err)
{
	uint64_t size_bytes = ckpt_view_file_size(file);
	size_t piece = (size_t)num_min(CAT_BYTES, num_max(size_bytes, 1));
	CKPT_FREE char *buffer = array_alloc(piece, 1);
	int rc = 0;

	if (!buffer)
		return ckpt_err_sys(err, -ENOMEM, "cannot read '%s'",
				    view->checkpoint->place.inner);
	for (uint64_t at = 0; rc == 0 && at < size_bytes; at += piece) {
		struct ckpt_view_room room = { .data = buffer,
					       .len_bytes = num_min(piece, size_bytes - at) };

		rc = ckpt_view_read(view->reader, file, at, &room, err);
		if (rc == 0)
			rc = cli_write(buffer, room.got_bytes, err);
	}
	return rc;
}

int view_of_cat(const struct view_of *view, struct ckpt_err *err)
{
	const struct ckpt_place *place = &view->checkpoint->place;
	struct ckpt_view_file *file = NULL;
	struct ckpt_view_node what;
	int rc;

	if (ckpt_views_node(view->views, view->node, &what) && what.is_dir)
		return ckpt_err_set(err, -EISDIR, "'%s/%s' is a folder; list it with 'ckptfs ls'",
				    place->name, place->inner);
	rc = ckpt_view_file_open(view->views, view->node, &file, err);
	if (rc == 0)
		rc = print_file(view, file, err);
	ckpt_view_file_close(file);
	return rc;
}

/* --- ls ------------------------------------------------------------------------------------- */

static const struct table_column columns[] = {
	{ "MODE", 0 },
	{ "SIZE", TABLE_RIGHT | TABLE_SIZE },
	{ "PATH", 0 },
};

struct listing {
	const struct cli_checkpoint *checkpoint;
	struct table table;
	bool json;
};

static int add_row(struct table *table, const char *mode, bool has_size, uint64_t size_bytes,
		   const char *path)
{
	table_text(table, mode);
	table_number(table, has_size, size_bytes);
	table_text(table, path);
	return 0;
}

/* What lies beside the views of a committed checkpoint's top. */
static void add_control(struct table *table, const struct cli_checkpoint *checkpoint)
{
	struct stat st;

	add_row(table, "-r--r--r--", false, 0, CKPT_CONTROL_DIR "/" SUMS_NAME);
	if (ckpt_io_fstatat(checkpoint->dirfd, CKPT_MANIFEST_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
		add_row(table, "-r--r--r--", true, (uint64_t)st.st_size, CKPT_MANIFEST_FILE);
}

static int add_node(void *ctx, uint32_t node, const struct ckpt_view_node *what, const char *path)
{
	struct listing *listing = ctx;
	struct ckpt_buf folder;
	int rc;

	(void)node;
	if (!what->is_dir)
		return add_row(&listing->table, "-r--r--r--", true, what->size_bytes, path);
	ckpt_buf_init(&folder);
	ckpt_buf_printf(&folder, "%s%s", path, listing->json ? "" : "/");
	rc = ckpt_buf_check(&folder);
	if (rc == 0)
		rc = add_row(&listing->table, "dr-xr-xr-x", false, 0, folder.data);
	ckpt_buf_release(&folder);
	if (rc == 0 && strcmp(path, CKPT_CONTROL_DIR) == 0 &&
	    listing->checkpoint->state == CKPT_STATE_COMMITTED)
		add_control(&listing->table, listing->checkpoint);
	return rc;
}

int view_of_list(const struct view_of *view, bool json, struct ckpt_err *err)
{
	struct listing listing = { .checkpoint = view->checkpoint, .json = json };
	int rc;

	table_init(&listing.table, columns, sizeof(columns) / sizeof(columns[0]));
	rc = view_of_each(view, add_node, &listing, err);
	if (rc == 0)
		rc = table_print(&listing.table, json, err);
	table_release(&listing.table);
	return rc;
}
