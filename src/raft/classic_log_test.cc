// The classic bugs of the log, one test each (consensus.md section 8.4).
#include <gtest/gtest.h>

#include "raft/invariant.h"
#include "tests/support/raft_nodes.h"

namespace nbos::testing {
namespace {

using raft::MessageKind;
using raft::Role;

TEST(ClassicLog, NoAcknowledgementBeforeTheFsync) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2)}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2)}));  // again: nothing to write, but not durable yet
    EXPECT_TRUE(n.sent_of(MessageKind::kAppendReply).empty());
    n.persist();
    EXPECT_EQ(n.sent_of(MessageKind::kAppendReply).size(), 2U);
    EXPECT_EQ(n.sent_of(MessageKind::kAppendReply)[0].index, Index{2});
}

TEST(ClassicLog, ALeaderCountsItselfOnlyAfterItsFsync) {
    Solo n(1, voters({1, 2, 3}));
    n.lead({2});
    n.step(append_reply(2, 1, n.node->term().value, 2));
    ASSERT_EQ(n.node->committed(), Index{2});
    ASSERT_TRUE(n.node->propose(Bytes("a")));
    n.take();
    EXPECT_FALSE(n.sent_of(MessageKind::kAppend).empty());  // it leaves before
    n.step(append_reply(2, 1, n.node->term().value, 3));
    EXPECT_EQ(n.node->committed(), Index{2});
    n.persist();
    EXPECT_EQ(n.node->committed(), Index{3});
}

TEST(ClassicLog, AStaleShortAppendDoesNotTruncate) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3), entry(2, 4)}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2)}));
    n.step(append(2, 1, 2, 2, 2, {}));
    EXPECT_EQ(n.node->last_index(), Index{4});
}

TEST(ClassicLog, AnAppendOverTheCompactedPrefixIsClipped) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3), entry(2, 4)}, 4));
    n.persist();
    n.node->compact(Index{3}, Bytes("state"));
    ASSERT_EQ(n.node->first_index(), Index{4});
    n.sent.clear();
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3), entry(2, 4), entry(2, 5)}, 5));
    n.persist();
    EXPECT_EQ(n.node->last_index(), Index{5});
    EXPECT_EQ(n.node->first_index(), Index{4});
    ASSERT_FALSE(n.sent_of(MessageKind::kAppendReply).empty());
    EXPECT_EQ(n.sent_of(MessageKind::kAppendReply).back().index, Index{5});
}

TEST(ClassicLog, ACommittedEntryIsNeverReplaced) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2)}, 2));
    EXPECT_THROW(n.step(append(3, 1, 3, 1, 1, {entry(3, 2), entry(3, 3)})), raft::InvariantBroken);
}

TEST(ClassicLog, AStaleReplyAfterReelectionIsIgnored) {
    Solo n(1, voters({1, 2, 3}));
    n.lead({2});
    const auto old_term = n.node->term().value;
    n.step(append(3, 1, old_term + 1, 1, 1, {entry(old_term + 1, 2)}));  // deposed, tail replaced
    n.persist();
    n.lead({2});
    ASSERT_EQ(n.node->role(), Role::kLeader);
    n.step(append_reply(2, 1, old_term, 2));
    EXPECT_EQ(n.node->progress().at(replica(2)).match, Index{0});
}

TEST(ClassicLog, AWriteThatWasReplacedMeanwhileDoesNotCountForItsSuccessor) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3)}));  // first write, under way
    n.step(append(3, 1, 3, 1, 1, {entry(3, 2), entry(3, 3)}));  // replaced by a second one
    ASSERT_EQ(n.held.size(), 2U);
    n.node->persisted(n.held[0].batch);
    n.take();
    const auto replies = n.sent_of(MessageKind::kAppendReply);
    EXPECT_TRUE(std::none_of(replies.begin(), replies.end(),
                             [](const auto& m) { return m.term == Term{3} && !m.reject; }));
}

TEST(ClassicLog, ALostProbeIsSentAgain) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.lose = [](const auto& m) { return m.to == replica(3) && m.kind == MessageKind::kAppend; };
    ASSERT_TRUE(n[1].propose(Bytes("a")));
    n.settle();
    ASSERT_TRUE(n.commands(3).empty());
    n.lose = nullptr;
    n.tick(5);
    EXPECT_EQ(n.commands(3), std::vector<std::string>{"a"});
}

TEST(ClassicLog, ALostAppendIsNoticedByTheNextHeartbeat) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(1);
    bool lost = false;
    n.lose = [&](const auto& m) {
        const bool hit = !lost && m.to == replica(3) && m.kind == MessageKind::kAppend;
        lost = lost || hit;
        return hit;
    };
    ASSERT_TRUE(n[1].propose(Bytes("a")));
    n.settle();
    ASSERT_TRUE(lost);
    n.tick(2);
    EXPECT_EQ(n.commands(3), std::vector<std::string>{"a"});
}

TEST(ClassicLog, AHeartbeatThatOvertakesBulkDoesNotTakeItForLost) {
    Solo n(1, voters({1, 2, 3}));
    n.lead({2});
    const auto term = n.node->term().value;
    n.step(append_reply(2, 1, term, 2));
    ASSERT_TRUE(n.node->propose(Bytes(std::string(100'000, 'b'))));
    ASSERT_TRUE(n.node->propose(Bytes("a")));
    n.persist();
    const auto to_two = [&](MessageKind kind) {
        auto all = n.sent_of(kind);
        std::erase_if(all, [](const auto& m) { return m.to != replica(2); });
        return all;
    };
    for (const auto& m : to_two(MessageKind::kAppend)) {
        EXPECT_TRUE(m.bulk);  // the small one, too: it must not arrive first
    }
    n.sent.clear();
    n.tick(1);
    const auto beats = to_two(MessageKind::kHeartbeat);
    ASSERT_EQ(beats.size(), 2U);
    EXPECT_FALSE(beats[0].bulk);
    EXPECT_TRUE(beats[1].bulk);
    const auto answer = [&](const raft::Message& beat, std::uint64_t last) {
        auto m = message(MessageKind::kHeartbeatReply, 2, 1, term);
        m.round = beat.round;
        m.index = beat.index;
        m.hint_index = Index{last};
        n.step(m);
    };
    n.sent.clear();
    answer(beats[0], 2);
    EXPECT_TRUE(n.node->progress().at(replica(2)).recently_active);
    EXPECT_TRUE(to_two(MessageKind::kAppend).empty());
    answer(beats[1], 4);  // it has them; its disk is slow
    EXPECT_TRUE(to_two(MessageKind::kAppend).empty());
    answer(beats[1], 2);
    EXPECT_EQ(to_two(MessageKind::kAppend).size(), 1U);  // lost
    n.step(append_reply(2, 1, term, 4));
    n.sent.clear();
    ASSERT_TRUE(n.node->propose(Bytes("c")));
    n.persist();
    ASSERT_EQ(to_two(MessageKind::kAppend).size(), 1U);
    EXPECT_FALSE(to_two(MessageKind::kAppend)[0].bulk);
}

TEST(ClassicLog, EntriesOfAnyLengthGoThrough) {
    raft::Options options;
    options.append_bytes_max = 1000;
    options.inflight_bytes_max = 2000;
    Nodes n(voters({1, 2, 3}), options);
    n.lead(1);
    std::vector<std::string> all;
    for (const auto size : {0U, 1U, 7U, 999U, 1000U, 100'003U, 0U}) {
        all.emplace_back(size, 'z');
        ASSERT_TRUE(n[1].propose(Bytes(all.back())));
    }
    n.settle();
    n.tick(2);
    for (const auto id : {1U, 2U, 3U}) {
        EXPECT_EQ(n.commands(id), all);
    }
}

TEST(ClassicLog, BytesInFlightAreBounded) {
    raft::Options options;
    options.append_bytes_max = 1000;
    options.inflight_bytes_max = 5000;
    Nodes n(voters({1, 2, 3}), options);
    n.lead(1);
    n.tick(1);
    n.lose = [](const auto& m) {
        return m.from == replica(3) && m.kind == MessageKind::kAppendReply;
    };
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(n[1].propose(Bytes(std::string(500, 'x'))));
        n.settle();
        EXPECT_LE(n[1].progress().at(replica(3)).inflight_bytes, 6000U);
    }
    EXPECT_EQ(n.commands(2).size(), 100U);
}

TEST(ClassicLog, TooMuchUncommittedIsRefused) {
    raft::Options options;
    options.uncommitted_bytes_max = 1000;
    Nodes n(voters({1, 2, 3}), options);
    n.lead(1);
    n.dead = {2, 3};
    int accepted = 0;
    while (n[1].propose(Bytes(std::string(100, 'x'))) && accepted < 100) {
        ++accepted;
    }
    EXPECT_GT(accepted, 3);
    EXPECT_LT(accepted, 11);
    n.dead = {};
    n.tick(30);
    EXPECT_TRUE(n[1].propose(Bytes("again")));
}

// --- Proposals -----------------------------------------------------------------------------------

TEST(Proposals, AFollowersProposalReachesTheLeader) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    ASSERT_TRUE(n[3].propose(Bytes("from three")));
    n.settle();
    n.tick(1);
    EXPECT_EQ(n.commands(2), std::vector<std::string>{"from three"});
}

TEST(Proposals, AreMadeAgainAtOnceWhenTheLeaderChanges) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.dead = {1};
    ASSERT_TRUE(n[3].propose(Bytes("a")));  // lost with the leader
    n.settle();
    n[2].peer_is_dead(replica(1));
    n[3].peer_is_dead(replica(1));
    n.settle();
    EXPECT_EQ(n.commands(2), std::vector<std::string>{"a"});
    EXPECT_EQ(n.commands(3), std::vector<std::string>{"a"});
}

TEST(Proposals, ADeposedLeadersProposalIsAppliedOnce) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    // Two has the entry, but its answer is lost: nobody knows whether it is committed.
    n.lose = [](const auto& m) { return m.from == replica(2) || m.to == replica(3); };
    ASSERT_TRUE(n[1].propose(Bytes("a")));
    n.settle();
    n.lose = [](const auto& m) { return m.from == replica(1) || m.to == replica(1); };
    n.tick(60);
    ASSERT_EQ(n.leader(), 2U);
    n.lose = nullptr;
    n.tick(30);  // one proposes it again: it does not know
    for (const auto id : {1U, 2U, 3U}) {
        EXPECT_EQ(n.commands(id), std::vector<std::string>{"a"});
    }
}

TEST(Proposals, ASlowGroupDoesNotDrownInCopies) {  // found by the simulator
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.lose = [](const auto& m) {
        return m.to == replica(1) && m.kind == MessageKind::kAppendReply;
    };
    ASSERT_TRUE(n[3].propose(Bytes("a")));
    n.tick(200);  // nothing commits; three asks again and again
    EXPECT_GT(n.sent[MessageKind::kPropose], 3);
    EXPECT_EQ(n[1].last_index(), Index{3});
    n.lose = nullptr;
    n.tick(5);
    EXPECT_EQ(n.commands(3), std::vector<std::string>{"a"});
}

TEST(Proposals, ARestartNeverUsesAnOldNumberAgain) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {}));
    n.persist();
    const auto before = n.node->propose(Bytes("a"));
    n.take();
    n.restart();
    const auto after = n.node->propose(Bytes("b"));
    ASSERT_TRUE(before && after);
    EXPECT_LT(before->sequence, after->sequence);
    EXPECT_NE(before->sequence >> 32U, after->sequence >> 32U);
}

TEST(Proposals, NothingIsForwardedBeforeItsNumberIsSafe) {
    Solo n(1, voters({1, 2, 3}));
    n.node = std::make_unique<raft::Node>(GroupId{}, replica(1), raft::Options{}, n.disk, 7);
    n.step(append(2, 1, 2, 1, 1, {}));
    ASSERT_TRUE(n.node->propose(Bytes("a")));
    n.take();
    EXPECT_TRUE(n.sent_of(MessageKind::kPropose).empty());
    n.persist();
    EXPECT_EQ(n.sent_of(MessageKind::kPropose).size(), 1U);
}

TEST(Proposals, TheDuplicateTableTravelsInSnapshots) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    raft::Message duplicate;
    n.lose = [&](const auto& m) {
        if (m.kind == MessageKind::kPropose) {
            duplicate = m;
        }
        return m.to == replica(2);
    };
    ASSERT_TRUE(n[3].propose(Bytes("a")));
    n.settle();
    n[1].compact(n[1].applied(), Bytes("state"));
    n.lose = nullptr;
    n.tick(30);
    ASSERT_FALSE(n.installed[replica(2)].empty());
    n.lead(2);
    ASSERT_EQ(n.leader(), 2U);
    duplicate.to = replica(2);
    n[2].step(duplicate);  // delayed in the network since the first leader
    n.settle();
    n.tick(2);
    EXPECT_EQ(n.commands(3), std::vector<std::string>{"a"});
    EXPECT_TRUE(n.commands(2).empty());
}

}  // namespace
}  // namespace nbos::testing
