// Is a history of client operations linearizable? Is there one order of them that respects who had
// returned before whom was called, and in which every result is the one that a sequential object
// would have given?
//
// The search is that of Wing and Gong (1993) with Lowe's memory and his order ("Testing for
// linearizability", 2017, just-in-time): returns are taken in order of time, and an operation is
// placed no sooner than a return asks for it; one set of operations placed, in one state, is
// searched once. Objects that do not influence each other are searched one by one (Herlihy and
// Wing: a history is linearizable if each object's part is).
// A call without a known result may take effect at any time after it, or never. Such calls would
// make the search exponential, so one that gets to a state by more of them than another is cut.
//
// A Model is a struct without data:
//     struct Call, Result, State;                  // == on Result, < on State
//     static auto key(const Call&);                // which object; ordered
//     static State initial();
//     static Result apply(const Call&, State&);    // what it answers, and the state after it
//     static std::string describe(const Call&), describe(const Call&, const Result&),
//                        describe_key(key);
//
// Limits   steps_max applications of the model a key. A search that gives up says kUndecided.
// Units    Any that grow; an operation that returns at the time of another's call overlaps it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace nbos::testing {

using HistoryTime = std::int64_t;

template <class Model>
struct Operation {
    std::uint32_t client = 0;
    typename Model::Call call;
    HistoryTime called_at = 0;
    // Both or neither.
    std::optional<HistoryTime> returned_at;
    std::optional<typename Model::Result> result;
};

template <class Model>
using History = std::vector<Operation<Model>>;

enum class Linearizability : std::uint8_t { kOk, kViolated, kUndecided };

struct Verdict {
    Linearizability outcome = Linearizability::kOk;
    std::uint64_t steps = 0;  // over all keys
    // Of the key that is not kOk: where the history stops being linearizable. `blocked` returns
    // first of all that cannot be placed; `placed` is the longest order of operations before that,
    // `open` are the other calls that had been made by then. Indices into the history.
    std::vector<std::size_t> placed;
    std::vector<std::size_t> open;
    std::optional<std::size_t> blocked;
    std::string text;  // the same in words
};

constexpr std::uint64_t kLinearizabilityStepsMax = 1'000'000;

namespace linearizability {

struct Interval {
    HistoryTime called_at;
    std::optional<HistoryTime> returned_at;
};
using StateId = std::size_t;  // 0 is the initial state
// The state after an operation; nullopt if it would have answered something else.
using Step = std::function<std::optional<StateId>(std::size_t operation, StateId from)>;

// Indices into `operations`; no text.
Verdict search(const std::vector<Interval>& operations, const Step& step, std::uint64_t steps_max);

// What a verdict other than kOk says about its key; `line` tells of one operation.
std::string explain(const Verdict& verdict, const std::string& key,
                    const std::function<std::string(std::size_t)>& line);

template <class Model>
std::string line(const Operation<Model>& operation) {
    const auto until =
        operation.returned_at ? std::to_string(*operation.returned_at) : std::string("?");
    return "[" + std::to_string(operation.called_at) + ", " + until + "] client " +
           std::to_string(operation.client) + ": " + Model::describe(operation.call) + " -> " +
           (operation.result ? Model::describe(operation.call, *operation.result) : "unknown");
}

// States by number, so that the search need not know them.
template <class Model>
class States {
public:
    States() { number(Model::initial()); }

    std::optional<StateId> step(const Operation<Model>& operation, StateId from) {
        auto state = *states_[from];
        const auto result = Model::apply(operation.call, state);
        if (operation.result && !(*operation.result == result)) {
            return std::nullopt;
        }
        return number(state);
    }

private:
    StateId number(const typename Model::State& state) {
        const auto [it, is_new] = numbers_.try_emplace(state, states_.size());
        if (is_new) {
            states_.push_back(&it->first);
        }
        return it->second;
    }

    std::map<typename Model::State, StateId> numbers_;
    std::vector<const typename Model::State*> states_;
};

template <class Model>
Verdict check_key(const History<Model>& history, const std::vector<std::size_t>& part,
                  const std::string& key, std::uint64_t steps_max) {
    std::vector<Interval> intervals;
    for (const auto i : part) {
        intervals.push_back({history[i].called_at, history[i].returned_at});
    }
    States<Model> states;
    auto verdict = search(
        intervals, [&](std::size_t i, StateId from) { return states.step(history[part[i]], from); },
        steps_max);
    verdict.text = explain(verdict, key, [&](std::size_t i) { return line(history[part[i]]); });
    for (auto* indices : {&verdict.placed, &verdict.open}) {
        for (auto& i : *indices) {
            i = part[i];
        }
    }
    if (verdict.blocked) {
        verdict.blocked = part[*verdict.blocked];
    }
    return verdict;
}

}  // namespace linearizability

// The first key in violation; else the first undecided one; else kOk.
template <class Model>
Verdict check_linearizable(const History<Model>& history,
                           std::uint64_t steps_max = kLinearizabilityStepsMax) {
    std::map<decltype(Model::key(history.front().call)), std::vector<std::size_t>> parts;
    for (std::size_t i = 0; i < history.size(); ++i) {
        parts[Model::key(history[i].call)].push_back(i);
    }
    Verdict worst;
    std::uint64_t steps = 0;
    for (const auto& [key, part] : parts) {
        auto verdict =
            linearizability::check_key<Model>(history, part, Model::describe_key(key), steps_max);
        steps += verdict.steps;
        if (verdict.outcome == Linearizability::kViolated ||
            worst.outcome == Linearizability::kOk) {
            worst = std::move(verdict);
        }
        if (worst.outcome == Linearizability::kViolated) {
            break;
        }
    }
    worst.steps = steps;
    return worst;
}

}  // namespace nbos::testing
