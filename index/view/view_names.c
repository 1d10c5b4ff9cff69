/*
 * view_names.c - the names and sizes of the views of a set.
 *
 * Headers of safetensors views are printed here to know how long they are, and again when such a
 * view is opened: the text of all of them would be larger than all else that is known of a
 * checkpoint.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/path.h"
#include "format/format.h"
#include "format/npy.h"
#include "view/view_internal.h"

#define ST_SUFFIX ".safetensors"
/* The view of all tensors; no group's. */
#define ALL_NAME "all"

void ckpt_view_path(struct ckpt_buf *out, const struct view_set *set, const char *dir,
		    const char *name)
{
	ckpt_path_join(out, set->folder, CKPT_CONTROL_DIR);
	ckpt_buf_printf(out, "/%s/%s", dir, name);
}

static int note(struct ckpt_views *views, const struct view_set *set, const char *dir,
		const char *name, const char *reason)
{
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	ckpt_view_path(&path, set, dir, name);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = ckpt_views_note(views, path.data, reason);
	ckpt_buf_release(&path);
	return rc;
}

/* --- tensors/ ------------------------------------------------------------------------------- */

static int name_npy(const struct ckpt_tensor *tensor, struct view_npy *npy, struct ckpt_buf *header)
{
	const char *suffix = ckpt_npy_suffix(tensor->dtype);
	struct ckpt_buf name;
	uint64_t bytes = 0;
	int rc = ckpt_shape_bytes(tensor->dtype, tensor->shape, tensor->dim_count, &bytes);

	ckpt_buf_reset(header);
	if (rc == 0 && suffix)
		rc = ckpt_npy_print(tensor->dtype, tensor->shape, tensor->dim_count, header);
	if (rc < 0 || !suffix)
		return rc < 0 ? rc : -EINVAL;
	ckpt_buf_init(&name);
	ckpt_path_escape_fqn(&name, tensor->fqn);
	ckpt_buf_add_str(&name, suffix);
	npy->name = ckpt_buf_steal(&name);
	npy->size_bytes = header->len_bytes + bytes;
	return npy->name ? 0 : -ENOMEM;
}

/* By name; of one name the tensor whose FQN comes first. */
static int compare_npys(const void *left, const void *right)
{
	const struct view_npy *a = left;
	const struct view_npy *b = right;
	int order = strcmp(a->name, b->name);

	return order != 0 ? order
			  : (a->tensor_idx > b->tensor_idx) - (a->tensor_idx < b->tensor_idx);
}

/* Names that occur twice belong to the first. */
static int drop_taken(struct ckpt_views *views, struct view_set *set)
{
	size_t kept = 0;
	int rc = 0;

	for (size_t i = 0; i < set->npy_count; i++) {
		struct view_npy *npy = &set->npys[i];
		CKPT_FREE char *name = NULL;

		if (kept == 0 || strcmp(set->npys[kept - 1].name, npy->name) != 0) {
			set->npys[kept++] = *npy;
			continue;
		}
		name = ckpt_steal_ptr(&npy->name);
		if (rc == 0) {
			struct ckpt_err why;

			ckpt_err_set(&why, -EINVAL,
				     "tensor '%s' is left out: tensor '%s' has that name; it is "
				     "in the safetensors views",
				     views->contents.tensors[npy->tensor_idx].fqn,
				     views->contents.tensors[set->npys[kept - 1].tensor_idx].fqn);
			rc = note(views, set, "tensors", name, why.msg);
		}
	}
	set->npy_count = kept;
	return rc;
}

static int name_npys(struct ckpt_views *views, struct view_set *set)
{
	struct ckpt_buf header;
	int rc = 0;

	set->npys = array_alloc(set->tensor_count, sizeof(*set->npys));
	if (!set->npys)
		return -ENOMEM;
	ckpt_buf_init(&header);
	for (size_t i = 0; i < set->tensor_count && rc == 0; i++) {
		size_t tensor_idx = set->first_tensor + i;
		struct view_npy *npy = &set->npys[set->npy_count];

		if (views->hidden[tensor_idx])
			continue;
		npy->tensor_idx = tensor_idx;
		rc = name_npy(&views->contents.tensors[tensor_idx], npy, &header);
		set->npy_count += rc == 0;
	}
	ckpt_buf_release(&header);
	if (rc < 0)
		return rc;
	qsort(set->npys, set->npy_count, sizeof(*set->npys), compare_npys);
	return drop_taken(views, set);
}

/* --- safetensors/ --------------------------------------------------------------------------- */

/*
 * Lay out the view @dir/@name; where it cannot be, a note says why, and *@out_ok is false. An empty
 * one is not there.
 */
static int size_st(struct ckpt_views *views, struct view_set *set, const char *dir,
		   struct view_st *st, bool *out_ok)
{
	CKPT_FREE struct ckpt_st_item *items = NULL;
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_buf header;
	size_t count = 0;
	int rc = ckpt_view_part_items(views, set, &st->part, &items, &count);

	*out_ok = false;
	if (rc < 0 || count == 0)
		return rc;
	ckpt_buf_init(&header);
	rc = ckpt_st_layout(items, count, &header, &st->size_bytes, &why);
	ckpt_buf_release(&header);
	if (rc == -ENOMEM)
		return rc;
	*out_ok = rc == 0;
	return rc < 0 ? note(views, set, dir, st->name, why.msg) : 0;
}

/* Takes @name. */
static int add_st(struct ckpt_views *views, struct view_set *set, char *name,
		  const struct view_part *part)
{
	struct view_st st = { .name = name, .part = *part };
	bool ok = false;
	int rc = name ? size_st(views, set, "safetensors", &st, &ok) : -ENOMEM;

	if (rc == 0 && ok)
		rc = array_grow(&set->sts, &set->st_cap, set->st_count, sizeof(*set->sts));
	if (rc < 0 || !ok) {
		free(name);
		return rc;
	}
	set->sts[set->st_count++] = st;
	return 0;
}

static int add_group(struct ckpt_views *views, struct view_set *set, const char *group)
{
	const struct view_part part = { .group = group };
	struct ckpt_buf name;

	if (strcmp(group, ALL_NAME) == 0)
		return note(views, set, "safetensors", ALL_NAME ST_SUFFIX,
			    "it holds every tensor; there is no view of group 'all' alone");
	ckpt_buf_init(&name);
	ckpt_path_escape_fqn(&name, group);
	ckpt_buf_add_str(&name, ST_SUFFIX);
	return add_st(views, set, ckpt_buf_steal(&name), &part);
}

static int compare_texts(const void *left, const void *right)
{
	const char *const *a = left;
	const char *const *b = right;

	return strcmp(*a, *b);
}

static int add_groups(struct ckpt_views *views, struct view_set *set)
{
	CKPT_FREE const char **groups = array_alloc(set->tensor_count, sizeof(*groups));
	size_t count = 0;
	int rc = 0;

	if (!groups)
		return -ENOMEM;
	for (size_t i = set->first_tensor; i < set->first_tensor + set->tensor_count; i++) {
		const char *group = views->contents.tensors[i].group;

		if (group && (count == 0 || strcmp(groups[count - 1], group) != 0))
			groups[count++] = group;
	}
	qsort(groups, count, sizeof(*groups), compare_texts);
	for (size_t i = 0; i < count && rc == 0; i++) {
		if (i == 0 || strcmp(groups[i], groups[i - 1]) != 0)
			rc = add_group(views, set, groups[i]);
	}
	return rc;
}

static int compare_sts(const void *left, const void *right)
{
	const struct view_st *a = left;
	const struct view_st *b = right;

	return strcmp(a->name, b->name);
}

/* Two groups of one name: only where a sum of 64 bits collides. */
static void drop_equal_sts(struct view_set *set)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->st_count; i++) {
		if (kept > 0 && strcmp(set->sts[kept - 1].name, set->sts[i].name) == 0)
			free(set->sts[i].name);
		else
			set->sts[kept++] = set->sts[i];
	}
	set->st_count = kept;
}

/* Complex ones in one line for all of a set: there may be many. */
static int tell_of_complex(struct ckpt_views *views, const struct view_set *set)
{
	const char *first = NULL;
	struct ckpt_err why = CKPT_ERR_INIT;
	size_t count = 0;

	for (size_t i = set->first_tensor; i < set->first_tensor + set->tensor_count; i++) {
		if (ckpt_view_is_complex(&views->contents.tensors[i])) {
			first = first ? first : views->contents.tensors[i].fqn;
			count++;
		}
	}
	if (count == 0)
		return 0;
	if (count == 1)
		ckpt_err_set(&why, -EINVAL, "the complex tensor '%s' is left out; it is in tensors",
			     first);
	else
		ckpt_err_set(
			&why, -EINVAL,
			"%zu complex tensors are left out, '%s' and others; they are in tensors",
			count, first);
	return note(views, set, "safetensors", ALL_NAME ST_SUFFIX, why.msg);
}

static int tell_of_reserved(struct ckpt_views *views, const struct view_set *set)
{
	for (size_t i = set->first_tensor; i < set->first_tensor + set->tensor_count; i++) {
		if (strcmp(views->contents.tensors[i].fqn, VIEW_ST_RESERVED) == 0)
			return note(views, set, "safetensors", ALL_NAME ST_SUFFIX,
				    "tensor '" VIEW_ST_RESERVED "' is left out: the format keeps "
				    "that name; it is in tensors");
	}
	return 0;
}

static int name_sts(struct ckpt_views *views, struct view_set *set)
{
	const struct view_part all = { .all = true };
	int rc = add_st(views, set, strdup(ALL_NAME ST_SUFFIX), &all);

	if (rc == 0)
		rc = add_groups(views, set);
	if (rc == 0 && set->st_count > 0) {
		qsort(set->sts, set->st_count, sizeof(*set->sts), compare_sts);
		drop_equal_sts(set);
	}
	if (rc == 0)
		rc = tell_of_complex(views, set);
	return rc == 0 ? tell_of_reserved(views, set) : rc;
}

/* --- hf/ ------------------------------------------------------------------------------------ */

static int name_model(struct ckpt_views *views, struct view_set *set)
{
	struct view_st model = { .name = NULL };
	bool ok = false;
	int rc;

	if (!ckpt_view_part_model(views, set, &model.part))
		return 0;
	model.name = strdup(ckpt_view_hf_name(VIEW_HF_MODEL));
	rc = model.name ? size_st(views, set, "hf", &model, &ok) : -ENOMEM;
	if (rc == 0 && ok)
		set->model = model;
	else
		free(model.name);
	return rc;
}

int ckpt_view_set_name(struct ckpt_views *views, struct view_set *set, struct ckpt_err *err)
{
	int rc = name_npys(views, set);

	if (rc == 0)
		rc = name_sts(views, set);
	if (rc == 0)
		rc = name_model(views, set);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot make the views of '%s'", views->label) : 0;
}
