/*
 * view.h - layer header: which bytes make up a file that is stored nowhere.
 */
#ifndef CKPT_VIEW_VIEW_H
#define CKPT_VIEW_VIEW_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"

/**
 * ckpt_view_sums - the text of XXH128SUMS: "<32 hex>  path\n" for every shard whose whole digest
 * is known, by bytes of the path
 * @slot: of a checkpoint whose entries are indexed
 * @out:  receives the text (appended); `xxhsum -c` reads it in the checkpoint's folder
 * Errors: system. Thread-safe: yes. Time: one scan of the checkpoint's entries.
 */
int ckpt_view_sums(struct ckpt_db *db, uint64_t slot, struct ckpt_buf *out, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/**
 * ckpt_view_sums_manifest - the same from a manifest in memory (commands that work without a
 * store).
 */
int ckpt_view_sums_manifest(const struct ckpt_manifest *manifest, struct ckpt_buf *out)
	CKPT_MUST_CHECK;

#endif
