/* verify_deep.c - the sums that the writers of a checkpoint's archives left in them. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "store/commit_internal.h"
#include "store/contents.h"

struct listener {
	const struct ckpt_verify_options *options;
	const char *label;
};

/* "NAME/FILE: …" */
static void pass_on(const struct listener *listener, void (*to)(void *ctx, const char *line),
		    const char *line)
{
	struct ckpt_buf text;

	if (!to)
		return;
	ckpt_buf_init(&text);
	ckpt_buf_printf(&text, "%s/%s", listener->label, line);
	if (text.data)
		to(listener->options->ctx, text.data);
	ckpt_buf_release(&text);
}

static void tell(void *ctx, const char *line)
{
	const struct listener *listener = ctx;

	pass_on(listener, listener->options->finding, line);
}

static void tell_unchecked(void *ctx, const char *line)
{
	const struct listener *listener = ctx;

	pass_on(listener, listener->options->unchecked, line);
}

static int show(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	const struct listener *listener = ctx;

	return listener->options->progress ? listener->options->progress(listener->options->ctx,
									 bytes_done, bytes_total)
					   : 0;
}

int ckpt_verify_deep(int dirfd, const char *label, const struct ckpt_manifest *manifest,
		     const struct ckpt_verify_options *options, struct ckpt_verify_result *result,
		     struct ckpt_err *err)
{
	CKPT_FREE struct ckpt_contents_file *files = NULL;
	struct listener listener = { .options = options, .label = label };
	struct ckpt_contents_check check = {
		.finding = tell, .unchecked = tell_unchecked, .progress = show, .ctx = &listener
	};
	uint64_t findings = 0;
	int rc;

	if (!options->deep || options->part_idx > 0)
		return 0;
	files = array_alloc(num_max(manifest->shard_count, 1), sizeof(*files));
	if (!files)
		return ckpt_err_sys(err, -ENOMEM, "cannot verify '%s'", label);
	for (size_t i = 0; i < manifest->shard_count; i++) {
		if (!manifest->shards[i].pack)
			files[check.file_count++] = (struct ckpt_contents_file){
				.path = manifest->shards[i].path,
				.size_bytes = manifest->shards[i].size_bytes,
			};
	}
	check.files = files;
	rc = ckpt_contents_check(dirfd, label, &check, &findings, err);
	if (rc == 0)
		result->finding_count += findings;
	return rc;
}
