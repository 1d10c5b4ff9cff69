/*
 * gnuplot.c - see gnuplot.h. Texts from outside stand in single quotes only,
 * where gnuplot expands nothing ("help quotes", "help substitution"), without
 * control characters; numbers are printed by us. It reads the script from its
 * standard input, none of the user's settings (-d), and writes to its output.
 */
#include "cli/gnuplot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"

#define WIDTH 900
#define PANEL_HEIGHT 230
#define TOP_HEIGHT 60

/*
 * M. Okabe and K. Ito, "Color Universal Design", 2008: told apart with every kind of colour
 * blindness. Curves differ in their points, too.
 */
static const char *const colours[GNUPLOT_CURVES_MAX] = { "#0072B2", "#D55E00", "#009E73", "#CC79A7",
							 "#E69F00", "#56B4E9", "#000000" };
static const int points[GNUPLOT_CURVES_MAX] = { 7, 5, 9, 11, 13, 6, 4 };

static void add_quoted(struct ckpt_buf *out, const char *text)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, text);
	ckpt_buf_add_char(out, '\'');
	for (const char *at = shown.data; *at; at++) {
		if (*at == '\'')
			ckpt_buf_add_char(out, '\'');
		ckpt_buf_add_char(out, *at);
	}
	ckpt_buf_add_char(out, '\'');
	ckpt_buf_release(&shown);
}

static void add_data(const struct gnuplot_picture *picture, size_t panel, struct ckpt_buf *out)
{
	for (size_t i = 0; i < picture->curve_count; i++) {
		const struct gnuplot_curve *curve = &picture->panels[panel].curves[i];

		ckpt_buf_printf(out, "$d%zu << END\n", i);
		for (size_t j = 0; j < curve->count; j++)
			ckpt_buf_printf(out, "%.17g %.17g\n", curve->points[j].x,
					curve->points[j].y);
		ckpt_buf_add_str(out, "END\n");
	}
}

static void add_curves(const struct gnuplot_picture *picture, size_t panel, struct ckpt_buf *out)
{
	bool any = false;

	for (size_t i = 0; i < picture->curve_count; i++) {
		const struct gnuplot_curve *curve = &picture->panels[panel].curves[i];

		if (curve->count == 0)
			continue;
		ckpt_buf_printf(
			out,
			"%s $d%zu using 1:2 with linespoints lw 1.8 pt %d ps 0.55 lc rgb '%s' ",
			any ? "," : "plot", i, points[i], colours[i]);
		if (picture->curve_count > 1 && panel == 0) {
			ckpt_buf_add_str(out, "title ");
			add_quoted(out, curve->title);
		} else {
			ckpt_buf_add_str(out, "notitle");
		}
		any = true;
	}
	ckpt_buf_add_char(out, '\n');
}

/* All panels have the same range of x, whatever is known at its ends. */
static void add_range(const struct gnuplot_picture *picture, struct ckpt_buf *out)
{
	double least = 0;
	double most = 0;
	bool any = false;

	for (size_t i = 0; i < picture->panel_count * picture->curve_count; i++) {
		const struct gnuplot_curve *curve =
			&picture->panels[i / picture->curve_count].curves[i % picture->curve_count];

		for (size_t j = 0; j < curve->count; j++) {
			double x = curve->points[j].x;

			least = !any || x < least ? x : least;
			most = !any || x > most ? x : most;
			any = true;
		}
	}
	if (most > least)
		ckpt_buf_printf(out, "set xrange [%.17g:%.17g]\n", least - (most - least) * 0.02,
				most + (most - least) * 0.02);
	else
		ckpt_buf_printf(out, "set xrange [%.17g:%.17g]\n", least - 1, most + 1);
}

void gnuplot_script(const struct gnuplot_picture *picture, struct ckpt_buf *out)
{
	ckpt_buf_printf(out,
			"set encoding utf8\n"
			"set terminal svg size %d,%zu noenhanced font 'DejaVu Sans,12' "
			"background '#ffffff'\n"
			"set grid lc rgb '#d0d0d0' lt 1 lw 0.5\n"
			"set border 3 lc rgb '#404040'\n"
			"set tics nomirror textcolor rgb '#202020'\n"
			"set lmargin 12\nset rmargin 4\n"
			"set format x '%%.10g'\nset format y '%%.4g'\n"
			"set key outside above horizontal left noenhanced\n",
			WIDTH, picture->panel_count * PANEL_HEIGHT + TOP_HEIGHT);
	ckpt_buf_printf(out, "set multiplot layout %zu,1 title ", picture->panel_count);
	add_quoted(out, picture->title);
	ckpt_buf_add_str(out, " noenhanced\n");
	add_range(picture, out);
	for (size_t i = 0; i < picture->panel_count; i++) {
		add_data(picture, i, out);
		ckpt_buf_add_str(out, "set ylabel ");
		add_quoted(out, picture->panels[i].label);
		ckpt_buf_add_str(out, " noenhanced\nset xlabel ");
		add_quoted(out, i + 1 < picture->panel_count ? "" : picture->x_label);
		/* The uppermost and the lowest point do not lie on the frame. */
		ckpt_buf_printf(
			out, " noenhanced\nset yrange [%s:*]\nset offsets 0, 0, graph 0.06, %s\n",
			picture->panels[i].from_zero ? "0" : "*",
			picture->panels[i].from_zero ? "0" : "graph 0.06");
		add_curves(picture, i, out);
	}
	ckpt_buf_add_str(out, "unset multiplot\n");
}

/* --- running ------------------------------------------------------------------------------------ */

/* A file in memory that holds @text, at its beginning. */
static int make_input(const struct ckpt_buf *text)
{
	int fd = memfd_create("ckptfs-plot", MFD_CLOEXEC);
	size_t done = 0;

	while (fd >= 0 && done < text->len_bytes) {
		ssize_t got = write(fd, text->data + done, text->len_bytes - done);

		if (got < 0) {
			int rc = -errno;

			close(fd);
			return rc;
		}
		done += (size_t)got;
	}
	if (fd < 0)
		return -errno;
	return lseek(fd, 0, SEEK_SET) < 0 ? (close(fd), -EIO) : fd;
}

static int read_back(int fd, struct ckpt_buf *out)
{
	char chunk[16384];
	ssize_t got = 0;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	while ((got = read(fd, chunk, sizeof(chunk))) > 0)
		ckpt_buf_add(out, chunk, (size_t)got);
	return got < 0 ? -errno : ckpt_buf_check(out);
}

/* Its exit code; 127: it cannot be started; negative errno. */
static int spawn(int input, int output, int said)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return -errno;
	if (child == 0) {
		(void)dup2(input, STDIN_FILENO);
		(void)dup2(output, STDOUT_FILENO);
		(void)dup2(said, STDERR_FILENO);
		(void)execlp("gnuplot", "gnuplot", "-d", (char *)NULL);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int fail(int code, int said, struct ckpt_err *err)
{
	struct ckpt_buf words;
	struct ckpt_buf shown;

	if (code == 127)
		return ckpt_err_set(
			err, -ENOENT,
			"gnuplot, which draws, is not installed or not in PATH; on Debian and Ubuntu: "
			"'apt install gnuplot-nox', on Fedora 'dnf install gnuplot', or take the numbers "
			"with 'ckptfs log --json'");
	ckpt_buf_init(&words);
	ckpt_buf_init(&shown);
	if (read_back(said, &words) == 0)
		ckpt_path_escape(&shown, words.data);
	ckpt_err_set(err, -EIO, "gnuplot failed (exit code %d): %.400s", code, shown.data);
	ckpt_buf_release(&shown);
	ckpt_buf_release(&words);
	return -EIO;
}

int gnuplot_run(const struct ckpt_buf *script, struct ckpt_buf *out, struct ckpt_err *err)
{
	CKPT_CLOSE int input = make_input(script);
	CKPT_CLOSE int output = memfd_create("ckptfs-plot-out", MFD_CLOEXEC);
	CKPT_CLOSE int said = memfd_create("ckptfs-plot-said", MFD_CLOEXEC);
	int code;
	int rc;

	if (input < 0 || output < 0 || said < 0)
		return ckpt_err_sys(err, input < 0 ? input : -ENOMEM, "cannot prepare a picture");
	code = spawn(input, output, said);
	if (code < 0)
		return ckpt_err_sys(err, code, "cannot start gnuplot");
	if (code > 0)
		return fail(code, said, err);
	rc = read_back(output, out);
	if (rc == 0 && !strstr(out->data, "</svg>"))
		return fail(code, said, err);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot read what gnuplot drew") : 0;
}
