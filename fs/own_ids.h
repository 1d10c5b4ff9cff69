/* own_ids.h - whose files are, as seen from a user namespace that knows one user only. */
#ifndef CKPT_FS_OWN_IDS_H
#define CKPT_FS_OWN_IDS_H

#include <sys/stat.h>

/**
 * own_ids_show - in such a namespace (`ckptfs run` by a user), all is shown as this user's own: ids
 * that are not mapped the kernel would not let anybody write to, whatever the groups say. The
 * stored folder still decides what may be done: the daemon acts as this user, in all his groups.
 * Elsewhere nothing is changed.
 */
void own_ids_show(struct stat *st);

#endif
