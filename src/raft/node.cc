#include "raft/node.h"

#include <algorithm>
#include <utility>

#include "raft/node_impl.h"

namespace nbos::raft {

Node::Impl::Impl(GroupId group_id, ReplicaId self_id, Options opts, Restored restored,
                 std::uint64_t seed)
    : group(group_id),
      self(self_id),
      options(opts),
      log(std::move(restored.snapshot), std::move(restored.log)),
      rng_(seed) {
    const auto& stored = restored.hard_state;
    term = stored.term;
    vote = stored.vote;
    // A write that was cut short may have kept a log of a term whose own record is gone. Nothing
    // was promised in that term then.
    if (log.last_term() > term) {
        term = log.last_term();
        vote = ReplicaId{};
    }
    incarnation_ = stored.incarnation + 1;
    durable_ = stored;
    written_ = stored;
    stable_ = log.last();
    unsaved_from_ = Index{log.last().value + 1};
    applied = log.snapshot().index;
    commit = std::clamp(stored.commit, applied, std::max(applied, log.last()));
    applied_table_ = log.snapshot().applied_proposals;
    heard_ticks_ = options.election_ticks;
    reset_election_timer();
}

HardState Node::Impl::hard_state() const {
    // The commit hint never runs ahead of the durable log: a torn write must not let a restarted
    // node take a stale entry for the committed one.
    return {term, vote, std::min(commit, std::max(stable_, written_.commit)), incarnation_};
}

Message Node::Impl::message(MessageKind kind, ReplicaId to) const {
    Message m;
    m.kind = kind;
    m.group = group;
    m.from = self;
    m.to = to;
    m.term = term;
    return m;
}

void Node::Impl::send_after_persist(Message m) { after_persist_.push_back(std::move(m)); }

bool Node::Impl::is_hard_state_durable() const {
    return durable_.term == term && durable_.vote == vote && durable_.incarnation == incarnation_;
}

void Node::Impl::send_after_hard_state(Message m) {
    (is_hard_state_durable() ? ready_ : after_persist_).push_back(std::move(m));
}

void Node::Impl::tick() {
    if (role == Role::kLeader) {
        tick_leader();
    } else {
        tick_others();
    }
    if (!pending_.empty() && ++pending_ticks_ >= 2 * options.election_ticks &&
        role != Role::kLeader) {
        pending_.hand_out_again();  // what we forwarded may have been lost
        pending_ticks_ = 0;
    }
}

void Node::Impl::tick_leader() {
    if (++heartbeat_elapsed_ >= options.heartbeat_ticks) {
        heartbeat_elapsed_ = 0;
        heartbeat_due_ = true;
    }
    if (++quorum_elapsed_ >= options.election_ticks) {
        quorum_elapsed_ = 0;
        const bool in_touch = quorum_of(log.membership(), [&](ReplicaId id) {
            const auto it = followers_.find(id);
            return id == self || (it != followers_.end() && it->second.recently_active);
        });
        for (auto& [id, f] : followers_) {
            f.recently_active = false;
        }
        if (!in_touch) {
            become_follower(term, ReplicaId{});
            return;
        }
    }
    if (transfer_target_.value != 0 && ++transfer_elapsed_ >= options.election_ticks) {
        stop_transfer();
        maybe_leave_joint();
    }
    for (auto& [id, f] : followers_) {
        if (!f.awaits_reply()) {
            continue;
        }
        ++f.quiet_ticks;
        // Bulk may wait long for its turn; to send it again would make that longer.
        const int patience = (f.has_bulk_in_flight() ? 4 : 1) * options.election_ticks;
        if (f.mode == Follower::Mode::kSnapshot) {
            if (f.quiet_ticks >= options.snapshot_retry_ticks) {
                f.quiet_ticks = 0;
                f.chunk_sent = f.chunk_acked;
                entries_due_ = true;
            }
        } else if (f.quiet_ticks >= patience) {
            // An append or its answer was lost, or its disk is slow: not all of it anew.
            f.to_probe(Index{f.received.value + 1});
            entries_due_ = true;
        }
    }
}

void Node::Impl::tick_others() {
    heard_ticks_ = std::min(heard_ticks_ + 1, options.election_ticks);
    for (auto it = forwarded_reads_.begin(); it != forwarded_reads_.end();) {
        if (++it->second >= 2 * options.election_ticks) {
            reads_lost_.push_back(it->first);
            it = forwarded_reads_.erase(it);
        } else {
            ++it;
        }
    }
    if (++election_elapsed_ >= election_timeout_) {
        if (leader.value != 0) {
            leader = ReplicaId{};
            lose_reads();
        }
        if (may_campaign()) {
            start_pre_vote();
        } else {
            reset_election_timer();
        }
    }
}

void Node::Impl::step(const Message& m) {
    if (m.group != group || m.to != self || m.from == self || m.from.value == 0) {
        return;
    }
    if (m.term > term && !on_newer_term(m)) {
        return;
    }
    if (m.term < term) {
        on_older_term(m);
        return;
    }
    note_activity(m);
    dispatch(m);
}

// Whatever a follower says, it is in touch; but one that campaigns does not follow.
void Node::Impl::note_activity(const Message& m) {
    const auto from = followers_.find(m.from);
    if (from != followers_.end() && m.term == term && m.kind != MessageKind::kPreVote) {
        from->second.recently_active = true;
    }
}

// False: the message has been dealt with.
bool Node::Impl::on_newer_term(const Message& m) {
    switch (m.kind) {
        case MessageKind::kPreVote:
            return true;  // the term it would campaign in is not one yet
        case MessageKind::kPreVoteReply:
            if (m.reject) {
                become_follower(m.term, ReplicaId{});
                return false;
            }
            return true;
        case MessageKind::kVote:
            if (!m.force && is_leased()) {
                return false;  // a server that was removed, or that hears nothing, disturbs nobody
            }
            become_follower(m.term, ReplicaId{});
            return true;
        default:
            become_follower(m.term, ReplicaId{});
            return true;
    }
}

void Node::Impl::on_older_term(const Message& m) {
    switch (m.kind) {
        case MessageKind::kPreVote: {
            auto reply = message(MessageKind::kPreVoteReply, m.from);
            reply.reject = true;
            send_after_hard_state(std::move(reply));
            return;
        }
        case MessageKind::kVote: {
            auto reply = message(MessageKind::kVoteReply, m.from);
            reply.reject = true;
            send_after_hard_state(std::move(reply));
            return;
        }
        case MessageKind::kAppend:
        case MessageKind::kHeartbeat:
        case MessageKind::kSnapshotChunk: {
            // A leader behind us would otherwise never learn why we are silent, and we, stranded
            // at a higher term that pre-votes cannot spread, would never rejoin.
            auto reply = message(MessageKind::kAppendReply, m.from);
            reply.reject = true;
            send_after_hard_state(std::move(reply));
            return;
        }
        case MessageKind::kPropose:
            on_propose(m);
            return;
        case MessageKind::kReadIndex:
            on_read_index(m);
            return;
        default:
            return;
    }
}

void Node::Impl::dispatch(const Message& m) {
    switch (m.kind) {
        case MessageKind::kPreVote:
            on_pre_vote(m);
            return;
        case MessageKind::kPreVoteReply:
            on_pre_vote_reply(m);
            return;
        case MessageKind::kVote:
            on_vote(m);
            return;
        case MessageKind::kVoteReply:
            on_vote_reply(m);
            return;
        case MessageKind::kAppend:
            on_append(m);
            return;
        case MessageKind::kAppendReply:
            on_append_reply(m);
            return;
        case MessageKind::kHeartbeat:
            on_heartbeat(m);
            return;
        case MessageKind::kHeartbeatReply:
            on_heartbeat_reply(m);
            return;
        case MessageKind::kSnapshotChunk:
            on_snapshot_chunk(m);
            return;
        case MessageKind::kSnapshotReply:
            on_snapshot_reply(m);
            return;
        case MessageKind::kTimeoutNow:
            on_timeout_now(m);
            return;
        case MessageKind::kTransferRequest:
            on_transfer_request(m);
            return;
        case MessageKind::kPropose:
            on_propose(m);
            return;
        case MessageKind::kReadIndex:
            on_read_index(m);
            return;
        case MessageKind::kReadIndexReply:
            on_read_index_reply(m);
            return;
        case MessageKind::kQuiet:
        case MessageKind::kQuietReply:
        case MessageKind::kWake:
            return;
    }
}

void Node::Impl::persisted(std::uint64_t batch) {
    while (!batches_.empty() && batches_.front().number <= batch) {
        auto& done = batches_.front();
        stable_ = std::max(stable_, done.last);
        if (done.hard_state) {
            durable_ = *done.hard_state;
        }
        std::move(done.waiting.begin(), done.waiting.end(), std::back_inserter(ready_));
        batches_.pop_front();
    }
    if (role == Role::kCandidate && durable_.term == term && durable_.vote == self &&
        votes_.emplace(self, true).second) {
        count_votes();
    }
    if (role == Role::kLeader) {
        maybe_commit();
    }
}

bool Node::Impl::has_output() const {
    return !ready_.empty() || !after_persist_.empty() || install_.has_value() ||
           unsaved_from_ <= log.last() || applied < commit || !reads_ready_.empty() ||
           !reads_lost_.empty() || entries_due_ || heartbeat_due_ ||
           (pending_.has_new() && leader.value != 0 && transfer_target_.value == 0) ||
           written_.term != term || written_.vote != vote || written_.incarnation != incarnation_;
}

Output Node::Impl::take_output() {
    hand_out_proposals();
    if (role == Role::kLeader) {
        send_entries();
        serve_reads();
    }
    heartbeat_due_ = false;

    Output out;
    write_batch(out);
    hand_out_committed(out);
    out.send_now = std::exchange(ready_, {});
    out.reads = std::exchange(reads_ready_, {});
    out.lost_reads = std::exchange(reads_lost_, {});
    return out;
}

void Node::Impl::write_batch(Output& out) {
    constexpr std::uint64_t kCommitHintEvery = 64;
    const auto state = hard_state();
    const bool must_write = written_.term != state.term || written_.vote != state.vote ||
                            written_.incarnation != state.incarnation;
    const bool writes_log = install_.has_value() || unsaved_from_ <= log.last();
    if (must_write ||
        (writes_log && state.commit.value >= written_.commit.value + kCommitHintEvery)) {
        out.hard_state = state;
        written_ = state;
    }
    out.install = std::exchange(install_, std::nullopt);
    if (unsaved_from_ <= log.last()) {
        out.append = log.tail(unsaved_from_);
        unsaved_from_ = Index{log.last().value + 1};
    }
    auto messages = std::exchange(after_persist_, {});
    if (out.hard_state || out.install || !out.append.empty()) {
        out.batch = ++last_batch_;
        batches_.push_back({out.batch, log.last(), out.hard_state, {}});
        out.after_persist = std::move(messages);
    } else if (!batches_.empty()) {
        auto& waiting = batches_.back().waiting;
        std::move(messages.begin(), messages.end(), std::back_inserter(waiting));
    } else {
        out.after_persist = std::move(messages);
    }
}

void Node::Impl::hand_out_committed(Output& out) {
    // An installed snapshot is handed out in the same Output, before these.
    applied = std::max(applied, log.snapshot().index);
    entries_due_ = role == Role::kLeader && applied < commit;  // followers want to know
    while (applied < commit) {
        ++applied.value;
        auto entry = log.at(applied);
        if (entry.proposal.sequence != 0) {
            if (entry.proposal.proposer == self) {
                pending_.done(entry.proposal);
            }
            in_log_.erase(entry.proposal);
            if (already_applied(applied_table_, entry.proposal) &&
                !NBOS_MUTANT(mutants, copies_count)) {
                entry.kind = EntryKind::kNoop;
                entry.proposal = {};
                entry.data = {};
            }
        }
        out.committed.push_back(std::move(entry));
    }
}

// The log below `unsaved_from` is as it was; what was handed out above it has been replaced.
void Node::Impl::log_changed(Index unsaved_from) {
    unsaved_from_ = std::min(unsaved_from_, unsaved_from);
    const Index kept{unsaved_from.value - 1};
    stable_ = std::min(stable_, kept);
    for (auto& batch : batches_) {
        batch.last = std::min(batch.last, kept);
    }
}

AppliedTable Node::Impl::applied_table_at(Index index) const {
    auto table = log.snapshot().applied_proposals;
    for (auto i = Index{log.snapshot().index.value + 1}; i <= index; ++i.value) {
        if (const auto& entry = log.at(i); entry.proposal.sequence != 0) {
            already_applied(table, entry.proposal);
        }
    }
    return table;
}

void Node::Impl::compact(Index index, Bytes state, std::size_t keep_bytes) {
    require(index <= applied, "compact above what has been handed out to be applied");
    if (index <= log.snapshot().index) {
        return;
    }
    Snapshot snapshot;
    snapshot.index = index;
    snapshot.term = *log.term_at(index);
    snapshot.membership = log.membership_at(index);
    snapshot.applied_proposals = index == applied ? applied_table_ : applied_table_at(index);
    snapshot.state = std::move(state);
    log.compact(std::move(snapshot), keep_bytes);
}

bool Node::Impl::membership_settled() const {
    return !log.membership().joint() && log.membership_index() <= commit;
}

bool Node::Impl::at_rest() const {
    const bool all_applied = applied == log.last() && stable_ == log.last() && batches_.empty();
    const bool nobody_waits =
        pending_.empty() && forwarded_reads_.empty() && !incoming_ && !has_output();
    if (!all_applied || !nobody_waits || leader.value == 0 || !membership_settled()) {
        return false;
    }
    return role == Role::kFollower || (role == Role::kLeader && has_members_at_rest());
}

bool Node::Impl::has_members_at_rest() const {
    if (NBOS_MUTANT(mutants, quiet_when_unequal)) {
        return true;
    }
    constexpr std::uint64_t kUnanswered = 2;  // heartbeats that may be on their way
    const auto is_at_rest = [&](const auto& member) {
        const Follower& f = member.second;
        return f.match == log.last() && f.commit_sent == log.last() && !f.awaits_reply() &&
               f.heartbeat_acked + kUnanswered >= heartbeat_round_;
    };
    return transfer_target_.value == 0 && reads_.empty() && in_log_.empty() &&
           std::all_of(followers_.begin(), followers_.end(), is_at_rest);
}

void Node::Impl::resume() {
    if (role != Role::kLeader) {
        reset_election_timer();
        return;
    }
    heartbeat_elapsed_ = 0;
    heartbeat_due_ = true;
    // Nobody was asked for a sign of life: that nobody gave one means nothing, and what was heard
    // before means nothing any more.
    quorum_elapsed_ = 0;
    for (auto& [id, f] : followers_) {
        f.recently_active = false;
    }
}

std::map<ReplicaId, Progress> Node::Impl::progress() const {
    std::map<ReplicaId, Progress> out;
    for (const auto& [id, f] : followers_) {
        out[id] = {f.match, f.inflight_bytes, f.recently_active,
                   f.mode == Follower::Mode::kSnapshot};
    }
    return out;
}

// --- The public face -----------------------------------------------------------------------------

Node::Node(GroupId group, ReplicaId self, Options options, Restored restored, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(group, self, options, std::move(restored), seed)) {}
Node::~Node() = default;
Node::Node(Node&&) noexcept = default;
Node& Node::operator=(Node&&) noexcept = default;

void Node::tick() { impl_->tick(); }
void Node::step(const Message& message) { impl_->step(message); }
void Node::persisted(std::uint64_t batch) { impl_->persisted(batch); }
Result<ProposalId> Node::propose(Bytes command) { return impl_->propose(std::move(command)); }
Result<Index> Node::change_membership(Membership next) {
    return impl_->change_membership(std::move(next));
}
void Node::transfer_leadership(ReplicaId target) { impl_->transfer_leadership(target); }
void Node::campaign() { impl_->campaign(); }
void Node::peer_is_dead(ReplicaId peer) { impl_->peer_is_dead(peer); }
void Node::read_index(std::uint64_t context) { impl_->read_index(context); }
void Node::compact(Index index, Bytes state, std::size_t keep_bytes) {
    impl_->compact(index, std::move(state), keep_bytes);
}
bool Node::has_output() const { return impl_->has_output(); }
Output Node::take_output() { return impl_->take_output(); }
bool Node::at_rest() const { return impl_->at_rest(); }
void Node::resume() { impl_->resume(); }
GroupId Node::group() const { return impl_->group; }
ReplicaId Node::self() const { return impl_->self; }
Role Node::role() const { return impl_->role; }
Term Node::term() const { return impl_->term; }
ReplicaId Node::leader() const { return impl_->leader; }
Index Node::committed() const { return impl_->commit; }
Index Node::applied() const { return impl_->applied; }
Index Node::last_index() const { return impl_->log.last(); }
Index Node::snapshot_index() const { return impl_->log.snapshot().index; }
const Snapshot& Node::snapshot() const { return impl_->log.snapshot(); }
Index Node::first_index() const { return impl_->log.first(); }
std::optional<Term> Node::term_at(Index index) const { return impl_->log.term_at(index); }
std::size_t Node::log_bytes() const { return impl_->log.bytes(); }
const Membership& Node::membership() const { return impl_->log.membership(); }
bool Node::membership_settled() const { return impl_->membership_settled(); }
std::map<ReplicaId, Progress> Node::progress() const { return impl_->progress(); }

#ifdef NBOS_RAFT_MUTANTS
void Node::plant(const Mutants& mutants) {
    impl_->mutants = mutants;
    impl_->log.mutants = mutants;
}
const Mutants& Node::planted() const { return impl_->mutants; }
#endif

}  // namespace nbos::raft
