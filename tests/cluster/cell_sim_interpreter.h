// A modelled interpreter: state of its own, changed by the cells it runs and, as a standby, by the
// deltas of others. It can die at any moment, in the middle of applying a delta too.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "base/ports.h"
#include "state/state_table.h"
#include "tests/cluster/cell_sim_checker.h"
#include "tests/cluster/cell_sim_types.h"
#include "tests/support/delta.h"

namespace nbos::testing {

class ModelInterpreter {
public:
    ModelInterpreter(ReplicaId self, CellChecker& checker, bool tears_deltas)
        : self_(self), checker_(checker), tears_deltas_(tears_deltas) {}

    bool current(Sequence sequence) const { return ready_ && !dirty_ && sequence_ == sequence; }
    bool ready() const { return ready_ && !dirty_; }
    bool in_shadow_step() const { return shadow_until_.has_value(); }
    const state::StateTable& state() const { return state_; }

    // A new one starts and will load what the replica has by then.
    void discard() {
        if (tears_deltas_ && shadow_until_ && !to_apply_.empty()) {
            return tear();
        }
        ready_ = false;
        dirty_ = false;
        shadow_until_.reset();
        to_apply_.clear();
        ready_at_.reset();
    }

    void follow(Sequence sequence, Bytes delta) {
        if (ready_) {
            to_apply_.push_back({sequence, std::move(delta)});
        }
    }

    // What the cell does to the state: a count, a chain over all cells so far, a value of its own;
    // now and then an older value goes.
    std::string run(const std::string& msg_id, std::uint64_t chance) {
        dirty_ = true;
        Delta delta;
        delta.put("n:chain", std::to_string(chain(msg_id)));
        delta.put("o:" + msg_id, std::string(1 + chance % 20, 'v'));
        const auto old = state_.entries().lower_bound("o:");
        if (chance % 4 == 0 && old != state_.entries().end() && old->first != "o:" + msg_id) {
            delta.del(old->first);
        }
        return delta.str();
    }
    // Its own result was accepted.
    void executed(Sequence sequence, std::string_view delta) {
        if (!dirty_ || !state_.apply(delta)) {
            discard();
            return;
        }
        dirty_ = false;
        sequence_ = sequence;
        checker_.interpreter_at(self_, sequence_, state_.digest());
    }

    void tick(Ticks now, Rng& rng, Sequence sequence, const state::StateTable& table) {
        if (!ready_) {
            if (!ready_at_) {
                ready_at_ = now + 2 + rng.below(10);
            } else if (*ready_at_ <= now) {
                load(sequence, table);
            }
            return;
        }
        if (shadow_until_ && *shadow_until_ <= now) {
            apply_first();
        }
        if (!shadow_until_ && !to_apply_.empty()) {
            shadow_until_ = now + rng.below(6);
        }
    }

private:
    struct Pending {
        Sequence sequence;
        Bytes delta;
    };

    std::uint64_t chain(const std::string& msg_id) const {
        std::uint64_t value = std::hash<std::string>{}(msg_id);
        if (const auto old = state_.entries().find("n:chain"); old != state_.entries().end()) {
            value ^= std::hash<std::string_view>{}(old->second.view()) * 31U;
        }
        return value;
    }
    void load(Sequence sequence, const state::StateTable& table) {
        state_.clear();
        const bool loaded = static_cast<bool>(state_.apply(table.as_delta().view()));
        ready_ = loaded;
        ready_at_.reset();
        sequence_ = sequence;
        checker_.interpreter_at(self_, sequence_, state_.digest());
    }
    void apply_first() {
        shadow_until_.reset();
        const auto next = to_apply_.front();
        to_apply_.pop_front();
        if (next.sequence.value != sequence_.value + 1 || !state_.apply(next.delta.view())) {
            discard();
            return;
        }
        sequence_ = next.sequence;  // published in one move
        checker_.interpreter_at(self_, sequence_, state_.digest());
    }
    void tear() {  // planted: half of the delta stays, as if it were whole
        shadow_until_.reset();
        const auto next = to_apply_.front();
        to_apply_.pop_front();
        const bool half = static_cast<bool>(state_.apply(Delta().put("n:chain", "torn").str()));
        sequence_ = half ? next.sequence : sequence_;
    }

    ReplicaId self_;
    CellChecker& checker_;
    bool tears_deltas_;
    bool ready_ = false;
    bool dirty_ = false;  // runs a cell that has not been accepted
    std::optional<Ticks> ready_at_;
    Sequence sequence_;
    state::StateTable state_;
    std::deque<Pending> to_apply_;
    std::optional<Ticks> shadow_until_;
};

}  // namespace nbos::testing
