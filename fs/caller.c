/* caller.c - see caller.h. Sources: setfsuid(2), capabilities(7), unshare(2) CLONE_FS. */
#include "caller.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Has this thread a umask of its own? Others make control folders meanwhile, with the daemon's. */
static bool own_umask(void)
{
	static _Thread_local enum {
		UNKNOWN,
		OWN,
		SHARED
	} umask_is = UNKNOWN;

	if (umask_is == UNKNOWN)
		umask_is = unshare(CLONE_FS) == 0 ? OWN : SHARED;
	return umask_is == OWN;
}

/*
 * setfsuid(2) has dropped what lets root into any folder. The kernel has checked the caller with
 * all its groups, which this thread does not have: so that right comes back.
 */
static void keep_access(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].effective |= data[0].permitted & (1U << CAP_DAC_OVERRIDE);
	/* Without it the call that follows says EACCES where only a group would let it in. */
	ckpt_ignore((int)syscall(SYS_capset, &header, data));
}

void caller_enter(const struct fs *fs, const struct caller *who, struct caller_own *own)
{
	*own = (struct caller_own){ .uid = geteuid(), .gid = getegid() };
	own->has_umask = own_umask();
	if (own->has_umask)
		own->umask = umask(0);
	if (!fs->is_root || (who->uid == own->uid && who->gid == own->gid))
		return;
	own->has_ids = true;
	/* They fail for ids that are not mapped here (a user namespace): then it stays our own. */
	ckpt_ignore(setfsgid(who->gid));
	if (who->uid != own->uid) {
		ckpt_ignore(setfsuid(who->uid));
		keep_access();
	}
}

void caller_leave(const struct caller_own *own)
{
	if (own->has_ids) {
		ckpt_ignore(setfsuid(own->uid));
		ckpt_ignore(setfsgid(own->gid));
	}
	if (own->has_umask)
		umask(own->umask);
}
