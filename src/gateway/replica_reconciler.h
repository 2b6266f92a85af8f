// Keeps every kernel, and the system group, at its number of replicas: replaces those whose host is
// gone. "Kernel" here is either.
//
// One change at a time per kernel, each in steps that may be repeated: start the new replica on a
// spare host, let the leader add it and remove the lost one, stop what is left over. A replica that
// no longer belongs to its group is stopped when its host comes back.
//
// Time     tick() looks at everything; nothing happens between ticks.
// Errors   A failed step is tried again after a pause; problem() says what stands in the way.
#pragma once

#include <chrono>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/ports.h"
#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "gateway/kernel_service.h"
#include "gateway/rpc_calls.h"
#include "gateway/system_group.h"
#include "policy/placement.h"

namespace nbos::gateway {

struct ReconcilerOptions {
    std::chrono::milliseconds refused_grace{1'000};  // its process is gone; it may be restarting
    std::chrono::milliseconds silent_grace{5'000};
    // A silent replica that runs a cell keeps it for this (or what its kernel asked for), and is
    // not replaced before; a little more than its group waits.
    std::chrono::milliseconds executor_grace{30'000};
    std::chrono::milliseconds executor_margin{5'000};
    std::chrono::milliseconds missing_grace{10'000};  // connected, and without the replica
    std::chrono::milliseconds orphan_grace{10'000};
    std::chrono::milliseconds learner_grace{62'000};  // of another gateway's, which may be at work
    std::chrono::milliseconds retry{2'000};
    std::chrono::milliseconds step_timeout{60'000};
};

class ReplicaReconciler {
public:
    using Done = std::function<void(Status)>;

    // `self`: this gateway's id.
    ReplicaReconciler(const Clock& clock, const HostTable& hosts, RpcCalls& calls,
                      KernelService& kernels, SystemGroup& system,
                      const policy::PlacementPolicy& placement, ReconcilerOptions options,
                      std::string self)
        : clock_(clock),
          hosts_(hosts),
          calls_(calls),
          kernels_(kernels),
          system_(system),
          placement_(placement),
          options_(options),
          self_(std::move(self)) {}

    // Not before the agents have reported: a missing report is no missing replica. `acts`: repairs
    // are this gateway's work; else it only goes on with what it has begun.
    void tick(bool acts);

    // Makes `to` the kernel's next executor; moves a replica there first when it has none. Empty
    // `to`: another host that has one. `done` once it leads.
    void migrate(ReplicaGroup& kernel, const std::optional<HostId>& to, Done done);

    // What goes on with a kernel's replicas, or stands in the way; empty when all is well.
    std::string status(KernelId kernel) const;

private:
    enum class Step : std::uint8_t { kStart, kChange };
    struct Job {
        Step step = Step::kStart;
        std::optional<std::pair<ReplicaId, HostId>> add;
        std::optional<ReplicaId> remove;
        bool calling = false;
        Instant not_before{};
        std::string problem;
        Done done;  // of a migration
    };

    ReplicaGroup* find(KernelId id);
    std::size_t wanted(const cluster::KernelStatus& leader) const;
    void reconcile(ReplicaGroup& kernel, bool acts);
    std::optional<Job> needed(ReplicaGroup& kernel, const cluster::KernelStatus& leader);
    std::optional<Job> learners_job(const ReplicaGroup& kernel,
                                    const cluster::KernelStatus& leader);
    std::optional<ReplicaId> surplus(const cluster::KernelStatus& leader) const;
    void advance(ReplicaGroup& kernel, Job& job);
    void start(ReplicaGroup& kernel, Job& job);
    void change(ReplicaGroup& kernel, Job& job);
    void finish(KernelId kernel);
    void step_failed(KernelId kernel, const Error& error);
    void stop_orphans(ReplicaGroup& kernel);
    void lead(ReplicaGroup& kernel, const HostId& host, Done done);
    void watch_leads();
    std::optional<ReplicaId> lost_voter(const ReplicaGroup& kernel) const;
    bool is_lost(const ReplicaGroup& kernel, ReplicaId replica, const HostId& host) const;
    std::chrono::milliseconds silent_grace(const ReplicaGroup& kernel, ReplicaId replica) const;
    Result<HostId> spare_host(const ReplicaGroup& kernel) const;
    ReplicaId new_replica(const ReplicaGroup& kernel) const;

    const Clock& clock_;
    const HostTable& hosts_;
    RpcCalls& calls_;
    KernelService& kernels_;
    SystemGroup& system_;
    const policy::PlacementPolicy& placement_;
    ReconcilerOptions options_;
    const std::string self_;
    struct Lead {  // asked for; not seen yet
        KernelId kernel;
        HostId host;
        Instant deadline{};
        Done done;
    };
    std::map<KernelId, Job> jobs_;
    std::list<Lead> leads_;
    std::map<KernelId, std::string> problems_;  // without a job: nothing can be done now
    std::map<std::pair<KernelId, ReplicaId>, Instant> orphans_;
    std::map<std::pair<KernelId, ReplicaId>, Instant> learners_;
};

}  // namespace nbos::gateway
