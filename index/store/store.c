/*
 * store.c - a store's handle: its descriptor, its store.json, its checkpoints'
 * folders. What needs the index is in store_index.c, store_lookup.c and their like.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_index.h"
#include "store/store_internal.h"

/* Three keys and extensions. */
#define STORE_FILE_MAX (64 * CKPT_KIB)

/* --- store.json ------------------------------------------------------------------- */

/* A newer format is told before anything else is judged. */
static int check_version(const struct ckpt_json *root, struct ckpt_err *err)
{
	const struct ckpt_json *version = NULL;

	if (ckpt_json_kind(root) == CKPT_JSON_OBJECT)
		version = ckpt_json_get(root, "ckptfs");
	if (!version || ckpt_json_kind(version) != CKPT_JSON_INT || ckpt_json_int(version) < 1)
		return ckpt_err_set(err, -EBADMSG, "it names no version of the format");
	if (ckpt_json_int(version) > CKPT_STORE_VERSION)
		return ckpt_err_set(
			err, -ENOTSUP,
			"store format %lld is newer than this ckptfs understands (%d); upgrade ckptfs",
			(long long)ckpt_json_int(version), CKPT_STORE_VERSION);
	return 0;
}

static int parse_store_file(const struct ckpt_buf *text, char id[37], struct ckpt_err *err)
{
	struct ckpt_json *root = NULL;
	const char *found_id = "";
	const char *created = "";
	uint64_t version = 0;
	const struct ckpt_json_field fields[] = {
		{ .key = "ckptfs", .type = CKPT_FIELD_U64, .out = &version },
		{ .key = "id", .type = CKPT_FIELD_STRING, .out = &found_id },
		{ .key = "created", .type = CKPT_FIELD_STRING, .out = &created },
	};
	int rc = ckpt_json_parse(text->data, text->len_bytes, &root, err);

	if (rc == 0)
		rc = check_version(root, err);
	if (rc == 0)
		rc = ckpt_json_decode(root, fields, sizeof(fields) / sizeof(fields[0]), err);
	if (rc == 0 && ckpt_uuid_check(found_id) < 0)
		rc = ckpt_err_set(err, -EBADMSG, "key 'id' is no UUID in lower case");
	if (rc == 0 && ckpt_clock_check_rfc3339(created) < 0)
		rc = ckpt_err_set(
			err, -EBADMSG,
			"key 'created' is no time of the form YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ");
	if (rc == 0)
		memcpy(id, found_id, 37);
	ckpt_json_free(root);
	return rc;
}

/* Open the control folder, following no symlink; -ENOENT also where something else has its name. */
static int open_control(int dirfd)
{
	int fd = ckpt_io_open_beneath(dirfd, CKPT_CONTROL_DIR, O_PATH | O_DIRECTORY, 0);

	return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : fd;
}

int ckpt_store_file_read(int dirfd, const char *dir, char id[37], struct ckpt_err *err)
{
	CKPT_CLOSE int control = open_control(dirfd);
	struct ckpt_buf text;
	int rc = control < 0 ? control : 0;

	ckpt_buf_init(&text);
	if (rc == 0)
		rc = ckpt_io_read_file(control, "store.json", STORE_FILE_MAX, &text, NULL);
	if (rc == -ENOENT)
		ckpt_err_set(err, rc,
			     "'%s' is no store: it has no '" CKPT_STORE_FILE
			     "'; run 'ckptfs init %s'",
			     dir, dir);
	else if (rc < 0)
		ckpt_err_sys(err, rc, "cannot read '%s/" CKPT_STORE_FILE "'", dir);
	if (rc == 0) {
		rc = parse_store_file(&text, id, err);
		if (rc == -EBADMSG)
			ckpt_err_prefix(err, rc,
					"'%s/" CKPT_STORE_FILE
					"' is damaged; restore it from a copy",
					dir);
		else if (rc < 0)
			ckpt_err_prefix(err, rc, "cannot open the store '%s'", dir);
	}
	ckpt_buf_release(&text);
	return rc;
}

/*
 * The id of a folder that is no store: the same as long as it is the same folder in the same place.
 * As a UUID of version 8 (RFC 9562), whose bits are whoever's that makes them.
 */
static int make_bare_id(int dirfd, const char *path, char id[37])
{
	char hex[CKPT_HEX128_LEN + 1];
	struct ckpt_buf text;
	struct stat st;
	int rc = ckpt_io_fstat(dirfd, &st);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&text);
	ckpt_buf_printf(&text, "%llu %llu %s", (unsigned long long)st.st_dev,
			(unsigned long long)st.st_ino, path);
	rc = ckpt_buf_check(&text);
	if (rc == 0) {
		ckpt_hex128(ckpt_hash128(text.data, text.len_bytes), hex);
		ckpt_buf_reset(&text);
		ckpt_buf_printf(&text, "%.8s-%.4s-8%.3s-8%.3s-%.12s", hex, hex + 8, hex + 13,
				hex + 17, hex + 20);
		rc = ckpt_buf_check(&text);
	}
	if (rc == 0)
		memcpy(id, text.data, 37);
	ckpt_buf_release(&text);
	return rc;
}

/* --- opening ------------------------------------------------------------------------ */

/* Nobody is asked to write: only whether this process could. */
static bool is_read_only(int fd)
{
	return faccessat(fd, CKPT_CONTROL_DIR, W_OK, AT_EACCESS) < 0;
}

static int identify(struct ckpt_store *store, const char *dir, struct ckpt_err *err)
{
	int rc;

	if (!ckpt_store_is_bare(store))
		return ckpt_store_file_read(store->fd, dir, store->id, err);
	rc = make_bare_id(store->fd, store->path, store->id);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot open the folder '%s'", dir) : 0;
}

/* @fd: taken over, also on failure. */
static int open_store(int fd, const char *dir, const char *index_path, unsigned int flags,
		      struct ckpt_store **out, struct ckpt_err *err)
{
	struct ckpt_store *store = calloc(1, sizeof(*store));
	int rc = 0;

	if (!store) {
		close(fd);
		return ckpt_err_sys(err, -ENOMEM, "cannot open the store '%s'", dir);
	}
	store->fd = fd;
	store->flags = flags;
	/* A message is of more use with a path that does not depend on where one stands. */
	store->path = realpath(dir, NULL);
	if (!store->path)
		store->path = strdup(dir);
	if (!store->path)
		rc = ckpt_err_sys(err, -ENOMEM, "cannot open the store '%s'", dir);
	if (rc == 0)
		rc = identify(store, dir, err);
	if (rc == 0) {
		store->read_only = ckpt_store_is_bare(store) || is_read_only(fd);
		if (!(flags & CKPT_STORE_NO_INDEX))
			rc = ckpt_index_new(store, index_path, &store->index, err);
	}
	if (rc < 0) {
		ckpt_store_free(store);
		return rc;
	}
	*out = store;
	return 0;
}

int ckpt_store_open(const char *dir, unsigned int flags, const char *index_path,
		    struct ckpt_store **out, struct ckpt_err *err)
{
	int fd = ckpt_io_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOTCONN)
		return ckpt_err_set(
			err, fd, "mount '%s' is dead: its daemon has ended; run 'ckptfs umount %s'",
			dir, dir);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open the store '%s'", dir);
	return open_store(fd, dir, index_path, flags, out, err);
}

int ckpt_store_open_fd(int fd, const char *dir, unsigned int flags, const char *index_path,
		       struct ckpt_store **out, struct ckpt_err *err)
{
	/* Opened anew rather than duplicated: @fd may be one that can only be a place (O_PATH). */
	int own = ckpt_io_openat(fd, ".", O_RDONLY | O_DIRECTORY, 0);

	if (own < 0)
		return ckpt_err_sys(err, own, "cannot open the store '%s'", dir);
	return open_store(own, dir, index_path, flags, out, err);
}

void ckpt_store_free(struct ckpt_store *store)
{
	if (!store)
		return;
	ckpt_index_free(store->index);
	close(store->fd);
	free(store->path);
	free(store);
}

/* --- asking ------------------------------------------------------------------------- */

int ckpt_store_fd(const struct ckpt_store *store)
{
	return store->fd;
}

const char *ckpt_store_path(const struct ckpt_store *store)
{
	return store->path;
}

const char *ckpt_store_id(const struct ckpt_store *store)
{
	return store->id;
}

const char *ckpt_store_index_place(const struct ckpt_store *store, const char **out_reason)
{
	if (store->index)
		return ckpt_index_place(store->index, out_reason);
	if (out_reason)
		*out_reason = "it was opened without";
	return "none";
}

bool ckpt_store_is_bare(const struct ckpt_store *store)
{
	return (store->flags & CKPT_STORE_BARE) != 0;
}

bool ckpt_store_read_only(const struct ckpt_store *store)
{
	return store->read_only;
}

int ckpt_store_open_checkpoint(const struct ckpt_store *store, const char *name, int *out_fd,
			       struct ckpt_err *err)
{
	int fd = ckpt_io_open_beneath(store->fd, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return ckpt_err_set(
			err, -ENOENT,
			"there is no folder '%s' in the store '%s'; 'ckptfs ls' lists what is there",
			name, store->path);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s' in the store '%s'", name,
				    store->path);
	*out_fd = fd;
	return 0;
}
