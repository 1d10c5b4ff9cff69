/*
 * view_internal.h - what the files of index/view that make views share among themselves.
 * May be included only by index/view/<anything>.c.
 */
#ifndef CKPT_VIEW_VIEW_INTERNAL_H
#define CKPT_VIEW_VIEW_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/box.h"
#include "base/buf.h"
#include "format/format.h"
#include "store/contents.h"
#include "store/manifest.h"
#include "store/store.h"
#include "view/view.h"

/* Names in hf/, those of companions and "model.safetensors", by bytes. */
#define VIEW_HF_SLOTS 41
/* Where in them the model is. */
#define VIEW_HF_MODEL 14

/*
 * Nodes of a set, from its first number on. Every set of names in one folder has numbers that
 * ascend with the names.
 */
enum view_slot {
	VIEW_ROOT,
	VIEW_HF,
	VIEW_SAFETENSORS,
	VIEW_TENSORS,
	VIEW_HF_FIRST,
	VIEW_ST_FIRST = VIEW_HF_FIRST + VIEW_HF_SLOTS, /* .safetensors, then .npy */
};

/* Which tensors of a set a safetensors view holds, and how they are called in it. */
struct view_part {
	bool all;	   /* every one, by its FQN */
	const char *group; /* else those of this group; NULL: of none; borrowed */
	const char
		*within; /* and only those whose name in the group begins so; NULL: all; borrowed */
	bool no_optimizer; /* without entries of an optimizer */
};

/* A safetensors view. */
struct view_st {
	char *name;
	struct view_part part;
	uint64_t size_bytes;
};

/* A .npy view. */
struct view_npy {
	char *name;
	size_t tensor_idx;
	uint64_t size_bytes;
};

/* A companion in hf/. */
struct view_companion {
	uint32_t source; /* CKPT_VIEW_NONE: not there */
};

struct view_set {
	const char *folder; /* borrowed from its first tensor */
	uint32_t first_node;
	size_t first_tensor; /* in the contents */
	size_t tensor_count;
	struct view_st *sts; /* by name */
	size_t st_count, st_cap;
	struct view_npy *npys; /* by name */
	size_t npy_count;
	struct view_st model; /* its name is NULL where there is none */
	struct view_companion companions[VIEW_HF_SLOTS];
};

/* A companion that lies in the group's folder. */
struct view_outside {
	char *path;
	uint64_t size_bytes;
};

struct ckpt_views {
	atomic_uint ref_count;
	char *label;
	bool committed;
	struct ckpt_manifest manifest; /* of a committed one */
	struct ckpt_scan_list files;   /* of another one */
	struct ckpt_contents contents;
	bool contents_borrowed; /* tensors and bytes entries are the manifest's */
	bool *hidden;		/* tensors that are in no view, one a tensor */
	struct view_set *sets;	/* by folder */
	size_t set_count, set_cap;
	uint32_t node_count;
	struct view_outside *outside; /* sources behind those of the checkpoint */
	size_t outside_count, outside_cap;
};

/** ckpt_views_note - tell why @file is not there, or lacks something. -ENOMEM. */
int ckpt_views_note(struct ckpt_views *views, const char *file, const char *reason) CKPT_MUST_CHECK;
/** ckpt_view_set_of - the set of @node, and which node of it; NULL: there is no such number. */
const struct view_set *ckpt_view_set_of(const struct ckpt_views *views, uint32_t node,
					size_t *out_slot);

/* --- view_tensors.c ------------------------------------------------------------------------- */

/** ckpt_views_check_tensors - find the tensors whose boxes do not make up the whole; -ENOMEM. */
int ckpt_views_check_tensors(struct ckpt_views *views, struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- view_names.c --------------------------------------------------------------------------- */

/** ckpt_view_set_name - make the names and sizes of all views of a set but the companions. */
int ckpt_view_set_name(struct ckpt_views *views, struct view_set *set, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_view_path - append "FOLDER/.ckptfs/DIR/NAME". */
void ckpt_view_path(struct ckpt_buf *out, const struct view_set *set, const char *dir,
		    const char *name);

/* --- view_parts.c --------------------------------------------------------------------------- */

/* The one name that no tensor in a safetensors file can have. */
#define VIEW_ST_RESERVED "__metadata__"

/** ckpt_view_is_complex - safetensors has C64, but no C128, and most readers of it have neither. */
bool ckpt_view_is_complex(const struct ckpt_tensor *tensor);
/** ckpt_view_part_name - what @tensor is called in @part; NULL: it is not in it. */
const char *ckpt_view_part_name(const struct view_part *part, const struct ckpt_tensor *tensor);
/** ckpt_view_part_items - the items of a safetensors file, for ckpt_st_layout; -ENOMEM. */
int ckpt_view_part_items(const struct ckpt_views *views, const struct view_set *set,
			 const struct view_part *part, struct ckpt_st_item **out, size_t *out_count)
	CKPT_MUST_CHECK;
/** ckpt_view_part_model - which part of the set hf/ shows; false: none. */
bool ckpt_view_part_model(const struct ckpt_views *views, const struct view_set *set,
			  struct view_part *out);

/* --- view_hf.c ------------------------------------------------------------------------------ */

/** ckpt_view_hf_name - of slot @idx < VIEW_HF_SLOTS; VIEW_HF_MODEL is the model's own. */
const char *ckpt_view_hf_name(size_t idx);
/** ckpt_view_hf_fill - look for the companions of a set; @group_fd: -1 none. */
int ckpt_view_hf_fill(struct ckpt_views *views, struct view_set *set, int group_fd,
		      struct ckpt_err *err) CKPT_MUST_CHECK;

/* --- view_file.c, view_grid.c --------------------------------------------------------------- */

/* A chunk, as the map needs it. Lengths are in elements but where said. */
struct view_box {
	const uint64_t *start;	/* borrowed; one an axis */
	const uint64_t *size;	/* borrowed */
	const uint64_t *stride; /* borrowed; NULL: row-major */
	uint64_t offset_bytes;	/* of its first element in the source */
	uint32_t source;
	uint32_t axis;	    /* it is as wide as the tensor along all axes behind this one … */
	uint64_t stretch;   /* … so that so many elements of it follow each other in the view */
	uint64_t run;	    /* and so many of these in the source, too */
	uint64_t run_count; /* so many runs are a stride apart */
	uint64_t run_stride;
};

/*
 * What a search goes through: a box (bit 31 set), or a node. A node cuts boxes apart along an
 * axis; where no plane does, it lists them.
 */
#define VIEW_REF_BOX (UINT32_C(1) << 31)
#define VIEW_AXIS_LIST UINT32_MAX
struct view_node {
	uint32_t axis;
	uint32_t count;
	size_t first; /* of its cuts, or of its boxes */
};
struct view_cut {
	uint64_t start; /* along the axis; the first is 0 */
	uint32_t ref;
};

struct view_grid {
	struct view_box *boxes;
	size_t box_count, box_cap;
	struct view_node *nodes;
	size_t node_count, node_cap;
	struct view_cut *cuts;
	size_t cut_count, cut_cap;
};

/**
 * ckpt_view_grid_build - put boxes [@first, box_count) in order, at least one; *@out_ref finds
 * them. -ENOMEM.
 */
int ckpt_view_grid_build(struct view_grid *grid, size_t first, uint32_t dim_count,
			 uint32_t *out_ref) CKPT_MUST_CHECK;
/** ckpt_view_grid_find - the box that holds element @at. */
const struct view_box *ckpt_view_grid_find(const struct view_grid *grid, uint32_t ref,
					   uint32_t dim_count, const uint64_t *at);
void ckpt_view_grid_release(struct view_grid *grid);

/* A tensor in a view; not empty. */
struct view_extent {
	uint64_t start_bytes; /* in the view */
	uint64_t end_bytes;
	const uint64_t *shape; /* borrowed */
	uint32_t dim_count;
	uint32_t element_bytes;
	uint32_t ref;
};

struct ckpt_view_file {
	struct ckpt_views *views;
	uint64_t size_bytes;
	struct ckpt_buf header;
	struct view_extent *extents; /* by start; they touch */
	size_t extent_count;
	struct view_grid grid;
	uint64_t whole[1]; /* shape of a companion */
};

#endif
