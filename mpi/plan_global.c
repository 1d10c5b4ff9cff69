/* plan_global.c - the coordinator's side of plan.h. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "box.h"
#include "format/format.h"
#include "plan.h"
#include "wire.h"

/* What one rank says of one tensor. Text is borrowed from the wire. */
struct decl {
	const char *fqn;
	const char *dtype;
	uint32_t dim_count;
	int rank;
	uint64_t *extents; /* shape, then start and size of every chunk */
};

/* A chunk that one rank offers. */
struct offer {
	const struct decl *decl;
	struct ckpt_box box;
	uint64_t size_bytes;
	bool keep;
};

/* A box that several ranks offer: offers [first, first + count) of by_box. */
struct replica {
	size_t first;
	size_t count;
	uint64_t size_bytes;
};

struct ckpt_global_plan {
	int world_size;
	struct decl **decls; /* ordered by FQN, then rank; each is heap */
	size_t decl_count, decl_cap;
	struct offer *offers; /* in the order of the ranks' local plans */
	size_t offer_count, offer_cap;
	struct offer **by_box; /* ordered by FQN, box, rank */
	size_t *rank_offers;   /* of each rank */
	uint64_t *load;	       /* bytes each rank writes */
	struct replica *replicas;
	size_t replica_count, replica_cap;
};

void ckpt_global_plan_free(struct ckpt_global_plan *plan)
{
	if (!plan)
		return;
	for (size_t i = 0; i < plan->decl_count; i++) {
		free(plan->decls[i]->extents);
		free(plan->decls[i]);
	}
	free(plan->decls);
	free(plan->offers);
	free(plan->by_box);
	free(plan->rank_offers);
	free(plan->load);
	free(plan->replicas);
	free(plan);
}

static struct ckpt_global_plan *plan_new(int world_size)
{
	struct ckpt_global_plan *plan = array_alloc(1, sizeof(*plan));

	if (!plan)
		return NULL;
	plan->world_size = world_size;
	plan->rank_offers = array_alloc((size_t)world_size, sizeof(*plan->rank_offers));
	plan->load = array_alloc((size_t)world_size, sizeof(*plan->load));
	if (!plan->rank_offers || !plan->load) {
		ckpt_global_plan_free(plan);
		return NULL;
	}
	return plan;
}

/* --- reading the local plans ------------------------------------------------------------ */

static int add_offer(struct ckpt_global_plan *plan, const struct decl *decl, uint64_t *extents,
		     uint64_t size_bytes)
{
	int rc = array_grow(&plan->offers, &plan->offer_cap, plan->offer_count,
			    sizeof(*plan->offers));

	if (rc < 0)
		return rc;
	plan->offers[plan->offer_count++] = (struct offer){
		.decl = decl,
		.box = { .start = extents, .size = extents + decl->dim_count },
		.size_bytes = size_bytes,
	};
	plan->rank_offers[decl->rank]++;
	return 0;
}

/* The inverse of print_entry() in plan_local.c. */
static int read_decl(struct ckpt_global_plan *plan, struct ckpt_wire *in, struct decl *decl)
{
	uint64_t *at;
	size_t chunk_count;
	int rc = 0;

	decl->fqn = ckpt_wire_str(in);
	decl->dtype = ckpt_wire_str(in);
	decl->dim_count = (uint32_t)ckpt_wire_count(in, sizeof(uint64_t));
	if (in->bad || !decl->fqn || !decl->dtype || decl->dim_count > CKPT_DIM_MAX)
		return -EBADMSG;
	/* The shape is passed over, and read again below once all room is known. */
	in->at += decl->dim_count * sizeof(uint64_t);
	chunk_count = ckpt_wire_count(in, (1 + 2 * (size_t)decl->dim_count) * sizeof(uint64_t));
	in->at -= (decl->dim_count + 1) * sizeof(uint64_t);
	decl->extents = array_alloc((1 + 2 * chunk_count) * decl->dim_count + 1, sizeof(uint64_t));
	if (!decl->extents)
		return -ENOMEM;
	ckpt_wire_u64s(in, decl->extents, decl->dim_count);
	(void)ckpt_wire_u64(in);
	at = decl->extents + decl->dim_count;
	for (size_t c = 0; c < chunk_count && rc == 0; c++, at += 2 * (size_t)decl->dim_count) {
		uint64_t size_bytes = ckpt_wire_u64(in);

		ckpt_wire_u64s(in, at, 2 * (size_t)decl->dim_count);
		rc = add_offer(plan, decl, at, size_bytes);
	}
	return rc == 0 && in->bad ? -EBADMSG : rc;
}

static int read_local(struct ckpt_global_plan *plan, const struct ckpt_buf *wire, int rank)
{
	struct ckpt_wire in = ckpt_wire_over(wire);
	size_t count = ckpt_wire_count(&in, 4 * sizeof(uint64_t));
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		struct decl *decl;

		rc = array_grow(&plan->decls, &plan->decl_cap, plan->decl_count, sizeof(void *));
		decl = rc == 0 ? array_alloc(1, sizeof(*decl)) : NULL;
		if (!decl)
			return -ENOMEM;
		plan->decls[plan->decl_count++] = decl;
		decl->rank = rank;
		rc = read_decl(plan, &in, decl);
	}
	return rc < 0 ? rc : ckpt_wire_end(&in);
}

/* --- order ---------------------------------------------------------------------------------- */

static int compare_decls(const void *a, const void *b)
{
	const struct decl *x = *(struct decl *const *)a;
	const struct decl *y = *(struct decl *const *)b;
	int order = strcmp(x->fqn, y->fqn);

	return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

static int compare_u64s(const uint64_t *a, const uint64_t *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

/* Start and size lie behind each other: one comparison. Only for offers of one tensor. */
static int compare_boxes(const struct offer *a, const struct offer *b)
{
	return compare_u64s(a->box.start, b->box.start, 2 * a->decl->dim_count);
}

static int compare_offers(const void *a, const void *b)
{
	const struct offer *x = *(struct offer *const *)a;
	const struct offer *y = *(struct offer *const *)b;
	int order = strcmp(x->decl->fqn, y->decl->fqn);

	if (order == 0)
		order = compare_boxes(x, y);
	return order ? order : (x->decl->rank > y->decl->rank) - (x->decl->rank < y->decl->rank);
}

static int compare_replicas(const void *a, const void *b)
{
	const struct replica *x = a;
	const struct replica *y = b;

	if (x->size_bytes != y->size_bytes)
		return x->size_bytes > y->size_bytes ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

/* --- checking -------------------------------------------------------------------------------- */

/* All ranks must say the same of a tensor. */
static int check_decls(const struct ckpt_global_plan *plan, struct ckpt_err *err)
{
	for (size_t i = 1; i < plan->decl_count; i++) {
		const struct decl *a = plan->decls[i - 1];
		const struct decl *b = plan->decls[i];

		if (strcmp(a->fqn, b->fqn) != 0)
			continue;
		if (a->rank == b->rank)
			return ckpt_err_set(
				err, -EINVAL,
				"rank %d gives tensor '%s' twice; give its chunks in one entry",
				a->rank, a->fqn);
		if (strcmp(a->dtype, b->dtype) != 0)
			return ckpt_err_set(
				err, -EINVAL,
				"tensor '%s' is %s on rank %d and %s on rank %d; all ranks must agree",
				a->fqn, a->dtype, a->rank, b->dtype, b->rank);
		if (a->dim_count != b->dim_count ||
		    compare_u64s(a->extents, b->extents, a->dim_count) != 0)
			return ckpt_err_set(
				err, -EINVAL,
				"tensor '%s' has another shape on rank %d than on rank %d; all ranks must agree",
				a->fqn, b->rank, a->rank);
	}
	return 0;
}

/*
 * The axis along which the boxes, ordered by start, differ first: a sweep along it has few of them
 * at a time.
 */
static uint32_t sweep_axis(struct offer *const *boxes, size_t count)
{
	uint32_t dim_count = boxes[0]->decl->dim_count;

	for (uint32_t d = 0; d < dim_count; d++) {
		for (size_t i = 1; i < count; i++) {
			if (boxes[i]->box.start[d] != boxes[0]->box.start[d])
				return d;
		}
	}
	return 0;
}

/*
 * Different boxes of one tensor, ordered by start: does any lie over another? All before the axis
 * are equal in start.
 */
static int check_disjoint(struct offer *const *boxes, size_t count, struct ckpt_err *err)
{
	uint64_t start[CKPT_DIM_MAX];
	uint64_t size[CKPT_DIM_MAX];
	uint32_t dim_count = boxes[0]->decl->dim_count;
	uint32_t axis = sweep_axis(boxes, count);
	size_t oldest = 0;

	for (size_t i = 1; i < count; i++) {
		const struct ckpt_box *box = &boxes[i]->box;

		/* Those that end before this one begins can meet none of the later ones. */
		while (oldest < i && dim_count > 0 &&
		       boxes[oldest]->box.start[axis] + boxes[oldest]->box.size[axis] <=
			       box->start[axis])
			oldest++;
		for (size_t k = oldest; k < i; k++) {
			if (ckpt_box_meet(&boxes[k]->box, box, dim_count, start, size))
				return ckpt_err_set(
					err, -EINVAL,
					"chunks of tensor '%s' on rank %d and rank %d overlap without being equal; check how it is cut",
					boxes[i]->decl->fqn, boxes[k]->decl->rank,
					boxes[i]->decl->rank);
		}
	}
	return 0;
}

static int check_cover(const struct decl *decl, struct offer *const *boxes, size_t count,
		       struct ckpt_err *err)
{
	uint64_t want;
	uint64_t have = 0;
	int rc = ckpt_shape_bytes(decl->dtype, decl->extents, decl->dim_count, &want);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++) {
		if (!num_add(have, boxes[i]->size_bytes, &have))
			return -EOVERFLOW;
	}
	if (have == want)
		return 0;
	return ckpt_err_set(
		err, -EINVAL,
		"chunks of all ranks hold %llu of the %llu bytes of tensor '%s'; check how it is cut",
		(unsigned long long)have, (unsigned long long)want, decl->fqn);
}

/* --- choosing ----------------------------------------------------------------------------- */

static void take_offer(struct ckpt_global_plan *plan, struct offer *offer)
{
	offer->keep = true;
	plan->load[offer->decl->rank] += offer->size_bytes;
}

/*
 * The offers [first, first + count) are one tensor's: equal boxes become one, which is taken
 * at once where only one rank has it, and noted in plan->replicas otherwise.
 */
static int sort_out(struct ckpt_global_plan *plan, const struct decl *decl, size_t first,
		    size_t count, struct ckpt_err *err)
{
	struct offer **boxes = array_alloc(count + 1, sizeof(void *));
	size_t box_count = 0;
	int rc = boxes ? 0 : -ENOMEM;

	for (size_t i = first, next; i < first + count && rc == 0; i = next) {
		for (next = i + 1; next < first + count; next++) {
			if (compare_boxes(plan->by_box[i], plan->by_box[next]) != 0)
				break;
		}
		boxes[box_count++] = plan->by_box[i];
		if (next == i + 1) {
			take_offer(plan, plan->by_box[i]);
			continue;
		}
		rc = array_grow(&plan->replicas, &plan->replica_cap, plan->replica_count,
				sizeof(*plan->replicas));
		if (rc == 0)
			plan->replicas[plan->replica_count++] =
				(struct replica){ .first = i,
						  .count = next - i,
						  .size_bytes = plan->by_box[i]->size_bytes };
	}
	if (rc == 0 && box_count > 1)
		rc = check_disjoint(boxes, box_count, err);
	if (rc == 0)
		rc = check_cover(decl, boxes, box_count, err);
	free(boxes);
	return rc;
}

/* Large ones first, each to the holder that has the least to write. */
static void choose_replicas(struct ckpt_global_plan *plan)
{
	if (plan->replica_count > 1)
		qsort(plan->replicas, plan->replica_count, sizeof(*plan->replicas),
		      compare_replicas);
	for (size_t i = 0; i < plan->replica_count; i++) {
		const struct replica *replica = &plan->replicas[i];
		struct offer *best = plan->by_box[replica->first];

		for (size_t k = 1; k < replica->count; k++) {
			struct offer *offer = plan->by_box[replica->first + k];

			if (plan->load[offer->decl->rank] < plan->load[best->decl->rank])
				best = offer;
		}
		take_offer(plan, best);
	}
}

static int order_all(struct ckpt_global_plan *plan)
{
	plan->by_box = array_alloc(plan->offer_count + 1, sizeof(void *));
	if (!plan->by_box)
		return -ENOMEM;
	for (size_t i = 0; i < plan->offer_count; i++)
		plan->by_box[i] = &plan->offers[i];
	if (plan->offer_count > 1)
		qsort(plan->by_box, plan->offer_count, sizeof(void *), compare_offers);
	if (plan->decl_count > 1)
		qsort(plan->decls, plan->decl_count, sizeof(void *), compare_decls);
	return 0;
}

/* The offers of @fqn that begin at @first; they are in the decls' order. */
static size_t offers_of(const struct ckpt_global_plan *plan, const char *fqn, size_t first)
{
	size_t end = first;

	while (end < plan->offer_count && strcmp(plan->by_box[end]->decl->fqn, fqn) == 0)
		end++;
	return end - first;
}

static bool is_first_decl(const struct ckpt_global_plan *plan, size_t idx)
{
	return idx == 0 || strcmp(plan->decls[idx - 1]->fqn, plan->decls[idx]->fqn) != 0;
}

static int assign(struct ckpt_global_plan *plan, struct ckpt_err *err)
{
	size_t first = 0;
	int rc = order_all(plan);

	if (rc == 0)
		rc = check_decls(plan, err);
	for (size_t i = 0; i < plan->decl_count && rc == 0; i++) {
		size_t count;

		if (!is_first_decl(plan, i))
			continue;
		count = offers_of(plan, plan->decls[i]->fqn, first);
		rc = sort_out(plan, plan->decls[i], first, count, err);
		first += count;
	}
	if (rc == 0)
		choose_replicas(plan);
	return rc;
}

/* For each rank: how many chunks it offered, and of each whether it writes it. */
static void print_keeps(const struct ckpt_global_plan *plan, struct ckpt_buf *out)
{
	size_t at = 0;

	for (int rank = 0; rank < plan->world_size; rank++) {
		ckpt_wire_put_u64(out, plan->rank_offers[rank]);
		for (size_t i = 0; i < plan->rank_offers[rank]; i++)
			ckpt_wire_put_u64(out, plan->offers[at++].keep);
	}
}

int ckpt_global_plan_make(const struct ckpt_buf *wires, int world_size,
			  struct ckpt_global_plan **out, struct ckpt_buf *out_wire,
			  struct ckpt_err *err)
{
	struct ckpt_global_plan *plan = plan_new(world_size);
	int rc = plan ? 0 : -ENOMEM;

	for (int rank = 0; rank < world_size && rc == 0; rank++) {
		rc = read_local(plan, &wires[rank], rank);
		if (rc == -EBADMSG)
			rc = ckpt_err_set(
				err, rc,
				"the plan of rank %d cannot be read; the ranks run different versions of the library",
				rank);
	}
	if (rc == 0)
		rc = assign(plan, err);
	if (rc == 0) {
		print_keeps(plan, out_wire);
		rc = ckpt_buf_check(out_wire);
	}
	if (rc < 0) {
		ckpt_global_plan_free(plan);
		return rc;
	}
	*out = plan;
	return 0;
}

/* --- the manifest's lines ----------------------------------------------------------------- */

static uint64_t *copy_u64s(const uint64_t *values, uint32_t count)
{
	uint64_t *copy = array_alloc((size_t)count + 1, sizeof(*copy));

	if (copy && count > 0)
		memcpy(copy, values, count * sizeof(*copy));
	return copy;
}

static int fill_chunk(const struct offer *offer, struct ckpt_chunk *out)
{
	const struct decl *decl = offer->decl;
	struct ckpt_buf name;

	ckpt_buf_init(&name);
	ckpt_plan_shard_name(&name, (uint64_t)decl->rank, decl->fqn, offer->box.start,
			     decl->dim_count);
	out->shard = ckpt_buf_steal(&name);
	out->start = copy_u64s(offer->box.start, decl->dim_count);
	out->size = copy_u64s(offer->box.size, decl->dim_count);
	return out->shard && out->start && out->size ? 0 : -ENOMEM;
}

static int fill_tensor(const struct ckpt_global_plan *plan, const struct decl *decl, size_t first,
		       size_t count, struct ckpt_tensor *out)
{
	int rc = 0;

	(void)snprintf(out->dtype, sizeof(out->dtype), "%s", decl->dtype);
	out->dim_count = decl->dim_count;
	out->fqn = strdup(decl->fqn);
	out->set = strdup("");
	out->shape = copy_u64s(decl->extents, decl->dim_count);
	out->chunks = array_alloc(count + 1, sizeof(*out->chunks));
	if (!out->fqn || !out->set || !out->shape || !out->chunks)
		return -ENOMEM;
	for (size_t i = first; i < first + count && rc == 0; i++) {
		if (plan->by_box[i]->keep)
			rc = fill_chunk(plan->by_box[i], &out->chunks[out->chunk_count++]);
	}
	return rc;
}

int ckpt_global_plan_tensors(const struct ckpt_global_plan *plan, struct ckpt_tensor_list *out)
{
	struct ckpt_tensor_list list = { .items = array_alloc(plan->decl_count + 1,
							      sizeof(*list.items)) };
	size_t first = 0;
	int rc = list.items ? 0 : -ENOMEM;

	for (size_t i = 0; i < plan->decl_count && rc == 0; i++) {
		size_t count;

		if (!is_first_decl(plan, i))
			continue;
		count = offers_of(plan, plan->decls[i]->fqn, first);
		rc = fill_tensor(plan, plan->decls[i], first, count, &list.items[list.count++]);
		first += count;
	}
	if (rc < 0) {
		ckpt_tensor_list_release(&list);
		return rc;
	}
	*out = list;
	return 0;
}

void ckpt_tensor_list_release(struct ckpt_tensor_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		ckpt_tensor_release(&list->items[i]);
	free(list->items);
}
