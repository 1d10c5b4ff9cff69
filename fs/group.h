/*
 * group.h - the newest committed checkpoint of each group, asked of the store
 * at most once a second: the store looks at every folder below the group for
 * it, which takes its time where there are many. So what may ask runs in a
 * worker: see request_start().
 */
#ifndef CKPT_FS_GROUP_H
#define CKPT_FS_GROUP_H

#include "base/buf.h"
#include "base/err.h"
#include "fs.h"

struct groups *groups_new(void);
void groups_free(struct groups *groups);
/**
 * groups_expire - ask again at the next need: something was committed or dropped through this
 * mount.
 */
void groups_expire(struct groups *groups);

/**
 * group_latest - name below the group @path of what was committed last at or below it, appended to
 * @out
 * Errors: -ENOENT nothing committed there; else system (logged).
 */
int group_latest(struct fs *fs, const char *path, struct ckpt_buf *out) CKPT_MUST_CHECK;

#endif
