// Majorities, also of joint configurations: a decision needs one of `voters` and, in a joint stage,
// one of `outgoing` (thesis 4.3). An empty set of voters decides nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/membership.h"

namespace nbos::raft {

// True when `yes(id)` holds for a majority of each half.
template <class Yes>
bool quorum_of(const Membership& members, Yes yes) {
    const auto majority = [&](const std::set<ReplicaId>& set) {
        std::size_t n = 0;
        for (const auto id : set) {
            n += yes(id) ? 1U : 0U;
        }
        return n * 2 > set.size();
    };
    return majority(members.voters) && (members.outgoing.empty() || majority(members.outgoing));
}

// The highest number that a majority of each half has reached; 0 without voters.
template <class Reached>
std::uint64_t quorum_value(const Membership& members, Reached reached) {
    const auto median = [&](const std::set<ReplicaId>& set) -> std::uint64_t {
        std::vector<std::uint64_t> values;
        values.reserve(set.size());
        for (const auto id : set) {
            values.push_back(reached(id));
        }
        const auto nth = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
        std::nth_element(values.begin(), nth, values.end());
        return *nth;
    };
    if (members.voters.empty()) {
        return 0;
    }
    const auto incoming = median(members.voters);
    return members.joint() ? std::min(incoming, median(members.outgoing)) : incoming;
}

}  // namespace nbos::raft
