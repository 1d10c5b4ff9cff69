/*
 * view.h - layer header: files that are stored nowhere. Which there are in a
 * checkpoint, how large each is, and which bytes of which shards make it up.
 *
 * A view tree belongs to one checkpoint and never changes. Its nodes are numbered:
 * for one manifest the numbers are the same in every process. What lies in the
 * control folder of a folder that holds a tensor set:
 *
 *   tensors/ESC(FQN).npy              (.bf16-as-u16.npy, .f8-as-u8.npy)
 *   safetensors/all.safetensors       every tensor of the set
 *   safetensors/ESC(GROUP).safetensors  those of one group, without "GROUP." before the FQN
 *   hf/model.safetensors              the model, see below
 *   hf/config.json …                  companions of the model: from the set's folder, else the
 *                                     checkpoint, else its group; names of a fixed list
 *
 * The model is group "model", else "model_state_dict", "state_dict" or "module"; else the tensors
 * in no group but the optimizer's (view_parts.c); else what "app.model." names where "app.optim."
 * is there, too. A group's name before the FQN is left out, one's own "model." never.
 *
 * Numbers run through the sets by folder; in each through its folders, the fixed list of hf/, the
 * safetensors views and the tensors, by name.
 *
 * ESC and the layout of safetensors: ckptfs-format(5), st_layout.c. Bytes entries and complex
 * tensors are in no safetensors view. A group called "all", and a tensor whose file name is taken,
 * are left out, with a note.
 * Nothing here opens a database or knows a mount.
 */
#ifndef CKPT_VIEW_VIEW_H
#define CKPT_VIEW_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"
#include "view/diff.h"
#include "view/statistics.h"

/* --- the tree -------------------------------------------------------------------------------- */

struct ckpt_views;

/* Where the checkpoint lies. */
struct ckpt_views_from {
	int dirfd;	   /* its folder; borrowed during the call */
	int group_fd;	   /* the folder above it, for companions of hf/; -1: none */
	const char *label; /* its name in messages */
	bool committed;	   /* read its manifest; else look at its files as they are now */
};

/* Its folder's .ckptfs is nowhere: no tensor set. */
#define CKPT_VIEW_NONE UINT32_MAX
/* Node numbers stay below this; a checkpoint of more tensors has no views, and a note says so. */
#define CKPT_VIEW_NODES_MAX (UINT32_C(1) << 25)

/**
 * ckpt_views_load - the views of a checkpoint
 * @out: ckpt_views_unref() it. One without tensor sets is no error: it has no nodes.
 * Of a committed one the manifest says what there is; where it tells of no tensor, and of one that
 * is not committed, ckpt_contents_read() does.
 * Errors: as ckpt_manifest_load, ckpt_contents_read. Thread-safe: yes.
 */
int ckpt_views_load(const struct ckpt_views_from *from, struct ckpt_views **out,
		    struct ckpt_err *err) CKPT_MUST_CHECK;
struct ckpt_views *ckpt_views_ref(struct ckpt_views *views);
void ckpt_views_unref(struct ckpt_views *views);

/* What a node is. */
struct ckpt_view_node {
	const char *name; /* borrowed from the tree */
	bool is_dir;
	/*
	 * A companion that lies outside the checkpoint may come and go: size and existence are what
	 * they were when the tree was loaded.
	 */
	bool is_outside;
	uint64_t size_bytes; /* files */
	uint32_t parent;     /* CKPT_VIEW_NONE for the root of a set */
};

/** ckpt_views_set_count - tensor sets; their folders are @out of ckpt_views_set, by bytes. */
size_t ckpt_views_set_count(const struct ckpt_views *views);
/** ckpt_views_set - folder of set @idx in the checkpoint ("" is its top), and its root node. */
const char *ckpt_views_set(const struct ckpt_views *views, size_t idx, uint32_t *out_root);
/** ckpt_views_root - the root node of the set of @folder; CKPT_VIEW_NONE where it holds none. */
uint32_t ckpt_views_root(const struct ckpt_views *views, const char *folder);
/** ckpt_views_node_count - all nodes are below this. */
uint32_t ckpt_views_node_count(const struct ckpt_views *views);
/** ckpt_views_node - false: no such node (a companion that is not there has a number all the same). */
bool ckpt_views_node(const struct ckpt_views *views, uint32_t node, struct ckpt_view_node *out);
/** ckpt_views_tensor - the tensor that a .npy node is; NULL: another node. Borrowed. */
const struct ckpt_tensor *ckpt_views_tensor(const struct ckpt_views *views, uint32_t node);
/** ckpt_views_child - by name; CKPT_VIEW_NONE. O(log n). */
uint32_t ckpt_views_child(const struct ckpt_views *views, uint32_t dir, const char *name);
/**
 * ckpt_views_next - the child of @dir behind @child (CKPT_VIEW_NONE: the first), by bytes of the
 * name; CKPT_VIEW_NONE behind the last. O(1).
 */
uint32_t ckpt_views_next(const struct ckpt_views *views, uint32_t dir, uint32_t child);
/**
 * ckpt_views_find - the node of a path in the checkpoint, as ".ckptfs/hf/model.safetensors" or
 * "sub/.ckptfs/tensors"; CKPT_VIEW_NONE
 */
uint32_t ckpt_views_find(const struct ckpt_views *views, const char *path);
/** ckpt_views_contents - tensors, bytes entries and notes behind the views; borrowed. */
const struct ckpt_contents *ckpt_views_contents(const struct ckpt_views *views);
/** ckpt_views_manifest - of a committed one; NULL. Borrowed. */
const struct ckpt_manifest *ckpt_views_manifest(const struct ckpt_views *views);

/* --- sources ---------------------------------------------------------------------------------- */

/* A stored file, or a part of a pack, that bytes of views come from. */
struct ckpt_view_source {
	const char *path; /* in the checkpoint; in its group, where is_outside */
	bool is_outside;
	uint64_t size_bytes;
	const struct ckpt_shard *shard; /* its sums; NULL: nothing is known to verify it with */
	size_t shard_idx; /* among the shards of the manifest, where there is a shard */
};

size_t ckpt_views_source_count(const struct ckpt_views *views);
/** ckpt_views_source_find - of a file in the checkpoint; CKPT_VIEW_NONE. O(log n). */
uint32_t ckpt_views_source_find(const struct ckpt_views *views, const char *path);
/** ckpt_views_companion - the source of a companion's node; CKPT_VIEW_NONE: another node. */
uint32_t ckpt_views_companion(const struct ckpt_views *views, uint32_t node);
void ckpt_views_source(const struct ckpt_views *views, uint32_t source,
		       struct ckpt_view_source *out);

/* --- the map ------------------------------------------------------------------------------------ */

/* Bytes of a view that lie in memory, or regularly in one source. */
struct ckpt_view_piece {
	const void *memory; /* borrowed from the view file; NULL: of a source */
	uint32_t source;
	uint64_t offset_bytes; /* of the first run in the source */
	/* run_count runs of run_bytes, stride_bytes from start to start; 1 run where they touch. */
	uint64_t run_bytes;
	uint64_t run_count;
	uint64_t stride_bytes;
};

/* One file of the tree, made ready: its header printed, its tensors' boxes ordered. */
struct ckpt_view_file;

/**
 * ckpt_view_file_open - make a file node ready
 * @out: ckpt_view_file_close() it; it keeps the tree alive
 * Errors: -EISDIR; -ENOENT; -ENOMEM. Cost: O(tensors and boxes of it).
 */
int ckpt_view_file_open(struct ckpt_views *views, uint32_t node, struct ckpt_view_file **out,
			struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_view_tensor_open - the bare bytes of one tensor, row-major, as a file
 * @tensor_idx: in ckpt_views_contents()
 */
int ckpt_view_tensor_open(struct ckpt_views *views, size_t tensor_idx, struct ckpt_view_file **out,
			  struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_view_file_close(struct ckpt_view_file *file);
uint64_t ckpt_view_file_size(const struct ckpt_view_file *file);
struct ckpt_views *ckpt_view_file_views(const struct ckpt_view_file *file);

/**
 * ckpt_view_map - what makes up bytes [@offset, @offset + @len_bytes) of a view
 * @pieces: at most @piece_max are filled in, in order, none empty
 * @out_count: how many
 * Returns how many bytes they are: fewer than @len_bytes where @piece_max is reached, or the end.
 * Thread-safe: yes, holds no lock, allocates nothing. Cost: O(log boxes) and O(1) a piece.
 */
size_t ckpt_view_map(const struct ckpt_view_file *file, uint64_t offset, size_t len_bytes,
		     struct ckpt_view_piece *pieces, size_t piece_max, size_t *out_count);

/* --- reading, without a mount ---------------------------------------------------------------- */

/* Opens sources as they are needed, and verifies each block that it uses. */
struct ckpt_view_reader;

/**
 * ckpt_view_reader_new - read views of a tree
 * @from: as given to ckpt_views_load(); descriptors are duplicated
 * @out:  ckpt_view_reader_free() it
 */
int ckpt_view_reader_new(struct ckpt_views *views, const struct ckpt_views_from *from,
			 struct ckpt_view_reader **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_view_reader_free(struct ckpt_view_reader *reader);
/* Where bytes go. */
struct ckpt_view_room {
	void *data;
	size_t len_bytes;
	size_t got_bytes; /* set by ckpt_view_read */
};

/**
 * ckpt_view_read - bytes of a view
 * @offset: any; @room: filled, up to the end of the view
 * Errors: -EBADMSG a block is damaged (message as ckpt_damage_print, with the remedy); -ESTALE a
 * source changed its size; else system.
 * Thread-safe: yes, several threads may read through one reader; blocks that were found right are
 * kept, up to some MiB, so that small reads in order check each block once.
 */
int ckpt_view_read(struct ckpt_view_reader *reader, const struct ckpt_view_file *file,
		   uint64_t offset, struct ckpt_view_room *room, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* --- sums --------------------------------------------------------------------------------------- */

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
