/* progress.c - see progress.h. */
#include "cli/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/num.h"
#include "cli/signals.h"

/* Work below this is over before a bar could be read. */
#define SHOW_AFTER_MS 1000
#define REDRAW_MS 100
#define WIDTH_DEFAULT 80
/* Cells of the bar itself: what is left after label and figures, within these. */
#define BAR_MIN 10
#define BAR_MAX 40
/* " 100%" */
#define PERCENT_WIDTH 5

static struct {
	pthread_mutex_t mu; /* protects all below */
	bool running;
	bool drawn;
	char label[256];
	uint64_t start_ms;
	uint64_t drawn_ms;
} bar = { .mu = PTHREAD_MUTEX_INITIALIZER };

void progress_start(const char *label)
{
	(void)pthread_mutex_lock(&bar.mu);
	bar.running = isatty(STDERR_FILENO) == 1;
	bar.drawn = false;
	bar.start_ms = ckpt_clock_mono_ms();
	bar.drawn_ms = 0;
	(void)snprintf(bar.label, sizeof(bar.label), "%s", label);
	(void)pthread_mutex_unlock(&bar.mu);
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return WIDTH_DEFAULT;
	return size.ws_col;
}

/* "  1.2 GiB of 2.8 GiB  1.4 GiB/s  0:03 left" */
static void add_figures(struct ckpt_buf *out, uint64_t done, uint64_t total, uint64_t ms)
{
	char done_text[32];
	char total_text[32];
	char rate_text[32];
	uint64_t rate = (uint64_t)((double)done * 1000.0 / (double)num_max(ms, 1));

	ckpt_buf_printf(out, "  %s of %s", num_format_size(done, done_text, sizeof(done_text)),
			num_format_size(total, total_text, sizeof(total_text)));
	ckpt_buf_printf(out, "  %s/s", num_format_size(rate, rate_text, sizeof(rate_text)));
	if (rate > 0 && done < total) {
		uint64_t secs = num_div_up(total - done, rate);

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

/* What does not fit is left out: first the bar, then the figures; the percentage stays. */
static void draw_locked(uint64_t done, uint64_t total, uint64_t ms)
{
	double part = (double)done / (double)num_max(total, 1);
	size_t width = terminal_width() - 1;
	struct ckpt_buf figures;
	struct ckpt_buf line;
	size_t used;

	ckpt_buf_init(&figures);
	ckpt_buf_init(&line);
	add_figures(&figures, done, total, ms);
	ckpt_buf_add(&line, bar.label,
		     num_min(strlen(bar.label), width > PERCENT_WIDTH ? width - PERCENT_WIDTH : 0));
	used = line.len_bytes + PERCENT_WIDTH + figures.len_bytes;
	add_bar(&line, part, used < width ? width - used : 0);
	ckpt_buf_printf(&line, " %3u%%", (unsigned)(part * 100.0));
	if (used <= width)
		ckpt_buf_add_str(&line, figures.data);
	(void)fprintf(stderr, "\r%s\033[K", line.data);
	(void)fflush(stderr);
	bar.drawn = true;
	ckpt_buf_release(&line);
	ckpt_buf_release(&figures);
}

int progress_update(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	uint64_t now_ms;

	(void)ctx;
	if (signals_caught())
		return 1;
	/* Another thread draws: this figure is not missed. */
	if (pthread_mutex_trylock(&bar.mu) != 0)
		return 0;
	now_ms = ckpt_clock_mono_ms();
	if (bar.running && now_ms - bar.start_ms >= SHOW_AFTER_MS &&
	    now_ms - bar.drawn_ms >= REDRAW_MS) {
		bar.drawn_ms = now_ms;
		draw_locked(num_min(bytes_done, bytes_total), bytes_total, now_ms - bar.start_ms);
	}
	(void)pthread_mutex_unlock(&bar.mu);
	return 0;
}

static void erase_locked(void)
{
	if (!bar.drawn)
		return;
	(void)fputs("\r\033[K", stderr);
	(void)fflush(stderr);
	bar.drawn = false;
}

void progress_erase(void)
{
	(void)pthread_mutex_lock(&bar.mu);
	erase_locked();
	(void)pthread_mutex_unlock(&bar.mu);
}

void progress_end(void)
{
	(void)pthread_mutex_lock(&bar.mu);
	erase_locked();
	bar.running = false;
	(void)pthread_mutex_unlock(&bar.mu);
}
