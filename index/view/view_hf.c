/*
 * view_hf.c - what lies beside the model in hf/: configuration, tokenizer and template files, by a
 * fixed list of names. Programs that such folders may hold (modeling_*.py) are not in it: a
 * checkpoint is data.
 *
 * Each is the file of that name in the set's folder, else at the top of the checkpoint, else in the
 * group's folder, where it is shared by all checkpoints of a run.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "view/view_internal.h"

/* By bytes. Source: transformers 4 and 5 (save_pretrained(), vocab_files_names), mistral-common. */
static const char *const names[VIEW_HF_SLOTS] = {
	"added_tokens.json",
	"audio_tokenizer_config.json",
	"bpe.codes",
	"byte_maps.json",
	"chat_template.jinja",
	"chat_template.json",
	"config.json",
	"dict.txt",
	"emoji.json",
	"entity_vocab.json",
	"feature_extractor_config.json",
	"generation_config.json",
	"image_processor_config.json",
	"merges.txt",
	"model.safetensors",
	"normalizer.json",
	"params.json",
	"preprocessor_config.json",
	"processor_config.json",
	"prophetnet.tokenizer",
	"quantize_config.json",
	"sentencepiece.bpe.model",
	"sentencepiece.model",
	"source.spm",
	"special_tokens_map.json",
	"spiece.model",
	"spm.model",
	"spm_char.model",
	"target.spm",
	"target_vocab.json",
	"tekken.json",
	"tokenizer.json",
	"tokenizer.model",
	"tokenizer.model.v3",
	"tokenizer_config.json",
	"video_preprocessor_config.json",
	"vocab-src.json",
	"vocab-tgt.json",
	"vocab.json",
	"vocab.txt",
	"word_shape.json",
};

const char *ckpt_view_hf_name(size_t idx)
{
	return names[idx];
}

static uint32_t find_inside(const struct ckpt_views *views, const char *folder, const char *name)
{
	struct ckpt_buf path;
	uint32_t source = CKPT_VIEW_NONE;

	ckpt_buf_init(&path);
	ckpt_path_join(&path, folder, name);
	if (ckpt_buf_check(&path) == 0)
		source = ckpt_views_source_find(views, path.data);
	ckpt_buf_release(&path);
	return source;
}

/* One source for all sets. -ENOENT: it is not there; -ENOMEM. */
static int find_outside(struct ckpt_views *views, int group_fd, const char *name, uint32_t *out)
{
	size_t inside = ckpt_views_source_count(views) - views->outside_count;
	struct view_outside outside = { .path = NULL };
	struct stat st;

	for (size_t i = 0; i < views->outside_count; i++) {
		if (strcmp(views->outside[i].path, name) == 0) {
			*out = (uint32_t)(inside + i);
			return 0;
		}
	}
	if (group_fd < 0 || ckpt_io_fstatat(group_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return -ENOENT;
	outside.path = strdup(name);
	outside.size_bytes = (uint64_t)st.st_size;
	if (!outside.path || array_grow(&views->outside, &views->outside_cap, views->outside_count,
					sizeof(*views->outside)) < 0) {
		free(outside.path);
		return -ENOMEM;
	}
	*out = (uint32_t)(inside + views->outside_count);
	views->outside[views->outside_count++] = outside;
	return 0;
}

int ckpt_view_hf_fill(struct ckpt_views *views, struct view_set *set, int group_fd,
		      struct ckpt_err *err)
{
	for (size_t i = 0; i < VIEW_HF_SLOTS; i++) {
		uint32_t source = CKPT_VIEW_NONE;

		if (set->model.name && i != VIEW_HF_MODEL) {
			source = find_inside(views, set->folder, names[i]);
			if (source == CKPT_VIEW_NONE)
				source = find_inside(views, "", names[i]);
			if (source == CKPT_VIEW_NONE &&
			    find_outside(views, group_fd, names[i], &source) == -ENOMEM)
				return ckpt_err_sys(err, -ENOMEM, "cannot make the views of '%s'",
						    views->label);
		}
		set->companions[i].source = source;
	}
	return 0;
}
