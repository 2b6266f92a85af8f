#include "gateway/kernel_service.h"

#include <algorithm>

#include "base/log.h"

namespace nbos::gateway {
namespace {

constexpr std::chrono::minutes kStopTimeout{10};

// Any host that can take a request for the kernel, the best one first.
std::optional<HostId> any_host(const Kernel& kernel, const HostTable& hosts) {
    if (auto owner = kernel.view.owner()) {
        return owner;
    }
    if (auto leader = kernel.view.leader()) {
        return leader;
    }
    for (const auto& [id, status] : kernel.view.replicas()) {
        if (hosts.up(status.host)) {
            return status.host;
        }
    }
    return std::nullopt;
}

}  // namespace

std::string Kernel::execution_state() const {
    if (channels.failed()) {
        return "dead";
    }
    if (!restarts.empty()) {
        return "restarting";
    }
    if (channels.busy(view.queued())) {
        return "busy";
    }
    return view.idle_or_busy() ? "idle" : "starting";
}

std::string Kernel::reason() const {
    if (channels.failed()) {
        return channels.failure();
    }
    if (!reported() && first.voters.empty()) {
        return "none of its hosts is connected";
    }
    if (lacks_majority()) {
        return fmt::format(
            "{} of its {} replicas are on hosts that cannot be reached; cells wait until a "
            "majority is back",
            hosts_away(), membership().voters.size());
    }
    return {};
}

Error Kernel::no_majority(Certainty certainty, std::string_view what_now) const {
    if (membership().voters.empty()) {
        return {Errc::kExhausted, certainty,
                fmt::format("none of this kernel's hosts is connected; {}", what_now)};
    }
    return {Errc::kExhausted, certainty,
            fmt::format("{} of the {} hosts of this kernel cannot be reached, and it needs a "
                        "majority; {}",
                        hosts_away(), membership().voters.size(), what_now)};
}

KernelService::KernelService(Ports ports, KernelServiceOptions options)
    : ports_(std::move(ports)),
      options_(options),
      shared_{.clock = ports_.clock,
              .hosts = ports_.hosts,
              .link = ports_.link,
              .factory = ports_.factory,
              .actions = *this,
              .together = ports_.together,
              .infos = infos_,
              .outputs = options_.outputs} {}

Kernel& KernelService::add(KernelId id, const std::string& spec, const std::string& session) {
    auto kernel = std::make_unique<Kernel>(shared_, ports_.hosts, id, spec, session);
    kernel->created = ports_.clock.now();
    return *(kernels_[id] = std::move(kernel));
}

Kernel* KernelService::find(KernelId id) {
    const auto found = kernels_.find(id);
    return found == kernels_.end() ? nullptr : found->second.get();
}

Kernel* KernelService::find_open(KernelId id) {
    auto* kernel = find(id);
    return kernel == nullptr || kernel->parked ? nullptr : kernel;
}

Kernel* KernelService::find_parked(const std::string& path) {
    const auto found = std::find_if(kernels_.begin(), kernels_.end(), [&](const auto& entry) {
        return !path.empty() && entry.second->parked && entry.second->parked->path == path;
    });
    return found == kernels_.end() ? nullptr : found->second.get();
}

std::vector<policy::HostView> KernelService::host_views() const {
    std::vector<policy::HostView> views;
    for (const auto& [id, host] : ports_.hosts.hosts()) {
        // A short silence is no reason to refuse a kernel: requests wait for the connection.
        const bool hiccup = host.state == HostState::kDown &&
                            ports_.clock.now() - host.since < options_.silence_ignored;
        policy::HostView view{
            .id = id, .cpus = host.info.cpus, .usable = ports_.hosts.up(id) || hiccup};
        const auto subscribe = [&view, name = id](const Membership& members) {
            view.subscribed += static_cast<std::uint32_t>(
                std::count_if(members.hosts.begin(), members.hosts.end(),
                              [&](const auto& member) { return member.second == name; }));
        };
        for (const auto& [kernel_id, kernel] : kernels_) {
            subscribe(kernel->membership());
        }
        for (const auto& [kernel_id, members] : placing_) {
            subscribe(members);
        }
        views.push_back(std::move(view));
    }
    return views;
}

void KernelService::create(const KernelRequest& request, Created done) {
    const auto& spec = request.spec.empty() ? ports_.specs.default_name() : request.spec;
    if (ports_.specs.find(spec) == nullptr) {
        done(Error{
            Errc::kNotFound, Certainty::kDidNotHappen,
            fmt::format("no kernelspec is named '{}'; known: {}", spec, ports_.specs.names())});
        return;
    }
    const auto id = request.id.value_or(KernelId{ports_.factory.new_uuid()});
    if (find(id) != nullptr) {
        revive(id, [this, id, done](const Status& status) {
            auto* kernel = find(id);
            if (!status || kernel == nullptr) {
                done(status ? Error{Errc::kNotFound, Certainty::kUnknown, "the kernel was deleted"}
                            : status.error());
            } else {
                done(kernel);
            }
        });
    } else if (deleted_.contains(id)) {
        done(Error{Errc::kInvalid, Certainty::kDidNotHappen,
                   "a kernel with this id was deleted; choose another id"});
    } else {
        place(request, id, std::move(done));
    }
}

void KernelService::place(const KernelRequest& request, KernelId id, Created done) {
    const auto replicas = request.replicas == 0 ? options_.replicas : request.replicas;
    auto placed = ports_.placement.place({.replicas = replicas, .excluded = {}}, host_views());
    if (!placed) {
        done(std::move(placed).error().in("cannot place the kernel's " + std::to_string(replicas) +
                                          " replicas"));
        return;
    }
    KernelRow row{.spec = request.spec.empty() ? ports_.specs.default_name() : request.spec};
    row.start = {.members = {},
                 .options = {.spec = row.spec,
                             .session = ports_.factory.new_uuid().str(),
                             .username = request.username,
                             .cwd = request.cwd,
                             .env = request.env,
                             .replicas = replicas,
                             .silence_grace_s = request.silence_grace_s}};
    for (std::size_t i = 0; i < placed->hosts.size(); ++i) {
        const ReplicaId replica{i + 1};
        row.start->members.voters.insert(replica);
        row.start->members.hosts[replica] = placed->hosts[i];
    }
    placing_[id] = row.start->members;
    ports_.table.write(
        {.conditions = {{kernel_key(id), Index{0}}}, .changes = {{kernel_key(id), encode(row)}}},
        [this, id, request, why = placed->why,
         done = std::move(done)](Result<replica::TableOutcome> written) {
            placing_.erase(id);
            if (!written) {
                create_failed(id, request.id.has_value(), std::move(written).error(), done);
            } else if (*written == replica::TableOutcome::kDone) {
                created(id, why, done);
            } else if (find(id) != nullptr || deleted_.contains(id)) {
                create(request, done);  // somebody else did, at the same time
            } else {
                done(Error{Errc::kInvalid, Certainty::kDidNotHappen,
                           "this id is in use already; choose another id"});
            }
        });
}

void KernelService::created(KernelId id, const std::string& why, Created done) {
    auto* kernel = find(id);
    if (kernel == nullptr) {
        done(Error{Errc::kNotFound, Certainty::kUnknown, "the kernel was deleted"});
        return;
    }
    kernel->why = why;
    log_info("gateway", "kernel {}: {}", id.value.str(), why);
    if (kernel->start) {  // else another gateway has started it meanwhile
        start_replicas(*kernel, kernel->start->members.hosts, *kernel->start);
    }
    done(kernel);
}

// Whoever asked has been told that there is none: it may still come into being, and is not wanted
// then. With an id of its own choice the client finds it when it asks again.
void KernelService::create_failed(KernelId id, bool chosen, Error error, const Created& done) {
    if (!chosen && error.certainty == Certainty::kUnknown) {
        undo_create(id);
    }
    done(std::move(error).in("the kernel was not created"));
}

// However long it takes: the row may be written when a majority of the system group is back.
void KernelService::undo_create(KernelId id) {
    const KernelRow row{.state = KernelRow::State::kDeleted, .until = ports_.clock.wall()};
    ports_.table.write({.conditions = {}, .changes = {{kernel_key(id), encode(row)}}},
                       [this, id](const Result<replica::TableOutcome>& written) {
                           if (!written) {
                               to_undo_.insert(id);
                           }
                       });
}

void KernelService::try_undo_again() {
    constexpr std::chrono::seconds kPause{2};
    if (to_undo_.empty() || ports_.clock.now() < undo_again_) {
        return;
    }
    undo_again_ = ports_.clock.now() + kPause;
    for (const auto id : std::exchange(to_undo_, {})) {
        undo_create(id);
    }
}

void KernelService::start_replicas(Kernel& kernel, const std::map<ReplicaId, HostId>& which,
                                   const KernelRow::Start& start) {
    for (const auto& [replica, host] : which) {
        const auto make = [&, id = replica](std::uint64_t request) {
            return cluster::StartReplica{.request = request,
                                         .kernel = kernel.id,
                                         .replica = id,
                                         .bootstrap = start.members,
                                         .options = start.options};
        };
        ++kernel.starts_pending;
        ports_.calls.call(
            to_host(host), make, ports_.clock.now(), options_.start_timeout,
            [this, id = kernel.id, replica_id = replica, name = host.value](const Status& status) {
                if (auto* started = find(id); started != nullptr && started->starts_pending > 0) {
                    --started->starts_pending;
                }
                if (!status) {
                    replica_not_started(id, replica_id,
                                        "host " + name + ": " + status.error().what);
                }
            });
    }
}

// The group works as long as a majority exists; the reconciler replaces the rest.
void KernelService::replica_not_started(KernelId id, ReplicaId replica, const std::string& why) {
    log_warning("gateway", "kernel {}: replica {} did not start: {}", id.value.str(), replica.value,
                why);
    if (auto* kernel = find(id)) {
        kernel->start_failures[replica] = why;
        if (kernel->start_failures.size() * 2 > kernel->first.voters.size() ||
            kernel->start_failures.size() == kernel->first.voters.size()) {
            kernel->channels.fail("too few of its replicas could be started; " + why);
        }
    }
}

// What is pending now is meant, not what is asked for while nobody has answered yet.
void KernelService::interrupt(KernelId id, Done done) {
    auto* kernel = find(id);
    if (kernel == nullptr) {
        done(Error{Errc::kNotFound, Certainty::kDidNotHappen, "no such kernel"});
        return;
    }
    if (const auto owner = kernel->view.owner()) {
        ports_.link.send(*owner, cluster::InterruptCallback{id});
    }
    auto cells = kernel->channels.pending();
    cells.insert(cells.end(), kernel->leaving.begin(), kernel->leaving.end());
    if (kernel->leaving.empty() && kernel->channels.waits_for_old_ones()) {
        cells.clear();  // nobody here knows their names
    }
    const bool idle = cells.empty() && kernel->view.leader() && kernel->view.queued() == 0;
    if (idle && !kernel->view.runs_a_cell()) {
        done(ok());
        return;
    }
    const bool unnamed = cells.empty();
    if (unnamed) {
        kernel->channels.hold_cells();
    }
    call_interrupt(id, cells, false, [this, id, unnamed, cells, done](Status status) {
        auto* interrupted = find(id);
        if (unnamed && interrupted != nullptr) {
            interrupted->channels.release_cells();
        }
        const bool away =
            interrupted != nullptr && interrupted->reported() && interrupted->lacks_majority();
        if (status && interrupted != nullptr) {
            interrupted->channels.interrupted(cells);
        } else if (!status && status.error().code == Errc::kTimeout && away) {
            status = interrupted->no_majority(
                Certainty::kUnknown,
                "the interrupt has reached no cell: what runs or waits goes on");
        }
        done(std::move(status));
    });
}

// Nothing is asked for without a majority, unless a cell runs in a part that can be reached.
std::uint64_t KernelService::call_interrupt(KernelId id, std::vector<cluster::CellId> cells,
                                            bool leaving, Done done) {
    const auto route = [this, id]() -> std::optional<HostId> {
        const auto* kernel = find(id);
        if (kernel == nullptr) {
            return std::nullopt;
        }
        const auto& view = kernel->view;
        const bool runs = view.runs_a_cell();
        if (!runs && kernel->lacks_majority()) {
            return std::nullopt;
        }
        const auto host = runs ? view.executor() : view.leader();
        return host && ports_.hosts.up(*host) ? host : any_host(*kernel, ports_.hosts);
    };
    return ports_.calls.call(
        route,
        [id, &cells, leaving](std::uint64_t request) {
            return cluster::Interrupt{request, id, std::move(cells), leaving};
        },
        ports_.clock.now(), options_.interrupt_timeout, std::move(done));
}

// Until what was asked for before the shutdown is over. Of a parked kernel that is everything.
void KernelService::quieten(Kernel& kernel) {
    const auto now = ports_.clock.now();
    if (kernel.being_quieted || now < kernel.quieten_again) {
        return;
    }
    kernel.being_quieted = true;
    kernel.quieten_again = now + options_.quieten_pause;
    kernel.quieten_call = call_interrupt(kernel.id, kernel.leaving, true,
                                         [this, id = kernel.id](const Status& status) {
                                             auto* quiet = find(id);
                                             if (quiet == nullptr) {
                                                 return;
                                             }
                                             quiet->being_quieted = false;
                                             if (status) {
                                                 quiet->leaving.clear();
                                                 quiet->channels.old_ones_ended();
                                             }
                                         });
}

void KernelService::restart(KernelId id, Done done) {
    auto* kernel = find(id);
    if (kernel == nullptr) {
        done(Error{Errc::kNotFound, Certainty::kDidNotHappen, "no such kernel"});
        return;
    }
    kernel->restarts.push_back(std::move(done));
    if (kernel->restarts.size() > 1) {
        return;  // one is under way: both get its answer
    }
    kernel->channels.begin_restart();
    kernel->restart_asked = ports_.clock.now();
    const auto session = ports_.factory.new_uuid().str();
    // Nothing is asked for without a majority: it would be done whenever that is back.
    const auto route = [this, id]() -> std::optional<HostId> {
        const auto* found = find(id);
        return found == nullptr || found->lacks_majority() ? std::nullopt
                                                           : any_host(*found, ports_.hosts);
    };
    kernel->restart_call = ports_.calls.call(
        route,
        [id, session](std::uint64_t request) { return cluster::Restart{request, id, session}; },
        ports_.clock.now(), options_.restart_timeout,
        [this, id, session](const Status& status) { restarted(id, session, status); });
}

void KernelService::restarted(KernelId id, const std::string& session, const Status& status) {
    auto* kernel = find(id);
    if (kernel == nullptr) {
        return;  // deleted meanwhile; shut_down() has answered
    }
    if (status) {
        kernel->channels.end_restart(session);
    } else {
        kernel->channels.abandon_restart();
    }
    answer_restarts(*kernel, status);
}

void KernelService::answer_restarts(Kernel& kernel, const Status& status) {
    for (const auto& done : std::exchange(kernel.restarts, {})) {
        done(status);
    }
}

// Whoever asked is told in time, and what was not begun is not done later.
void KernelService::give_up_restarts() {
    for (const auto& [id, kernel] : kernels_) {
        const bool late = ports_.clock.now() - kernel->restart_asked > options_.majority_wait;
        if (kernel->restarts.empty() || !late || !kernel->lacks_majority()) {
            continue;
        }
        const bool begun = ports_.calls.cancel(kernel->restart_call);
        kernel->channels.abandon_restart();
        answer_restarts(
            *kernel,
            begun
                ? kernel->no_majority(Certainty::kUnknown, "whether it was restarted is not known")
                : kernel->no_majority(Certainty::kDidNotHappen,
                                      "it was not restarted: try again when they are back"));
        return;  // an answer may have ended a kernel; the others at the next tick
    }
}

// First what it has not heard of the running cell, of the executor; then of the leader what has
// ended: a cell that ends in between is told by one of them, or comes live behind the first.
void KernelService::recall(KernelId id, const std::string& session, Done caught_up) {
    const auto make = [id, session](bool running) -> RpcCalls::Make {
        return [id, session, running](std::uint64_t request) {
            return cluster::Recall{request, id, session, running};
        };
    };
    const auto ended = [this, id, make](Done done) {
        const auto route = [this, id]() -> std::optional<HostId> {
            const auto* kernel = find(id);
            return kernel == nullptr ? std::nullopt : kernel->view.leader();
        };
        ports_.calls.call(route, make(false), ports_.clock.now(), options_.recall_timeout,
                          std::move(done));
    };
    const auto* kernel = find(id);
    if (!caught_up || kernel == nullptr) {
        ended([](const Status&) {});
        return;
    }
    const auto executor = kernel->view.executor();
    const auto host =
        executor && ports_.hosts.up(*executor) ? executor : any_host(*kernel, ports_.hosts);
    if (!host) {
        caught_up(ok());
        ended([](const Status&) {});
        return;
    }
    ports_.calls.call(
        to_host(*host), make(true), ports_.clock.now(), options_.catch_up_timeout,
        [ended, caught_up = std::move(caught_up)](const Status&) { ended(caught_up); });
}

void KernelService::stop_replica(KernelId kernel, ReplicaId replica, const HostId& host) {
    ports_.calls.call(
        to_host(host),
        [kernel, replica](std::uint64_t request) {
            return cluster::StopReplica{request, kernel, replica};
        },
        ports_.clock.now(), kStopTimeout, [](const Status&) {});
}

void KernelService::status(const cluster::KernelStatus& status) {
    if (deleted_.contains(status.kernel)) {
        stop_replica(status.kernel, status.replica, status.host);
        return;
    }
    auto* kernel = find(status.kernel);
    if (kernel == nullptr) {
        kernel = &add(status.kernel, status.options.spec, status.options.session);
    }
    if (kernel->spec.empty() && !status.options.spec.empty()) {
        kernel->spec = status.options.spec;
        kernel->channels.name_spec(kernel->spec);
    }
    const bool lost = kernel->view.loses_interpreter(status);
    kernel->view.update(status);
    if (lost) {
        kernel->channels.interpreter_lost(status.host);
    }
    kernel->channels.status_changed();
}

bool KernelService::none_reported() const {
    return std::none_of(kernels_.begin(), kernels_.end(),
                        [](const auto& entry) { return entry.second->reported(); });
}

void KernelService::gone(const cluster::ReplicaGone& gone) {
    if (auto* kernel = find(gone.kernel)) {
        kernel->view.remove(gone.replica);
        kernel->channels.status_changed();
    }
}

void KernelService::host_begins_to_report(const HostId& host) {
    for (const auto& [id, kernel] : kernels_) {
        kernel->view.forget(host);
    }
}

// Those that nobody here knows by name. What is queued may be others', asked for since.
bool KernelService::old_ones_are_over(const Kernel& kernel) const {
    constexpr std::chrono::seconds kLongest{10};
    return kernel.view.queued() == 0 || ports_.clock.now() - kernel.taken_up > kLongest;
}

std::string KernelService::why_cells_wait(const Kernel& kernel) const {
    if (kernel.lacks_majority()) {
        return kernel.reason();
    }
    return kernel.channels.waits_for_old_ones()
               ? "a cell of the time before the kernel was shut down has not ended yet; interrupt "
                 "it, or restart the kernel"
               : "";
}

void KernelService::tick(bool acts) {
    ended_.clear();
    give_up_restarts();
    try_undo_again();
    for (const auto& [id, kernel] : kernels_) {
        kernel->channels.hold_up(why_cells_wait(*kernel));
        if (!kernel->leaving.empty()) {
            quieten(*kernel);
        } else if (kernel->channels.waits_for_old_ones() && old_ones_are_over(*kernel)) {
            kernel->channels.old_ones_ended();
        }
        kernel->channels.tick();
    }
    if (acts && ports_.table.known()) {
        look_after();
    }
}

}  // namespace nbos::gateway
