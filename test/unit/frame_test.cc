// SPDX-License-Identifier: BSD-2-Clause
// The library's frame functions: what a client makes of the bytes that it reads.
#include <sendfiled/sendfiled.h>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace
{

// A frame that ends where its memory ends, at an odd address.
class Frame
{
      public:
	template <typename T> explicit Frame(const T &from) : block_(new unsigned char[SFD_MAX_RESP_SIZE + 3])
	{
		static_assert(sizeof(T) == SFD_MAX_RESP_SIZE, "a frame");
		memcpy(block_.get() + 3, &from, sizeof from);
	}
	const void *get() const
	{
		return block_.get() + 3;
	}

      private:
	std::unique_ptr<unsigned char[]> block_;
};

template <typename T> T filled(int cmd, int stat)
{
	T t;
	auto *bytes = reinterpret_cast<unsigned char *>(&t);

	for (size_t i = 0; i < sizeof t; i++)
		bytes[i] = static_cast<unsigned char>(i * 7 + 1);
	t.cmd = cmd;
	t.stat = stat;
	return t;
}

sfd_file_info info_frame(int stat = 0, int cmd = SFD_FILE_INFO)
{
	return filled<sfd_file_info>(cmd, stat);
}

sfd_xfer_stat stat_frame(int stat = 0, int cmd = SFD_XFER_STAT)
{
	return filled<sfd_xfer_stat>(cmd, stat);
}

const int some_errors[] = {EPERM, ENOENT, EACCES, EINVAL, EPIPE, ETIMEDOUT, ECANCELED, 0xfff, SFD_STAT_TRUNCATED,
	SFD_STAT_WORKER_DIED, SFD_STAT_CHANGED};

TEST(Frame, ItsNumbersAreThoseOfTheInterface)
{
	EXPECT_EQ(0x81, static_cast<int>(SFD_FILE_INFO));
	EXPECT_EQ(0x82, static_cast<int>(SFD_XFER_STAT));
	EXPECT_EQ(0, static_cast<int>(SFD_STAT_OK));
	EXPECT_EQ(0x1001, static_cast<int>(SFD_STAT_TRUNCATED));
	EXPECT_EQ(0x1002, static_cast<int>(SFD_STAT_WORKER_DIED));
	EXPECT_EQ(0x1003, static_cast<int>(SFD_STAT_CHANGED));
	EXPECT_EQ(sizeof(sfd_file_info), size_t{SFD_MAX_RESP_SIZE});
	EXPECT_EQ(sizeof(sfd_xfer_stat), size_t{SFD_MAX_RESP_SIZE});
	EXPECT_LE(SFD_MAX_RESP_SIZE, 128);
}

TEST(Frame, CmdIsItsKindOrMinusOne)
{
	errno = 0;
	EXPECT_EQ(SFD_FILE_INFO, sfd_get_cmd(Frame(info_frame()).get()));
	EXPECT_EQ(SFD_FILE_INFO, sfd_get_cmd(Frame(info_frame(ENOENT)).get()));
	EXPECT_EQ(SFD_XFER_STAT, sfd_get_cmd(Frame(stat_frame()).get()));
	EXPECT_EQ(SFD_XFER_STAT, sfd_get_cmd(Frame(stat_frame(ECANCELED)).get()));
	for (int cmd : {0, 1, 0x80, 0x83, -1, 0x8181, 0x181, 0x10081, 0x7fffffff, static_cast<int>(0x80000081)})
		EXPECT_EQ(-1, sfd_get_cmd(Frame(info_frame(0, cmd)).get())) << cmd;
	EXPECT_EQ(0, errno);
}

TEST(Frame, StatIsItsStatus)
{
	EXPECT_EQ(0, sfd_get_stat(Frame(info_frame()).get()));
	EXPECT_EQ(0, sfd_get_stat(Frame(stat_frame()).get()));
	for (int stat : some_errors) {
		EXPECT_EQ(stat, sfd_get_stat(Frame(info_frame(stat)).get()));
		EXPECT_EQ(stat, sfd_get_stat(Frame(stat_frame(stat)).get()));
	}
}

TEST(UnmarshalFileInfo, FillsInEveryByte)
{
	const sfd_file_info want = info_frame();
	sfd_file_info got;

	memset(&got, 0xff, sizeof got);
	errno = 0;
	EXPECT_TRUE(sfd_unmarshal_file_info(&got, Frame(want).get()));
	EXPECT_EQ(0, memcmp(&want, &got, sizeof got));
	EXPECT_EQ(0, errno);
}

TEST(UnmarshalFileInfo, AnErrorIsFalseAndFilledIn)
{
	for (int stat : some_errors) {
		const sfd_file_info want = info_frame(stat);
		sfd_file_info got;

		memset(&got, 0xff, sizeof got);
		errno = 0;
		EXPECT_FALSE(sfd_unmarshal_file_info(&got, Frame(want).get())) << stat;
		EXPECT_EQ(0, memcmp(&want, &got, sizeof got)) << stat;
		EXPECT_EQ(0, errno) << "left alone";
	}
}

TEST(UnmarshalFileInfo, AnotherKindIsFalse)
{
	sfd_file_info got;

	EXPECT_FALSE(sfd_unmarshal_file_info(&got, Frame(stat_frame()).get()));
	EXPECT_FALSE(sfd_unmarshal_file_info(&got, Frame(info_frame(0, 0)).get()));
	EXPECT_FALSE(sfd_unmarshal_file_info(&got, Frame(info_frame(0, 0x83)).get()));
}

TEST(UnmarshalXferStat, FillsInEveryByte)
{
	const sfd_xfer_stat want = stat_frame();
	sfd_xfer_stat got;

	memset(&got, 0xff, sizeof got);
	errno = 0;
	EXPECT_TRUE(sfd_unmarshal_xfer_stat(&got, Frame(want).get()));
	EXPECT_EQ(0, memcmp(&want, &got, sizeof got));
	EXPECT_EQ(0, errno);
}

TEST(UnmarshalXferStat, AnErrorIsFalseAndFilledIn)
{
	for (int stat : some_errors) {
		const sfd_xfer_stat want = stat_frame(stat);
		sfd_xfer_stat got;

		memset(&got, 0xff, sizeof got);
		errno = 0;
		EXPECT_FALSE(sfd_unmarshal_xfer_stat(&got, Frame(want).get())) << stat;
		EXPECT_EQ(0, memcmp(&want, &got, sizeof got)) << stat;
		EXPECT_EQ(0, errno);
	}
}

TEST(UnmarshalXferStat, AnotherKindIsFalse)
{
	sfd_xfer_stat got;

	EXPECT_FALSE(sfd_unmarshal_xfer_stat(&got, Frame(info_frame()).get()));
	EXPECT_FALSE(sfd_unmarshal_xfer_stat(&got, Frame(stat_frame(0, 0)).get()));
	EXPECT_FALSE(sfd_unmarshal_xfer_stat(&got, Frame(stat_frame(0, -1)).get()));
}

TEST(XferComplete, ForSuccessOnly)
{
	sfd_xfer_stat s{};

	s.cmd = SFD_XFER_STAT;
	EXPECT_FALSE(sfd_xfer_complete(&s)) << "progress";
	s.complete = 1;
	EXPECT_TRUE(sfd_xfer_complete(&s));
	for (int stat : some_errors) {
		s.stat = stat;
		EXPECT_FALSE(sfd_xfer_complete(&s)) << stat;
	}
}

// A transfer of 0 bytes is complete with nothing delivered; one of many is not because much was.
TEST(XferComplete, DoesNotDependOnBytes)
{
	sfd_xfer_stat s{};

	s.cmd = SFD_XFER_STAT;
	s.size = s.total = s.written = SIZE_MAX;
	EXPECT_FALSE(sfd_xfer_complete(&s));
	s.size = s.total = s.written = 0;
	s.complete = 1;
	EXPECT_TRUE(sfd_xfer_complete(&s));
}

TEST(StrStat, IsNeverNull)
{
	for (int stat = -1; stat <= 5000; stat++) {
		const char *text = sfd_strstat(stat);

		ASSERT_NE(nullptr, text) << stat;
		ASSERT_NE('\0', text[0]) << stat;
	}
	for (int stat : {INT32_MIN, INT32_MAX, -4096})
		EXPECT_NE(nullptr, sfd_strstat(stat)) << stat;
}

TEST(StrStat, SaysWhatErrnoSays)
{
	for (int err : {EPERM, ENOENT, EACCES, EINVAL, EMFILE, EPIPE, ECONNRESET, ETIMEDOUT, ECANCELED, EPROTO,
		     EPROTONOSUPPORT})
		EXPECT_STREQ(strerror(err), sfd_strstat(err)); /* in the C locale, which no test leaves */
}

TEST(StrStat, OurOwnAreToldApart)
{
	std::set<std::string> texts;

	for (int stat :
		{int{SFD_STAT_OK}, int{SFD_STAT_TRUNCATED}, int{SFD_STAT_WORKER_DIED}, int{SFD_STAT_CHANGED}, 0x1fff})
		EXPECT_TRUE(texts.insert(sfd_strstat(stat)).second) << stat;
}

// Static strings: the same one each time, in every thread, and no later call changes what an
// earlier one returned.
TEST(StrStat, StaysValid)
{
	std::vector<const char *> here, there;
	std::vector<std::string> copies;

	for (int stat = -1; stat <= 5000; stat++) {
		here.push_back(sfd_strstat(stat));
		copies.emplace_back(here.back());
	}
	std::thread other([&] {
		for (int stat = -1; stat <= 5000; stat++)
			there.push_back(sfd_strstat(stat));
	});
	other.join();
	EXPECT_EQ(here, there);
	for (size_t i = 0; i < here.size(); i++)
		ASSERT_EQ(copies[i], here[i]);
}

TEST(Version, IsThatOfTheBuild)
{
	EXPECT_STREQ(SFD_VERSION, sfd_version());
	EXPECT_EQ(sfd_version(), sfd_version());
}

} // namespace
