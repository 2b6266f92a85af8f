#include "cli/command_line.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nbos::cli {
namespace {

struct Line {
    explicit Line(std::vector<std::string> given) : words(std::move(given)) {
        for (auto& word : words) {
            argv.push_back(word.data());
        }
    }
    int run() {
        CommandLine line("nbos", "test");
        auto root = line.root();
        root.add("up", "starts")
            .secret("--token", token, "secret")
            .option("--hosts", hosts, "how many")
            .flag("--json", json, "JSON")
            .does([] { return 7; });
        return line.run(static_cast<int>(argv.size()), argv.data());
    }

    std::vector<std::string> words;
    std::vector<char*> argv;
    std::string token;
    std::uint32_t hosts = 4;
    bool json = false;
};

TEST(CommandLine, RunsTheActionWithItsOptionsAndReturnsItsCode) {
    Line line({"nbos", "up", "--hosts", "3", "--json"});
    EXPECT_EQ(line.run(), 7);
    EXPECT_EQ(line.hosts, 3U);
    EXPECT_TRUE(line.json);
}

TEST(CommandLine, WipesASecretThatEverybodyCouldRead) {
    Line apart({"nbos", "up", "--token", "abc"});
    EXPECT_EQ(apart.run(), 7);
    EXPECT_EQ(apart.token, "abc");
    EXPECT_EQ(apart.words.back(), "***");
    Line together({"nbos", "up", "--token=abc"});
    EXPECT_EQ(together.run(), 7);
    EXPECT_EQ(together.token, "abc");
    EXPECT_EQ(together.words.back(), "--token=***");
}

TEST(CommandLine, AWrongLineIsTwo) {
    for (auto words : {std::vector<std::string>{"nbos", "fly"},
                       {"nbos", "up", "--wings"},
                       {"nbos", "up", "--hosts", "many"}}) {
        EXPECT_EQ(Line(words).run(), 2) << words.back();
    }
}

TEST(CommandLine, NoCommandShowsTheHelp) { EXPECT_EQ(Line({"nbos"}).run(), 0); }

}  // namespace
}  // namespace nbos::cli
