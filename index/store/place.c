/*
 * place.c - what a path on a command line means: which store, which checkpoint,
 * what in it. First the path is made real (resolve.c), then the store is found:
 * the one behind a mount of ours, else the lowest one above. Below the store
 * nothing but names counts, and each is looked at from the top: the first
 * folder that is a checkpoint owns all below it. In no store there is no top:
 * place_bare.c looks from below.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/resolve.h"
#include "store/store.h"
#include "store/store_internal.h"

static const char latest_name[] = "latest";

/* The store that a path leads into. All strings are heap. */
struct site {
	char *store_path;
	char *mount_path; /* NULL: through no mount */
	char *access;	  /* where system calls find the store's top */
	char *name;	  /* below it; "" is the top */
	bool in_mount;	  /* access leads into a mount of it */
	char *bare_path;  /* in place of all but mount_path: a mount of a folder that is no store */
};

static void site_release(struct site *site)
{
	free(site->store_path);
	free(site->mount_path);
	free(site->access);
	free(site->name);
	free(site->bare_path);
}

static int no_memory(struct ckpt_err *err)
{
	ckpt_err_sys(err, -ENOMEM, "cannot tell what a path means");
	return -ENOMEM;
}

void ckpt_place_release(struct ckpt_place *place)
{
	free(place->store_path);
	free(place->mount_path);
	free(place->name);
	free(place->inner);
	free(place->folder);
	*place = (struct ckpt_place){ 0 };
}

/* --- through a mount ---------------------------------------------------------------------- */

/* The id of the store at @path; false where there is none that can be read. */
static bool read_id(const char *path, char id[37])
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);

	return fd >= 0 && ckpt_store_file_read(fd, path, id, NULL) == 0;
}

/* "@root/@suffix" of a mount as a name below its store: without slashes at its ends. */
static char *name_in_mount(const char *root, const char *suffix)
{
	struct ckpt_buf name;

	ckpt_buf_init(&name);
	root += strspn(root, "/");
	suffix += strspn(suffix, "/");
	if (*suffix == '\0')
		ckpt_buf_add_str(&name, root);
	else
		ckpt_path_join(&name, root, suffix);
	return ckpt_buf_steal(&name);
}

/* Is the store that @mount shows to be had beside it, at its own path? */
static bool is_beside(const struct ckpt_mount *mount, const struct ckpt_mount_list *list)
{
	const struct ckpt_mount *under = NULL;
	char shown[37];
	char stored[37];

	if (mount->source[0] == '/')
		under = ckpt_mount_list_find(list, mount->source);
	if (!under || ckpt_mount_is_ours(under) || !read_id(mount->source, stored))
		return false;
	/* What is bound from inside a mount does not show its store.json. */
	return strcmp(mount->root, "/") != 0 ||
	       (read_id(mount->point, shown) && strcmp(shown, stored) == 0);
}

/* Does the mount hide the store's own path? Then what is asked of that path goes to the mount. */
static bool is_covered(const struct ckpt_mount *mount, const struct ckpt_mount_list *list)
{
	const struct ckpt_mount *over = NULL;

	if (mount->source[0] == '/')
		over = ckpt_mount_list_find(list, mount->source);
	return over && ckpt_mount_is_ours(over);
}

/* Is there a store.json at the top of @path, or something that keeps us from telling? */
static bool may_be_store(const char *path)
{
	struct ckpt_buf file;
	struct stat st;
	int rc;

	ckpt_buf_init(&file);
	ckpt_path_join(&file, path, CKPT_STORE_FILE);
	rc = ckpt_buf_check(&file);
	if (rc == 0)
		rc = ckpt_io_fstatat(AT_FDCWD, file.data, &st, AT_SYMLINK_NOFOLLOW);
	ckpt_buf_release(&file);
	return rc != -ENOENT && rc != -ENOTDIR;
}

/* Is the folder that @mount shows to be had at its source's path? A mount keeps the inodes. */
static bool shows_source(const struct ckpt_mount *mount)
{
	CKPT_FREE char *name = name_in_mount(mount->root, "");
	struct stat shown = { .st_mode = 0 };
	struct stat stored = { .st_mode = 0 };
	struct ckpt_buf path;
	bool same;

	ckpt_buf_init(&path);
	if (name && *name)
		ckpt_path_join(&path, mount->source, name);
	else
		ckpt_buf_add_str(&path, mount->source);
	same = name && ckpt_buf_check(&path) == 0 &&
	       ckpt_io_fstatat(AT_FDCWD, mount->point, &shown, 0) == 0 &&
	       ckpt_io_fstatat(AT_FDCWD, path.data, &stored, 0) == 0 && S_ISDIR(stored.st_mode) &&
	       shown.st_ino == stored.st_ino;
	ckpt_buf_release(&path);
	return same;
}

/*
 * Does @mount show a folder that is no store? @out: then where it is to be had: at its own path,
 * or, where that is another name space's, at the mount point.
 */
static bool is_bare_mount(const struct ckpt_mount *mount, const char **out)
{
	bool is_whole = strcmp(mount->root, "/") == 0;
	bool is_here;

	/* A bound part of a store shows no store.json either: then its source decides. */
	if (mount->source[0] != '/' || (is_whole && may_be_store(mount->point)))
		return false;
	is_here = shows_source(mount) && !may_be_store(mount->source);
	*out = is_here ? mount->source : mount->point;
	return is_here || is_whole;
}

/* The path below the folder itself of what @real names in a mount of it. */
static int bare_in_mount(const struct ckpt_real *real, const struct ckpt_mount *mount,
			 const char *source, struct site *out, struct ckpt_err *err)
{
	size_t point_len = strcmp(mount->point, "/") == 0 ? 0 : strlen(mount->point);
	CKPT_FREE char *name = name_in_mount(mount->root, real->path + point_len);
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	if (name && *name)
		ckpt_path_join(&path, source, name);
	else
		ckpt_buf_add_str(&path, source);
	out->bare_path = ckpt_buf_steal(&path);
	out->mount_path = strdup(mount->point);
	return name && out->bare_path && out->mount_path ? -ENOENT : no_memory(err);
}

static int site_in_mount(const struct ckpt_real *real, const struct ckpt_mount *mount,
			 const struct ckpt_mount_list *list, struct site *out, struct ckpt_err *err)
{
	size_t point_len = strcmp(mount->point, "/") == 0 ? 0 : strlen(mount->point);
	const char *access = mount->source;

	out->in_mount = !is_beside(mount, list);
	/*
	 * Neither beside nor under it: another name space's path. The mount itself still shows
	 * all.
	 */
	if (out->in_mount && !is_covered(mount, list))
		access = mount->point;
	if (access == mount->point && strcmp(mount->root, "/") != 0)
		return ckpt_err_set(
			err, -ENXIO,
			"'%s' shows a part of the store '%s', which cannot be found; give a path in a whole mount of it",
			mount->point, mount->source);
	out->store_path = strdup(mount->source);
	out->mount_path = strdup(mount->point);
	out->access = strdup(access);
	out->name = name_in_mount(mount->root, real->path + point_len);
	return out->store_path && out->mount_path && out->access && out->name ? 0 : no_memory(err);
}

/* --- in a store, or in none ---------------------------------------------------------------- */

/* The rest of @path behind the folder that its first @len bytes name. */
static const char *behind(const char *path, size_t len)
{
	path += len;
	return path + strspn(path, "/");
}

static int site_in_store(const struct ckpt_real *real, size_t store_len, struct site *out,
			 struct ckpt_err *err)
{
	out->store_path = strndup(real->path, store_len);
	out->access = strndup(real->path, store_len);
	out->name = strdup(behind(real->path, store_len));
	return out->store_path && out->access && out->name ? 0 : no_memory(err);
}

/* -ENOENT: no store above; with out->bare_path where it goes on then. */
static int find_site(const struct ckpt_real *real, struct site *out, struct ckpt_err *err)
{
	struct ckpt_mount_list list = { 0 };
	const struct ckpt_mount *mount = ckpt_real_mount(real, &list);
	const char *bare = NULL;
	size_t store_len;
	int rc;

	if (mount && is_bare_mount(mount, &bare)) {
		rc = bare_in_mount(real, mount, bare, out, err);
	} else if (mount) {
		rc = site_in_mount(real, mount, &list, out, err);
	} else {
		rc = ckpt_real_climb(real->path, real->known_len, CKPT_STORE_FILE, &store_len, err);
		if (rc == 0)
			rc = site_in_store(real, store_len, out, err);
	}
	ckpt_mount_list_release(&list);
	return rc;
}

/* --- in no store -------------------------------------------------------------------------- */

/* The same through a mount of a folder that is no store, by that folder's own path. */
static int find_bare_in_mount(const char *typed, struct site *site, bool looks,
			      struct ckpt_place *out, struct ckpt_err *err)
{
	struct ckpt_real real = { 0 };
	int rc = ckpt_real_find(site->bare_path, &real, err);

	if (rc == 0)
		rc = ckpt_bare_find(typed, &real, looks, out, err);
	if (rc == 0)
		out->mount_path = ckpt_steal_ptr(&site->mount_path);
	ckpt_real_release(&real);
	return rc;
}

/* --- below the store ------------------------------------------------------------------------- */

/* A path below a store, looked at component by component. */
struct descent {
	const struct site *site;
	int fd;	      /* of the store's top, as site->access shows it */
	char *name;   /* of the place: site->name, cut where a checkpoint begins */
	size_t len;   /* bytes of it looked at so far */
	bool is_last; /* nothing follows them */
	mode_t mode;  /* of what they name; 0: nothing */
	struct ckpt_err *err;
};

/* lstat of the first @len bytes of the name. */
static int look(struct descent *descent)
{
	CKPT_FREE char *name = strndup(descent->name, descent->len);
	CKPT_CLOSE int fd = -1;
	struct stat st = { .st_mode = 0 };
	int rc;

	if (!name)
		return no_memory(descent->err);
	fd = ckpt_io_open_beneath(descent->fd, name, O_PATH | O_NOFOLLOW, 0);
	rc = fd < 0 ? fd : ckpt_io_fstat(fd, &st);
	if (rc < 0 && rc != -ENOENT && rc != -ENAMETOOLONG)
		return ckpt_err_sys(descent->err, rc, "cannot look at '%s' in the store '%s'", name,
				    descent->site->store_path);
	descent->mode = st.st_mode & S_IFMT;
	return 0;
}

/* Go on to the next component; false at the end. */
static bool next_component(struct descent *descent)
{
	const char *rest = descent->name + descent->len;

	rest += *rest == '/';
	if (*rest == '\0')
		return false;
	descent->len = (size_t)(rest - descent->name) + strcspn(rest, "/");
	descent->is_last = descent->name[descent->len] == '\0';
	return true;
}

static bool is_component(const struct descent *descent, const char *word)
{
	size_t word_len = strlen(word);
	const char *at = descent->name + descent->len - word_len;

	return descent->len >= word_len && memcmp(at, word, word_len) == 0 &&
	       (descent->len == word_len || at[-1] == '/');
}

/*
 * "latest", where no real thing has that name. A read-only mount lists a symlink
 * so called, which is made up: where only the mount can be seen it counts as ours.
 */
static bool is_latest(const struct descent *descent)
{
	bool made_up = S_ISLNK(descent->mode) && descent->site->in_mount;

	return descent->is_last && is_component(descent, latest_name) &&
	       (descent->mode == 0 || made_up);
}

/* Replace the name, which ends in "latest", by that of the checkpoint it means. */
static int resolve_latest(struct descent *descent, size_t group_len)
{
	struct ckpt_store *store = NULL;
	struct ckpt_buf found;
	int rc;

	descent->name[group_len] = '\0';
	ckpt_buf_init(&found);
	/* No index: what means the same in a program without a database must not need one here. */
	rc = ckpt_store_open(descent->site->access, CKPT_STORE_NO_INDEX, NULL, &store,
			     descent->err);
	if (rc == 0)
		rc = ckpt_store_latest(store, descent->name, &found, descent->err);
	ckpt_store_free(store);
	if (rc == 0) {
		char *name = ckpt_buf_steal(&found);

		rc = name ? 0 : no_memory(descent->err);
		if (name) {
			free(descent->name);
			descent->name = name;
		}
	}
	ckpt_buf_release(&found);
	return rc;
}

/* The group's name in "GROUP/latest" or "GROUP/.ckptfs/latest", in bytes. */
static size_t group_len_of(const struct descent *descent)
{
	size_t len = strlen(descent->name) - (sizeof(latest_name) - 1);

	return len > 0 ? len - 1 : 0;
}

/*
 * Something called `.ckptfs` that belongs to no checkpoint: only its `latest` has a meaning here.
 */
static int enter_control(struct descent *descent, struct ckpt_place *out)
{
	size_t group_len = descent->len - strlen(CKPT_CONTROL_DIR);

	if (strcmp(descent->name + descent->len, "/latest") != 0)
		return ckpt_err_set(
			descent->err, -EINVAL,
			"'%s' lies in a control folder of the store '%s'; give a checkpoint, a group or a file",
			descent->name, descent->site->store_path);
	out->kind = CKPT_PLACE_CHECKPOINT;
	return resolve_latest(descent, group_len > 0 ? group_len - 1 : 0);
}

/* A folder: 1 when it is a checkpoint, so that the descent ends; 0 a group. */
static int enter_folder(struct descent *descent, struct ckpt_place *out)
{
	CKPT_FREE char *name = strndup(descent->name, descent->len);
	enum ckpt_state state = CKPT_STATE_NONE;
	int rc;

	if (!name)
		return no_memory(descent->err);
	rc = ckpt_state_of(descent->fd, name, &state, NULL, descent->err);
	if (rc < 0)
		return rc;
	if (state == CKPT_STATE_NONE) {
		out->kind = CKPT_PLACE_GROUP;
		return 0;
	}
	out->kind = descent->is_last ? CKPT_PLACE_CHECKPOINT : CKPT_PLACE_ENTRY;
	if (!descent->is_last) {
		out->inner = strdup(descent->name + descent->len + 1);
		if (!out->inner)
			return no_memory(descent->err);
		descent->name[descent->len] = '\0';
	}
	return 1;
}

/* Judge one component: 1 the place is found, 0 go on. */
static int judge(struct descent *descent, struct ckpt_place *out)
{
	int rc;

	if (is_component(descent, CKPT_CONTROL_DIR)) {
		rc = enter_control(descent, out);
		return rc < 0 ? rc : 1;
	}
	rc = look(descent);
	if (rc < 0)
		return rc;
	if (is_latest(descent)) {
		out->kind = CKPT_PLACE_CHECKPOINT;
		rc = resolve_latest(descent, group_len_of(descent));
		return rc < 0 ? rc : 1;
	}
	if (S_ISDIR(descent->mode))
		return enter_folder(descent, out);
	/* Nothing there: neither is anything below it, and whoever makes it makes all. */
	out->kind = descent->mode == 0 ? CKPT_PLACE_NOTHING : CKPT_PLACE_LOOSE;
	if (descent->mode == 0 || descent->is_last)
		return 1;
	return ckpt_err_set(descent->err, -ENOTDIR,
			    "'%.*s' in the store '%s' is not a folder; nothing can lie in it",
			    (int)descent->len, descent->name, descent->site->store_path);
}

static int descend(struct descent *descent, struct ckpt_place *out)
{
	int rc = 0;

	out->kind = CKPT_PLACE_STORE;
	while (rc == 0 && next_component(descent))
		rc = judge(descent, out);
	return rc < 0 ? rc : 0;
}

static int fill_place(struct site *site, char *name, struct ckpt_place *out, struct ckpt_err *err)
{
	struct ckpt_buf folder;

	ckpt_buf_init(&folder);
	if (*name)
		ckpt_path_join(&folder, site->access, name);
	else
		ckpt_buf_add_str(&folder, site->access);
	out->folder = ckpt_buf_steal(&folder);
	out->name = name;
	if (!out->inner)
		out->inner = strdup("");
	out->store_path = ckpt_steal_ptr(&site->store_path);
	out->mount_path = ckpt_steal_ptr(&site->mount_path);
	return out->folder && out->inner ? 0 : no_memory(err);
}

static int place_in_site(struct site *site, struct ckpt_place *out, struct ckpt_err *err)
{
	struct descent descent = { .site = site, .err = err };
	int rc;

	assert(site->name);
	descent.name = strdup(site->name);
	if (!descent.name)
		return no_memory(err);
	descent.fd = ckpt_io_openat(AT_FDCWD, site->access, O_PATH | O_DIRECTORY, 0);
	if (descent.fd >= 0) {
		rc = descend(&descent, out);
		close(descent.fd);
	} else {
		rc = ckpt_err_sys(err, descent.fd, "cannot open the store '%s'", site->access);
	}
	if (rc == 0)
		return fill_place(site, descent.name, out, err);
	free(descent.name);
	return rc;
}

/* --- all together ------------------------------------------------------------------------- */

/*
 * Does @path name something from where we stand? A dead mount does: that it is dead is to be told.
 */
static bool exists(const char *path)
{
	struct stat st;
	int rc = ckpt_io_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW);

	return rc != -ENOENT && rc != -ENOTDIR;
}

static int find(const char *typed, bool looks, struct ckpt_place *out, struct ckpt_err *err)
{
	struct ckpt_real real = { 0 };
	struct site site = { 0 };
	int rc = ckpt_real_find(typed, &real, err);

	if (rc == 0) {
		rc = find_site(&real, &site, err);
		if (rc == 0)
			rc = place_in_site(&site, out, err);
		else if (rc == -ENOENT && site.bare_path)
			rc = find_bare_in_mount(typed, &site, looks, out, err);
		else if (rc == -ENOENT)
			rc = ckpt_bare_find(typed, &real, looks, out, err);
	}
	site_release(&site);
	ckpt_real_release(&real);
	return rc;
}

static int place_find(const char *path, const char *base, bool looks, struct ckpt_place *out,
		      struct ckpt_err *err)
{
	struct ckpt_place place = { 0 };
	struct ckpt_buf typed;
	int rc;

	ckpt_buf_init(&typed);
	if (base && *path && path[0] != '/' && !exists(path))
		ckpt_path_join(&typed, base, path);
	else
		ckpt_buf_add_str(&typed, path);
	rc = ckpt_buf_check(&typed) < 0 ? no_memory(err) : find(typed.data, looks, &place, err);
	ckpt_buf_release(&typed);
	if (rc < 0) {
		ckpt_place_release(&place);
		return rc;
	}
	*out = place;
	return 0;
}

int ckpt_place_find(const char *path, const char *base, struct ckpt_place *out,
		    struct ckpt_err *err)
{
	return place_find(path, base, false, out, err);
}

int ckpt_place_look(const char *path, const char *base, struct ckpt_place *out,
		    struct ckpt_err *err)
{
	return place_find(path, base, true, out, err);
}
