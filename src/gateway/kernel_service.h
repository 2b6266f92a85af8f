// The kernels of the cluster: creating, finding, interrupting, restarting and ending them.
//
// The truth about a kernel is in its group. This table is rebuilt from what agents report, so a
// gateway may be restarted at any time; the names it saved keep a kernel from being forgotten while
// all its hosts are away.
//
// Threads  The loop thread; tick() drives everything that waits.
// Errors   A failed create leaves nothing behind that is not stopped again.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ports.h"
#include "base/result.h"
#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "gateway/kernel_channels.h"
#include "gateway/kernel_view.h"
#include "gateway/kernelspecs.h"
#include "gateway/ports.h"
#include "gateway/rpc_calls.h"
#include "gateway/session_table.h"
#include "policy/placement.h"

namespace nbos::gateway {

struct Kernel {
    Kernel(KernelChannels::Shared& shared, const HostTable& hosts, KernelId kernel_id,
           std::string spec_name, const std::string& session)
        : id(kernel_id),
          spec(std::move(spec_name)),
          view(hosts),
          channels(shared, view, kernel_id, spec, session) {}

    KernelId id;
    std::string spec;
    Instant created{};
    Membership first;  // the members it was created with; empty when it was found
    std::string why;   // of its placement
    KernelView view;
    KernelChannels channels;
    std::vector<KernelActions::Done> restarts;  // who waits for the restart under way
    std::uint64_t restart_call = 0;
    Instant restart_asked{};
    std::optional<Parked> parked;  // shut down: its replicas stay, nobody sees it
    std::map<ReplicaId, std::string> start_failures;

    bool reported() const { return !view.replicas().empty(); }
    // The members that the group has, as far as is known; `first` before any report.
    const Membership& membership() const;
    std::string execution_state() const;
    std::string reason() const;  // why it is dead, or why it waits; empty when all is well
    std::size_t hosts_away() const;
    bool lacks_majority() const { return hosts_away() * 2 >= membership().voters.size(); }
};

struct KernelRequest {
    std::optional<KernelId> id;
    std::string spec;
    std::string cwd;
    std::string username;
    std::map<std::string, std::string> env;
    std::uint32_t replicas = 0;         // 0: the gateway's default
    std::uint32_t silence_grace_s = 0;  // likewise
};

struct KernelServiceOptions {
    std::uint32_t replicas = 3;
    std::chrono::milliseconds start_timeout{60'000};
    std::chrono::milliseconds restart_timeout{38'000};  // clients of gateways give up after 42 s
    std::chrono::milliseconds interrupt_timeout{10'000};
    std::chrono::milliseconds majority_wait{8'000};  // of a restart, for hosts that are away
    std::chrono::seconds parked_for{24 * 3600};      // 0: what is shut down is deleted at once
    OutputLimits outputs;
    std::size_t parked_max = 32;                        // above it the one that would go first goes
    std::chrono::milliseconds recall_timeout{600'000};  // a majority may be away
    std::chrono::milliseconds silence_ignored{3'000};   // by placement
    std::chrono::milliseconds unreported_for{10'000};   // then a saved kernel that no host has goes
};

class KernelService final : public KernelActions {
public:
    struct Ports {
        const Clock& clock;
        const HostTable& hosts;
        AgentLink& link;
        RpcCalls& calls;
        const jupyter::MessageFactory& factory;
        const Kernelspecs& specs;
        const policy::PlacementPolicy& placement;
        std::function<void()> changed;  // what is saved has changed
    };

    KernelService(Ports ports, KernelServiceOptions options);

    // An id that exists already is not an error: a create may be asked for again. kNotFound: no
    // such kernelspec; kExhausted: too few hosts; both with a sentence for the user.
    Result<Kernel*> create(const KernelRequest& request);
    Kernel* find(KernelId id);       // a parked one, too
    Kernel* find_open(KernelId id);  // as clients see it: nullptr when it is parked
    Kernel* find_parked(const std::string& path);
    std::map<KernelId, std::unique_ptr<Kernel>>& all() { return kernels_; }
    // Saved by an earlier gateway.
    void remember(KernelId id, const std::string& spec, std::optional<Parked> parked);
    void remember_deleted(KernelId id) { deleted_.insert(id); }
    const std::set<KernelId>& deleted() const { return deleted_; }

    void interrupt(KernelId kernel, Done done) override;
    void restart(KernelId kernel, Done done) override;
    // Out of sight, its clients closed, what it runs interrupted; deleted when its time is over.
    // `path`: of the notebook that may take it up again without knowing its id.
    void park(KernelId kernel, const std::string& path) override;
    void revive(Kernel& kernel);
    void shut_down(KernelId kernel);  // for good
    void recall(KernelId kernel, const std::string& session) override;
    void stop_replica(KernelId kernel, ReplicaId replica, const HostId& host);

    void status(const cluster::KernelStatus& status);
    void gone(const cluster::ReplicaGone& gone);
    // It says all that it has from here on: a replica that it does not name any more is not there.
    void host_begins_to_report(const HostId& host);
    // `settled`: every host has reported, so what nobody has does not exist.
    void tick(bool settled);

    std::vector<policy::HostView> host_views() const;
    const KernelServiceOptions& options() const { return options_; }

private:
    void start_replicas(Kernel& kernel, const replica::KernelOptions& options);
    void replica_not_started(KernelId kernel, ReplicaId replica, const std::string& why);
    void restarted(KernelId kernel, const std::string& session, const Status& status);
    Kernel& add(KernelId id, const std::string& spec, const std::string& session);
    void forget_unreported();
    void delete_expired();
    void give_up_restarts();
    void answer_restarts(Kernel& kernel, const Status& status);

    Ports ports_;
    KernelServiceOptions options_;
    std::map<std::string, std::string> infos_;
    KernelChannels::Shared shared_;
    std::map<KernelId, std::unique_ptr<Kernel>> kernels_;
    std::set<KernelId> deleted_;
    // Replaced in tick(): a kernel may be ended from inside one of its own calls.
    std::vector<std::unique_ptr<Kernel>> ended_;
    std::optional<Instant> settled_since_;
};

}  // namespace nbos::gateway
