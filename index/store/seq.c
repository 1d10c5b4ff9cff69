/*
 * seq.c - sequence numbers, by which the checkpoints of a store are ordered.
 * `.ckptfs/seq` holds the last one given, as text. It is a hint that spares
 * numbers from being given twice while commits run; what manifests show counts
 * as well, so a lost or damaged file costs nothing, and neither does a copied
 * checkpoint that came with a higher number.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store_index.h"
#include "store/store_internal.h"

#define SEQ_FILE CKPT_CONTROL_DIR "/seq"
/* Ten digits and a newline, with room to see that there is more. */
#define SEQ_TEXT_SIZE 16
/* The lock is held for a few system calls; who waits longer waits for a stopped process. */
#define LOCK_WAIT_MS 10000
#define LOCK_POLL_NS (5L * 1000 * 1000)

/* --- what the manifests show ------------------------------------------------------------ */

static int note_seq(void *ctx, const struct ckpt_found *found)
{
	uint64_t *highest = ctx;

	if (found->row)
		*highest = num_max(*highest, found->row->seq);
	return 0;
}

/* --- what the file says ----------------------------------------------------------------- */

/*
 * OFD locks work across NFS, and belong to the descriptor: no other close() in this process drops
 * them.
 */
static int lock(int fd)
{
	const struct timespec poll = { .tv_nsec = LOCK_POLL_NS };
	uint64_t deadline_ms = ckpt_clock_mono_ms() + LOCK_WAIT_MS;

	for (;;) {
		struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

		if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
			return 0;
		/*
		 * A file system without locks: two commits at once may get one number, which
		 * (committed, id) then orders.
		 */
		if (errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK || errno == EINVAL)
			return 0;
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return -errno;
		if (ckpt_clock_mono_ms() >= deadline_ms)
			return -EBUSY;
		nanosleep(&poll, NULL);
	}
}

/* The number in the file; 0 where there is none, or no number. */
static int read_last(int fd, uint64_t *out)
{
	char text[SEQ_TEXT_SIZE];
	size_t len = 0;
	int rc = ckpt_io_pread_full(fd, text, sizeof(text) - 1, 0, &len);

	if (rc < 0)
		return rc;
	text[len] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (num_parse_u64(text, out) < 0)
		*out = 0;
	return 0;
}

/*
 * In place, because the lock is on this very file. Not synced: behind a crash the manifests tell.
 */
static int write_last(int fd, uint64_t seq)
{
	char text[SEQ_TEXT_SIZE];
	struct stat st;
	int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)seq);
	int rc;

	assert(len > 0 && (size_t)len < sizeof(text));
	rc = ckpt_io_pwrite_full(fd, text, (size_t)len, 0);
	if (rc == 0)
		rc = ckpt_io_fstat(fd, &st);
	/* Only a damaged file is longer: numbers do not shrink. */
	if (rc == 0 && st.st_size > len)
		rc = ckpt_io_ftruncate(fd, (uint64_t)len);
	return rc;
}

/* Take the next number above @highest and what the locked file says. */
static int take(int fd, uint64_t highest, uint64_t *out)
{
	uint64_t last = 0;
	int rc = lock(fd);

	if (rc == 0)
		rc = read_last(fd, &last);
	if (rc < 0)
		return rc;
	last = num_max(last, highest);
	if (last >= CKPT_SEQ_MAX)
		return -EOVERFLOW;
	rc = write_last(fd, last + 1);
	if (rc == 0)
		*out = last + 1;
	return rc;
}

int ckpt_store_next_seq(struct ckpt_store *store, uint64_t *out, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	uint64_t highest = 0;
	/*
	 * Outside the lock, because it takes long; a commit that ends meanwhile has left its
	 * number in the file.
	 */
	int rc = ckpt_store_walk(store, "", note_seq, &highest, err);

	if (rc < 0)
		return rc;
	rc = fd = ckpt_io_open_beneath(store->fd, SEQ_FILE, O_RDWR | O_CREAT, 0644);
	if (rc >= 0)
		rc = take(fd, highest, out);
	if (rc == -EBUSY)
		return ckpt_err_set(err, rc,
				    "another process holds '%s/" SEQ_FILE
				    "' and does not let go; end it and try again",
				    store->path);
	if (rc == -EOVERFLOW)
		return ckpt_err_set(
			err, rc,
			"'%s/" SEQ_FILE
			"' or a manifest has the highest sequence number there is; remove the file if it is wrong",
			store->path);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot take a sequence number from '%s/" SEQ_FILE "'",
				    store->path);
	return 0;
}
