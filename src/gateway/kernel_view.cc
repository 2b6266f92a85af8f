#include "gateway/kernel_view.h"

#include <algorithm>
#include <tuple>
#include <vector>

namespace nbos::gateway {
namespace {

bool failed(const cluster::KernelStatus& status) {
    return status.interpreter.starts_with("failed");
}

bool has_live_interpreter(const cluster::KernelStatus& status) {
    return status.interpreter == "ready" || status.interpreter == "running";
}

bool is_behind(const cluster::KernelStatus& status) { return status.interpreter == "behind"; }

}  // namespace

// What this view says of the executor may be older than the move that was asked for: only that it
// becomes the executor counts, not that it was one.
void KernelView::update(const cluster::KernelStatus& status) {
    const auto before = executor();
    replicas_[status.replica] = status;
    if (preferred_ && preferred_ != before && preferred_ == executor()) {
        preferred_.reset();
    }
}

bool KernelView::loses_interpreter(const cluster::KernelStatus& status) const {
    const auto lives = [](const cluster::KernelStatus& s) {
        return has_live_interpreter(s) || is_behind(s);
    };
    const auto found = replicas_.find(status.replica);
    return found != replicas_.end() && lives(found->second) && !lives(status);
}

const cluster::KernelStatus* KernelView::best() const {
    const cluster::KernelStatus* best = nullptr;
    const auto rank = [this](const cluster::KernelStatus& status) {
        const bool up = hosts_->up(status.host);
        const bool leads = up && status.role == raft::Role::kLeader;
        return std::make_tuple(leads, leads ? status.term : Term{}, up, status.incarnation,
                               status.sequence, status.term);
    };
    for (const auto& [id, status] : replicas_) {
        if (best == nullptr || rank(status) > rank(*best)) {
            best = &status;
        }
    }
    return best;
}

std::optional<HostId> KernelView::host_of(ReplicaId replica) const {
    if (const auto found = replicas_.find(replica); found != replicas_.end()) {
        return found->second.host;
    }
    if (const auto* status = best()) {
        const auto& hosts = status->membership.hosts;
        if (const auto found = hosts.find(replica); found != hosts.end()) {
            return found->second;
        }
    }
    return std::nullopt;
}

std::optional<HostId> KernelView::leader() const {
    const auto* status = best();
    if (status == nullptr || status->leader.value == 0) {
        return std::nullopt;
    }
    const auto host = host_of(status->leader);
    return host && hosts_->up(*host) ? host : std::nullopt;
}

std::optional<HostId> KernelView::executor() const {
    const auto* status = best();
    return status == nullptr || status->executor.value == 0 ? std::nullopt
                                                            : host_of(status->executor);
}

KernelView::Fitness KernelView::fitness(const HostId& host) const {
    if (!hosts_->up(host)) {
        return Fitness::kNone;
    }
    auto result = Fitness::kNone;
    const auto* reference = best();
    for (const auto& [id, status] : replicas_) {
        // A replica that left the group, or never joined it, has nothing to serve with.
        const bool member = reference != nullptr && reference->membership.is_member(id);
        if (status.host == host && member && !failed(status)) {
            result = std::max(result, has_live_interpreter(status) ? Fitness::kReady
                                      : is_behind(status)          ? Fitness::kBehind
                                                                   : Fitness::kPresent);
        }
    }
    return result;
}

bool KernelView::serves(const HostId& host) const { return fitness(host) != Fitness::kNone; }

std::string KernelView::process(const HostId& host) const {
    if (hosts_->up(host)) {
        for (const auto& [id, status] : replicas_) {
            if (status.host == host && !status.process.empty()) {
                return status.process;
            }
        }
    }
    return {};
}

std::optional<HostId> KernelView::owner() const {
    return owner([](const HostId&) { return true; });
}

std::optional<HostId> KernelView::owner(const std::function<bool(const HostId&)>& may) const {
    if (preferred_ && !hosts_->up(*preferred_)) {
        preferred_.reset();
    }
    if (preferred_ && fitness(*preferred_) >= Fitness::kBehind && may(*preferred_)) {
        return preferred_;
    }
    std::vector<HostId> order;
    for (const auto& candidate : {preferred_, executor(), leader()}) {
        if (candidate) {
            order.push_back(*candidate);
        }
    }
    for (const auto& [id, status] : replicas_) {
        order.push_back(status.host);
    }
    for (const auto wanted : {Fitness::kReady, Fitness::kBehind, Fitness::kPresent}) {
        for (const auto& host : order) {
            if (fitness(host) == wanted && may(host)) {
                return host;
            }
        }
    }
    return std::nullopt;
}

std::string KernelView::failure() const {
    const auto* reference = best();
    std::string why;
    for (const auto& [id, status] : replicas_) {
        if (reference->membership.voters.empty() || !reference->membership.is_member(id)) {
            continue;
        }
        if (!failed(status)) {
            return {};
        }
        if (why.empty()) {
            constexpr std::string_view kPrefix = "failed: ";
            why = status.interpreter.size() > kPrefix.size()
                      ? status.interpreter.substr(kPrefix.size())
                      : status.interpreter;
        }
    }
    return why;
}

bool KernelView::idle_or_busy() const {
    return std::any_of(replicas_.begin(), replicas_.end(), [this](const auto& entry) {
        const auto state = entry.second.state;
        return hosts_->up(entry.second.host) &&
               (state == cluster::ExecutionState::kIdle || state == cluster::ExecutionState::kBusy);
    });
}

bool KernelView::runs_a_cell() const {
    return std::any_of(replicas_.begin(), replicas_.end(), [this](const auto& entry) {
        return entry.second.interpreter == "running" && hosts_->up(entry.second.host);
    });
}

std::uint32_t KernelView::queued() const {
    const auto* status = best();
    return status == nullptr ? 0 : status->queued;
}

}  // namespace nbos::gateway
