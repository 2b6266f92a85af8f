// The kernels of the cluster: creating, finding, interrupting, restarting and ending them.
//
// The truth about a kernel is in its group. Which kernels there should be is in the shared tables
// (gateway/system_table.h), so that any gateway serves them: what a client asks for is written
// there first, takes effect here when its row comes, as on every other gateway, and is answered
// then. A kernel that hosts report and that has no row gets one after a while.
//
// Threads  The loop thread; tick() drives everything that waits.
// Errors   A failed create leaves nothing behind that is not stopped again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
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
#include "gateway/replica_group.h"
#include "gateway/rpc_calls.h"
#include "gateway/system_table.h"
#include "gateway/table_rows.h"
#include "policy/placement.h"

namespace nbos::gateway {

struct Parked {                         // shut down: it can still be taken up again
    std::chrono::microseconds until{};  // wall clock; then it is deleted
    std::string path;  // of the notebook that takes it up again; empty: only who knows its id
};

struct Kernel : ReplicaGroup {
    Kernel(KernelChannels::Shared& shared, const HostTable& hosts, KernelId kernel_id,
           std::string spec_name, const std::string& session)
        : ReplicaGroup(kernel_id, hosts),
          spec(std::move(spec_name)),
          channels(shared, view, kernel_id, spec, session) {}

    std::string spec;
    std::string why;  // of its placement
    KernelChannels channels;
    std::vector<KernelActions::Done> restarts;  // who waits for the restart under way
    std::uint64_t restart_call = 0;
    Instant restart_asked{};
    std::optional<Parked> parked;  // shut down: its replicas stay, nobody sees it
    // Cells of the time before it was shut down, which may still run or wait: nobody waits for
    // them.
    std::vector<cluster::CellId> leaving;
    bool being_quieted = false;
    std::uint64_t quieten_call = 0;
    Instant taken_up{};
    Instant quieten_again{};
    std::map<ReplicaId, std::string> start_failures;
    std::size_t starts_pending = 0;  // of its first replicas, from here
    Instant started_again{};

    // As its row says; see KernelRow.
    bool has_row = false;
    std::optional<KernelRow::Start> start;
    bool row_is_written = false;  // by this gateway, on its own account; not answered yet

    std::string execution_state() const;
    std::string reason() const;  // why it is dead, or why it waits; empty when all is well
    Error no_majority(Certainty certainty, std::string_view what_now) const;
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
    std::chrono::milliseconds catch_up_timeout{3'000};  // of a client that came in mid-cell
    std::chrono::milliseconds silence_ignored{3'000};   // by placement
    std::chrono::milliseconds rowless_for{5'000};       // then a kernel that hosts have gets a row
    std::chrono::milliseconds quieten_pause{1'000};  // between two tries to end what nobody wants
    std::chrono::milliseconds start_again{3'000};    // what another gateway began to start
    std::chrono::hours deleted_for{7 * 24};          // an id is not forgotten before
    std::size_t deleted_max = 10'000;
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
        SystemTable& table;
        // Rows to erase with a kernel that is shut down: its sessions.
        std::function<std::vector<replica::TableChange>(KernelId)> belongings;
        std::function<bool()> together;  // another gateway is or was there
    };
    using Created = std::function<void(Result<Kernel*>)>;

    KernelService(Ports ports, KernelServiceOptions options);

    // An id that exists already is not an error: a create may be asked for again. kNotFound: no
    // such kernelspec; kExhausted: too few hosts; both with a sentence for the user.
    void create(const KernelRequest& request, Created done);
    Kernel* find(KernelId id);       // a parked one, too
    Kernel* find_open(KernelId id);  // as clients see it: nullptr when it is parked
    Kernel* find_parked(const std::string& path);
    std::map<KernelId, std::unique_ptr<Kernel>>& all() { return kernels_; }
    bool none_reported() const;
    // A row of the tables is another one now, or gone.
    void row_changed(KernelId id);

    void interrupt(KernelId kernel, Done done) override;
    void restart(KernelId kernel, Done done) override;
    // Out of sight, its clients closed, what it runs interrupted; deleted when its time is over.
    // `path`: of the notebook that may take it up again without knowing its id. `done` comes before
    // its clients are closed.
    void park(KernelId kernel, const std::string& path, Done done) override;
    void revive(KernelId kernel, Done done);
    void shut_down(KernelId kernel, Done done);  // for good
    void recall(KernelId kernel, const std::string& session, Done caught_up) override;
    void stop_replica(KernelId kernel, ReplicaId replica, const HostId& host);

    void status(const cluster::KernelStatus& status);
    void gone(const cluster::ReplicaGone& gone);
    // It says all that it has from here on: a replica that it does not name any more is not there.
    void host_begins_to_report(const HostId& host);
    // `acts`: what is one gateway's work at a time is this one's.
    void tick(bool acts);

    std::vector<policy::HostView> host_views() const;
    const KernelServiceOptions& options() const { return options_; }

private:
    struct Leaving {  // a kernel that is being shut down
        KernelId kernel;
        std::uint64_t number = 0;
        bool for_good = false;
        Done done;
    };
    using Edit = std::function<bool(KernelRow& row)>;  // false: there is nothing to change

    void place(const KernelRequest& request, KernelId id, Created done);
    void created(KernelId id, const std::string& why, Created done);
    void create_failed(KernelId id, bool chosen, Error error, const Created& done);
    void start_replicas(Kernel& kernel, const std::map<ReplicaId, HostId>& which,
                        const KernelRow::Start& start);
    void replica_not_started(KernelId kernel, ReplicaId replica, const std::string& why);
    void restarted(KernelId kernel, const std::string& session, const Status& status);
    Kernel& add(KernelId id, const std::string& spec, const std::string& session);
    void give_up_restarts();
    std::uint64_t call_interrupt(KernelId id, std::vector<cluster::CellId> cells, bool leaving,
                                 Done done);
    void quieten(Kernel& kernel);
    void answer_restarts(Kernel& kernel, const Status& status);
    void undo_create(KernelId id);
    void try_undo_again();
    std::string why_cells_wait(const Kernel& kernel) const;
    bool old_ones_are_over(const Kernel& kernel) const;

    // ---- kernel_rows.cc ----
    enum class With : std::uint8_t { kNothing, kItsSessionsErased };
    void edit_row(KernelId id, Edit edit, With with, Done done, int tries);
    void leave(KernelId id, bool for_good, Edit edit, Done done);
    void take_open(KernelId id, const KernelRow& row);
    void take_parked(KernelId id, const KernelRow& row);
    void take_deleted(KernelId id, const KernelRow& row);
    void answer_leaving(KernelId id, bool for_good);
    void look_after();
    void look_after(Kernel& kernel);
    void write_own(Kernel& kernel, Edit edit);
    void start_again(Kernel& kernel);
    void delete_expired();
    void forget_deleted();

    Ports ports_;
    KernelServiceOptions options_;
    std::map<std::string, std::string> infos_;
    KernelChannels::Shared shared_;
    std::map<KernelId, std::unique_ptr<Kernel>> kernels_;
    std::map<KernelId, std::chrono::microseconds> deleted_;  // and when
    std::map<KernelId, Membership> placing_;                 // created, with no row yet
    std::set<KernelId> to_undo_;  // nobody was told of them, and their rows may be written yet
    Instant undo_again_{};
    std::list<Leaving> leaving_;
    std::uint64_t last_leaving_ = 0;
    std::set<KernelId> expiring_;  // their deletion is being written
    Instant looked_at_{};
    Instant forgot_at_{};
    // Replaced in tick(): a kernel may be ended from inside one of its own calls.
    std::vector<std::unique_ptr<Kernel>> ended_;
};

}  // namespace nbos::gateway
