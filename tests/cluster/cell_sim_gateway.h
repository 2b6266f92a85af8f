// The gateway of the cell simulator, with the clients behind it: it submits cells, asks again until
// each is answered, shows outputs by their fence, and may be restarted.
#pragma once

#include <map>
#include <set>
#include <string>

#include "base/ports.h"
#include "tests/cluster/cell_sim_checker.h"
#include "tests/cluster/cell_sim_types.h"

namespace nbos::testing {

class GatewayPorts {
public:
    virtual ~GatewayPorts() = default;
    virtual void to_some_driver(ToDriver message) = 0;
};

class GatewayModel {
public:
    GatewayModel(GatewayPorts& ports, CellChecker& checker, Planted planted, std::uint64_t seed)
        : ports_(ports), checker_(checker), planted_(planted), rng_(seed) {}

    void submit() {
        const auto msg_id = "m" + std::to_string(submitted_.size() + 1);
        submitted_.insert(msg_id);
        ask(msg_id, waiting_[msg_id]);
    }
    void interrupt() { ports_.to_some_driver(CancelCells{}); }
    void restart_kernel() {
        ports_.to_some_driver(RestartKernel{"s" + std::to_string(++sessions_)});
    }
    // Its clients come back and ask for what they wait for; what it showed is forgotten.
    void crash_and_restart() {
        newest_ = {};
        for (auto& [msg_id, waiting] : waiting_) {
            ask(msg_id, waiting);
        }
    }

    void handle(const CellOutput& output) {
        const bool stale = output.fence < newest_ || !waiting_.contains(output.msg_id);
        if (stale && planted_ != Planted::kOutputsWithoutFence) {
            return;
        }
        newest_ = std::max(newest_, output.fence);
        checker_.shown(output);
    }
    void handle(const CellAnswer& answer) {
        checker_.answered(answer);
        waiting_.erase(answer.msg_id);
    }

    void tick(Ticks now) {
        now_ = now;
        for (auto& [msg_id, waiting] : waiting_) {
            if (waiting.ask_again_at <= now) {
                ask(msg_id, waiting);
            }
        }
    }

    std::set<std::string> submitted() const { return submitted_; }
    std::set<std::string> waiting() const {
        std::set<std::string> ids;
        for (const auto& [msg_id, waiting] : waiting_) {
            ids.insert(msg_id);
        }
        return ids;
    }

private:
    struct Waiting {
        Ticks ask_again_at = 0;
    };
    void ask(const std::string& msg_id, Waiting& waiting) {
        waiting.ask_again_at = now_ + 30 + rng_.below(60);
        ports_.to_some_driver(SubmitCell{msg_id, msg_id.back() % 2 == 0});
    }

    GatewayPorts& ports_;
    CellChecker& checker_;
    Planted planted_;
    Rng rng_;
    Ticks now_ = 0;
    std::set<std::string> submitted_;
    std::map<std::string, Waiting> waiting_;
    replica::Fence newest_;
    std::uint64_t sessions_ = 1;
};

}  // namespace nbos::testing
