/* passthrough.c - see passthrough.h. The wire format is the kernel's: include/uapi/linux/fuse.h. */
#include "passthrough.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "base/num.h"

/* What uapi 7.36 (Debian 12's headers) does not name yet; the numbers are kernel ABI. */
#define INIT_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)
#define INIT_PASSTHROUGH (UINT64_C(1) << 37)
#define OPEN_PASSTHROUGH (1U << 7)

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* Any store has it. */
#define PROBE_FILE ".ckptfs/store.json"
/* The file system of a stored file may itself be stacked this deep (1: a plain one below us). */
#define STACK_DEPTH 1

_Static_assert(sizeof(struct fuse_init_out) == 64, "INIT reply is of the 64-byte form");
_Static_assert(sizeof(struct fuse_open_out) == 16, "OPEN reply has 16 bytes");
/* Where uapi 7.40 has max_stack_depth and backing_id; older headers call both unused. */
#define INIT_STACK_DEPTH_AT (offsetof(struct fuse_init_out, flags2) + sizeof(uint32_t))
#define OPEN_BACKING_ID_AT (sizeof(struct fuse_open_out) - sizeof(int32_t))

/* Does libfuse have words of its own (3.17)? */
#ifdef FUSE_CAP_PASSTHROUGH
#define LIBFUSE_SPEAKS_IT 1
#else
#define LIBFUSE_SPEAKS_IT 0
#endif

enum state {
	STATE_OFF, /* not wanted, or not before INIT */
	STATE_ACTIVE,
	STATE_REFUSED,
};

/* Set by passthrough_attach and the INIT exchange, both before any other request. */
static struct {
	int fuse_fd;
	bool wanted;
	uint64_t init_unique;
	uint64_t kernel_flags;
	bool direct_mmap;
	int probe_fd; /* a folder of the store */
	void (*ready)(void *ctx);
	void *ready_ctx;
	_Atomic int state;
	_Atomic(const char *) reason;
} pt = { .fuse_fd = -1, .probe_fd = -1, .reason = "not-mounted" };

/* The id that the next OPEN reply of this thread carries; 0 is none (ids start at 1). */
static _Thread_local int32_t pending_id;

static void refuse(const char *reason)
{
	atomic_store(&pt.reason, reason);
	atomic_store(&pt.state, STATE_REFUSED);
}

/* --- the way in: note what the kernel offers ------------------------------------ */

static void note_init(const void *buf, size_t len_bytes)
{
	struct fuse_in_header head;
	struct fuse_init_in init;

	if (len_bytes < sizeof(head) + offsetof(struct fuse_init_in, flags2))
		return;
	memcpy(&head, buf, sizeof(head));
	if (head.opcode != FUSE_INIT)
		return;
	memset(&init, 0, sizeof(init));
	memcpy(&init, (const char *)buf + sizeof(head),
	       num_min(sizeof(init), len_bytes - sizeof(head)));
	pt.init_unique = head.unique;
	pt.kernel_flags = init.flags;
	if (init.flags & FUSE_INIT_EXT)
		pt.kernel_flags |= (uint64_t)init.flags2 << 32;
}

static ssize_t read_request(int fd, void *buf, size_t buf_len, void *userdata)
{
	ssize_t len = read(fd, buf, buf_len);

	(void)userdata;
	if (len > 0 && pt.init_unique == 0)
		note_init(buf, (size_t)len);
	return len;
}

/* --- the first file ----------------------------------------------------------------- */

/* Once the kernel has agreed: will it take a file of this store? */
static void probe(void)
{
	int32_t id = 0;
	int fd;

	if (!passthrough_active())
		return;
	fd = openat(pt.probe_fd, PROBE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	/* Where it cannot be opened each file is asked for by itself. */
	if (fd < 0)
		return;
	switch (-passthrough_backing_open(fd, &id)) {
	case 0:
		passthrough_backing_close(id);
		break;
	case EPERM:
		refuse("no-CAP_SYS_ADMIN");
		break;
	case ELOOP:
		refuse("store-on-stacked-file-system");
		break;
	case EOPNOTSUPP:
		refuse("store-file-system-has-none");
		break;
	default:
		refuse("kernel-refuses");
	}
	close(fd);
}

/* --- the way out: add what libfuse cannot say ------------------------------------- */

/* What we want of the kernel, of what it has. */
static uint64_t choose(void)
{
	uint64_t flags = pt.kernel_flags & INIT_DIRECT_IO_ALLOW_MMAP;

	pt.direct_mmap = flags != 0;
	if (pt.wanted && (pt.kernel_flags & INIT_PASSTHROUGH)) {
		flags |= INIT_PASSTHROUGH;
		atomic_store(&pt.reason, "");
		atomic_store(&pt.state, STATE_ACTIVE);
	} else if (pt.wanted) {
		refuse("kernel-has-none");
	}
	return flags;
}

static void edit_init(struct fuse_init_out *out)
{
	const uint32_t depth = STACK_DEPTH;
	uint64_t flags = choose();

	/*
	 * Set-user-ID bits and capabilities are taken off by the stored file system, or when a file
	 * is opened (file.c). Else each write(2) would ask for security.capability first, also one
	 * that passes through: a request each (measured). libfuse has no word for it.
	 */
	out->flags |= (uint32_t)pt.kernel_flags & FUSE_HANDLE_KILLPRIV_V2;
	if (LIBFUSE_SPEAKS_IT || flags == 0)
		return;
	out->flags |= FUSE_INIT_EXT;
	out->flags2 |= (uint32_t)(flags >> 32);
	if (flags & INIT_PASSTHROUGH)
		memcpy((char *)out + INIT_STACK_DEPTH_AT, &depth, sizeof(depth));
}

static void edit_open(struct fuse_open_out *out)
{
	out->open_flags |= OPEN_PASSTHROUGH;
	memcpy((char *)out + OPEN_BACKING_ID_AT, &pending_id, sizeof(pending_id));
	pending_id = 0;
}

/* OPEN's reply is the open_out alone, CREATE's has the entry before it; both end with it. */
static bool is_open_reply(const struct iovec *last)
{
	return last->iov_len == sizeof(struct fuse_open_out) ||
	       last->iov_len == sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out);
}

static bool is_init_reply(const struct fuse_out_header *head, const struct iovec *iov, int count)
{
	return count == 2 && head->error == 0 && head->unique != 0 &&
	       head->unique == pt.init_unique && iov[1].iov_len == sizeof(struct fuse_init_out);
}

static ssize_t write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *head = iov[0].iov_base;
	bool is_init = is_init_reply(head, iov, count);
	ssize_t sent;

	(void)userdata;
	if (is_init)
		edit_init(iov[1].iov_base);
	else if (pending_id != 0 && count == 2 && head->error == 0 && is_open_reply(&iov[1]))
		edit_open((struct fuse_open_out *)((char *)iov[1].iov_base + iov[1].iov_len) - 1);
	sent = writev(fd, iov, count);
	if (is_init && sent > 0) {
		probe();
		pt.ready(pt.ready_ctx);
	}
	return sent;
}

int passthrough_attach(struct fuse_session *se, bool wanted, int probe_fd, void (*ready)(void *ctx),
		       void *ctx, struct ckpt_err *err)
{
	static const struct fuse_custom_io io = { .writev = write_reply, .read = read_request };
	int rc;

	pt.fuse_fd = fuse_session_fd(se);
	pt.probe_fd = probe_fd;
	pt.wanted = wanted;
	pt.ready = ready;
	pt.ready_ctx = ctx;
	atomic_store(&pt.reason, wanted ? "not-initialised" : "passthrough=off");
	rc = fuse_session_custom_io(se, &io, pt.fuse_fd);
	if (rc != 0)
		return ckpt_err_sys(err, rc < 0 ? rc : -EIO,
				    "cannot take over the FUSE connection");
	return 0;
}

void passthrough_detach(void)
{
	pt.fuse_fd = -1;
	atomic_store(&pt.state, STATE_OFF);
}

void passthrough_agree(struct fuse_conn_info *conn)
{
#if LIBFUSE_SPEAKS_IT
	conn->want |= conn->capable & FUSE_CAP_DIRECT_IO_ALLOW_MMAP;
	if (pt.wanted)
		conn->want |= conn->capable & FUSE_CAP_PASSTHROUGH;
	conn->max_backing_stack_depth = STACK_DEPTH - 1;
#else
	(void)conn;
#endif
}

bool passthrough_active(void)
{
	return atomic_load(&pt.state) == STATE_ACTIVE;
}

const char *passthrough_reason(void)
{
	return atomic_load(&pt.reason);
}

bool passthrough_direct_mmap(void)
{
	return pt.direct_mmap;
}

/* --- backing ids --------------------------------------------------------------------- */

int passthrough_backing_open(int fd, int32_t *out_id)
{
	struct backing_map map = { .fd = fd };
	int id;

	if (!passthrough_active())
		return -EOPNOTSUPP;
	id = ioctl(pt.fuse_fd, IOC_BACKING_OPEN, &map);
	if (id <= 0)
		return id < 0 ? -errno : -EIO;
	*out_id = id;
	return 0;
}

void passthrough_backing_close(int32_t id)
{
	uint32_t arg = (uint32_t)id;

	assert(id > 0);
	if (pt.fuse_fd < 0)
		return;
	/* The id goes with the connection at the latest; there is nobody to tell. */
	ckpt_ignore(ioctl(pt.fuse_fd, IOC_BACKING_CLOSE, &arg));
}

int passthrough_reply_open(struct fuse_req *req, struct fuse_file_info *fi, int32_t id)
{
	assert(id > 0 && pending_id == 0);
#if LIBFUSE_SPEAKS_IT
	fi->backing_id = id;
	return fuse_reply_open(req, fi);
#else
	int rc;

	pending_id = id;
	rc = fuse_reply_open(req, fi);
	pending_id = 0; /* it did not go out */
	return rc;
#endif
}

int passthrough_reply_create(struct fuse_req *req, const struct fuse_entry_param *entry,
			     struct fuse_file_info *fi, int32_t id)
{
	assert(id > 0 && pending_id == 0);
#if LIBFUSE_SPEAKS_IT
	fi->backing_id = id;
	return fuse_reply_create(req, entry, fi);
#else
	int rc;

	pending_id = id;
	rc = fuse_reply_create(req, entry, fi);
	pending_id = 0; /* it did not go out */
	return rc;
#endif
}
