/* SPDX-License-Identifier: BSD-2-Clause */
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: sfd-httpd [OPTION]... DIRECTORY\n"
	"Serve the files below DIRECTORY over HTTP/1.1.\n\n"
	"  -a, --address ADDRESS        to listen on (default 127.0.0.1)\n"
	"  -p, --port PORT              (default 8080; 0: any that is free)\n"
	"  -s, --server NAME            use the daemon of that name, which serves DIRECTORY (default: a private one)\n"
	"  -S, --sockdir DIR            where its socket is\n"
	"  -l, --log FILE               access log; -: standard output (default); none\n"
	"      --max-connections N      (default 1000)\n"
	"      --header-timeout MS      for a request to arrive (default 10000)\n"
	"      --keep-alive-timeout MS  between two requests (default 30000)\n"
	"      --send-timeout MS        for a client that takes nothing (default 30000)\n"
	"      --disk-timeout MS        for a disk to say what a file is, or what a directory holds (default 30000)\n"
	"      --max-header BYTES       (default 16384)\n"
	"      --help                   this\n\n"
	"SIGTERM and SIGINT let responses end, for ten seconds at most; a second one does not wait.\n";

enum { OPT_MAX_CONNECTIONS = 256, OPT_HEADER, OPT_KEEP_ALIVE, OPT_SEND, OPT_DISK, OPT_MAX_HEADER, OPT_HELP };

static const struct option long_options[] = {{"address", required_argument, NULL, 'a'},
	{"port", required_argument, NULL, 'p'}, {"server", required_argument, NULL, 's'},
	{"sockdir", required_argument, NULL, 'S'}, {"log", required_argument, NULL, 'l'},
	{"max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS},
	{"header-timeout", required_argument, NULL, OPT_HEADER},
	{"keep-alive-timeout", required_argument, NULL, OPT_KEEP_ALIVE},
	{"send-timeout", required_argument, NULL, OPT_SEND}, {"disk-timeout", required_argument, NULL, OPT_DISK},
	{"max-header", required_argument, NULL, OPT_MAX_HEADER}, {"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0}};

/* False, having said why, if it is no number of that range. */
static bool read_number(const char *name, const char *text, long min, long max, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(text, &end, 10);
	if (*text != '\0' && *end == '\0' && errno == 0 && *out >= min && *out <= max)
		return true;
	fprintf(stderr, "sfd-httpd: --%s %s: not a number from %ld to %ld\n", name, text, min, max);
	return false;
}

static bool set_number(struct options *o, int opt)
{
	long n;

	switch (opt) {
	case 'p':
		if (!read_number("port", optarg, 0, 65535, &n))
			return false;
		o->port = (int)n;
		return true;
	case OPT_MAX_CONNECTIONS:
		return read_number("max-connections", optarg, 1, SFD_QUEUE_DEPTH_MAX - SPARE_CONNS, &n) &&
		       (o->max_connections = (unsigned)n);
	case OPT_HEADER:
		return read_number("header-timeout", optarg, 1, 86400000, &n) && (o->header_timeout = (unsigned)n);
	case OPT_KEEP_ALIVE:
		return read_number("keep-alive-timeout", optarg, 1, 86400000, &n) &&
		       (o->keep_alive_timeout = (unsigned)n);
	case OPT_SEND:
		return read_number("send-timeout", optarg, 1, 86400000, &n) && (o->send_timeout = (unsigned)n);
	case OPT_DISK:
		return read_number("disk-timeout", optarg, 1, 86400000, &n) && (o->disk_timeout = (unsigned)n);
	default:
		return read_number("max-header", optarg, 256, 60000, &n) && (o->max_header = (unsigned)n);
	}
}

int options_read(struct options *o, int argc, char *argv[])
{
	int opt;

	*o = (struct options){.address = "127.0.0.1",
		.log = "-",
		.port = 8080,
		.max_connections = 1000,
		.header_timeout = 10000,
		.keep_alive_timeout = 30000,
		.send_timeout = 30000,
		.disk_timeout = 30000,
		.max_header = 16384};
	while ((opt = getopt_long(argc, argv, "a:p:s:S:l:", long_options, NULL)) != -1) {
		switch (opt) {
		case 'a':
			o->address = optarg;
			break;
		case 's':
			o->name = optarg;
			break;
		case 'S':
			o->sockdir = optarg;
			break;
		case 'l':
			o->log = strcmp(optarg, "none") == 0 ? NULL : optarg;
			break;
		case OPT_HELP:
			fputs(usage, stdout);
			return -1;
		case '?':
			fputs("Try 'sfd-httpd --help'.\n", stderr);
			return 2;
		default:
			if (!set_number(o, opt))
				return 2;
		}
	}
	if (optind != argc - 1) {
		fputs("sfd-httpd: one directory is to be named\nTry 'sfd-httpd --help'.\n", stderr);
		return 2;
	}
	o->directory = argv[optind];
	return 0;
}
