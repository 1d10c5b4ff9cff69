/*
 * pins.c - pinned checkpoints: a file `.ckptfs/pins/ID` each, with the name that was pinned and the
 * time, for people, and for one whose manifest is damaged. Source: ckptfs-format(5) "Pins".
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "store/store.h"
#include "store/store_internal.h"
#include "store/trash_internal.h"

/* A name of 8 components, each byte escaped, and a time. */
#define PIN_FILE_MAX (UINT64_C(64) * 1024)

void ckpt_give_to_owner(int store_fd, const char *path)
{
	struct stat top;

	/* Not root: then it is the caller's, as all that he makes. */
	if (geteuid() == 0 && ckpt_io_fstat(store_fd, &top) == 0 && top.st_uid != 0)
		ckpt_ignore(fchownat(store_fd, path, top.st_uid, top.st_gid, AT_SYMLINK_NOFOLLOW));
}

/* --- asking ---------------------------------------------------------------------------------- */

static int pin_path(const char *id, struct ckpt_buf *out)
{
	ckpt_path_join(out, CKPT_PINS_DIR, id);
	return ckpt_buf_check(out);
}

bool ckpt_is_pinned(const struct ckpt_store *store, const char *id)
{
	struct ckpt_buf path;
	struct stat st;
	int rc;

	ckpt_buf_init(&path);
	rc = pin_path(id, &path);
	if (rc == 0)
		rc = ckpt_io_fstatat(ckpt_store_fd(store), path.data, &st, AT_SYMLINK_NOFOLLOW);
	ckpt_buf_release(&path);
	return rc != -ENOENT && rc != -ENOTDIR;
}

/* Does the pin in @dirfd say @name? */
static bool has_name(int dirfd, const char *pin, const char *name)
{
	const struct ckpt_json *value = NULL;
	struct ckpt_json *root = NULL;
	struct ckpt_buf text;
	bool same;

	ckpt_buf_init(&text);
	if (ckpt_io_read_file(dirfd, pin, PIN_FILE_MAX, &text, NULL) == 0 &&
	    ckpt_json_parse(text.data, text.len_bytes, &root, NULL) == 0 &&
	    ckpt_json_kind(root) == CKPT_JSON_OBJECT)
		value = ckpt_json_get(root, "name");
	same = value && ckpt_json_kind(value) == CKPT_JSON_STRING &&
	       strcmp(ckpt_json_string(value), name) == 0;
	ckpt_json_free(root);
	ckpt_buf_release(&text);
	return same;
}

bool ckpt_is_pinned_by_name(const struct ckpt_store *store, const char *name)
{
	const char *pin;
	bool found = false;
	DIR *dir;
	int rc = ckpt_dir_open(ckpt_store_fd(store), CKPT_PINS_DIR, &dir);

	if (rc < 0)
		return rc != -ENOENT;
	while (!found && ckpt_io_readdir(dir, &pin) > 0)
		found = has_name(dirfd(dir), pin, name);
	closedir(dir);
	return found;
}

/* --- changing -------------------------------------------------------------------------------- */

static int id_of(struct ckpt_store *store, const char *name, char out[37], struct ckpt_err *err)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	struct ckpt_db_checkpoint row;
	int rc = ckpt_path_check_name(name, err);

	if (rc == 0)
		rc = ckpt_state_of(ckpt_store_fd(store), name, &state, NULL, err);
	if (rc < 0)
		return rc;
	if (state != CKPT_STATE_COMMITTED)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is %s, and only what is committed can be pinned; commit it first",
			name, state == CKPT_STATE_NONE ? "a group" : "open");
	rc = ckpt_store_lookup(store, name, &row, err);
	if (rc < 0)
		return rc;
	memcpy(out, row.id, sizeof(row.id));
	ckpt_db_checkpoint_release(&row);
	return 0;
}

/*
 * The last thing that pinning does: a removal at the same time looks for the pin behind its rename.
 */
static int check_still_there(struct ckpt_store *store, const char *name, const char *path,
			     struct ckpt_err *err)
{
	struct stat st;

	if (ckpt_manifest_stat(ckpt_store_fd(store), name, &st) != -ENOENT)
		return 0;
	/* A pin of nothing harms nobody. */
	ckpt_ignore(ckpt_io_unlinkat(ckpt_store_fd(store), path, 0));
	return ckpt_err_set(err, -ENOENT, "'%s' was removed this moment; see 'ckptfs undelete'",
			    name);
}

static int put_pin(struct ckpt_store *store, const char *name, const char *path,
		   struct ckpt_err *err)
{
	int store_fd = ckpt_store_fd(store);
	char now[CKPT_RFC3339_SIZE];
	struct ckpt_buf text;
	int rc = ckpt_io_mkdirs(store_fd, CKPT_PINS_DIR, err);

	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot pin '%s'", name);
	ckpt_give_to_owner(store_fd, CKPT_PINS_DIR);
	ckpt_buf_init(&text);
	ckpt_buf_add_str(&text, "{\"name\":");
	ckpt_buf_add_json_str(&text, name);
	ckpt_buf_printf(&text, ",\"pinned\":\"%s\"}\n", ckpt_clock_rfc3339(now));
	rc = ckpt_buf_check(&text);
	if (rc == 0)
		rc = ckpt_io_publish(store_fd, path, text.data, text.len_bytes, 0644, err);
	ckpt_buf_release(&text);
	if (rc < 0)
		return ckpt_err_prefix(err, rc, "cannot pin '%s'", name);
	return check_still_there(store, name, path, err);
}

static int take_pin(struct ckpt_store *store, const char *name, const char *path,
		    struct ckpt_err *err)
{
	int rc = ckpt_io_unlinkat(ckpt_store_fd(store), path, 0);

	if (rc == 0)
		rc = ckpt_io_sync_dir(ckpt_store_fd(store), CKPT_PINS_DIR);
	return rc < 0 && rc != -ENOENT ? ckpt_err_sys(err, rc, "cannot unpin '%s'", name) : 0;
}

static int set_pin(struct ckpt_store *store, const char *name, bool pin, bool *out_was,
		   struct ckpt_err *err)
{
	struct ckpt_buf path;
	char id[37];
	bool was;
	int rc = id_of(store, name, id, err);

	if (rc < 0)
		return rc;
	was = ckpt_is_pinned(store, id) == pin;
	ckpt_buf_init(&path);
	rc = pin_path(id, &path);
	if (rc == 0 && !was)
		rc = pin ? put_pin(store, name, path.data, err)
			 : take_pin(store, name, path.data, err);
	ckpt_buf_release(&path);
	if (rc == 0)
		*out_was = was;
	return rc;
}

int ckpt_pin(struct ckpt_store *store, const char *name, bool *out_was, struct ckpt_err *err)
{
	return set_pin(store, name, true, out_was, err);
}

int ckpt_unpin(struct ckpt_store *store, const char *name, bool *out_was, struct ckpt_err *err)
{
	return set_pin(store, name, false, out_was, err);
}
