/*
 * commit_tensors.c - the tensors of a checkpoint whose writer described none: what its files say
 * (contents.h). What is not understood is a note for `ckptfs show`, which asks the files again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "store/commit_internal.h"
#include "store/contents.h"

/* The stored files by path; packs hold what their writer has described. *@out is heap. */
static int list_files(const struct ckpt_commit *commit, struct ckpt_contents_file **out,
		      size_t *out_count)
{
	struct ckpt_contents_file *files =
		array_alloc(num_max(commit->file_count, 1), sizeof(*files));
	size_t count = 0;

	if (!files)
		return -ENOMEM;
	for (size_t i = 0; i < commit->file_count; i++) {
		if (!commit->files[i].packed)
			files[count++] = (struct ckpt_contents_file){
				.path = commit->files[i].path,
				.size_bytes = commit->files[i].stamp.size_bytes,
				.is_summed = ckpt_commit_known_fits(&commit->files[i]),
			};
	}
	*out = files;
	*out_count = count;
	return 0;
}

/* --- sums of the archives -------------------------------------------------------------------- */

/* The first wrong one is told; more of them change nothing. */
struct first_finding {
	char line[CKPT_ERR_MAX];
};

static void note_finding(void *ctx, const char *line)
{
	struct first_finding *first = ctx;

	if (first->line[0] == '\0')
		ckpt_ignore(snprintf(first->line, sizeof(first->line), "%s", line));
}

/*
 * torch and numpy leave a CRC-32 of each record. Where it is wrong the bytes were damaged between
 * their memory and here, and a commit would make that last. Of what a session has told the sums
 * no byte is read for it: that is for `ckptfs verify --deep`.
 */
static int check_records(struct ckpt_commit *commit, const struct ckpt_contents_file *files,
			 size_t count, struct ckpt_err *err)
{
	struct first_finding first = { .line = "" };
	const struct ckpt_contents_check check = {
		.files = files, .file_count = count, .finding = note_finding, .ctx = &first
	};
	uint64_t findings = 0;
	int rc;

	if (commit->options->skip_crc)
		return 0;
	rc = ckpt_contents_check(commit->dirfd, commit->name, &check, &findings, err);
	if (rc < 0 || findings == 0)
		return rc;
	return ckpt_err_set(
		err, -EBADMSG,
		"cannot commit '%s': it is damaged: %s; save it again, or commit it as it is with 'ckptfs commit --no-crc'",
		commit->name, first.line);
}

/* --- the catalogue --------------------------------------------------------------------------- */

/* Into the manifest, which owns them from here on. */
static void take_contents(struct ckpt_commit *commit, struct ckpt_contents *contents)
{
	struct ckpt_manifest *manifest = &commit->manifest;

	manifest->tensors = contents->tensors;
	manifest->tensor_count = contents->tensor_count;
	manifest->tensor_cap = contents->tensor_cap;
	manifest->bytes_entries = contents->bytes_entries;
	manifest->bytes_entry_count = contents->bytes_entry_count;
	manifest->bytes_entry_cap = contents->bytes_entry_cap;
	contents->tensors = NULL;
	contents->tensor_count = 0;
	contents->bytes_entries = NULL;
	contents->bytes_entry_count = 0;
}

int ckpt_commit_catalogue(struct ckpt_commit *commit, struct ckpt_err *err)
{
	CKPT_FREE struct ckpt_contents_file *files = NULL;
	struct ckpt_contents contents = { .tensors = NULL };
	size_t count = 0;
	int rc = list_files(commit, &files, &count);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s'", commit->name);
	rc = ckpt_contents_read(commit->dirfd, commit->name, files, count, &contents, err);
	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot commit '%s'", commit->name);
	take_contents(commit, &contents);
	ckpt_contents_release(&contents);
	return check_records(commit, files, count, err);
}
