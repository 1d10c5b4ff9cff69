/*
 * view_parts.c - which tensors a safetensors view holds, and how they are called in it; above all,
 * what of a set is the model.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "view/view_internal.h"

static bool begins_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++) {
		if (strcmp(text, *words) == 0)
			return true;
	}
	return false;
}

/* --- optimizers ----------------------------------------------------------------------------- */

/* What the FQN of an optimizer's entry begins with in a state dict that was flattened by hand. */
static const char *const optimizer_words[] = { "optim.",
					       "optimizer.",
					       "optimizers.",
					       "optim_state_dict.",
					       "optimizer_state_dict.",
					       "optimizer_state.",
					       "optimizer_states.",
					       "param_groups.",
					       NULL };

/*
 * What torch.optim keeps for a parameter, in "state.FQN.NAME" of get_optimizer_state_dict()
 * (flatten_optimizer_state_dict) and of FSDP. Source: torch/optim 2.13.
 */
static const char *const optimizer_states[] = {
	"step",
	"exp_avg",
	"exp_avg_sq",
	"max_exp_avg_sq",
	"momentum_buffer",
	"sum",
	"square_avg",
	"acc_delta",
	"grad_avg",
	"exp_inf",
	"prev",
	"step_size",
	"mu_product",
	"mu",
	"eta",
	"ax",
	"row_var",
	"col_var",
	"variance",
	"state_steps",
	"exp_avg_sq_row",
	"exp_avg_sq_col",
	"exp_avg_slow",
	"exp_avg_fast",
	"n_iter",
	"func_evals",
	"old_dirs",
	"old_stps",
	"H_diag",
	"prev_flat_grad",
	"prev_loss",
	NULL,
};

static bool is_optimizer_entry(const char *fqn)
{
	const char *last = strrchr(fqn, '.');

	for (const char *const *word = optimizer_words; *word; word++) {
		if (begins_with(fqn, *word))
			return true;
	}
	return last && begins_with(fqn, "state.") && is_one_of(last + 1, optimizer_states);
}

/* --- parts ---------------------------------------------------------------------------------- */

static bool same_group(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* @fqn without "@word.", if it begins so; NULL: it does not. */
static const char *strip(const char *fqn, const char *word)
{
	size_t len = strlen(word);

	return strncmp(fqn, word, len) == 0 && fqn[len] == '.' && fqn[len + 1] != '\0'
		       ? fqn + len + 1
		       : NULL;
}

bool ckpt_view_is_complex(const struct ckpt_tensor *tensor)
{
	return strcmp(tensor->dtype, "C64") == 0 || strcmp(tensor->dtype, "C128") == 0;
}

const char *ckpt_view_part_name(const struct view_part *part, const struct ckpt_tensor *tensor)
{
	const char *name = tensor->fqn;

	if (ckpt_view_is_complex(tensor))
		return NULL;
	if (!part->all) {
		if (!same_group(part->group, tensor->group) ||
		    (part->no_optimizer && is_optimizer_entry(name)))
			return NULL;
		if (part->group && strip(name, part->group))
			name = strip(name, part->group);
		if (part->within)
			name = strip(name, part->within);
	}
	return name && strcmp(name, VIEW_ST_RESERVED) != 0 ? name : NULL;
}

int ckpt_view_part_items(const struct ckpt_views *views, const struct view_set *set,
			 const struct view_part *part, struct ckpt_st_item **out, size_t *out_count)
{
	struct ckpt_st_item *items = array_alloc(set->tensor_count, sizeof(*items));
	size_t count = 0;

	if (!items)
		return -ENOMEM;
	for (size_t i = set->first_tensor; i < set->first_tensor + set->tensor_count; i++) {
		const struct ckpt_tensor *tensor = &views->contents.tensors[i];
		const char *name = ckpt_view_part_name(part, tensor);

		if (name && !views->hidden[i])
			items[count++] = (struct ckpt_st_item){ .fqn = name,
								.dtype = tensor->dtype,
								.shape = tensor->shape,
								.dim_count = tensor->dim_count,
								.tensor_idx = i };
	}
	*out = items;
	*out_count = count;
	return 0;
}

/* --- the model ------------------------------------------------------------------------------ */

/*
 * What groups that hold a model are called, best first: by PyTorch's own examples, by what
 * torch.save() files usually look like, by Lightning, by DeepSpeed.
 */
static const char *const model_groups[] = { "model", "model_state_dict", "state_dict", "module",
					    NULL };

static bool holds_any(const struct ckpt_views *views, const struct view_set *set,
		      const struct view_part *part)
{
	for (size_t i = set->first_tensor; i < set->first_tensor + set->tensor_count; i++) {
		if (!views->hidden[i] && ckpt_view_part_name(part, &views->contents.tensors[i]))
			return true;
	}
	return false;
}

/*
 * An object with state_dict() of its own, under one name, that gives {"model": …, "optim": …}:
 * the AppState of PyTorch's DCP tutorial.
 */
static bool find_nested(const struct ckpt_views *views, const struct view_set *set,
			struct view_part *out)
{
	static const char *const optimizers[] = { "optim", "optimizer", "optimizers", NULL };

	for (const char *const *word = optimizers; *word; word++) {
		struct view_part beside = { .group = "app", .within = *word };

		if (holds_any(views, set, &beside)) {
			*out = (struct view_part){ .group = "app", .within = "model" };
			return holds_any(views, set, out);
		}
	}
	return false;
}

bool ckpt_view_part_model(const struct ckpt_views *views, const struct view_set *set,
			  struct view_part *out)
{
	for (const char *const *name = model_groups; *name; name++) {
		*out = (struct view_part){ .group = *name };
		if (holds_any(views, set, out))
			return true;
	}
	*out = (struct view_part){ .no_optimizer = true };
	return holds_any(views, set, out) || find_nested(views, set, out);
}
