// Votes, roles and the transfer of leadership (thesis 3.4, 3.10, 4.2, 9.6).
#include <algorithm>

#include "raft/node_impl.h"

namespace nbos::raft {

void Node::Impl::reset_election_timer() {
    election_elapsed_ = 0;
    const auto base =
        leader_died_ ? std::max(1, options.election_ticks / 2) : options.election_ticks;
    election_timeout_ = base + static_cast<int>(rng_.below(static_cast<std::uint64_t>(base)));
}

void Node::Impl::lose_reads() {
    for (const auto& [context, age] : forwarded_reads_) {
        reads_lost_.push_back(context);
    }
    forwarded_reads_.clear();
    for (const auto& read : reads_) {
        if (read.from == self) {
            reads_lost_.push_back(read.context);
        }
    }
    reads_.clear();
}

void Node::Impl::become_follower(Term new_term, ReplicaId new_leader) {
    if (new_term > term) {
        term = new_term;
        vote = ReplicaId{};
        incoming_.reset();
    }
    role = Role::kFollower;
    votes_.clear();
    followers_.clear();
    outgoing_.reset();
    transfer_target_ = ReplicaId{};
    uncommitted_bytes_ = 0;  // a leader's business; propose() must not wait for it here
    entries_due_ = false;
    heartbeat_due_ = false;
    lose_reads();
    leader = new_leader;
    pending_.hand_out_again();
    pending_ticks_ = 0;
    reset_election_timer();
}

void Node::Impl::heard_from_leader(ReplicaId from) {
    require(role != Role::kLeader, "two leaders in one term");
    if (role != Role::kFollower || leader != from) {
        become_follower(term, from);
    }
    leader_died_ = false;
    last_leader_ = from;
    heard_ticks_ = 0;
    election_elapsed_ = 0;
}

// A live leader is known to be near: nobody else is wanted (4.2.3, rule 5 of consensus.md 7).
bool Node::Impl::is_leased() const {
    return role == Role::kLeader || heard_ticks_ < options.election_ticks;
}

bool Node::Impl::is_up_to_date(const Message& m) const {
    return m.log_term > log.last_term() || (m.log_term == log.last_term() && m.index >= log.last());
}

// Only as a voter; but one that its own log removes by an entry it does not know to be committed is
// still needed: it may be the only one with a log new enough to win, and it then leads until that
// entry is committed (4.2.2). After a power loss it knows of few commits: it may have become a
// voter behind the last of those, and have been removed since.
bool Node::Impl::may_campaign() const { return log.is_voter_since(commit, self); }

void Node::Impl::campaign() {
    if (role != Role::kLeader && may_campaign()) {
        start_pre_vote();
    }
}

void Node::Impl::start_pre_vote() {
    become_follower(term, ReplicaId{});
    role = Role::kPreCandidate;
    votes_ = {{self, true}};
    send_vote_requests(MessageKind::kPreVote, Term{term.value + 1}, false);
    count_votes();
}

void Node::Impl::start_election(bool force) {
    become_follower(Term{term.value + 1}, ReplicaId{});
    role = Role::kCandidate;
    vote = self;  // counted once it is durable: persisted()
    send_vote_requests(MessageKind::kVote, term, force);
#ifdef NBOS_RAFT_MUTANTS
    if (mutants.forget_vote) {
        votes_ = {{self, true}};
        count_votes();
    }
#endif
}

void Node::Impl::send_vote_requests(MessageKind kind, Term in_term, bool force) {
    const auto& members = log.membership();
    auto ask = members.voters;
    ask.insert(members.outgoing.begin(), members.outgoing.end());
    ask.erase(self);
    for (const auto id : ask) {
        send_vote_request(kind, id, in_term, force);
    }
}

void Node::Impl::send_vote_request(MessageKind kind, ReplicaId to, Term in_term, bool force) {
    auto m = message(kind, to);
    m.term = in_term;
    m.index = log.last();
    m.log_term = log.last_term();
    m.force = force;
    // A real candidacy must be on disk first: it is a vote for ourselves.
    if (kind == MessageKind::kVote && !NBOS_MUTANT(mutants, forget_vote)) {
        send_after_persist(std::move(m));
    } else {
        send(std::move(m));
    }
}

void Node::Impl::count_votes() {
    const auto& members = log.membership();
    const auto voted = [&](bool granted) {
        return [this, granted](ReplicaId id) {
            const auto it = votes_.find(id);
            return it != votes_.end() && it->second == granted;
        };
    };
    if (quorum_of(members, voted(true))) {
        if (role == Role::kPreCandidate) {
            start_election(false);
        } else {
            become_leader();
        }
        return;
    }
    const auto refused = voted(false);
    const bool can_win = quorum_of(members, [&](ReplicaId id) { return !refused(id); });
    if (!can_win) {
        become_follower(term, ReplicaId{});
    }
}

void Node::Impl::on_pre_vote(const Message& m) {
    auto reply = message(MessageKind::kPreVoteReply, m.from);
    // Two followers that learn of a death at once would split the votes: the better log, or the
    // lower id, goes first, and the other waits a moment for it.
    const bool ours_is_fresh = role == Role::kPreCandidate && election_elapsed_ <= 1;
    const bool ours_is_first =
        ours_is_fresh && m.index == log.last() && m.log_term == log.last_term() && self < m.from;
    reply.reject = m.term <= term || is_leased() || !is_up_to_date(m) || ours_is_first;
    if (!reply.reject) {
        reply.term = m.term;
        if (ours_is_fresh) {
            become_follower(term, ReplicaId{});
        }
    }
    send_after_hard_state(std::move(reply));
    // It refused us because it had heard the leader, and now campaigns itself: it has learned.
    if (ours_is_first && votes_.erase(m.from) != 0) {
        send_vote_request(MessageKind::kPreVote, m.from, Term{term.value + 1}, false);
    }
}

void Node::Impl::on_pre_vote_reply(const Message& m) {
    if (role != Role::kPreCandidate) {
        return;
    }
    if (!m.reject && m.term.value != term.value + 1) {
        return;  // an answer to an earlier question
    }
    votes_.emplace(m.from, !m.reject);
    count_votes();
}

void Node::Impl::on_vote(const Message& m) {
    auto reply = message(MessageKind::kVoteReply, m.from);
    const bool free = vote == m.from || (vote.value == 0 && leader.value == 0);
    reply.reject = !free || !is_up_to_date(m);
    if (!reply.reject) {
        vote = m.from;
        reset_election_timer();
        if (NBOS_MUTANT(mutants, forget_vote)) {
            send(std::move(reply));
            return;
        }
    }
    // Not only after the vote: after the log that we compared with, too.
    send_after_persist(std::move(reply));
}

void Node::Impl::on_vote_reply(const Message& m) {
    if (role == Role::kCandidate) {
        votes_.emplace(m.from, !m.reject);
        count_votes();
    }
}

void Node::Impl::become_leader() {
    role = Role::kLeader;
    leader = self;
    last_leader_ = self;
    leader_died_ = false;
    votes_.clear();
    followers_.clear();
    reads_.clear();
    heartbeat_round_ = 0;
    heartbeat_elapsed_ = 0;
    quorum_elapsed_ = 0;
    hand_overs_ = 0;
    heartbeat_due_ = true;
    refresh_members();
    uncommitted_bytes_ = 0;
    in_log_.clear();
    const auto handed_out = std::max(applied, log.snapshot().index);
    for (auto i = Index{handed_out.value + 1}; i <= log.last(); ++i.value) {
        const auto& entry = log.at(i);
        uncommitted_bytes_ += i > commit ? size_in_bytes(entry) : 0;
        if (entry.proposal.sequence != 0) {
            in_log_.insert(entry.proposal);
        }
    }
    append_own(EntryKind::kNoop, {}, {});
    pending_.hand_out_again();
}

void Node::Impl::peer_is_dead(ReplicaId peer) {
    if (role == Role::kLeader) {
        if (const auto it = followers_.find(peer); it != followers_.end()) {
            it->second.recently_active = false;
            it->second.to_probe(Index{it->second.match.value + 1});
            entries_due_ = true;  // the probe asks until its next process answers
        }
        if (peer == transfer_target_) {
            stop_transfer();
            maybe_leave_joint();
        }
        return;
    }
    if (peer.value == 0 || peer != last_leader_) {
        return;
    }
    heard_ticks_ = options.election_ticks;
    leader_died_ = true;
    if (leader == peer) {
        become_follower(term, ReplicaId{});
    }
    if (may_campaign() && role == Role::kFollower) {
        start_pre_vote();
    }
}

void Node::Impl::transfer_leadership(ReplicaId target) {
    if (role == Role::kLeader) {
        start_transfer(target);
    } else if (leader.value != 0) {
        auto m = message(MessageKind::kTransferRequest, leader);
        m.target = target;
        send(std::move(m));
    } else if (target == self) {
        campaign();
    }
}

void Node::Impl::on_transfer_request(const Message& m) {
    if (role == Role::kLeader) {
        start_transfer(m.target);
    }
}

void Node::Impl::start_transfer(ReplicaId target) {
    if (target == self || target == transfer_target_ || !log.membership().is_voter(target) ||
        !followers_.contains(target)) {
        return;
    }
    transfer_target_ = target;
    transfer_elapsed_ = 0;
    entries_due_ = true;
    continue_transfer();
}

// The target campaigns once it has everything; meanwhile proposals wait (3.10).
void Node::Impl::continue_transfer() {
    const auto it = followers_.find(transfer_target_);
    if (it != followers_.end() && it->second.match == log.last()) {
        send(message(MessageKind::kTimeoutNow, transfer_target_));
    }
}

void Node::Impl::stop_transfer() {
    transfer_target_ = ReplicaId{};
    transfer_elapsed_ = 0;
}

void Node::Impl::on_timeout_now(const Message& m) {
    if (role != Role::kLeader && may_campaign() && (leader == m.from || leader.value == 0)) {
        start_election(true);
    }
}

}  // namespace nbos::raft
