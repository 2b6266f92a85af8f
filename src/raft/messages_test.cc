#include "raft/messages.h"

#include <gtest/gtest.h>

#include "tests/support/raft_nodes.h"

namespace nbos::raft {
namespace {

Message full_message() {
    Message m;
    m.kind = MessageKind::kAppend;
    m.group = GroupId{Uuid{3, 4}};
    m.from = ReplicaId{5};
    m.to = ReplicaId{6};
    m.term = Term{7};
    m.reject = true;
    m.last_chunk = true;
    m.index = Index{8};
    m.log_term = Term{9};
    m.commit = Index{10};
    m.hint_index = Index{11};
    m.hint_term = Term{12};
    m.round = 13;
    m.offset = 14;
    m.context = 15;
    m.target = ReplicaId{16};
    m.entries = {testing::entry(7, 9, ""), testing::entry(7, 10, "abc")};
    m.chunk = Bytes("chunk");
    return m;
}

std::string encoded(const Message& m) {
    Writer out;
    encode(out, m);
    return out.take();
}

TEST(Messages, SurviveTheWire) {
    const auto bytes = encoded(full_message());
    Reader in(bytes);
    const auto back = decode_message(in);
    ASSERT_TRUE(back && in.done());
    EXPECT_EQ(encoded(*back), bytes);
    EXPECT_EQ(back->entries, full_message().entries);
    EXPECT_EQ(back->target, ReplicaId{16});
    EXPECT_TRUE(back->reject && back->last_chunk && !back->force);
}

TEST(Messages, AHeartbeatIsSmall) {
    auto m = testing::message(MessageKind::kHeartbeat, 1, 2, 3);
    m.commit = Index{4};
    m.round = 5;
    EXPECT_LT(encoded(m).size(), 64U);
}

TEST(Messages, CutShortOrBentAreRefused) {
    const auto bytes = encoded(full_message());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        Reader in(std::string_view(bytes).substr(0, size));
        EXPECT_FALSE(decode_message(in)) << size;
    }
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        auto bent = bytes;
        bent[i] = static_cast<char>(bent[i] ^ 0xFF);
        Reader in(bent);
        (void)decode_message(in);  // anything but a crash
    }
}

TEST(Messages, SnapshotsSurvive) {
    auto snapshot = testing::first_snapshot(testing::voters({1, 2}, {3}));
    snapshot.applied_proposals[ReplicaId{1}] = {4, {6, 8}};
    snapshot.state = Bytes("state");
    Writer out;
    encode(out, snapshot);
    const auto bytes = out.take();
    Reader in(bytes);
    const auto back = decode_snapshot(in);
    ASSERT_TRUE(back && in.done());
    EXPECT_EQ(back->membership, snapshot.membership);
    EXPECT_EQ(back->applied_proposals, snapshot.applied_proposals);
    EXPECT_EQ(back->state, snapshot.state);
}

}  // namespace
}  // namespace nbos::raft
