/*
 * manifest_wire.h - a manifest as one rank tells it to others, which need not
 * parse and check its text again: that takes ten times as long.
 */
#ifndef CKPT_MPI_MANIFEST_WIRE_H
#define CKPT_MPI_MANIFEST_WIRE_H

#include "store/store.h"
#include "wire.h"

/** ckpt_wire_put_shard - append one shard. */
void ckpt_wire_put_shard(struct ckpt_buf *out, const struct ckpt_shard *shard);
/**
 * ckpt_wire_shard - the next shard into @out, also half filled: ckpt_shard_release() it. -EBADMSG,
 * -ENOMEM.
 */
int ckpt_wire_shard(struct ckpt_wire *in, struct ckpt_shard *out) CKPT_MUST_CHECK;

/** ckpt_wire_put_manifest - append all that it holds. */
void ckpt_wire_put_manifest(struct ckpt_buf *out, const struct ckpt_manifest *manifest);
/** ckpt_wire_manifest - the whole message as a manifest; ckpt_manifest_release() it. -EBADMSG, -ENOMEM. */
int ckpt_wire_manifest(const struct ckpt_buf *from, struct ckpt_manifest *out) CKPT_MUST_CHECK;

#endif
