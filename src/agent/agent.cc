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
        if (!cluster::is_system_group(kernel)) {
            add(kernel, self);
        } else if (system_ && system_->group() > kernel) {
            groups_.remove(GroupId{kernel.value});  // begun anew since
        } else {
            hold_tables(kernel, self);
        }
    }
    groups_.flush();
}

// In the place of an earlier generation, which is nobody's any more.
void Agent::hold_tables(KernelId group, ReplicaId self) {
    if (system_) {
        gateways_.send(cluster::ReplicaGone{system_->group(), system_->self()});
        groups_.remove(GroupId{system_->group().value});
    }
    system_ =
        std::make_unique<SystemReplica>(group, self, options_.host, groups_, gateways_, *this);
    system_is_restless_ = true;
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

SystemReplica* Agent::system() {
    const bool runs = system_ && groups_.contains(GroupId{system_->group().value});
    system_is_restless_ = system_is_restless_ || runs;
    return runs ? system_.get() : nullptr;
}

void Agent::drop_stopped() {
    if (groups_.size() == replicas_.size() + (system_ ? 1 : 0)) {
        return;
    }
    if (system_ && system() == nullptr) {
        gateways_.send(cluster::ReplicaGone{system_->group(), system_->self()});
        system_.reset();
    }
    std::erase_if(replicas_, [this](const auto& entry) {
        if (groups_.contains(GroupId{entry.first.value})) {
            return false;
        }
        entry.second->stop();
        interpreters_.discard_survivors(entry.first, entry.second->self());
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

void Agent::receive_rpc(const HostId& gateway, std::string_view bytes) {
    const auto rpc = cluster::decode_rpc(bytes);
    if (!rpc) {
        log_warning("agent", "a malformed message of {} bytes from a gateway was dropped",
                    bytes.size());
        return;
    }
    if (connected_.insert(gateway.value).second) {
        tell_gateways(std::nullopt);
    }
    std::visit(
        [&](const auto& message) {
            if constexpr (requires { handle(message, gateway); }) {
                handle(message, gateway);
            } else if constexpr (requires { handle(message); }) {
                handle(message);
            } else if constexpr (requires { message.kernel; }) {
                route(message, gateway);
            }
        },
        *rpc);
    groups_.flush();
}

void Agent::gateway_lost(const HostId& gateway) {
    if (connected_.erase(gateway.value) > 0) {
        tell_gateways(std::nullopt);
    }
}

void Agent::tell_gateways(const std::optional<HostId>& to) {
    const cluster::ConnectedGateways now{options_.host, connected_};
    to ? gateways_.send_to(*to, now) : gateways_.send(now);
}

void Agent::handle(const cluster::Hello&, const HostId& from) {
    drop_stopped();
    gateways_.send_to(from, options_.info);
    tell_gateways(from);
    for (const auto& [kernel, replica] : replicas_) {
        replica->report(from);
    }
    if (auto* system_replica = system()) {
        system_replica->report(from);
    }
}

void Agent::handle(const cluster::HostDirectory& message) {
    gateways_.hosts_known(message.addresses);
}

void Agent::handle(const cluster::StartReplica& request) {
    auto* replica = find(request.kernel);
    const bool of_system = cluster::is_system_group(request.kernel);
    if (of_system && system() != nullptr && system_->group() > request.kernel) {
        refuse(request.request, Errc::kInvalid, "the system group has been begun anew since");
        return;
    }
    const auto present = holds_tables(request.kernel) ? std::optional(system_->self())
                         : replica != nullptr         ? std::optional(replica->self())
                                                      : std::nullopt;
    if (present && *present != request.replica) {
        refuse(request.request, Errc::kInvalid, "another replica of this kernel is on this host");
        return;
    }
    if (!present) {
        const auto created =
            groups_.create(GroupId{request.kernel.value}, request.replica, request.bootstrap);
        if (!created) {
            refuse(request.request, created.error().code, created.error().what);
            return;
        }
        if (of_system) {
            hold_tables(request.kernel, request.replica);
            system()->begin();
        } else {
            replica = &add(request.kernel, request.replica);
            if (request.bootstrap) {
                replica->configure(request.options);
            }
        }
    }
    gateways_.send(cluster::Reply{.request = request.request});
}

void Agent::handle(const cluster::StopReplica& request) {
    if (cluster::is_system_group(request.kernel)) {
        if (holds_tables(request.kernel) && system_->self() == request.replica) {
            system_.reset();
            groups_.remove(GroupId{request.kernel.value});
            gateways_.send(cluster::ReplicaGone{request.kernel, request.replica});
        }
    } else if (auto* replica = find(request.kernel);
               replica != nullptr && replica->self() == request.replica) {
        replica->stop();
        replicas_.erase(request.kernel);
        groups_.remove(GroupId{request.kernel.value});
        gateways_.send(cluster::ReplicaGone{request.kernel, request.replica});
    }
    interpreters_.discard_survivors(request.kernel, request.replica);
    gateways_.send(cluster::Reply{.request = request.request});
}

void Agent::handle(const cluster::WriteTable& request, const HostId& from) {
    if (auto* replica = system()) {
        replica->handle(request, from);
    } else {
        refuse(request.request, Errc::kNotLeader, "this host has no replica of the system group");
    }
}

template <class Replica, class Request>
void Agent::give(Replica& replica, const Request& request, const HostId& from) {
    if constexpr (requires { replica.handle(request, from); }) {
        replica.handle(request, from);
    } else if constexpr (requires { replica.handle(request); }) {
        replica.handle(request);
    }
}

template <class Request>
void Agent::route(const Request& request, const HostId& from) {
    if (holds_tables(request.kernel)) {
        give(*system_, request, from);
    } else if (auto* replica = find(request.kernel)) {
        give(*replica, request, from);
    } else if constexpr (requires { request.request; }) {
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
    if (system_is_restless_) {
        if (auto* replica = system()) {
            replica->tick();
        }
        system_is_restless_ = system_ && system_->waits_for_time();
    }
}

void Agent::stop() {
    for (const auto& [kernel, replica] : replicas_) {
        replica->stop();
    }
}

// ---- Raft ----

void Agent::restore(GroupId group, const raft::Snapshot& snapshot) {
    if (holds_tables(KernelId{group.value})) {
        system_->restore(snapshot);
    } else if (auto* replica = find(KernelId{group.value})) {
        replica->restore(snapshot);
    }
}

void Agent::apply(GroupId group, const raft::Entry& entry) {
    if (holds_tables(KernelId{group.value})) {
        system_->apply(entry);
    } else if (auto* replica = find(KernelId{group.value})) {
        replica->apply(entry);
    }
}

void Agent::role_changed(GroupId group) {
    if (holds_tables(KernelId{group.value})) {
        system_->role_changed();
    } else if (auto* replica = find(KernelId{group.value})) {
        replica->role_changed();
    }
}

// Cells are answered from applied state; only the tables are read through the log.
void Agent::read_ready(GroupId group, std::uint64_t context, Index index) {
    if (holds_tables(KernelId{group.value})) {
        system_->read_ready(context, index);
    }
}
void Agent::read_lost(GroupId group, std::uint64_t context) {
    if (holds_tables(KernelId{group.value})) {
        system_->read_lost(context);
    }
}

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
