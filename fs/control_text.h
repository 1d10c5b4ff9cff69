/* control_text.h - the texts of MNT/.ckptfs/README and MNT/.ckptfs/status. */
#ifndef CKPT_FS_CONTROL_TEXT_H
#define CKPT_FS_CONTROL_TEXT_H

#include "base/buf.h"
#include "fs.h"

extern const char control_readme[];
extern const char control_readme_bare[]; /* of a folder that is no store */

/**
 * control_status - what runs, appended as a JSON array with a line for each checkpoint: that is
 * written through this mount, whose sums are being made, that is being removed; and those that any
 * process saves in this store
 */
void control_status(struct fs *fs, struct ckpt_buf *out);

#endif
