#include "io/pki.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "io/event_loop.h"
#include "io/tls.h"

namespace nbos::io {
namespace {

class Pki : public ::testing::Test {
protected:
    Pki() : dir_(std::filesystem::temp_directory_path() / ("nbos-pki-" + random_uuid().str())) {}
    ~Pki() override { std::filesystem::remove_all(dir_); }
    std::filesystem::path dir_;
};

TEST_F(Pki, MakesFilesOnlyTheOwnerCanReadAndKeepsThem) {
    ASSERT_TRUE(ensure_authority(dir_));
    const auto files = issue(dir_, "host-1");
    ASSERT_TRUE(files);
    for (const auto& path : {files->authority, files->certificate, files->key,
                             (dir_ / "authority-key.pem").string()}) {
        struct stat info{};
        ASSERT_EQ(stat(path.c_str(), &info), 0) << path;
        EXPECT_EQ(info.st_mode & 0777, 0600U) << path;
    }
    const auto read = [](const std::string& path) {
        std::ifstream in(path);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    const auto before = read(files->certificate);
    ASSERT_TRUE(ensure_authority(dir_));
    ASSERT_TRUE(issue(dir_, "host-1"));
    EXPECT_EQ(read(files->certificate), before);
    EXPECT_TRUE(TlsContext::load(*files));
}

TEST_F(Pki, RefusesIdsThatAreNoFileNames) {
    ASSERT_TRUE(ensure_authority(dir_));
    for (const char* id : {"", "../x", "a/b", ".hidden", "authority", "host-1-key", "a b"}) {
        EXPECT_FALSE(issue(dir_, id)) << id;
    }
    EXPECT_FALSE(issue(dir_, std::string(65, 'a')));
}

TEST_F(Pki, WithoutTheAuthoritysKeySaysWhereToIssue) {
    ASSERT_TRUE(ensure_authority(dir_));
    ASSERT_TRUE(issue(dir_, "host-1"));
    std::filesystem::remove(dir_ / "authority-key.pem");
    EXPECT_TRUE(issue(dir_, "host-1"));
    const auto refused = issue(dir_, "host-2");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kNotFound);
}

TEST_F(Pki, AForeignKeyIsNamed) {
    ASSERT_TRUE(ensure_authority(dir_));
    auto files = *issue(dir_, "host-1");
    files.key = issue(dir_, "host-2")->key;
    const auto context = TlsContext::load(files);
    ASSERT_FALSE(context);
    EXPECT_NE(context.error().what.find("host-2-key.pem"), std::string::npos);
}

}  // namespace
}  // namespace nbos::io
