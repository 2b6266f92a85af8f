#include "local/files.h"

#include <gtest/gtest.h>

#include <fstream>

namespace nbos::local {
namespace {

class SmallFiles : public ::testing::Test {
protected:
    void SetUp() override {
        std::string path = ::testing::TempDir() + "nbos-files-XXXXXX";
        directory_ = mkdtemp(path.data());
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    std::filesystem::path directory_;
};

TEST_F(SmallFiles, ReadsWhatWasWritten) {
    const std::string text = "a\0b\n" + std::string(10'000, 'x');
    ASSERT_TRUE(write_small_file(directory_ / "f", text, 0600));
    EXPECT_EQ((*read_small_file(directory_ / "f")).value(), text);
}

TEST_F(SmallFiles, AMissingFileIsNoError) {
    const auto text = read_small_file(directory_ / "none");
    ASSERT_TRUE(text);
    EXPECT_FALSE((*text).has_value());
}

TEST_F(SmallFiles, ADirectoryInItsPlaceIsAnErrorThatNamesIt) {
    const auto text = read_small_file(directory_);
    ASSERT_FALSE(text);
    EXPECT_NE(text.error().what.find(directory_.string()), std::string::npos) << text.error().what;
}

TEST_F(SmallFiles, TheTailOfWhatCannotBeReadIsEmpty) {
    EXPECT_EQ(last_lines(directory_, 3, 0), "");
    std::ofstream(directory_ / "log") << "one\ntwo\nthree\nfour\n";
    EXPECT_EQ(last_lines(directory_ / "log", 2, 0), "three\nfour");
}

}  // namespace
}  // namespace nbos::local
