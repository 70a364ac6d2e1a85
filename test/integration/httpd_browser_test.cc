// SPDX-License-Identifier: BSD-2-Clause
// `make demo-http` in a real browser: the page renders, the film can be seeked, and nothing is complained about. The picture of it
// is left in the build directory.
#include "test/support/beside.h"
#include "test/support/bounded.h"
#include "test/support/run.h"
#include "test/support/slow_fs.h"

#include <csignal>
#include <memory>
#include <unistd.h>

namespace
{

// Has the demo's own page in a frame, jumps in its film, and says what it has seen by asking for a file with that in its query,
// which stands in the server's log.
const char watching_page[] =
	R"(<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="picture.svg">
<title>watch</title></head><body><iframe id="f" src="/" title="demo" width="800" height="1000"></iframe>
<script>
const frame = document.getElementById('f'), say = what => fetch('index.html?' + what);
window.onerror = what => say('error=' + encodeURIComponent(what));
frame.onload = () => {
	const page = frame.contentDocument, v = page.querySelector('video'), i = page.querySelector('img');
	const jump = () => { v.currentTime = 50; };
	v.onerror = () => say('error=' + v.error.code);
	v.onseeked = () => say('seeked=' + v.currentTime + '-of-' + v.duration + ',film=' + v.videoWidth + 'x' +
		v.videoHeight + ',picture=' + i.complete + i.naturalWidth + 'x' + i.naturalHeight + ',page=' +
		page.title + ',links=' + page.querySelectorAll('a').length);
	if (v.readyState >= 1)
		jump();
	else
		v.onloadedmetadata = jump;
};
</script></body></html>
)";

class Demo : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		alarm(200);
	}

	std::vector<std::string> environment() const
	{
		return {"HOME=" + path(""), "TMPDIR=" + path(""), "PORT=0", "SFD_DAEMON=" BUILD_DIR "/sendfiled"};
	}
	// Starts it: the directory that it serves, and its address.
	std::vector<std::string> start()
	{
		demo_ = std::make_unique<Beside>(
			std::vector<std::string>{SOURCE_DIR "/examples/httpd/demo.sh", BUILD_DIR}, environment());
		const auto where = demo_->await_text("serving (.*) on (http://127\\.0\\.0\\.1:[0-9]+)/\n", 60s);

		EXPECT_FALSE(where.empty()) << demo_->text();
		return where.empty() ? std::vector<std::string>(2) : std::vector<std::string>{where[1], where[2]};
	}
	Beside &demo()
	{
		return *demo_;
	}
	void stop(const std::string &site)
	{
		EXPECT_EQ(0, demo().end(SIGTERM));
		demo_.reset();
		EXPECT_NE(0, access(site.c_str(), F_OK)) << "something is left of it";
	}

      private:
	std::unique_ptr<Beside> demo_;
};

class Browser : public Demo
{
      protected:
	void SetUp() override
	{
		Demo::SetUp();
		if (exit_status(run({"chromium", "--version"})) != 0)
			GTEST_SKIP() << "no chromium";
	}

	std::vector<std::string> chromium(const std::vector<std::string> &more) const
	{
		std::vector<std::string> args = {"chromium", "--headless", "--no-sandbox", "--disable-gpu",
			"--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
			"--user-data-dir=" + path("profile"), "--enable-logging=stderr"};

		args.insert(args.end(), more.begin(), more.end());
		return args;
	}
};

void expect_no_complaint(const std::string &said)
{
	EXPECT_EQ(std::string::npos, said.find(":CONSOLE")) << said;
}

TEST_F(Browser, ShowsTheDemo)
{
	const std::vector<std::string> where = start();
	ASSERT_FALSE(HasFailure());
	const std::string &site = where[0], &url = where[1];
	write_whole(site + "/watch.html", watching_page);

	{
		Beside browser(chromium({"--remote-debugging-port=0", url + "/watch.html"}), environment());
		const auto said = demo().await_text("index\\.html\\?(error=[^ ]*|seeked=[^ ]*) ", 90s);

		ASSERT_FALSE(said.empty()) << demo().text();
		EXPECT_EQ("seeked=50-of-60,film=160x90,picture=true640x200,page=sfd-httpd,links=3", said[1]);
		browser.end(SIGTERM);
		browser.await_text("nothing like it", 5s);
		expect_no_complaint(browser.text());
	}
	/* The second half of the film, 45 KiB of 24 MiB, was asked for by itself. */
	EXPECT_FALSE(find_match(demo().text(), "\"GET /film\\.mp4 HTTP/1\\.1\" 206 4[0-9]{4}\n").empty())
		<< demo().text();

	const std::string picture = BUILD_DIR "/httpd.png";
	unlink(picture.c_str());
	Beside shot(chromium({"--screenshot=" + picture, "--window-size=800,1000", "--hide-scrollbars", url + "/"}),
		environment());
	shot.await_text("bytes written to file", 60s);
	const std::string png = read_whole(picture);
	EXPECT_EQ("\x89PNG", png.substr(0, 4));
	EXPECT_LT(20000U, png.size()) << "there is hardly anything to be seen";
	expect_no_complaint(shot.text());

	stop(site);
}

TEST_F(Demo, OneDownloadHangsAndNothingElseDoes)
{
	REQUIRE_SLOW_FS();
	const std::vector<std::string> where = start();
	ASSERT_FALSE(HasFailure());
	const std::string &site = where[0], &url = where[1];
	Beside hung({"curl", "-sS", "-v", "-o", path("hung"), url + "/slow/hangs.bin"}, environment());

	ASSERT_FALSE(hung.await_text("> GET /slow/hangs.bin", 60s).empty()) << hung.text();
	const RunResult large =
		run({"curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url + "/large.bin"});
	EXPECT_EQ("200 1073741824", large.out) << large.err;
	const RunResult page = run({"curl", "-sS", url + "/files/"});
	EXPECT_NE(std::string::npos, page.out.find("a&amp;b.txt")) << page.out;
	EXPECT_TRUE(hung.await_text("\n< HTTP", 0ms).empty()) << "it does not hang, so nothing is shown";
	hung.end(SIGTERM);
	stop(site);
}

} // namespace
