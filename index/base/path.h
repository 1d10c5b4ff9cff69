/*
 * path.h - names: of checkpoints, of what lies in them, and how they are
 * printed and escaped. Pure string work: no system calls, no allocation but
 * where said. Thread-safe throughout. Source: ckptfs-format(5) "Names".
 */
#ifndef CKPT_BASE_PATH_H
#define CKPT_BASE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "err.h"

/* The name of every control folder: a store's, a checkpoint's, a group's. */
#define CKPT_CONTROL_DIR ".ckptfs"

/* A checkpoint's name: path below the store. More levels than this is a loop or a mistake. */
#define CKPT_NAME_DEPTH_MAX 8
/* One component, as the kernel has it (NAME_MAX). */
#define CKPT_COMPONENT_MAX 255
/*
 * A path inside a checkpoint, in bytes and in levels: PATH_MAX less room for the store's own path.
 */
#define CKPT_ENTRY_PATH_MAX 3072
#define CKPT_ENTRY_DEPTH_MAX 64

/**
 * ckpt_path_is_utf8 - well-formed UTF-8 (no surrogates, no overlong forms) without control
 * characters (C0, DEL, C1).
 */
bool ckpt_path_is_utf8(const char *text, size_t len_bytes);
/** ckpt_text_is_utf8 - well-formed UTF-8, control characters included. */
bool ckpt_text_is_utf8(const char *text);

/**
 * ckpt_path_check_name - may @name be the name of a checkpoint?
 * @name: "run1/step-100": 1 to 8 components joined by single slashes, none of them "", ".", "..",
 *        ".ckptfs"
 * Errors: -EINVAL, with the reason; -ENAMETOOLONG.
 */
int ckpt_path_check_name(const char *name, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_path_check_entry - may @path name an entry of a checkpoint? Relative, as above, at most
 * CKPT_ENTRY_DEPTH_MAX levels. Errors as ckpt_path_check_name.
 */
int ckpt_path_check_entry(const char *path, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_path_check_pack - ".ckptfs/pack-" and five or more digits, nothing else. Errors: -EINVAL.
 */
int ckpt_path_check_pack(const char *path, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_path_component_is_temporary - matches one of the patterns of ckptfs-format(5) "Temporary
 * names" (`*.tmp`, `*.partial`, …)?
 */
bool ckpt_path_component_is_temporary(const char *component);
/** ckpt_path_is_temporary - any component of @name is temporary. */
bool ckpt_path_is_temporary(const char *name);

/**
 * ckpt_path_final_name - the lasting name behind a temporary one
 * @name: "run1/step-9.partial"; only the last component may be temporary
 * @out:  receives "run1/step-9" (appended)
 * Errors: -EINVAL when nothing lasting is left, or an upper component is temporary.
 */
int ckpt_path_final_name(const char *name, struct ckpt_buf *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/** ckpt_path_basename - the last component; points into @path, which has no trailing slash. */
const char *ckpt_path_basename(const char *path);

/** ckpt_path_join - append "@dir/@name" (just @name where @dir is "" or ".") to @out. */
void ckpt_path_join(struct ckpt_buf *out, const char *dir, const char *name);

/** ckpt_path_is_below - @path equals @dir or lies below it; @dir "" holds everything. */
bool ckpt_path_is_below(const char *path, const char *dir);

/**
 * ckpt_path_escape - append @text for a message or a terminal: control characters and bytes that
 * are no UTF-8 as \xHH.
 */
void ckpt_path_escape(struct ckpt_buf *out, const char *text);

/**
 * ckpt_path_escape_fqn - append ESC(@fqn) of ckptfs-format(5) "Shard names": '/', '%', bytes <
 * 0x21, 0x7f and a leading '.' percent-encoded; over 200 bytes the first 160, '~' and the XXH3-64
 * in hex.
 */
void ckpt_path_escape_fqn(struct ckpt_buf *out, const char *fqn);

/**
 * ckpt_path_step - the last run of decimal digits in the last component of @name; -ENOENT when
 * there is none or it exceeds 2^53.
 */
int ckpt_path_step(const char *name, unsigned long long *out) CKPT_MUST_CHECK;

#endif
