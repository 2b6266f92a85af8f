#include "agent/agent.h"

#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"

namespace nbos::agent {

Agent::Agent(AgentOptions options, raft::LogStore& store, raft::PeerLink& link,
             Interpreters& interpreters, GatewayLink& gateways)
    : options_(std::move(options)),
      interpreters_(interpreters),
      gateways_(gateways),
      groups_(options_.host, options_.raft, store, link, *this, options_.seed) {}

Agent::~Agent() = default;

void Agent::restore(std::vector<raft::RestoredGroup> groups) {
    for (auto& group : groups) {
        const auto kernel = KernelId{group.group.value};
        const auto self = group.self;
        groups_.restore(std::move(group));
        add(kernel, self);
    }
    groups_.flush();
}

KernelReplica& Agent::add(KernelId kernel, ReplicaId self) {
    auto replica = std::make_unique<KernelReplica>(
        kernel, self, KernelReplica::Ports{options_.host, groups_, interpreters_, gateways_, *this},
        options_.replica);
    restless_.insert(kernel);
    replica->set_time(now_);
    return *(replicas_[kernel] = std::move(replica));
}

KernelReplica* Agent::find(KernelId kernel) {
    const auto found = replicas_.find(kernel);
    // A group that broke an invariant has stopped: its replica is dropped at the next tick.
    const bool runs = found != replicas_.end() && groups_.contains(GroupId{kernel.value});
    if (!runs) {
        return nullptr;
    }
    if (restless_.insert(kernel).second) {
        found->second->set_time(now_);  // it has slept for a while
    }
    return found->second.get();
}

void Agent::drop_stopped() {
    if (groups_.size() == replicas_.size()) {
        return;
    }
    std::erase_if(replicas_, [this](const auto& entry) {
        if (groups_.contains(GroupId{entry.first.value})) {
            return false;
        }
        entry.second->stop();
        gateways_.send(cluster::ReplicaGone{entry.first, entry.second->self()});
        return true;
    });
}

KernelReplica* Agent::owner(InterpreterId id) {
    for (const auto& [kernel, replica] : replicas_) {
        if (replica->interpreter() == id) {
            return find(kernel);
        }
    }
    return nullptr;  // discarded meanwhile
}

// ---- gateways ----

void Agent::receive_rpc(std::string_view bytes) {
    const auto rpc = cluster::decode_rpc(bytes);
    if (!rpc) {
        log_warning("agent", "a malformed message of {} bytes from a gateway was dropped",
                    bytes.size());
        return;
    }
    std::visit(
        [this](const auto& message) {
            if constexpr (requires { handle(message); }) {
                handle(message);
            } else if constexpr (requires(KernelReplica& r) { r.handle(message); }) {
                route(message);
            }
        },
        *rpc);
    groups_.flush();
}

void Agent::handle(const cluster::Hello&) {
    drop_stopped();
    gateways_.send(options_.info);
    for (const auto& [kernel, replica] : replicas_) {
        replica->report();
    }
}

void Agent::handle(const cluster::HostDirectory& message) {
    gateways_.hosts_known(message.addresses);
}

void Agent::handle(const cluster::StartReplica& request) {
    auto* replica = find(request.kernel);
    if (replica != nullptr && replica->self() != request.replica) {
        refuse(request.request, Errc::kInvalid, "another replica of this kernel is on this host");
        return;
    }
    if (replica == nullptr) {
        const auto created =
            groups_.create(GroupId{request.kernel.value}, request.replica, request.bootstrap);
        if (!created) {
            refuse(request.request, created.error().code, created.error().what);
            return;
        }
        replica = &add(request.kernel, request.replica);
        if (request.bootstrap) {
            replica->configure(request.options);
        }
    }
    gateways_.send(cluster::Reply{.request = request.request});
}

void Agent::handle(const cluster::StopReplica& request) {
    auto* replica = find(request.kernel);
    if (replica != nullptr && replica->self() == request.replica) {
        replica->stop();
        replicas_.erase(request.kernel);
        groups_.remove(GroupId{request.kernel.value});
        gateways_.send(cluster::ReplicaGone{request.kernel, request.replica});
    }
    gateways_.send(cluster::Reply{.request = request.request});
}

template <class Request>
void Agent::route(const Request& request) {
    if (auto* replica = find(request.kernel)) {
        replica->handle(request);
        return;
    }
    if constexpr (requires { request.request; }) {
        refuse(request.request, Errc::kNotFound, "this host has no replica of the kernel");
    }
}

void Agent::refuse(std::uint64_t request, Errc code, std::string what) {
    gateways_.send(
        cluster::Reply{.request = request, .ok = false, .code = code, .what = std::move(what)});
}

// ---- peers and time ----

void Agent::receive_raft(const HostId& from, std::string_view frame) {
    groups_.receive(from, frame);
    groups_.flush();
}

void Agent::watch(const HostId& host, State state) {
    auto& watched = hosts_[host];
    if (watched.state != state) {
        watched = {.state = state, .since = now_};
    }
}

void Agent::peer_up(const HostId& peer, std::uint64_t incarnation) {
    watch(peer, State::kAlive);
    groups_.host_is_up(peer, incarnation);
    groups_.flush();
}

void Agent::peer_down(const HostId& peer) {
    if (state(peer) != State::kDead) {  // a proof is not taken back by a lost connection
        watch(peer, State::kSilent);
    }
    groups_.host_is_down(peer);
    groups_.flush();
}

void Agent::peer_is_dead(const HostId& peer) {
    if (state(peer) == State::kDead) {
        return;
    }
    watch(peer, State::kDead);
    groups_.host_is_dead(peer);
    drop_stopped();
    tick_replicas();  // whose executor was there, at once
    groups_.flush();
}

HostWatch::State Agent::state(const HostId& host) const {
    const auto found = hosts_.find(host);
    return found == hosts_.end() ? State::kAlive : found->second.state;
}

Instant Agent::since(const HostId& host) const {
    const auto found = hosts_.find(host);
    return found == hosts_.end() ? Instant{0} : found->second.since;
}

void Agent::tick(Instant now) {
    now_ = now;
    groups_.tick();
    groups_.flush();
    drop_stopped();
    tick_replicas();
    groups_.flush();
}

// A replica that nothing has happened to, and that waits for nothing, costs nothing.
void Agent::tick_replicas() {
    for (const auto kernel : std::vector<KernelId>(restless_.begin(), restless_.end())) {
        const auto found = replicas_.find(kernel);
        const bool runs = found != replicas_.end() && groups_.contains(GroupId{kernel.value});
        if (runs) {
            found->second->tick(now_);
        }
        if (!runs || !found->second->waits_for_time()) {
            restless_.erase(kernel);
        }
    }
}

void Agent::stop() {
    for (const auto& [kernel, replica] : replicas_) {
        replica->stop();
    }
}

// ---- Raft ----

void Agent::restore(GroupId group, const raft::Snapshot& snapshot) {
    if (auto* replica = find(KernelId{group.value})) {
        replica->restore(snapshot);
    }
}

void Agent::apply(GroupId group, const raft::Entry& entry) {
    if (auto* replica = find(KernelId{group.value})) {
        replica->apply(entry);
    }
}

void Agent::role_changed(GroupId group) {
    if (auto* replica = find(KernelId{group.value})) {
        replica->role_changed();
    }
}

// Nothing here reads through the log yet: cells are answered from applied state.
void Agent::read_ready(GroupId, std::uint64_t, Index) {}
void Agent::read_lost(GroupId, std::uint64_t) {}

// ---- interpreters ----

void Agent::interpreter_ready(InterpreterId id) {
    if (auto* replica = owner(id)) {
        replica->interpreter_ready();
        groups_.flush();
    }
}

void Agent::interpreter_resumed(InterpreterId id, const Survivor& survivor) {
    if (auto* replica = owner(id)) {
        replica->interpreter_resumed(survivor);
        groups_.flush();
    }
}

void Agent::interpreter_applied(InterpreterId id, Sequence sequence, bool ok,
                                const std::string& error) {
    if (auto* replica = owner(id)) {
        replica->interpreter_applied(sequence, ok, error);
        groups_.flush();
    }
}

void Agent::interpreter_delta(InterpreterId id, CellNumber cell, Epoch epoch, Bytes delta,
                              const std::string& error) {
    if (auto* replica = owner(id)) {
        replica->interpreter_delta(cell, epoch, std::move(delta), error);
        groups_.flush();
    }
}

void Agent::interpreter_message(InterpreterId id, jupyter::Message message) {
    if (auto* replica = owner(id)) {
        replica->interpreter_message(std::move(message));
        groups_.flush();
    }
}

void Agent::interpreter_ended(InterpreterId id, const std::string& why) {
    if (auto* replica = owner(id)) {
        replica->interpreter_ended(why);
        groups_.flush();
    }
}

}  // namespace nbos::agent
