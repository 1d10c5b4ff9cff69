/* plan_global.c - the coordinator's side of plan.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cover.h"
#include "base/num.h"
#include "format/format.h"
#include "plan_internal.h"
#include "wire.h"

void ckpt_global_plan_free(struct ckpt_global_plan *plan)
{
	if (!plan)
		return;
	free(plan->extents);
	free(plan->decls);
	free(plan->by_fqn);
	free(plan->offers);
	free(plan->by_box);
	free(plan->blobs);
	free(plan->tensors);
	free(plan->replicas);
	free(plan->rank_offers);
	free(plan->load);
	free(plan);
}

/* --- reading the local plans; the inverse of print_all() in plan_local.c ------------------- */

/* What one local plan, or all of them, hold. */
struct totals {
	size_t decls;
	size_t offers;
	size_t extents;
	size_t blobs;
};

static int read_totals(struct ckpt_wire *in, struct totals *all)
{
	/* An entry has two strings, dimensions and a count; a blob a string and a size. */
	size_t decls = ckpt_wire_count(in, 4 * sizeof(uint64_t));
	size_t offers = ckpt_wire_count(in, sizeof(uint64_t));
	size_t extents = ckpt_wire_count(in, sizeof(uint64_t));
	size_t blobs = ckpt_wire_count(in, 2 * sizeof(uint64_t));

	/* Each is less than the bytes of a message in memory: the sums cannot overflow. */
	all->decls += decls;
	all->offers += offers;
	all->extents += extents;
	all->blobs += blobs;
	return in->bad ? -EBADMSG : 0;
}

static int make_room(struct ckpt_global_plan *plan, const struct totals *all)
{
	/* One more of each: an array of nothing is no failure. */
	plan->extents = array_alloc(all->extents + 1, sizeof(*plan->extents));
	plan->decls = array_alloc(all->decls + 1, sizeof(*plan->decls));
	plan->by_fqn = array_alloc(all->decls + 1, sizeof(void *));
	plan->tensors = array_alloc(all->decls + 1, sizeof(*plan->tensors));
	plan->offers = array_alloc(all->offers + 1, sizeof(*plan->offers));
	plan->by_box = array_alloc(all->offers + 1, sizeof(void *));
	plan->blobs = array_alloc(all->blobs + 1, sizeof(*plan->blobs));
	plan->rank_offers = array_alloc((size_t)plan->world_size, sizeof(*plan->rank_offers));
	plan->load = array_alloc((size_t)plan->world_size, sizeof(*plan->load));
	return plan->extents && plan->decls && plan->by_fqn && plan->tensors && plan->offers &&
			       plan->by_box && plan->blobs && plan->rank_offers && plan->load
		       ? 0
		       : -ENOMEM;
}

/* What is read, and how much of the room its totals asked for is left. */
struct reading {
	struct ckpt_global_plan *plan;
	struct ckpt_wire in;
	struct totals left;
	uint64_t *extents; /* where the next ones go */
	int rank;
};

/* The next @count extents, or NULL where more follow than were announced. */
static uint64_t *take_extents(struct reading *it, size_t count)
{
	uint64_t *taken = it->extents;

	if (count > it->left.extents)
		return NULL;
	ckpt_wire_u64s(&it->in, taken, count);
	it->left.extents -= count;
	it->extents += count;
	return taken;
}

static int read_offer(struct reading *it, const struct plan_decl *decl)
{
	struct ckpt_global_plan *plan = it->plan;
	uint64_t size_bytes = ckpt_wire_u64(&it->in);
	uint64_t *box = take_extents(it, 2 * (size_t)decl->dim_count);

	if (!box || it->left.offers == 0)
		return -EBADMSG;
	it->left.offers--;
	plan->offers[plan->offer_count++] = (struct plan_offer){
		.decl = decl,
		.box = { .start = box, .size = box + decl->dim_count },
		.size_bytes = size_bytes,
	};
	return 0;
}

static int read_decl(struct reading *it)
{
	struct ckpt_global_plan *plan = it->plan;
	struct plan_decl *decl = &plan->decls[plan->decl_count++];
	int rc = 0;

	*decl = (struct plan_decl){ .fqn = ckpt_wire_str(&it->in),
				    .dtype = ckpt_wire_str(&it->in),
				    .rank = it->rank,
				    .first_offer = plan->offer_count };
	decl->dim_count = (uint32_t)ckpt_wire_count(&it->in, sizeof(uint64_t));
	if (it->in.bad || !decl->fqn || !decl->dtype || decl->dim_count > CKPT_DIM_MAX)
		return -EBADMSG;
	decl->shape = take_extents(it, decl->dim_count);
	decl->offer_count = ckpt_wire_count(&it->in, sizeof(uint64_t));
	for (size_t i = 0; i < decl->offer_count && rc == 0; i++)
		rc = read_offer(it, decl);
	return it->in.bad || !decl->shape ? -EBADMSG : rc;
}

static int read_blob(struct reading *it)
{
	struct plan_blob *blob = &it->plan->blobs[it->plan->blob_count++];

	blob->fqn = ckpt_wire_str(&it->in);
	blob->size_bytes = ckpt_wire_u64(&it->in);
	blob->rank = it->rank;
	it->plan->load[it->rank] += blob->size_bytes;
	return it->in.bad || !blob->fqn ? -EBADMSG : 0;
}

static int read_local(struct reading *it, const struct ckpt_buf *wire)
{
	struct ckpt_global_plan *plan = it->plan;
	size_t offers_before = plan->offer_count;
	int rc;

	it->in = ckpt_wire_over(wire);
	it->left = (struct totals){ .decls = 0 };
	rc = read_totals(&it->in, &it->left);
	for (size_t i = 0; i < it->left.decls && rc == 0; i++)
		rc = read_decl(it);
	for (size_t i = 0; i < it->left.blobs && rc == 0; i++)
		rc = read_blob(it);
	plan->rank_offers[it->rank] = plan->offer_count - offers_before;
	return rc < 0 ? rc : ckpt_wire_end(&it->in);
}

static int unreadable(int rank, struct ckpt_err *err)
{
	return ckpt_err_set(
		err, -EBADMSG,
		"the plan of rank %d cannot be read; the ranks run different versions of the library",
		rank);
}

static int read_all(struct ckpt_global_plan *plan, const struct ckpt_buf *wires,
		    struct ckpt_err *err)
{
	struct reading it = { .plan = plan };
	struct totals all = { .decls = 0 };
	int rc;

	for (int rank = 0; rank < plan->world_size; rank++) {
		struct ckpt_wire in = ckpt_wire_over(&wires[rank]);

		if (read_totals(&in, &all) < 0)
			return unreadable(rank, err);
	}
	rc = make_room(plan, &all);
	it.extents = plan->extents;
	for (it.rank = 0; it.rank < plan->world_size && rc == 0; it.rank++) {
		rc = read_local(&it, &wires[it.rank]);
		if (rc == -EBADMSG)
			return unreadable(it.rank, err);
	}
	return rc;
}

/* --- order --------------------------------------------------------------------------------- */

static int compare_ranks(int a, int b)
{
	return (a > b) - (a < b);
}

static int compare_decls(const void *a, const void *b)
{
	const struct plan_decl *x = *(struct plan_decl *const *)a;
	const struct plan_decl *y = *(struct plan_decl *const *)b;
	int order = strcmp(x->fqn, y->fqn);

	return order ? order : compare_ranks(x->rank, y->rank);
}

static int compare_blobs(const void *a, const void *b)
{
	const struct plan_blob *x = a;
	const struct plan_blob *y = b;
	int order = strcmp(x->fqn, y->fqn);

	return order ? order : compare_ranks(x->rank, y->rank);
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
static int compare_boxes(const struct plan_offer *a, const struct plan_offer *b)
{
	return compare_u64s(a->box.start, b->box.start, 2 * a->decl->dim_count);
}

static int compare_offers(const void *a, const void *b)
{
	const struct plan_offer *x = *(struct plan_offer *const *)a;
	const struct plan_offer *y = *(struct plan_offer *const *)b;
	int order = compare_boxes(x, y);

	return order ? order : compare_ranks(x->decl->rank, y->decl->rank);
}

/* Large ones first. */
static int compare_replicas(const void *a, const void *b)
{
	const struct plan_replica *x = a;
	const struct plan_replica *y = b;

	if (x->size_bytes != y->size_bytes)
		return x->size_bytes > y->size_bytes ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

/* Applications name their tensors in one order on all ranks, often the sorted one: then look once. */
static void sort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	char *item = items;

	for (size_t i = 1; i < count; i++, item += size) {
		if (compare(item, item + size) > 0) {
			qsort(items, count, size, compare);
			return;
		}
	}
}

static void order_names(struct ckpt_global_plan *plan)
{
	for (size_t i = 0; i < plan->decl_count; i++)
		plan->by_fqn[i] = &plan->decls[i];
	sort(plan->by_fqn, plan->decl_count, sizeof(struct plan_decl *), compare_decls);
	sort(plan->blobs, plan->blob_count, sizeof(*plan->blobs), compare_blobs);
}

/* --- checking names ------------------------------------------------------------------------ */

/* Two ranks' words about one tensor. */
static int check_pair(const struct plan_decl *a, const struct plan_decl *b, struct ckpt_err *err)
{
	char a_shape[CKPT_BOX_TEXT_MAX];
	char b_shape[CKPT_BOX_TEXT_MAX];

	if (a->rank == b->rank)
		return ckpt_err_set(err, -EINVAL,
				    "rank %d gives tensor '%s' twice; give its chunks in one entry",
				    a->rank, a->fqn);
	if (strcmp(a->dtype, b->dtype) == 0 && a->dim_count == b->dim_count &&
	    compare_u64s(a->shape, b->shape, a->dim_count) == 0)
		return 0;
	return ckpt_err_set(
		err, -EINVAL,
		"tensor '%s' is %s of shape %s on rank %d, and %s of shape %s on rank %d; all ranks must agree",
		a->fqn, a->dtype, ckpt_extents_text(a->shape, a->dim_count, a_shape), a->rank,
		b->dtype, ckpt_extents_text(b->shape, b->dim_count, b_shape), b->rank);
}

/* What the ranks say of each tensor, in order, becomes the tensors. */
static int join_decls(struct ckpt_global_plan *plan, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < plan->decl_count && rc == 0; i++) {
		const struct plan_decl *before = i > 0 ? plan->by_fqn[i - 1] : NULL;
		const struct plan_decl *decl = plan->by_fqn[i];

		if (before && strcmp(before->fqn, decl->fqn) == 0)
			rc = check_pair(before, decl, err);
		else
			plan->tensors[plan->tensor_count++] = (struct plan_tensor){ .decl = decl };
	}
	return rc;
}

static int check_blobs(const struct ckpt_global_plan *plan, struct ckpt_err *err)
{
	size_t t = 0;

	for (size_t i = 0; i < plan->blob_count; i++) {
		const struct plan_blob *blob = &plan->blobs[i];

		if (i > 0 && compare_blobs(blob - 1, blob) == 0)
			return ckpt_err_set(err, -EINVAL,
					    "rank %d gives blob '%s' twice; name them differently",
					    blob->rank, blob->fqn);
		while (t < plan->tensor_count && strcmp(plan->tensors[t].decl->fqn, blob->fqn) < 0)
			t++;
		if (t < plan->tensor_count && strcmp(plan->tensors[t].decl->fqn, blob->fqn) == 0)
			return ckpt_err_set(
				err, -EINVAL,
				"'%s' is a blob on rank %d and a tensor on rank %d; rename one of them",
				blob->fqn, blob->rank, plan->tensors[t].decl->rank);
	}
	return 0;
}

/* --- choosing ------------------------------------------------------------------------------ */

static void take_offer(struct ckpt_global_plan *plan, struct plan_offer *offer)
{
	offer->keep = true;
	plan->load[offer->decl->rank] += offer->size_bytes;
}

/* Offers of equal boxes, [first, end) of by_box: taken at once where only one rank has it. */
static int take_box(struct ckpt_global_plan *plan, size_t first, size_t end)
{
	int rc;

	if (end == first + 1) {
		take_offer(plan, plan->by_box[first]);
		return 0;
	}
	rc = array_grow(&plan->replicas, &plan->replica_cap, plan->replica_count,
			sizeof(*plan->replicas));
	if (rc == 0)
		plan->replicas[plan->replica_count++] =
			(struct plan_replica){ .first = first,
					       .count = end - first,
					       .size_bytes = plan->by_box[first]->size_bytes };
	return rc;
}

/* The tensor's offers, ordered: equal boxes become one of @parts. */
static int sort_out(struct ckpt_global_plan *plan, const struct plan_tensor *tensor,
		    struct ckpt_part *parts, struct ckpt_err *err)
{
	struct ckpt_parts all = { .fqn = tensor->decl->fqn,
				  .shape = tensor->decl->shape,
				  .dim_count = tensor->decl->dim_count,
				  .items = parts,
				  .by_ranks = true };
	size_t end = tensor->first + tensor->count;
	int rc = 0;

	for (size_t i = tensor->first, next; i < end && rc == 0; i = next) {
		for (next = i + 1; next < end; next++) {
			if (compare_boxes(plan->by_box[i], plan->by_box[next]) != 0)
				break;
		}
		parts[all.count++] = (struct ckpt_part){ .box = plan->by_box[i]->box,
							 .rank = plan->by_box[i]->decl->rank };
		rc = take_box(plan, i, next);
	}
	return rc < 0 ? rc : ckpt_parts_check(&all, err);
}

/* Put the offers of every rank for each tensor behind each other, and sort them out. */
static int take_tensors(struct ckpt_global_plan *plan, struct ckpt_err *err)
{
	struct ckpt_part *parts = array_alloc(plan->offer_count + 1, sizeof(*parts));
	size_t d = 0;
	size_t at = 0;
	int rc = parts ? 0 : -ENOMEM;

	for (size_t t = 0; t < plan->tensor_count && rc == 0; t++) {
		struct plan_tensor *tensor = &plan->tensors[t];

		tensor->first = at;
		for (; d < plan->decl_count; d++) {
			const struct plan_decl *decl = plan->by_fqn[d];

			if (strcmp(decl->fqn, tensor->decl->fqn) != 0)
				break;
			for (size_t i = 0; i < decl->offer_count; i++)
				plan->by_box[at++] = &plan->offers[decl->first_offer + i];
		}
		tensor->count = at - tensor->first;
		sort(plan->by_box + tensor->first, tensor->count, sizeof(struct plan_offer *),
		     compare_offers);
		rc = sort_out(plan, tensor, parts, err);
	}
	free(parts);
	return rc;
}

/* Large ones first, each to the holder that has the least to write. */
static void choose_replicas(struct ckpt_global_plan *plan)
{
	sort(plan->replicas, plan->replica_count, sizeof(*plan->replicas), compare_replicas);
	for (size_t i = 0; i < plan->replica_count; i++) {
		const struct plan_replica *replica = &plan->replicas[i];
		struct plan_offer *best = plan->by_box[replica->first];

		for (size_t k = 1; k < replica->count; k++) {
			struct plan_offer *offer = plan->by_box[replica->first + k];

			if (plan->load[offer->decl->rank] < plan->load[best->decl->rank])
				best = offer;
		}
		take_offer(plan, best);
	}
}

static int assign(struct ckpt_global_plan *plan, struct ckpt_err *err)
{
	int rc;

	order_names(plan);
	rc = join_decls(plan, err);
	if (rc == 0)
		rc = check_blobs(plan, err);
	if (rc == 0)
		rc = take_tensors(plan, err);
	if (rc == 0)
		choose_replicas(plan);
	return rc;
}

/* For each rank: how many chunks it offered, and a bit for each: it writes it. */
static void print_keeps(const struct ckpt_global_plan *plan, struct ckpt_buf *out)
{
	const struct plan_offer *offer = plan->offers;

	for (int rank = 0; rank < plan->world_size; rank++) {
		size_t count = plan->rank_offers[rank];

		ckpt_wire_put_u64(out, count);
		for (size_t i = 0; i < count; i += 64) {
			uint64_t bits = 0;

			for (size_t k = 0; k < num_min(64, count - i); k++)
				bits |= (uint64_t)(offer++)->keep << k;
			ckpt_wire_put_u64(out, bits);
		}
	}
}

int ckpt_global_plan_make(const struct ckpt_buf *wires, int world_size,
			  struct ckpt_global_plan **out, struct ckpt_buf *out_wire,
			  struct ckpt_err *err)
{
	struct ckpt_global_plan *plan = array_alloc(1, sizeof(*plan));
	int rc = plan ? 0 : -ENOMEM;

	if (rc == 0) {
		plan->world_size = world_size;
		rc = read_all(plan, wires, err);
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
