#include "tests/cluster/raft_sim.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "raft/invariant.h"

namespace nbos::testing {

using raft::Message;
using raft::Node;

namespace {

std::string ids(const std::set<ReplicaId>& set) {
    std::string out;
    for (const auto id : set) {
        out += fmt::format(" {}", id.value);
    }
    return out;
}

std::string describe(const Node& n) {
    const auto& m = n.membership();
    return fmt::format("; {} role {} term {} log {}/{} voters{} |{} learners{}", n.self().value,
                       static_cast<int>(n.role()), n.term().value,
                       n.term_at(n.last_index()).value_or(Term{}).value, n.last_index().value,
                       ids(m.voters), ids(m.outgoing), ids(m.learners));
}

}  // namespace

std::string Violation::str() const {
    return fmt::format("seed {} step {} at {} ms: {}: {} (replay: NBOS_SEEDS={}:1 NBOS_TRACE=1)",
                       seed, step, time_ms, invariant, detail, seed);
}

RaftSim::RaftSim(SimConfig config, SimListener* listener, std::function<void(Node&)> on_node)
    : config_(config),
      listener_(listener),
      on_node_(std::move(on_node)),
      rng_(config.seed),
      tracing_(std::getenv("NBOS_TRACE") != nullptr) {
    raft::Snapshot first;
    first.index = Index{1};
    first.term = Term{1};
    for (int i = 1; i <= config_.voters; ++i) {
        const ReplicaId id{static_cast<std::uint64_t>(i)};
        first.membership.voters.insert(id);
        first.membership.hosts[id] = host_of(id);
    }
    for (int i = 0; i < config_.voters; ++i) {
        auto& r = at(add_replica());
        r.node.reset();
        r.disk.durable.snapshot = first;
        start(r);
    }
    call(0, [this] {
        schedule_faults();
        watch_links();
    });
}

RaftSim::~RaftSim() = default;

void RaftSim::trace(const std::string& line) const {
    std::cerr << now_ << " ms, step " << steps_ << ": " << line << '\n';
}

// --- Time and events -----------------------------------------------------------------------------

RaftSim::Replica& RaftSim::at(ReplicaId id) { return replicas_.at(id); }
const RaftSim::Replica& RaftSim::at(ReplicaId id) const { return replicas_.at(id); }

void RaftSim::push(Event event) {
    event.order = ++order_;
    events_.push_back(std::move(event));
    std::push_heap(events_.begin(), events_.end());
}

void RaftSim::call(int delay_ms, std::function<void()> what) {
    push({now_ + delay_ms, 0, Kind::kCall, {}, 0, nullptr, std::move(what)});
}

void RaftSim::call_on(ReplicaId id, int delay_ms, std::function<void()> what) {
    push({now_ + delay_ms, 0, Kind::kCall, id, at(id).process, nullptr, std::move(what)});
}

bool RaftSim::step() {
    std::pop_heap(events_.begin(), events_.end());
    auto event = std::move(events_.back());
    events_.pop_back();
    now_ = event.at;
    ++steps_;
    process(std::move(event));
    return !events_.empty();
}

void RaftSim::process(Event event) {
    if (event.target.value == 0) {
        event.call();
        return;
    }
    const auto it = replicas_.find(event.target);
    if (it == replicas_.end() || !it->second.node ||
        (event.process != 0 && event.process != it->second.process)) {
        return;
    }
    auto& r = it->second;
    if (r.paused_until > now_) {
        event.at = r.paused_until;
        push(std::move(event));
        return;
    }
    switch (event.kind) {
        case Kind::kDeliver:
            if (connected(event.message->from, r.id)) {
                r.quiescence->step(*r.node, *event.message, r.links);
            }
            break;
        case Kind::kTick:
            r.quiescence->tick(*r.node, r.links);
            push({now_ + r.tick_ms, 0, Kind::kTick, r.id, r.process, nullptr, {}});
            break;
        case Kind::kDisk:
            disk_done(r);
            break;
        case Kind::kDrain:
            r.draining = false;
            drain(r);
            return;
        case Kind::kCall:
            event.call();
            break;
    }
    if (r.node) {
        after_input(r);
    }
}

std::optional<Violation> RaftSim::guarded(const std::function<void()>& what) {
    const auto violation = [this](std::string invariant, std::string detail) {
        return Violation{config_.seed, steps_, now(), std::move(invariant), std::move(detail)};
    };
    try {
        what();
    } catch (const Violated& v) {
        return violation(v.invariant, v.detail);
    } catch (const raft::InvariantBroken& broken) {
        return violation("the core's own check", broken.what());
    }
    return std::nullopt;
}

std::optional<Violation> RaftSim::run_until(const std::function<bool()>& done, int ms_max) {
    const auto end = now_ + ms_max;
    return guarded([&] {
        while (!done() && !events_.empty() && events_.front().at <= end) {
            step();
        }
        if (!done()) {
            now_ = end;
        }
    });
}

std::optional<Violation> RaftSim::run_for(int ms) {
    return run_until([] { return false; }, ms);
}

std::optional<Violation> RaftSim::run() {
    if (auto violation = run_for(config_.faults_ms)) {
        return violation;
    }
    heal();
    if (auto violation = run_until([this] { return leader().value != 0; }, config_.calm_ms)) {
        return violation;
    }
    if (auto violation = run_for(config_.calm_ms / 4)) {
        return violation;
    }
    // Twice: nobody is left behind by a group that sleeps, and what is asked of it wakes it.
    if (auto violation = run_until_live()) {
        return violation;
    }
    if (auto violation = disturb_sleep()) {
        return violation;
    }
    const auto ask_everybody = [this] {
        for (auto& [id, r] : replicas_) {
            propose(id, Bytes("are you alive"));
        }
    };
    if (auto violation = guarded(ask_everybody)) {
        return violation;
    }
    if (auto violation = run_until_live()) {
        return violation;
    }
    return guarded([this] {
        if (listener_ != nullptr) {
            listener_->finish(*this);
        }
    });
}

// Whoever is far behind may need a while: some runs allow one small append at a time.
std::optional<Violation> RaftSim::run_until_live() {
    constexpr int kPatienceMs = 20'000;
    for (int waited = 0; waited < kPatienceMs && not_live(); waited += 50) {
        if (auto violation = run_for(50)) {
            return violation;
        }
    }
    return guarded([this] {
        if (auto violated = not_live()) {
            throw Violated{*violated};
        }
    });
}

// --- A replica and its process -------------------------------------------------------------------

ReplicaId RaftSim::add_replica() {
    const ReplicaId id{replicas_.size() + 1};
    auto& r = replicas_[id];
    r.id = id;
    r.tick_ms = config_.tick_ms;
    r.write_ms_max = config_.write_ms_max;
    if (replicas_.size() > static_cast<std::size_t>(config_.voters)) {
        start(r);
    }
    views_stale_ = true;
    return id;
}

void RaftSim::start(Replica& r) {
    r.process = ++processes_;
    r.node = std::make_unique<Node>(GroupId{}, r.id, config_.options, r.disk.durable.restored(),
                                    rng_.next());
    if (on_node_) {
        on_node_(*r.node);
    }
    r.quiescence.emplace(config_.options);
    r.links = {};
    r.was_quiet = false;
    r.draining = false;
    r.paused_until = 0;
    r.last_write_at = now_;
    r.reads.clear();
    r.accepted.clear();
    r.state = 0;
    views_stale_ = true;
    refresh_views();
    invariants_.reset(r.id);
    if (listener_ != nullptr) {
        listener_->node_started(*this, r.id);
    }
    if (const auto& snapshot = r.disk.durable.snapshot) {
        if (listener_ != nullptr) {
            listener_->restore(*this, r.id, *snapshot);
        } else {
            Reader in(snapshot->state.view());
            r.state = in.get<std::uint64_t>();
        }
    }
    push({now_ + 1 + static_cast<int>(rng_.below(10)),
          0,
          Kind::kTick,
          r.id,
          r.process,
          nullptr,
          {}});
    after_input(r);
}

void RaftSim::crash(ReplicaId id, std::optional<int> restart_after_ms) {
    auto& r = at(id);
    if (!r.node) {
        return;
    }
    if (tracing_) {
        trace(fmt::format("{} crashes", id.value));
    }
    r.disk.crash(rng_, config_.crash_keeps_some, config_.crash_tears);
    r.node.reset();
    views_stale_ = true;
    refresh_views();
    invariants_.reset(id);
    if (listener_ != nullptr) {
        listener_->node_crashed(*this, id);
    }
    if (restart_after_ms) {
        call(*restart_after_ms, [this, id] { restart(id); });
    }
}

void RaftSim::restart(ReplicaId id) {
    auto& r = at(id);
    if (!r.node && !r.gone) {
        start(r);
    }
}

void RaftSim::wipe(ReplicaId id) {
    crash(id, std::nullopt);
    at(id).gone = true;
    views_stale_ = true;
}

void RaftSim::pause(ReplicaId id, int ms) { at(id).paused_until = now_ + ms; }

void RaftSim::cut(ReplicaId from, ReplicaId to, int ms) {
    auto& until = cut_until_[{from, to}];
    until = std::max(until, now_ + ms);
}

void RaftSim::isolate(ReplicaId id, int ms) {
    for (const auto& [other, r] : replicas_) {
        cut(id, other, ms);
        cut(other, id, ms);
    }
}

bool RaftSim::connected(ReplicaId from, ReplicaId to) const {
    if (healed_ || cut_until_.empty()) {
        return true;
    }
    const auto it = cut_until_.find({from, to});
    return it == cut_until_.end() || it->second <= now_;
}

void RaftSim::heal() {
    healed_ = true;
    cut_until_.clear();
    for (auto& [id, r] : replicas_) {
        r.tick_ms = config_.tick_ms;
        r.write_ms_max = 2;
        r.slow_until = 0;
        r.paused_until = 0;
        restart(id);
    }
    if (listener_ != nullptr) {
        listener_->healed(*this);
    }
}

std::vector<ReplicaId> RaftSim::replicas() const {
    std::vector<ReplicaId> out;
    for (const auto& [id, r] : replicas_) {
        out.push_back(id);
    }
    return out;
}

Node* RaftSim::node(ReplicaId id) { return at(id).node.get(); }
bool RaftSim::is_up(ReplicaId id) const { return at(id).node != nullptr; }
bool RaftSim::is_paused(ReplicaId id) const { return at(id).paused_until > now_; }
bool RaftSim::is_gone(ReplicaId id) const { return at(id).gone; }

ReplicaId RaftSim::leader() const {
    const Node* best = nullptr;
    for (const auto& [id, r] : replicas_) {
        if (r.node && r.node->role() == raft::Role::kLeader &&
            (best == nullptr || best->term() < r.node->term())) {
            best = r.node.get();
        }
    }
    return best == nullptr ? ReplicaId{} : best->self();
}

// --- Doing what a node asks for ------------------------------------------------------------------

void RaftSim::refresh_views() {
    if (!views_stale_) {
        return;
    }
    views_stale_ = false;
    invariants_.replicas.clear();
    for (const auto& [id, r] : replicas_) {
        invariants_.replicas.push_back({id, r.node.get(), &r.disk.durable, r.gone});
    }
}

void RaftSim::poke(ReplicaId id) {
    if (auto& r = at(id); r.node) {
        after_input(r);
    }
}

void RaftSim::after_input(Replica& r) {
    if (!healed_ && config_.lazy_drain > 0 && rng_.chance(config_.lazy_drain)) {
        if (!r.draining) {
            r.draining = true;
            push({now_ + static_cast<int>(rng_.below(8)),
                  0,
                  Kind::kDrain,
                  r.id,
                  r.process,
                  nullptr,
                  {}});
        }
        return;
    }
    drain(r);
}

void RaftSim::drain(Replica& r) {
    refresh_views();
    r.quiescence->settle(*r.node);
    for (const auto& m : r.quiescence->take_messages()) {
        send(m);
    }
    while (r.node && r.node->has_output()) {
        take(r, r.node->take_output());
    }
    if (!r.node) {
        return;
    }
    check_quiet(r);
    invariants_.after_step(r.id);
    if (listener_ != nullptr) {
        listener_->after_step(*this, r.id);
    }
    if (r.node && r.node->role() == raft::Role::kLeader && r.led != r.node->term()) {
        r.led = r.node->term();
        if (tracing_) {
            trace(fmt::format("{} leads term {}", r.id.value, r.led.value));
        }
        if (!healed_ && rng_.chance(config_.new_leader_crashes)) {
            call_on(r.id, static_cast<int>(rng_.below(60)),
                    [this, id = r.id] { crash(id, static_cast<int>(rng_.below(300))); });
        }
        if (config_.eager_changes && !healed_) {
            change_members(r.id);
        }
    }
}

void RaftSim::take(Replica& r, raft::Output out) {
    invariants_.output(r.id, out);
    for (const auto& m : out.send_now) {
        send(m);
    }
    if (out.batch != 0) {
        DiskWrite w;
        w.batch = out.batch;
        w.snapshot = out.install;
        w.hard_state = out.hard_state;
        w.append = std::move(out.append);
        w.after = std::move(out.after_persist);
        write(r, std::move(w));
    } else {
        for (const auto& m : out.after_persist) {
            send(m);
        }
    }
    if (out.install) {
        if (listener_ != nullptr) {
            listener_->restore(*this, r.id, *out.install);
        } else {
            Reader in(out.install->state.view());
            r.state = in.get<std::uint64_t>();
        }
    }
    for (const auto& entry : out.committed) {
        apply(r, entry);
    }
    for (const auto& read : out.reads) {
        if (const auto it = r.reads.find(read.context); it != r.reads.end()) {
            invariants_.read_done(it->second, read.index);
            r.reads.erase(it);
        }
        if (listener_ != nullptr) {
            listener_->read_ready(*this, r.id, read.context, read.index);
        }
    }
    for (const auto context : out.lost_reads) {
        r.reads.erase(context);
        if (listener_ != nullptr) {
            listener_->read_lost(*this, r.id, context);
        }
    }
}

void RaftSim::apply(Replica& r, const raft::Entry& entry) {
    invariants_.applied(r.id, entry);
    if (listener_ != nullptr) {
        listener_->apply(*this, r.id, entry);
        return;
    }
    r.state = RaftInvariants::mix(
        r.state, entry.kind == raft::EntryKind::kNoop ? 0 : RaftInvariants::content_hash(entry));
    if (r.state != invariants_.prefix_hash(entry.index)) {
        throw Violated{"state machine safety",
                       fmt::format("{} has another state at {} than the log so far", r.id.value,
                                   entry.index.value)};
    }
}

void RaftSim::write(Replica& r, DiskWrite w) {
    const auto slow = r.slow_until > now_ ? 40 : r.write_ms_max;
    r.last_write_at = std::max(
        r.last_write_at, now_ + static_cast<int>(rng_.below(static_cast<std::uint64_t>(slow) + 1)));
    r.disk.under_way.push_back(std::move(w));
    push({r.last_write_at, 0, Kind::kDisk, r.id, r.process, nullptr, {}});
}

void RaftSim::disk_done(Replica& r) {
    const auto batch = r.disk.under_way.front().batch;
    const auto after = std::move(r.disk.under_way.front().after);
    r.disk.complete_one();
    refresh_views();
    if (batch != 0) {
        r.node->persisted(batch);
    }
    for (const auto& m : after) {
        send(m);
    }
}

void RaftSim::send(const Message& m) {
    refresh_views();
    invariants_.left(m.from, m);
    ++messages_sent_;
    if (!replicas_.contains(m.to) || !connected(m.from, m.to)) {
        return;
    }
    if (healed_) {
        transmit(m, 0);
        return;
    }
    if (!rng_.chance(config_.drop)) {
        transmit(m, 0);
    }
    if (config_.duplicate > 0 && rng_.chance(config_.duplicate)) {
        transmit(m, static_cast<int>(rng_.below(50)));
    }
    if (config_.late > 0 && rng_.chance(config_.late)) {
        transmit(m, static_cast<int>(rng_.below(2000)));
    }
}

void RaftSim::transmit(const Message& m, int extra_ms) {
    const auto spread = healed_ ? 2 : config_.delay_max_ms - config_.delay_min_ms + 1;
    auto arrival = now_ + config_.delay_min_ms +
                   static_cast<int>(rng_.below(static_cast<std::uint64_t>(spread))) + extra_ms;
    if (config_.in_order && extra_ms == 0) {
        auto& last = last_delivery_[{m.from, m.to}];
        arrival = std::max(arrival, last);
        last = arrival;
    }
    std::shared_ptr<const Message> carried;
    if (config_.over_the_wire) {
        Writer out;
        encode(out, m);
        const auto bytes = out.take();
        Reader in(bytes);
        auto decoded = raft::decode_message(in);
        if (!decoded || !in.done()) {
            throw Violated{"encoding", "a message does not survive the wire"};
        }
        carried = std::make_shared<const Message>(*std::move(decoded));
    } else {
        carried = std::make_shared<const Message>(m);
    }
    push({arrival, 0, Kind::kDeliver, m.to, 0, std::move(carried), {}});
}

// --- Clients -------------------------------------------------------------------------------------

std::optional<raft::ProposalId> RaftSim::propose(ReplicaId id, Bytes command) {
    auto& r = at(id);
    if (!r.node) {
        return std::nullopt;
    }
    const auto proposal = r.node->propose(std::move(command));
    if (!proposal) {
        return std::nullopt;
    }
    r.accepted.push_back(*proposal);
    after_input(r);
    return *proposal;
}

void RaftSim::read(ReplicaId id, std::uint64_t context) {
    auto& r = at(id);
    if (r.node) {
        r.reads[context] = invariants_.committed();
        r.node->read_index(context);
        after_input(r);
    }
}

Bytes RaftSim::state_of(Replica& r) {
    if (listener_ != nullptr) {
        return listener_->snapshot(*this, r.id);
    }
    Writer out;
    out.put(r.state);
    return out.take_bytes();
}

void RaftSim::compact(ReplicaId id) {
    auto& r = at(id);
    if (r.node && !r.node->has_output()) {
        compact_at(r, r.node->applied(), state_of(r));
    }
}

void RaftSim::compact_at(Replica& r, Index index, Bytes state) {
    if (index <= r.node->snapshot_index()) {
        return;
    }
    refresh_views();
    r.node->compact(index, std::move(state), rng_.below(3) * rng_.below(2000));
    invariants_.compacted(r.id, r.node->snapshot());
    DiskWrite w;
    w.snapshot = r.node->snapshot();
    w.first_kept = r.node->first_index();
    write(r, std::move(w));
}

// --- Liveness ------------------------------------------------------------------------------------

std::optional<Violated> RaftSim::not_live() const {
    const auto id = leader();
    if (id.value == 0) {
        std::string who;
        for (const auto& [replica, r] : replicas_) {
            who += r.node ? describe(*r.node) : fmt::format("; {} is gone", replica.value);
        }
        return Violated{"liveness", "no leader after healing" + who};
    }
    const auto& leading = *at(id).node;
    if (!leading.membership_settled()) {
        return Violated{"liveness", "a change of members is stuck"};
    }
    if (may_sleep() && !is_asleep()) {
        return Violated{"liveness", "the group has nothing to do and is awake"};
    }
    for (const auto& [other, r] : replicas_) {
        if (leading.membership().is_member(other) && !r.gone) {
            if (auto violated = not_live(r, leading)) {
                return violated;
            }
        }
    }
    return std::nullopt;
}

std::optional<Violated> RaftSim::not_live(const Replica& r, const Node& leading) const {
    const auto name = r.id.value;
    if (!r.node || r.node->applied() != leading.applied() ||
        r.node->membership() != leading.membership()) {
        const auto progress = leading.progress();
        const auto it = progress.find(r.id);
        const bool is_snapshotting = it != progress.end() && it->second.snapshotting;
        return Violated{
            "liveness",
            fmt::format("{} has not caught up with leader {}: {} of {}, match {}{}", name,
                        leading.self().value, r.node ? r.node->applied().value : 0,
                        leading.applied().value, it == progress.end() ? 0 : it->second.match.value,
                        is_snapshotting ? ", a snapshot is under way" : "")};
    }
    for (const auto& proposal : r.accepted) {
        if (!invariants_.was_applied(proposal)) {
            return Violated{"liveness", fmt::format("proposal {} of {} was never applied",
                                                    proposal.sequence & 0xFFFFFFFFU, name)};
        }
    }
    return std::nullopt;
}

}  // namespace nbos::testing
