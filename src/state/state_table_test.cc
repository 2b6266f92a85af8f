#include "state/state_table.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/delta.h"

namespace nbos::state {
namespace {

using nbos::testing::Delta;

TEST(StateTable, PutsReplacesAndDeletes) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("n:x", "1").put("n:y", "2").str()));
    ASSERT_TRUE(table.apply(Delta().put("n:x", "3").del("n:y").str()));
    ASSERT_EQ(table.entries().size(), 1U);
    EXPECT_EQ(table.entries().at("n:x").view(), Delta::value("3"));
    EXPECT_EQ(table.bytes(), 3 + Delta::value("3").size());
}

TEST(StateTable, OperationsOfOneDeltaSeeEachOther) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("a", "1").del("a").put("a", "2").put("b", "").str()));
    StateTable same;
    ASSERT_TRUE(same.apply(Delta().put("b", "").put("a", "2").str()));
    EXPECT_EQ(table.digest(), same.digest());
    EXPECT_EQ(table.bytes(), same.bytes());
    EXPECT_FALSE(table.apply(Delta().del("a").del("a").str()));
}

TEST(StateTable, AnEmptyStringChangesNothing) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("a", "1").str()));
    const auto digest = table.digest();
    EXPECT_TRUE(table.apply(""));
    EXPECT_EQ(table.digest(), digest);
}

TEST(StateTable, DigestDependsOnContentAndNotOnOrder) {
    StateTable one;
    StateTable two;
    ASSERT_TRUE(one.apply(Delta().put("a", "1").put("b", "2").str()));
    ASSERT_TRUE(two.apply(Delta().put("b", "2").str()));
    ASSERT_TRUE(two.apply(Delta().put("c", "3").str()));
    EXPECT_NE(one.digest(), two.digest());
    ASSERT_TRUE(two.apply(Delta().put("a", "1").del("c").str()));
    EXPECT_EQ(one.digest(), two.digest());
    ASSERT_TRUE(two.apply(Delta().put("a", "2").put("b", "1").str()));  // values swapped
    EXPECT_NE(one.digest(), two.digest());
}

TEST(StateTable, DigestSeesWhereTheKeyEnds) {
    StateTable one;
    StateTable two;
    ASSERT_TRUE(one.apply(Delta().put("ab", "").str()));
    ASSERT_TRUE(two.apply(Delta().put("a", "b").str()));
    EXPECT_NE(one.digest(), two.digest());
}

TEST(StateTable, EmptyTableHasDigestZeroHoweverReached) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("a", "1").str()));
    EXPECT_NE(table.digest(), 0U);
    StateTable cleared = table;
    cleared.clear();
    ASSERT_TRUE(table.apply(Delta().del("a").str()));
    EXPECT_EQ(table.digest(), 0U);
    EXPECT_EQ(cleared.digest(), 0U);
    EXPECT_EQ(cleared.bytes(), 0U);
}

TEST(StateTable, DigestIsTheSameOnEveryMachine) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("n:x", "1").put("o:7", std::string(1000, 'z')).str()));
    EXPECT_EQ(table.digest(), 0xBF60CD02B6A905AFU);
}

TEST(StateTable, DigestAfterForetellsApply) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("a", "1").str()));
    const auto delta = Delta().put("b", "2").del("a").str();
    const auto before = table.digest();
    const auto foretold = table.digest_after(delta);
    EXPECT_EQ(table.digest(), before);
    ASSERT_TRUE(foretold && table.apply(delta));
    EXPECT_EQ(*foretold, table.digest());
    EXPECT_FALSE(table.digest_after(Delta().del("gone").str()));
}

TEST(StateTable, AsDeltaRebuildsTheTable) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("a", "1").put("b", std::string("\0\xff", 2)).str()));
    StateTable copy;
    ASSERT_TRUE(copy.apply(table.as_delta().view()));
    EXPECT_EQ(copy.entries(), table.entries());
    EXPECT_EQ(copy.digest(), table.digest());
}

struct BadDelta {
    const char* name;
    std::string bytes;
    const char* says;
};

std::vector<BadDelta> bad_deltas() {
    const auto good = Delta().put("fresh", "value").str();
    return {
        {"ShortHeader", "\x01", "length"},
        {"FutureVersion", "\x02" + good.substr(1), "version 2"},
        {"Truncated", good.substr(0, good.size() - 1), "length"},
        {"TrailingByte", good + "x", "length"},
        {"HugeCount", Writer().put(std::uint8_t{1}).put(0xFFFFFFFFU).take(), "length"},
        {"UnknownOperation",
         Writer().put(std::uint8_t{1}).put(1U).put(std::uint8_t{3}).put("k").take(), "neither"},
        {"ChunkPart",
         Delta().raw_put("k", Writer().put(1U).put(std::uint8_t{1}).put("chunk").take()).str(),
         "malformed value"},
        {"ValueWithTrailingByte", Delta().raw_put("k", Delta::value("v") + "x").str(),
         "malformed value"},
        {"DeletesWhatIsNotThere", Delta().put("fresh", "1").del("absent").str(), "'absent'"},
    };
}

TEST(StateTable, ABadDeltaIsRefusedWholeAndSaysWhy) {
    StateTable table;
    ASSERT_TRUE(table.apply(Delta().put("a", "1").str()));
    const StateTable before = table;
    for (const auto& bad : bad_deltas()) {
        SCOPED_TRACE(bad.name);
        const auto status = table.apply(bad.bytes);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, Errc::kInvalid);
        EXPECT_NE(status.error().what.find(bad.says), std::string::npos) << status.error().what;
        EXPECT_EQ(table.entries(), before.entries());
        EXPECT_EQ(table.digest(), before.digest());
        EXPECT_EQ(table.bytes(), before.bytes());
    }
}

}  // namespace
}  // namespace nbos::state
