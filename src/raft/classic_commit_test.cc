// The classic bugs of commit and votes, one test each (consensus.md section 8.4).
#include <gtest/gtest.h>

#include "tests/support/raft_nodes.h"

namespace nbos::testing {
namespace {

using raft::MessageKind;
using raft::Role;

// --- Commit --------------------------------------------------------------------------------------

TEST(ClassicCommit, Figure8OldTermIsNotCommittedByCounting) {
    Solo n(1, voters({1, 2, 3}), {entry(2, 2)}, 3);
    n.lead({2});
    ASSERT_EQ(n.node->role(), Role::kLeader);
    n.step(append_reply(2, 1, n.node->term().value, 2));  // the old entry is on a majority
    EXPECT_EQ(n.node->committed(), Index{1});
    n.step(append_reply(2, 1, n.node->term().value, 3));  // and now the no-op of this term
    EXPECT_EQ(n.node->committed(), Index{3});
}

TEST(ClassicCommit, CommitStopsAtTheLastNewEntry) {
    // 3 is a leftover of term 2 that the leader of term 3 has not spoken about.
    Solo n(1, voters({1, 2, 3}), {entry(2, 2), entry(2, 3)}, 2);
    n.step(append(2, 1, 3, 1, 1, {entry(2, 2)}, 9));
    EXPECT_EQ(n.node->committed(), Index{2});
}

TEST(ClassicCommit, HeartbeatRepliesDoNotMoveTheMatch) {
    Solo n(1, voters({1, 2, 3}));
    n.lead({2});
    n.tick(1);
    auto reply = message(MessageKind::kHeartbeatReply, 2, 1, n.node->term().value);
    reply.round = 1;
    reply.hint_index = n.node->last_index();
    n.step(reply);
    EXPECT_EQ(n.node->progress().at(replica(2)).match, Index{0});
    EXPECT_EQ(n.node->committed(), Index{1});
}

TEST(ClassicCommit, ReadIndexWaitsForACommitOfTheOwnTerm) {
    Solo n(1, voters({1, 2, 3}), {entry(2, 2)}, 2);
    n.lead({2});
    n.node->read_index(77);
    n.tick(1);
    const auto heartbeat_reply = [&](std::uint64_t round) {
        auto m = message(MessageKind::kHeartbeatReply, 2, 1, n.node->term().value);
        m.round = round;
        return m;
    };
    n.step(heartbeat_reply(1));
    n.step(heartbeat_reply(2));
    EXPECT_TRUE(n.reads.empty());
    n.step(append_reply(2, 1, n.node->term().value, 3));
    n.take();
    const auto beats = n.sent_of(MessageKind::kHeartbeat);
    n.step(heartbeat_reply(beats.back().round));
    for (const auto& beat : beats) {
        n.step(heartbeat_reply(beat.round));
    }
    ASSERT_EQ(n.reads.size(), 1U);
    EXPECT_EQ(n.reads[0].context, 77U);
    EXPECT_EQ(n.reads[0].index, Index{3});
}

TEST(ClassicCommit, AClockJumpDoesNotMakeAStaleRead) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.lose = [](const auto& m) { return m.from == replica(1) || m.to == replica(1); };
    // Time stands still for the old leader, and passes for the others.
    for (int i = 0; i < 40; ++i) {
        n[2].tick();
        n[3].tick();
        n.settle();
    }
    ASSERT_NE(n.leader(), 1U);
    ASSERT_EQ(n[1].role(), Role::kLeader);
    n[1].read_index(5);
    n.settle();
    EXPECT_TRUE(n.reads.empty());
}

// --- Votes ---------------------------------------------------------------------------------------

raft::Message vote_request(std::uint64_t from, std::uint64_t term, bool force = false) {
    auto m = message(MessageKind::kVote, from, 1, term);
    m.index = Index{9};
    m.log_term = Term{term - 1};
    m.force = force;
    return m;
}

bool granted(const Solo& n, std::uint64_t to) {
    const auto replies = n.sent_of(MessageKind::kVoteReply);
    return std::any_of(replies.begin(), replies.end(),
                       [&](const auto& m) { return m.to == replica(to) && !m.reject; });
}

TEST(ClassicVote, NoSecondVoteAfterARestart) {
    Solo n(1, voters({1, 2, 3}));
    n.step(vote_request(2, 5));
    n.persist();
    ASSERT_TRUE(granted(n, 2));
    n.restart();
    n.step(vote_request(3, 5));
    n.persist();
    EXPECT_FALSE(granted(n, 3));
}

TEST(ClassicVote, NoSecondVoteForTheTargetOfATransfer) {
    Solo n(1, voters({1, 2, 3}));
    n.step(vote_request(2, 5));
    n.step(vote_request(3, 5, true));
    n.persist();
    EXPECT_TRUE(granted(n, 2));
    EXPECT_FALSE(granted(n, 3));
}

TEST(ClassicVote, NoSecondVoteAfterSteppingDownInTheSameTerm) {
    Solo n(1, voters({1, 2, 3}));
    n.node->campaign();
    n.persist();
    n.step(message(MessageKind::kPreVoteReply, 2, 1, n.node->term().value + 1));
    n.persist();
    ASSERT_EQ(n.node->role(), Role::kCandidate);
    const auto term = n.node->term().value;
    n.step(append(2, 1, term, 1, 1, {}));
    ASSERT_EQ(n.node->role(), Role::kFollower);
    n.step(vote_request(3, term, true));
    n.persist();
    EXPECT_FALSE(granted(n, 3));
}

TEST(ClassicVote, TermAndVoteAreWrittenTogetherBeforeTheReplyLeaves) {
    Solo n(1, voters({1, 2, 3}));
    n.step(vote_request(2, 5));
    EXPECT_FALSE(granted(n, 2));
    ASSERT_EQ(n.held.size(), 1U);
    ASSERT_TRUE(n.held[0].hard_state);
    EXPECT_EQ(n.held[0].hard_state->term, Term{5});
    EXPECT_EQ(n.held[0].hard_state->vote, replica(2));
    n.persist();
    EXPECT_TRUE(granted(n, 2));
}

TEST(ClassicVote, ACandidatesOwnVoteCountsOnlyOnceItIsDurable) {
    Solo n(1, voters({1}));
    n.node->campaign();
    n.take();
    EXPECT_EQ(n.node->role(), Role::kCandidate);
    n.persist();
    EXPECT_EQ(n.node->role(), Role::kLeader);
}

TEST(ClassicVote, ANodeStrandedAtAHigherTermRejoins) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    auto request = message(MessageKind::kVote, 9, 3, 50);  // it once heard of a far higher term
    request.force = true;
    n.lose = [](const auto&) { return true; };
    n[3].step(request);
    n.settle();
    ASSERT_EQ(n[3].term(), Term{50});
    n.lose = nullptr;
    n.tick(60);
    ASSERT_NE(n.leader(), 0U);
    EXPECT_GT(n[n.leader()].term(), Term{49});
    EXPECT_EQ(n[3].leader(), replica(n.leader()));
    EXPECT_EQ(n[3].applied(), n[n.leader()].applied());
}

TEST(ClassicVote, ATransferIsNotRefusedForHearingTheLeader) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(3);
    n[2].transfer_leadership(replica(3));  // asked of a follower
    n.settle();
    EXPECT_EQ(n.leader(), 3U);
    EXPECT_EQ(n[2].leader(), replica(3));
}

TEST(ClassicVote, ARemovedServerDisturbsNobody) {
    Nodes n(voters({1, 2, 3, 4}));
    n.lead(1);
    n.dead = {4};
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 3})));
    n.settle();
    ASSERT_TRUE(n[1].membership_settled());
    const auto term = n[1].term();
    n.dead = {};
    n.lose = [](const auto& m) { return m.to == replica(4); };  // it hears nobody, and shouts
    n.tick(100);
    n[2].step(message(MessageKind::kVote, 4, 2, term.value + 20));
    n.tick(10);
    EXPECT_EQ(n.leader(), 1U);
    EXPECT_EQ(n[1].term(), term);
}

TEST(ClassicVote, ADeadLeaderIsReplacedAtOnce) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(2);
    n.dead = {1};
    n[2].peer_is_dead(replica(1));
    n[3].peer_is_dead(replica(1));  // both campaign: one must win, without a timeout
    n.settle();
    EXPECT_NE(n.leader(), 0U);
}

TEST(ClassicVote, WhoDoesNotKnowOfTheDeathStillRefuses) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(2);
    n.dead = {1};
    n[2].peer_is_dead(replica(1));
    n.settle();
    EXPECT_EQ(n.leader(), 0U);
    n[3].peer_is_dead(replica(1));
    n.settle();
    EXPECT_NE(n.leader(), 0U);
}

TEST(ClassicVote, ALeaderWithoutAQuorumStepsDown) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.dead = {2, 3};
    n.tick(25);
    EXPECT_EQ(n.leader(), 0U);
}

}  // namespace
}  // namespace nbos::testing
