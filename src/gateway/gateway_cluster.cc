// REST for the command line: /api/nbos.
#include <fmt/core.h>

#include <utility>

#include "gateway/gateway.h"
#include "gateway/json_body.h"
#include "jupyter/json_text.h"
#include "jupyter/message_factory.h"

namespace nbos::gateway {
namespace {

using jupyter::json_quoted;

constexpr std::chrono::milliseconds kKillSeen{2'000};

std::string_view role_name(raft::Role role) {
    switch (role) {
        case raft::Role::kLeader:
            return "leader";
        case raft::Role::kCandidate:
        case raft::Role::kPreCandidate:
            return "candidate";
        case raft::Role::kFollower:
            break;
    }
    return "follower";
}

std::string replica_json(const Kernel& kernel, const HostTable& hosts, ReplicaId id,
                         const HostId& host) {
    const auto& members = kernel.membership();
    const auto found = kernel.view.replicas().find(id);
    const auto* status = found == kernel.view.replicas().end() ? nullptr : &found->second;
    const bool up = hosts.up(host);
    const std::string member = members.voters.contains(id)     ? "voter"
                               : members.learners.contains(id) ? "learner"
                                                               : "none";
    const auto interpreter = status == nullptr ? std::string("unknown")
                             : up              ? status->interpreter
                                               : std::string("unreachable");
    return fmt::format(
        R"({{"replica": {}, "host": {}, "up": {}, "member": "{}", "role": "{}", "term": {}, )"
        R"("sequence": {}, "interpreter": {}}})",
        id.value, json_quoted(host.value), up, member,
        status == nullptr || !up ? std::string_view("unknown") : role_name(status->role),
        status == nullptr ? 0 : status->term.value, status == nullptr ? 0 : status->sequence.value,
        json_quoted(interpreter));
}

}  // namespace

std::string Gateway::hosts_json() const {
    const auto now = ports_.clock.now();
    const auto views = kernels_.host_views();
    std::string list = "[";
    for (const auto& view : views) {
        const auto* host = hosts_.find(view.id);
        list += fmt::format(
            R"({}{{"id": {}, "address": {}, "state": "{}", "since_s": {:.3f}, "version": {}, )"
            R"("cpus": {}, "memory_bytes": {}, "replicas": {}}})",
            list.size() > 1 ? ", " : "", json_quoted(view.id.value), json_quoted(host->address),
            name(host->state), std::chrono::duration<double>(now - host->since).count(),
            json_quoted(host->info.version), host->info.cpus, host->info.memory_bytes,
            view.subscribed);
    }
    return list + "]";
}

std::string Gateway::cluster_kernel_json(const Kernel& kernel) const {
    auto members = kernel.membership().hosts;
    for (const auto& [id, status] : kernel.view.replicas()) {
        members[id] = status.host;
    }
    std::string replicas;
    for (const auto& [id, host] : members) {
        replicas += (replicas.empty() ? "" : ", ") + replica_json(kernel, hosts_, id, host);
    }
    const auto* best = kernel.view.best();
    const auto text_or_null = [](const std::optional<HostId>& host) {
        return host ? json_quoted(host->value) : std::string("null");
    };
    return fmt::format(
        R"({{"id": "{}", "name": {}, "execution_state": "{}", "reason": {}, "connections": {}, )"
        R"("leader_host": {}, "executor_host": {}, "owner_host": {}, "term": {}, "sequence": {}, )"
        R"("incarnation": {}, "queued": {}, "waiting_cells": {}, "state_bytes": {}, )"
        R"("wanted_replicas": {}, "settled": {}, "parked_until": {}, "placement": {}, "repair": {}, )"
        R"("replicas": [{}]}})",
        kernel.id.value.str(), json_quoted(kernel.spec), kernel.execution_state(),
        json_quoted(kernel.reason()), kernel.channels.connections(),
        text_or_null(kernel.view.leader()), text_or_null(kernel.view.executor()),
        text_or_null(kernel.view.owner()), best == nullptr ? 0 : best->term.value,
        best == nullptr ? 0 : best->sequence.value, best == nullptr ? 0 : best->incarnation,
        kernel.view.queued(), kernel.channels.waiting_cells(),
        best == nullptr ? 0 : best->state_bytes,
        best == nullptr ? kernels_.options().replicas : best->options.replicas,
        best != nullptr && best->settled,
        kernel.parked ? json_quoted(jupyter::iso_time(kernel.parked->until)) : "null",
        json_quoted(kernel.why), json_quoted(reconciler_.status(kernel.id)), replicas);
}

std::string Gateway::cluster_status_json() const {
    std::size_t up = 0;
    for (const auto& [id, host] : hosts_.hosts()) {
        up += host.state == HostState::kUp ? 1 : 0;
    }
    const auto& all = const_cast<Gateway*>(this)->kernels_.all();  // NOLINT: a look-up only
    std::size_t busy = 0;
    std::size_t repairing = 0;
    std::size_t clients = 0;
    std::size_t parked = 0;
    for (const auto& [id, kernel] : all) {
        parked += kernel->parked ? 1 : 0;
        busy += kernel->execution_state() == "busy" ? 1 : 0;
        repairing += reconciler_.status(id).empty() ? 0 : 1;
        clients += kernel->channels.connections();
    }
    return fmt::format(
        R"({{"gateway": {}, "version": {}, "ready": {}, "hosts": {}, "hosts_up": {}, )"
        R"("kernels": {}, "kernels_busy": {}, "kernels_repairing": {}, "kernels_parked": {}, )"
        R"("connections": {}, "system": {}, "gateways": {}, )"
        R"("uptime_s": {:.3f}}})",
        json_quoted(config_.id), json_quoted(config_.version), caught_up(), hosts_.hosts().size(),
        up, all.size() - parked, busy, repairing, parked, clients, system_json(), gateways_json(),
        std::chrono::duration<double>(ports_.clock.now() - started_).count());
}

// Who holds the shared tables, and how much of them is known here.
std::string Gateway::system_json() const {
    auto members = system_.membership().hosts;
    for (const auto& [id, status] : system_.view.replicas()) {
        members[id] = status.host;
    }
    std::string list;
    for (const auto& [id, host] : members) {
        const auto found = system_.view.replicas().find(id);
        const bool up = hosts_.up(host);
        const bool voter = system_.membership().voters.contains(id);
        list += fmt::format(
            R"({}{{"replica": {}, "host": {}, "up": {}, "member": "{}", "role": "{}"}})",
            list.empty() ? "" : ", ", id.value, json_quoted(host.value), up,
            voter ? "voter" : "learner",
            found == system_.view.replicas().end() || !up ? std::string_view("unknown")
                                                          : role_name(found->second.role));
    }
    const auto leader = system_.view.leader();
    const auto repair = reconciler_.status(system_.id);
    return fmt::format(
        R"({{"generation": {}, "leader_host": {}, "known": {}, "applied": {}, "rows": {}, "problem": {}, )"
        R"("repair": {}, "members": [{}]}})",
        system_.generation(), leader ? json_quoted(leader->value) : "null", table_.known(),
        table_.index().value, table_.rows().size(), json_quoted(leader ? "" : system_.problem()),
        json_quoted(repair), list);
}

std::string Gateway::gateways_json() const {
    auto seen = system_.gateways();
    seen.try_emplace(config_.id, 0);
    std::string list;
    for (const auto& [id, hosts] : seen) {
        list += fmt::format(R"({}{{"id": {}, "hosts": {}, "acts": {}}})", list.empty() ? "" : ", ",
                            json_quoted(id), hosts, system_.acts(id));
    }
    return "[" + list + "]";
}

// ?parked=1: those that were shut down and can be taken up again; ?parked=all: these, too.
void Gateway::send_cluster_kernels(const Call& call) {
    const auto wish = call.target.query.find("parked");
    const auto which = wish == call.target.query.end() ? std::string("0") : wish->second;
    std::string list = "[";
    for (const auto& [id, kernel] : kernels_.all()) {
        if (which == "all" || kernel->parked.has_value() == (which == "1")) {
            list += (list.size() > 1 ? ", " : "") + cluster_kernel_json(*kernel);
        }
    }
    answer(call, 200, list + "]");
}

void Gateway::route_cluster(Call call) {
    const auto& path = call.target.path;
    const std::string area = path.size() >= 3 ? path[2] : "";
    if (path.size() == 3 && area == "hosts" && call.is("GET")) {
        answer(call, 200, hosts_json());
    } else if (path.size() == 3 && area == "status" && call.is("GET")) {
        answer(call, 200, cluster_status_json());
    } else if (path.size() == 3 && area == "kernels" && call.is("GET")) {
        if (!caught_up()) {
            refuse(call, 503, why_not_caught_up());
            return;
        }
        send_cluster_kernels(call);
    } else if (path.size() == 4 && area == "system" && path[3] == "begin-anew" && call.is("POST")) {
        if (!asked_enough_) {
            refuse(call, 503, "this gateway has not heard all hosts yet; try again in a moment");
        } else if (const auto begun = system_.begin_anew(); begun) {
            answer(call, 200, system_json());
        } else {
            refuse(call, begun.error());
        }
    } else if (path.size() >= 4 && area == "kernels") {
        if (auto* kernel = kernel_or_answer(call, path[3], true)) {
            route_cluster_kernel(std::move(call), *kernel);
        }
    } else {
        refuse(call, 404, "known here: hosts, kernels, status");
    }
}

void Gateway::route_cluster_kernel(Call call, Kernel& kernel) {
    const auto& path = call.target.path;
    const std::string action = path.size() == 5 ? path[4] : "";
    if (path.size() == 4 && call.is("GET")) {
        answer(call, 200, cluster_kernel_json(kernel));
    } else if (path.size() == 4 && call.is("DELETE")) {
        kernels_.shut_down(kernel.id, [this, call](const Status& status) {
            status ? answer(call, 204, "") : refuse(call, status.error());
        });
    } else if (action == "outputs" && call.is("GET")) {
        read_outputs(call, kernel);
    } else if (action == "revive" && call.is("POST")) {
        kernels_.revive(kernel.id, [this, call, id = kernel.id](const Status& status) {
            status ? answer(call, 200, cluster_kernel_json(*kernels_.find(id)))
                   : refuse(call, status.error());
        });
    } else if (action == "migrate" && call.is("POST")) {
        migrate(call, kernel);
    } else if (action == "kill-replica" && call.is("POST")) {
        kill_replica(call, kernel);
    } else {
        refuse(call, 404,
               "known here: outputs (GET); migrate, kill-replica, revive (POST); GET; DELETE");
    }
}

void Gateway::migrate(const Call& call, Kernel& kernel) {
    const auto body = parse_body(call.request.body);
    if (!body) {
        refuse(call, 400, body.error().what);
        return;
    }
    const auto to = text_field(*body, "to");
    if (!to.empty() && hosts_.find(HostId{to}) == nullptr) {
        refuse(call, 404, "no host is named " + to.substr(0, 100));
        return;
    }
    const auto target = to.empty() ? std::nullopt : std::optional(HostId{to});
    reconciler_.migrate(kernel, target, [this, call, id = kernel.id](const Status& status) {
        auto* moved = kernels_.find(id);
        if (status && moved != nullptr) {
            answer(call, 200, cluster_kernel_json(*moved));
        } else {
            refuse(call, id,
                   status ? Error{Errc::kNotFound, Certainty::kUnknown, "the kernel was deleted"}
                          : status.error());
        }
    });
}

void Gateway::kill_replica(const Call& call, Kernel& kernel) {
    const auto body = parse_body(call.request.body);
    if (!body) {
        refuse(call, 400, body.error().what);
        return;
    }
    const auto named = text_field(*body, "host");
    const auto host = named.empty() ? kernel.view.owner() : std::optional(HostId{named});
    if (!host || !hosts_.up(*host)) {
        refuse(call, 404,
               named.empty() ? "no replica of this kernel can be reached"
                             : "host " + named.substr(0, 100) + " is not connected");
        return;
    }
    calls_.call(
        to_host(*host),
        [&](std::uint64_t request) { return cluster::KillInterpreter{request, kernel.id}; },
        ports_.clock.now(), config_.kernels.interrupt_timeout,
        [this, call, id = kernel.id, killed = *host](const Status& status) {
            if (status) {
                // Whoever runs a cell next must not meet the interpreter that is about to die.
                kills_.push_back({id, killed, ports_.clock.now() + kKillSeen, call});
            } else {
                refuse(call, id, status.error());
            }
        });
}

void Gateway::watch_kills() {
    for (auto at = kills_.begin(); at != kills_.end();) {
        const auto* kernel = kernels_.find(at->kernel);
        const bool alive = kernel != nullptr && kernel->view.ready(at->host);
        if (alive && ports_.clock.now() < at->deadline) {
            ++at;
            continue;
        }
        const auto kill = std::move(*at);
        at = kills_.erase(at);
        answer(kill.call, 200,
               fmt::format(R"({{"killed": true, "host": {}}})", json_quoted(kill.host.value)));
    }
}

}  // namespace nbos::gateway
