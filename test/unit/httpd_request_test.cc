// SPDX-License-Identifier: BSD-2-Clause
// What sfd-httpd makes of what a client says: headers, paths, bodies, conditions, ranges.
extern "C" {
#include "examples/httpd/request.h"
#include "examples/httpd/response.h"
}

#include <cerrno>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

namespace
{

// A header, and what was read of it; the request points into the string.
struct Parsed {
	std::string text;
	request r;
	int status;

	explicit Parsed(std::string header) : text(std::move(header)), r(), status(0)
	{
		status = request_parse(&r, text.data(), text.size());
	}
};

Parsed get(const std::string &target, const std::string &fields = "")
{
	return Parsed("GET " + target + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n");
}

std::string path_of(const std::string &target)
{
	const Parsed p = get(target);

	return p.status == 0 ? p.r.path : "status " + std::to_string(p.status);
}

TEST(HttpdRequest, Paths)
{
	const std::pair<const char *, const char *> paths[] = {{"/", ""}, {"/a", "a"}, {"/a/b.txt", "a/b.txt"},
		{"/a/", "a/"}, {"//a///b", "a/b"}, {"/a/./b/.", "a/b/"}, {"/a/../b", "b"}, {"/a/b/..", "a/"},
		{"/a?b=/../..", "a"}, {"/%61%2Eb", "a.b"}, {"/a%20b%25", "a b%"}, {"/%c3%bc", "\xc3\xbc"},
		{"/a+b", "a+b"}, {"/...", "..."}, {"http://host/a", "a"}, {"HTTP://host:80", ""}, {"http://host?x", ""},
		{"/..", "status 400"}, {"/a/../../b", "status 400"}, {"/%2e%2e/b", "status 400"},
		{"/%2E./", "status 400"}, {"/a%2fb", "status 404"}, {"/%00", "status 400"}, {"/%", "status 400"},
		{"/%4", "status 400"}, {"/%4g", "status 400"}, {"/%%41", "status 400"}, {"/a%4/b", "status 400"},
		{"a", "status 400"}, {"*", "status 400"}, {"ftp://host/", "status 400"}, {"/a#b", "status 400"},
		{"/a b", "status 400"}, {"/a\tb", "status 400"}, {"/a\x7f", "status 400"}};

	for (const auto &[target, path] : paths)
		EXPECT_EQ(path, path_of(target)) << target;
	EXPECT_TRUE(get("/").r.is_directory);
	EXPECT_TRUE(get("/a/").r.is_directory);
	EXPECT_TRUE(get("/a/b/..").r.is_directory);
	EXPECT_FALSE(get("/a").r.is_directory);
	EXPECT_EQ("status 414", path_of("/" + std::string(PATH_MAX, 'a')));
}

// Whatever the path, what comes of it stays below the root.
TEST(HttpdRequest, NoPathLeavesTheRoot)
{
	std::mt19937 random(20261126);
	const std::vector<std::string> pieces = {
		"/", "..", ".", "%2e", "%2E", "a", "%2f", "//", "%5c", "\\", "%252e", "?", ";"};

	for (int i = 0; i < 200000; i++) {
		std::string target = "/";

		for (unsigned n = random() % 12; n > 0; n--)
			target += pieces[random() % pieces.size()];
		const Parsed p = get(target);
		if (p.status != 0)
			continue;
		const std::string path = "/" + std::string(p.r.path) + "/";
		ASSERT_EQ(std::string::npos, path.find("/../")) << target;
		ASSERT_NE('/', p.r.path[0]) << target;
	}
}

TEST(HttpdRequest, FirstLines)
{
	const std::pair<const char *, int> lines[] = {{"GET / HTTP/1.1", 0}, {"HEAD / HTTP/1.1", 0},
		{"GET / HTTP/1.9", 0}, {"POST / HTTP/1.1", 405}, {"OPTIONS * HTTP/1.1", 405},
		{"CONNECT a:1 HTTP/1.1", 405}, {"BREW / HTTP/1.1", 501}, {"get / HTTP/1.1", 501},
		{"GET / HTTP/2.0", 505}, {"GET / HTTP/0.9", 505}, {"GET / http/1.1", 400}, {"GET / HTTP/1.1 ", 400},
		{"GET  / HTTP/1.1", 400}, {" GET / HTTP/1.1", 400}, {"GET / HTTP/1", 400}, {"GET / HTTP/1.10", 400},
		{"GET / HTTP/a.1", 400}, {"GET /", 400}, {"GET", 400}, {"", 400}, {"G(T / HTTP/1.1", 400},
		{"GET\t/ HTTP/1.1", 400}, {"GET /\r HTTP/1.1", 400}, {"GET http://a/ HTTP/1.1", 0},
		{"GET http:///a HTTP/1.1", 400}, {"GET http://u@h/ HTTP/1.1", 400}};

	for (const auto &[line, status] : lines)
		EXPECT_EQ(status, Parsed(std::string(line) + "\r\nHost: x\r\n\r\n").status) << line;
	EXPECT_TRUE(Parsed("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").r.is_head);
}

TEST(HttpdRequest, Fields)
{
	const std::pair<const char *, int> fields[] = {{"A: b", 0}, {"A:b", 0}, {"A:", 0}, {"A: \xff\xfe", 0},
		{"A: \t b\t ", 0}, {"A : b", 400}, {" A: b", 400}, {"A: b\r\n c", 400}, {": b", 400}, {"A", 400},
		{"A(: b", 400}, {"A: \x01", 400}, {"A: b\nC: d", 400}, {"A: b\rC: d", 400}, {"Host: y", 400},
		{"If-Match: a\r\nIf-Match: b", 0},
		{"If-Match: a\r\nIf-Match: b\r\nIf-Match: c\r\nIf-Match: d\r\nIf-Match: e", 400},
		{"Content-Length: 1", 0}, {"Content-Length: 1048577", 413}, {"Content-Length: -1", 400},
		{"Content-Length: +1", 400}, {"Content-Length: 1x", 400}, {"Content-Length: ", 400},
		{"Content-Length: 99999999999999999999999", 400}, {"Content-Length: 1\r\nContent-Length: 1", 0},
		{"Content-Length: 1\r\nContent-Length: 2", 400}, {"Content-Length: 1, 1", 400},
		{"Transfer-Encoding: chunked", 0}, {"Transfer-Encoding: gzip", 501},
		{"Transfer-Encoding: gzip, chunked", 501}, {"Transfer-Encoding: chunked\r\nContent-Length: 1", 400},
		{"Content-Length: 1\r\nTransfer-Encoding: chunked", 400},
		{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400}, {"Expect: 100-continue", 0},
		{"Expect: more", 417}};

	for (const auto &[text, status] : fields)
		EXPECT_EQ(status, get("/", std::string(text) + "\r\n").status) << text;
	EXPECT_EQ(400, Parsed("GET / HTTP/1.1\r\n\r\n").status) << "no host";
	EXPECT_EQ(0, Parsed("GET / HTTP/1.0\r\n\r\n").status) << "none needed";
	EXPECT_EQ(400, Parsed("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status);
	const char with_nul[] = "GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n";
	EXPECT_EQ(400, Parsed(std::string(with_nul, sizeof with_nul - 1)).status);
}

// Nothing may be read into a connection of which it is not known where its next request begins.
TEST(HttpdRequest, KeepAlive)
{
	EXPECT_TRUE(get("/").r.keep_alive);
	EXPECT_FALSE(get("/", "Connection: close\r\n").r.keep_alive);
	EXPECT_FALSE(get("/", "Connection: x, Close\r\n").r.keep_alive);
	EXPECT_FALSE(Parsed("GET / HTTP/1.0\r\n\r\n").r.keep_alive);
	EXPECT_TRUE(Parsed("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").r.keep_alive);
	EXPECT_FALSE(Parsed("GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n").r.keep_alive);
	EXPECT_FALSE(get("/", "Connection: close\r\nConnection: keep-alive\r\n").r.keep_alive);
	EXPECT_TRUE(get("/a%2fb").r.keep_alive);
	EXPECT_TRUE(Parsed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n").r.keep_alive);
	for (const char *field : {"Transfer-Encoding: gzip\r\n", "Content-Length: x\r\n", "A\r\n", "Expect: x\r\n"})
		EXPECT_FALSE(get("/", field).r.keep_alive) << field;
}

TEST(HttpdRequest, EndsOnlyAtAnEmptyLine)
{
	const std::string whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

	for (size_t n = 0; n < whole.size(); n++)
		EXPECT_EQ(0U, request_find_end(whole.data(), n)) << n;
	EXPECT_EQ(whole.size(), request_find_end((whole + "GET").data(), whole.size() + 3));
}

// ---- Bodies

struct Eaten {
	int result;
	size_t bytes;
};

// Handed over in pieces of that size.
Eaten eat(const std::string &fields, const std::string &body, size_t piece)
{
	const Parsed p = get("/", fields);
	body_state b;
	Eaten all{BODY_MORE, 0};

	EXPECT_EQ(0, p.status);
	body_start(&b, &p.r);
	do {
		size_t eaten = 0;

		all.result = body_eat(&b, body.data() + all.bytes, std::min(piece, body.size() - all.bytes), &eaten);
		all.bytes += eaten;
	} while (all.result == BODY_MORE && all.bytes < body.size());
	return all;
}

TEST(HttpdBody, EndsWhereItEnds)
{
	const std::string chunked = "Transfer-Encoding: chunked\r\n", next = "GET / HTTP/1.1\r\n";
	const struct {
		std::string fields, body;
	} bodies[] = {{"", ""}, {"Content-Length: 0\r\n", ""}, {"Content-Length: 5\r\n", "hello"},
		{chunked, "0\r\n\r\n"}, {chunked, "5\r\nhello\r\n0\r\n\r\n"},
		{chunked, "A;x=y\r\n0123456789\r\n00\r\nA: b\r\nC: d\r\n\r\n"},
		{chunked, "5 \r\nhel\r\n\r\n0\r\n\r\n"}};

	for (const auto &b : bodies) {
		for (size_t piece : {size_t{1}, size_t{2}, size_t{3}, size_t{1000}}) {
			const Eaten got = eat(b.fields, b.body + next, piece);

			EXPECT_EQ(BODY_END, got.result) << b.body << " in pieces of " << piece;
			EXPECT_EQ(b.body.size(), got.bytes) << b.body << " in pieces of " << piece;
		}
		if (!b.body.empty()) {
			EXPECT_EQ(BODY_MORE, eat(b.fields, b.body.substr(0, b.body.size() - 1), 1000).result) << b.body;
		}
	}
}

TEST(HttpdBody, BadChunks)
{
	const std::pair<std::string, int> bodies[] = {{"x\r\n", 400}, {"\r\n", 400}, {"-1\r\n", 400}, {"5\nhello", 400},
		{"5\rhello", 400}, {"5\r\nhelloX", 400}, {"5\r\nhello\rX", 400}, {"0\r\nA\nB", 400}, {"0\r\n\rX", 400},
		{"100001\r\n", 413}, {"ffffffffffffffff\r\n", 413}, {"fffffffffffffffffffffffff\r\n", 413},
		{"5;" + std::string(5000, 'x'), 400}, {"0x5\r\n", 400}, {"5 6\r\n", 400}, {"5 x", 400}};

	for (const auto &[body, status] : bodies)
		EXPECT_EQ(status, eat("Transfer-Encoding: chunked\r\n", body, 1000).result) << body.substr(0, 40);
	/* Many that are small are much together; and fields without end. */
	std::string many;
	for (int i = 0; i < 300; i++)
		many += "1000\r\n" + std::string(4096, 'x') + "\r\n";
	EXPECT_EQ(413, eat("Transfer-Encoding: chunked\r\n", many, 1000).result);
	std::string fields = "0\r\n";
	while (fields.size() < (2 << 20))
		fields += "A: b\r\n";
	EXPECT_EQ(413, eat("Transfer-Encoding: chunked\r\n", fields, 1000).result);
}

// ---- Conditions and ranges

sfd_file_info file(uint64_t size)
{
	sfd_file_info info = {};

	info.file_size = size;
	info.ino = 7;
	info.mtime = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
	return info;
}

TEST(HttpdResponse, Conditions)
{
	const sfd_file_info info = file(100);
	char tag[TAG_SIZE];
	format_tag(tag, &info);
	const std::string t = tag, same = "Sun, 06 Nov 1994 08:49:37 GMT", before = "Sun, 06 Nov 1994 08:49:36 GMT";
	const std::pair<std::string, int> conditions[] = {{"", 0}, {"If-None-Match: " + t, 304},
		{"If-None-Match: W/" + t, 304}, {"If-None-Match: \"x\", " + t, 304}, {"If-None-Match: *", 304},
		{"If-None-Match: \"x\"", 0}, {"If-None-Match: " + t + "\r\nIf-None-Match: \"x\"", 304},
		{"If-Match: " + t + "\r\nIf-Match: \"x\"", 0}, {"If-None-Match: " + t.substr(0, t.size() - 1), 0},
		{"If-None-Match: \"a, " + t, 0}, {"If-Match: " + t, 0}, {"If-Match: *", 0}, {"If-Match: W/" + t, 412},
		{"If-Match: \"x\"", 412}, {"If-Match: ", 412}, {"If-Modified-Since: " + same, 304},
		{"If-Modified-Since: " + before, 0}, {"If-Modified-Since: yesterday", 0},
		{"If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT", 304},
		{"If-Modified-Since: Sun Nov  6 08:49:37 1994", 304}, {"If-Unmodified-Since: " + same, 0},
		{"If-Unmodified-Since: " + before, 412}, {"If-Match: " + t + "\r\nIf-Unmodified-Since: " + before, 0},
		{"If-None-Match: \"x\"\r\nIf-Modified-Since: " + same, 0}};

	for (const auto &[fields, status] : conditions) {
		const Parsed p = get("/", fields + (fields.empty() ? "" : "\r\n"));

		EXPECT_EQ(status, check_conditions(&p.r, &info)) << fields;
	}
}

// "0-4 10-", "all" or "none".
std::string ranges_of(const std::string &fields, uint64_t size)
{
	const sfd_file_info info = file(size);
	const Parsed p = get("/", fields + "\r\n");
	range all[RANGES_MAX];
	const int n = find_ranges(&p.r, &info, all);
	std::string text;

	for (int i = 0; i < n; i++)
		text += (i > 0 ? " " : "") + std::to_string(all[i].first) + "-" + std::to_string(all[i].last);
	return n < 0 ? "none" : n == 0 ? "all" : text;
}

TEST(HttpdResponse, Ranges)
{
	const std::pair<std::string, const char *> ranges[] = {{"0-0", "0-0"}, {"0-", "0-99"}, {"90-", "90-99"},
		{"90-1000", "90-99"}, {"-1", "99-99"}, {"-1000", "0-99"}, {"-0", "none"}, {"100-", "none"},
		{"100-,-0", "none"}, {"0-1,100-", "0-1"}, {"0-1, 4-5 ,,", "0-1 4-5"}, {"5-4", "all"}, {"a-b", "all"},
		{"1", "all"}, {"-", "all"}, {"", "all"}, {"1-2-3", "all"}, {"0-99,0-99", "all"},
		{"99999999999999999999-", "none"}, {"0-99999999999999999999", "0-99"}, {"+1-2", "all"}, {"0 -1", "all"},
		{"0-1;2-3", "all"}};

	for (const auto &[text, found] : ranges)
		EXPECT_EQ(found, ranges_of("Range: bytes=" + text, 100)) << text;
	EXPECT_EQ("0-1", ranges_of("Range: BYTES=0-1", 100));
	EXPECT_EQ("all", ranges_of("Range: lines=0-1", 100));
	EXPECT_EQ("none", ranges_of("Range: bytes=0-", 0));
	EXPECT_EQ("none", ranges_of("Range: bytes=-1", 0));
	std::string many = "0-0";
	for (int i = 1; i <= RANGES_MAX; i++)
		many += "," + std::to_string(2 * i) + "-" + std::to_string(2 * i);
	EXPECT_EQ("all", ranges_of("Range: bytes=" + many, 100)) << "too many";
}

TEST(HttpdResponse, IfRange)
{
	const sfd_file_info info = file(100);
	char tag[TAG_SIZE];
	format_tag(tag, &info);
	const std::string t = tag, r = "Range: bytes=0-1\r\nIf-Range: ";

	EXPECT_EQ("0-1", ranges_of(r + t, 100));
	EXPECT_EQ("all", ranges_of(r + "W/" + t, 100));
	EXPECT_EQ("all", ranges_of(r + "\"x\"", 100));
	/* The file may have changed twice in that second. */
	EXPECT_EQ("all", ranges_of(r + "Sun, 06 Nov 1994 08:49:37 GMT", 100));
	EXPECT_EQ("all", ranges_of(r + "x", 100));
}

TEST(HttpdResponse, TypesAndLinks)
{
	char link[64];

	EXPECT_STREQ("text/html; charset=utf-8", type_of("a/b.HTML"));
	EXPECT_STREQ("application/gzip", type_of("a.tar.gz"));
	for (const char *path : {"a", "a.b/c", "a.", ".", "a.unknown"})
		EXPECT_STREQ("application/octet-stream", type_of(path)) << path;
	encode_path(link, sizeof link, "a b/\xff%?#&\"<'");
	EXPECT_STREQ("a%20b/%FF%25%3F%23%26%22%3C%27", link);
	EXPECT_EQ(404, status_of_error(ENOENT));
	EXPECT_EQ(403, status_of_error(EACCES));
	EXPECT_EQ(504, status_of_error(ETIMEDOUT));
	EXPECT_EQ(503, status_of_error(EMFILE));
}

} // namespace
