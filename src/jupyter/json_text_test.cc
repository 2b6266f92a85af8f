#include "jupyter/json_text.h"

#include <gtest/gtest.h>

#include <array>
#include <utility>

namespace nbos::jupyter {
namespace {

TEST(JsonText, KnowsUtf8) {
    for (const std::string_view good :
         {"", "plain", "h\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}) {
        EXPECT_TRUE(is_utf8(good)) << good;
    }
    for (const std::string_view bad :
         {"\xFF", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80"}) {
        EXPECT_FALSE(is_utf8(bad));
    }
}

TEST(JsonText, LoneSurrogatesAreReplacedInTheirPlace) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kCases{{
        {R"("\ud800")", R"("\ufffd")"},
        {R"("\uDFFFx")", R"("\ufffdx")"},
        {R"("\ud83d\ude00")", R"("\ud83d\ude00")"},
        {R"("\ud83d\ud83d\ude00")", R"("\ufffd\ud83d\ude00")"},
        {R"("\ude00\ud83d")", R"("\ufffd\ufffd")"},
        {R"("\\ud800")", R"("\\ud800")"},
        {R"("\\\ud800")", R"("\\\ufffd")"},
        {R"("\u0041\n")", R"("\u0041\n")"},
        {R"("\ud80)", R"("\ud80)"},
        {"\\", "\\"},
    }};
    for (const auto& [text, expected] : kCases) {
        std::string changed(text);
        EXPECT_EQ(text != expected, replace_lone_surrogates(changed)) << text;
        EXPECT_EQ(expected, changed);
    }
}

}  // namespace
}  // namespace nbos::jupyter
