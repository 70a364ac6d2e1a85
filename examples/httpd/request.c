/* SPDX-License-Identifier: BSD-2-Clause */
#include "request.h"

#include <string.h>
#include <strings.h>

enum { BODY_MAX = 1 << 20, CHUNK_LINE_MAX = 1024, TRAILERS_MAX = 8192 };

/* ---- Characters: RFC 9110, section 5.6 */

static bool is_token_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct text t)
{
	for (size_t i = 0; i < t.len; i++) {
		if (!is_token_char((unsigned char)t.at[i]))
			return false;
	}
	return t.len > 0;
}

static bool is_value_char(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

static bool same(struct text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static struct text trim(struct text t)
{
	while (t.len > 0 && (t.at[0] == ' ' || t.at[0] == '\t')) {
		t.at++;
		t.len--;
	}
	while (t.len > 0 && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
		t.len--;
	return t;
}

/* The next element of a list with commas; false at its end. */
static bool next_element(struct text *list, struct text *element)
{
	const char *comma;

	if (!list->at || list->len == 0)
		return false;
	comma = memchr(list->at, ',', list->len);
	*element = (struct text){list->at, comma ? (size_t)(comma - list->at) : list->len};
	list->at += element->len + (comma != NULL);
	list->len -= element->len + (comma != NULL);
	*element = trim(*element);
	return true;
}

static bool read_number(struct text t, uint64_t *out)
{
	*out = 0;
	for (size_t i = 0; i < t.len; i++) {
		if (t.at[i] < '0' || t.at[i] > '9' || *out > (UINT64_MAX - 9) / 10)
			return false;
		*out = *out * 10 + (uint64_t)(t.at[i] - '0');
	}
	return t.len > 0;
}

/* ---- The target */

/* Takes the last segment away; false if there is none, which would be above the root. */
static bool go_up(char *path, size_t *len)
{
	if (*len == 0)
		return false;
	(*len)--; /* the slash */
	while (*len > 0 && path[*len - 1] != '/')
		(*len)--;
	return true;
}

/* One segment, decoded behind the others. 0 or a status. */
static int add_segment(char *path, size_t *len, struct text s, bool *is_dots)
{
	size_t begin = *len, n;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.at[i];

		if (c == '%') {
			int high = i + 2 < s.len ? hex_digit(s.at[i + 1]) : -1;
			int low = high >= 0 ? hex_digit(s.at[i + 2]) : -1;

			if (low < 0)
				return 400;
			c = (char)(high * 16 + low);
			i += 2;
			if (c == '\0')
				return 400;
			if (c == '/')
				return 404; /* a name that no file can have */
		}
		if (*len + 2 >= PATH_MAX)
			return 414;
		path[(*len)++] = c;
	}
	n = *len - begin;
	*is_dots = (n == 1 && path[begin] == '.') || (n == 2 && memcmp(path + begin, "..", 2) == 0);
	if (*is_dots) {
		*len = begin;
		if (n == 2 && !go_up(path, len))
			return 400;
	}
	return 0;
}

/* An absolute path, percent-encoded: it is taken apart first and decoded then, so that what an escape says is never a slash. */
static int read_path(struct request *r, struct text t)
{
	size_t len = 0;
	bool ends_in_slash = true;

	while (t.len > 0) {
		const char *slash;
		struct text segment;
		bool is_dots = false;
		size_t before;
		int err;

		t.at++; /* the slash before it */
		t.len--;
		slash = memchr(t.at, '/', t.len);
		segment = (struct text){t.at, slash ? (size_t)(slash - t.at) : t.len};
		t.at += segment.len;
		t.len -= segment.len;
		before = len;
		err = add_segment(r->path, &len, segment, &is_dots);
		if (err)
			return err;
		ends_in_slash = slash || is_dots || segment.len == 0;
		if (!is_dots && len > before)
			r->path[len++] = '/';
	}
	if (!ends_in_slash && len > 0)
		len--;
	r->path[len] = '\0';
	r->is_directory = ends_in_slash;
	return 0;
}

/* RFC 9110, 7.2, and RFC 3986, 3.2.2: a name or an address, and perhaps a port. It may be empty. */
static bool is_host(struct text t)
{
	for (size_t i = 0; i < t.len; i++) {
		const char c = t.at[i];

		if (c == '\0' || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
					 strchr("-._~%!$&'()*+;=:[]", c)))
			return false;
	}
	return true;
}

static int read_target(struct request *r, struct text t)
{
	const char *mark;

	for (size_t i = 0; i < t.len; i++) {
		if ((unsigned char)t.at[i] <= ' ' || t.at[i] == 0x7f || t.at[i] == '#')
			return 400;
	}
	/* The form that is for proxies, and to be understood nevertheless. */
	if (t.len >= 7 && strncasecmp(t.at, "http://", 7) == 0) {
		struct text host = {t.at + 7, 0};

		t.at += 7;
		t.len -= 7;
		while (t.len > 0 && t.at[0] != '/' && t.at[0] != '?') {
			t.at++;
			t.len--;
			host.len++;
		}
		if (host.len == 0 || !is_host(host))
			return 400;
		if (t.len == 0 || t.at[0] == '?')
			t = (struct text){"/", 1};
	}
	mark = memchr(t.at, '?', t.len);
	if (mark) {
		r->query = (struct text){mark, t.len - (size_t)(mark - t.at)};
		t.len = (size_t)(mark - t.at);
	}
	if (t.len == 0 || t.at[0] != '/')
		return 400;
	return read_path(r, t);
}

/* ---- The first line */

static int read_method(struct request *r, struct text t)
{
	static const char *const others[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"};

	if (!is_token(t))
		return 400;
	r->is_head = t.len == 4 && memcmp(t.at, "HEAD", 4) == 0;
	if (r->is_head || (t.len == 3 && memcmp(t.at, "GET", 3) == 0))
		return 0;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		if (t.len == strlen(others[i]) && memcmp(t.at, others[i], t.len) == 0)
			return 405;
	}
	return 501;
}

static int read_version(struct request *r, struct text t)
{
	if (t.len != 8 || memcmp(t.at, "HTTP/", 5) != 0 || t.at[5] < '0' || t.at[5] > '9' || t.at[6] != '.' ||
		t.at[7] < '0' || t.at[7] > '9')
		return 400;
	if (t.at[5] != '1')
		return 505;
	r->is_11 = t.at[7] > '0';
	r->keep_alive = r->is_11;
	return 0;
}

static int read_first_line(struct request *r, struct text line)
{
	const char *first = memchr(line.at, ' ', line.len), *last = memrchr(line.at, ' ', line.len);
	struct text target;
	int method, err;

	r->line = line;
	if (!first || first == last)
		return 400;
	target = (struct text){first + 1, (size_t)(last - first) - 1};
	method = read_method(r, (struct text){line.at, (size_t)(first - line.at)});
	if (method == 400)
		return method;
	err = read_version(r, (struct text){last + 1, line.len - (size_t)(last - line.at) - 1});
	if (err || method)
		return err ? err : method;
	return read_target(r, target);
}

/* ---- Fields */

static int read_connection(struct request *r, struct text value)
{
	struct text option;

	while (next_element(&value, &option)) {
		if (same(option, "close"))
			r->wants_close = true;
		else if (same(option, "keep-alive"))
			r->keep_alive = true;
	}
	if (r->wants_close)
		r->keep_alive = false;
	return 0;
}

/* What two readers might understand in two ways is nobody's request. */
static int read_length(struct request *r, struct text value)
{
	uint64_t n;

	if (r->body == BODY_CHUNKED || !read_number(value, &n) || (r->body == BODY_LENGTH && n != r->body_length))
		return 400;
	r->body = BODY_LENGTH;
	r->body_length = n;
	return 0;
}

static int read_coding(struct request *r, struct text value)
{
	if (r->body != BODY_NONE || !r->is_11)
		return 400;
	if (!same(value, "chunked"))
		return 501;
	r->body = BODY_CHUNKED;
	return 0;
}

static int read_expect(struct request *r, struct text value)
{
	if (!same(value, "100-continue"))
		return 417;
	r->expects_continue = r->is_11;
	return 0;
}

static int read_list(struct texts *list, struct text value)
{
	if (list->n == FIELDS_MAX)
		return 400;
	list->at[list->n++] = value;
	return 0;
}

static int read_field(struct request *r, struct text name, struct text value, unsigned *hosts)
{
	const struct {
		const char *name;
		struct text *where;
	} kept[] = {{"Range", &r->range}, {"If-Range", &r->if_range}, {"If-Modified-Since", &r->if_modified_since},
		{"If-Unmodified-Since", &r->if_unmodified_since}};

	if (same(name, "Host")) {
		*hosts += 1;
		return is_host(value) ? 0 : 400;
	}
	if (same(name, "If-Match"))
		return read_list(&r->if_match, value);
	if (same(name, "If-None-Match"))
		return read_list(&r->if_none_match, value);
	if (same(name, "Connection"))
		return read_connection(r, value);
	if (same(name, "Content-Length"))
		return read_length(r, value);
	if (same(name, "Transfer-Encoding"))
		return read_coding(r, value);
	if (same(name, "Expect"))
		return read_expect(r, value);
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		if (same(name, kept[i].name))
			*kept[i].where = value;
	}
	return 0;
}

static int read_field_line(struct request *r, struct text line, unsigned *hosts)
{
	const char *colon = memchr(line.at, ':', line.len);
	struct text name, value;

	if (!colon)
		return 400;
	name = (struct text){line.at, (size_t)(colon - line.at)};
	value = trim((struct text){colon + 1, line.len - name.len - 1});
	if (!is_token(name))
		return 400; /* also white space before the colon, and at the beginning of a folded line */
	for (size_t i = 0; i < value.len; i++) {
		if (!is_value_char((unsigned char)value.at[i]))
			return 400;
	}
	return read_field(r, name, value, hosts);
}

static struct text next_line(struct text *rest)
{
	const char *end = memmem(rest->at, rest->len, "\r\n", 2);
	struct text line = {rest->at, end ? (size_t)(end - rest->at) : rest->len};

	rest->at += line.len + (end ? 2 : 0);
	rest->len -= line.len + (end ? 2 : 0);
	return line;
}

size_t request_find_end(const char *buf, size_t len)
{
	const char *end = memmem(buf, len, "\r\n\r\n", 4);

	return end ? (size_t)(end - buf) + 4 : 0;
}

static int parse(struct request *r, const char *buf, size_t len)
{
	struct text rest = {buf, len - 2};
	unsigned hosts = 0;
	int first, fields = 0;

	memset(r, 0, offsetof(struct request, path));
	r->path[0] = '\0';
	for (size_t i = 0; i < len; i++) {
		/* A line feed alone, or a carriage return alone, is read as the end of a line by some and not by others. */
		if (buf[i] == '\0' || (buf[i] == '\n' && (i == 0 || buf[i - 1] != '\r')) ||
			(buf[i] == '\r' && (i + 1 == len || buf[i + 1] != '\n')))
			return 400;
	}
	first = read_first_line(r, next_line(&rest));
	if (first == 400 || first == 505)
		return first;
	while (rest.len > 0 && fields == 0)
		fields = read_field_line(r, next_line(&rest), &hosts);
	if (fields)
		return fields;
	if (hosts > 1 || (hosts == 0 && r->is_11))
		return 400;
	if (r->body == BODY_LENGTH && r->body_length > BODY_MAX)
		return 413;
	if (r->body == BODY_LENGTH && r->body_length == 0)
		r->body = BODY_NONE;
	r->is_whole = true;
	return first;
}

int request_parse(struct request *r, const char *buf, size_t len)
{
	int status = parse(r, buf, len);

	if (!r->is_whole)
		r->keep_alive = false;
	return status;
}

/* ---- Bodies */

enum step {
	STEP_SIZE,
	STEP_BLANK,
	STEP_EXTENSION,
	STEP_SIZE_END,
	STEP_DATA,
	STEP_DATA_CR,
	STEP_DATA_LF,
	STEP_TRAILER,
	STEP_TRAILER_END
};

void body_start(struct body_state *b, const struct request *r)
{
	*b = (struct body_state){
		.kind = r->body, .left = r->body == BODY_LENGTH ? r->body_length : 0, .step = STEP_SIZE};
}

/* White space before an extension, or before nothing, is "bad" but allowed (RFC 9112, 7.1.1). */
static int eat_size_end(struct body_state *b, char c)
{
	if (c == '\r')
		b->step = STEP_SIZE_END;
	else if (c == ';')
		b->step = STEP_EXTENSION;
	else if ((c == ' ' || c == '\t') && ++b->line <= CHUNK_LINE_MAX)
		b->step = STEP_BLANK;
	else
		return 400;
	return BODY_MORE;
}

static int eat_size(struct body_state *b, char c)
{
	int digit = hex_digit(c);

	if (digit >= 0) {
		b->left = b->left * 16 + (uint64_t)digit;
		b->line++;
		return b->left > BODY_MAX ? 413 : BODY_MORE;
	}
	if (b->line == 0)
		return 400;
	return eat_size_end(b, c);
}

/* Fields after the last chunk, up to an empty line. */
static int eat_trailer(struct body_state *b, char c)
{
	if (++b->total > TRAILERS_MAX + BODY_MAX)
		return 413;
	if (c == '\r') {
		b->step = STEP_TRAILER_END;
		return BODY_MORE;
	}
	b->line++;
	return is_value_char((unsigned char)c) ? BODY_MORE : 400;
}

static int eat_one(struct body_state *b, char c)
{
	switch (b->step) {
	case STEP_SIZE:
		return eat_size(b, c);
	case STEP_BLANK:
		return eat_size_end(b, c);
	case STEP_EXTENSION:
		if (c == '\r')
			b->step = STEP_SIZE_END;
		else if (!is_value_char((unsigned char)c) || ++b->line > CHUNK_LINE_MAX)
			return 400;
		return BODY_MORE;
	case STEP_SIZE_END:
		b->step = b->left > 0 ? STEP_DATA : STEP_TRAILER;
		b->line = 0;
		b->total += b->left;
		if (b->total > BODY_MAX)
			return 413;
		return c == '\n' ? BODY_MORE : 400;
	case STEP_DATA_CR:
		b->step = STEP_DATA_LF;
		return c == '\r' ? BODY_MORE : 400;
	case STEP_DATA_LF:
		b->step = STEP_SIZE;
		b->line = 0;
		return c == '\n' ? BODY_MORE : 400;
	case STEP_TRAILER:
		return eat_trailer(b, c);
	default: /* STEP_TRAILER_END */
		if (c != '\n')
			return 400;
		if (b->line == 0)
			return BODY_END;
		b->step = STEP_TRAILER;
		b->line = 0;
		return BODY_MORE;
	}
}

int body_eat(struct body_state *b, const char *buf, size_t len, size_t *eaten)
{
	int result = b->kind == BODY_NONE || (b->kind == BODY_LENGTH && b->left == 0) ? BODY_END : BODY_MORE;

	*eaten = 0;
	while (result == BODY_MORE && *eaten < len) {
		if (b->kind == BODY_LENGTH || b->step == STEP_DATA) {
			uint64_t n = len - *eaten < b->left ? len - *eaten : b->left;

			*eaten += n;
			b->left -= n;
			if (b->left == 0 && b->kind == BODY_LENGTH)
				result = BODY_END;
			else if (b->left == 0)
				b->step = STEP_DATA_CR;
		} else {
			result = eat_one(b, buf[(*eaten)++]);
		}
	}
	return result;
}
