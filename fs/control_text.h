/* control_text.h - the texts of MNT/.ckptfs/README and MNT/.ckptfs/status. */
#ifndef CKPT_FS_CONTROL_TEXT_H
#define CKPT_FS_CONTROL_TEXT_H

#include "base/buf.h"
#include "fs.h"

extern const char control_readme[];

/**
 * control_status - what runs through this mount, appended as a JSON array with a line for each
 * checkpoint: that is written, whose sums are being made, that is being removed
 */
void control_status(struct fs *fs, struct ckpt_buf *out);

#endif
