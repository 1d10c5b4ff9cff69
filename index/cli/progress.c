/* progress.c - see progress.h. */
#include "cli/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bar.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/num.h"
#include "cli/signals.h"

/* Work below this is over before a bar could be read. */
#define SHOW_AFTER_MS 1000
#define REDRAW_MS 100

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

static void draw_locked(uint64_t done, uint64_t total, uint64_t ms)
{
	const struct ckpt_bar text = {
		.label = bar.label, .bytes_done = done, .bytes_total = total, .ms = ms, .note = ""
	};
	struct ckpt_buf line;

	ckpt_buf_init(&line);
	/* The last column stays free: some terminals go on to the next line behind it. */
	ckpt_bar_print(&text, ckpt_bar_width(STDERR_FILENO) - 1, &line);
	(void)fprintf(stderr, "\r%s\033[K", line.data);
	(void)fflush(stderr);
	bar.drawn = true;
	ckpt_buf_release(&line);
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
