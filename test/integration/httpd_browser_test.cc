// SPDX-License-Identifier: BSD-2-Clause
// `make demo-http` in a real browser: the page renders, the film can be seeked, and nothing is complained about. The picture of it
// is left in the build directory.
#include "test/support/beside.h"
#include "test/support/bounded.h"
#include "test/support/run.h"

#include <csignal>
#include <unistd.h>

namespace
{

// Says what it has seen by asking for a file with that in its query, which stands in the server's log.
const char seeking_page[] =
	R"(<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="picture.svg">
<title>seek</title></head><body><img id="i" src="picture.svg" alt=""><video id="v" src="film.mp4" muted preload="auto"></video>
<script>
const v = document.getElementById('v'), i = document.getElementById('i');
const say = what => fetch('index.html?' + what);
window.onerror = what => say('error=' + encodeURIComponent(what));
v.onerror = () => say('error=' + v.error.code);
v.onloadeddata = () => { v.currentTime = 50; };
v.onseeked = () => say('seeked=' + v.currentTime + '-of-' + v.duration + ',film=' + v.videoWidth + 'x' + v.videoHeight +
	',picture=' + i.complete + i.naturalWidth + 'x' + i.naturalHeight);
</script></body></html>
)";

class Browser : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		alarm(200);
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
	std::vector<std::string> environment() const
	{
		return {"HOME=" + path(""), "TMPDIR=" + path(""), "PORT=0", "SFD_DAEMON=" BUILD_DIR "/sendfiled"};
	}
};

void expect_no_complaint(const std::string &said)
{
	EXPECT_EQ(std::string::npos, said.find(":CONSOLE")) << said;
}

TEST_F(Browser, ShowsTheDemo)
{
	Beside demo({SOURCE_DIR "/examples/httpd/demo.sh", BUILD_DIR}, environment());
	const auto where = demo.await_text("serving (.*) on (http://127\\.0\\.0\\.1:[0-9]+)/\n", 60s);
	ASSERT_FALSE(where.empty()) << demo.text();
	const std::string site = where[1], url = where[2];
	write_whole(site + "/seek.html", seeking_page);

	{
		Beside browser(chromium({"--remote-debugging-port=0", url + "/seek.html"}), environment());
		const auto said = demo.await_text("index\\.html\\?(error=[^ ]*|seeked=[^ ]*) ", 90s);

		ASSERT_FALSE(said.empty()) << demo.text();
		EXPECT_EQ("seeked=50-of-60,film=160x90,picture=true640x200", said[1]);
		browser.end(SIGTERM);
		browser.await_text("nothing like it", 5s);
		expect_no_complaint(browser.text());
	}
	/* The second half of the film, 45 KiB of 24 MiB, was asked for by itself. */
	EXPECT_FALSE(find_match(demo.text(), "\"GET /film\\.mp4 HTTP/1\\.1\" 206 4[0-9]{4}\n").empty()) << demo.text();

	const std::string picture = BUILD_DIR "/httpd.png";
	unlink(picture.c_str());
	Beside shot(chromium({"--screenshot=" + picture, "--window-size=800,1000", "--hide-scrollbars", url + "/"}),
		environment());
	shot.await_text("bytes written to file", 60s);
	const std::string png = read_whole(picture);
	EXPECT_EQ("\x89PNG", png.substr(0, 4));
	EXPECT_LT(20000U, png.size()) << "there is hardly anything to be seen";
	expect_no_complaint(shot.text());

	EXPECT_EQ(0, demo.end(SIGTERM));
	EXPECT_NE(0, access(site.c_str(), F_OK)) << "something is left of it";
}

} // namespace
