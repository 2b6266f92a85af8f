#include "relay/request_table.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nbos::relay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Requests : public ::testing::Test {
protected:
    RequestTable::Added add(const std::string& id, const std::string& type = "execute_request") {
        jupyter::Header header{.msg_id = id, .msg_type = type, .session = "s"};
        jupyter::Addressed request{{Bytes::copy("peer-" + id)}, {}};
        request.message.header = fmt::format(R"({{"msg_id": "{}"}})", id);
        return table_.add(std::move(request), header);
    }
    static jupyter::Header parent(const std::string& id) {
        return {.msg_id = id, .msg_type = "", .session = "s"};
    }
    std::vector<std::string> send_all() {
        std::vector<std::string> ids;
        for (auto* request : table_.unsent()) {
            request->sent = true;
            ids.push_back(request->header.msg_id);
        }
        return ids;
    }

    RequestTable table_{{.requests_max = 3, .bytes_max = 1'000, .done_max = 2}};
};

TEST_F(Requests, LeaveInOrderAndOnce) {
    EXPECT_EQ(add("a"), RequestTable::Added::kNew);
    EXPECT_EQ(add("b"), RequestTable::Added::kNew);
    EXPECT_EQ(add("a"), RequestTable::Added::kKnown);
    EXPECT_THAT(send_all(), ElementsAre("a", "b"));
    EXPECT_THAT(send_all(), IsEmpty());
}

TEST_F(Requests, AreDoneAfterReplyAndIdleAndThenNothingIsRepeated) {
    add("a");
    send_all();
    EXPECT_TRUE(table_.show_status(parent("a"), true));
    EXPECT_FALSE(table_.show_status(parent("a"), true));
    EXPECT_THAT(*table_.take_reply(parent("a")), ElementsAre(Bytes::copy("peer-a")));
    EXPECT_FALSE(table_.take_reply(parent("a")));
    EXPECT_TRUE(table_.show_status(parent("a"), false));
    EXPECT_EQ(table_.size(), 0U);
    EXPECT_FALSE(table_.show_status(parent("a"), true));
    EXPECT_FALSE(table_.take_reply(parent("a")));
}

TEST_F(Requests, OfStrangersAreShown) {
    EXPECT_TRUE(table_.show_status(parent("unknown"), true));
    EXPECT_TRUE(table_.show_status(parent("unknown"), true));
    EXPECT_FALSE(table_.take_reply(parent("unknown")));
}

TEST_F(Requests, ThatRanAreAskedAgainOnlyWhereThatIsSafe) {
    add("cell");
    add("comm", "comm_msg");
    add("debug", "debug_request");
    send_all();
    for (const auto* id : {"cell", "comm", "debug"}) {
        table_.show_status(parent(id), true);
    }
    const auto lost = table_.after_loss();
    ASSERT_EQ(lost.answer_lost.size(), 1U);
    EXPECT_EQ(lost.answer_lost[0].header.msg_id, "debug");
    EXPECT_THAT(send_all(), ElementsAre("cell"));
}

TEST_F(Requests, ThatWereNeverHeardOfAreAskedAgain) {
    add("comm", "comm_msg");
    add("debug", "debug_request");
    send_all();
    EXPECT_THAT(table_.after_loss().answer_lost, IsEmpty());
    EXPECT_THAT(send_all(), ElementsAre("comm", "debug"));
}

TEST_F(Requests, ThatWereAnsweredOnlyMissTheirIdle) {
    add("cell");
    send_all();
    table_.take_reply(parent("cell"));
    const auto lost = table_.after_loss();
    ASSERT_EQ(lost.idle_lost.size(), 1U);
    EXPECT_TRUE(lost.idle_lost[0].replied);
    EXPECT_THAT(send_all(), IsEmpty());
    EXPECT_FALSE(table_.show_status(parent("cell"), false)) << "the true one comes late";
}

TEST_F(Requests, AreRefusedAboveTheLimitsButCommsMakeRoom) {
    add("comm", "comm_msg");
    add("b");
    add("c");
    EXPECT_EQ(add("d"), RequestTable::Added::kFull) << "nothing has left yet";
    send_all();
    EXPECT_EQ(add("d"), RequestTable::Added::kNew) << "the comm message has";
    EXPECT_EQ(add("e"), RequestTable::Added::kFull);
    EXPECT_EQ(table_.take_all().size(), 3U);
    EXPECT_EQ(add(std::string(2'000, 'x')), RequestTable::Added::kFull);
}

TEST_F(Requests, NameTheSessionsThatWait) {
    EXPECT_THAT(table_.sessions(), IsEmpty());
    add("a");
    EXPECT_THAT(table_.sessions(), ElementsAre("s"));
}

}  // namespace
}  // namespace nbos::relay
