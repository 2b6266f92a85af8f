// Exactly-once proposals: what has been applied, and what this node still waits for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

#include "raft/messages.h"

namespace nbos::raft {

using AppliedTable = std::map<ReplicaId, AppliedProposals>;

// True when `id` had been applied before; notes it otherwise. A pure function of the log, so every
// node decides alike. Sequences of an earlier start of the proposer count as applied (ProposalId).
bool already_applied(AppliedTable& table, const ProposalId& id);
bool is_applied(const AppliedTable& table, const ProposalId& id);

struct ProposalIdHash {
    std::size_t operator()(const ProposalId& id) const {
        return static_cast<std::size_t>(id.sequence ^ (id.proposer.value * 0x9E3779B97F4A7C15ULL));
    }
};

// This node's own proposals until it sees them committed, in order of their sequence.
class PendingProposals {
public:
    void add(ProposalId id, Bytes data);
    void done(const ProposalId& id);               // unknown ids are fine
    void drop_applied(const AppliedTable& table);  // those that an installed snapshot contains

    // Those that the present leader has not been given yet; `hand_out` is told each once, until
    // it returns false or hand_out_again() makes all of them new.
    template <class HandOut>
    void hand_out(HandOut give) {
        while (handed_ < pending_.size() && give(pending_[handed_])) {
            ++handed_;
        }
    }
    void hand_out_again() { handed_ = 0; }
    bool has_new() const { return handed_ < pending_.size(); }
    bool empty() const { return pending_.empty(); }
    std::size_t bytes() const { return bytes_; }

private:
    std::deque<Entry> pending_;
    std::size_t handed_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace nbos::raft
