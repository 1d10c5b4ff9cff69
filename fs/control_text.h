/* control_text.h - the text of MNT/.ckptfs/README. */
#ifndef CKPT_FS_CONTROL_TEXT_H
#define CKPT_FS_CONTROL_TEXT_H

extern const char control_readme[];

#endif
