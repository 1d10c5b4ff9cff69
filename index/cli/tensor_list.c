/* tensor_list.c - see tensor_list.h. */
#include "cli/tensor_list.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/table.h"

/* --- a table ---------------------------------------------------------------------------- */

static const struct table_column tensor_columns[] = {
	{ "FQN", 0 },
	{ "DTYPE", 0 },
	{ "SHAPE", 0 },
	{ "BYTES", TABLE_RIGHT },
	{ "CHUNKS", TABLE_RIGHT },
	{ "SET", TABLE_JSON_ONLY },
	{ "GROUP", TABLE_JSON_ONLY },
};

/* The FQN, with its set before it where there is more than the top's. */
static void add_fqn(struct table *table, const struct inventory_item *item, bool json)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	if (!json && item->set[0])
		ckpt_buf_printf(&text, "%s:", item->set);
	ckpt_buf_add_str(&text, item->fqn);
	table_text(table, text.data);
	ckpt_buf_release(&text);
}

int tensor_list_print(const struct inventory *inventory, bool json, struct ckpt_err *err)
{
	struct table table;
	int rc;

	table_init(&table, tensor_columns, sizeof(tensor_columns) / sizeof(tensor_columns[0]));
	for (size_t i = 0; i < inventory->item_count; i++) {
		const struct inventory_item *item = &inventory->items[i];

		add_fqn(&table, item, json);
		table_text(&table, item->dtype);
		table_raw(&table, item->shape);
		table_number(&table, true, item->size_bytes);
		table_number(&table, true, item->chunk_count);
		table_text(&table, item->set);
		table_text(&table, item->group);
	}
	rc = table_print(&table, json, err);
	table_release(&table);
	return rc;
}

/* --- a tree ------------------------------------------------------------------------------------ */

/* Deeper levels are shown as one: an FQN may be nothing but dots. */
#define DEPTH_MAX 32

struct printer {
	const struct inventory_item
		*items; /* by (set, FQN): what has a prefix in common is together */
	bool json;
	bool any; /* JSON: a comma is due */
	struct ckpt_buf out;
};

/* Items [first, end), which all begin with the first skip bytes of one FQN. */
struct level {
	size_t first, end;
	size_t skip;
	int depth;
};

static void add_escaped(struct ckpt_buf *out, const char *text, size_t len)
{
	struct ckpt_buf part;

	ckpt_buf_init(&part);
	ckpt_buf_add(&part, text, len);
	if (part.data)
		ckpt_path_escape(out, part.data);
	ckpt_buf_release(&part);
}

static uint64_t bytes_of(const struct printer *printer, const struct level *level)
{
	uint64_t sum = 0;

	for (size_t i = level->first; i < level->end; i++)
		sum += printer->items[i].size_bytes;
	return sum;
}

/* Where the items stop that begin with the first @len bytes of the first of them. */
static size_t end_of_prefix(const struct printer *printer, const struct level *level, size_t from,
			    size_t len)
{
	const char *prefix = printer->items[from].fqn;
	size_t end = from + 1;

	while (end < level->end && strncmp(printer->items[end].fqn, prefix, len) == 0)
		end++;
	return end;
}

/* Bytes up to and with the next dot; 0: there is none. */
static size_t next_cut(const char *fqn, size_t from)
{
	const char *dot = strchr(fqn + from, '.');

	return dot ? (size_t)(dot - fqn) + 1 : 0;
}

/* As long as all of them go on to the same next name, that is no level of its own. */
static size_t extend(const struct printer *printer, const struct level *level, size_t cut)
{
	const char *fqn = printer->items[level->first].fqn;

	for (;;) {
		size_t next = next_cut(fqn, cut);

		if (next == 0 || end_of_prefix(printer, level, level->first, next) < level->end)
			return cut;
		cut = next;
	}
}

static void indent(struct printer *printer, int depth)
{
	for (int i = 0; i < depth; i++)
		ckpt_buf_add_str(&printer->out, "  ");
}

static void print_leaf(struct printer *printer, size_t idx, const struct level *level)
{
	const struct inventory_item *item = &printer->items[idx];
	char size[32];

	if (printer->json)
		return;
	indent(printer, level->depth);
	add_escaped(&printer->out, item->fqn + level->skip, strlen(item->fqn + level->skip));
	ckpt_buf_printf(&printer->out, "  %s%s%s  %s\n", item->dtype ? item->dtype : "bytes",
			item->dtype ? " " : "", item->dtype ? item->shape : "",
			num_format_size(item->size_bytes, size, sizeof(size)));
}

/* @below: what lies under it; its skip is behind the name's last dot. */
static void print_node(struct printer *printer, const struct level *level,
		       const struct level *below)
{
	const struct inventory_item *item = &printer->items[below->first];
	uint64_t bytes = bytes_of(printer, below);
	size_t count = below->end - below->first;
	char size[32];

	if (printer->json) {
		struct ckpt_buf path;

		ckpt_buf_init(&path);
		ckpt_buf_add(&path, item->fqn, below->skip - 1);
		ckpt_buf_add_str(&printer->out, printer->any ? ",\n" : "\n");
		printer->any = true;
		ckpt_buf_add_str(&printer->out, "{\"set\":");
		json_text(&printer->out, item->set);
		ckpt_buf_add_str(&printer->out, ",\"path\":");
		json_text(&printer->out, path.data ? path.data : "");
		ckpt_buf_printf(&printer->out, ",\"tensors\":%zu,\"bytes\":%" PRIu64 "}", count,
				bytes);
		ckpt_buf_release(&path);
		return;
	}
	indent(printer, level->depth);
	add_escaped(&printer->out, item->fqn + level->skip, below->skip - 1 - level->skip);
	ckpt_buf_printf(&printer->out, "  %zu %s, %s\n", count, count == 1 ? "entry" : "entries",
			num_format_size(bytes, size, sizeof(size)));
}

static void print_level(struct printer *printer, const struct level *level)
{
	size_t i = level->first;

	while (i < level->end) {
		size_t cut = next_cut(printer->items[i].fqn, level->skip);
		struct level below = { .first = i, .depth = level->depth + 1 };

		if (cut == 0 || level->depth >= DEPTH_MAX) {
			print_leaf(printer, i++, level);
			continue;
		}
		below.end = end_of_prefix(printer, level, i, cut);
		below.skip = extend(printer, &below, cut);
		i = below.end;
		if (below.end - below.first == 1) {
			print_leaf(printer, below.first, level);
			continue;
		}
		print_node(printer, level, &below);
		print_level(printer, &below);
	}
}

/* The tensors of one set. */
static void print_set(struct printer *printer, size_t first, size_t end)
{
	const char *set = printer->items[first].set;
	struct level level = { .first = first, .end = end };

	if (set[0] && !printer->json) {
		add_escaped(&printer->out, set, strlen(set));
		ckpt_buf_add_str(&printer->out, ":\n");
		level.depth = 1;
	}
	print_level(printer, &level);
}

int tensor_list_print_tree(const struct inventory *inventory, bool json, struct ckpt_err *err)
{
	struct printer printer = { .items = inventory->items, .json = json };
	size_t first = 0;
	int rc;

	ckpt_buf_init(&printer.out);
	if (json)
		ckpt_buf_add_char(&printer.out, '[');
	for (size_t i = 1; i <= inventory->item_count; i++) {
		if (i < inventory->item_count &&
		    strcmp(inventory->items[i].set, inventory->items[first].set) == 0)
			continue;
		print_set(&printer, first, i);
		first = i;
	}
	if (json)
		ckpt_buf_add_str(&printer.out, printer.any ? "\n]\n" : "]\n");
	rc = ckpt_buf_check(&printer.out);
	if (rc < 0)
		rc = ckpt_err_sys(err, rc, "cannot list the tensors");
	else if (printer.out.len_bytes > 0)
		rc = cli_write(printer.out.data, printer.out.len_bytes, err);
	ckpt_buf_release(&printer.out);
	return rc;
}
