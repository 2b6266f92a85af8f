#include "cli/bench_raft_host.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>

#include "base/log.h"
#include "cli/bench_processes.h"
#include "io/event_loop.h"
#include "io/peer_transport.h"
#include "io/wal.h"
#include "raft/group_host.h"

namespace nbos::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kTick = 50ms;
constexpr raft::Options kRaft{.election_ticks = 20, .heartbeat_ticks = 2};  // as agents have it
constexpr auto kWarmUp = 500ms;
constexpr std::uint32_t kHosts = 3;
constexpr std::size_t kLogBytes = 256U << 20U;  // of all groups, before they compact

HostId host_id(std::uint32_t number) { return HostId{fmt::format("host-{}", number)}; }
GroupId group_id(std::uint32_t number) { return GroupId{Uuid{0xB, number}}; }

class Host : public raft::PeerLink, public raft::GroupListener {
public:
    explicit Host(const BenchHost& given)
        : given_(given), payload_(std::string(given.bytes, 'x')), self_(host_id(given.number)) {}

    int run();

    void send(const HostId& to, Bytes frame) override {
        transport_->send(to, io::FrameKind::kRaft, std::move(frame));
    }
    void send_bulk(const HostId& to, Bytes frame) override {
        transport_->send(to, io::FrameKind::kRaftBulk, std::move(frame));
    }
    void restore(GroupId, const raft::Snapshot&) override {}
    void apply(GroupId group, const raft::Entry& entry) override;
    void role_changed(GroupId group) override;
    void read_ready(GroupId, std::uint64_t, Index) override {}
    void read_lost(GroupId, std::uint64_t) override {}

private:
    struct Waiting {
        raft::ProposalId id;
        Instant since;
    };

    bool leads(std::uint32_t group) const { return group % kHosts + 1 == given_.number; }
    void create_groups();
    void tick();
    void watch_parent();
    void start_load();
    void propose(GroupId group);
    void report();

    const BenchHost& given_;
    const Bytes payload_;
    const HostId self_;
    io::EventLoop loop_;
    std::unique_ptr<io::Wal> wal_;
    std::unique_ptr<io::PeerTransport> transport_;
    std::optional<raft::GroupHost> groups_;
    bool created_ = false;
    bool ready_ = false;
    bool loading_ = false;
    Instant measure_from_{};
    Instant measure_to_{};
    std::unordered_map<GroupId, std::deque<Waiting>> waiting_;
    std::vector<std::uint32_t> samples_;
};

int Host::run() {
    auto opened = io::Wal::open(loop_, {.directory = given_.directory});
    if (!opened) {
        log_error("bench", "{}", opened.error().what);
        return 1;
    }
    wal_ = std::move(opened->wal);
    groups_.emplace(self_, kRaft, *wal_, *this, *this, given_.number);
    auto transport = io::PeerTransport::open(
        loop_, {.self = self_, .tls = given_.tls, .listen = given_.addresses.at(self_)},
        [this](const HostId& from, io::FrameKind, std::string_view frame) {
            groups_->receive(from, frame);
            groups_->flush();
        },
        [this](const HostId&, io::PeerState) {
            const bool all = std::all_of(
                given_.addresses.begin(), given_.addresses.end(), [this](const auto& peer) {
                    return peer.first == self_ || transport_->connected(peer.first);
                });
            if (all && !created_) {
                created_ = true;
                create_groups();
            }
        });
    if (!transport) {
        log_error("bench", "{}", transport.error().what);
        return 1;
    }
    transport_ = *std::move(transport);
    transport_->set_peers(given_.addresses);
    tick();
    watch_parent();
    loop_.run();
    return 0;
}

void Host::create_groups() {
    Membership members;
    for (std::uint32_t n = 1; n <= kHosts; ++n) {
        members.voters.insert(ReplicaId{n});
        members.hosts[ReplicaId{n}] = host_id(n);
    }
    for (std::uint32_t g = 0; g < given_.groups; ++g) {
        if (!groups_->create(group_id(g), ReplicaId{given_.number}, members)) {
            loop_.stop();
        }
    }
    groups_->flush();
}

void Host::tick() {
    groups_->tick();
    bool ready = created_;
    for (std::uint32_t g = 0; g < given_.groups && created_; ++g) {
        auto* node = groups_->find(group_id(g));
        if (leads(g) && node->role() != raft::Role::kLeader) {
            ready = false;
            if (node->role() == raft::Role::kFollower) {
                if (node->leader().value != 0) {
                    node->transfer_leadership(node->self());
                } else {
                    node->campaign();
                }
            }
        }
    }
    groups_->flush();
    if (ready && !ready_) {
        ready_ = true;
        write_all(given_.to_parent, "r", 1);
    }
    loop_.after(kTick, [this] { tick(); });
}

void Host::watch_parent() {
    char byte = 0;
    const ssize_t got = read(given_.from_parent, &byte, 1);
    if (got == 0) {
        loop_.stop();
        return;
    }
    if (got == 1) {
        start_load();
    }
    loop_.after(20ms, [this] { watch_parent(); });
}

void Host::start_load() {
    loading_ = true;
    measure_from_ = loop_.clock().now() + kWarmUp;
    measure_to_ = measure_from_ + std::chrono::seconds(given_.seconds);
    for (std::uint32_t g = 0; g < given_.groups; ++g) {
        for (std::uint32_t n = 0; leads(g) && n < given_.depth; ++n) {
            propose(group_id(g));
        }
    }
    groups_->flush();
    loop_.after(measure_to_ - loop_.clock().now(), [this] { report(); });
}

void Host::propose(GroupId group) {
    auto* node = groups_->find(group);
    const auto id = node->propose(payload_);
    if (id) {
        waiting_[group].push_back({*id, loop_.clock().now()});
    }
}

void Host::apply(GroupId group, const raft::Entry& entry) {
    auto& waiting = waiting_[group];
    if (!waiting.empty() && waiting.front().id == entry.proposal) {
        const Instant now = loop_.clock().now();
        if (now >= measure_from_ && now < measure_to_) {
            const auto took = (now - waiting.front().since).count() / 10'000;
            samples_.push_back(static_cast<std::uint32_t>(took));
        }
        waiting.pop_front();
        if (loading_) {
            propose(group);
        }
    }
    if (groups_->find(group)->log_bytes() > kLogBytes / given_.groups + given_.bytes) {
        groups_->compact(group, Bytes::copy("applied"), 0);
    }
}

// A leader that was lost takes its proposals along: the load goes on with new ones.
void Host::role_changed(GroupId group) {
    const auto* node = groups_->find(group);
    if (loading_ && node != nullptr && node->role() != raft::Role::kLeader) {
        log_warning("bench", "group {} lost its leader; the numbers include that", group.value.lo);
    }
}

void Host::report() {
    loading_ = false;
    const int flags = fcntl(given_.to_parent, F_GETFL);
    fcntl(given_.to_parent, F_SETFL, flags & ~O_NONBLOCK);
    const std::uint64_t count = samples_.size();
    write_all(given_.to_parent, &count, sizeof count);
    write_all(given_.to_parent, samples_.data(), count * sizeof(std::uint32_t));
}

}  // namespace

int run_bench_host(const BenchHost& host) {
    set_log_name(fmt::format("bench host-{}", host.number));
    set_log_level(LogLevel::kWarning);
    fcntl(host.from_parent, F_SETFL, O_NONBLOCK);
    return Host(host).run();
}

}  // namespace nbos::cli
