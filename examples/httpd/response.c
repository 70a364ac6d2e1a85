/* SPDX-License-Identifier: BSD-2-Clause */
#include "response.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} texts[] = {{200, "OK"}, {206, "Partial Content"}, {301, "Moved Permanently"}, {304, "Not Modified"},
		{400, "Bad Request"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
		{408, "Request Timeout"}, {412, "Precondition Failed"}, {413, "Content Too Large"},
		{414, "URI Too Long"}, {416, "Range Not Satisfiable"}, {417, "Expectation Failed"},
		{431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
		{503, "Service Unavailable"}, {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (texts[i].status == status)
			return texts[i].text;
	}
	return "";
}

int status_of_error(int err)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EINVAL: /* no regular file */
	case ENAMETOOLONG:
		return 404;
	case EACCES:
	case EPERM:
	case EXDEV:
		return 403;
	case ETIMEDOUT:
		return 504;
	case EIO:
		return 500;
	default: /* no room, or no daemon */
		return 503;
	}
}

const char *type_of(const char *path)
{
	static const struct {
		const char *extension, *type;
	} types[] = {{"html", "text/html; charset=utf-8"}, {"htm", "text/html; charset=utf-8"},
		{"css", "text/css; charset=utf-8"}, {"js", "text/javascript; charset=utf-8"},
		{"mjs", "text/javascript; charset=utf-8"}, {"json", "application/json"},
		{"txt", "text/plain; charset=utf-8"}, {"md", "text/plain; charset=utf-8"},
		{"c", "text/plain; charset=utf-8"}, {"h", "text/plain; charset=utf-8"}, {"csv", "text/csv"},
		{"xml", "application/xml"}, {"svg", "image/svg+xml"}, {"png", "image/png"}, {"jpg", "image/jpeg"},
		{"jpeg", "image/jpeg"}, {"gif", "image/gif"}, {"webp", "image/webp"}, {"avif", "image/avif"},
		{"ico", "image/x-icon"}, {"mp4", "video/mp4"}, {"webm", "video/webm"}, {"mp3", "audio/mpeg"},
		{"ogg", "audio/ogg"}, {"wav", "audio/wav"}, {"pdf", "application/pdf"}, {"wasm", "application/wasm"},
		{"woff2", "font/woff2"}, {"zip", "application/zip"}, {"gz", "application/gzip"}};
	const char *name = strrchr(path, '/');
	const char *dot = strrchr(name ? name : path, '.');

	for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++) {
		if (strcasecmp(types[i].extension, dot + 1) == 0)
			return types[i].type;
	}
	return "application/octet-stream";
}

/* ---- Dates and tags */

void format_date(char out[DATE_SIZE], time_t t)
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* In any of the three forms of RFC 9110, section 5.6.7. */
static bool read_date(struct text t, time_t *out)
{
	static const char *const forms[] = {
		"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"};
	char copy[64];

	if (!t.at || t.len >= sizeof copy)
		return false;
	memcpy(copy, t.at, t.len);
	copy[t.len] = '\0';
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct tm tm = {0};
		const char *end = strptime(copy, forms[i], &tm);

		if (end && *end == '\0') {
			*out = timegm(&tm);
			return true;
		}
	}
	return false;
}

void format_tag(char out[TAG_SIZE], const struct sfd_file_info *info)
{
	snprintf(out, TAG_SIZE, "\"%llx-%llx-%llx.%x\"", (unsigned long long)info->ino,
		(unsigned long long)info->file_size, (unsigned long long)info->mtime, info->mtime_nsec);
}

static bool is_weak(struct text t)
{
	return t.len > 2 && memcmp(t.at, "W/", 2) == 0;
}

/* Whether a part of the list names the file. A weak tag counts only where that is enough. */
static bool part_names(struct text list, const char *tag, bool weak_counts)
{
	const size_t len = strlen(tag);

	for (size_t i = 0; i < list.len; i++) {
		const char *at = list.at + i;

		if (*at == '*' && list.len == 1)
			return true;
		if (*at != '"')
			continue;
		if (list.len - i >= len && memcmp(at, tag, len) == 0 &&
			(weak_counts || i < 2 || !is_weak((struct text){at - 2, len + 2})))
			return true;
		at = memchr(at + 1, '"', list.len - i - 1);
		if (!at)
			return false;
		i = (size_t)(at - list.at);
	}
	return false;
}

static bool names(const struct texts *list, const char *tag, bool weak_counts)
{
	for (size_t i = 0; i < list->n; i++) {
		if (part_names(list->at[i], tag, weak_counts))
			return true;
	}
	return false;
}

int check_conditions(const struct request *r, const struct sfd_file_info *info)
{
	char tag[TAG_SIZE];
	time_t date;

	format_tag(tag, info);
	if (r->if_match.n > 0) {
		if (!names(&r->if_match, tag, false))
			return 412;
	} else if (read_date(r->if_unmodified_since, &date) && info->mtime > date) {
		return 412;
	}
	if (r->if_none_match.n > 0)
		return names(&r->if_none_match, tag, true) ? 304 : 0;
	return read_date(r->if_modified_since, &date) && info->mtime <= date ? 304 : 0;
}

/* ---- Ranges: RFC 9110, section 14 */

static bool is_what_if_range_says(const struct request *r, const struct sfd_file_info *info)
{
	char tag[TAG_SIZE];

	if (!r->if_range.at)
		return true;
	/* A date is true of whatever a file was in that second. Who has it from us has a tag as well. */
	format_tag(tag, info);
	return r->if_range.len == strlen(tag) && memcmp(r->if_range.at, tag, r->if_range.len) == 0;
}

static const char *read_position(const char *at, const char *end, uint64_t *out, bool *is_there)
{
	*out = 0;
	*is_there = at < end && *at >= '0' && *at <= '9';
	for (; at < end && *at >= '0' && *at <= '9'; at++)
		*out = *out > (INT64_MAX - 9) / 10 ? INT64_MAX : *out * 10 + (uint64_t)(*at - '0');
	return at;
}

/* "A-B", "A-", "-N": false if it is none of these. An empty one (first > last) lies behind the file's end. */
static bool read_range(const char *at, const char *end, uint64_t size, struct range *out)
{
	bool has_first, has_last;
	uint64_t first, last;

	at = read_position(at, end, &first, &has_first);
	if (at == end || *at != '-')
		return false;
	at = read_position(at + 1, end, &last, &has_last);
	if (at != end || !(has_first || has_last) || (has_first && has_last && last < first))
		return false;
	if (!has_first) {
		*out = last == 0 || size == 0 ? (struct range){1, 0}
					      : (struct range){last < size ? size - last : 0, size - 1};
	} else if (first >= size) {
		*out = (struct range){1, 0};
	} else {
		*out = (struct range){first, has_last && last < size ? last : size - 1};
	}
	return true;
}

int find_ranges(const struct request *r, const struct sfd_file_info *info, struct range out[RANGES_MAX])
{
	const char *at = r->range.at, *end;
	uint64_t sum = 0;
	int n = 0;
	bool any = false;

	if (!at || r->is_head || r->range.len < 6 || strncasecmp(at, "bytes=", 6) != 0 ||
		!is_what_if_range_says(r, info))
		return 0;
	end = at + r->range.len;
	for (at += 6; at < end;) {
		const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end, *last = stop;
		struct range range;

		while (at < last && (*at == ' ' || *at == '\t'))
			at++;
		while (last > at && (last[-1] == ' ' || last[-1] == '\t'))
			last--;
		if (at < last) { /* elements of a list may be empty */
			any = true;
			if (!read_range(at, last, info->file_size, &range))
				return 0;
			if (range.first <= range.last) {
				if (n == RANGES_MAX)
					return 0;
				sum += range.last - range.first + 1;
				out[n++] = range;
			}
		}
		at = comma ? comma + 1 : end;
	}
	/* Who asks for more than there is, in parts, gets it whole. */
	if (!any || (n > 1 && sum > info->file_size))
		return 0;
	return n > 0 ? n : -1;
}

size_t encode_path(char *out, size_t size, const char *path)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (; *path != '\0' && n + 4 < size; path++) {
		const unsigned char c = (unsigned char)*path;

		if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("-._~/", c)) {
			out[n++] = (char)c;
		} else {
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	out[n] = '\0';
	return n;
}
