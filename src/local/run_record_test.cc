#include "local/run_record.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "local/files.h"

namespace nbos::local {
namespace {

std::filesystem::path fresh_directory() {
    std::string path = ::testing::TempDir() + "nbos-record-XXXXXX";
    return mkdtemp(path.data());
}

RunRecord example() {
    return {
        .gateway_url = "http://127.0.0.1:8889",
        .lab_url = "http://127.0.0.1:8888/lab",
        .workspace = "/somewhere with \"quotes\"",
        .ready = true,
        .processes = {{"supervisor", {10, 1000}, ""}, {"host-1", {11, 1001}, "127.0.1.1:7001"}}};
}

TEST(RunRecord, ComesBackFromItsFileWhichOnlyItsOwnerReads) {
    const auto directory = fresh_directory();
    const auto file = directory / "run.json";
    ASSERT_TRUE(write_run_record(file, example()));
    const auto read = read_run_record(file);
    ASSERT_TRUE(read && *read);
    EXPECT_EQ(to_json(**read), to_json(example()));
    EXPECT_EQ((*read)->find("host-1")->address, "127.0.1.1:7001");
    EXPECT_EQ((*read)->find("host-2"), nullptr);
    struct stat info{};
    ASSERT_EQ(stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
    std::filesystem::remove_all(directory);
}

TEST(RunRecord, NoFileMeansNothingRuns) {
    const auto read = read_run_record("/nonexistent/run.json");
    ASSERT_TRUE(read);
    EXPECT_FALSE(*read);
}

TEST(RunRecord, DamageIsAnErrorAndNoCrash) {
    for (const char* text : {"", "[", "[]", "{}", R"({"ready": 1, "processes": []})",
                             R"({"ready": true, "processes": [{"pid": "x"}]})"}) {
        EXPECT_FALSE(parse_run_record(text)) << text;
    }
}

TEST(Files, LastLinesAreTheLast) {
    const auto directory = fresh_directory();
    const auto file = directory / "log";
    std::ofstream(file) << "one\ntwo\nthree\n";
    EXPECT_EQ(last_lines(file, 2), "two\nthree");
    EXPECT_EQ(last_lines(file, 10), "one\ntwo\nthree");
    EXPECT_EQ(last_lines(directory / "none", 10), "");
    std::filesystem::remove_all(directory);
}

TEST(Files, TooLittleSpaceSaysWhatToDo) {
    const auto space = require_free_space("/", UINT64_MAX);
    ASSERT_FALSE(space);
    EXPECT_NE(space.error().what.find("--data"), std::string::npos);
}

}  // namespace
}  // namespace nbos::local
