/*
 * owner.c - the process behind a commit.lock or a session file: written as one
 * JSON object, and asked whether it still runs. A pid alone says little: it
 * counts only together with host, boot, PID namespace and start time.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "store/commit_internal.h"

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
/* /proc/PID/stat is one line of some 50 numbers. */
#define STAT_MAX 4096
/* Fields of /proc/PID/stat, 1-based. Source: proc(5). */
#define STAT_STATE 3
#define STAT_THREADS 20
#define STAT_START 22

/* Files of /proc say that they have 0 bytes, so they are read until nothing more comes. */
static int read_proc(const char *path, char *out, size_t out_size)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, path, O_RDONLY, 0);
	size_t len_bytes = 0;
	int rc = fd < 0 ? fd : ckpt_io_pread_full(fd, out, out_size - 1, 0, &len_bytes);

	if (rc == 0)
		out[len_bytes] = '\0';
	return rc;
}

/*
 * Field @number of a stat line; the name in field 2 may hold blanks and parentheses, the last ')'
 * ends it.
 */
static const char *stat_field(const char *line, int number)
{
	const char *at = strrchr(line, ')');

	for (int i = 2; at && i < number; i++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at;
}

/* When a process started, and whether it runs (a zombie does not). -ENOENT: there is none. */
static int process_start(int64_t pid, uint64_t *out_start, bool *out_runs)
{
	char path[64];
	char line[STAT_MAX];
	const char *state;
	const char *threads;
	const char *start;
	int rc;

	if (snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid) < 0)
		return -EINVAL;
	rc = read_proc(path, line, sizeof(line));
	if (rc < 0)
		return rc == -ESRCH ? -ENOENT : rc;
	state = stat_field(line, STAT_STATE);
	threads = stat_field(line, STAT_THREADS);
	start = stat_field(line, STAT_START);
	if (!state || !threads || !start)
		return -EBADMSG;
	/* Where only the first thread has ended, the process lives on behind a 'Z'. */
	*out_runs = !strchr("ZXx", *state) || strtoul(threads, NULL, 10) > 1;
	*out_start = strtoull(start, NULL, 10);
	return 0;
}

int ckpt_owner_self(struct ckpt_owner *out, struct ckpt_err *err)
{
	struct ckpt_owner self = { .pid = getpid() };
	struct stat st = { .st_ino = 0 };
	bool runs = false;
	int rc = gethostname(self.host, sizeof(self.host)) < 0 ? -errno : 0;

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot tell the name of this host");
	self.host[sizeof(self.host) - 1] = '\0';
	rc = read_proc(BOOT_ID_FILE, self.boot_id, sizeof(self.boot_id));
	if (rc == 0)
		rc = process_start(self.pid, &self.start_ticks, &runs);
	if (rc == 0)
		rc = ckpt_io_fstatat(AT_FDCWD, "/proc/self/ns/pid", &st, 0);
	if (rc < 0)
		return ckpt_err_sys(err, rc,
				    "cannot tell who this process is: /proc must be mounted");
	self.pid_ns = st.st_ino;
	*out = self;
	return 0;
}

void ckpt_owner_print(const struct ckpt_owner *owner, struct ckpt_buf *out)
{
	ckpt_buf_add_str(out, "{\"host\":");
	ckpt_buf_add_json_str(out, owner->host);
	ckpt_buf_printf(out,
			",\"pid\":%lld,\"boot_id\":\"%s\",\"start_ticks\":%llu,\"pid_ns\":%llu}",
			(long long)owner->pid, owner->boot_id,
			(unsigned long long)owner->start_ticks, (unsigned long long)owner->pid_ns);
}

static bool is_member(const struct ckpt_json *root, const char *key, enum ckpt_json_kind kind,
		      const struct ckpt_json **out)
{
	*out = ckpt_json_get(root, key);
	return *out && ckpt_json_kind(*out) == kind;
}

/* A number that may be left out: 0 then, and where it is none. */
static uint64_t optional_number(const struct ckpt_json *root, const char *key)
{
	const struct ckpt_json *value;

	if (!is_member(root, key, CKPT_JSON_INT, &value) || ckpt_json_int(value) < 0)
		return 0;
	return (uint64_t)ckpt_json_int(value);
}

/* Host and pid must be there; what else a writer leaves out is not compared. */
static int decode(const struct ckpt_json *root, struct ckpt_owner *out)
{
	struct ckpt_owner owner = { .pid = 0 };
	const struct ckpt_json *value;
	const char *host;

	if (ckpt_json_kind(root) != CKPT_JSON_OBJECT ||
	    !is_member(root, "host", CKPT_JSON_STRING, &value))
		return -EBADMSG;
	host = ckpt_json_string(value);
	if (strlen(host) >= sizeof(owner.host))
		return -EBADMSG;
	memcpy(owner.host, host, strlen(host) + 1);
	if (!is_member(root, "pid", CKPT_JSON_INT, &value) || ckpt_json_int(value) <= 0)
		return -EBADMSG;
	owner.pid = ckpt_json_int(value);
	if (is_member(root, "boot_id", CKPT_JSON_STRING, &value) &&
	    ckpt_uuid_check(ckpt_json_string(value)) == 0)
		memcpy(owner.boot_id, ckpt_json_string(value), sizeof(owner.boot_id));
	owner.start_ticks = optional_number(root, "start_ticks");
	owner.pid_ns = optional_number(root, "pid_ns");
	*out = owner;
	return 0;
}

int ckpt_owner_parse(const char *text, size_t len_bytes, struct ckpt_owner *out)
{
	struct ckpt_json *root = NULL;
	int rc = ckpt_json_parse(text, len_bytes, &root, NULL);

	if (rc < 0)
		return rc;
	rc = decode(root, out);
	ckpt_json_free(root);
	return rc;
}

bool ckpt_owner_alive(const struct ckpt_owner *owner)
{
	struct ckpt_owner self = { .pid = 0 };
	uint64_t start = 0;
	bool runs = false;
	int rc;

	if (ckpt_owner_self(&self, NULL) < 0 || strcmp(owner->host, self.host) != 0)
		return true;
	if (owner->boot_id[0] != '\0' && strcmp(owner->boot_id, self.boot_id) != 0)
		return false;
	/* Not told, it may be another's, too. */
	if (owner->pid_ns != self.pid_ns)
		return true;
	rc = process_start(owner->pid, &start, &runs);
	if (rc < 0)
		return rc != -ENOENT;
	return runs && (owner->start_ticks == 0 || start == owner->start_ticks);
}

bool ckpt_owner_is_same(const struct ckpt_owner *a, const struct ckpt_owner *b)
{
	return a->pid == b->pid && a->pid_ns == b->pid_ns && a->start_ticks == b->start_ticks &&
	       strcmp(a->boot_id, b->boot_id) == 0 && strcmp(a->host, b->host) == 0;
}

int ckpt_owner_read(int dirfd, const char *path, struct ckpt_owner *out)
{
	/* O_NONBLOCK: opening a FIFO somebody put there must not hang. */
	CKPT_CLOSE int fd = ckpt_io_openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	char text[CKPT_OWNER_LINE_MAX];
	size_t len_bytes = 0;
	const char *end;
	int rc = fd < 0 ? fd : ckpt_io_pread_full(fd, text, sizeof(text), 0, &len_bytes);

	if (rc < 0)
		return rc;
	end = memchr(text, '\n', len_bytes);
	rc = end ? ckpt_owner_parse(text, (size_t)(end - text), out) : -EBADMSG;
	if (rc < 0)
		return rc;
	/* A lock is never touched: it must say all by which its owner can be known to be dead. */
	return out->boot_id[0] != '\0' && out->start_ticks > 0 && out->pid_ns > 0 ? 0 : -EBADMSG;
}
