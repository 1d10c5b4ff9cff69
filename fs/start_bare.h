/* start_bare.h - what is said about a mount of a folder that is no store. */
#ifndef CKPT_FS_START_BARE_H
#define CKPT_FS_START_BARE_H

#include "mount_options.h"

/**
 * start_tell_bare - of a folder that is no store: tell whoever mounted it, on stderr, what that
 * means, and whether a checkpoint is recognised in it. Of a store: nothing.
 */
void start_tell_bare(const struct mount_options *options);

#endif
