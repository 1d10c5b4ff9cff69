/*
 * verify_learn.c - whole digests that a manifest lacks, because no one writer saw
 * all bytes of the shard: a verification reads them anyhow. What it learned is
 * kept in the store's catalog; what cannot be kept is learned again by the next.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "store/commit_internal.h"

int ckpt_learning_begin(struct ckpt_learning *learning, const struct ckpt_verify_options *options,
			int dirfd, const char *label, const struct ckpt_manifest *manifest,
			struct ckpt_err *err)
{
	struct ckpt_manifest_peek peek;
	int rc;

	learning->unknown = array_alloc(num_max(manifest->shard_count, 1), sizeof(bool));
	if (!learning->unknown)
		return ckpt_err_sys(err, -ENOMEM, "cannot verify '%s'", label);
	/* Ranks that share the work each see a part of what there is. */
	if (!options->store || options->part_count > 0)
		return 0;
	rc = ckpt_manifest_peek(dirfd, label, &peek, err);
	if (rc < 0)
		return rc;
	learning->manifest_sum = peek.xxh128;
	ckpt_manifest_head_release(&peek.head);
	rc = ckpt_catalog_load(ckpt_store_fd(options->store), manifest->head.id,
			       learning->manifest_sum, &learning->catalog);
	if (rc == -ENOMEM)
		return ckpt_err_sys(err, rc, "cannot verify '%s'", label);
	for (size_t i = 0; i < manifest->shard_count; i++) {
		const struct ckpt_shard *shard = &manifest->shards[i];

		learning->unknown[i] = !shard->has_xxh128 &&
				       !ckpt_catalog_find(&learning->catalog, shard->path);
	}
	return 0;
}

int ckpt_learning_add(struct ckpt_learning *learning, size_t shard_idx, struct ckpt_digest xxh128)
{
	int rc = array_grow(&learning->learned, &learning->learned_cap, learning->learned_count,
			    sizeof(*learning->learned));

	if (rc == 0)
		learning->learned[learning->learned_count++] =
			(struct ckpt_learned){ .shard_idx = shard_idx, .xxh128 = xxh128 };
	return rc;
}

void ckpt_learning_keep(struct ckpt_learning *learning, const struct ckpt_verify_options *options,
			const char *label, const struct ckpt_manifest *manifest)
{
	int rc = 0;

	if (learning->learned_count == 0 || ckpt_store_read_only(options->store))
		return;
	/* What was learned before stays; it is put in order where it is saved. */
	for (size_t i = 0; rc == 0 && i < learning->learned_count; i++)
		rc = ckpt_catalog_add(&learning->catalog,
				      manifest->shards[learning->learned[i].shard_idx].path,
				      learning->learned[i].xxh128);
	if (rc == 0)
		rc = ckpt_catalog_save(options->store, manifest->head.id, learning->manifest_sum,
				       &learning->catalog, NULL);
	/* Shards come behind the header and the folders. */
	if (rc == 0)
		ckpt_catalog_tell_index(options->store, label, learning->manifest_sum,
					(uint32_t)(2 + manifest->dir_count), learning->learned,
					learning->learned_count);
}

void ckpt_learning_release(struct ckpt_learning *learning)
{
	free(learning->unknown);
	free(learning->learned);
	ckpt_catalog_release(&learning->catalog);
}
