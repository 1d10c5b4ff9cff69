/*
 * session_read.c - reading what others left in sessions: who they are, what they
 * are doing, and the sums that a commit need not make again. Nothing here is
 * trusted: a line that is torn, damaged or does not fit its file is passed over,
 * and the file is summed as if nobody had told anything.
 * Source: ckptfs-format(5) "Sessions".
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "store/commit_internal.h"

/* What a session is doing stands in its last lines, where ours has it at every end of a write. */
#define TAIL_BYTES (64 * CKPT_KIB)
#define RANK_MAX ((INT64_C(1) << 31) - 1)

/* --- files and lines ---------------------------------------------------------------------- */

/* O_NONBLOCK: opening a FIFO somebody put there must not hang. */
static int open_session(int dirfd, const char *name, struct stat *out)
{
	CKPT_CLOSE int fd = ckpt_io_openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int rc = fd < 0 ? fd : ckpt_io_fstat(fd, out);

	if (rc == -ELOOP || rc == -ENXIO || (rc == 0 && !S_ISREG(out->st_mode)))
		return -EBADMSG;
	return rc < 0 ? rc : ckpt_steal_fd(&fd);
}

/* Bytes from @start on, at most @len; heap, NULL when memory is out. */
static int read_range(int fd, uint64_t start, size_t len, char **out, size_t *out_len)
{
	CKPT_FREE char *text = malloc(len + 1);
	int rc = text ? ckpt_io_pread_full(fd, text, len, start, out_len) : -ENOMEM;

	if (rc == 0)
		*out = ckpt_steal_ptr(&text);
	return rc;
}

static bool holds_text(const char *line, size_t len, const char *text)
{
	return memmem(line, len, text, strlen(text)) != NULL;
}

/* --- the head ------------------------------------------------------------------------------- */

static bool int_member(const struct ckpt_json *root, const char *key, int64_t *out)
{
	const struct ckpt_json *value = ckpt_json_get(root, key);

	if (!value || ckpt_json_kind(value) != CKPT_JSON_INT)
		return false;
	*out = ckpt_json_int(value);
	return true;
}

static bool size_member(const struct ckpt_json *root, const char *key, uint64_t *out)
{
	int64_t value = -1;

	if (!int_member(root, key, &value) || value < 0)
		return false;
	*out = (uint64_t)value;
	return true;
}

static const char *string_member(const struct ckpt_json *root, const char *key)
{
	const struct ckpt_json *value = ckpt_json_get(root, key);

	return value && ckpt_json_kind(value) == CKPT_JSON_STRING ? ckpt_json_string(value) : NULL;
}

/* All of it, or none. */
static bool decode_progress(const struct ckpt_json *root, struct ckpt_save_progress *out)
{
	const char *since = string_member(root, "since");

	if (!since || ckpt_clock_check_rfc3339(since) < 0 ||
	    !size_member(root, "done", &out->bytes_done) ||
	    !size_member(root, "total", &out->bytes_total) ||
	    !size_member(root, "ranks", &out->rank_count) ||
	    !size_member(root, "slowest", &out->slowest_rank) || out->bytes_done > out->bytes_total)
		return false;
	memcpy(out->since, since, CKPT_RFC3339_SIZE);
	return true;
}

static bool parse_doing(const char *line, size_t len, struct ckpt_session_head *head)
{
	static const char *const words[] = { [CKPT_SESSION_WRITING] = "writing",
					     [CKPT_SESSION_SUMMING] = "summing",
					     [CKPT_SESSION_IDLE] = "idle" };
	const char *doing = NULL;
	struct ckpt_json *root = NULL;
	bool found = false;

	if (!holds_text(line, len, "\"doing\"") || ckpt_json_parse(line, len, &root, NULL) < 0)
		return false;
	if (ckpt_json_kind(root) == CKPT_JSON_OBJECT)
		doing = string_member(root, "doing");
	for (size_t i = 0; doing && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(doing, words[i]) == 0) {
			head->doing = (enum ckpt_session_doing)i;
			head->has_progress = decode_progress(root, &head->progress);
			found = true;
		}
	}
	ckpt_json_free(root);
	return found;
}

/* The last line that tells it, from behind. What stands before the first LF may be half a line. */
static bool last_doing(const char *text, size_t len, struct ckpt_session_head *head)
{
	const char *end = memrchr(text, '\n', len);

	while (end) {
		const char *start = memrchr(text, '\n', (size_t)(end - text));

		if (!start)
			return false;
		if (parse_doing(start + 1, (size_t)(end - start - 1), head))
			return true;
		end = start;
	}
	return false;
}

static int read_doing(int fd, uint64_t size_bytes, struct ckpt_session_head *head)
{
	uint64_t longest = num_min(size_bytes, CKPT_SESSION_MAX);
	uint64_t window = num_min(longest, TAIL_BYTES);

	for (;;) {
		CKPT_FREE char *text = NULL;
		size_t len = 0;
		int rc = read_range(fd, size_bytes - window, window, &text, &len);

		if (rc < 0)
			return rc;
		assert(text);
		if (last_doing(text, len, head))
			return 0;
		if (window == longest)
			return 0;
		window = longest;
	}
}

int ckpt_session_head_read(int dirfd, const char *name, struct ckpt_session_head *out)
{
	struct ckpt_session_head head = { .doing = CKPT_SESSION_WRITING };
	char line[CKPT_OWNER_LINE_MAX];
	const char *end;
	struct stat st;
	size_t len = 0;
	CKPT_CLOSE int fd = open_session(dirfd, name, &st);
	int rc = fd < 0 ? fd : ckpt_io_pread_full(fd, line, sizeof(line), 0, &len);

	if (rc < 0)
		return rc;
	end = memchr(line, '\n', len);
	rc = end ? ckpt_owner_parse(line, (size_t)(end - line), &head.owner) : -EBADMSG;
	if (rc == 0)
		rc = read_doing(fd, (uint64_t)st.st_size, &head);
	if (rc < 0)
		return rc;
	head.owner_len = (size_t)(end - line) + 1;
	head.touched = st.st_mtim.tv_sec;
	*out = head;
	return 0;
}

static int tidy_one(void *ctx, int control, const char *name)
{
	time_t *now = ctx;
	struct ckpt_session_head head;
	struct stat st;
	int rc = ckpt_io_fstatat(control, name, &st, AT_SYMLINK_NOFOLLOW);

	if (*now == 0)
		*now = ckpt_session_now(control);
	if (rc < 0 || *now - st.st_mtim.tv_sec < CKPT_SESSION_KEPT_SECS)
		return 0;
	rc = ckpt_session_head_read(control, name, &head);
	/* Not touched for a day: it is dead even where its process cannot be seen. */
	if (rc == -EBADMSG || (rc == 0 && !ckpt_session_lives(&head, *now)))
		ckpt_ignore(ckpt_io_unlinkat(control, name, 0)); /* the next one tries again */
	return 0;
}

void ckpt_sessions_tidy(int store_fd)
{
	time_t now = 0;

	/* What cannot be looked at stays. */
	ckpt_ignore(ckpt_session_each(store_fd, CKPT_SESSIONS_DIR, "", tidy_one, &now));
}

/* --- one sum --------------------------------------------------------------------------------- */

/* What one line tells; strings are borrowed from its JSON. */
struct told {
	struct ckpt_stamps stamps;
	uint64_t block_bytes;
	const char *xxh3;
	const char *xxh128; /* or NULL */
	bool has_rank;
	uint64_t rank;
};

/* Keys that are not known here are passed over. */
static bool decode_told(const struct ckpt_json *root, struct told *out)
{
	*out = (struct told){ .xxh3 = NULL };
	if (ckpt_json_kind(root) != CKPT_JSON_OBJECT ||
	    !size_member(root, "ino", &out->stamps.ino) ||
	    !size_member(root, "size", &out->stamps.size_bytes) ||
	    !int_member(root, "mtime_ns", &out->stamps.mtime_ns) ||
	    !int_member(root, "ctime_ns", &out->stamps.ctime_ns) ||
	    !size_member(root, "block", &out->block_bytes))
		return false;
	out->xxh3 = string_member(root, "xxh3");
	out->xxh128 = string_member(root, "xxh128");
	out->has_rank = size_member(root, "rank", &out->rank) && out->rank <= RANK_MAX;
	return out->xxh3 && out->block_bytes == ckpt_block_bytes_for(out->stamps.size_bytes) &&
	       strlen(out->xxh3) ==
		       ckpt_block_count(out->stamps.size_bytes, out->block_bytes) * CKPT_HEX64_LEN;
}

static bool parse_digests(const struct told *told, struct ckpt_shard *shard)
{
	uint64_t count = ckpt_block_count(shard->size_bytes, shard->block_bytes);

	for (uint64_t i = 0; i < count; i++) {
		if (ckpt_hex64_parse(told->xxh3 + i * CKPT_HEX64_LEN, &shard->sums[i]) < 0)
			return false;
	}
	shard->has_xxh128 = told->xxh128 != NULL;
	return !told->xxh128 || (strlen(told->xxh128) == CKPT_HEX128_LEN &&
				 ckpt_hex128_parse(told->xxh128, &shard->xxh128) == 0);
}

static void known_free(struct ckpt_known_shard *known)
{
	if (known)
		ckpt_shard_release(&known->shard);
	free(known);
}

/* 1 and *@out; 0 the digests are none; -ENOMEM. */
static int make_known(const struct told *told, struct ckpt_known_shard **out)
{
	struct ckpt_known_shard *known = calloc(1, sizeof(*known));
	uint64_t count = ckpt_block_count(told->stamps.size_bytes, told->block_bytes);

	if (!known)
		return -ENOMEM;
	known->ino = told->stamps.ino;
	known->ctime_ns = told->stamps.ctime_ns;
	known->shard = (struct ckpt_shard){ .size_bytes = told->stamps.size_bytes,
					    .mtime_ns = told->stamps.mtime_ns,
					    .has_rank = told->has_rank,
					    .rank = told->rank,
					    .block_bytes = told->block_bytes,
					    .sums = array_alloc(num_max(count, 1),
								sizeof(*known->shard.sums)) };
	if (!known->shard.sums || !parse_digests(told, &known->shard)) {
		int rc = known->shard.sums ? 0 : -ENOMEM;

		known_free(known);
		return rc;
	}
	*out = known;
	return 1;
}

/* --- all of them ------------------------------------------------------------------------------ */

struct gather {
	struct ckpt_commit *commit;
	struct ckpt_tree_entry **by_ino;
	size_t count;
	uid_t store_uid;
	uid_t uid; /* whose the session at hand is */
};

static int order_ino(const void *a, const void *b)
{
	uint64_t left = (*(struct ckpt_tree_entry *const *)a)->stamp.ino;
	uint64_t right = (*(struct ckpt_tree_entry *const *)b)->stamp.ino;

	return left < right ? -1 : left > right;
}

/* The first of the entries that are names of @ino; gather->count where there is none. */
static size_t find_ino(const struct gather *gather, uint64_t ino)
{
	size_t low = 0;
	size_t high = gather->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (gather->by_ino[mid]->stamp.ino < ino)
			low = mid + 1;
		else
			high = mid;
	}
	return low < gather->count && gather->by_ino[low]->stamp.ino == ino ? low : gather->count;
}

/* Cheap and before the line is parsed: most lines of the store's sessions are of other folders. */
static bool may_be_ours(const struct gather *gather, const char *line, size_t len)
{
	static const char key[] = "\"ino\":";
	const char *at = memmem(line, len, key, sizeof(key) - 1);

	if (!at)
		return holds_text(line, len, "\"ino\"");
	/* The line ends with an LF, which ends the number, too. */
	return find_ino(gather, strtoull(at + sizeof(key) - 1, NULL, 10)) < gather->count;
}

/* Who else could say it wrongly could not have written the file either. */
static bool is_trusted(const struct gather *gather, uid_t file_uid)
{
	return gather->uid == 0 || gather->uid == geteuid() || gather->uid == gather->store_uid ||
	       gather->uid == file_uid;
}

static bool entry_fits(const struct ckpt_tree_entry *entry, const struct ckpt_stamps *stamps)
{
	return entry->stamp.ino == stamps->ino && entry->stamp.size_bytes == stamps->size_bytes &&
	       ckpt_stamp_ns(entry->stamp.mtime) == stamps->mtime_ns &&
	       ckpt_stamp_ns(entry->stamp.ctime) == stamps->ctime_ns;
}

/* Give the sum to every name of its file. -ENOMEM. */
static int take_told(struct gather *gather, const struct told *told)
{
	struct ckpt_commit *commit = gather->commit;
	size_t at = find_ino(gather, told->stamps.ino);
	struct ckpt_known_shard *known = NULL;
	int rc;

	if (at == gather->count || !entry_fits(gather->by_ino[at], &told->stamps) ||
	    !is_trusted(gather, gather->by_ino[at]->uid))
		return 0;
	rc = array_grow(&commit->told, &commit->told_cap, commit->told_count, sizeof(void *));
	if (rc == 0)
		rc = make_known(told, &known);
	if (rc <= 0)
		return rc;
	commit->told[commit->told_count++] = known;
	for (; at < gather->count && gather->by_ino[at]->stamp.ino == told->stamps.ino; at++)
		gather->by_ino[at]->told = known;
	return 0;
}

static int read_line(struct gather *gather, const char *line, size_t len)
{
	struct ckpt_json *root = NULL;
	struct told told;
	int rc = 0;

	if (!may_be_ours(gather, line, len) || ckpt_json_parse(line, len, &root, NULL) < 0)
		return 0;
	if (decode_told(root, &told))
		rc = take_told(gather, &told);
	ckpt_json_free(root);
	return rc;
}

/* Every line that is whole; the owner's is none with an inode. */
static int read_lines(struct gather *gather, const char *text, size_t len)
{
	const char *stop = text + len;
	int rc = 0;

	for (const char *end; rc == 0 && (end = memchr(text, '\n', (size_t)(stop - text)));
	     text = end + 1)
		rc = read_line(gather, text, (size_t)(end - text));
	return rc;
}

static int gather_one(void *ctx, int control, const char *name)
{
	struct gather *gather = ctx;
	CKPT_FREE char *text = NULL;
	struct stat st = { .st_size = 0 };
	size_t len = 0;
	CKPT_CLOSE int fd = -1;
	int rc;

	if (ckpt_session_is_half_made(name))
		return 0;
	fd = open_session(control, name, &st);
	rc = fd < 0 ? fd : 0;
	if (rc == 0 && (uint64_t)st.st_size <= CKPT_SESSION_MAX)
		rc = read_range(fd, 0, (size_t)st.st_size, &text, &len);
	gather->uid = st.st_uid;
	if (rc == 0 && len > 0)
		rc = read_lines(gather, text, len);
	return rc == -ENOMEM ? rc : 0;
}

static int gather_all(struct gather *gather)
{
	struct ckpt_commit *commit = gather->commit;
	int store_fd = ckpt_store_fd(commit->store);
	int rc;

	ckpt_sessions_tidy(store_fd);
	/* The checkpoint's own come last: where both tell of a file, they are the newer ones. */
	rc = ckpt_session_each(store_fd, CKPT_SESSIONS_DIR, "", gather_one, gather);
	if (rc != -ENOMEM)
		rc = ckpt_session_each(commit->dirfd, CKPT_CONTROL_DIR, CKPT_SESSION_PREFIX,
				       gather_one, gather);
	return rc == -ENOMEM ? rc : 0;
}

int ckpt_commit_gather(struct ckpt_commit *commit, struct ckpt_err *err)
{
	struct ckpt_tree_list *files = &commit->tree.files;
	CKPT_FREE struct ckpt_tree_entry **by_ino =
		array_alloc(num_max(files->count, 1), sizeof(void *));
	struct gather gather = { .commit = commit, .by_ino = by_ino, .count = files->count };
	struct stat st;
	int rc = by_ino ? ckpt_io_fstat(ckpt_store_fd(commit->store), &st) : -ENOMEM;

	if (rc == 0) {
		gather.store_uid = st.st_uid;
		for (size_t i = 0; i < files->count; i++)
			by_ino[i] = &files->items[i];
		qsort(by_ino, files->count, sizeof(void *), order_ino);
		rc = gather_all(&gather);
	}
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot commit '%s'", commit->name) : 0;
}

void ckpt_commit_forget_told(struct ckpt_commit *commit)
{
	for (size_t i = 0; i < commit->told_count; i++)
		known_free(commit->told[i]);
	free(commit->told);
	commit->told = NULL;
	commit->told_count = commit->told_cap = 0;
}
