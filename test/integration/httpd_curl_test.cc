// SPDX-License-Identifier: BSD-2-Clause
// sfd-httpd, asked by curl: each status, each kind of response, and what becomes of those who are slow, gone, or too many.
#include "test/support/beside.h"
#include "test/support/bounded.h"
#include "test/support/run.h"
#include "test/support/slow_fs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <random>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>

namespace
{

class Httpd : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		alarm(120);
		ASSERT_EQ(0, mkdir(path("tmp").c_str(), 0755));
		if (exit_status(run({"curl", "--version"})) != 0)
			GTEST_SKIP() << "no curl";
		/* Started as root, the daemon is somebody else. */
		ASSERT_EQ(0, chmod(path("").c_str(), 0755));
		ASSERT_EQ(0, mkdir(path("site").c_str(), 0755));
	}
	void TearDown() override
	{
		if (server_) {
			EXPECT_EQ(0, server_->end(SIGTERM)) << server_->text();
		}
		server_.reset();
		EXPECT_EQ(0, rmdir(path("tmp").c_str())) << "something is left there, of its daemon perhaps";
		BoundedTest::TearDown();
	}

	std::string in_site(const std::string &name) const
	{
		return path("site/" + name);
	}
	std::string add(const std::string &name, size_t size)
	{
		std::string content = make_content(size, size);

		write_whole(in_site(name), content);
		return content;
	}

	void start(std::vector<std::string> more = {})
	{
		std::vector<std::string> args = {BUILD_DIR "/examples/sfd-httpd", "-p", "0"};

		args.insert(args.end(), more.begin(), more.end());
		args.push_back(path("site"));
		server_ = std::make_unique<Beside>(
			args, std::vector<std::string>{"SFD_DAEMON=" BUILD_DIR "/sendfiled", "TMPDIR=" + path("tmp")});
		const auto m = server_->await_text("on (http://[^:]*:([0-9]+))/\n", 30s);
		ASSERT_FALSE(m.empty()) << server_->text();
		url_ = m[1];
		port_ = static_cast<uint16_t>(std::stoi(m[2]));
	}

	// With curl: the status, and what was written to `out`.
	std::string curl(const std::vector<std::string> &more)
	{
		std::vector<std::string> args = {
			"curl", "-s", "-m", "30", "-o", path("got"), "-D", path("header"), "-w", "%{http_code}"};

		unlink(path("got").c_str());
		args.insert(args.end(), more.begin(), more.end());
		return run(args).out;
	}
	std::string get(const std::string &target, std::vector<std::string> more = {})
	{
		more.push_back(url_ + target);
		return curl(more);
	}
	std::string got() const
	{
		return access(path("got").c_str(), F_OK) == 0 ? read_whole(path("got")) : "";
	}
	std::string header(const std::string &name) const
	{
		const auto m = find_match(read_whole(path("header")), ("\r\n" + name + ": *([^\r]*)\r\n").c_str());

		return m.size() > 1 ? m[1] : "none";
	}

	Fd connect_raw() const
	{
		sockaddr_in in = {};
		Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

		in.sin_family = AF_INET;
		in.sin_port = htons(port_);
		in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		EXPECT_EQ(0, connect(fd, reinterpret_cast<sockaddr *>(&in), sizeof in));
		return fd;
	}
	// Sends it, and reads up to end-of-file.
	std::string talk(const std::string &text) const
	{
		const Fd fd = connect_raw();

		EXPECT_EQ(static_cast<ssize_t>(text.size()), send(fd, text.data(), text.size(), MSG_NOSIGNAL));
		return read_to_end(fd);
	}
	static std::string read_to_end(int fd)
	{
		std::string all;
		char buf[65536];
		ssize_t n;

		while (await(fd, POLLIN) != 0 && (n = recv(fd, buf, sizeof buf, 0)) > 0)
			all.append(buf, static_cast<size_t>(n));
		return all;
	}
	size_t server_fds() const
	{
		return count_fds(std::to_string(server_->pid()));
	}

	std::unique_ptr<Beside> server_;
	std::string url_;
	uint16_t port_ = 0;
};

TEST_F(Httpd, EachStatus)
{
	const std::string content = add("file.txt", 5000);
	add("secret", 10);
	ASSERT_EQ(0, chmod(in_site("secret").c_str(), 0));
	ASSERT_EQ(0, mkdir(in_site("dir").c_str(), 0755));
	ASSERT_EQ(0, symlink("/etc/passwd", in_site("out").c_str()));
	start({"--max-header", "4096"});
	const std::string long_text(5000, 'x'), old = "Sun, 06 Nov 1994 08:49:37 GMT";
	ASSERT_EQ("200", get("/file.txt"));
	const std::string tag = header("ETag"), date = header("Last-Modified");
	const struct {
		const char *status;
		std::string target;
		std::vector<std::string> more;
	} cases[] = {{"200", "/file.txt?x=y", {}}, {"200", "/file.txt", {"-I"}}, {"200", "/dir/", {}},
		{"200", "/dir/", {"-I"}}, {"200", "/file.txt", {"--http1.0"}},
		{"200", "/file.txt", {"-X", "GET", "-d", long_text}},
		{"200", "/file.txt", {"-X", "GET", "-H", "Transfer-Encoding: chunked", "-d", long_text}},
		{"200", "/file.txt", {"-X", "GET", "-H", "Expect: 100-continue", "-d", long_text}},
		{"206", "/file.txt", {"-r", "0-9"}}, {"206", "/file.txt", {"-r", "0-9,20-29"}},
		{"206", "/file.txt", {"-r", "0-9", "-H", "If-Range: " + tag}},
		{"200", "/file.txt", {"-r", "0-9", "-H", "If-Range: \"x\""}}, {"301", "/dir", {}},
		{"304", "/file.txt", {"-H", "If-None-Match: " + tag}},
		{"304", "/file.txt", {"-H", "If-Modified-Since: " + date}}, {"400", "/../x", {"--path-as-is"}},
		{"400", "/%00", {}}, {"400", "/", {"-H", "Host:"}}, {"404", "/missing", {}}, {"404", "/file.txt/", {}},
		{"404", "/dir/missing/", {}}, {"404", "/a%2fb", {}}, {"404", "/out", {}},
		{"405", "/file.txt", {"-d", "x"}}, {"405", "/file.txt", {"-X", "DELETE"}},
		{"412", "/file.txt", {"-H", "If-Match: \"x\""}},
		{"412", "/file.txt", {"-H", "If-Unmodified-Since: " + old}},
		{"413", "/file.txt", {"-H", "Content-Length: 2000000"}}, {"414", "/" + long_text, {}},
		{"416", "/file.txt", {"-r", "5000-"}}, {"417", "/file.txt", {"-H", "Expect: it"}},
		{"431", "/file.txt", {"-H", "X: " + long_text}}, {"501", "/file.txt", {"-X", "BREW"}}};

	for (const auto &c : cases)
		EXPECT_EQ(c.status, get(c.target, c.more))
			<< c.target.substr(0, 40) << " " << (c.more.empty() ? "" : c.more.back().substr(0, 60));
	EXPECT_EQ("403", get("/secret")); /* also as root: the daemon serves as nobody */
	EXPECT_EQ(0U, talk("GET / HTTP/2.0\r\nHost: x\r\n\r\n").find("HTTP/1.1 505 "));
	EXPECT_EQ("200", get("/file.txt"));
	EXPECT_EQ(content, got());
}

TEST_F(Httpd, Headers)
{
	add("page.html", 100);
	start();
	ASSERT_EQ("200", get("/page.html"));
	EXPECT_EQ("100", header("Content-Length"));
	EXPECT_EQ("text/html; charset=utf-8", header("Content-Type"));
	EXPECT_EQ("bytes", header("Accept-Ranges"));
	EXPECT_EQ("nosniff", header("X-Content-Type-Options"));
	EXPECT_NE("none", header("Date"));
	const std::string tag = header("ETag");
	ASSERT_EQ("416", get("/page.html", {"-r", "100-"}));
	EXPECT_EQ("bytes */100", header("Content-Range"));
	ASSERT_EQ("206", get("/page.html", {"-r", "-10"}));
	EXPECT_EQ("bytes 90-99/100", header("Content-Range"));
	ASSERT_EQ("405", get("/page.html", {"-X", "PUT"}));
	EXPECT_EQ("GET, HEAD", header("Allow"));
	/* Of another file under the same name, also at once. */
	write_whole(in_site("page.html"), "another");
	ASSERT_EQ("200", get("/page.html"));
	EXPECT_EQ("another", got());
	EXPECT_EQ("7", header("Content-Length"));
	EXPECT_NE(tag, header("ETag"));
}

TEST_F(Httpd, PartsOfAFile)
{
	const std::string content = add("file.bin", 1 << 20);
	start();

	ASSERT_EQ("206", get("/file.bin", {"-r", "1000-1999,500000-,3-3"}));
	const std::string type = header("Content-Type"), body = got();
	ASSERT_EQ(0U, type.find("multipart/byteranges; boundary=")) << type;
	const std::string mark = "\r\n--" + type.substr(type.find('=') + 1);
	EXPECT_EQ(std::to_string(body.size()), header("Content-Length"));
	std::string wanted;
	for (const auto &[first, last] : {std::pair<size_t, size_t>{1000, 1999}, {500000, (1 << 20) - 1}, {3, 3}})
		wanted += mark + "\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes " +
			  std::to_string(first) + "-" + std::to_string(last) + "/1048576\r\n\r\n" +
			  content.substr(first, last - first + 1);
	EXPECT_TRUE(same_content(wanted + mark + "--\r\n", body));
}

TEST_F(Httpd, DirectoriesPage)
{
	const std::vector<std::string> names = {
		"a&b <c>.txt", "%41.txt", "\xc3\xbc.txt", "\xff.txt", "a b", "what?", "no#1", "a:b", "\"q\""};

	for (const std::string &name : names)
		write_whole(in_site(name), "of " + name);
	ASSERT_EQ(0, mkdir(in_site("zdir").c_str(), 0755));
	start();
	ASSERT_EQ("200", get("/"));
	const std::string page = got();
	EXPECT_LT(page.find("./zdir/"), page.find("./%2541.txt")) << "directories come first";
	EXPECT_EQ(std::string::npos, page.find("<c>"));
	size_t followed = 0;
	const std::string mark = "href=\"./";
	for (size_t at = 0; (at = page.find(mark, at)) != std::string::npos;) {
		at += mark.size();
		const std::string link = page.substr(at, page.find('"', at) - at);

		if (link == "zdir/")
			continue;
		EXPECT_EQ("200", get("/" + link)) << link;
		EXPECT_EQ(1, std::count(names.begin(), names.end(), got().substr(std::min<size_t>(3, got().size()))));
		followed++;
	}
	EXPECT_EQ(names.size(), followed);
	/* Its own page in place of ours. */
	write_whole(in_site("index.html"), "mine");
	EXPECT_EQ("200", get("/"));
	EXPECT_EQ("mine", got());
	ASSERT_EQ("301", get("/zdir?a=b"));
	EXPECT_EQ("/zdir/?a=b", header("Location"));
}

TEST_F(Httpd, OneAfterTheOther)
{
	const std::string content = add("a", 3000);
	start();
	const std::string request = "GET /a HTTP/1.1\r\nHost: x\r\n";
	std::string all;

	for (int i = 0; i < 50; i++)
		all += request + (i == 49 ? "Connection: close\r\n\r\n" : "\r\n");
	std::string answer = talk(all);
	for (int i = 0; i < 50; i++) {
		const size_t end = answer.find("\r\n\r\n");

		ASSERT_EQ(0U, answer.find("HTTP/1.1 200 OK\r\n")) << i;
		ASSERT_NE(std::string::npos, end) << i;
		ASSERT_TRUE(same_content(content, answer.substr(end + 4, content.size()))) << i;
		answer.erase(0, end + 4 + content.size());
	}
	EXPECT_EQ("", answer);
	/* A byte at a time, and with a body before it. */
	const Fd fd = connect_raw();
	for (const char c :
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nGET " + request + "Connection: close\r\n\r\n")
		ASSERT_EQ(1, send(fd, &c, 1, MSG_NOSIGNAL));
	answer = read_to_end(fd);
	EXPECT_EQ(0U, answer.find("HTTP/1.1 405 "));
	EXPECT_NE(std::string::npos, answer.find("HTTP/1.1 200 OK\r\n"));
}

// Sound requests, changed here and there, some after another on one connection, cut off anywhere: then a sound one is answered.
TEST_F(Httpd, Nonsense)
{
	add("a", 100);
	start({"--header-timeout", "2000", "--max-connections", "100", "-l", "none"});
	ASSERT_EQ("200", get("/a"));
	const size_t before = server_fds();
	const std::string sound[] = {"GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9,20-29\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
		"HEAD /a/../%61 HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"x\", W/\"y\"\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
		"GET http://x/dir/?q HTTP/1.0\r\nConnection: keep-alive\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"};
	std::mt19937 random(20261126);

	for (int i = 0; i < 3000; i++) {
		const Fd fd = connect_raw();
		char buf[65536];

		for (unsigned n = random() % 4; n > 0; n--) {
			std::string text = sound[random() % 4];

			for (unsigned k = random() % 3; k > 0; k--)
				text[random() % text.size()] =
					static_cast<char>(random() % 4 ? "\r\n :%/,=-0x\""[random() % 12] : random());
			if (random() % 8 == 0)
				text.resize(random() % text.size());
			send(fd, text.data(), text.size(), MSG_NOSIGNAL);
		}
		if (i % 16 == 0) {
			shutdown(fd, SHUT_WR);
			while (await(fd, POLLIN) != 0 && recv(fd, buf, sizeof buf, 0) > 0)
				;
		}
	}
	EXPECT_EQ("200", get("/a"));
	EXPECT_TRUE(eventually([&] { return server_fds() == before; }));
}

// ---- Those who are slow, gone, or too many

TEST_F(Httpd, WhoSaysNothing)
{
	start({"--header-timeout", "300", "--keep-alive-timeout", "300"});
	const size_t before = server_fds();
	const Fd silent = connect_raw(), half = connect_raw(), idle = connect_raw();
	const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

	ASSERT_EQ(7, send(half, "GET / H", 7, 0));
	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(idle, request.data(), request.size(), 0));
	EXPECT_EQ("", read_to_end(silent));
	EXPECT_EQ(0U, read_to_end(half).find("HTTP/1.1 408 "));
	EXPECT_EQ(0U, read_to_end(idle).find("HTTP/1.1 200 "));
	EXPECT_TRUE(eventually([&] { return server_fds() <= before + 2; })) << "they drain, and are closed";
}

TEST_F(Httpd, WhoTakesNothing)
{
	add("large", 32 << 20);
	start({"--send-timeout", "500"});
	const size_t before = server_fds();
	const Fd fd = connect_raw();
	const std::string request = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";

	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(fd, request.data(), request.size(), 0));
	server_->await_text("GET /large HTTP/1.1\" 200", 30s);
	EXPECT_LT(read_to_end(fd).size(), size_t{32 << 20});
	EXPECT_TRUE(eventually([&] { return server_fds() == before; }));
}

TEST_F(Httpd, TooMany)
{
	add("a", 10);
	start({"--max-connections", "10"});
	std::vector<Fd> all;

	for (int i = 0; i < 10; i++)
		all.push_back(connect_raw());
	ASSERT_TRUE(eventually([&] { return talk("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").find("HTTP/1.1 503 ") == 0; }));
	all.clear();
	EXPECT_TRUE(eventually([&] { return get("/a") == "200"; }));
}

TEST_F(Httpd, DisksThatHang)
{
	REQUIRE_SLOW_FS();
	add("hot", 4096);
	SlowFs fs(in_site("slow"));
	fs.add("hangs", 100000);
	fs.add("dir/file", 10);
	start({"--disk-timeout", "1500"});
	const size_t before = server_fds();
	fs.hold("read");
	{
		std::vector<Fd> waiting;
		const std::string request = "GET /slow/hangs HTTP/1.1\r\nHost: x\r\n\r\n";

		for (int i = 0; i < 5; i++) {
			waiting.push_back(connect_raw());
			ASSERT_EQ(static_cast<ssize_t>(request.size()),
				send(waiting.back(), request.data(), request.size(), 0));
		}
		fs.await("read");
		for (int i = 0; i < 20; i++)
			EXPECT_EQ("200", get("/hot"));
	}
	/* They have gone, and what was asked for is cancelled; the disk still hangs. */
	EXPECT_TRUE(eventually([&] { return server_fds() == before; }));
	fs.release();
	EXPECT_EQ("200", get("/slow/hangs"));
	/* A directory that cannot be looked at in time, by the daemon, and by whoever makes its page. */
	fs.hold("lookup");
	EXPECT_EQ("504", get("/slow/dir/"));
	fs.release();
	fs.hold("getattr");
	EXPECT_EQ("504", get("/slow/dir/"));
	EXPECT_EQ("200", get("/hot"));
	/* Pages of other directories are made meanwhile. */
	ASSERT_EQ(0, mkdir(in_site("fine").c_str(), 0755));
	const Fd waiting = connect_raw();
	const std::string request = "GET /slow/dir/ HTTP/1.1\r\nHost: x\r\n\r\n";
	const uint64_t held = fs.held("getattr");
	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(waiting, request.data(), request.size(), 0));
	fs.await("getattr", held + 1);
	EXPECT_EQ("200", get("/fine/"));
	EXPECT_EQ("301", get("/fine"));
	fs.release();
	EXPECT_EQ("200", get("/slow/dir/"));
	EXPECT_EQ("200", get("/"));
}

TEST_F(Httpd, PagesForMany)
{
	ASSERT_EQ(0, mkdir(in_site("dir").c_str(), 0755));
	start({"--max-connections", "400"});
	for (const char *target : {"/dir/", "/dir"}) {
		const std::string request =
			std::string("GET ") + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
		std::vector<Fd> all;

		for (int i = 0; i < 300; i++)
			all.push_back(connect_raw());
		for (const Fd &fd : all)
			ASSERT_EQ(static_cast<ssize_t>(request.size()), send(fd, request.data(), request.size(), 0));
		for (const Fd &fd : all)
			ASSERT_EQ(0U,
				read_to_end(fd).find(std::string("HTTP/1.1 ") + (request[8] == '/' ? "200" : "301")));
	}
}

// A page tells of nothing that cannot be had.
TEST_F(Httpd, PagesTellOfWhatIsServed)
{
	ASSERT_EQ(0, mkdir(in_site("dir").c_str(), 0755));
	ASSERT_EQ(0, mkdir(in_site("hidden").c_str(), 0711));
	add("dir/file", 12345);
	ASSERT_EQ(0, symlink("/etc/passwd", in_site("dir/outside").c_str()));
	ASSERT_EQ(0, symlink("../../../etc/passwd", in_site("dir/above").c_str()));
	ASSERT_EQ(0, symlink("/dir/file", in_site("dir/inside").c_str()));
	start();
	EXPECT_EQ("200", get("/dir/"));
	EXPECT_EQ(std::string::npos, got().find("outside"));
	EXPECT_EQ(std::string::npos, got().find("above"));
	for (const char *name : {"file", "inside"}) {
		const std::string row =
			find_match(got(), ("<tr><td><a href=\"./" + std::string(name) + "\".*?</tr>").c_str())[0];

		EXPECT_NE(std::string::npos, row.find("12.1 KiB")) << row;
		EXPECT_FALSE(find_match(row, "20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]").empty()) << row;
		EXPECT_EQ("200", get("/dir/" + std::string(name)));
		EXPECT_EQ("200", get("/dir/"));
	}
	/* Root may look into it, and nobody else. */
	EXPECT_EQ(geteuid() == 0 ? "403" : "200", get("/hidden/"));
}

// Before its body a client waits to hear that it is wanted.
TEST_F(Httpd, Continue)
{
	add("a", 10);
	start({"--header-timeout", "500"});
	const Fd fd = connect_raw(), stalled = connect_raw();
	const std::string head = "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n",
			  expecting = head + "Expect: 100-continue\r\n\r\n", part = head + "\r\nhel";
	char buf[64] = "";

	ASSERT_EQ(static_cast<ssize_t>(expecting.size()), send(fd, expecting.data(), expecting.size(), 0));
	ASSERT_NE(0, await(fd, POLLIN));
	const std::string answer = "HTTP/1.1 100 Continue\r\n\r\n";
	ASSERT_EQ(static_cast<ssize_t>(answer.size()), recv(fd, buf, sizeof buf, 0));
	EXPECT_EQ(answer, buf);
	ASSERT_EQ(5, send(fd, "hello", 5, 0));
	EXPECT_EQ(0U, read_to_end(fd).find("HTTP/1.1 200 "));
	/* One whose body does not come is not waited for. */
	ASSERT_EQ(static_cast<ssize_t>(part.size()), send(stalled, part.data(), part.size(), 0));
	EXPECT_EQ(0U, read_to_end(stalled).find("HTTP/1.1 408 "));
}

// A table of requests that no two readers need understand in the same way: each is refused, and the connection closed.
TEST_F(Httpd, Malformed)
{
	add("a", 10);
	start();
	const std::string get = "GET /a HTTP/1.1\r\n", host = "Host: x\r\n";
	const std::pair<std::string, const char *> table[] = {{"\x16\x03\x01\r\n", "400"}, {"GET /a\r\n", "400"},
		{"GET /a HTTP/1.1 x\r\n" + host, "400"}, {"GET  /a HTTP/1.1\r\n" + host, "400"},
		{"G{T /a HTTP/1.1\r\n" + host, "400"}, {"GET a HTTP/1.1\r\n" + host, "400"}, {get, "400"},
		{get + host + host, "400"}, {get + "Host: a b\r\n", "400"}, {get + host + "A : b\r\n", "400"},
		{get + host + " folded\r\n", "400"}, {get + host + "A: b\nC: d\r\n", "400"},
		{get + host + "A: b\rc\r\n", "400"}, {get + host + "no colon\r\n", "400"},
		{get + host + std::string("A: \0\r\n", 6), "400"}, {get + host + "Content-Length: -1\r\n", "400"},
		{get + host + "Content-Length: 1, 2\r\n", "400"},
		{get + host + "Content-Length: 1\r\nContent-Length: 2\r\n", "400"},
		{get + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "400"},
		{get + host + "Transfer-Encoding: gzip\r\n", "501"}, {"GET /a HTTP/2.0\r\n" + host, "505"},
		{"GET http:///a HTTP/1.1\r\n" + host, "400"}};

	for (const auto &[request, status] : table) {
		const std::string all = talk(request + "\r\n");

		EXPECT_EQ(0U, all.find(std::string("HTTP/1.1 ") + status + " ")) << request;
		EXPECT_NE(std::string::npos, all.find("\r\nConnection: close\r\n")) << request;
		EXPECT_EQ(all.find("HTTP/1.1 "), all.rfind("HTTP/1.1 ")) << "one response: " << request;
	}
	const std::string chunks = get + host + "Transfer-Encoding: chunked\r\n\r\n";
	for (const char *body : {"x\r\n", "5 6\r\nhello\r\n", "5\nhello", "5\r\nhelloX", "-5\r\n", "0\r\nA\nB"})
		EXPECT_EQ(0U, talk(chunks + body).find("HTTP/1.1 400 ")) << body;
}

// Who has said all it will may take its time to read.
TEST_F(Httpd, WhoSaysNoMore)
{
	const std::string content = add("large", 4000000);
	start({"--disk-timeout", "300"});
	const Fd fd = connect_raw();
	const std::string request = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
	std::string all;
	char buf[100000];

	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(fd, request.data(), request.size(), 0));
	ASSERT_EQ(0, shutdown(fd, SHUT_WR));
	for (ssize_t n; await(fd, POLLIN) != 0 && (n = recv(fd, buf, sizeof buf, 0)) > 0;) {
		all.append(buf, static_cast<size_t>(n));
		std::this_thread::sleep_for(30ms); /* that is 1.2 s at least */
	}
	EXPECT_TRUE(same_content(content, all.substr(all.find("\r\n\r\n") + 4)));
}

TEST_F(Httpd, EmptyLinesAreNoRequest)
{
	start({"--header-timeout", "500", "--keep-alive-timeout", "500"});
	const Fd fd = connect_raw();
	const Deadline soon(5s);

	while (!soon.passed() && send(fd, "\r\n", 2, MSG_NOSIGNAL) == 2 && await(fd, POLLIN, 100ms) == 0)
		continue;
	EXPECT_FALSE(soon.passed());
	EXPECT_EQ(0U, read_to_end(fd).find("HTTP/1.1 408 "));
}

TEST_F(Httpd, LongRedirects)
{
	ASSERT_EQ(0, mkdir(in_site("dir").c_str(), 0755));
	start({"--max-header", "60000"});
	for (const size_t n : {1000U, 30000U, 40000U, 59000U}) {
		const std::string all =
			talk("GET /dir?" + std::string(n, 'q') + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

		EXPECT_EQ(0U, all.find(n < 32000 ? "HTTP/1.1 301 " : "HTTP/1.1 414 ")) << n;
		EXPECT_NE(std::string::npos, all.find("\r\n\r\n")) << n;
	}
}

TEST_F(Httpd, GracefulStop)
{
	const std::string content = add("large", 8 << 20);
	start();
	const Fd busy = connect_raw(), idle = connect_raw();
	const std::string request = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";

	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(busy, request.data(), request.size(), 0));
	ASSERT_NE(0, await(busy, POLLIN));
	kill(server_->pid(), SIGTERM);
	EXPECT_EQ("", read_to_end(idle));
	const std::string answer = read_to_end(busy);
	EXPECT_TRUE(same_content(content, answer.substr(answer.find("\r\n\r\n") + 4)));
	EXPECT_EQ(0, server_->wait());
	server_.reset();
}

// A file that cannot be read is an error of the server, if nothing was sent of it; and it says which client's fault it is not.
TEST_F(Httpd, DisksThatFail)
{
	REQUIRE_SLOW_FS();
	SlowFs fs(in_site("slow"));
	fs.add("file", 100000);
	start();
	fs.fail("open", EIO, "file");
	EXPECT_EQ("500", get("/slow/file"));
	fs.fail("open", 0, "file");
	EXPECT_EQ("200", get("/slow/file"));
	EXPECT_EQ(100000U, got().size());
}

// Two hundred connections that stay, each with a request under way at all times, of files of several sizes.
TEST_F(Httpd, ManyAtOnce)
{
	constexpr unsigned CONNECTIONS = 200, TURNS = 10;
	const std::string contents[] = {add("a", 100), add("b", 5000), add("c", 70000)};
	struct Client {
		Fd fd;
		std::string got;
		unsigned turn = 0;
	};
	std::vector<Client> clients(CONNECTIONS);
	const auto ask = [&](Client &c, unsigned i) {
		const std::string request =
			std::string("GET /") + "abc"[(i + c.turn) % 3] + " HTTP/1.1\r\nHost: x\r\n\r\n";

		ASSERT_EQ(static_cast<ssize_t>(request.size()), send(c.fd, request.data(), request.size(), 0));
	};
	unsigned over = 0;

	start();
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		clients[i].fd = connect_raw();
		ask(clients[i], i);
	}
	while (over < CONNECTIONS) {
		std::vector<pollfd> p;
		std::string buf(1 << 17, '\0');

		for (const Client &c : clients)
			p.push_back({c.turn < TURNS ? static_cast<int>(c.fd) : -1, POLLIN, 0});
		ASSERT_LT(0, poll(p.data(), p.size(), 30000)) << "nothing comes any more";
		for (unsigned i = 0; i < CONNECTIONS; i++) {
			Client &c = clients[i];

			if (!p[i].revents)
				continue;
			const ssize_t n = recv(c.fd, buf.data(), buf.size(), 0);
			ASSERT_LT(0, n) << "it hung up";
			c.got.append(buf, 0, static_cast<size_t>(n));
			const size_t body = c.got.find("\r\n\r\n");
			const std::string &wanted = contents[(i + c.turn) % 3];
			if (body == std::string::npos || c.got.size() < body + 4 + wanted.size())
				continue;
			ASSERT_EQ(0U, c.got.find("HTTP/1.1 200 "));
			ASSERT_TRUE(same_content(wanted, c.got.substr(body + 4)));
			c.got.clear();
			if (++c.turn < TURNS)
				ask(c, i);
			else
				over++;
		}
	}
}

// Who has had a part of his file sees that there is no more of it; the next ones are served.
TEST_F(Httpd, WorkersAreKilled)
{
	const std::string content = add("large", 64 << 20);
	add("a", 10);
	start();
	const Fd busy = connect_raw();
	const std::string request = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";

	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(busy, request.data(), request.size(), 0));
	ASSERT_NE(0, await(busy, POLLIN));
	const ShellResult master = sh("pgrep -P " + std::to_string(server_->pid()) + " -x sendfiled");
	ASSERT_EQ(0, master.status);
	const ShellResult killed = sh("pkill -KILL -P " + master.text.substr(0, master.text.find('\n')));
	ASSERT_EQ(0, killed.status);
	const std::string answer = read_to_end(busy);
	const std::string body = answer.substr(answer.find("\r\n\r\n") + 4);
	EXPECT_GT(content.size(), body.size());
	EXPECT_TRUE(same_content(content.substr(0, body.size()), body));
	for (int i = 0; i < 20; i++)
		EXPECT_EQ("200", get("/a"));
}

// A daemon that others have started may end, and come back.
TEST_F(Httpd, ADaemonThatComesBack)
{
	const std::string content = add("a", 1000);
	ASSERT_EQ(0, mkdir(path("run").c_str(), 0755));
	const auto serve = [&] {
		auto daemon = std::make_unique<Beside>(std::vector<std::string>{BUILD_DIR "/sendfiled", "-s", "site",
							       "-r", path("site"), "-S", path("run")},
			std::vector<std::string>());

		EXPECT_FALSE(daemon->await_text("ready", 30s).empty()) << daemon->text();
		return daemon;
	};
	auto daemon = serve();

	start({"-s", "site", "-S", path("run")});
	EXPECT_EQ("200", get("/a"));
	daemon->end(SIGKILL);
	EXPECT_EQ("503", get("/a"));
	EXPECT_EQ("1", header("Retry-After"));
	daemon = serve();
	EXPECT_TRUE(eventually([&] { return get("/a") == "200"; }));
	EXPECT_TRUE(same_content(content, got()));
	EXPECT_EQ(0, server_->end(SIGTERM));
	server_.reset();
	daemon->end(SIGTERM);
}

TEST_F(Httpd, WithoutItsDaemon)
{
	add("a", 10);
	start();
	ASSERT_EQ("200", get("/a"));
	const ShellResult killed = sh("pkill -KILL -P " + std::to_string(server_->pid()) + " -x sendfiled");
	ASSERT_EQ(0, killed.status);
	EXPECT_FALSE(server_->await_text("sendfiled: has ended", 30s).empty()) << server_->text();
	EXPECT_EQ(1 << 8, server_->wait());
	server_.reset();
}

TEST_F(Httpd, WrongArguments)
{
	const std::string program = BUILD_DIR "/examples/sfd-httpd ";

	EXPECT_EQ(0, sh(program + "--help").status);
	EXPECT_EQ(2, sh(program).status);
	EXPECT_EQ(2, sh(program + "-p 99999 /tmp").status);
	EXPECT_EQ(2, sh(program + "--max-header 10 /tmp").status);
	EXPECT_EQ(2, sh(program + "--frobnicate /tmp").status);
	const ShellResult missing = sh(program + path("nowhere"));
	EXPECT_EQ(1, missing.status);
	EXPECT_NE(std::string::npos, missing.text.find("nowhere: No such file or directory")) << missing.text;
	const ShellResult address = sh("SFD_DAEMON=" BUILD_DIR "/sendfiled " + program + "-a nothing " + path("site"));
	EXPECT_EQ(1, address.status);
	EXPECT_NE(std::string::npos, address.text.find("nothing: not an address")) << address.text;
}

} // namespace
