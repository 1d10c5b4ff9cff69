/* cli_mpi_progress.c - see cli_mpi_progress.h. */
#include "cli_mpi_progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/bar.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/num.h"

/* Work below this is over before a bar could be read. */
#define SHOW_AFTER_MS 1000
#define REDRAW_MS 100

static struct {
	bool on;
	bool drawn;
	uint64_t show_after_ms;
	uint64_t start_ms;
	uint64_t moving_ms;
	uint64_t drawn_ms;
	enum ckpt_mpi_phase phase; /* whose bytes move */
	const char *doing;
	const char *path;
} bar;

void mpi_progress_start(const char *doing, const char *path, bool forced)
{
	bar.on = forced || isatty(STDERR_FILENO) == 1;
	/* Whoever asks for it gets it. */
	bar.show_after_ms = forced ? 0 : SHOW_AFTER_MS;
	bar.start_ms = ckpt_clock_mono_ms();
	bar.phase = CKPT_MPI_PHASE_COUNT;
	bar.doing = doing;
	bar.path = path;
}

static bool is_reading(enum ckpt_mpi_phase phase)
{
	return phase == CKPT_MPI_READ_DATA || phase == CKPT_MPI_READ_DATA_ASYNC;
}

static void add_label(struct ckpt_buf *out, enum ckpt_mpi_phase phase)
{
	const char *doing = bar.doing;

	if (!doing)
		doing = is_reading(phase) ? "loading in" : "saving in";
	ckpt_buf_printf(out, "%s %s", doing, bar.path);
}

/* All bytes written is not all on disk. */
static void add_note(struct ckpt_buf *out, const struct ckpt_mpi_progress *progress)
{
	if (progress->bytes_done < progress->bytes_total)
		ckpt_buf_printf(out, "slowest rank %d", progress->slowest_rank);
	else if (!is_reading(progress->phase))
		ckpt_buf_add_str(out, "making it durable");
}

static void draw(const struct ckpt_mpi_progress *progress, uint64_t ms)
{
	struct ckpt_bar text = {
		.bytes_done = num_min(progress->bytes_done, progress->bytes_total),
		.bytes_total = progress->bytes_total,
		.ms = ms,
	};
	struct ckpt_buf label;
	struct ckpt_buf note;
	struct ckpt_buf line;

	ckpt_buf_init(&label);
	ckpt_buf_init(&note);
	ckpt_buf_init(&line);
	add_label(&label, progress->phase);
	add_note(&note, progress);
	text.label = label.data;
	text.note = note.data;
	/* The last column stays free: some terminals go on to the next line behind it. */
	ckpt_bar_print(&text, ckpt_bar_width(STDERR_FILENO) - 1, &line);
	(void)fprintf(stderr, "\r%s\033[K", line.data);
	(void)fflush(stderr);
	bar.drawn = true;
	ckpt_buf_release(&line);
	ckpt_buf_release(&note);
	ckpt_buf_release(&label);
}

void mpi_progress_update(void *ctx, const struct ckpt_mpi_progress *progress)
{
	uint64_t now_ms = ckpt_clock_mono_ms();
	bool ended = progress->bytes_done >= progress->bytes_total;

	(void)ctx;
	/* The rate is that of the bytes, not of what came before them. */
	if (progress->bytes_done == 0 || progress->phase != bar.phase)
		bar.moving_ms = now_ms;
	bar.phase = progress->phase;
	if (!bar.on || now_ms - bar.start_ms < bar.show_after_ms ||
	    (now_ms - bar.drawn_ms < REDRAW_MS && !ended))
		return;
	bar.drawn_ms = now_ms;
	draw(progress, now_ms - bar.moving_ms);
}

void mpi_progress_erase(void)
{
	if (!bar.drawn)
		return;
	(void)fputs("\r\033[K", stderr);
	(void)fflush(stderr);
	bar.drawn = false;
}
