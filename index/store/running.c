/*
 * running.c - which saves run: a file a process in `.ckptfs/saves`, with its owner in the first
 * line and the open checkpoint's name in the second, so that nobody has to walk the
 * store to find them. How far one is stands in the session in that checkpoint; where that is gone
 * or dead, nothing runs, whatever is noted here.
 * Source: ckptfs-format(5) "Saves that run".
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "store/commit_internal.h"

#define SAVES_DIR ".ckptfs/saves"
/* An owner and a name, escaped at worst. */
#define NOTE_MAX (64 * CKPT_KIB)

/* "HOST-PID" of this process. */
static int own_name(struct ckpt_buf *out, struct ckpt_owner *self)
{
	int rc = ckpt_owner_self(self, NULL);

	if (rc == 0)
		ckpt_buf_printf(out, "%s-%lld", self->host, (long long)self->pid);
	return rc < 0 ? rc : ckpt_buf_check(out);
}

/* What the dead left. */
static int drop_dead(void *ctx, int control, const char *name)
{
	struct ckpt_session_head head;
	int rc;

	(void)ctx;
	/* Its process may be about to rename it. */
	if (ckpt_session_is_half_made(name))
		return 0;
	rc = ckpt_session_head_read(control, name, &head);
	if (rc == -EBADMSG || (rc == 0 && !ckpt_owner_alive(&head.owner)))
		ckpt_ignore(ckpt_io_unlinkat(control, name, 0)); /* the next one tries again */
	return 0;
}

static void print_note(const struct ckpt_owner *self, const char *name, struct ckpt_buf *out)
{
	ckpt_owner_print(self, out);
	ckpt_buf_add_str(out, "\n{\"saves\":");
	ckpt_buf_add_json_str(out, name);
	ckpt_buf_add_str(out, "}\n");
}

/* Whole as soon as it has its name, but not synced. */
static int publish(int store_fd, const char *path, const struct ckpt_buf *text)
{
	CKPT_CLOSE int fd = -1;
	struct ckpt_buf temp;
	int rc;

	ckpt_buf_init(&temp);
	ckpt_buf_printf(&temp, "%s" CKPT_SESSION_TEMP_SUFFIX, path);
	rc = ckpt_buf_check(&temp);
	if (rc == 0)
		rc = fd = ckpt_io_openat(store_fd, temp.data,
					 O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
	if (rc >= 0)
		rc = ckpt_io_pwrite_full(fd, text->data, text->len_bytes, 0);
	if (rc == 0)
		rc = ckpt_io_renameat(store_fd, temp.data, store_fd, path);
	ckpt_buf_release(&temp);
	return rc;
}

static int write_note(int store_fd, const char *name)
{
	struct ckpt_owner self;
	struct ckpt_buf path;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_init(&text);
	ckpt_buf_add_str(&path, SAVES_DIR "/");
	rc = own_name(&path, &self);
	if (rc == 0)
		print_note(&self, name, &text);
	if (rc == 0)
		rc = ckpt_buf_check(&text);
	if (rc == 0)
		rc = publish(store_fd, path.data, &text);
	ckpt_buf_release(&text);
	ckpt_buf_release(&path);
	return rc;
}

void ckpt_running_enter(const struct ckpt_store *store, const char *name)
{
	int store_fd = ckpt_store_fd(store);
	int rc = ckpt_io_mkdirat(store_fd, SAVES_DIR, 0777);

	if (rc == -EEXIST)
		rc = ckpt_session_each(store_fd, SAVES_DIR, "", drop_dead, NULL);
	if (rc >= 0)
		rc = write_note(store_fd, name);
	/* Nothing but a line of the status depends on it. */
	ckpt_ignore(rc);
}

void ckpt_running_leave(const struct ckpt_store *store)
{
	int store_fd = ckpt_store_fd(store);
	struct ckpt_owner self;
	struct ckpt_buf path;

	ckpt_buf_init(&path);
	ckpt_buf_add_str(&path, SAVES_DIR "/");
	/* What stays is dead as soon as this process is. */
	if (own_name(&path, &self) == 0 && ckpt_io_unlinkat(store_fd, path.data, 0) == 0)
		ckpt_ignore(ckpt_io_unlinkat(store_fd, SAVES_DIR, AT_REMOVEDIR)); /* others' */
	ckpt_buf_release(&path);
}

/* --- looking at all of them --------------------------------------------------------------- */

struct each {
	const struct ckpt_store *store;
	void (*fn)(void *ctx, const struct ckpt_running *running);
	void *ctx;
};

/* The name in the second line; false where there is none that could be a checkpoint's. */
static bool parse_note(const struct ckpt_buf *text, struct ckpt_json **out_root,
		       const char **out_name)
{
	const char *line = strchr(text->data, '\n');
	const char *end = line ? strchr(line + 1, '\n') : NULL;
	const struct ckpt_json *value = NULL;

	if (!end || ckpt_json_parse(line + 1, (size_t)(end - line - 1), out_root, NULL) < 0)
		return false;
	if (ckpt_json_kind(*out_root) == CKPT_JSON_OBJECT)
		value = ckpt_json_get(*out_root, "saves");
	if (!value || ckpt_json_kind(value) != CKPT_JSON_STRING ||
	    ckpt_path_check_name(ckpt_json_string(value), NULL) < 0)
		return false;
	*out_name = ckpt_json_string(value);
	return true;
}

/* The session in the checkpoint itself decides. */
static void tell(const struct each *each, const char *name, const char *note)
{
	struct ckpt_session_head head;
	struct ckpt_running running = { .name = name };
	CKPT_CLOSE int dirfd =
		ckpt_io_open_beneath(ckpt_store_fd(each->store), name, O_RDONLY | O_DIRECTORY, 0);
	CKPT_CLOSE int control = -1;
	struct ckpt_buf file;
	int rc = dirfd;

	if (rc >= 0)
		rc = control = ckpt_io_openat(dirfd, CKPT_CONTROL_DIR,
					      O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (rc < 0)
		return;
	ckpt_buf_init(&file);
	ckpt_buf_printf(&file, CKPT_SESSION_PREFIX "%s", note);
	rc = ckpt_session_head_read(control, file.data, &head);
	if (rc == 0 && ckpt_session_lives(&head, ckpt_session_now(control))) {
		running.host = head.owner.host;
		running.pid = head.owner.pid;
		running.progress = head.has_progress ? &head.progress : NULL;
		each->fn(each->ctx, &running);
	}
	ckpt_buf_release(&file);
}

static int look_at(void *ctx, int control, const char *note)
{
	const struct each *each = ctx;
	struct ckpt_json *root = NULL;
	const char *name;
	struct ckpt_buf text;

	if (ckpt_session_is_half_made(note))
		return 0;
	ckpt_buf_init(&text);
	if (ckpt_io_read_file(control, note, NOTE_MAX, &text, NULL) == 0 &&
	    parse_note(&text, &root, &name))
		tell(each, name, note);
	ckpt_json_free(root);
	ckpt_buf_release(&text);
	return 0;
}

int ckpt_running_each(const struct ckpt_store *store,
		      void (*fn)(void *ctx, const struct ckpt_running *running), void *ctx)
{
	struct each each = { .store = store, .fn = fn, .ctx = ctx };
	int rc = ckpt_session_each(ckpt_store_fd(store), SAVES_DIR, "", look_at, &each);

	return rc == -ENOENT ? 0 : rc;
}
