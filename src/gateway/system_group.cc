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

std::uint32_t SystemGroup::wanted() const { return wanted_of(hosts_.hosts().size()); }

std::uint32_t SystemGroup::wanted_of(std::size_t hosts) const {
    std::uint32_t number = options_.replicas;
    while (number > 1 && number > hosts) {
        number -= 2;
    }
    return number;
}

// ---- what members say ----

bool SystemGroup::take(const cluster::KernelStatus& status) {
    if (status.kernel < id) {
        return false;
    }
    if (status.kernel > id) {
        enter(status.kernel);
    }
    view.update(status);
    return true;
}

void SystemGroup::enter(KernelId generation) {
    id = generation;
    view = KernelView(hosts_);
    first = {};
    anew_ = {};
    starting_.clear();
}

void SystemGroup::gone(const cluster::ReplicaGone& gone) {
    if (gone.kernel == id) {
        view.remove(gone.replica);
    }
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
    const auto rank = [this](const std::string& one) {
        return std::make_pair(!leader_hears(one), one);
    };
    return std::none_of(seen.begin(), seen.end(), [&](const auto& entry) {
        return rank(entry.first) < rank(gateway) && entry.second * 2 > heard;
    });
}

// Without that it could write nothing. As long as there is no leader, nobody can.
bool SystemGroup::leader_hears(const std::string& gateway) const {
    const auto leader = view.leader();
    const auto told = leader ? connected_.find(*leader) : connected_.end();
    return told == connected_.end() || told->second.contains(gateway);
}

bool SystemGroup::alone() const {
    const auto seen = gateways();
    return std::all_of(seen.begin(), seen.end(),
                       [this](const auto& entry) { return entry.first == self_; });
}

// ---- how it begins ----

Membership SystemGroup::first_members() const {
    std::vector<HostId> all;
    for (const auto& [host, known] : hosts_.hosts()) {
        all.push_back(host);
    }
    return members_of(all);
}

Membership SystemGroup::members_of(const std::vector<HostId>& hosts) const {
    Membership members;
    for (std::size_t n = 0; n < wanted_of(hosts.size()); ++n) {
        const ReplicaId replica{n + 1};
        members.voters.insert(replica);
        members.hosts[replica] = hosts[n];
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
// minority of what would be its members missing, one of the others would have told of it, unless it
// was begun when there were fewer hosts. So the cluster must look new, too.
bool SystemGroup::may_begin(bool unused) const {
    const auto& hosts = hosts_.hosts();
    const auto missing = static_cast<std::size_t>(
        std::count_if(hosts.begin(), hosts.end(),
                      [this](const auto& entry) { return !has_reported(entry.second); }));
    const bool waited = clock_.now() - created >= options_.begin_without;
    return !hosts.empty() && (missing == 0 || (waited && unused && view.replicas().empty() &&
                                               missing * 2 < wanted()));
}

bool SystemGroup::has_reported(const Host& host) const {
    return host.state == HostState::kUp && host.reported &&
           clock_.now() - host.reported_at >= kReported;
}

std::size_t SystemGroup::lost() const {
    const auto& members = membership();
    return static_cast<std::size_t>(
        std::count_if(members.voters.begin(), members.voters.end(), [this, &members](auto voter) {
            const auto at = members.hosts.find(voter);
            const auto* host = at == members.hosts.end() ? nullptr : hosts_.find(at->second);
            return host == nullptr || host->state != HostState::kUp ||
                   (has_reported(*host) && !view.replicas().contains(voter));
        }));
}

void SystemGroup::tick(bool unused) {
    if (view.leader()) {
        anew_ = {};
        return;
    }
    if (!anew_.voters.empty() && is_fresh()) {
        start(anew_);
        return;
    }
    if (!may_begin(unused) || !is_fresh()) {
        return;
    }
    start(view.replicas().empty() ? first_members() : view.replicas().begin()->second.membership);
}

Status SystemGroup::begin_anew() {
    const auto not_lost = [](std::string why) {
        return Error{Errc::kInvalid, Certainty::kDidNotHappen, std::move(why)};
    };
    if (view.leader()) {
        return not_lost("the cluster's own tables are not lost: nothing was changed");
    }
    if (!anew_.voters.empty() &&
        std::all_of(anew_.hosts.begin(), anew_.hosts.end(),
                    [this](const auto& entry) { return hosts_.up(entry.second); })) {
        return not_lost("the cluster's own tables are being begun anew: wait a moment");
    }
    const auto& voters = membership().voters;
    if (!voters.empty() && lost() * 2 < voters.size()) {
        return not_lost(
            "most of the hosts that hold the cluster's own tables are connected, and choose a "
            "leader: nothing was changed");
    }
    std::vector<HostId> up;
    for (const auto& [host, known] : hosts_.hosts()) {
        if (has_reported(known)) {
            up.push_back(host);
        }
    }
    if (up.empty()) {
        return Error{Errc::kExhausted, Certainty::kDidNotHappen,
                     "no host is connected that could hold the cluster's own tables"};
    }
    enter(cluster::system_group(generation() + 1));
    anew_ = members_of(up);
    log_warning("gateway", "the system group is begun anew, as generation {}", generation());
    start(anew_);
    return ok();
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
                                             .kernel = id,
                                             .replica = member,
                                             .bootstrap = members,
                                             .options = {}};
            },
            clock_.now(), kStartTimeout,
            [this, name = host, group = id](const Status& status) {
                if (group != id) {
                    return;
                }
                starting_.erase(name);
                if (!status) {
                    log_warning("gateway", "the system group has no member on {}: {}", name.value,
                                status.error().what);
                }
            });
    }
}

// ---- for users ----

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
               "are connected (`nbos host list`; if some never will be: `nbos system begin-anew`)";
    }
    if (lost() * 2 < members.voters.size()) {
        return fmt::format(
            "the hosts that hold the cluster's own tables ({}) are choosing a leader; "
            "try again in a moment",
            names);
    }
    return fmt::format(
        "{} of the {} hosts that hold the cluster's own tables ({}) cannot be "
        "reached, or have lost them; kernels that run go on, but none can be created or deleted "
        "until a majority is back (if they are lost for good: `nbos system begin-anew`)",
        lost(), members.voters.size(), names);
}

}  // namespace nbos::gateway
