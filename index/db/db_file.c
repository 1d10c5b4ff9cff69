/*
 * db_file.c - the database as a file among others: is it there, is it the one
 * we opened, and how it is set aside. Nothing here opens it: closing such a
 * descriptor would drop SQLite's locks in this process.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "db_internal.h"

/*
 * So many broken files are kept for whoever wants to know why; a disk that breaks them daily must
 * not fill.
 */
#define BROKEN_KEEP 3U
/*
 * Somebody's database is never dropped, but so many of them mean that two programs fight for the
 * name.
 */
#define ASIDE_MAX 100U

/*
 * What belongs to a database, in the order it is renamed: a crash in between leaves no log without
 * its database.
 */
static const char *const suffixes[] = { "-wal", "-shm", "-journal", "" };
#define SUFFIX_COUNT (sizeof(suffixes) / sizeof(suffixes[0]))

static int look_at(const struct ckpt_db *db, struct stat *out)
{
	return ckpt_io_fstatat(AT_FDCWD, db->path, out, AT_SYMLINK_NOFOLLOW);
}

int db_file_look(struct ckpt_db *db, uint64_t *out_size_bytes, struct ckpt_err *err)
{
	struct stat st;
	int rc = look_at(db, &st);

	*out_size_bytes = 0;
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at index '%s'", db->label);
	if (S_ISLNK(st.st_mode))
		return ckpt_err_set(
			err, -ELOOP,
			"index '%s' is a symbolic link, which is not followed; remove it",
			db->label);
	if (!S_ISREG(st.st_mode))
		return ckpt_err_set(err, -EINVAL, "index '%s' is no regular file; remove it",
				    db->label);
	*out_size_bytes = (uint64_t)st.st_size;
	return 0;
}

bool db_file_remember(struct ckpt_db *db, const struct db_conn *conn)
{
	struct stat st;

	if (db_conn_moved(conn) || look_at(db, &st) < 0)
		return false;
	db->dev = st.st_dev;
	db->ino = st.st_ino;
	return true;
}

bool db_file_is_ours(const struct ckpt_db *db)
{
	struct stat st;

	return look_at(db, &st) == 0 && st.st_dev == db->dev && st.st_ino == db->ino;
}

/* "<path><middle><suffix>" in @buf, "" when memory is out: such a name is in no folder. */
static const char *file_name(struct ckpt_buf *buf, const struct ckpt_db *db, const char *middle,
			     const char *suffix)
{
	ckpt_buf_reset(buf);
	ckpt_buf_printf(buf, "%s%s%s", db->path, middle, suffix);
	return ckpt_buf_check(buf) == 0 ? buf->data : "";
}

/* Remove "<path><suffix>" of every suffix from @first to before @end. */
static int remove_files(const struct ckpt_db *db, size_t end, struct ckpt_err *err)
{
	struct ckpt_buf buf;
	int rc = 0;

	ckpt_buf_init(&buf);
	for (size_t i = 0; i < end && rc == 0; i++) {
		rc = ckpt_io_unlinkat(AT_FDCWD, file_name(&buf, db, "", suffixes[i]), 0);
		if (rc == -ENOENT)
			rc = ckpt_buf_check(&buf);
		if (rc < 0)
			rc = ckpt_err_sys(err, rc, "cannot remove '%s%s'", db->label, suffixes[i]);
	}
	ckpt_buf_release(&buf);
	return rc;
}

int db_file_drop_leftovers(struct ckpt_db *db, struct ckpt_err *err)
{
	return remove_files(db, SUFFIX_COUNT - 1, err);
}

/* Is any file of that name there? */
static bool is_taken(const struct ckpt_db *db, const char *middle)
{
	struct ckpt_buf buf;
	struct stat st;
	bool taken = false;

	ckpt_buf_init(&buf);
	for (size_t i = 0; i < SUFFIX_COUNT; i++)
		taken = taken || ckpt_io_fstatat(AT_FDCWD, file_name(&buf, db, middle, suffixes[i]),
						 &st, AT_SYMLINK_NOFOLLOW) != -ENOENT;
	ckpt_buf_release(&buf);
	return taken;
}

static int rename_files(const struct ckpt_db *db, const char *middle, struct ckpt_err *err)
{
	struct ckpt_buf from;
	struct ckpt_buf to;
	int rc = 0;

	ckpt_buf_init(&from);
	ckpt_buf_init(&to);
	for (size_t i = 0; i < SUFFIX_COUNT && rc == 0; i++) {
		rc = ckpt_io_renameat(AT_FDCWD, file_name(&from, db, "", suffixes[i]), AT_FDCWD,
				      file_name(&to, db, middle, suffixes[i]));
		if (rc == -ENOENT) {
			rc = ckpt_buf_check(&from);
			rc = rc < 0 ? rc : ckpt_buf_check(&to);
		}
		if (rc < 0)
			rc = ckpt_err_sys(err, rc, "cannot set '%s%s' aside as '%s%s%s'; remove it",
					  db->label, suffixes[i], db->label, middle, suffixes[i]);
	}
	ckpt_buf_release(&from);
	ckpt_buf_release(&to);
	return rc;
}

int db_file_set_aside(struct ckpt_db *db, bool keep, struct ckpt_err *err)
{
	unsigned max = keep ? ASIDE_MAX : BROKEN_KEEP;
	char middle[32];

	for (unsigned i = 1; i <= max; i++) {
		ckpt_ignore(snprintf(middle, sizeof(middle), ".broken-%u", i)); /* fits */
		if (!is_taken(db, middle))
			return rename_files(db, middle, err);
	}
	if (keep)
		return ckpt_err_set(
			err, -EEXIST,
			"'%s' is another program's database, and %u such have been set aside"
			" beside it; move them away",
			db->label, max);
	/* Enough examples are kept; what this one held is in the manifests. */
	return remove_files(db, SUFFIX_COUNT, err);
}
