// Histories of which a person can see at once whether they are linearizable.
#include "tests/cluster/linearizability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "base/ports.h"
#include "tests/cluster/register_model.h"

namespace nbos::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Op = Operation<RegisterModel>;

constexpr HistoryTime kNever = -1;

Op operation(RegisterCall call, HistoryTime from, HistoryTime until, RegisterResult result) {
    Op op{0, call, from, std::nullopt, std::nullopt};
    if (until != kNever) {
        op.returned_at = until;
        op.result = result;
    }
    return op;
}
Op write(RegisterValue value, HistoryTime from, HistoryTime until, RegisterKey key = 0) {
    return operation({RegisterAction::kWrite, key, value, 0}, from, until, {0, true});
}
Op read(RegisterValue value, HistoryTime from, HistoryTime until, RegisterKey key = 0) {
    return operation({RegisterAction::kRead, key, 0, 0}, from, until, {value, false});
}
Op swap(RegisterValue expected, RegisterValue value, bool done, HistoryTime from,
        HistoryTime until) {
    return operation({RegisterAction::kCompareAndSet, 0, value, expected}, from, until, {0, done});
}

Linearizability outcome(const RegisterHistory& history) {
    return check_linearizable<RegisterModel>(history).outcome;
}

#define EXPECT_LINEARIZABLE(...) \
    EXPECT_EQ(outcome(RegisterHistory{__VA_ARGS__}), Linearizability::kOk)
#define EXPECT_VIOLATED(...) \
    EXPECT_EQ(outcome(RegisterHistory{__VA_ARGS__}), Linearizability::kViolated)

TEST(Linearizability, HoldsForNothingAndForOneAfterTheOther) {
    EXPECT_LINEARIZABLE();
    EXPECT_LINEARIZABLE(read(0, 0, 1), write(1, 2, 3), read(1, 4, 5), write(2, 6, 7),
                        read(2, 8, 9));
}

TEST(Linearizability, RefusesAStaleRead) {
    EXPECT_VIOLATED(write(1, 0, 1), write(2, 2, 3), read(1, 4, 5));
    EXPECT_LINEARIZABLE(write(1, 0, 1), write(2, 2, 5), read(1, 4, 6));
    // Each of the two reads could be explained, but not the later one after the earlier one.
    EXPECT_VIOLATED(write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6));
}

TEST(Linearizability, RefusesALostWrite) {
    EXPECT_VIOLATED(write(1, 0, 1), read(0, 2, 3));
    EXPECT_LINEARIZABLE(write(1, 0, 2), read(0, 2, 3));  // they touch: concurrent
}

TEST(Linearizability, RefusesWhatWasNeverWritten) {
    EXPECT_VIOLATED(write(1, 0, 9), read(7, 2, 3));
    EXPECT_VIOLATED(read(1, 0, 1), write(1, 2, 3));  // nor what will be written later
}

TEST(Linearizability, AnUnknownWriteMayShowAnyTimeLater) {
    EXPECT_LINEARIZABLE(write(1, 0, kNever), read(0, 10, 11), read(1, 20, 21), read(1, 30, 31));
    EXPECT_LINEARIZABLE(write(1, 0, kNever), write(2, 5, 6), read(2, 10, 11), read(1, 20, 21));
    EXPECT_VIOLATED(read(1, 0, 1), write(1, 2, kNever));  // but not before its call
}

TEST(Linearizability, AnUnknownWriteMayNeverShowOrBeOverwritten) {
    EXPECT_LINEARIZABLE(write(1, 0, kNever), read(0, 10, 11), read(0, 20, 21));
    EXPECT_LINEARIZABLE(write(1, 0, kNever), write(2, 1, 2), read(2, 10, 11));
}

TEST(Linearizability, AnUnknownWriteHappensAtMostOnce) {
    EXPECT_VIOLATED(write(1, 0, kNever), read(1, 1, 2), write(2, 3, 4), read(2, 5, 6),
                    read(1, 7, 8));
}

TEST(Linearizability, ConcurrentWritesHaveOneOrderForEverybody) {
    EXPECT_LINEARIZABLE(write(1, 0, 5), write(2, 0, 5), read(1, 6, 7));
    EXPECT_LINEARIZABLE(write(1, 0, 5), write(2, 0, 5), read(2, 6, 7));
    EXPECT_VIOLATED(write(1, 0, 5), write(2, 0, 5), read(2, 6, 7), read(1, 8, 9));
    EXPECT_VIOLATED(write(1, 0, 5), write(2, 0, 5), read(2, 6, 9), read(1, 6, 9));
}

TEST(Linearizability, AClientReadsItsOwnWrite) {
    EXPECT_LINEARIZABLE(write(1, 0, 1), write(2, 0, 9), read(2, 2, 3));
    EXPECT_LINEARIZABLE(write(1, 0, 1), write(2, 0, 9), read(1, 2, 3));
    EXPECT_VIOLATED(write(1, 0, 1), read(0, 2, 3), write(2, 0, 9));
}

TEST(Linearizability, CompareAndSetSucceedsOnceAndFailsForAReason) {
    EXPECT_LINEARIZABLE(swap(0, 1, true, 0, 5), swap(0, 2, false, 0, 5), read(1, 6, 7));
    EXPECT_VIOLATED(swap(0, 1, true, 0, 5), swap(0, 2, true, 0, 5));
    EXPECT_VIOLATED(swap(0, 1, false, 0, 5), read(0, 6, 7));
    // It failed because of a write of which nothing is known.
    EXPECT_LINEARIZABLE(write(3, 0, kNever), swap(0, 1, false, 1, 5), read(3, 6, 7));
    EXPECT_VIOLATED(write(3, 0, kNever), swap(0, 1, false, 1, 5), read(0, 6, 7));
}

TEST(Linearizability, KeysAreJudgedOneByOne) {
    EXPECT_LINEARIZABLE(write(1, 0, 1, 7), read(0, 2, 3, 8), read(1, 4, 5, 7));
    const auto verdict = check_linearizable<RegisterModel>(
        {write(1, 0, 1, 7), write(2, 0, 1, 8), read(2, 2, 3, 8), read(0, 4, 5, 7)});
    EXPECT_EQ(verdict.outcome, Linearizability::kViolated);
    EXPECT_THAT(verdict.text, HasSubstr("register 7 is not linearizable"));
}

TEST(Linearizability, TheWitnessEndsWhereTheHistoryBreaks) {
    // Fine until the read that returns at 9; what comes later does not matter.
    const auto verdict = check_linearizable<RegisterModel>(
        {write(1, 0, 1), write(2, 2, 3), write(5, 4, kNever), read(1, 8, 9), read(77, 10, 11)});
    ASSERT_EQ(verdict.outcome, Linearizability::kViolated);
    EXPECT_EQ(verdict.blocked, 3U);
    EXPECT_THAT(verdict.placed, ::testing::AnyOf(ElementsAre(0, 1), ElementsAre(0, 1, 2)));
    EXPECT_EQ(verdict.placed.size() + verdict.open.size(), 3U);
    EXPECT_THAT(verdict.text, HasSubstr("fits nowhere\n  [8, 9] client 0: read -> 1\n"));
    EXPECT_THAT(verdict.text, ::testing::Not(HasSubstr("77")));
}

TEST(Linearizability, ASearchThatGivesUpIsNotOk) {
    RegisterHistory history;
    for (RegisterValue i = 1; i <= 12; ++i) {
        history.push_back(write(i, 0, 100));
    }
    history.push_back(read(99, 101, 102));
    const auto verdict = check_linearizable<RegisterModel>(history, 1000);
    EXPECT_EQ(verdict.outcome, Linearizability::kUndecided);
    EXPECT_EQ(verdict.steps, 1000U);
    EXPECT_THAT(verdict.text, HasSubstr("undecided after 1000 steps"));
    EXPECT_EQ(check_linearizable<RegisterModel>(history).outcome, Linearizability::kViolated);
}

TEST(Linearizability, ManyUnknownWritesDoNotExplode) {
    RegisterHistory history;
    for (RegisterValue i = 1; i <= 30; ++i) {
        history.push_back(write(i, i, kNever));
    }
    for (RegisterValue i = 1; i <= 30; ++i) {
        history.push_back(read(i, 100 + 2 * i, 101 + 2 * i));
    }
    EXPECT_EQ(check_linearizable<RegisterModel>(history, 50'000).outcome, Linearizability::kOk);
    history.push_back(read(1, 900, 901));
    EXPECT_EQ(check_linearizable<RegisterModel>(history, 50'000).outcome,
              Linearizability::kViolated);
}

TEST(Linearizability, RefusesAHistoryThatRunsBackwards) {
    EXPECT_THROW(outcome({read(0, 5, 4)}), std::invalid_argument);
}

// The definition itself: try every order of every subset that has all the known ones.
bool by_definition(const RegisterHistory& history, std::vector<bool>& placed, RegisterValue state) {
    bool all_known = true;
    for (std::size_t i = 0; i < history.size(); ++i) {
        all_known = all_known && (placed[i] || !history[i].returned_at);
    }
    if (all_known) {
        return true;
    }
    for (std::size_t i = 0; i < history.size(); ++i) {
        bool may_be_next = !placed[i];
        for (std::size_t j = 0; j < history.size(); ++j) {
            may_be_next = may_be_next && (placed[j] || !history[j].returned_at ||
                                          *history[j].returned_at >= history[i].called_at);
        }
        auto next = state;
        const auto result = RegisterModel::apply(history[i].call, next);
        if (!may_be_next || (history[i].result && !(*history[i].result == result))) {
            continue;
        }
        placed[i] = true;
        const bool found = by_definition(history, placed, next);
        placed[i] = false;
        if (found) {
            return true;
        }
    }
    return false;
}

TEST(Linearizability, AgreesWithTheDefinitionOnRandomHistories) {
    int ok = 0;
    constexpr int kHistories = 3000;
    for (std::uint64_t seed = 1; seed <= kHistories; ++seed) {
        Rng rng(seed);
        RegisterHistory history;
        const auto size = 2 + rng.below(6);
        for (std::uint64_t i = 0; i < size; ++i) {
            const auto value = static_cast<RegisterValue>(rng.below(3));
            const auto from = static_cast<HistoryTime>(rng.below(20));
            const auto until =
                rng.chance(0.2) ? kNever : from + static_cast<HistoryTime>(rng.below(12));
            const auto kind = rng.below(3);
            history.push_back(kind == 0   ? write(value + 1, from, until)
                              : kind == 1 ? read(value, from, until)
                                          : swap(value, value + 1, rng.chance(0.5), from, until));
        }
        std::vector<bool> placed(history.size());
        const bool expected = by_definition(history, placed, 0);
        ok += expected ? 1 : 0;
        ASSERT_EQ(outcome(history), expected ? Linearizability::kOk : Linearizability::kViolated)
            << "seed " << seed;
    }
    EXPECT_GT(ok, kHistories / 10);
    EXPECT_LT(ok, kHistories * 9 / 10);
}

}  // namespace
}  // namespace nbos::testing
