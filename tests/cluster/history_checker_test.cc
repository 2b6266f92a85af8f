// The checker itself: a history that keeps every promise, and one fault put into it at a time.
#include "tests/cluster/history_checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace nbos::testing {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::Not;

// Records of one kernel, two clients and one process, unless told otherwise.
class Histories : public ::testing::Test {
protected:
    void asked(const std::string& client, const std::string& msg, const std::string& op,
               const std::string& name = "", const std::string& tag = "") {
        add({.kind = "asked", .client = client, .msg = msg, .op = op, .name = name, .tag = tag});
    }
    void began(const std::string& client, const std::string& msg,
               const std::string& who = "host-1.1") {
        add({.kind = "began", .msg = msg, .asker = client, .who = who});
    }
    void heard(const std::string& client, const std::string& msg, const std::string& type,
               const std::string& state, std::uint64_t count = 0, const std::string& text = "",
               const std::string& ename = "") {
        add({.kind = "heard",
             .client = client,
             .msg = msg,
             .asker = client,
             .speaker = "k1",
             .type = type,
             .state = state,
             .ename = ename,
             .text = text,
             .count = count});
    }
    void add(Record record) {
        record.kernel = "kernel";
        record.at_ms = history_.size();
        history_.push_back(std::move(record));
    }
    // A whole cell that went well.
    void ran(const std::string& client, const std::string& msg, const std::string& op,
             const std::string& name, const std::string& tag, std::uint64_t count,
             const std::string& holds) {
        asked(client, msg, op, name, tag);
        began(client, msg);
        heard(client, msg, "status", "busy");
        heard(client, msg, "execute_input", "", count);
        heard(client, msg, "stream", "", 0, "by host-1.1\n");
        heard(client, msg, "stream", "", 0, holds);
        heard(client, msg, "execute_reply", "ok", count);
        heard(client, msg, "status", "idle");
    }
    void lost(const std::string& client, const std::string& msg, const std::string& name,
              const std::string& tag, std::uint64_t count) {
        asked(client, msg, "append", name, tag);
        began(client, msg);
        heard(client, msg, "status", "busy");
        heard(client, msg, "execute_input", "", count);
        heard(client, msg, "error", "", 0, "", "ExecutorLost");
        heard(client, msg, "execute_reply", "error", count, "", "ExecutorLost");
        heard(client, msg, "status", "idle");
    }
    void good() {
        for (const auto* client : {"a", "b"}) {
            add({.kind = "connected", .client = client});
        }
        ran("a", "m1", "append", "l", "t1", 1, "holds l=t1");
        ran("b", "m2", "add", "c", "", 2, "holds c=1");
        lost("a", "m3", "l", "t3", 3);
        ran("a", "m4", "append", "l", "t4", 4, "holds l=t1,t4");
        ran("b", "m5", "read", "", "", 5, "holds-all c=1 l=t1,t4");
    }
    Record& find(const std::string& msg, const std::string& type, std::size_t nth = 0) {
        for (auto& record : history_) {
            if (record.msg == msg && (record.type == type || record.kind == type) && nth-- == 0) {
                return record;
            }
        }
        ADD_FAILURE() << "no " << type << " of " << msg;
        return history_.front();
    }
    std::vector<std::string> rules() {
        auto history = history_;
        history.push_back({.kind = "finished"});
        std::vector<std::string> rules;
        for (const auto& broken : check_history(history)) {
            rules.push_back(broken.rule);
        }
        return rules;
    }
    void expect(const std::string& rule) { EXPECT_THAT(rules(), Contains(rule)); }

    History history_;
};

TEST_F(Histories, AGoodOneBreaksNothing) {
    good();
    EXPECT_THAT(rules(), IsEmpty());
    const auto figures = figures_of(history_);
    EXPECT_EQ(5U, figures.asked);
    EXPECT_EQ(4U, figures.ok);
    EXPECT_EQ(1U, figures.lost);
}

TEST_F(Histories, SurviveAsLinesOfJson) {
    good();
    std::stringstream lines;
    for (const auto& record : history_) {
        lines << to_json_line(record) << "\n\n";
    }
    const auto read = read_history(lines);
    EXPECT_EQ(0U, read.bad_line);
    ASSERT_EQ(history_.size(), read.history.size());
    for (std::size_t i = 0; i < history_.size(); ++i) {
        EXPECT_EQ(to_json_line(history_[i]), to_json_line(read.history[i]));
    }
    std::istringstream bad("{\"kind\": \"asked\"}\n[1]\n");
    EXPECT_EQ(2U, read_history(bad).bad_line);
}

TEST_F(Histories, AnAnsweredEffectIsMissing) {
    good();
    find("m5", "stream", 1).text = "holds-all c=1 l=t1";
    expect("durability");
}

TEST_F(Histories, AnAnsweredEffectIsMissingFromAnEmptyList) {
    good();
    find("m5", "stream", 1).text = "holds-all c=1";
    expect("durability");
}

TEST_F(Histories, ACounterForgets) {
    good();
    find("m5", "stream", 1).text = "holds-all l=t1,t4";
    expect("durability");
}

TEST_F(Histories, ACellIsAppliedTwice) {
    good();
    find("m5", "stream", 1).text = "holds-all c=1 l=t1,t4,t4";
    expect("exactly once");
}

TEST_F(Histories, ACounterCountsTwice) {
    good();
    find("m5", "stream", 1).text = "holds-all c=2 l=t1,t4";
    expect("exactly once");
}

TEST_F(Histories, UserCodeBeginsTwice) {
    good();
    began("a", "m4", "host-2.7");
    expect("exactly once");
}

TEST_F(Histories, SomethingIsThereThatNobodyDid) {
    good();
    find("m5", "stream", 1).text = "holds-all c=1 l=t1,t9,t4";
    expect("exactly once");
}

TEST_F(Histories, ALostCellLeftItsEffect) {
    good();
    find("m5", "stream", 1).text = "holds-all c=1 l=t1,t3,t4";
    expect("no effect");
}

TEST_F(Histories, AnAbortedCellBegan) {
    good();
    asked("a", "m6", "append", "l", "t6");
    began("a", "m6");
    heard("a", "m6", "status", "busy");
    heard("a", "m6", "execute_reply", "aborted");
    heard("a", "m6", "status", "idle");
    expect("no effect");
}

TEST_F(Histories, EffectsAreOutOfOrder) {
    good();
    find("m5", "stream", 1).text = "holds-all c=1 l=t4,t1";
    expect("order");
}

TEST_F(Histories, ACellRunsBeforeOneThatWasAnsweredBeforeItWasAsked) {
    good();
    find("m5", "execute_input").count = 1;
    find("m5", "execute_reply").count = 1;
    find("m1", "execute_input").count = 5;
    find("m1", "execute_reply").count = 5;
    expect("order");
}

TEST_F(Histories, TheCellsOfOneClientOvertakeEachOther) {
    good();
    asked("a", "m6", "append", "l", "t6");
    ran("a", "m7", "append", "l", "t7", 6, "holds l=t1,t4,t7");
    began("a", "m6");
    heard("a", "m6", "status", "busy");
    heard("a", "m6", "execute_reply", "ok", 7);
    heard("a", "m6", "status", "idle");
    expect("order");
}

TEST_F(Histories, TwoProcessesSpeakForACell) {
    good();
    find("m4", "stream", 1).text = "by host-2.7\n";
    expect("one executor");
}

TEST_F(Histories, ACellIsAnsweredTwice) {
    good();
    heard("a", "m4", "execute_reply", "ok", 4);
    expect("answers");
}

TEST_F(Histories, ACellIsBusyTwice) {
    good();
    heard("a", "m4", "status", "busy");
    expect("answers");
}

TEST_F(Histories, OutputsComeAfterIdle) {
    good();
    heard("a", "m4", "stream", "", 0, "by host-1.1\n");
    expect("answers");
}

TEST_F(Histories, IdleComesBeforeTheReply) {
    good();
    std::swap(find("m4", "execute_reply"), find("m4", "status", 1));
    expect("answers");
}

TEST_F(Histories, ACellIsNeverIdle) {
    good();
    history_.pop_back();
    expect("answers");
}

TEST_F(Histories, ACellIsAnsweredInTwoWays) {
    good();
    asked("a", "m4", "append", "l", "t4");
    heard("a", "m4", "status", "busy");
    heard("a", "m4", "execute_reply", "error", 4, "", "ExecutorLost");
    heard("a", "m4", "status", "idle");
    expect("answers");
}

TEST_F(Histories, WhatHadEndedIsHeardAgainAfterReconnecting) {
    good();
    add({.kind = "connected", .client = "a"});
    heard("a", "m4", "execute_reply", "ok", 4);
    expect("answers");
}

TEST_F(Histories, AskingAgainIsAnsweredAgain) {
    good();
    add({.kind = "connected", .client = "a"});
    asked("a", "m4", "append", "l", "t4");
    heard("a", "m4", "status", "busy");
    heard("a", "m4", "execute_reply", "ok", 4);
    heard("a", "m4", "status", "idle");
    EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(Histories, AGatewayThatLostItsMemoryMayRepeatItself) {
    good();
    add({.kind = "gateway_gone"});
    add({.kind = "connected", .client = "a"});
    heard("a", "m4", "status", "busy");
    heard("a", "m4", "execute_reply", "ok", 4);
    heard("a", "m4", "status", "idle");
    EXPECT_THAT(rules(), IsEmpty());
}

// Client a heard m4 through one gateway, and hears it again through another one, long after.
class OtherGateway : public Histories {
protected:
    OtherGateway() {
        good();
        for (auto& record : history_) {
            record.who = record.kind == "connected" ? "g1" : record.who;
        }
    }
    void tell_again() {
        later({.kind = "connected", .client = "a", .who = "g2"});
        later({.kind = "heard",
               .client = "a",
               .msg = "m4",
               .asker = "a",
               .type = "status",
               .state = "idle"});
    }
    void later(Record record) {
        add(std::move(record));
        history_.back().at_ms = 60'000;
    }
};

TEST_F(OtherGateway, TellsAgainWhatWasHeard) {
    tell_again();
    expect("answers");
}

TEST_F(OtherGateway, MayDoSoWhenSomethingBrokeBehindIt) {
    add({.kind = "broke"});
    add({.kind = "mended"});
    tell_again();
    EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(OtherGateway, MayDoSoWhenTheFirstOneWasGoneAtOnce) {
    add({.kind = "gateway_gone", .who = "g1"});
    tell_again();
    EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(OtherGateway, MayNotBecauseTheFirstOneWasGoneMuchLater) {
    later({.kind = "gateway_gone", .who = "g1"});
    tell_again();
    expect("answers");
}

TEST_F(Histories, AnExecuteInputIsHeardTwice) {
    good();
    asked("a", "m6", "append", "l", "t6");
    heard("a", "m6", "status", "busy");
    heard("a", "m6", "execute_input", "", 6);
    add({.kind = "connected", .client = "a"});
    heard("a", "m6", "execute_input", "", 6);
    expect("answers");
}

TEST_F(Histories, AClientThatNamesNoSessionIsNotPromisedTheOrderOfWhatItMissed) {
    good();
    asked("a", "m6", "append", "l", "t6");
    heard("a", "m6", "status", "busy");
    add({.kind = "connected", .client = "a", .state = "unnamed"});
    heard("a", "m6", "status", "idle");
    heard("a", "m6", "execute_reply", "ok", 6);
    EXPECT_THAT(rules(), Each(Not(std::string("answers"))));
}

TEST_F(Histories, ACommMessageIsHandledTwice) {
    good();
    asked("a", "c1", "comm");
    began("a", "c1");
    heard("a", "c1", "status", "busy");
    heard("a", "c1", "status", "idle");
    EXPECT_THAT(rules(), IsEmpty());
    began("a", "c1");
    expect("exactly once");
}

TEST_F(Histories, ACommMessageIsNeverIdle) {
    good();
    asked("a", "c1", "comm");
    heard("a", "c1", "status", "busy");
    expect("answers");
}

TEST_F(Histories, ABrokenConnectionMaySwallowTheBeginning) {
    good();
    asked("a", "m6", "append", "l", "t6");
    heard("a", "m6", "status", "busy");
    add({.kind = "connected", .client = "a"});
    began("a", "m6");
    heard("a", "m6", "execute_reply", "ok", 6);
    heard("a", "m6", "status", "idle");
    EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(Histories, AnExecutionCountIsRepeated) {
    good();
    find("m4", "execute_input").count = 3;
    find("m4", "execute_reply").count = 3;
    expect("counts");
}

TEST_F(Histories, ACellShowsTwoExecutionCounts) {
    good();
    find("m4", "execute_reply").count = 9;
    expect("counts");
}

TEST_F(Histories, AKernelSpeaksWithTwoSessions) {
    good();
    find("m4", "execute_input").speaker = "k2";
    expect("one session");
}

TEST_F(Histories, StateOutlivesARestart) {
    good();
    add({.kind = "restarted"});
    ran("a", "m6", "append", "l", "t6", 1, "holds l=t1,t6");
    for (const auto* type : {"execute_input", "execute_reply"}) {
        find("m6", type).speaker = "k2";
    }
    expect("one session");
}

TEST_F(Histories, ARestartBeginsAnew) {
    good();
    add({.kind = "restarted"});
    ran("a", "m6", "append", "l", "t6", 1, "holds l=t6");
    for (auto& record : history_) {
        record.speaker = record.msg == "m6" && !record.speaker.empty() ? "k2" : record.speaker;
    }
    EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(Histories, ARequestIsNeverAnswered) {
    good();
    asked("a", "m6", "append", "l", "t6");
    expect("liveness");
}

TEST_F(Histories, AnAnswerTakesTooLongAfterHealing) {
    good();
    add({.kind = "healed"});
    ran("a", "m6", "append", "l", "t6", 6, "holds l=t1,t4,t6");
    find("m6", "execute_reply").at_ms = 100'000;
    expect("liveness");
}

TEST_F(Histories, AQuestionIsAnsweredOnce) {
    good();
    asked("a", "q1", "ask");
    heard("a", "q1", "complete_reply", "ok");
    EXPECT_THAT(rules(), Each(Not(std::string("answers"))));
    heard("a", "q1", "complete_reply", "ok");
    expect("answers");
}

}  // namespace
}  // namespace nbos::testing
