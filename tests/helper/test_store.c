/* test_store.c - calls of the store that no command makes alone: sessions, guards, commits under another name. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "ckpt_test.h"
#include "store/store.h"

/* The store @path, or exit. */
static struct ckpt_store *open_store(const char *path)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_store *store = NULL;

	if (ckpt_store_open(path, 0, NULL, &store, &err) < 0) {
		(void)fprintf(stderr, "ckpt-test: %s\n", err.msg);
		exit(1);
	}
	return store;
}

/* "OK", or "ENAME: message"; returns the exit status. */
static int answer(int rc, const struct ckpt_err *err)
{
	if (rc == 0)
		puts("OK");
	else
		printf("%s: %s\n", ckpt_err_name(rc), err->msg);
	return rc == 0 ? 0 : 1;
}

/* --- sessions --------------------------------------------------------------------------------- */

/* Sync and sum @path, as a writer does, and put that down. */
static int add_sum(struct ckpt_session *session, const char *path, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, path, O_RDONLY, 0);
	struct ckpt_session_sum sum = { .path = ckpt_path_basename(path) };
	struct ckpt_shard shard = { .path = NULL };
	struct stat st;
	int rc = fd < 0 ? fd : ckpt_io_fdatasync(fd);

	if (rc == 0)
		rc = ckpt_io_fstat(fd, &st);
	if (rc == 0)
		rc = ckpt_sums_file(fd, (uint64_t)st.st_size, &shard, NULL, NULL);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot sum '%s'", path);
	sum.stamps = ckpt_stamps_of(&st);
	sum.sums = &shard;
	rc = ckpt_session_add(session, &sum, 1, err);
	ckpt_shard_release(&shard);
	return rc;
}

/* So many bytes of lines that tell of files which are nowhere. */
static int fill(struct ckpt_session *session, uint64_t bytes, struct ckpt_err *err)
{
	struct ckpt_shard shard = { .block_bytes = CKPT_BLOCK_MIN };
	struct ckpt_session_sum sums[1000];
	int rc = 0;

	for (size_t i = 0; i < 1000; i++)
		sums[i] = (struct ckpt_session_sum){ .path = "filling", .sums = &shard };
	/* A thousand lines are some more than 82,000 bytes. */
	for (uint64_t left = bytes; rc == 0 && left >= 82000; left -= 82000)
		rc = ckpt_session_add(session, sums, 1000, err);
	return rc;
}

static int tell(struct ckpt_session *session, const char *word, struct ckpt_err *err)
{
	if (strcmp(word, "writing") == 0)
		return ckpt_session_tell(session, CKPT_SESSION_WRITING, err);
	if (strcmp(word, "summing") == 0)
		return ckpt_session_tell(session, CKPT_SESSION_SUMMING, err);
	return ckpt_session_tell(session, CKPT_SESSION_IDLE, err);
}

/* One of: sum=FILE, fill=BYTES, tell=WORD, keep, sleep=SECS. */
static int act(struct ckpt_session *session, const char *action, struct ckpt_err *err)
{
	const char *value = strchr(action, '=');

	if (strncmp(action, "sum=", 4) == 0)
		return add_sum(session, value + 1, err);
	if (strncmp(action, "fill=", 5) == 0)
		return fill(session, test_number(value + 1), err);
	if (strncmp(action, "tell=", 5) == 0)
		return tell(session, value + 1, err);
	if (strcmp(action, "keep") == 0) {
		int rc = ckpt_session_keep(session);

		return rc < 0 ? ckpt_err_sys(err, rc, "cannot touch the session") : 0;
	}
	if (strncmp(action, "sleep=", 6) == 0) {
		sleep((unsigned int)test_number(value + 1));
		return 0;
	}
	return ckpt_err_set(err, -EINVAL, "no such action: '%s'", action);
}

int test_session(int argc, char **argv)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_store *store = open_store(argv[1]);
	struct ckpt_session *session = NULL;
	bool leave = true;
	int rc = ckpt_session_open(store, argv[2], &session, &err);

	for (int i = 3; rc == 0 && i < argc; i++) {
		if (strcmp(argv[i], "remove") == 0)
			leave = false;
		else if (strcmp(argv[i], "ready") == 0)
			puts("ready");
		else
			rc = act(session, argv[i], &err);
		(void)fflush(stdout);
	}
	ckpt_session_close(session, leave);
	ckpt_store_free(store);
	return answer(rc, &err);
}

int test_place(int argc, char **argv)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_store *store = open_store(argv[1]);
	struct ckpt_buf place;
	int rc;

	(void)argc;
	ckpt_buf_init(&place);
	rc = ckpt_session_place(store, argv[2], &place, &err);
	if (rc == 0)
		printf("'%s'\n", place.data);
	ckpt_buf_release(&place);
	ckpt_store_free(store);
	return rc == 0 ? 0 : answer(rc, &err);
}

/* --- guards ------------------------------------------------------------------------------------- */

int test_guard(int argc, char **argv)
{
	static const char *const words[] = { [CKPT_GUARD_FREE] = "free",
					     [CKPT_GUARD_COMMITTED] = "committed",
					     [CKPT_GUARD_FROZEN] = "frozen" };
	struct ckpt_store *store = open_store(argv[1]);
	enum ckpt_guard guard = CKPT_GUARD_FREE;
	size_t len = 0;
	int rc = ckpt_guard_of(ckpt_store_fd(store), argv[2], &guard, &len);

	(void)argc;
	if (rc == 0 && guard == CKPT_GUARD_FREE)
		puts("free");
	else if (rc == 0)
		printf("%s %.*s\n", words[guard], (int)len, argv[2]);
	else
		puts(ckpt_err_name(rc));
	ckpt_store_free(store);
	return rc == 0 ? 0 : 1;
}

/* --- commits ------------------------------------------------------------------------------------ */

int test_commit(int argc, char **argv)
{
	struct ckpt_commit_options options = { .final_name = argv[3], .lease_wait_ms = 1000 };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_store *store = open_store(argv[1]);
	struct ckpt_commit_result result = { .name = NULL };
	int rc;

	options.replace = argc > 4;
	rc = ckpt_commit(store, argv[2], &options, &result, &err);
	free(result.name);
	ckpt_store_free(store);
	return answer(rc, &err);
}
