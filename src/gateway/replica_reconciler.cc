#include "gateway/replica_reconciler.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"

namespace nbos::gateway {
namespace {

constexpr std::uint64_t kSlots = 1024;
constexpr std::chrono::milliseconds kLeadTimeout{15'000};
constexpr std::chrono::milliseconds kLeadSeen{8'000};  // from the wish to the leadership

// The leader's word on who belongs to the group; nullptr while nobody leads or a change is on.
const cluster::KernelStatus* settled_leader(const ReplicaGroup& kernel) {
    const auto* best = kernel.view.best();
    return best != nullptr && best->role == raft::Role::kLeader && best->settled &&
                   kernel.view.connected(best->host)
               ? best
               : nullptr;
}

// A small number of its own for each gateway, as good as certainly.
std::uint64_t slot_of(const std::string& gateway) {
    std::uint64_t hash = 14'695'981'039'346'656'037ULL;  // FNV-1a
    for (const char c : gateway) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211ULL;
    }
    return hash % kSlots;
}

}  // namespace

// Never used before, also not by a replica that this gateway has never heard of, nor by another
// gateway at the same moment: ids of added replicas are times, and whose. Their group refuses one
// that is not above all earlier ones.
ReplicaId ReplicaReconciler::new_replica(const ReplicaGroup& kernel) const {
    auto id =
        kSlots * static_cast<std::uint64_t>(
                     std::chrono::duration_cast<std::chrono::milliseconds>(clock_.wall()).count()) +
        slot_of(self_);
    id = std::max(id, kernel.membership().newest().value + kSlots);
    for (const auto& [known, status] : kernel.view.replicas()) {
        id = std::max(id, known.value + kSlots);
    }
    return ReplicaId{id};
}

bool ReplicaReconciler::is_lost(const ReplicaGroup& kernel, ReplicaId replica,
                                const HostId& id) const {
    const auto* host = hosts_.find(id);
    if (host == nullptr) {
        return true;  // it was taken out of the cluster
    }
    const auto now = clock_.now();
    if (host->state == HostState::kUp) {
        return host->reported && now - host->reported_at > options_.missing_grace &&
               now - kernel.created > options_.missing_grace &&
               !kernel.view.replicas().contains(replica);
    }
    return now - host->since > (host->state == HostState::kRefused ? options_.refused_grace
                                                                   : silent_grace(kernel, replica));
}

std::chrono::milliseconds ReplicaReconciler::silent_grace(const ReplicaGroup& kernel,
                                                          ReplicaId replica) const {
    const auto* best = kernel.view.best();
    if (best == nullptr || best->queued == 0 || best->executor != replica) {
        return options_.silent_grace;
    }
    const std::chrono::seconds asked(best->options.silence_grace_s);
    return options_.executor_margin + (asked.count() > 0 ? asked : options_.executor_grace);
}

std::optional<ReplicaId> ReplicaReconciler::lost_voter(const ReplicaGroup& kernel) const {
    const auto& members = kernel.membership();
    for (const auto voter : members.voters) {
        const auto host = members.hosts.find(voter);
        if (host != members.hosts.end() && is_lost(kernel, voter, host->second)) {
            return voter;
        }
    }
    return std::nullopt;
}

Result<HostId> ReplicaReconciler::spare_host(const ReplicaGroup& kernel) const {
    policy::PlacementRequest request{.replicas = 1, .excluded = {}};
    for (const auto& [replica, host] : kernel.membership().hosts) {
        const auto* known = hosts_.find(host);
        const bool came_back_without =
            known != nullptr && known->state == HostState::kUp && is_lost(kernel, replica, host);
        if (!came_back_without) {
            request.excluded.insert(host);
        }
    }
    for (const auto& [replica, status] : kernel.view.replicas()) {
        request.excluded.insert(status.host);  // left over there, about to be stopped
    }
    auto placed = placement_.place(request, kernels_.host_views());
    if (!placed) {
        return std::move(placed).error();
    }
    return placed->hosts.front();
}

ReplicaGroup* ReplicaReconciler::find(KernelId id) {
    return id == system_.id ? &system_ : static_cast<ReplicaGroup*>(kernels_.find(id));
}

std::size_t ReplicaReconciler::wanted(const cluster::KernelStatus& leader) const {
    if (leader.kernel == system_.id) {
        return system_.wanted();
    }
    const auto asked_for = leader.options.replicas;
    return asked_for == 0 ? leader.membership.voters.size() : asked_for;
}

void ReplicaReconciler::tick(bool acts) {
    std::erase_if(jobs_, [this](const auto& job) { return find(job.first) == nullptr; });
    std::erase_if(problems_, [this](const auto& p) { return find(p.first) == nullptr; });
    std::erase_if(orphans_, [this](const auto& o) { return find(o.first.first) == nullptr; });
    std::erase_if(learners_, [this](const auto& l) { return find(l.first.first) == nullptr; });
    watch_leads();
    reconcile(system_, acts);
    for (const auto& [id, kernel] : kernels_.all()) {
        reconcile(*kernel, acts);
    }
}

void ReplicaReconciler::reconcile(ReplicaGroup& kernel, bool acts) {
    if (const auto found = jobs_.find(kernel.id); found != jobs_.end()) {
        advance(kernel, found->second);
        return;
    }
    problems_.erase(kernel.id);
    const auto* leader = settled_leader(kernel);
    if (!acts || leader == nullptr) {
        return;  // another's work; or no majority, or an election: nothing can be changed now
    }
    stop_orphans(kernel);
    if (auto job = needed(kernel, *leader)) {
        jobs_[kernel.id] = std::move(*job);
    }
}

std::optional<ReplicaReconciler::Job> ReplicaReconciler::needed(
    ReplicaGroup& kernel, const cluster::KernelStatus& leader) {
    const auto& members = leader.membership;
    if (!members.learners.empty()) {
        return learners_job(kernel, leader);
    }
    const auto lost = lost_voter(kernel);
    const bool short_of = members.voters.size() < wanted(leader);
    if (!lost && !short_of) {
        const auto one_too_many = surplus(leader);
        return one_too_many ? std::optional(Job{.step = Step::kChange, .remove = one_too_many})
                            : std::nullopt;
    }
    const auto spare = spare_host(kernel);
    if (!spare) {
        problems_[kernel.id] =
            "a replica is missing, and there is no spare host: " + spare.error().what;
        return std::nullopt;
    }
    const auto replica = new_replica(kernel);
    log_info("gateway", "kernel {}: replica {} on {} replaces {}", kernel.id.value.str(),
             replica.value, spare->value, lost ? std::to_string(lost->value) : "none");
    return Job{.add = std::make_pair(replica, *spare), .remove = lost};
}

// Left by a gateway that is gone: finish what it began. One that is there may still be at it.
std::optional<ReplicaReconciler::Job> ReplicaReconciler::learners_job(
    const ReplicaGroup& kernel, const cluster::KernelStatus& leader) {
    const auto& members = leader.membership;
    const auto learner = *members.learners.begin();
    const auto since = learners_.try_emplace({kernel.id, learner}, clock_.now()).first->second;
    if (!system_.alone() && clock_.now() - since < options_.learner_grace) {
        return std::nullopt;
    }
    const auto lost = lost_voter(kernel);
    const bool short_of = members.voters.size() < wanted(leader);
    Job job{.step = Step::kChange};
    if (!is_lost(kernel, learner, members.hosts.at(learner)) && (lost || short_of)) {
        job.add = {learner, members.hosts.at(learner)};
        job.remove = lost;
    } else {
        job.remove = learner;
    }
    return job;
}

// Two gateways that acted at once may have added one each. Not who leads or executes.
std::optional<ReplicaId> ReplicaReconciler::surplus(const cluster::KernelStatus& leader) const {
    const auto& voters = leader.membership.voters;
    if (voters.size() <= wanted(leader)) {
        return std::nullopt;
    }
    for (auto voter = voters.rbegin(); voter != voters.rend(); ++voter) {
        if (*voter != leader.replica && *voter != leader.executor) {
            return *voter;
        }
    }
    return std::nullopt;
}

void ReplicaReconciler::advance(ReplicaGroup& kernel, Job& job) {
    if (job.calling || clock_.now() < job.not_before) {
        return;
    }
    if (job.step == Step::kStart) {
        start(kernel, job);
    } else {
        change(kernel, job);
    }
}

void ReplicaReconciler::start(ReplicaGroup& kernel, Job& job) {
    const auto replica = job.add->first;
    const auto host = job.add->second;
    if (!hosts_.up(host)) {  // it went away, too: choose again
        const auto done = std::move(job.done);
        const auto name = host.value;
        jobs_.erase(kernel.id);
        if (done) {
            done(Error{Errc::kExhausted, Certainty::kDidNotHappen, "host " + name + " was lost"});
        }
        return;
    }
    job.calling = true;
    const auto* best = kernel.view.best();
    const auto options = best == nullptr ? replica::KernelOptions{} : best->options;
    calls_.call(
        to_host(host),
        [&, id = replica](std::uint64_t request) {
            return cluster::StartReplica{.request = request,
                                         .kernel = kernel.id,
                                         .replica = id,
                                         .bootstrap = std::nullopt,
                                         .options = options};
        },
        clock_.now(), options_.step_timeout,
        [this, id = kernel.id](const Status& status) {
            const auto found = jobs_.find(id);
            if (found == jobs_.end()) {
                return;
            }
            found->second.calling = false;
            if (status) {
                found->second.step = Step::kChange;
                found->second.problem.clear();
            } else {
                step_failed(id, status.error());
            }
        });
}

void ReplicaReconciler::change(ReplicaGroup& kernel, Job& job) {
    job.calling = true;
    calls_.call(
        [this, id = kernel.id]() -> std::optional<HostId> {
            const auto* found = find(id);
            return found == nullptr ? std::nullopt : found->view.leader();
        },
        [&](std::uint64_t request) {
            return cluster::ChangeMembers{.request = request,
                                          .kernel = kernel.id,
                                          .add = job.add,
                                          .remove = job.remove,
                                          .cell_may_end = job.done != nullptr};
        },
        clock_.now(), options_.step_timeout,
        [this, id = kernel.id](const Status& status) {
            const auto found = jobs_.find(id);
            if (found == jobs_.end()) {
                return;
            }
            found->second.calling = false;
            if (status) {
                finish(id);
            } else {
                step_failed(id, status.error());
            }
        });
}

void ReplicaReconciler::step_failed(KernelId id, const Error& error) {
    auto& job = jobs_.at(id);
    log_warning("gateway", "kernel {}: a replica could not be {}: {}", id.value.str(),
                job.step == Step::kStart ? "started" : "exchanged", error.what);
    job.problem = error.what;
    job.not_before = clock_.now() + options_.retry;
    auto* kernel = find(id);
    const bool give_up =
        error.code == Errc::kTimeout || error.code == Errc::kInvalid || job.step == Step::kStart;
    if (kernel == nullptr || !give_up) {
        return;
    }
    // Look at everything again: what was started and not added is stopped as an orphan.
    const auto done = std::move(job.done);
    jobs_.erase(id);
    if (done) {
        done(Error(error).in("moving a replica"));
    }
}

void ReplicaReconciler::finish(KernelId id) {
    auto job = std::move(jobs_.at(id));
    jobs_.erase(id);
    auto* kernel = find(id);
    if (kernel == nullptr) {
        return;
    }
    log_info("gateway", "kernel {}: its replicas are complete again", id.value.str());
    if (job.remove) {
        const auto host = kernel->view.host_of(*job.remove);
        if (host && hosts_.up(*host)) {
            kernels_.stop_replica(id, *job.remove, *host);
        }
        if (!host || !hosts_.up(*host)) {
            kernel->view.remove(*job.remove);
        }
    }
    if (job.done && job.add) {
        lead(*kernel, job.add->second, std::move(job.done));
    }
}

// A replica that its settled leader does not count as a member: it is stopped when that lasts
// longer than a change takes. One whose host is away is nobody's until it comes back and says so
// again.
void ReplicaReconciler::stop_orphans(ReplicaGroup& kernel) {
    const auto* leader = settled_leader(kernel);
    std::vector<ReplicaId> away;
    for (const auto& [replica, status] : kernel.view.replicas()) {
        const auto key = std::make_pair(kernel.id, replica);
        if (leader->membership.is_member(replica)) {
            orphans_.erase(key);
            continue;
        }
        if (!hosts_.up(status.host)) {
            orphans_.erase(key);
            away.push_back(replica);
            continue;
        }
        const auto since = orphans_.try_emplace(key, clock_.now()).first->second;
        if (clock_.now() - since > options_.orphan_grace) {
            log_info("gateway",
                     "kernel {}: replica {} on {} was removed from its group: stopping it",
                     kernel.id.value.str(), replica.value, status.host.value);
            orphans_[key] = clock_.now();
            kernels_.stop_replica(kernel.id, replica, status.host);
        }
    }
    for (const auto replica : away) {
        kernel.view.remove(replica);
    }
}

void ReplicaReconciler::lead(ReplicaGroup& kernel, const HostId& host, Done done) {
    kernel.view.prefer(host);
    calls_.call(
        to_host(host), [&](std::uint64_t request) { return cluster::Lead{request, kernel.id}; },
        clock_.now(), kLeadTimeout,
        [this, id = kernel.id, host, done = std::move(done)](const Status& status) mutable {
            if (status) {
                leads_.push_back({id, host, clock_.now() + kLeadSeen, std::move(done)});
            } else {
                done(status);
            }
        });
}

// A cell that was sent before the leadership has moved would make it move a second time.
void ReplicaReconciler::watch_leads() {
    for (auto at = leads_.begin(); at != leads_.end();) {
        const auto* kernel = kernels_.find(at->kernel);
        const bool leads = kernel != nullptr && kernel->view.leader() == at->host;
        if (!leads && kernel != nullptr && clock_.now() < at->deadline) {
            ++at;
            continue;
        }
        const auto done = std::move(at->done);
        const auto name = at->host.value;
        at = leads_.erase(at);
        done(leads ? ok()
                   : Status(Error{Errc::kTimeout, Certainty::kUnknown,
                                  "host " + name +
                                      " was asked to lead the kernel and does not "
                                      "lead it yet; see `nbos kernel list`"}));
    }
}

void ReplicaReconciler::migrate(ReplicaGroup& kernel, const std::optional<HostId>& to, Done done) {
    const auto& members = kernel.membership();
    const auto from = kernel.view.executor() ? kernel.view.executor() : kernel.view.leader();
    auto target = to;
    if (!target) {
        for (const auto& [replica, host] : members.hosts) {
            if (members.voters.contains(replica) && host != from && kernel.view.serves(host)) {
                target = host;
                break;
            }
        }
    }
    if (!target) {
        done(Error{Errc::kExhausted, Certainty::kDidNotHappen,
                   "no other host has a replica of this kernel that can serve"});
        return;
    }
    if (!hosts_.up(*target)) {
        done(Error{Errc::kInvalid, Certainty::kDidNotHappen,
                   "host " + target->value + " is not connected"});
        return;
    }
    for (const auto& [replica, host] : members.hosts) {
        if (host == *target && members.voters.contains(replica)) {
            lead(kernel, *target, std::move(done));
            return;
        }
    }
    if (jobs_.contains(kernel.id)) {
        done(Error{Errc::kExhausted, Certainty::kDidNotHappen,
                   "a replica of this kernel is being replaced now; try again in a few seconds"});
        return;
    }
    std::optional<ReplicaId> remove;
    for (const auto& [replica, host] : members.hosts) {
        if (host == from) {
            remove = replica;
        }
    }
    jobs_[kernel.id] = Job{.add = std::make_pair(new_replica(kernel), *target),
                           .remove = remove,
                           .done = std::move(done)};
}

std::string ReplicaReconciler::status(KernelId kernel) const {
    if (const auto found = jobs_.find(kernel); found != jobs_.end()) {
        const auto& job = found->second;
        auto text = job.add ? fmt::format("adding replica {} on {}", job.add->first.value,
                                          job.add->second.value)
                            : std::string("removing a replica");
        return job.problem.empty() ? text : text + "; last try: " + job.problem;
    }
    const auto found = problems_.find(kernel);
    return found == problems_.end() ? std::string() : found->second;
}

}  // namespace nbos::gateway
