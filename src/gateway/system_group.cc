#include "gateway/system_group.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace nbos::gateway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kReported{200};  // after its first word a host has said all it has
constexpr milliseconds kStartTimeout{10'000};
constexpr Term kFirstTerm{1};  // of a group that has never had a leader

}  // namespace

SystemGroup::SystemGroup(const Clock& clock, const HostTable& hosts, RpcCalls& calls,
                         SystemOptions options, std::string self)
    : ReplicaGroup(cluster::kSystemGroup, hosts),
      clock_(clock),
      hosts_(hosts),
      calls_(calls),
      options_(options),
      self_(std::move(self)) {
    created = clock.now();
}

std::uint32_t SystemGroup::wanted() const {
    const auto hosts = hosts_.hosts().size();
    std::uint32_t number = options_.replicas;
    while (number > 1 && number > hosts) {
        number -= 2;
    }
    return number;
}

void SystemGroup::forget(const HostId& host) {
    view.forget(host);
    connected_.erase(host);
}

// ---- the other gateways ----

void SystemGroup::connected(const cluster::ConnectedGateways& news) {
    connected_[news.host] = news.gateways;
    saw_another_ = saw_another_ || !alone();
}

std::map<std::string, std::size_t> SystemGroup::gateways() const {
    std::map<std::string, std::size_t> seen;
    for (const auto& [host, gateways] : connected_) {
        for (const auto& gateway : gateways) {
            seen[gateway] += hosts_.up(host) ? 1 : 0;
        }
    }
    std::erase_if(seen, [](const auto& entry) { return entry.second == 0; });
    return seen;
}

bool SystemGroup::acts(const std::string& gateway) const {
    const auto heard = static_cast<std::size_t>(
        std::count_if(connected_.begin(), connected_.end(),
                      [this](const auto& entry) { return hosts_.up(entry.first); }));
    const auto seen = gateways();
    return std::none_of(seen.begin(), seen.end(), [&](const auto& entry) {
        return entry.first < gateway && entry.second * 2 > heard;
    });
}

bool SystemGroup::alone() const {
    const auto seen = gateways();
    return std::all_of(seen.begin(), seen.end(),
                       [this](const auto& entry) { return entry.first == self_; });
}

// ---- how it begins ----

Membership SystemGroup::first_members() const {
    Membership members;
    for (const auto& [host, known] : hosts_.hosts()) {
        if (members.voters.size() < wanted()) {
            const ReplicaId replica{members.voters.size() + 1};
            members.voters.insert(replica);
            members.hosts[replica] = host;
        }
    }
    return members;
}

// Nobody has begun to work: the first members are being started, or there are none. A member that
// is started again may not know yet what it has applied, but its term tells.
bool SystemGroup::is_fresh() const {
    return std::all_of(view.replicas().begin(), view.replicas().end(), [](const auto& entry) {
        const auto& status = entry.second;
        return status.sequence.value <= 1 && status.term <= kFirstTerm &&
               !status.membership.voters.empty();
    });
}

// A member that is not heard of might have the tables: with all hosts heard there is none; with a
// minority of what would be its members missing, one of the others would have told of it.
bool SystemGroup::may_begin() const {
    const auto now = clock_.now();
    const auto& hosts = hosts_.hosts();
    const auto missing =
        static_cast<std::size_t>(std::count_if(hosts.begin(), hosts.end(), [&](const auto& entry) {
            const auto& host = entry.second;
            return host.state != HostState::kUp || !host.reported ||
                   now - host.reported_at < kReported;
        }));
    const bool waited = now - created >= options_.begin_without;
    return !hosts.empty() &&
           (missing == 0 || (waited && view.replicas().empty() && missing * 2 < wanted()));
}

void SystemGroup::tick() {
    if (view.leader() || !may_begin() || !is_fresh()) {
        return;
    }
    start(view.replicas().empty() ? first_members() : view.replicas().begin()->second.membership);
}

void SystemGroup::start(const Membership& members) {
    for (const auto& [replica, host] : members.hosts) {
        if (!hosts_.up(host) || view.replicas().contains(replica) ||
            !starting_.insert(host).second) {
            continue;
        }
        log_info("gateway", "the system group begins: member {} on {}", replica.value, host.value);
        calls_.call(
            to_host(host),
            [&, member = replica](std::uint64_t request) {
                return cluster::StartReplica{.request = request,
                                             .kernel = cluster::kSystemGroup,
                                             .replica = member,
                                             .bootstrap = members,
                                             .options = {}};
            },
            clock_.now(), kStartTimeout,
            [this, name = host](const Status& status) {
                starting_.erase(name);
                if (!status) {
                    log_warning("gateway", "the system group has no member on {}: {}", name.value,
                                status.error().what);
                }
            });
    }
}

// ---- for users ----

std::size_t SystemGroup::away() const {
    const auto& members = membership();
    return static_cast<std::size_t>(
        std::count_if(members.voters.begin(), members.voters.end(), [&](ReplicaId voter) {
            const auto host = members.hosts.find(voter);
            return host != members.hosts.end() && !hosts_.up(host->second);
        }));
}

std::string SystemGroup::problem() const {
    if (view.leader()) {
        return "the hosts that hold the cluster's own tables did not answer in time; try again";
    }
    const auto& members = membership();
    std::string names;
    for (const auto& [replica, host] : members.hosts) {
        names += (names.empty() ? "" : ", ") + host.value;
    }
    if (members.voters.empty()) {
        return "the cluster's own tables have not been found yet: they are begun when all hosts "
               "are connected (`nbos host list`)";
    }
    if (away() * 2 < members.voters.size()) {
        return fmt::format(
            "the hosts that hold the cluster's own tables ({}) are choosing a leader; "
            "try again in a moment",
            names);
    }
    return fmt::format(
        "{} of the {} hosts that hold the cluster's own tables ({}) cannot be "
        "reached; kernels that run go on, but none can be created or deleted until "
        "a majority is back",
        away(), members.voters.size(), names);
}

}  // namespace nbos::gateway
