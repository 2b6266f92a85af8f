// One replica's part in quiescence; the test plays the other members, and their hosts.
#include "raft/quiescence.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "tests/support/raft_nodes.h"

namespace nbos::raft {
namespace {

using nbos::testing::append;
using nbos::testing::append_reply;
using nbos::testing::entry;
using nbos::testing::message;
using nbos::testing::replica;
using nbos::testing::Solo;

constexpr Options kOptions{.election_ticks = 10, .heartbeat_ticks = 2, .quiet_after_ticks = 5};

HostId host(std::uint64_t n) { return HostId{"host-" + std::to_string(n)}; }

Membership three() {
    auto members = nbos::testing::voters({1, 2, 3});
    for (std::uint64_t n = 1; n <= 3; ++n) {
        members.hosts[replica(n)] = host(n);
    }
    return members;
}

// Replica 1 of three, its disk at once.
class Replica : public ::testing::Test {
protected:
    Replica() {
        links.up(host(2), 12);
        links.up(host(3), 13);
    }
    void take() {
        quiescence->settle(*solo.node);
        for (auto& m : quiescence->take_messages()) {
            solo.sent.push_back(std::move(m));
        }
        solo.persist();
    }
    void tick(int n = 1) {
        for (int i = 0; i < n; ++i) {
            quiescence->tick(*solo.node, links);
            take();
            answer_heartbeats();
        }
    }
    void answer_heartbeats() {
        std::vector<Message> replies;
        for (; in_touch && heartbeats_seen < solo.sent.size(); ++heartbeats_seen) {
            const auto& m = solo.sent[heartbeats_seen];
            if (m.kind == MessageKind::kHeartbeat && m.round != 0) {
                auto reply = message(MessageKind::kHeartbeatReply, m.to.value, 1, m.term.value);
                reply.round = m.round;
                replies.push_back(reply);
            }
        }
        for (const auto& reply : replies) {
            step(reply);
        }
    }
    void step(const Message& m) {
        quiescence->step(*solo.node, m, links);
        take();
    }
    void forget() {
        solo.sent.clear();
        heartbeats_seen = 0;
    }
    std::vector<Message> sent(MessageKind kind) {
        auto found = solo.sent_of(kind);
        forget();
        return found;
    }

    // Leads term 2, and everybody has its no-op and knows it committed.
    void lead() {
        solo.lead({2, 3});
        const auto last = solo.node->last_index().value;
        const auto now = solo.node->term().value;
        step(append_reply(2, 1, now, last));
        step(append_reply(3, 1, now, last));
        forget();
    }
    std::vector<Message> until_asked() {
        for (int i = 0; i < 20; ++i) {
            tick();
            if (auto asked = sent(MessageKind::kQuiet); !asked.empty()) {
                return asked;
            }
        }
        return {};
    }
    Message answer(std::uint64_t from, const Message& question, bool reject = false) {
        auto m = message(MessageKind::kQuietReply, from, 1, question.term.value);
        m.index = question.index;
        m.round = question.round;
        m.reject = reject;
        return m;
    }
    void sleep_as_leader() {
        lead();
        const auto asked = until_asked();
        ASSERT_EQ(asked.size(), 2U);
        step(answer(2, asked[0]));
        ASSERT_FALSE(quiescence->quiet());
        step(answer(3, asked[1]));
        ASSERT_TRUE(quiescence->quiet());
        forget();
    }

    // Follows replica 2 in term 2, with one entry that is committed and applied.
    void follow() {
        step(append(2, 1, 2, 1, 1, {entry(2, 2)}, 2));
        forget();
    }
    Message question(std::uint64_t term = 2, std::uint64_t last = 2) {
        auto m = message(MessageKind::kQuiet, 2, 1, term);
        m.index = Index{last};
        m.round = 7;
        return m;
    }
    bool agrees_to(const Message& m) {
        step(m);
        const auto replies = sent(MessageKind::kQuietReply);
        EXPECT_EQ(replies.size(), 1U);
        return !replies.empty() && !replies[0].reject;
    }

    Solo solo{1, three(), {}, 1, kOptions};
    std::optional<Quiescence> quiescence{kOptions};
    HostLinks links;
    bool in_touch = true;  // the others answer heartbeats
    std::size_t heartbeats_seen = 0;
};

using QuietLeader = Replica;
using QuietFollower = Replica;

TEST_F(QuietLeader, SaysNothingHoweverLongItSleeps) {
    sleep_as_leader();
    tick(1000);
    EXPECT_TRUE(solo.sent.empty());
    EXPECT_EQ(solo.node->role(), Role::kLeader);
}

TEST_F(QuietLeader, AsksOnlyWhenEveryMemberHasEverything) {
    lead();
    ASSERT_TRUE(solo.node->propose(Bytes::copy("x")));
    take();
    step(append_reply(2, 1, solo.node->term().value, solo.node->last_index().value));
    EXPECT_TRUE(until_asked().empty());  // committed, but replica 3 does not have it
}

TEST_F(QuietLeader, AsksOnlyWhenItIsLinkedToEveryMember) {
    lead();
    links.down(host(3));
    EXPECT_TRUE(until_asked().empty());
}

TEST_F(QuietLeader, StaysAwakeWhenOneRefusesOrSaysNothing) {
    lead();
    auto asked = until_asked();
    ASSERT_EQ(asked.size(), 2U);
    step(answer(2, asked[0]));
    step(answer(3, asked[1], true));
    EXPECT_FALSE(quiescence->quiet());
    tick(2);
    EXPECT_EQ(sent(MessageKind::kHeartbeat).size(), 2U);  // wakes the one that has agreed

    asked = until_asked();
    ASSERT_EQ(asked.size(), 2U);
    step(answer(2, asked[0]));
    tick(2 + kOptions.election_ticks / 4);
    EXPECT_FALSE(quiescence->quiet());
    EXPECT_FALSE(sent(MessageKind::kHeartbeat).empty());
}

TEST_F(QuietLeader, CountsNoAnswerToAnEarlierQuestion) {
    lead();
    const auto first = until_asked();
    step(answer(2, first[0]));
    step(answer(3, first[1], true));
    const auto second = until_asked();
    ASSERT_EQ(second.size(), 2U);
    step(answer(2, second[0]));
    step(answer(3, first[1]));
    EXPECT_FALSE(quiescence->quiet());
    step(answer(3, second[1]));
    EXPECT_TRUE(quiescence->quiet());
}

TEST_F(QuietLeader, IsWokenByAProposalAndTellsEverybody) {
    sleep_as_leader();
    ASSERT_TRUE(solo.node->propose(Bytes::copy("x")));
    take();
    EXPECT_FALSE(quiescence->quiet());
    EXPECT_EQ(solo.sent_of(MessageKind::kAppend).size(), 2U);
    EXPECT_EQ(solo.sent_of(MessageKind::kHeartbeat).size(), 2U);
}

TEST_F(QuietLeader, IsNotWokenByAQuestionOrASnapshot) {
    sleep_as_leader();
    EXPECT_EQ(solo.node->progress().size(), 2U);
    solo.node->compact(solo.node->applied(), Bytes::copy("state"));
    take();
    EXPECT_TRUE(quiescence->quiet());
}

// Nobody answered while it slept, as nobody was asked.
TEST_F(QuietLeader, HasAWholeTimeoutToFindItsQuorumWhenItWakes) {
    sleep_as_leader();
    tick(1000);
    in_touch = false;
    step(message(MessageKind::kWake, 2, 1, solo.node->term().value));
    EXPECT_FALSE(quiescence->quiet());
    tick(kOptions.election_ticks - 1);
    EXPECT_EQ(solo.node->role(), Role::kLeader);
    tick();  // but no longer: what was heard before it slept does not count
    EXPECT_EQ(solo.node->role(), Role::kFollower);
}

TEST_F(QuietLeader, IsWokenByTheLossOfAMembersHostOnly) {
    sleep_as_leader();
    links.up(host(4), 14);
    quiescence->link_changed(*solo.node, host(4), links.down(host(4)));
    EXPECT_TRUE(quiescence->quiet());
    quiescence->link_changed(*solo.node, host(3), links.down(host(3)));
    EXPECT_FALSE(quiescence->quiet());
}

TEST_F(QuietLeader, IsWokenByAMembersNewProcessAlsoWithoutALoss) {
    sleep_as_leader();
    quiescence->link_changed(*solo.node, host(3), links.up(host(3), 13));
    EXPECT_TRUE(quiescence->quiet());  // the process that agreed
    quiescence->link_changed(*solo.node, host(3), links.up(host(3), 99));
    take();
    EXPECT_FALSE(quiescence->quiet());
    EXPECT_EQ(sent(MessageKind::kHeartbeat).size(), 2U);
}

TEST_F(QuietLeader, StepsDownBeforeATermThatGrewElsewhere) {
    sleep_as_leader();
    step(append(3, 1, solo.node->term().value + 1, 1, 1, {}));
    EXPECT_FALSE(quiescence->quiet());
    EXPECT_EQ(solo.node->leader(), replica(3));
}

TEST_F(QuietLeader, HandsOverWhenAsked) {
    sleep_as_leader();
    auto wish = message(MessageKind::kTransferRequest, 3, 1, solo.node->term().value);
    wish.target = replica(3);
    step(wish);
    EXPECT_EQ(sent(MessageKind::kTimeoutNow).size(), 1U);
}

TEST_F(QuietFollower, CampaignsForNobodyWhileItSleeps) {
    follow();
    EXPECT_TRUE(agrees_to(question()));
    tick(1000);
    EXPECT_TRUE(solo.sent.empty());
    EXPECT_EQ(solo.node->leader(), replica(2));
    EXPECT_TRUE(agrees_to(question()));  // its answer was lost
    EXPECT_TRUE(quiescence->quiet());
}

TEST_F(QuietFollower, RefusesAnotherTermLeaderOrLog) {
    follow();
    EXPECT_FALSE(agrees_to(question(1)));
    EXPECT_FALSE(agrees_to(question(3)));
    EXPECT_FALSE(agrees_to(question(2, 3)));
    EXPECT_FALSE(agrees_to(question(2, 1)));
    auto stranger = question();
    stranger.from = replica(3);
    EXPECT_FALSE(agrees_to(stranger));
    EXPECT_FALSE(quiescence->quiet());
}

TEST_F(QuietFollower, RefusesWithEntriesThatItHasNotApplied) {
    step(append(2, 1, 2, 1, 1, {entry(2, 2)}, 1));
    forget();
    EXPECT_FALSE(agrees_to(question()));
}

TEST_F(QuietFollower, RefusesWhileItsOwnProposalWaits) {
    follow();
    ASSERT_TRUE(solo.node->propose(Bytes::copy("x")));
    take();
    forget();
    EXPECT_FALSE(agrees_to(question()));
}

TEST_F(QuietFollower, RefusesALeaderWhoseHostItHasLost) {
    follow();
    links.down(host(2));
    EXPECT_FALSE(agrees_to(question()));
}

TEST_F(QuietFollower, WakesWhenItCannotAgreeAnyMore) {
    follow();
    ASSERT_TRUE(agrees_to(question()));
    EXPECT_FALSE(agrees_to(question(2, 3)));  // an append was lost
    EXPECT_FALSE(quiescence->quiet());
}

TEST_F(QuietFollower, TellsItsLeaderWhenAnotherWakesIt) {
    follow();
    ASSERT_TRUE(agrees_to(question()));
    step(message(MessageKind::kPreVote, 3, 1, 3));
    EXPECT_FALSE(quiescence->quiet());
    EXPECT_EQ(solo.sent_of(MessageKind::kWake).size(), 1U);
    EXPECT_TRUE(
        sent(MessageKind::kPreVoteReply).at(0).reject);  // its leader is near, for all it knows
}

TEST_F(QuietFollower, CampaignsAfterTheUsualTimeWhenItsLeadersHostIsLost) {
    follow();
    ASSERT_TRUE(agrees_to(question()));
    tick(1000);
    quiescence->link_changed(*solo.node, host(2), links.down(host(2)));
    take();
    EXPECT_EQ(solo.sent_of(MessageKind::kWake).size(), 1U);
    forget();
    tick(kOptions.election_ticks - 1);
    EXPECT_TRUE(solo.sent.empty());
    tick(kOptions.election_ticks + 1);
    EXPECT_FALSE(solo.sent_of(MessageKind::kPreVote).empty());
}

TEST_F(QuietFollower, ForwardsAProposalAndKeepsTime) {
    follow();
    ASSERT_TRUE(agrees_to(question()));
    ASSERT_TRUE(solo.node->propose(Bytes::copy("x")));
    take();
    EXPECT_FALSE(quiescence->quiet());
    EXPECT_EQ(sent(MessageKind::kPropose).size(), 1U);
    tick(2 * kOptions.election_ticks);  // the leader is gone: nobody has to tell
    EXPECT_FALSE(solo.sent_of(MessageKind::kPreVote).empty());
}

TEST_F(QuietFollower, NeverAgreesWhenQuiescenceIsOff) {
    quiescence.emplace(Options{});
    follow();
    EXPECT_FALSE(agrees_to(question()));
}

}  // namespace
}  // namespace nbos::raft
