/*
 * trash_record.c - what is known of a removed checkpoint: removed.json of its room, else its own
 * manifest. Source: ckptfs-format(5) "The trash".
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_internal.h"
#include "store/trash_internal.h"

/* A name of 8 components, each byte escaped, and some numbers. */
#define REMOVED_FILE_MAX (UINT64_C(64) * 1024)
/* In the name of a bare room: a component, less the id and what may come before and behind it. */
#define BARE_NAME_MAX 200U
/* As deep as entries of a checkpoint may lie, and its control folder. */
#define MEASURE_DEPTH_MAX (CKPT_ENTRY_DEPTH_MAX + 1)

void ckpt_trash_record_release(struct ckpt_trash_record *record)
{
	free(record->room);
	free(record->name);
	free(record->folder);
	*record = (struct ckpt_trash_record){ .kind = CKPT_ROOM_HALF };
}

/*
 * --- names in the trash -------------------------------------------------------------------------
 */

void ckpt_room_path(struct ckpt_buf *out, const char *room)
{
	ckpt_path_join(out, CKPT_TRASH_DIR, room);
}

void ckpt_room_folder_path(struct ckpt_buf *out, const char *room, const char *name)
{
	const char *base = ckpt_path_basename(name);

	ckpt_room_path(out, room);
	ckpt_buf_add_char(out, '/');
	/* Beside it lies removed.json, and for a moment removed.json.tmp. */
	ckpt_buf_add_str(out, ckpt_has_prefix(base, CKPT_REMOVED_FILE) ? "checkpoint" : base);
}

void ckpt_room_bare_name(struct ckpt_buf *out, const char *name)
{
	size_t start = out->len_bytes;

	for (; *name != '\0'; name++) {
		if (*name == '/' || *name == '%')
			ckpt_buf_printf(out, "%%%02X", (unsigned int)*name);
		else
			ckpt_buf_add_char(out, *name);
	}
	/* Its manifest still tells what it was called when it was committed. */
	if (out->len_bytes - start > BARE_NAME_MAX) {
		out->len_bytes = start;
		out->data[start] = '\0';
	}
}

/* The name in that of a bare room; NULL: there is none, or no memory for it. */
static char *name_of_bare_room(const char *room)
{
	const char *at = strchr(room, CKPT_ROOM_BARE);
	struct ckpt_buf name;

	if (!at || at[1] == '\0')
		return NULL;
	ckpt_buf_init(&name);
	for (at++; *at != '\0'; at++) {
		if (ckpt_has_prefix(at, "%2F") || ckpt_has_prefix(at, "%25")) {
			ckpt_buf_add_char(&name, at[2] == 'F' ? '/' : '%');
			at += 2;
		} else {
			ckpt_buf_add_char(&name, *at);
		}
	}
	return ckpt_buf_steal(&name);
}

/*
 * --- sizes
 * ----------------------------------------------------------------------------------------
 */

struct usage {
	uint64_t size_bytes; /* of the files that hold shards */
	uint64_t disk_bytes;
};

static void add_usage(struct usage *usage, const struct stat *st, bool is_shard)
{
	if (is_shard && S_ISREG(st->st_mode))
		usage->size_bytes += (uint64_t)st->st_size;
	/* One with another name elsewhere frees nothing; of two names in here each frees half. */
	if (st->st_nlink > 0 && !S_ISDIR(st->st_mode))
		usage->disk_bytes += (uint64_t)st->st_blocks * 512 / st->st_nlink;
	else
		usage->disk_bytes += (uint64_t)st->st_blocks * 512;
}

/*
 * What cannot be looked at counts for nothing: the sizes are for people, and for a purge to go by.
 */
static void measure(int dirfd_above, const char *path, int depth, struct usage *usage)
{
	bool in_control = strcmp(ckpt_path_basename(path), CKPT_CONTROL_DIR) == 0;
	const char *name;
	DIR *dir;

	if (depth > MEASURE_DEPTH_MAX || ckpt_dir_open(dirfd_above, path, &dir) < 0)
		return;
	while (ckpt_io_readdir(dir, &name) > 0) {
		struct stat st;

		if (ckpt_io_fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		add_usage(usage, &st, !in_control || ckpt_has_prefix(name, "pack-"));
		if (S_ISDIR(st.st_mode))
			measure(dirfd(dir), name, depth + 1, usage);
	}
	closedir(dir);
}

static uint64_t secs_since(int64_t then)
{
	time_t now = time(NULL);

	return now > then ? (uint64_t)(now - then) : 0;
}

/*
 * --- from the manifest -------------------------------------------------------------------------
 */

/*
 * What the checkpoint in @dirfd tells of itself. Where it does not, because its manifest is
 * damaged, all of that stays 0, and false is returned.
 */
static bool fill_from_manifest(int dirfd, struct ckpt_trash_record *record)
{
	struct ckpt_manifest_peek peek = { .shard_count = 0 };
	bool known = ckpt_manifest_peek(dirfd, "", &peek, NULL) == 0;

	if (known) {
		memcpy(record->id, peek.head.id, sizeof(record->id));
		record->seq = peek.head.seq;
		record->has_step = peek.head.has_step;
		record->step = peek.head.step;
		record->shard_count = peek.shard_count;
		if (!record->name)
			record->name = ckpt_steal_ptr(&peek.head.name);
	}
	ckpt_manifest_head_release(&peek.head);
	return known;
}

static void fill_sizes(int dirfd, struct ckpt_trash_record *record)
{
	struct usage usage = { 0 };

	measure(dirfd, "", 0, &usage);
	record->size_bytes = usage.size_bytes;
	record->disk_bytes = usage.disk_bytes;
}

int ckpt_trash_record_of(int dirfd, const char *name, struct ckpt_trash_record *out,
			 bool *out_damaged, struct ckpt_err *err)
{
	struct ckpt_trash_record record = { .kind = CKPT_ROOM_WHOLE, .name = strdup(name) };
	int rc = record.name ? 0 : -ENOMEM;

	if (rc == 0)
		*out_damaged = !fill_from_manifest(dirfd, &record);
	if (rc == 0 && *out_damaged)
		rc = ckpt_uuid(record.id);
	if (rc < 0) {
		ckpt_trash_record_release(&record);
		return ckpt_err_sys(err, rc, "cannot remove '%s'", name);
	}
	fill_sizes(dirfd, &record);
	ckpt_clock_rfc3339(record.removed);
	*out = record;
	return 0;
}

/*
 * --- removed.json
 * ----------------------------------------------------------------------------------
 */

int ckpt_trash_record_write(int store_fd, const struct ckpt_trash_record *record,
			    struct ckpt_err *err)
{
	struct ckpt_buf path;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_init(&text);
	ckpt_room_path(&path, record->room);
	ckpt_buf_add_str(&path, "/" CKPT_REMOVED_FILE);
	ckpt_buf_add_str(&text, "{\"name\":");
	ckpt_buf_add_json_str(&text, record->name);
	ckpt_buf_printf(&text,
			",\"id\":\"%s\",\"removed\":\"%s\",\"size_bytes\":%" PRIu64
			",\"disk_bytes\":%" PRIu64 ",\"seq\":%" PRIu64,
			record->id, record->removed, record->size_bytes, record->disk_bytes,
			record->seq);
	if (record->has_step)
		ckpt_buf_printf(&text, ",\"step\":%" PRIu64, record->step);
	ckpt_buf_printf(&text, ",\"shards\":%" PRIu64 "}\n", record->shard_count);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = ckpt_buf_check(&text);
	if (rc == 0)
		rc = ckpt_io_publish(store_fd, path.data, text.data, text.len_bytes, 0644, err);
	ckpt_buf_release(&text);
	ckpt_buf_release(&path);
	return rc;
}

/* The strings are copied: those of the document go with it. */
static int decode(const struct ckpt_json *root, struct ckpt_trash_record *out)
{
	const char *name = NULL;
	const char *id = NULL;
	const char *removed = NULL;
	const struct ckpt_json_field fields[] = {
		{ "name", CKPT_FIELD_STRING, &name, NULL },
		{ "id", CKPT_FIELD_STRING, &id, NULL },
		{ "removed", CKPT_FIELD_STRING, &removed, NULL },
		{ "size_bytes", CKPT_FIELD_U64, &out->size_bytes, NULL },
		{ "disk_bytes", CKPT_FIELD_U64, &out->disk_bytes, NULL },
		{ "seq", CKPT_FIELD_U64, &out->seq, NULL },
		{ "step", CKPT_FIELD_U64, &out->step, &out->has_step },
		{ "shards", CKPT_FIELD_U64, &out->shard_count, NULL },
	};
	int rc = ckpt_json_decode(root, fields, sizeof(fields) / sizeof(fields[0]), NULL);

	if (rc < 0)
		return rc;
	if (ckpt_path_check_name(name, NULL) < 0 || ckpt_uuid_check(id) < 0 ||
	    ckpt_clock_check_rfc3339(removed) < 0)
		return -EBADMSG;
	memcpy(out->id, id, sizeof(out->id));
	memcpy(out->removed, removed, sizeof(out->removed));
	out->name = strdup(name);
	return out->name ? 0 : -ENOMEM;
}

/* "2026-11-22T20:41:07.…Z", which was checked, in seconds since 1970. */
static int64_t seconds_of(const char *rfc3339)
{
	struct tm when = { .tm_isdst = 0 };

	if (!strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &when))
		return 0;
	return timegm(&when);
}

/* -ENOENT there is none; -EBADMSG it is damaged. */
static int read_removed(int room_fd, struct ckpt_trash_record *out)
{
	struct ckpt_json *root = NULL;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	rc = ckpt_io_read_file(room_fd, CKPT_REMOVED_FILE, REMOVED_FILE_MAX, &text, NULL);
	/* A folder of that name is what an abort has moved here. */
	if (rc == -EINVAL || rc == -ELOOP)
		rc = -ENOENT;
	if (rc == -EFBIG)
		rc = -EBADMSG;
	if (rc == 0)
		rc = ckpt_json_parse(text.data, text.len_bytes, &root, NULL);
	if (rc == 0)
		rc = decode(root, out);
	ckpt_json_free(root);
	ckpt_buf_release(&text);
	return rc;
}

/*
 * --- a room
 * ------------------------------------------------------------------------------------------
 */

static int no_memory(struct ckpt_err *err)
{
	return ckpt_err_sys(err, -ENOMEM, "cannot look into the trash");
}

/* From the checkpoint in @fd itself: when it was removed, its ctime tells. */
static int fill_from_folder(int fd, const char *room, struct ckpt_trash_record *out)
{
	struct stat st;
	int rc = ckpt_io_fstat(fd, &st);

	if (rc < 0)
		return rc;
	if (!fill_from_manifest(fd, out)) {
		/* The room begins with its id; record_read has seen that it is long enough. */
		memcpy(out->id, room, sizeof(out->id) - 1);
		if (!out->name)
			out->name = strdup(room);
	}
	if (!out->name)
		return -ENOMEM;
	if (out->size_bytes == 0)
		fill_sizes(fd, out);
	ckpt_clock_rfc3339_at(st.st_ctim, out->removed);
	out->age_secs = secs_since(st.st_ctim.tv_sec);
	return 0;
}

/* The one folder in a room whose removed.json is damaged. -ENOENT. */
static int only_folder(int room_fd, struct ckpt_buf *out)
{
	unsigned char type;
	bool is_dir = false;
	const char *name;
	DIR *dir;
	int rc = ckpt_dir_open(room_fd, "", &dir);

	if (rc < 0)
		return rc;
	while (!is_dir && (rc = ckpt_io_readdir_type(dir, &name, &type)) > 0) {
		rc = ckpt_dirent_is_dir(dirfd(dir), name, type, &is_dir);
		if (rc < 0)
			break;
		if (is_dir)
			ckpt_buf_add_str(out, name);
	}
	closedir(dir);
	if (rc < 0)
		return rc;
	return is_dir ? ckpt_buf_check(out) : -ENOENT;
}

/* Beside what it was called at its commit, under the name that its folder has now. */
static int rename_to_folder(struct ckpt_trash_record *record, const char *folder)
{
	const char *base = ckpt_path_basename(record->name);
	struct ckpt_buf name;

	ckpt_buf_init(&name);
	ckpt_buf_add(&name, record->name, (size_t)(base - record->name));
	ckpt_buf_add_str(&name, folder);
	free(record->name);
	record->name = ckpt_buf_steal(&name);
	return record->name ? 0 : -ENOMEM;
}

/* A damaged removed.json must not cost the checkpoint: its manifest knows most of it. */
static int recover(int room_fd, const char *room, struct ckpt_trash_record *out)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf folder;
	struct ckpt_buf path;
	int rc;

	ckpt_buf_init(&folder);
	ckpt_buf_init(&path);
	rc = only_folder(room_fd, &folder);
	if (rc == 0)
		rc = fd = ckpt_io_open_beneath(room_fd, folder.data, O_RDONLY | O_DIRECTORY, 0);
	if (rc >= 0)
		rc = fill_from_folder(fd, room, out);
	if (rc == 0)
		rc = rename_to_folder(out, folder.data);
	out->kind = rc == -ENOENT ? CKPT_ROOM_HALF : CKPT_ROOM_WHOLE;
	ckpt_room_path(&path, room);
	ckpt_buf_printf(&path, "/%s", folder.data);
	out->folder = ckpt_buf_steal(&path);
	ckpt_buf_release(&folder);
	if (rc == 0 && !out->folder)
		rc = -ENOMEM;
	return rc == -ENOENT ? 0 : rc;
}

static int read_bare(int room_fd, const char *room, struct ckpt_trash_record *out)
{
	struct ckpt_buf path;
	int rc;

	out->name = name_of_bare_room(room);
	if (out->name && ckpt_path_check_name(out->name, NULL) < 0) {
		free(out->name);
		out->name = NULL;
	}
	out->kind = CKPT_ROOM_WHOLE;
	out->is_bare = true;
	rc = fill_from_folder(room_fd, room, out);
	if (rc < 0)
		return rc;
	ckpt_buf_init(&path);
	ckpt_room_path(&path, room);
	out->folder = ckpt_buf_steal(&path);
	return out->folder ? 0 : -ENOMEM;
}

/*
 * No removed.json: what an abort that died has left, which is never a committed checkpoint. One of
 * those has lost its note, and must not be swept away for that.
 */
static int read_noteless(int room_fd, const char *room, struct ckpt_trash_record *out)
{
	struct ckpt_buf folder;
	struct stat st;
	int rc;

	ckpt_buf_init(&folder);
	rc = only_folder(room_fd, &folder);
	if (rc == 0)
		rc = ckpt_path_is_temporary(folder.data)
			     ? -ENOENT
			     : ckpt_manifest_stat(room_fd, folder.data, &st);
	ckpt_buf_release(&folder);
	if (rc == 0 || rc == -EBADMSG)
		return recover(room_fd, room, out);
	out->kind = CKPT_ROOM_DROPPED;
	return rc == -ENOENT ? 0 : rc;
}

/* By what lies in it. */
static int read_room(int store_fd, int room_fd, const char *room, struct ckpt_trash_record *out)
{
	struct ckpt_buf path;
	struct stat st;
	int rc = read_removed(room_fd, out);

	if (rc == -EBADMSG)
		return recover(room_fd, room, out);
	if (rc == -ENOENT) {
		rc = ckpt_manifest_stat(room_fd, "", &st);
		if (rc == 0 || rc == -EBADMSG)
			return read_bare(room_fd, room, out);
		return rc == -ENOENT ? read_noteless(room_fd, room, out) : rc;
	}
	if (rc < 0)
		return rc;
	ckpt_buf_init(&path);
	ckpt_room_folder_path(&path, room, out->name);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = ckpt_io_fstatat(store_fd, path.data, &st, AT_SYMLINK_NOFOLLOW);
	out->kind = rc == 0 && S_ISDIR(st.st_mode) ? CKPT_ROOM_WHOLE : CKPT_ROOM_HALF;
	if (out->kind == CKPT_ROOM_WHOLE) {
		out->age_secs = secs_since(seconds_of(out->removed));
		out->folder = ckpt_buf_steal(&path);
		rc = out->folder ? 0 : -ENOMEM;
	}
	ckpt_buf_release(&path);
	return rc == -ENOENT ? 0 : rc;
}

int ckpt_trash_record_read(int store_fd, const char *room, struct ckpt_trash_record *out,
			   struct ckpt_err *err)
{
	struct ckpt_trash_record record = { .kind = CKPT_ROOM_DEAD, .room = strdup(room) };
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf path;
	struct stat st;
	int rc;

	if (!record.room)
		return no_memory(err);
	ckpt_buf_init(&path);
	ckpt_room_path(&path, room);
	rc = ckpt_buf_check(&path);
	/* One component, or it would lead elsewhere. */
	if (rc == 0 && (strchr(room, '/') || strlen(room) < sizeof(record.id) - 1))
		rc = -ENOENT;
	if (rc == 0)
		rc = fd = ckpt_io_open_beneath(store_fd, path.data, O_RDONLY | O_DIRECTORY, 0);
	if (rc >= 0)
		rc = ckpt_io_fstat(fd, &st);
	if (rc == 0)
		record.age_secs = secs_since(st.st_mtim.tv_sec);
	if (rc == 0 && !ckpt_has_prefix(room, CKPT_ROOM_PURGING))
		rc = read_room(store_fd, fd, room, &record);
	if (rc == 0)
		*out = record;
	else
		ckpt_trash_record_release(&record);
	ckpt_buf_release(&path);
	if (rc < 0)
		ckpt_err_sys(err, rc, "cannot look at '%s' in the trash", room);
	return rc;
}
