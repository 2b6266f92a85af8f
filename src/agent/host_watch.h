// What a host knows of the others, kept by the agent.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/ports.h"
#include "model/ids.h"
#include "model/membership.h"

namespace nbos::agent {

class HostWatch {
public:
    virtual ~HostWatch() = default;
    enum class State : std::uint8_t { kAlive, kSilent, kDead };
    virtual State state(const HostId& host) const = 0;
    virtual Instant since(const HostId& host) const = 0;  // when it became so
};

// Whether most voters are on hosts that are alive. Raft keeps a proposal until it is committed,
// however late: what must not be done late is proposed only then.
inline bool hears_majority(const Membership& members, ReplicaId self, const HostWatch& hosts) {
    const auto heard =
        std::count_if(members.voters.begin(), members.voters.end(), [&](ReplicaId voter) {
            const auto host = members.hosts.find(voter);
            return voter == self || host == members.hosts.end() ||
                   hosts.state(host->second) == HostWatch::State::kAlive;
        });
    return 2 * static_cast<std::size_t>(heard) > members.voters.size();
}

}  // namespace nbos::agent
