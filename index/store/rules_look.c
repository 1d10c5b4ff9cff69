/* rules_look.c - see rules_internal.h; and how long a folder has been quiet. */
#include "store/rules_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/rules.h"
#include "store/store_internal.h"

#define NS_PER_SEC INT64_C(1000000000)
/* A tracker names one folder or one number. */
#define TRACKER_MAX (CKPT_COMPONENT_MAX + 16)
/* Ranks and shards that are counted; a number above that is no rank's. */
#define NUMBER_MAX 1000000U

/* --- names ----------------------------------------------------------------------------- */

void rule_names_release(struct rule_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i]);
	free(names->items);
	*names = (struct rule_names){ 0 };
}

static int add_name(struct rule_names *names, const char *name)
{
	int rc = array_grow(&names->items, &names->cap, names->count, sizeof(*names->items));

	if (rc < 0)
		return rc;
	names->items[names->count] = strdup(name);
	if (!names->items[names->count])
		return -ENOMEM;
	names->count++;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int text_and_item(const void *text, const void *item)
{
	return strcmp(text, *(const char *const *)item);
}

static void sort(struct rule_names *names)
{
	if (names->count > 0)
		qsort(names->items, names->count, sizeof(*names->items), by_text);
}

static bool is_absence(int rc)
{
	return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -EACCES;
}

static int read_names(DIR *dir, struct rule_names *files, struct rule_names *dirs)
{
	unsigned char type;
	const char *name;
	int rc;

	while ((rc = ckpt_io_readdir_type(dir, &name, &type)) > 0) {
		bool is_dir = false;

		rc = ckpt_dirent_is_dir(dirfd(dir), name, type, &is_dir);
		if (is_absence(rc) || strcmp(name, CKPT_CONTROL_DIR) == 0)
			continue;
		if (rc == 0)
			rc = add_name(is_dir ? dirs : files, name);
		if (rc < 0)
			return rc;
	}
	return rc;
}

int rule_names_of(int dirfd, const char *dir, struct rule_names *files, struct rule_names *dirs)
{
	DIR *stream;
	int rc = ckpt_dir_open(dirfd, dir, &stream);

	*files = (struct rule_names){ 0 };
	*dirs = (struct rule_names){ 0 };
	if (rc < 0)
		return is_absence(rc) ? 0 : rc;
	rc = read_names(stream, files, dirs);
	closedir(stream);
	sort(files);
	sort(dirs);
	if (rc < 0) {
		rule_names_release(files);
		rule_names_release(dirs);
	}
	return rc;
}

bool rule_names_has(const struct rule_names *names, const char *name)
{
	return names->count > 0 && bsearch(name, names->items, names->count, sizeof(*names->items),
					   text_and_item) != NULL;
}

const char *rule_names_first(const struct rule_names *names, size_t *from, const char *prefix,
			     const char *suffix)
{
	size_t affix_len = strlen(prefix) + strlen(suffix);

	while (*from < names->count) {
		const char *name = names->items[(*from)++];

		if (strlen(name) >= affix_len && ckpt_has_prefix(name, prefix) &&
		    ckpt_has_suffix(name, suffix))
			return name;
	}
	return NULL;
}

bool rule_number_behind(const char *text, const char *prefix, uint64_t *out, const char **out_rest)
{
	char digits[20] = "";
	size_t len;

	if (!ckpt_has_prefix(text, prefix))
		return false;
	text += strlen(prefix);
	len = strspn(text, "0123456789");
	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len);
	if (num_parse_u64(digits, out) < 0)
		return false;
	*out_rest = text + len;
	return true;
}

static int by_number(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a;
	uint64_t right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

int rule_numbers_missing(const struct rule_names *names, const char *prefix, const char *suffix,
			 uint64_t first, uint64_t *out)
{
	uint64_t *numbers = array_alloc(names->count + 1, sizeof(*numbers));
	uint64_t expected = first;
	size_t count = 0;
	int missing = 0;

	if (!numbers)
		return -ENOMEM;
	for (size_t i = 0; i < names->count; i++) {
		const char *rest;

		if (rule_number_behind(names->items[i], prefix, &numbers[count], &rest) &&
		    ckpt_has_prefix(rest, suffix) && numbers[count] <= NUMBER_MAX)
			count++;
	}
	qsort(numbers, count, sizeof(*numbers), by_number);
	for (size_t i = 0; i < count && !missing; i++) {
		if (numbers[i] > expected)
			missing = 1;
		else if (numbers[i] == expected)
			expected++;
	}
	free(numbers);
	*out = expected;
	return count == 0 ? -ENOENT : missing;
}

/* --- a checkpoint ------------------------------------------------------------------------ */

int rule_look_at(int store_fd, const char *name, struct rule_look *out)
{
	int rc;

	*out = (struct rule_look){ .store_fd = store_fd, .stored = name, .name = name, .fd = -1 };
	out->fd = ckpt_io_open_beneath(store_fd, name, O_PATH | O_DIRECTORY, 0);
	if (out->fd < 0)
		return is_absence(out->fd) ? -ENOENT : out->fd;
	rc = rule_names_of(out->fd, "", &out->files, &out->dirs);
	if (rc < 0)
		rule_look_release(out);
	return rc;
}

void rule_look_release(struct rule_look *look)
{
	rule_names_release(&look->files);
	rule_names_release(&look->dirs);
	if (look->fd >= 0)
		close(look->fd);
	look->fd = -1;
}

void rule_beside(const char *name, const char *file, struct ckpt_buf *out)
{
	const char *base = ckpt_path_basename(name);

	ckpt_buf_add(out, name, (size_t)(base - name));
	ckpt_buf_add_str(out, file);
}

static int64_t ns_of(struct timespec at)
{
	return (int64_t)at.tv_sec * NS_PER_SEC + at.tv_nsec;
}

/* Without blanks at its ends; a component, or nothing. */
static bool take_word(char *text, size_t len, struct ckpt_buf *out)
{
	static const char blanks[] = " \t\r\n";

	if (memchr(text, '\0', len))
		return false;
	while (len > 0 && strchr(blanks, text[len - 1]))
		len--;
	text[len] = '\0';
	text += strspn(text, blanks);
	if (*text == '\0' || strchr(text, '/') || ckpt_path_check_entry(text, NULL) < 0)
		return false;
	ckpt_buf_add_str(out, text);
	return true;
}

int rule_read_tracker(int store_fd, const char *path, struct ckpt_buf *out, int64_t *out_ns)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(store_fd, path, O_RDONLY | O_NONBLOCK, 0);
	char text[TRACKER_MAX + 1];
	size_t len_bytes = 0;
	struct stat st;
	int rc;

	if (fd < 0)
		return is_absence(fd) ? -ENOENT : fd;
	rc = ckpt_io_fstat(fd, &st);
	if (rc == 0 && !S_ISREG(st.st_mode))
		return -ENOENT;
	if (rc == 0)
		rc = ckpt_io_pread_full(fd, text, sizeof(text) - 1, 0, &len_bytes);
	if (rc < 0)
		return rc;
	if (out_ns)
		*out_ns = ns_of(st.st_mtim);
	if (len_bytes == sizeof(text) - 1 || !take_word(text, len_bytes, out))
		return -ENOENT;
	return ckpt_buf_check(out);
}

/* --- quiet ------------------------------------------------------------------------------- */

struct calm_walk {
	struct ckpt_calm *calm;
	struct ckpt_buf path; /* of the entry at hand, below the checkpoint */
};

/* A sum does not depend on the order in which names are read. */
static void count_stamps(struct calm_walk *walk, const struct stat *st)
{
	const uint64_t stamps[] = { ckpt_hash64(walk->path.data, walk->path.len_bytes),
				    st->st_ino,
				    (uint64_t)st->st_size,
				    st->st_mode,
				    (uint64_t)ns_of(st->st_mtim),
				    (uint64_t)ns_of(st->st_ctim) };

	walk->calm->fingerprint += ckpt_hash64(stamps, sizeof(stamps));
	if (ns_of(st->st_mtim) > walk->calm->newest_ns)
		walk->calm->newest_ns = ns_of(st->st_mtim);
}

static int calm_dir(struct calm_walk *walk, int dirfd, const char *name, int depth);

static int calm_entry(struct calm_walk *walk, int dirfd, const char *name, int depth)
{
	size_t path_len = walk->path.len_bytes;
	struct stat st;
	int rc = ckpt_io_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		return is_absence(rc) ? 0 : rc;
	ckpt_buf_add_char(&walk->path, '/');
	ckpt_buf_add_str(&walk->path, name);
	rc = ckpt_buf_check(&walk->path);
	if (rc == 0 && S_ISDIR(st.st_mode) && depth < CKPT_ENTRY_DEPTH_MAX)
		rc = calm_dir(walk, dirfd, name, depth + 1);
	else if (rc == 0)
		count_stamps(walk, &st);
	walk->path.len_bytes = path_len;
	walk->path.data[path_len] = '\0';
	return rc;
}

/*
 * The size and the ctime of a folder tell no more than its mtime and the names in it; the top's
 * change when the control folder comes and goes.
 */
static int calm_dir(struct calm_walk *walk, int dirfd_above, const char *path, int depth)
{
	const char *name;
	struct stat st;
	DIR *dir;
	int rc = ckpt_dir_open(dirfd_above, path, &dir);

	if (rc < 0)
		return depth > 0 && is_absence(rc) ? 0 : rc;
	rc = ckpt_io_fstat(dirfd(dir), &st);
	if (rc == 0) {
		st.st_size = 0;
		st.st_ctim = st.st_mtim;
		count_stamps(walk, &st);
	}
	while (rc == 0 && (rc = ckpt_io_readdir(dir, &name)) > 0) {
		rc = 0;
		if (depth > 0 || strcmp(name, CKPT_CONTROL_DIR) != 0)
			rc = calm_entry(walk, dirfd(dir), name, depth);
	}
	closedir(dir);
	return rc;
}

int ckpt_calm_of(int store_fd, const char *name, struct ckpt_calm *out)
{
	struct ckpt_calm calm = { .newest_ns = 0 };
	struct calm_walk walk = { .calm = &calm };
	int rc;

	ckpt_buf_init(&walk.path);
	rc = calm_dir(&walk, store_fd, name, 0);
	ckpt_buf_release(&walk.path);
	if (rc == 0)
		*out = calm;
	return rc;
}

uint64_t ckpt_calm_secs(const struct ckpt_calm *calm)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) < 0 || ns_of(now) <= calm->newest_ns)
		return 0;
	return (uint64_t)((ns_of(now) - calm->newest_ns) / NS_PER_SEC);
}
