/* SPDX-License-Identifier: BSD-2-Clause */
/* What the user sees: complaints, JSON, sizes and times, and the bar. */
#include "sfdcat.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { BAR_AFTER_MS = 1000 }; /* it is drawn from then on, unless it was asked for */

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void complain(const char *format, ...)
{
	va_list args;

	fputs("sfdcat: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* As cat does: a terminal obeys what some names hold, and a shell takes apart others. */
static void put_quoted(FILE *out, const char *name)
{
	static const char controls[] = "\a\b\t\n\v\f\r", specials[] = " !\"#$&'()*;<=>?[\\]^`{|}";
	bool has_control = false;

	for (const char *s = name; *s; s++)
		has_control = has_control || (unsigned char)*s < 0x20 || *s == 0x7f;
	if (*name != '\0' && !has_control && !strpbrk(name, specials)) {
		fputs(name, out);
		return;
	}
	if (!has_control && strchr(name, '\'') && !strpbrk(name, "!\"$\\`")) {
		fprintf(out, "\"%s\"", name);
		return;
	}
	fputc('\'', out);
	for (const char *s = name; *s; s++) {
		const char *known = strchr(controls, *s);

		if (known)
			fprintf(out, "'$'\\%c''", "abtnvfr"[known - controls]);
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			fprintf(out, "'$'\\%03o''", (unsigned char)*s);
		else if (*s == '\'')
			fputs("'\\''", out);
		else
			fputc(*s, out);
	}
	fputc('\'', out);
}

void complain_of(const char *name, const char *text)
{
	fputs("sfdcat: ", stderr);
	put_quoted(stderr, name);
	fprintf(stderr, ": %s\n", text);
}

/* The length of the UTF-8 character there, of which RFC 3629 allows the form; 0: it is none. */
static size_t utf8_length(const unsigned char *s)
{
	const unsigned char c = s[0];
	const size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) || (c == 0xf0 && s[1] < 0x90) ||
		(c == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* A string in JSON. What is not UTF-8 becomes U+FFFD; returns whether there was any. */
static bool json_string(FILE *out, const char *text)
{
	bool lossy = false;

	fputc('"', out);
	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		const size_t n = utf8_length(s);

		if (n == 0)
			fputs("\\ufffd", out);
		else if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(out, "\\u%04x", *s);
		else
			fwrite(s, 1, n, out);
		lossy = lossy || n == 0;
		s += n > 0 ? n : 1;
	}
	fputc('"', out);
	return lossy;
}

static void print_time(FILE *out, time_t seconds, uint32_t nsec)
{
	char text[64] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(out, "%s.%09" PRIu32 "Z", text, nsec);
}

/* A name that is not UTF-8 is there once more, as hexadecimal digits. */
static void json_name(FILE *out, const char *name)
{
	fputs("{\"file\":", out);
	if (!json_string(out, name))
		return;
	fputs(",\"file_hex\":\"", out);
	for (const unsigned char *s = (const unsigned char *)name; *s; s++)
		fprintf(out, "%02x", *s);
	fputc('"', out);
}

void json_line(const struct app *a, const struct file *f, const char *error)
{
	FILE *out = a->mode == MODE_SEND ? stderr : stdout;

	json_name(out, f->name);
	fprintf(out, ",\"size\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"written\":%" PRIu64 ",\"status\":%d,\"error\":",
		f->info.file_size, f->done, f->was_out, error ? f->stat : SFD_STAT_OK);
	if (error)
		json_string(out, error);
	else
		fputs("null", out);
	fprintf(out, ",\"seconds\":%.6f", now() - f->began);
	if (a->mode == MODE_HOT)
		fprintf(out, ",\"hot\":%s", f->hot ? "true" : "false");
	if (a->mode == MODE_STAT && !error) {
		fputs(",\"modified\":\"", out);
		print_time(out, f->info.mtime, f->info.mtime_nsec);
		fprintf(out, "\",\"device\":\"%u:%u\",\"inode\":%" PRIu64, major(f->info.dev), minor(f->info.dev),
			f->info.ino);
	}
	fputs("}\n", out);
}

void print_stat(const struct file *f)
{
	printf("%s: %" PRIu64 " bytes, modified ", f->name, f->info.file_size);
	print_time(stdout, f->info.mtime, f->info.mtime_nsec);
	fputs(", changed ", stdout);
	print_time(stdout, f->info.ctime, f->info.ctime_nsec);
	fputs(", accessed ", stdout);
	print_time(stdout, f->info.atime, f->info.atime_nsec);
	printf(", device %u:%u, inode %" PRIu64 "\n", major(f->info.dev), minor(f->info.dev), f->info.ino);
}

/* ---- The progress bar */

static const char *human(double n, char text[16])
{
	static const char units[] = " KMGTPE";
	size_t i = 0;

	for (; n >= 1024 && i < sizeof units - 2; i++)
		n /= 1024;
	snprintf(text, 16, i == 0 ? "%.0f" : "%.1f%c", n, units[i]);
	return text;
}

/* So many columns; what a terminal could take for more, or for a command, is a question mark. */
static void draw_name(const char *name, size_t room)
{
	const size_t n = strlen(name);

	for (const char *s = n > room ? name + n - room : name; *s; s++)
		fputc(*s > ' ' && *s < 0x7f ? *s : '?', stderr);
}

void draw_bar(struct app *a, const struct file *f)
{
	enum { WIDTH = 20, REST = 64 };
	const double took = now() - f->began, sent = (double)(f->done + f->moved);
	const double part = f->length > 0 ? sent / (double)f->length : 1, rate = took > 0 ? sent / took : 0;
	const double left = rate > 0 ? ((double)f->length - sent) / rate : 0;
	const int full = (int)(part * WIDTH);
	char bytes[16], speed[16];
	struct winsize size;
	unsigned columns = 80;

	if (!a->bar || (!a->bar_at_once && took * 1000 < BAR_AFTER_MS))
		return;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		columns = size.ws_col;
	fputc('\r', stderr);
	draw_name(f->name, columns > REST ? columns - REST : 0);
	fprintf(stderr, " %3d%% [%.*s%.*s] %s %s/s %d:%02d left\033[K", (int)(part * 100), full,
		"====================", WIDTH - full, "                    ", human(sent, bytes), human(rate, speed),
		(int)(left / 60), (int)left % 60);
	fflush(stderr);
	a->bar_shown = true;
}

/* What is printed next gets a line of its own. */
void leave_bar(struct app *a)
{
	if (a->bar_shown)
		fputc('\n', stderr);
	a->bar_shown = false;
}
