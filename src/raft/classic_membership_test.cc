// The classic bugs of configurations and snapshots, one test each (consensus.md section 8.4).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/raft_nodes.h"

namespace nbos::testing {
namespace {

using raft::MessageKind;
using raft::Role;

void add_learner(Nodes& n, std::uint64_t id, const Membership& next) {
    n.add(id);
    ASSERT_TRUE(n[n.leader()].change_membership(next));
    n.tick(5);
    ASSERT_TRUE(n[n.leader()].membership_settled());
}

TEST(ClassicMembership, NoChangeBeforeACommitOfTheOwnTerm) {  // bug B
    Solo n(1, voters({1, 2, 3}));
    n.lead({2});
    ASSERT_EQ(n.node->role(), Role::kLeader);
    const auto early = n.node->change_membership(voters({1, 2}));
    ASSERT_FALSE(early);
    EXPECT_EQ(early.error().code, Errc::kExhausted);
    n.step(append_reply(2, 1, n.node->term().value, 2));
    EXPECT_TRUE(n.node->change_membership(voters({1, 2})));
}

TEST(ClassicMembership, AConfigurationInMidBatchCountsFromItsOwnIndex) {  // bug A
    Solo n(1, voters({1, 2, 3}));
    const auto joined = voters({1, 2, 3}, {4});
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), membership_entry(2, 3, joined), entry(2, 4)}, 4));
    n.persist();
    EXPECT_EQ(n.node->membership(), joined);
    n.node->compact(Index{2}, Bytes("s"));
    EXPECT_EQ(n.node->snapshot().membership, voters({1, 2, 3}));
    n.node->compact(Index{3}, Bytes("s"));
    EXPECT_EQ(n.node->snapshot().membership, joined);
    EXPECT_EQ(n.node->membership(), joined);
}

TEST(ClassicMembership, TheConfigurationSurvivesInTheSnapshotAlone) {
    Solo n(1, voters({1, 2, 3}));
    const auto joined = voters({1, 2, 3}, {4});
    n.step(append(2, 1, 2, 1, 1, {membership_entry(2, 2, joined), entry(2, 3)}, 3));
    n.persist();
    n.node->compact(Index{3}, Bytes("s"));
    n.disk.snapshot = n.node->snapshot();
    n.disk.log.clear();
    n.restart();
    EXPECT_EQ(n.node->membership(), joined);
}

TEST(ClassicMembership, AnUncommittedConfigurationIsRolledBack) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), membership_entry(2, 3, voters({1, 2, 3}, {4}))}));
    ASSERT_TRUE(n.node->membership().learners.contains(replica(4)));
    n.step(append(3, 1, 3, 2, 2, {entry(3, 3)}));
    EXPECT_EQ(n.node->membership(), voters({1, 2, 3}));
}

TEST(ClassicMembership, AVoterIsReplacedInOneJointChange) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    add_learner(n, 4, voters({1, 2, 3}, {4}));
    std::vector<Membership> seen;
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 4})));
    EXPECT_TRUE(n[1].membership().joint());
    EXPECT_EQ(n[1].membership().voters, voters({1, 2, 4}).voters);
    EXPECT_EQ(n[1].membership().outgoing, voters({1, 2, 3}).voters);
    n.tick(3);
    EXPECT_EQ(n[1].membership(), voters({1, 2, 4}, {}, 4));
    EXPECT_EQ(n[4].membership(), voters({1, 2, 4}, {}, 4));
    EXPECT_TRUE(n[1].membership_settled());
}

TEST(ClassicMembership, TheJointStageNeedsBothMajorities) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    add_learner(n, 4, voters({1, 2, 3}, {4}));
    add_learner(n, 5, voters({1, 2, 3}, {4, 5}));
    n.dead = {2, 3};  // the old half has no majority
    ASSERT_TRUE(n[1].change_membership(voters({1, 4, 5})));
    const auto joint = n[1].last_index();
    n.settle();
    EXPECT_LT(n[1].committed(), joint);
    n.dead = {};
    n.tick(30);
    EXPECT_EQ(n[n.leader()].membership(), voters({1, 4, 5}, {}, 5));
}

TEST(ClassicMembership, ANewLeaderEndsTheJointStage) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    add_learner(n, 4, voters({1, 2, 3}, {4}));
    // The joint entry reaches everybody, but no acknowledgement comes back to the old leader.
    n.lose = [](const auto& m) { return m.to == replica(1); };
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 4})));
    n.settle();
    n.dead = {1};
    n.lose = nullptr;
    n.tick(60);
    ASSERT_NE(n.leader(), 0U);
    EXPECT_EQ(n[n.leader()].membership(), voters({1, 2, 4}, {}, 4));
    EXPECT_TRUE(n[n.leader()].membership_settled());
}

TEST(ClassicMembership, ALeaderHandsOverBeforeItRemovesItself) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(2);
    ASSERT_TRUE(n[1].change_membership(voters({2, 3})));
    n.settle();  // no tick: nobody had to time out
    ASSERT_NE(n.leader(), 0U);
    EXPECT_NE(n.leader(), 1U);
    EXPECT_EQ(n[n.leader()].membership(), voters({2, 3}, {}, 3));
    EXPECT_TRUE(n[n.leader()].membership_settled());
}

TEST(ClassicMembership, OneThatItsOwnLogRemovesMayStillBeNeeded) {  // found by the simulator
    // One removed itself by an entry that only it holds. Two cannot win without its vote, and its
    // log is newer: it must win itself, spread the entry and step down (4.2.2).
    auto joint = voters({2});
    joint.outgoing = voters({1, 2}).voters;
    const auto first = first_snapshot(voters({1, 2}));
    const auto enter = membership_entry(2, 2, joint);
    const auto leave = membership_entry(2, 3, voters({2}));
    Nodes n(voters({}));
    n.add(1, first, {enter, leave});
    n.add(2, first, {enter});
    n.tick(100);
    EXPECT_EQ(n.leader(), 2U);
    EXPECT_EQ(n[2].membership(), voters({2}));
    EXPECT_TRUE(n[2].membership_settled());
}

TEST(ClassicMembership, SoMayOneThatJoinedAndLeftBehindTheLastKnownCommit) {  // seed 68858
    // After a power loss nobody knows a commit behind the snapshot. One was no voter there and is
    // none at the end of its log, but it was one in between, and Two needs its vote or its log.
    auto joins = voters({1, 2});
    joins.outgoing = voters({2, 3}).voters;
    auto leaves = voters({2});
    leaves.outgoing = voters({1, 2}).voters;
    const auto first = first_snapshot(voters({2, 3}));
    const std::vector<raft::Entry> known_to_both = {membership_entry(2, 2, joins),
                                                    membership_entry(2, 3, voters({1, 2})),
                                                    membership_entry(2, 4, leaves)};
    auto known_to_one = known_to_both;
    known_to_one.push_back(membership_entry(2, 5, voters({2})));
    Nodes n(voters({}));
    n.add(1, first, known_to_one);
    n.add(2, first, known_to_both);
    n.tick(100);
    EXPECT_EQ(n.leader(), 2U);
    EXPECT_EQ(n[2].membership(), voters({2}));
    EXPECT_TRUE(n[2].membership_settled());
}

TEST(ClassicMembership, ALearnerVotesWhenItIsAVoterElsewhere) {
    // Its promotion has not reached it yet: without its vote there may be no quorum (rule 4).
    Solo n(4, voters({1, 2, 3}, {4}));
    auto request = message(MessageKind::kVote, 1, 4, 5);
    request.index = Index{5};
    request.log_term = Term{4};
    n.step(request);
    n.persist();
    ASSERT_EQ(n.sent_of(MessageKind::kVoteReply).size(), 1U);
    EXPECT_FALSE(n.sent_of(MessageKind::kVoteReply)[0].reject);
}

TEST(ClassicMembership, APromotedButLaggingVoterHelpsToElect) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    add_learner(n, 4, voters({1, 2, 3}, {4}));
    n.lose = [](const auto& m) { return m.to == replica(4); };
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 3, 4})));
    n.settle();
    ASSERT_FALSE(n[1].membership().joint());
    n.dead = {1};
    n.lose = nullptr;  // two and three alone are no majority of four
    n.tick(80);
    EXPECT_NE(n.leader(), 0U);
}

TEST(ClassicMembership, ALearnerNeverCampaigns) {
    Solo n(4, voters({1, 2, 3}, {4}));
    n.tick(200);
    n.node->campaign();
    n.take();
    EXPECT_EQ(n.node->role(), Role::kFollower);
    EXPECT_TRUE(n.sent_of(MessageKind::kPreVote).empty());
}

TEST(ClassicMembership, ALearnerDoesNotCountInTheQuorum) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    add_learner(n, 4, voters({1, 2, 3}, {4}));
    n.dead = {2, 3};
    const auto before = n[1].committed();
    ASSERT_TRUE(n[1].propose(Bytes("a")));
    n.settle();
    EXPECT_EQ(n[1].progress().at(replica(4)).match, n[1].last_index());
    EXPECT_EQ(n[1].committed(), before);
}

TEST(ClassicMembership, AMessageToAnEarlierPlacementIsIgnored) {  // the rejoin bug
    Solo n(5, voters({1, 2, 5}));
    n.lead({1});
    auto stale = append_reply(2, 4, n.node->term().value, n.node->last_index().value);
    n.step(stale);  // meant for replica 4, which lived on this host before
    auto foreign = append_reply(2, 5, n.node->term().value, n.node->last_index().value);
    foreign.group = GroupId{Uuid{1, 2}};
    n.step(foreign);
    EXPECT_EQ(n.node->progress().at(replica(2)).match, Index{0});
}

TEST(ClassicMembership, AVoterMustFirstHaveCaughtUp) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(1);
    const auto stranger = n[1].change_membership(voters({1, 2, 4}));
    ASSERT_FALSE(stranger);
    EXPECT_EQ(stranger.error().code, Errc::kInvalid);
    EXPECT_FALSE(n[1].change_membership(voters({})));
    EXPECT_FALSE(n[2].change_membership(voters({1, 2})));
}

// etcd-io/raft#349: it would come back without the votes that it gave.
TEST(ClassicMembership, ARemovedReplicasIdNeverReturns) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.tick(1);
    ASSERT_TRUE(n[1].change_membership(voters({1, 2})));
    n.tick(5);
    ASSERT_TRUE(n[1].membership_settled());
    const auto back = n[1].change_membership(voters({1, 2}, {3}));
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code, Errc::kInvalid);
    EXPECT_THAT(back.error().what, ::testing::HasSubstr("replica 3 cannot be added"));

    add_learner(n, 5, voters({1, 2}, {5}));
    EXPECT_FALSE(n[1].change_membership(voters({1, 2}, {4, 5})));
    EXPECT_TRUE(n[1].change_membership(voters({1, 2, 5})));
}

// --- Snapshots -----------------------------------------------------------------------------------

std::vector<raft::Message> chunks_of(const raft::Snapshot& snapshot, std::uint64_t term,
                                     std::size_t size) {
    Writer out;
    encode(out, snapshot);
    const auto all = out.take();
    std::vector<raft::Message> chunks;
    for (std::size_t at = 0; at < all.size(); at += size) {
        auto m = message(MessageKind::kSnapshotChunk, 2, 1, term);
        m.index = snapshot.index;
        m.log_term = snapshot.term;
        m.offset = at;
        m.chunk = Bytes::copy(std::string_view(all).substr(at, size));
        m.last_chunk = at + size >= all.size();
        chunks.push_back(m);
    }
    return chunks;
}

raft::Snapshot snapshot_at(std::uint64_t index, std::uint64_t term) {
    auto s = first_snapshot(voters({1, 2, 3}));
    s.index = Index{index};
    s.term = Term{term};
    s.state = Bytes(std::string(200, 's'));
    return s;
}

TEST(ClassicSnapshot, TwoInFlightDoNotMix) {
    Solo n(1, voters({1, 2, 3}));
    const auto first = chunks_of(snapshot_at(10, 2), 3, 50);
    const auto second = chunks_of(snapshot_at(20, 3), 3, 50);
    for (std::size_t i = 0; i + 1 < first.size(); ++i) {
        n.step(first[i]);
    }
    n.step(second[0]);
    n.step(first.back());  // late, and of the one given up
    EXPECT_EQ(n.node->snapshot_index(), Index{1});
    for (std::size_t i = 0; i < second.size(); ++i) {
        n.step(second[i]);
    }
    n.step(second[0]);  // the last of the first has thrown it back: it asks from the start
    for (std::size_t i = 0; i < second.size(); ++i) {
        n.step(second[i]);
    }
    EXPECT_EQ(n.node->snapshot_index(), Index{20});
    EXPECT_EQ(n.node->snapshot().state.size(), 200U);
}

TEST(ClassicSnapshot, ChunksArriveTwiceAndInAnyOrder) {
    Solo n(1, voters({1, 2, 3}));
    const auto chunks = chunks_of(snapshot_at(10, 2), 3, 30);
    for (int round = 0; round < 40 && n.node->snapshot_index() == Index{1}; ++round) {
        for (auto it = chunks.rbegin(); it != chunks.rend(); ++it) {
            n.step(*it);
            n.step(*it);
        }
    }
    EXPECT_EQ(n.node->snapshot_index(), Index{10});
}

TEST(ClassicSnapshot, OneThatTheLogCoversKeepsTheTail) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3), entry(2, 4)}));
    n.persist();
    for (const auto& m : chunks_of(snapshot_at(3, 2), 2, 1000)) {
        n.step(m);
    }
    n.persist();
    EXPECT_EQ(n.node->last_index(), Index{4});  // acknowledged: it must not vanish
    EXPECT_EQ(n.node->committed(), Index{3});
    EXPECT_EQ(n.node->snapshot_index(), Index{1});
}

TEST(ClassicSnapshot, AnOlderOneIsIgnored) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3), entry(2, 4)}, 4));
    n.persist();
    n.sent.clear();
    for (const auto& m : chunks_of(snapshot_at(3, 2), 2, 1000)) {
        n.step(m);
    }
    n.persist();
    EXPECT_EQ(n.node->committed(), Index{4});
    EXPECT_EQ(n.sent_of(MessageKind::kAppendReply).back().index, Index{4});
}

TEST(ClassicSnapshot, OneReceivedWhileTakingOneWins) {
    Solo n(1, voters({1, 2, 3}));
    n.step(append(2, 1, 2, 1, 1, {entry(2, 2), entry(2, 3)}, 3));
    n.persist();
    const auto mine = n.node->applied();  // the application is writing its state at 3
    for (const auto& m : chunks_of(snapshot_at(10, 2), 2, 1000)) {
        n.step(m);
    }
    n.persist();
    n.node->compact(mine, Bytes("late"));
    EXPECT_EQ(n.node->snapshot_index(), Index{10});
    EXPECT_EQ(n.node->snapshot().state.size(), 200U);
}

TEST(ClassicSnapshot, AnUnreadableOneIsAskedForAgain) {
    Solo n(1, voters({1, 2, 3}));
    auto m = message(MessageKind::kSnapshotChunk, 2, 1, 2);
    m.index = Index{10};
    m.log_term = Term{2};
    m.chunk = Bytes("rubbish");
    m.last_chunk = true;
    n.step(m);
    n.persist();
    ASSERT_EQ(n.sent_of(MessageKind::kSnapshotReply).size(), 1U);
    EXPECT_TRUE(n.sent_of(MessageKind::kSnapshotReply)[0].reject);
    EXPECT_EQ(n.node->snapshot_index(), Index{1});
}

TEST(ClassicSnapshot, ALargeOneGoesInChunksAndResumes) {
    raft::Options options;
    options.snapshot_chunk_bytes = 1000;
    Nodes n(voters({1, 2, 3}), options);
    n.lead(1);
    ASSERT_TRUE(n[1].propose(Bytes("a")));
    n.settle();
    n[1].compact(n[1].applied(), Bytes(std::string(50'000, 's')));
    int passed = 0;
    n.lose = [&](const auto& m) {
        return m.kind == MessageKind::kSnapshotChunk && ++passed % 20 == 0;
    };
    n.add(4);
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 3}, {4})));
    n.tick(60);
    ASSERT_EQ(n.installed[replica(4)].size(), 1U);
    EXPECT_EQ(n.installed[replica(4)][0].state.size(), 50'000U);
    EXPECT_LT(n.sent[MessageKind::kSnapshotChunk], 80);  // resumed, not begun again each time
    EXPECT_EQ(n[4].applied(), n[1].applied());
}

TEST(ClassicSnapshot, AnAnswerFromBeforeARestartDoesNotSkipChunks) {  // found by the simulator
    raft::Options options;
    options.snapshot_chunk_bytes = 1000;
    Nodes n(voters({1, 2, 3}), options);
    n.lead(1);
    n.settle();
    n[1].compact(n[1].applied(), Bytes(std::string(10'000, 's')));
    std::optional<raft::Message> late;
    bool half = false;
    n.lose = [&](const raft::Message& m) {
        if (m.kind == MessageKind::kSnapshotReply && m.offset == 5000) {
            late = m;
            half = true;
        }
        return half && (m.from == replica(4) || m.to == replica(4));
    };
    n.add(4);
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 3}, {4})));
    n.tick(2);
    ASSERT_TRUE(late);
    bool asked_again = false;
    n.lose = [&](const raft::Message& m) {
        asked_again = asked_again || (m.kind == MessageKind::kSnapshotReply && m.reject);
        return asked_again && m.to == replica(4) && m.offset >= 1000;
    };
    n.lose_everything(4);
    n.tick(6);
    ASSERT_TRUE(asked_again);  // and it has got the first chunk of the new beginning
    n[1].step(*late);
    n.lose = nullptr;
    n.tick(30);
    EXPECT_EQ(n.installed[replica(4)].size(), 1U);
    EXPECT_EQ(n[4].applied(), n[1].applied());
}

TEST(ClassicSnapshot, OneOvertakenByTheNextDoesNotHang) {  // found by the simulator
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.settle();
    n[1].compact(n[1].applied(), Bytes("first"));
    n.add(4);
    // It installs the snapshot, but the leader does not hear of it, and cuts its log further.
    n.lose = [](const auto& m) {
        return m.from == replica(4) &&
               (m.kind == MessageKind::kSnapshotReply || m.kind == MessageKind::kAppendReply) &&
               !m.reject;
    };
    ASSERT_TRUE(n[1].change_membership(voters({1, 2, 3}, {4})));
    n.tick(2);
    ASSERT_EQ(n.installed[replica(4)].size(), 1U);
    ASSERT_TRUE(n[1].propose(Bytes("a")));
    n.settle();
    n[1].compact(n[1].applied(), Bytes("second"));
    n.lose = nullptr;
    n.tick(30);
    EXPECT_EQ(n.installed[replica(4)].size(), 2U);
    EXPECT_EQ(n[4].applied(), n[1].applied());
}

TEST(ClassicSnapshot, AFollowerThatIsNotFarBehindGetsEntriesThatWereKept) {
    Nodes n(voters({1, 2, 3}));
    n.lead(1);
    n.dead = {3};
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(n[1].propose(Bytes(std::string(10, 'a'))));
    }
    n.settle();
    n[1].compact(n[1].applied(), Bytes("s"), 100'000);
    n.dead = {};
    n.tick(15);
    EXPECT_EQ(n.commands(3).size(), 10U);
    EXPECT_TRUE(n.installed[replica(3)].empty());
}

}  // namespace
}  // namespace nbos::testing
