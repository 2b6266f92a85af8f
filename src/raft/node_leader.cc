// What a leader does: replication and commit (thesis 3.5, 3.6), reads (6.4) and proposals. Changes
// of members are in node_membership.cc, snapshots sent in node_snapshot.cc.
#include <algorithm>
#include <limits>
#include <utility>

#include "raft/node_impl.h"

namespace nbos::raft {
namespace {

// A probe asks where logs agree; it takes few entries along, as it may well be refused.
constexpr std::size_t kProbeBytes = 64U << 10U;

// Appends from here on are bulk: heartbeats, votes and the appends of other groups overtake them.
constexpr std::size_t kBulkBytes = 32U << 10U;

}  // namespace

void Node::Impl::append_own(EntryKind kind, ProposalId proposal, Bytes data) {
    Entry entry;
    entry.term = term;
    entry.index = Index{log.last().value + 1};
    entry.kind = kind;
    entry.proposal = proposal;
    entry.data = std::move(data);
    uncommitted_bytes_ += size_in_bytes(entry);
    log.append_one(std::move(entry));
    entries_due_ = true;
}

void Node::Impl::maybe_commit() {
    const auto reached = [&](ReplicaId id) {
        if (id == self) {
            return stable_.value;  // sent before our own fsync, but counted only after it
        }
        const auto it = followers_.find(id);
        return it == followers_.end() ? 0 : it->second.match.value;
    };
    auto index = Index{quorum_value(log.membership(), reached)};
#ifdef NBOS_RAFT_MUTANTS
    if (mutants.learner_in_quorum) {
        auto members = log.membership();
        members.voters.insert(members.learners.begin(), members.learners.end());
        index = Index{quorum_value(members, reached)};
    }
#endif
    // Only entries of our own term are committed by counting (3.6.2, Figure 3.7): an older one may
    // be on a majority and still be replaced.
    if (index <= commit || (log.term_at(index) != term && !NBOS_MUTANT(mutants, commit_old_term))) {
        return;
    }
    const bool first_of_term = !has_committed_own_term();
    set_commit(index);
    if (first_of_term) {
        start_waiting_reads();
    }
    maybe_leave_joint();
    if (!log.membership().is_voter(self) && membership_settled()) {
        become_follower(term, ReplicaId{});  // it has led its own group out of its hands (4.2.2)
    }
}

void Node::Impl::set_commit(Index index) {
    if (index <= commit) {
        return;
    }
    require(index <= log.last(), "commit beyond the end of the log");
    if (role == Role::kLeader) {
        for (auto i = Index{commit.value + 1}; i <= index; ++i.value) {
            uncommitted_bytes_ -= std::min(uncommitted_bytes_, size_in_bytes(log.at(i)));
        }
    }
    commit = index;
    if (incoming_ && incoming_->index <= commit) {
        incoming_.reset();  // the entries themselves came first
    }
}

void Node::Impl::send_entries() {
    if (heartbeat_due_) {
        broadcast_heartbeat();
    }
    if (entries_due_) {
        for (auto& [id, f] : followers_) {
            send_to(id, f);
        }
    }
}

void Node::Impl::broadcast_heartbeat() {
    ++heartbeat_round_;
    for (auto& [id, f] : followers_) {
        // Behind bulk goes a second one: only what keeps its order shows that an append was lost.
        const Index last_sent{f.awaits_reply() ? f.next.value - 1 : 0};
        const bool bulk = f.has_bulk_in_flight();
        send_heartbeat(id, f, bulk ? Index{} : last_sent, false);
        if (bulk) {
            send_heartbeat(id, f, last_sent, true);
        }
    }
}

void Node::Impl::send_heartbeat(ReplicaId id, Follower& f, Index behind, bool bulk) {
    auto m = message(MessageKind::kHeartbeat, id);
    m.commit = std::min(commit, f.match);
    m.round = heartbeat_round_;
    m.index = behind;
    m.bulk = bulk;
    f.commit_sent = std::max(f.commit_sent, m.commit);
    send(std::move(m));
}

void Node::Impl::send_to(ReplicaId id, Follower& f) {
    if (f.mode == Follower::Mode::kProbe && !f.probe_sent) {
        send_append(id, f, std::min(kProbeBytes, options.append_bytes_max));
    }
    while (f.mode == Follower::Mode::kReplicate && f.next <= log.last() &&
           f.inflight_bytes < options.inflight_bytes_max) {
        send_append(id, f, options.append_bytes_max);
    }
    if (f.mode == Follower::Mode::kSnapshot) {
        send_chunks(id, f);
    }
    // What was handed out in this Output is told in the next one: the application may propose
    // meanwhile, and then the news of the commit travels with the entries.
    if (const auto known = std::min(applied, f.match); known > f.commit_sent) {
        f.commit_sent = known;
        auto m = message(MessageKind::kHeartbeat, id);
        m.commit = known;
        send(std::move(m));
    }
}

void Node::Impl::send_append(ReplicaId id, Follower& f, std::size_t bytes_max) {
    const Index prev{f.next.value - 1};
    const auto prev_term = log.term_at(prev);
    if (!prev_term) {
        begin_snapshot(f);
        return;
    }
    auto m = message(MessageKind::kAppend, id);
    m.index = prev;
    m.log_term = *prev_term;
    m.commit = commit;
    m.round = ++f.round;
    m.entries = log.slice(f.next, bytes_max);
    std::size_t bytes = 0;
    for (const auto& entry : m.entries) {
        bytes += size_in_bytes(entry);
    }
    const Index last{prev.value + m.entries.size()};
    m.bulk = bytes >= kBulkBytes || f.has_bulk_in_flight();
    if (m.bulk) {
        f.bulk_sent = last;
    }
    if (f.mode == Follower::Mode::kProbe) {
        f.probe_sent = true;
        f.probe_heartbeat = heartbeat_round_;
    } else {
        f.next = Index{last.value + 1};
        f.sent(last, bytes, heartbeat_round_);
        f.commit_sent = std::max(f.commit_sent, std::min(commit, last));
    }
    send(std::move(m));
}

void Node::Impl::on_append_reply(const Message& m) {
    const auto it = followers_.find(m.from);
    if (role != Role::kLeader || it == followers_.end()) {
        return;
    }
    auto& f = it->second;
    if (m.reject) {
        on_append_rejected(m, f);
        return;
    }
    require(m.index <= log.last(), "a follower acknowledges what we do not have");
    f.acknowledged(m.index);
    f.match = std::max(f.match, m.index);
    f.next = std::max(f.next, Index{f.match.value + 1});
    // Also when the log has been cut further meanwhile: then it needs the next snapshot, not this.
    const bool snapshot_is_over =
        f.mode == Follower::Mode::kSnapshot &&
        (f.match >= f.snapshot->index || log.term_at(f.match).has_value());
    if (f.mode == Follower::Mode::kProbe || snapshot_is_over) {
        f.to_replicate();
    }
    entries_due_ = true;
    maybe_commit();
    if (role == Role::kLeader && transfer_target_ == m.from) {
        continue_transfer();
    }
}

void Node::Impl::on_append_rejected(const Message& m, Follower& f) {
    const bool stale = m.round < f.mode_round || f.mode == Follower::Mode::kSnapshot ||
                       (f.mode == Follower::Mode::kProbe && m.round != f.round);
    if (stale) {
        return;
    }
    // The follower's hint and our own log, each in one step, skip all of a term (5.3 of the paper).
    const auto agreed = log.last_at_or_below(m.hint_index, m.hint_term);
    f.to_probe(Index{agreed.value + 1});
    entries_due_ = true;
}

void Node::Impl::on_heartbeat_reply(const Message& m) {
    const auto it = followers_.find(m.from);
    if (role != Role::kLeader || it == followers_.end()) {
        return;
    }
    auto& f = it->second;
    f.heartbeat_acked = std::max(f.heartbeat_acked, m.round);
    if (m.index.value != 0) {
        look_for_losses(m, f);
    }
    serve_reads();
}

// It answered a heartbeat that travelled behind an append. (A hint only: acknowledgements alone
// move `match`.)
void Node::Impl::look_for_losses(const Message& m, Follower& f) {
    const bool streams = f.mode == Follower::Mode::kReplicate && !f.inflight.empty() &&
                         f.inflight.front().heartbeat < m.round;
    if (streams && m.hint_index >= f.inflight.front().last) {
        f.received = std::min(m.hint_index, Index{f.next.value - 1});
        return;
    }
    const bool probe_lost =
        f.mode == Follower::Mode::kProbe && f.probe_sent && f.probe_heartbeat + 1 < m.round;
    if (streams || probe_lost) {
        f.to_probe(f.mode == Follower::Mode::kProbe ? f.next : Index{f.match.value + 1});
        entries_due_ = true;
    }
}

// --- Proposals -----------------------------------------------------------------------------------

Result<ProposalId> Node::Impl::propose(Bytes command) {
    const auto waiting = std::max(pending_.bytes(), uncommitted_bytes_);
    if (waiting > 0 && waiting + command.size() > options.uncommitted_bytes_max) {
        return Error{Errc::kExhausted, Certainty::kDidNotHappen,
                     "too many bytes are proposed and not committed; try again after a commit"};
    }
    const ProposalId id{self, (incarnation_ << 32U) + ++proposals_};
    pending_.add(id, std::move(command));
    if (role == Role::kLeader) {
        hand_out_proposals();
    }
    return id;
}

void Node::Impl::hand_out_proposals() {
    if (!pending_.has_new()) {
        return;
    }
    if (role == Role::kLeader) {
        if (transfer_target_.value == 0) {
            pending_.hand_out([&](const Entry& entry) {
                if (!in_log_.contains(entry.proposal) || NBOS_MUTANT(mutants, copies_count)) {
                    append_own(EntryKind::kCommand, entry.proposal, entry.data);
                }
                return true;
            });
        }
    } else if (leader.value != 0) {
        forward_proposals();
    }
}

void Node::Impl::forward_proposals() {
    pending_ticks_ = 0;
    while (pending_.has_new()) {
        auto m = message(MessageKind::kPropose, leader);
        std::size_t bytes = 0;
        pending_.hand_out([&](const Entry& entry) {
            bytes += size_in_bytes(entry);
            if (!m.entries.empty() && bytes > options.append_bytes_max) {
                return false;
            }
            m.entries.push_back(entry);
            return true;
        });
        send_after_hard_state(std::move(m));  // its numbers must never be used again
    }
}

void Node::Impl::on_propose(const Message& m) {
    if (role != Role::kLeader || transfer_target_.value != 0) {
        return;  // the proposer asks again when it sees the next leader, or after a while
    }
    for (const auto& entry : m.entries) {
        const bool is_command = entry.kind == EntryKind::kCommand && entry.proposal.sequence != 0;
        if (uncommitted_bytes_ > options.uncommitted_bytes_max) {
            return;
        }
        const auto is_new = [&] {
            return !is_applied(applied_table_, entry.proposal) &&
                   in_log_.insert(entry.proposal).second;
        };
        if (is_command && (is_new() || NBOS_MUTANT(mutants, copies_count))) {
            append_own(EntryKind::kCommand, entry.proposal, entry.data);
        }
    }
}

// --- Reads ---------------------------------------------------------------------------------------

void Node::Impl::read_index(std::uint64_t context) {
    if (role == Role::kLeader) {
        add_read(context, self);
    } else if (leader.value != 0) {
        forwarded_reads_[context] = 0;
        auto m = message(MessageKind::kReadIndex, leader);
        m.context = context;
        send(std::move(m));
    } else {
        reads_lost_.push_back(context);
    }
}

void Node::Impl::on_read_index(const Message& m) {
    if (role == Role::kLeader) {
        add_read(m.context, m.from);
        return;
    }
    auto reply = message(MessageKind::kReadIndexReply, m.from);
    reply.context = m.context;
    reply.reject = true;
    send_after_hard_state(std::move(reply));
}

void Node::Impl::add_read(std::uint64_t context, ReplicaId from) {
    if (NBOS_MUTANT(mutants, read_unconfirmed)) {
        answer_read({context, from, 0, commit});
        return;
    }
    reads_.push_back({context, from, 0, Index{}});
    if (has_committed_own_term() || NBOS_MUTANT(mutants, read_before_own_commit)) {
        start_waiting_reads();
    }  // else: a new leader may not know yet what is committed (6.4)
}

void Node::Impl::start_waiting_reads() {
    for (auto it = reads_.rbegin(); it != reads_.rend() && it->round == 0; ++it) {
        it->index = commit;
        it->round = heartbeat_round_ + 1;
        heartbeat_due_ = true;
    }
}

void Node::Impl::serve_reads() {
    if (reads_.empty()) {
        return;
    }
    const auto confirmed = std::min(
        heartbeat_round_, quorum_value(log.membership(), [&](ReplicaId id) -> std::uint64_t {
            if (id == self) {
                return std::numeric_limits<std::uint64_t>::max();
            }
            const auto it = followers_.find(id);
            return it == followers_.end() ? 0 : it->second.heartbeat_acked;
        }));
    while (!reads_.empty() && reads_.front().round != 0 && reads_.front().round <= confirmed) {
        answer_read(reads_.front());
        reads_.pop_front();
    }
}

void Node::Impl::answer_read(const PendingRead& read) {
    if (read.from == self) {
        reads_ready_.push_back({read.context, read.index});
        return;
    }
    auto reply = message(MessageKind::kReadIndexReply, read.from);
    reply.context = read.context;
    reply.index = read.index;
    send(std::move(reply));
}

void Node::Impl::on_read_index_reply(const Message& m) {
    if (forwarded_reads_.erase(m.context) == 0) {
        return;
    }
    if (m.reject) {
        reads_lost_.push_back(m.context);
    } else {
        reads_ready_.push_back({m.context, m.index});
    }
}

}  // namespace nbos::raft
