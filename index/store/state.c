/*
 * state.c - what a folder of a store is, from what lies on disk alone.
 * Source: ckptfs-format(5) "States".
 *
 * A folder with a manifest is committed as soon as the file is there: it only
 * ever appears by a rename, whole. One that was damaged later is a damaged
 * committed checkpoint, not an open one, or a tool would write into it.
 *
 * What is neither temporary, nor locked, nor held by a session is judged by
 * the files in it. The rules lean towards "group", because to take a group for
 * a checkpoint hides every checkpoint in it:
 * - A strong mark is a file that only checkpoints have: `.metadata`,
 *   `*.distcp`, `*.safetensors`, `*.safetensors.index.json`,
 *   `trainer_state.json`, `_CHECKPOINT_METADATA`, `pytorch_model*.bin` (and its
 *   index). A weak one is `*.pt` or `*.pth`: those lie about in groups too.
 * - A numbered name is all digits, or has a number behind step, iter, epoch,
 *   checkpoint or ckpt ("step-100", "global_step100", "epoch=0-step=9.ckpt").
 * - A folder is recognised by a strong mark at its top; by a weak one there
 *   if its name is numbered; by any mark in a folder directly in it that
 *   is not numbered, if its own name is (Megatron's iter_0000100/mp_rank_00), or
 *   that is, if its own is transformers' (checkpoint-500/global_step500).
 * - Some folders are always parts of a checkpoint, by their name
 *   (pytorch_model_fsdp_0): the one that they lie in is recognised by them.
 * - It is a group all the same when a numbered folder directly in it has a
 *   strong mark (a trainer saves the last model beside its checkpoint-N), or
 *   when any folder below it is a checkpoint by manifest, lock or session.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_internal.h"

const char *ckpt_state_name(enum ckpt_state state)
{
	switch (state) {
	case CKPT_STATE_OPEN:
		return "open";
	case CKPT_STATE_ABORTED:
		return "aborted";
	case CKPT_STATE_COMMITTED:
		return "committed";
	case CKPT_STATE_NONE:
		break;
	}
	return "";
}

/* The path leads to nothing that counts here: nothing, not a folder on the way, or a symlink. */
static bool is_absence(int rc)
{
	return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -ENAMETOOLONG;
}

int ckpt_manifest_stat(int dirfd, const char *name, struct stat *out)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&path);
	ckpt_path_join(&path, name, CKPT_MANIFEST_FILE);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = fd = ckpt_io_open_beneath(dirfd, path.data, O_PATH | O_NOFOLLOW, 0);
	ckpt_buf_release(&path);
	if (rc >= 0)
		rc = ckpt_io_fstat(fd, out);
	if (rc < 0)
		return is_absence(rc) ? -ENOENT : rc;
	return S_ISREG(out->st_mode) ? 0 : -EBADMSG;
}

static int depth_of(const char *name)
{
	int depth = 1;

	for (; *name != '\0'; name++)
		depth += *name == '/';
	return depth;
}

/* --- names that say something ------------------------------------------------ */

static bool is_strong_mark(const char *name)
{
	if (strcmp(name, ".metadata") == 0 || strcmp(name, "trainer_state.json") == 0 ||
	    strcmp(name, "_CHECKPOINT_METADATA") == 0)
		return true;
	if (ckpt_has_prefix(name, "pytorch_model") &&
	    (ckpt_has_suffix(name, ".bin") || ckpt_has_suffix(name, ".bin.index.json")))
		return true;
	return ckpt_has_suffix(name, ".distcp") || ckpt_has_suffix(name, ".safetensors") ||
	       ckpt_has_suffix(name, ".safetensors.index.json");
}

static bool is_weak_mark(const char *name)
{
	return ckpt_has_suffix(name, ".pt") || ckpt_has_suffix(name, ".pth");
}

static bool is_array(const char *name)
{
	static const char *const suffixes[] = { ".npy", ".npz", ".bin", ".ckpt" };

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (ckpt_has_suffix(name, suffixes[i]))
			return true;
	}
	return false;
}

static bool is_unnumbered(const char *name)
{
	return !ckpt_name_is_numbered(name);
}

/* --- what lies in a folder ----------------------------------------------------- */

/* The names in one folder that matter here. */
struct look {
	bool strong;
	bool weak;
	bool array;  /* a file that holds tensors, or anything else */
	char **dirs; /* sub-folders but the control folder */
	size_t dir_count, dir_cap;
};

static void look_release(struct look *look)
{
	for (size_t i = 0; i < look->dir_count; i++)
		free(look->dirs[i]);
	free(look->dirs);
	*look = (struct look){ 0 };
}

static int look_add_dir(struct look *look, const char *name)
{
	int rc = array_grow(&look->dirs, &look->dir_cap, look->dir_count, sizeof(*look->dirs));

	if (rc < 0)
		return rc;
	look->dirs[look->dir_count] = strdup(name);
	if (!look->dirs[look->dir_count])
		return -ENOMEM;
	look->dir_count++;
	return 0;
}

static int look_at_entry(struct look *look, int dirfd, const char *name, unsigned char type)
{
	bool is_dir = false;
	int rc = ckpt_dirent_is_dir(dirfd, name, type, &is_dir);

	if (rc < 0)
		return is_absence(rc) ? 0 : rc;
	if (is_dir)
		return strcmp(name, CKPT_CONTROL_DIR) == 0 ? 0 : look_add_dir(look, name);
	look->strong = look->strong || is_strong_mark(name);
	look->weak = look->weak || is_weak_mark(name);
	look->array = look->array || is_array(name);
	return 0;
}

/* Read the folder @path below @parent. One that is gone, or may not be read, shows nothing. */
static int look_at(int parent, const char *path, struct look *out)
{
	unsigned char type;
	const char *name;
	DIR *dir;
	int rc = ckpt_dir_open(parent, path, &dir);

	*out = (struct look){ 0 };
	if (rc < 0)
		return is_absence(rc) || rc == -EACCES ? 0 : rc;
	while ((rc = ckpt_io_readdir_type(dir, &name, &type)) > 0) {
		rc = look_at_entry(out, dirfd(dir), name, type);
		if (rc < 0)
			break;
	}
	closedir(dir);
	if (rc < 0)
		look_release(out);
	return rc;
}

int ckpt_dir_open(int dirfd, const char *path, DIR **out)
{
	int fd = ckpt_io_open_beneath(dirfd, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	*out = fdopendir(fd);
	if (!*out) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return 0;
}

int ckpt_dirent_is_dir(int dirfd, const char *name, unsigned char type, bool *out)
{
	struct stat st;
	int rc;

	if (type != DT_UNKNOWN) {
		*out = type == DT_DIR;
		return 0;
	}
	rc = ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc == 0)
		*out = S_ISDIR(st.st_mode);
	return rc;
}

/* --- marks of the control folder ------------------------------------------------- */

/* What the control folder of a checkpoint tells. */
struct marks {
	bool manifest;
	bool aborted;
	bool held;		/* by a lock or a session, of the living or the dead */
	struct ckpt_buf holder; /* "writer on HOST, pid N": a living one; else empty */
};

static int exists_at(int dirfd, const char *path, bool *out)
{
	struct stat st;
	int rc = ckpt_io_fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW);

	if (rc < 0 && !is_absence(rc))
		return rc;
	*out = rc == 0;
	return 0;
}

static int read_holders(int dirfd, struct marks *marks)
{
	bool session = false;
	int rc = ckpt_lock_holder(dirfd, &marks->holder);

	if (rc == 0 || rc == -ENOMEM)
		return rc;
	/* Whose lock it is may be unreadable: that somebody holds it shows all the same. */
	rc = ckpt_session_holder(dirfd, &session, &marks->holder);
	marks->held = marks->held || session;
	return rc == -ENOMEM ? rc : 0;
}

/*
 * Look at the control folder of @dirfd, if need be beyond the manifest; release marks->holder also
 * on failure.
 */
static int read_marks(int dirfd, bool manifest_decides, struct marks *out)
{
	struct stat st;
	int rc = ckpt_manifest_stat(dirfd, "", &st);

	/* Something else in its place is a damaged manifest, not none. */
	out->manifest = rc == 0 || rc == -EBADMSG;
	if (out->manifest && manifest_decides)
		return 0;
	if (rc == -ENOENT || rc == -EBADMSG)
		rc = 0;
	if (rc == 0)
		rc = exists_at(dirfd, CKPT_ABORTED_FILE, &out->aborted);
	if (rc == 0)
		rc = exists_at(dirfd, CKPT_COMMIT_LOCK, &out->held);
	if (rc == 0)
		rc = read_holders(dirfd, out);
	/* A folder that may not be entered is nothing that we can call a checkpoint. */
	return rc == -EACCES ? 0 : rc;
}

/* Is the folder @path below @dirfd a checkpoint by its control folder? */
static int has_marks(int dirfd, const char *path, bool *out)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(dirfd, path, O_PATH | O_DIRECTORY, 0);
	struct marks marks = { 0 };
	int rc;

	if (fd < 0)
		return is_absence(fd) || fd == -EACCES ? 0 : fd;
	ckpt_buf_init(&marks.holder);
	rc = read_marks(fd, true, &marks);
	ckpt_buf_release(&marks.holder);
	*out = marks.manifest || marks.aborted || marks.held;
	return rc;
}

/* --- recognising ------------------------------------------------------------------ */

static int holds_checkpoint(int dirfd, const struct look *top, int depth, bool *out);

/* Does the folder @path, or any below it, have the marks of a checkpoint? */
static int is_or_holds_checkpoint(int dirfd, const char *path, int depth, bool *out)
{
	CKPT_CLOSE int fd = -1;
	struct look look;
	int rc = has_marks(dirfd, path, out);

	if (rc < 0 || *out || depth >= CKPT_NAME_DEPTH_MAX)
		return rc;
	rc = look_at(dirfd, path, &look);
	if (rc < 0 || look.dir_count == 0)
		return rc;
	fd = ckpt_io_open_beneath(dirfd, path, O_PATH | O_DIRECTORY, 0);
	rc = fd < 0 && !is_absence(fd) ? fd : 0;
	if (fd >= 0)
		rc = holds_checkpoint(fd, &look, depth + 1, out);
	look_release(&look);
	return rc;
}

/*
 * @depth: components of the names of @top's sub-folders. Recursion ends at the deepest name that a
 * checkpoint can have.
 */
static int holds_checkpoint(int dirfd, const struct look *top, int depth, bool *out)
{
	int rc = 0;

	assert(depth <= CKPT_NAME_DEPTH_MAX + 1);
	for (size_t i = 0; rc == 0 && !*out && i < top->dir_count; i++)
		rc = is_or_holds_checkpoint(dirfd, top->dirs[i], depth, out);
	return rc;
}

/* Does a sub-folder with such a name have a mark? *@out is left alone where none has. */
static int any_child_has_mark(int dirfd, const struct look *top, bool (*is_such)(const char *name),
			      bool weak_will_do, bool *out)
{
	for (size_t i = 0; i < top->dir_count; i++) {
		struct look look;
		int rc;

		if (!is_such(top->dirs[i]))
			continue;
		rc = look_at(dirfd, top->dirs[i], &look);
		if (rc < 0)
			return rc;
		*out = *out || look.strong || (weak_will_do && look.weak);
		look_release(&look);
	}
	return 0;
}

/* Does what lies in the folder's own folders make it a checkpoint? */
static int recognise_by_children(int dirfd, const char *base, const struct look *top, bool *out)
{
	int rc = any_child_has_mark(dirfd, top, ckpt_name_is_part, false, out);

	if (rc == 0 && !*out && ckpt_name_is_numbered(base))
		rc = any_child_has_mark(dirfd, top, is_unnumbered, true, out);
	if (rc == 0 && !*out && ckpt_name_is_trainer(base))
		rc = any_child_has_mark(dirfd, top, ckpt_name_is_numbered, true, out);
	return rc;
}

/* The rules at the top of this file. */
static int recognise(int dirfd, const char *name, bool *out)
{
	const char *base = ckpt_path_basename(name);
	bool is_group = false;
	bool found;
	struct look top;
	int rc;

	/* A part of something; right below the store there is nothing to be a part of. */
	if (base != name && ckpt_name_is_part(base)) {
		*out = false;
		return 0;
	}
	rc = look_at(dirfd, "", &top);
	if (rc < 0)
		return rc;
	found = top.strong || (top.weak && ckpt_name_is_numbered(base));
	if (!found)
		rc = recognise_by_children(dirfd, base, &top, &found);
	if (rc == 0 && found)
		rc = any_child_has_mark(dirfd, &top, ckpt_name_is_numbered, false, &is_group);
	if (rc == 0 && found && !is_group)
		rc = holds_checkpoint(dirfd, &top, depth_of(name) + 1, &is_group);
	look_release(&top);
	*out = found && !is_group;
	return rc;
}

/* --- in no store ------------------------------------------------------------------- */

/*
 * Is a folder directly in @top a checkpoint by its control folder? No deeper: who names a folder in
 * no store may have named the top of a disk.
 */
static int any_child_has_marks(int dirfd, const struct look *top, bool *out)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && !*out && i < top->dir_count; i++)
		rc = has_marks(dirfd, top->dirs[i], out);
	return rc;
}

int ckpt_bare_of(int dirfd, const char *name, bool any, enum ckpt_bare *out)
{
	const char *base = ckpt_path_basename(name);
	bool is_group = false;
	bool found = false;
	struct look top;
	int rc = look_at(dirfd, "", &top);

	if (rc < 0)
		return rc;
	found = top.strong || (top.weak && (any || ckpt_name_is_numbered(base))) ||
		(any && top.array);
	if (!found)
		rc = recognise_by_children(dirfd, base, &top, &found);
	if (rc == 0)
		rc = any_child_has_mark(dirfd, &top, ckpt_name_is_numbered, false, &is_group);
	if (rc == 0 && !is_group)
		rc = any_child_has_marks(dirfd, &top, &is_group);
	/* transformers' checkpoint-500 holds DeepSpeed's global_step500. */
	if (is_group && found && ckpt_name_is_trainer(base))
		is_group = false;
	look_release(&top);
	*out = is_group ? CKPT_BARE_GROUP : found ? CKPT_BARE_CHECKPOINT : CKPT_BARE_NOTHING;
	return rc;
}

/* --- the state --------------------------------------------------------------------- */

/* "the rename to 'run1/step-9'", for a manifest in a folder with a temporary name. */
static void print_rename(const char *name, struct ckpt_buf *out)
{
	struct ckpt_buf final_name;

	ckpt_buf_init(&final_name);
	if (ckpt_path_final_name(name, &final_name, NULL) == 0)
		ckpt_buf_printf(out, "the rename to '%s'", final_name.data);
	else
		ckpt_buf_add_str(out, "the rename to a lasting name");
	ckpt_buf_release(&final_name);
}

/* All its files are there: the mount that wrote it commits it, unless there is none (any more). */
static void print_complete(int store_fd, const char *name, const char *rule, struct ckpt_buf *out)
{
	struct ckpt_calm calm;

	if (ckpt_calm_of(store_fd, name, &calm) == 0 &&
	    ckpt_calm_secs(&calm) < CKPT_RULE_QUIET_SECS)
		ckpt_buf_printf(out, "%d s without a change", CKPT_RULE_QUIET_SECS);
	else
		ckpt_buf_printf(out, "a commit: complete by rule '%s'", rule);
}

static void print_rule(int store_fd, const char *name, struct ckpt_buf *out)
{
	struct ckpt_rule_verdict verdict;

	/* What cannot be looked into now can be committed all the same. */
	if (ckpt_rules_judge(store_fd, name, &verdict, out, NULL) < 0)
		ckpt_buf_add_str(out, "a commit");
	else if (verdict.complete)
		print_complete(store_fd, name, verdict.rule, out);
}

static void print_wait(int store_fd, const char *name, const struct marks *marks,
		       struct ckpt_buf *out)
{
	if (marks->holder.len_bytes > 0) {
		ckpt_buf_add(out, marks->holder.data, marks->holder.len_bytes);
	} else if (ckpt_path_is_temporary(name)) {
		print_rename(name, out);
		if (!marks->manifest)
			ckpt_buf_add_str(out, ", or a commit");
	} else {
		print_rule(store_fd, name, out);
	}
}

static int judge(int dirfd, const char *name, const struct marks *marks, enum ckpt_state *out)
{
	bool temporary = ckpt_path_is_temporary(name);
	bool recognised = false;
	int rc = 0;

	if (marks->manifest && !temporary) {
		*out = CKPT_STATE_COMMITTED;
		return 0;
	}
	if (marks->aborted) {
		*out = CKPT_STATE_ABORTED;
		return 0;
	}
	if (!temporary && !marks->held)
		rc = recognise(dirfd, name, &recognised);
	if (rc < 0)
		return rc;
	*out = temporary || marks->held || recognised ? CKPT_STATE_OPEN : CKPT_STATE_NONE;
	return 0;
}

int ckpt_state_of(int store_fd, const char *name, enum ckpt_state *out, struct ckpt_buf *waits_for,
		  struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	enum ckpt_state state = CKPT_STATE_NONE;
	struct marks marks = { 0 };
	int rc;

	/* The top is no checkpoint, and so deep none can lie. */
	if (*name == '\0' || depth_of(name) > CKPT_NAME_DEPTH_MAX) {
		*out = CKPT_STATE_NONE;
		return 0;
	}
	fd = ckpt_io_open_beneath(store_fd, name, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return ckpt_err_sys(err, fd == -ELOOP ? -ENOTDIR : fd, "cannot look at '%s'", name);
	ckpt_buf_init(&marks.holder);
	rc = read_marks(fd, !ckpt_path_is_temporary(name), &marks);
	if (rc == 0)
		rc = judge(fd, name, &marks, &state);
	if (rc == 0 && state == CKPT_STATE_OPEN && waits_for) {
		print_wait(store_fd, name, &marks, waits_for);
		rc = ckpt_buf_check(waits_for);
	}
	ckpt_buf_release(&marks.holder);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at '%s'", name);
	*out = state;
	return 0;
}

int ckpt_state_find_above(int store_fd, const char *name, struct ckpt_buf *out,
			  struct ckpt_err *err)
{
	CKPT_FREE char *upper = strdup(name);
	enum ckpt_state state = CKPT_STATE_NONE;
	int rc = 0;

	if (!upper)
		return ckpt_err_sys(err, -ENOMEM, "cannot look at '%s'", name);
	for (char *slash = strchr(upper, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		rc = ckpt_state_of(store_fd, upper, &state, NULL, err);
		if (rc < 0)
			return is_absence(rc) ? -ENOENT : rc;
		if (state != CKPT_STATE_NONE) {
			ckpt_buf_add_str(out, upper);
			return ckpt_buf_check(out);
		}
		*slash = '/';
	}
	return -ENOENT;
}
