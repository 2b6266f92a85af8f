// A whole Raft group in one thread: nodes, disks, network, clocks and faults from one seed.
//
// Same seed, same run. After every event the invariants of raft_invariants.h are checked; once the
// faults are over everything is healed, and the group must come back to life. A run that fails is
// replayed by its seed alone (NBOS_SEEDS=seed:1, and NBOS_TRACE=1 prints every event).
//
// To put an application on the nodes, and invariants and clients of its own beside them, implement
// SimListener and pass it in. Throw Violated from any of its functions to report a violation. Its
// clients act through propose(), read(), call() and call_on(); named tests and faults of its own
// use crash(), pause(), cut() and change_members(), with SimConfig's own faults off.
//
// Units    Milliseconds of simulated time. The simulator never looks at the real clock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ports.h"
#include "raft/node.h"
#include "raft/quiescence.h"
#include "tests/cluster/raft_invariants.h"
#include "tests/cluster/sim_config.h"
#include "tests/cluster/sim_disk.h"
#include "tests/cluster/sim_links.h"

namespace nbos::testing {

class RaftSim;

inline constexpr const char* kQuietInvariant = "a quiet group has equal logs";

class SimListener {
public:
    virtual ~SimListener() = default;
    // A process starts; restore() (if it has a snapshot) and apply() follow. All of the replica's
    // volatile state is new.
    virtual void node_started(RaftSim&, ReplicaId) {}
    virtual void node_crashed(RaftSim&, ReplicaId) {}  // or was stopped for good
    virtual void restore(RaftSim&, ReplicaId, const raft::Snapshot&) = 0;
    virtual void apply(RaftSim&, ReplicaId, const raft::Entry&) = 0;
    virtual Bytes snapshot(RaftSim&, ReplicaId) = 0;  // of all that was applied
    virtual void read_ready(RaftSim&, ReplicaId, std::uint64_t /*context*/, Index) {}
    virtual void read_lost(RaftSim&, ReplicaId, std::uint64_t /*context*/) {}
    virtual void act(RaftSim&) {}                    // every tick_ms: clients, faults of its own
    virtual void healed(RaftSim&) {}                 // from now on all is well; liveness is owed
    virtual void after_step(RaftSim&, ReplicaId) {}  // extra invariants
    virtual void finish(RaftSim&) {}                 // at the end
};

struct Violation {
    std::uint64_t seed = 0;
    std::uint64_t step = 0;
    int time_ms = 0;
    std::string invariant;
    std::string detail;

    std::string str() const;
};

class RaftSim {
public:
    // `on_node` sees every node right after its construction (mutation tests plant there).
    explicit RaftSim(SimConfig config, SimListener* listener = nullptr,
                     std::function<void(raft::Node&)> on_node = {});
    ~RaftSim();

    std::optional<Violation> run();  // faults, healing, calm, liveness
    // Piecewise, for named tests.
    std::optional<Violation> run_for(int ms);
    std::optional<Violation> run_until(const std::function<bool()>& done, int ms_max);
    void heal();  // everybody runs and hears everybody; SimConfig's faults end

    const SimConfig& config() const { return config_; }
    int now() const { return static_cast<int>(now_); }
    Rng& rng() { return rng_; }
    RaftInvariants& invariants() { return invariants_; }
    bool healing() const { return healed_; }
    std::uint64_t messages_sent() const { return messages_sent_; }
    std::uint64_t sleeps() const { return sleeps_; }  // times that a leader became quiet

    std::vector<ReplicaId> replicas() const;  // that ever were
    raft::Node* node(ReplicaId id);           // nullptr: down. Use poke() after changing it
    bool is_up(ReplicaId id) const;
    bool is_paused(ReplicaId id) const;
    bool is_gone(ReplicaId id) const;  // wiped: its disk is lost
    bool connected(ReplicaId from, ReplicaId to) const;
    bool is_quiet(ReplicaId id) const;
    bool is_asleep() const;    // the whole group
    ReplicaId leader() const;  // of the highest term that has one up; 0: none

    std::optional<raft::ProposalId> propose(ReplicaId id, Bytes command);
    void read(ReplicaId id, std::uint64_t context);
    void compact(ReplicaId id);  // at what it has applied
    void poke(ReplicaId id);     // does what the node has to do

    void call(int delay_ms, std::function<void()> what);
    // Only if the same process is still alive then; waits while it is paused.
    void call_on(ReplicaId id, int delay_ms, std::function<void()> what);

    // Faults.
    ReplicaId add_replica();  // a new host with an empty disk, nobody's member yet
    void crash(ReplicaId id, std::optional<int> restart_after_ms);
    void restart(ReplicaId id);
    void wipe(ReplicaId id);  // crash, and its disk is lost: it never returns
    void pause(ReplicaId id, int ms);
    void cut(ReplicaId from, ReplicaId to, int ms);  // one direction
    void isolate(ReplicaId id, int ms);
    bool change_members(ReplicaId leader);  // to a random legal next configuration
    bool can_lose(ReplicaId id) const;      // a majority everywhere survives it

private:
    enum class Kind : std::uint8_t { kDeliver, kTick, kDisk, kDrain, kCall };
    struct Event {
        std::int64_t at;
        std::uint64_t order;
        Kind kind;
        ReplicaId target;
        std::uint64_t process;  // 0: any
        std::shared_ptr<const raft::Message> message;
        std::function<void()> call;
        bool operator<(const Event& other) const {  // the heap's top is the next one
            return at != other.at ? at > other.at : order > other.order;
        }
    };
    struct Replica {
        ReplicaId id;
        SimDisk disk;
        std::unique_ptr<raft::Node> node;
        std::optional<raft::Quiescence> quiescence;  // this and the links: of the present process
        raft::HostLinks links;
        std::uint64_t process = 0;  // counts over all replicas; a new one at each start
        bool gone = false;
        bool draining = false;
        int tick_ms = 10;
        int write_ms_max = 2;
        std::int64_t slow_until = 0;
        std::int64_t paused_until = 0;
        std::int64_t last_write_at = 0;
        std::uint64_t state = 0;  // of the built-in application: a hash of all it applied
        std::map<std::uint64_t, Index> reads;    // context -> what was committed when asked
        std::vector<raft::ProposalId> accepted;  // by this process
        Term led;                                // the last term it was seen to lead
        bool was_quiet = false;
    };
    struct StoredState {
        Index index;
        Bytes state;
    };

    // raft_sim.cc
    Replica& at(ReplicaId id);
    const Replica& at(ReplicaId id) const;
    void push(Event event);
    void process(Event event);
    std::optional<Violation> run_until_live();
    std::optional<Violation> guarded(const std::function<void()>& what);
    bool step();
    void start(Replica& r);
    void after_input(Replica& r);
    void drain(Replica& r);
    void take(Replica& r, raft::Output out);
    void apply(Replica& r, const raft::Entry& entry);
    void write(Replica& r, DiskWrite w);
    void disk_done(Replica& r);
    void send(const raft::Message& m);
    void transmit(const raft::Message& m, int extra_ms);
    void compact_at(Replica& r, Index index, Bytes state);
    Bytes state_of(Replica& r);
    void refresh_views();
    std::optional<Violated> not_live() const;
    std::optional<Violated> not_live(const Replica& r, const raft::Node& leading) const;
    void trace(const std::string& line) const;

    // raft_sim_quiet.cc
    static HostId host_of(ReplicaId id);
    void watch_links();
    void tell_link(ReplicaId id, ReplicaId peer, std::optional<std::uint64_t> process);
    void tell_death(ReplicaId dead);
    bool may_sleep() const;
    std::optional<Violation> disturb_sleep();
    void check_quiet(Replica& r);

    // raft_sim_faults.cc
    void schedule_faults();
    void every(int mean_ms, std::function<void()> what);
    Replica* pick_up();
    void random_proposal();
    void random_read();
    void random_crash();
    void random_partition();
    void random_compaction();
    void random_wipe();
    void power_loss();
    ReplicaId spare_learner();

    SimConfig config_;
    SimListener* listener_;
    std::function<void(raft::Node&)> on_node_;
    Rng rng_;
    RaftInvariants invariants_;
    std::map<ReplicaId, Replica> replicas_;
    std::vector<Event> events_;  // a heap
    std::int64_t now_ = 0;
    std::uint64_t order_ = 0;
    std::uint64_t steps_ = 0;
    std::uint64_t processes_ = 0;
    std::uint64_t messages_sent_ = 0;
    std::uint64_t reads_ = 0;
    std::uint64_t sleeps_ = 0;
    std::optional<SimLinks> links_;
    bool healed_ = false;
    bool tracing_ = false;
    bool views_stale_ = true;
    std::map<std::pair<ReplicaId, ReplicaId>, std::int64_t> cut_until_;
    std::map<std::pair<ReplicaId, ReplicaId>, std::int64_t> last_delivery_;
};

}  // namespace nbos::testing
