/* SPDX-License-Identifier: BSD-2-Clause */
#include "sfdcat.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_RANGE = 256, OPT_STAT, OPT_PROGRESS, OPT_NO_PROGRESS, OPT_RATE, OPT_HOT, OPT_JSON, OPT_HELP, OPT_VERSION };

static const char help[] =
	"Usage: sfdcat [-s NAME] [OPTION]... [FILE]...\n"
	"Writes files to standard output; a sendfiled daemon moves the bytes. Without FILE, or for -: standard input.\n"
	"Only regular files can be sent: no pipes, terminals, devices, or files of /proc that say that they are empty.\n"
	"\n"
	"  -s, --server NAME   use the daemon of that name; FILEs are below its root.\n"
	"                      Without it a private daemon is started (SFD_DAEMON names its program)\n"
	"  -S, --sockdir DIR   where the daemon's socket lies\n"
	"      --range A-B     only these bytes, from 0, both included; A-: from there on; -N: the last N\n"
	"      --limit-rate R  at most R bytes in a second; k, M and G stand for 1024 and so on: 10M\n"
	"      --stat          print size and times instead of the content\n"
	"      --is-hot        print nothing; exit 0 if all (the ranges) of the files are in memory, else 1.\n"
	"                      Where nobody can tell they are not. To ask may begin to read them\n"
	"      --progress, --no-progress\n"
	"                      a bar on standard error; by default if only that is a terminal, after a second\n"
	"      --json          one JSON object for each file, on standard error; with --stat and --is-hot on\n"
	"                      standard output: file, size, bytes, written, status (0 or an error number), error,\n"
	"                      seconds; file_hex if the name is not UTF-8\n"
	"      --help, --version\n"
	"\n"
	"Exit status: 0; 1 if something could not be written (or is not hot), or for a wrong command line.\n";

static int usage_error(const char *what, const char *value)
{
	if (what)
		complain("%s: '%s'", what, value);
	fputs("Try 'sfdcat --help' for more information.\n", stderr);
	return EXIT_PROBLEM;
}

/* Digits only. Returns what is behind them; NULL: there are none, or too many. */
static const char *parse_number(const char *text, uint64_t *n)
{
	char *end;

	errno = 0;
	if (*text < '0' || *text > '9')
		return NULL;
	*n = strtoull(text, &end, 10);
	return errno != 0 || *n > INT64_MAX ? NULL : end;
}

static bool parse_range(const char *text, struct range *r)
{
	*r = (struct range){.kind = RANGE_FIRST_TO_LAST, .last = INT64_MAX};
	if (*text == '-') {
		r->kind = RANGE_TAIL;
		text = parse_number(text + 1, &r->count);
		return text && *text == '\0' && r->count > 0;
	}
	text = parse_number(text, &r->first);
	if (!text || *text++ != '-')
		return false;
	if (*text == '\0')
		return true;
	text = parse_number(text, &r->last);
	return text && *text == '\0' && r->last >= r->first;
}

static bool parse_rate(const char *text, uint64_t *rate)
{
	static const char units[] = "kmg";
	const char *unit;

	text = parse_number(text, rate);
	if (!text || *rate == 0)
		return false;
	if (*text == '\0')
		return true;
	unit = strchr(units, *text | 0x20);
	if (!unit || text[1] != '\0')
		return false;
	return !__builtin_mul_overflow(*rate, UINT64_C(1) << (10 * (unit - units + 1)), rate) && *rate <= INT64_MAX;
}

/* What does not go together. */
static int check_options(const struct app *a, bool stat, bool hot)
{
	if (stat && (hot || a->range.kind != RANGE_ALL || a->rate > 0))
		return usage_error("It goes with no range, rate or --is-hot", "--stat");
	if (a->bar_at_once && a->json)
		return usage_error("It does not go with --json", "--progress");
	if (a->server && (*a->server == '\0' || strchr(a->server, '/')))
		return usage_error("Not a daemon's name", a->server);
	return -1;
}

/* -1, or the exit status. */
int parse_options(struct app *a, int argc, char *argv[])
{
	static const struct option options[] = {{"server", required_argument, NULL, 's'},
		{"sockdir", required_argument, NULL, 'S'}, {"range", required_argument, NULL, OPT_RANGE},
		{"stat", no_argument, NULL, OPT_STAT}, {"progress", no_argument, NULL, OPT_PROGRESS},
		{"no-progress", no_argument, NULL, OPT_NO_PROGRESS}, {"limit-rate", required_argument, NULL, OPT_RATE},
		{"is-hot", no_argument, NULL, OPT_HOT}, {"json", no_argument, NULL, OPT_JSON},
		{"help", no_argument, NULL, OPT_HELP}, {"version", no_argument, NULL, OPT_VERSION}, {0}};
	bool stat = false, hot = false, no_bar = false;

	for (int c; (c = getopt_long(argc, argv, "s:S:", options, NULL)) != -1;) {
		if (c == 's')
			a->server = optarg;
		else if (c == 'S')
			a->sockdir = optarg;
		else if (c == OPT_STAT)
			stat = true;
		else if (c == OPT_HOT)
			hot = true;
		else if (c == OPT_JSON)
			a->json = true;
		else if (c == OPT_PROGRESS || c == OPT_NO_PROGRESS)
			no_bar = !(a->bar_at_once = c == OPT_PROGRESS);
		else if (c == OPT_RANGE && !parse_range(optarg, &a->range))
			return usage_error("Bad range", optarg);
		else if (c == OPT_RATE && !parse_rate(optarg, &a->rate))
			return usage_error("Bad rate", optarg);
		else if (c == OPT_HELP)
			return fputs(help, stdout) < 0 || fflush(stdout) != 0 ? EXIT_PROBLEM : EXIT_OK;
		else if (c == OPT_VERSION)
			return printf("sfdcat (sendfiled) %s\n", sfd_version()) < 0 || fflush(stdout) != 0
				       ? EXIT_PROBLEM
				       : EXIT_OK;
		else if (c == '?')
			return usage_error(NULL, NULL);
	}
	a->mode = stat ? MODE_STAT : hot ? MODE_HOT : MODE_SEND;
	a->bar = a->mode == MODE_SEND && !a->json && !no_bar &&
		 (a->bar_at_once || (isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO)));
	return check_options(a, stat, hot);
}
