/*
 * contents.c - see contents.h. Each folder is looked at by itself: every kind of file makes its
 * claims, then those that contradict each other are put out, and what is left becomes tensors.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/contents_internal.h"

/* So many tensors of a file are named that are not shown; the rest are counted. */
#define OPAQUE_NOTES 20U
/* DCP's writer leaves the files of the ranks there, beside the family it has made of them. */
#define SHARDED_FOLDER "sharded"

/* --- small things ---------------------------------------------------------------------------- */

const char *contents_name_of(const char *path)
{
	return ckpt_path_basename(path);
}

bool contents_is_called(const char *path, const char *suffix)
{
	const char *name = contents_name_of(path);
	size_t len = strlen(name);
	size_t suffix_len = strlen(suffix);

	return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

int contents_no_memory(const struct contents_folder *folder)
{
	return ckpt_err_sys(folder->err, -ENOMEM, "cannot list the tensors of '%s'", folder->label);
}

uint64_t *contents_copy_extents(const uint64_t *from, uint32_t count)
{
	uint64_t *copy = array_alloc(num_max(count, 1), sizeof(*copy));

	if (copy && from)
		memcpy(copy, from, count * sizeof(*copy));
	return copy;
}

static int path_and_file(const void *path, const void *file)
{
	return strcmp(path, ((const struct ckpt_contents_file *)file)->path);
}

const struct ckpt_contents_file *contents_find_file(const struct contents_folder *folder,
						    const char *path)
{
	return folder->all_count > 0 ? bsearch(path, folder->all_files, folder->all_count,
					       sizeof(*folder->all_files), path_and_file)
				     : NULL;
}

int contents_open(const struct contents_folder *folder, const char *path)
{
	int fd = ckpt_io_open_beneath(folder->dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);

	if (fd < 0 && fd != -EACCES)
		ckpt_err_sys(folder->err, fd, "cannot list the tensors of '%s/%s'", folder->label,
			     path);
	return fd;
}

/* --- notes ----------------------------------------------------------------------------------- */

/* Reasons hold names out of the files: control characters in them are not for a terminal. */
static int add_note(struct contents_folder *folder, const char *file, const char *reason)
{
	struct ckpt_contents *out = folder->out;
	struct ckpt_contents_note note = { .file = strdup(file) };
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, reason);
	note.reason = ckpt_buf_steal(&shown);
	if (!note.file || !note.reason ||
	    array_grow(&out->notes, &out->note_cap, out->note_count, sizeof(note)) < 0) {
		free(note.file);
		free(note.reason);
		return contents_no_memory(folder);
	}
	out->notes[out->note_count++] = note;
	return 0;
}

int contents_note(struct contents_folder *folder, const char *file, const char *fmt, ...)
{
	char reason[CKPT_ERR_MAX];
	va_list args;

	va_start(args, fmt);
	ckpt_ignore(vsnprintf(reason, sizeof(reason), fmt, args));
	va_end(args);
	return add_note(folder, file, reason);
}

int contents_judge(struct contents_folder *folder, const char *file, int rc,
		   const struct ckpt_err *why)
{
	if (rc == -EBADMSG)
		return add_note(folder, file, why->msg);
	return ckpt_err_set(folder->err, rc, "%s", why->msg);
}

int contents_count_opaque(struct contents_folder *folder, const char *file, const char *fqn,
			  const char *why, size_t *count)
{
	if ((*count)++ >= OPAQUE_NOTES)
		return 0;
	return contents_note(folder, file, "tensor '%s': %s", fqn, why);
}

int contents_end_opaque(struct contents_folder *folder, const char *file, size_t count)
{
	if (count <= OPAQUE_NOTES)
		return 0;
	return contents_note(folder, file, "and %zu more tensors like those", count - OPAQUE_NOTES);
}

/* --- sources and claims ---------------------------------------------------------------------- */

int contents_add_source(struct contents_folder *folder, enum contents_kind kind, const char *file,
			size_t family, size_t *out)
{
	int rc = array_grow(&folder->sources, &folder->source_cap, folder->source_count,
			    sizeof(*folder->sources));

	if (rc < 0)
		return contents_no_memory(folder);
	assert(folder->source_count == 0 || folder->sources[folder->source_count - 1].kind <= kind);
	folder->sources[folder->source_count] = (struct contents_source){
		.kind = kind,
		.file = file,
		.family = family == SIZE_MAX ? folder->family_count++ : family,
	};
	*out = folder->source_count++;
	return 0;
}

int contents_put_out(struct contents_folder *folder, size_t source, const char *fmt, ...)
{
	char reason[CKPT_ERR_MAX];
	va_list args;

	if (folder->sources[source].why_out)
		return 0;
	va_start(args, fmt);
	ckpt_ignore(vsnprintf(reason, sizeof(reason), fmt, args));
	va_end(args);
	folder->sources[source].why_out = strdup(reason);
	return folder->sources[source].why_out ? 0 : contents_no_memory(folder);
}

int contents_add_claim(struct contents_folder *folder, size_t source, struct contents_claim **out)
{
	int rc = array_grow(&folder->claims, &folder->claim_cap, folder->claim_count,
			    sizeof(*folder->claims));

	if (rc < 0)
		return contents_no_memory(folder);
	*out = &folder->claims[folder->claim_count++];
	**out = (struct contents_claim){ .source = source };
	return 0;
}

int contents_claim_whole(struct contents_folder *folder, size_t source,
			 const struct contents_whole *whole)
{
	struct contents_claim *claim = NULL;
	struct ckpt_tensor *tensor;
	struct ckpt_chunk *chunk;
	int rc = contents_add_claim(folder, source, &claim);

	assert(whole->fqn && whole->dtype && whole->shard);
	if (rc < 0)
		return rc;
	assert(claim);
	tensor = &claim->tensor;
	memcpy(tensor->dtype, whole->dtype, strlen(whole->dtype) + 1);
	tensor->fqn = strdup(whole->fqn);
	tensor->set = strdup(folder->path);
	tensor->group = whole->group ? strdup(whole->group) : NULL;
	tensor->dim_count = whole->dim_count;
	tensor->shape = contents_copy_extents(whole->shape, whole->dim_count);
	tensor->chunks = array_alloc(1, sizeof(*tensor->chunks));
	if (!tensor->fqn || !tensor->set || (whole->group && !tensor->group) || !tensor->shape ||
	    !tensor->chunks)
		return contents_no_memory(folder);
	tensor->chunk_count = 1;
	chunk = &tensor->chunks[0];
	chunk->start = contents_copy_extents(NULL, whole->dim_count);
	chunk->size = contents_copy_extents(whole->shape, whole->dim_count);
	chunk->stride = whole->stride ? contents_copy_extents(whole->stride, whole->dim_count)
				      : NULL;
	chunk->shard = strdup(whole->shard);
	chunk->offset_bytes = whole->offset_bytes;
	return chunk->start && chunk->size && chunk->shard && (!whole->stride || chunk->stride)
		       ? 0
		       : contents_no_memory(folder);
}

static const char *fqn_of(const struct contents_claim *claim)
{
	return claim->tensor.fqn ? claim->tensor.fqn : claim->bytes.fqn;
}

static void claim_release(struct contents_claim *claim)
{
	ckpt_tensor_release(&claim->tensor);
	ckpt_bytes_entry_release(&claim->bytes);
}

/* --- names ----------------------------------------------------------------------------------- */

/* Does more than one family say something? */
static bool do_several_speak(const struct contents_folder *folder)
{
	size_t family = SIZE_MAX;

	for (size_t i = 0; i < folder->source_count; i++) {
		if (folder->sources[i].why_out)
			continue;
		if (family != SIZE_MAX && folder->sources[i].family != family)
			return true;
		family = folder->sources[i].family;
	}
	return false;
}

/* Does the file's own name stand before those in it where others speak, too? */
static bool is_named_apart(const struct contents_source *source)
{
	return (source->kind == CONTENTS_TORCH || source->kind == CONTENTS_NPZ) &&
	       !source->is_one_tensor;
}

static int rename_claim(const struct contents_folder *folder, struct contents_claim *claim)
{
	const char *name = contents_name_of(folder->sources[claim->source].file);
	const char *dot = strrchr(name, '.');
	struct ckpt_buf fqn;
	char *group = strndup(name, (size_t)(dot - name));

	ckpt_buf_init(&fqn);
	ckpt_buf_printf(&fqn, "%.*s.%s", (int)(dot - name), name, claim->tensor.fqn);
	if (!group || ckpt_buf_check(&fqn) < 0) {
		free(group);
		ckpt_buf_release(&fqn);
		return contents_no_memory(folder);
	}
	free(claim->tensor.group);
	free(claim->tensor.fqn);
	claim->tensor.group = group;
	claim->tensor.fqn = ckpt_buf_steal(&fqn);
	return 0;
}

static int name_claims(struct contents_folder *folder)
{
	int rc = 0;

	if (!do_several_speak(folder))
		return 0;
	for (size_t i = 0; rc == 0 && i < folder->claim_count; i++) {
		struct contents_claim *claim = &folder->claims[i];

		if (is_named_apart(&folder->sources[claim->source]))
			rc = rename_claim(folder, claim);
	}
	return rc;
}

/* --- contradictions -------------------------------------------------------------------------- */

/* By FQN; claims of one name by the strength of their sources, then in their order. */
static int by_fqn(const void *left, const void *right)
{
	const struct contents_claim *a = left;
	const struct contents_claim *b = right;
	int order = strcmp(fqn_of(a), fqn_of(b));

	return order != 0 ? order : (a->source > b->source) - (a->source < b->source);
}

static int put_out_twin(struct contents_folder *folder, const struct contents_claim *claim,
			const struct contents_claim *other)
{
	if (claim->source == other->source)
		return contents_put_out(folder, claim->source, "two tensors in it are called '%s'",
					fqn_of(claim));
	return contents_put_out(folder, claim->source, "'%s' is told of by '%s', too",
				fqn_of(claim), folder->sources[other->source].file);
}

/*
 * @count sources claim one name, the strongest first: all others are out, and it is too if the
 * second is of its kind.
 */
static int put_out_twins(struct contents_folder *folder, const struct contents_claim *claims,
			 size_t count)
{
	int rc = 0;

	for (size_t i = 1; rc == 0 && i < count; i++)
		rc = put_out_twin(folder, &claims[i], &claims[0]);
	if (rc == 0 && count > 1 &&
	    folder->sources[claims[0].source].kind == folder->sources[claims[1].source].kind)
		rc = put_out_twin(folder, &claims[0], &claims[1]);
	return rc;
}

/* What a source that is out has claimed contradicts nobody. */
static void drop_claims_of_out(struct contents_folder *folder)
{
	size_t kept = 0;

	for (size_t i = 0; i < folder->claim_count; i++) {
		if (folder->sources[folder->claims[i].source].why_out)
			claim_release(&folder->claims[i]);
		else
			folder->claims[kept++] = folder->claims[i];
	}
	folder->claim_count = kept;
}

static int put_out_contradictions(struct contents_folder *folder)
{
	struct contents_claim *claims = folder->claims;
	size_t end = 0;
	int rc = 0;

	if (folder->claim_count > 0)
		qsort(claims, folder->claim_count, sizeof(*claims), by_fqn);
	for (size_t first = 0; rc == 0 && first < folder->claim_count; first = end) {
		for (end = first + 1; end < folder->claim_count &&
				      strcmp(fqn_of(&claims[first]), fqn_of(&claims[end])) == 0;)
			end++;
		rc = put_out_twins(folder, claims + first, end - first);
	}
	return rc;
}

/* A name that the format of the manifest does not take puts its source out. */
static int put_out_nameless(struct contents_folder *folder)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < folder->claim_count; i++) {
		const struct contents_claim *claim = &folder->claims[i];

		if (fqn_of(claim)[0] == '\0')
			rc = contents_put_out(folder, claim->source, "a tensor in it has no name");
		else if (!ckpt_text_is_utf8(fqn_of(claim)))
			rc = contents_put_out(folder, claim->source,
					      "the name of tensor '%s' is no UTF-8", fqn_of(claim));
	}
	return rc;
}

/* --- taking over ----------------------------------------------------------------------------- */

static int take_claim(struct contents_folder *folder, struct contents_claim *claim)
{
	struct ckpt_contents *out = folder->out;
	int rc;

	if (claim->tensor.fqn) {
		rc = array_grow(&out->tensors, &out->tensor_cap, out->tensor_count,
				sizeof(*out->tensors));
		if (rc == 0) {
			out->tensors[out->tensor_count++] = claim->tensor;
			claim->tensor = (struct ckpt_tensor){ .fqn = NULL };
		}
	} else {
		rc = array_grow(&out->bytes_entries, &out->bytes_entry_cap, out->bytes_entry_count,
				sizeof(*out->bytes_entries));
		if (rc == 0) {
			out->bytes_entries[out->bytes_entry_count++] = claim->bytes;
			claim->bytes = (struct ckpt_bytes_entry){ .fqn = NULL };
		}
	}
	return rc < 0 ? contents_no_memory(folder) : 0;
}

static int take_claims(struct contents_folder *folder)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < folder->source_count; i++) {
		if (folder->sources[i].why_out)
			rc = add_note(folder, folder->sources[i].file, folder->sources[i].why_out);
	}
	for (size_t i = 0; rc == 0 && i < folder->claim_count; i++) {
		if (!folder->sources[folder->claims[i].source].why_out)
			rc = take_claim(folder, &folder->claims[i]);
	}
	return rc;
}

static void folder_release(struct contents_folder *folder)
{
	for (size_t i = 0; i < folder->claim_count; i++)
		claim_release(&folder->claims[i]);
	for (size_t i = 0; i < folder->source_count; i++)
		free(folder->sources[i].why_out);
	free(folder->claims);
	free(folder->sources);
}

/* --- folders --------------------------------------------------------------------------------- */

/* In the order of their strength, which is that of the sources from here on. */
static int look_at_folder(struct contents_folder *folder)
{
	int rc = contents_look_dcp(folder);

	if (rc == 0)
		rc = contents_look_safetensors(folder);
	if (rc == 0)
		rc = contents_look_torch(folder);
	if (rc == 0)
		rc = contents_look_numpy(folder);
	if (rc == 0)
		rc = put_out_nameless(folder);
	if (rc == 0) {
		drop_claims_of_out(folder);
		rc = name_claims(folder);
	}
	if (rc == 0)
		rc = put_out_contradictions(folder);
	if (rc == 0)
		rc = take_claims(folder);
	folder_release(folder);
	return rc;
}

/* Length of the folder's path in that of a file. */
static size_t folder_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

static int by_folder(const void *left, const void *right)
{
	const char *a = (*(const struct ckpt_contents_file *const *)left)->path;
	const char *b = (*(const struct ckpt_contents_file *const *)right)->path;
	size_t a_len = folder_len(a);
	size_t b_len = folder_len(b);
	int order = memcmp(a, b, num_min(a_len, b_len));

	if (order == 0)
		order = (a_len > b_len) - (a_len < b_len);
	return order != 0 ? order : strcmp(a, b);
}

/*
 * Does the family that was made of the files in @path, which is called `sharded`, lie above it? One
 * that is not understood, say because its making was killed, hides nothing.
 */
static bool is_consolidated(const struct ckpt_contents *contents, const char *path)
{
	size_t above = folder_len(path);

	if (strcmp(contents_name_of(path), SHARDED_FOLDER) != 0)
		return false;
	for (size_t i = 0; i < contents->tensor_count; i++) {
		const struct ckpt_tensor *tensor = &contents->tensors[i];

		if (strlen(tensor->set) == above && memcmp(tensor->set, path, above) == 0 &&
		    tensor->chunk_count > 0 &&
		    contents_is_called(tensor->chunks[0].shard, ".safetensors"))
			return true;
	}
	return false;
}

static int by_set_and_fqn(const void *left, const void *right)
{
	const struct ckpt_tensor *a = left;
	const struct ckpt_tensor *b = right;
	int order = strcmp(a->set, b->set);

	return order != 0 ? order : strcmp(a->fqn, b->fqn);
}

static int by_bytes_order(const void *left, const void *right)
{
	const struct ckpt_bytes_entry *a = left;
	const struct ckpt_bytes_entry *b = right;
	int order = strcmp(a->set, b->set);

	if (order == 0)
		order = strcmp(a->fqn, b->fqn);
	return order != 0 ? order : strcmp(a->shard, b->shard);
}

static int by_file(const void *left, const void *right)
{
	const struct ckpt_contents_note *a = left;
	const struct ckpt_contents_note *b = right;

	return strcmp(a->file, b->file);
}

static void put_in_order(struct ckpt_contents *contents)
{
	if (contents->tensor_count > 0)
		qsort(contents->tensors, contents->tensor_count, sizeof(*contents->tensors),
		      by_set_and_fqn);
	if (contents->bytes_entry_count > 0)
		qsort(contents->bytes_entries, contents->bytes_entry_count,
		      sizeof(*contents->bytes_entries), by_bytes_order);
	if (contents->note_count > 0)
		qsort(contents->notes, contents->note_count, sizeof(*contents->notes), by_file);
}

int ckpt_contents_read(int dirfd, const char *label, const struct ckpt_contents_file *files,
		       size_t file_count, struct ckpt_contents *out, struct ckpt_err *err)
{
	CKPT_FREE const struct ckpt_contents_file **sorted =
		array_alloc(num_max(file_count, 1), sizeof(struct ckpt_contents_file *));
	struct ckpt_contents contents = { .tensors = NULL };
	size_t end = 0;
	int rc = 0;

	if (!sorted)
		return ckpt_err_sys(err, -ENOMEM, "cannot list the tensors of '%s'", label);
	for (size_t i = 0; i < file_count; i++)
		sorted[i] = &files[i];
	if (file_count > 0)
		qsort(sorted, file_count, sizeof(struct ckpt_contents_file *), by_folder);
	for (size_t first = 0; rc == 0 && first < file_count; first = end) {
		size_t len = folder_len(sorted[first]->path);
		CKPT_FREE char *path = strndup(sorted[first]->path, len);
		struct contents_folder folder = { .dirfd = dirfd,
						  .label = label,
						  .path = path,
						  .files = sorted + first,
						  .all_files = files,
						  .all_count = file_count,
						  .out = &contents,
						  .err = err };

		for (end = first; end < file_count && folder_len(sorted[end]->path) == len &&
				  memcmp(sorted[end]->path, sorted[first]->path, len) == 0;
		     end++)
			folder.file_count++;
		if (!path)
			rc = contents_no_memory(&folder);
		else if (!is_consolidated(&contents, path))
			rc = look_at_folder(&folder);
	}
	if (rc < 0) {
		ckpt_contents_release(&contents);
		return rc;
	}
	put_in_order(&contents);
	*out = contents;
	return 0;
}

void ckpt_contents_release(struct ckpt_contents *contents)
{
	for (size_t i = 0; i < contents->tensor_count; i++)
		ckpt_tensor_release(&contents->tensors[i]);
	for (size_t i = 0; i < contents->bytes_entry_count; i++)
		ckpt_bytes_entry_release(&contents->bytes_entries[i]);
	for (size_t i = 0; i < contents->note_count; i++) {
		free(contents->notes[i].file);
		free(contents->notes[i].reason);
	}
	free(contents->tensors);
	free(contents->bytes_entries);
	free(contents->notes);
	*contents = (struct ckpt_contents){ .tensors = NULL };
}
