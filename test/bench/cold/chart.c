/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/cold/cold.h"
#include "test/bench/cold/supervise.h"

#include <stdio.h>

/* The chart is drawn from a script with the numbers in it; both stay, for who wants to draw it differently. */
static void write_script(FILE *f, const char *image, const struct variant *variants, unsigned n)
{
	fprintf(f,
		"set terminal pngcairo size 1600,700\n"
		"set output '%s'\n"
		"set title 'Hot requests while cold reads hang: time from when a request was due'\n"
		"set ylabel 'microseconds'\nset logscale y\nset yrange [10:*]\nset grid ytics\n"
		"set style data histograms\nset style histogram clustered gap 2\nset style fill solid 0.8 border -1\n"
		"set boxwidth 0.9\nset bmargin 5\nset xtics scale 0\nset key top left\n"
		"$figures << EOD\n",
		image);
	for (unsigned i = 0; i < n; i++) {
		const struct variant *v = &variants[i];

		fprintf(f, "\"%s\\n%s\\n%u cold%s\"", v->server->name, v->workers, v->n_cold,
			v->median.is[STOPPED] > 0 ? "\\nstopped: more than" : "");
		for (int k = 0; k < LONGEST_GAP; k++)
			fprintf(f, " %.1f", v->median.is[k]);
		fprintf(f, "\n");
	}
	fprintf(f, "EOD\nplot");
	for (int k = 0; k < LONGEST_GAP; k++)
		fprintf(f, "%s $figures using %d%s title '%s'", k ? "," : "", k + 2, k ? "" : ":xtic(1)",
			time_names[k]);
	fprintf(f, "\n");
}

void draw_chart(const struct bench *b, const struct variant *variants, unsigned n)
{
	char script[PATH_SIZE], image[PATH_SIZE];
	const char *argv[] = {"gnuplot", script, NULL};
	FILE *f;
	int status;

	if (snprintf(script, sizeof script, "%s/cold.gnuplot", b->out) >= PATH_SIZE)
		die(b->out);
	snprintf(image, sizeof image, "%s/cold.png", b->out);
	f = fopen(script, "we");
	if (!f)
		die(script);
	write_script(f, image, variants, n);
	if (fclose(f) != 0)
		die(script);
	fflush(NULL);
	status = run_program(argv);
	if (status < 0)
		printf("\nno chart: gnuplot is not installed\n");
	else if (status > 0)
		printf("\nno chart: gnuplot failed on %s\n", script);
	else
		printf("\nchart: %s\n", image);
}
