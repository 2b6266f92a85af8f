#include "raft/quiescence.h"

#include <algorithm>
#include <utility>

#include "raft/mutants.h"

namespace nbos::raft {
namespace {

Message message(MessageKind kind, const Node& node, ReplicaId to) {
    Message m;
    m.kind = kind;
    m.group = node.group();
    m.from = node.self();
    m.to = to;
    m.term = node.term();
    return m;
}

bool is_up(const Membership& members, ReplicaId id, const HostLinks& links) {
    const auto at = members.hosts.find(id);
    return at != members.hosts.end() && links.is_up(at->second);
}

std::vector<ReplicaId> others(const Node& node) {
    const auto& members = node.membership();
    std::vector<ReplicaId> ids;
    for (const auto* set : {&members.voters, &members.learners}) {
        std::copy_if(set->begin(), set->end(), std::back_inserter(ids),
                     [&](ReplicaId id) { return id != node.self(); });
    }
    return ids;
}

}  // namespace

HostLinks::Change HostLinks::up(const HostId& host, std::uint64_t incarnation) {
    auto& link = links_[host];
    link.up = true;
    return std::exchange(link.incarnation, incarnation) == incarnation ? Change::kNone
                                                                       : Change::kReborn;
}

HostLinks::Change HostLinks::down(const HostId& host) {
    return std::exchange(links_[host].up, false) ? Change::kLost : Change::kNone;
}

bool HostLinks::is_up(const HostId& host) const {
    const auto at = links_.find(host);
    return at != links_.end() && at->second.up;
}

// An attempt ends well before anybody's election timeout.
Quiescence::Quiescence(const Options& options)
    : patience_ticks_(options.quiet_after_ticks == 0
                          ? 0
                          : std::max(options.quiet_after_ticks, options.election_ticks)),
      asking_ticks_max_(std::max(1, options.election_ticks / 4)) {}

std::vector<Message> Quiescence::take_messages() { return std::exchange(messages_, {}); }

void Quiescence::tick(Node& node, const HostLinks& links) {
    settle(node);
    if (state_ == State::kQuiet) {
        return;
    }
    if (state_ == State::kAsking) {
        if (++ticks_ < asking_ticks_max_) {
            return;
        }
        stay_awake();  // an answer was lost, or is slow; the next heartbeat wakes who has agreed
    }
    const bool idle = may_ask(node, links) && node.last_index() == last_;
    last_ = node.last_index();
    ticks_ = idle ? ticks_ + 1 : 0;
    if (idle && ticks_ >= patience_ticks_) {
        ask(node);
    } else {
        node.tick();
    }
}

bool Quiescence::may_ask(const Node& node, const HostLinks& links) const {
    if (patience_ticks_ == 0 || node.role() != Role::kLeader || !node.at_rest()) {
        return false;
    }
    const auto ids = others(node);
    return std::all_of(ids.begin(), ids.end(),
                       [&](ReplicaId id) { return is_up(node.membership(), id, links); });
}

void Quiescence::ask(Node& node) {
    ++round_;
    ticks_ = 0;
    missing_ = others(node);
    state_ = missing_.empty() ? State::kQuiet : State::kAsking;
    for (const auto id : missing_) {
        auto m = message(MessageKind::kQuiet, node, id);
        m.index = node.last_index();
        m.round = round_;
        messages_.push_back(std::move(m));
    }
}

void Quiescence::step(Node& node, const Message& m, const HostLinks& links) {
    if (m.group != node.group() || m.to != node.self()) {
        return;
    }
    if (m.kind == MessageKind::kQuiet) {
        on_quiet(node, m, links);
        return;
    }
    if (m.kind == MessageKind::kQuietReply) {
        on_quiet_reply(node, m, links);
        return;
    }
    if (state_ == State::kQuiet) {
        wake(node);
        if (m.from != node.leader()) {
            tell_leader(node);
        }
    } else if (m.kind != MessageKind::kHeartbeatReply) {
        stay_awake();
    }
    if (m.kind != MessageKind::kWake) {
        node.step(m);
    }
}

// Everything that the leader believes of this replica must be true here; its term above all.
bool Quiescence::agrees(const Node& node, const Message& m, const HostLinks& links) const {
    if (patience_ticks_ == 0 || node.role() != Role::kFollower) {
        return false;
    }
    const bool same_leader = node.term() == m.term && node.leader() == m.from;
    const bool same_log =
        node.last_index() == m.index || NBOS_MUTANT(node.planted(), quiet_when_unequal);
    const bool at_rest = node.at_rest() || NBOS_MUTANT(node.planted(), quiet_when_unequal);
    return same_leader && same_log && at_rest && is_up(node.membership(), m.from, links);
}

void Quiescence::on_quiet(Node& node, const Message& m, const HostLinks& links) {
    auto reply = message(MessageKind::kQuietReply, node, m.from);
    reply.index = m.index;
    reply.round = m.round;
    reply.reject = !agrees(node, m, links);
    if (!reply.reject) {
        state_ = State::kQuiet;
    } else if (state_ == State::kQuiet) {
        wake(node);
    } else {
        stay_awake();
    }
    messages_.push_back(std::move(reply));
}

void Quiescence::on_quiet_reply(Node& node, const Message& m, const HostLinks& links) {
    if (state_ != State::kAsking || m.round != round_) {
        return;
    }
    if (m.reject || m.term != node.term() || !may_ask(node, links)) {
        stay_awake();
        return;
    }
    std::erase(missing_, m.from);
    if (missing_.empty()) {
        state_ = State::kQuiet;
    }
}

void Quiescence::settle(Node& node) {
    if (state_ == State::kAwake || node.at_rest() ||
        NBOS_MUTANT(node.planted(), asleep_through_proposals)) {
        return;
    }
    wake(node);
}

void Quiescence::link_changed(Node& node, const HostId& host, HostLinks::Change change) {
    if (change == HostLinks::Change::kNone || state_ == State::kAwake) {
        return;
    }
    const bool ignored =
        (change == HostLinks::Change::kReborn &&
         NBOS_MUTANT(node.planted(), asleep_through_rebirths)) ||
        (change == HostLinks::Change::kLost && NBOS_MUTANT(node.planted(), asleep_through_losses));
    const auto& hosts = node.membership().hosts;
    const bool concerned =
        std::any_of(hosts.begin(), hosts.end(), [&](const auto& at) { return at.second == host; });
    if (concerned && !ignored) {
        wake(node);
        tell_leader(node);
    }
}

void Quiescence::stay_awake() {
    state_ = State::kAwake;
    ticks_ = 0;
}

// Whoever was asked and has agreed hears of it by the leader's next heartbeat: of one that was
// quiet itself, at once.
void Quiescence::wake(Node& node) {
    if (state_ == State::kQuiet) {
        node.resume();
    }
    stay_awake();
}

void Quiescence::tell_leader(const Node& node) {
    if (node.role() == Role::kFollower && node.leader().value != 0) {
        messages_.push_back(message(MessageKind::kWake, node, node.leader()));
    }
}

}  // namespace nbos::raft
