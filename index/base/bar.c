/* bar.c - see bar.h. */
#include "bar.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "num.h"

/* Cells of the bar itself: what is left after label and figures, within these. */
#define BAR_MIN 10
#define BAR_MAX 40
/* " 100%" */
#define PERCENT_WIDTH 5
/* Nobody has a wider one. */
#define WIDTH_MAX 10000

size_t ckpt_bar_width(int fd)
{
	struct winsize size;
	const char *columns;
	uint64_t width;

	if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	columns = getenv("COLUMNS"); /* NOLINT(concurrency-mt-unsafe): nobody sets it here */
	if (columns && num_parse_u64(columns, &width) == 0 && width > 0 && width < WIDTH_MAX)
		return (size_t)width;
	return CKPT_BAR_WIDTH_DEFAULT;
}

/* "  1.2 GiB of 2.8 GiB  1.4 GiB/s  0:03 left" */
static void add_figures(struct ckpt_buf *out, const struct ckpt_bar *bar)
{
	char done_text[32];
	char total_text[32];
	char rate_text[32];
	uint64_t done = bar->bytes_done;
	uint64_t rate = (uint64_t)((double)done * 1000.0 / (double)num_max(bar->ms, 1));

	ckpt_buf_printf(out, "  %s of %s", num_format_size(done, done_text, sizeof(done_text)),
			num_format_size(bar->bytes_total, total_text, sizeof(total_text)));
	ckpt_buf_printf(out, "  %s/s", num_format_size(rate, rate_text, sizeof(rate_text)));
	if (rate > 0 && done < bar->bytes_total) {
		uint64_t secs = num_div_up(bar->bytes_total - done, rate);

		ckpt_buf_printf(out, "  %llu:%02u left", (unsigned long long)(secs / 60),
				(unsigned)(secs % 60));
	}
}

/* " [####......]", as wide as @room lets it be; nothing where that is too little to read. */
static void add_bar(struct ckpt_buf *out, double part, size_t room)
{
	size_t cells = room < BAR_MIN + 3 ? 0 : num_min(room - 3, BAR_MAX);

	if (cells == 0)
		return;
	ckpt_buf_add_str(out, " [");
	for (size_t i = 0; i < cells; i++)
		ckpt_buf_add_char(out, i < (size_t)(part * (double)cells) ? '#' : '.');
	ckpt_buf_add_char(out, ']');
}

void ckpt_bar_print(const struct ckpt_bar *bar, size_t width, struct ckpt_buf *out)
{
	double part = (double)bar->bytes_done / (double)num_max(bar->bytes_total, 1);
	size_t label_len = strlen(bar->label);
	struct ckpt_buf figures;
	size_t note_len = *bar->note ? strlen(bar->note) + 2 : 0;
	size_t used;

	ckpt_buf_init(&figures);
	add_figures(&figures, bar);
	label_len = num_min(label_len, width > PERCENT_WIDTH ? width - PERCENT_WIDTH : 0);
	/* Never half a character of UTF-8; one of several bytes takes less room than it is given. */
	while (label_len > 0 && ((unsigned char)bar->label[label_len] & 0xc0) == 0x80)
		label_len--;
	used = label_len + PERCENT_WIDTH + figures.len_bytes;
	if (used + note_len <= width && note_len > 0) {
		ckpt_buf_printf(&figures, "  %s", bar->note);
		used += note_len;
	}
	ckpt_buf_add(out, bar->label, label_len);
	add_bar(out, part, used < width ? width - used : 0);
	ckpt_buf_printf(out, " %3u%%", (unsigned)(part * 100.0));
	if (used <= width)
		ckpt_buf_add_str(out, figures.data);
	ckpt_buf_release(&figures);
}
