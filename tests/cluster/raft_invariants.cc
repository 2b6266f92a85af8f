#include "tests/cluster/raft_invariants.h"

#include <fmt/core.h>

#include <algorithm>

namespace nbos::testing {
namespace {

using raft::EntryKind;
using raft::MessageKind;

template <class... Args>
[[noreturn]] void fail(const char* invariant, fmt::format_string<Args...> format, Args&&... args) {
    throw Violated{invariant, fmt::format(format, std::forward<Args>(args)...)};
}

constexpr std::uint64_t key_of(Term term, Index index) { return (term.value << 40U) ^ index.value; }

std::uint64_t raw_hash(const raft::Entry& entry) {
    auto hash = RaftInvariants::content_hash(entry);
    return RaftInvariants::mix(hash, entry.proposal.proposer.value);
}

bool is_legal_step(const Membership& from, const Membership& to) {
    if (from.joint()) {
        return !to.joint() && to.voters == from.voters;
    }
    return to.joint() ? to.outgoing == from.voters : to.voters == from.voters;
}

Membership membership_in(const raft::Entry& entry) {
    Reader in(entry.data.view());
    return decode_membership(in).value_or(Membership{});
}

bool is_majority(const std::set<ReplicaId>& of, const std::set<ReplicaId>& have) {
    std::size_t n = 0;
    for (const auto id : of) {
        n += have.count(id);
    }
    return 2 * n > of.size();
}

}  // namespace

std::uint64_t RaftInvariants::mix(std::uint64_t a, std::uint64_t b) {
    return Rng(a * 0x100000001B3ULL ^ b).next();
}

std::uint64_t RaftInvariants::content_hash(const raft::Entry& entry) {
    std::uint64_t hash = mix(static_cast<std::uint64_t>(entry.kind), entry.proposal.sequence);
    hash = mix(hash, std::hash<std::string_view>{}(entry.data.view()));
    return hash;
}

RaftInvariants::RaftInvariants() {
    committed_.push_back({Term{1}, 0, Term{1}});  // index 1: the first members' common snapshot
    content_.push_back(0);
    prefix_.push_back(0);
}

// --- The copy of a log ---------------------------------------------------------------------------

const RaftInvariants::LogEntry* RaftInvariants::Shadow::at(Index index) const {
    return index < first || index > last() ? nullptr : &log[index.value - first.value];
}

Term RaftInvariants::Shadow::last_term() const {
    return log.empty() ? snapshot_term : log.back().term;
}

const Membership& RaftInvariants::Shadow::config_at(Index index) const {
    for (auto it = configs.rbegin(); it != configs.rend(); ++it) {
        if (it->first <= index) {
            return it->second;
        }
    }
    return configs.front().second;
}

bool RaftInvariants::Shadow::has(Index index, Term term) const {
    if (index == snapshot_index) {
        return term == snapshot_term;
    }
    const auto* entry = at(index);
    return index < snapshot_index || (entry != nullptr && entry->term == term);
}

const ReplicaView& RaftInvariants::view(ReplicaId id) const {
    return *std::find_if(replicas.begin(), replicas.end(),
                         [&](const auto& r) { return r.id == id; });
}

void RaftInvariants::reset(ReplicaId id) {
    const auto& r = view(id);
    auto& s = shadows_[id];
    s.log.clear();
    s.configs = {{Index{}, Membership{}}};
    s.snapshot_index = {};
    s.snapshot_term = {};
    if (const auto& snapshot = r.disk->snapshot) {
        s.snapshot_index = snapshot->index;
        s.snapshot_term = snapshot->term;
        s.configs = {{snapshot->index, snapshot->membership}};
    }
    s.first = Index{s.snapshot_index.value + 1};
    for (const auto& entry : r.disk->log) {
        if (entry.index <= s.snapshot_index) {
            continue;
        }
        s.log.push_back({entry.term, raw_hash(entry)});
        if (entry.kind == EntryKind::kMembership) {
            s.configs.emplace_back(entry.index, membership_in(entry));
        }
    }
    s.applied = s.snapshot_index;
    s.commit = {};
    s.leader_term = {};
    overlap_due_ = true;
    if (r.node != nullptr) {
        s.commit = r.node->committed();
        check_promises(r, s);
        check_log(r, s);
    }
}

void RaftInvariants::shadow_install(ReplicaId id, Shadow& s, const raft::Snapshot& snapshot) {
    check_snapshot(id, snapshot);
    if (snapshot.index <= s.applied) {
        fail("snapshot = prefix of the committed log", "{} installs {} over applied {}", id.value,
             snapshot.index.value, s.applied.value);
    }
    s.log.clear();
    s.first = Index{snapshot.index.value + 1};
    s.snapshot_index = snapshot.index;
    s.snapshot_term = snapshot.term;
    s.configs = {{snapshot.index, snapshot.membership}};
    s.applied = snapshot.index;
    s.commit = std::max(s.commit, snapshot.index);
    overlap_due_ = true;
}

void RaftInvariants::shadow_append(ReplicaId id, Shadow& s, const raft::Entry& entry) {
    if (entry.index <= s.snapshot_index) {
        fail("snapshot = prefix of the committed log",
             "{} writes entry {} at or below its snapshot {}", id.value, entry.index.value,
             s.snapshot_index.value);
    }
    if (entry.index <= s.applied) {
        fail("state machine safety", "{} overwrites its applied entry {}", id.value,
             entry.index.value);
    }
    if (entry.index.value > s.last().value + 1) {
        fail("log matching", "{} leaves a gap: {} after {}", id.value, entry.index.value,
             s.last().value);
    }
    while (s.last() >= entry.index) {
        s.log.pop_back();
        while (s.configs.back().first > s.last()) {
            s.configs.pop_back();
            overlap_due_ = true;
        }
    }
    check_entry(id, s, entry);
    s.log.push_back({entry.term, raw_hash(entry)});
    if (entry.kind == EntryKind::kMembership) {
        s.configs.emplace_back(entry.index, membership_in(entry));
        overlap_due_ = true;
    }
}

void RaftInvariants::check_entry(ReplicaId id, const Shadow& s, const raft::Entry& entry) {
    const auto hash = raw_hash(entry);
    const auto [it, is_new] =
        entries_.try_emplace(key_of(entry.term, entry.index), hash, s.last_term());
    if (it->second != std::pair(hash, s.last_term())) {
        fail("log matching", "{} has another entry {} of term {} than others, or another before it",
             id.value, entry.index.value, entry.term.value);
    }
    if (check_change_rules && is_new && entry.kind == EntryKind::kMembership &&
        !is_legal_step(s.config(), membership_in(entry))) {
        fail("configuration chain", "{} holds a configuration {} that is no legal step", id.value,
             entry.index.value);
    }
}

// --- What a node does ----------------------------------------------------------------------------

void RaftInvariants::output(ReplicaId id, const raft::Output& out) {
    const auto& r = view(id);
    auto& s = shadows_[id];
    check_appended_by_leader(r, s, out);
    if (out.install) {
        shadow_install(id, s, *out.install);
    }
    for (const auto& entry : out.append) {
        shadow_append(id, s, entry);
    }
    for (const auto& entry : out.committed) {
        note_committed(r, s, entry);
    }
    if (!out.committed.empty() && r.node->role() == raft::Role::kLeader) {
        check_durable_majority(r, s, out.committed.back().index);
    }
}

void RaftInvariants::check_appended_by_leader(const ReplicaView& r, const Shadow& s,
                                              const raft::Output& out) {
    if (r.node->role() != raft::Role::kLeader || out.append.empty()) {
        return;
    }
    if (s.leader_term == r.node->term() && out.append.front().index <= s.leader_last) {
        fail("leader append-only", "{} rewrites its own log from {}", r.id.value,
             out.append.front().index.value);
    }
    for (const auto& entry : out.append) {
        if (check_change_rules && entry.kind == EntryKind::kMembership &&
            entry.term == r.node->term() &&
            r.node->term_at(r.node->committed()) != r.node->term()) {
            fail("configuration chain", "{} changes members in term {} before it committed in it",
                 r.id.value, entry.term.value);
        }
    }
}

void RaftInvariants::note_committed(const ReplicaView& r, Shadow& s, const raft::Entry& entry) {
    if (entry.index.value != s.applied.value + 1) {
        fail("state machine safety", "{} applies {} after {}", r.id.value, entry.index.value,
             s.applied.value);
    }
    const auto* held = s.at(entry.index);
    if (held == nullptr || held->term != entry.term) {
        fail("state machine safety", "{} applies {} that it does not hold", r.id.value,
             entry.index.value);
    }
    s.applied = entry.index;
    if (entry.index.value <= committed_.size()) {
        const auto& known = committed_[entry.index.value - 1];
        if (known.term != entry.term || known.hash != held->hash) {
            fail("state machine safety", "{} applies entry {} of term {}, others of term {}",
                 r.id.value, entry.index.value, entry.term.value, known.term.value);
        }
        return;
    }
    committed_.push_back({entry.term, held->hash, r.node->term()});
    check_rivals(committed_.back(), entry.index);
    for (const auto& other : replicas) {
        if (other.node != nullptr && other.node->role() == raft::Role::kLeader &&
            other.node->term() > r.node->term() &&
            !shadows_[other.id].has(entry.index, entry.term)) {
            fail("leader completeness", "{} of term {} lacks entry {} committed in term {}",
                 other.id.value, other.node->term().value, entry.index.value, r.node->term().value);
        }
    }
}

void RaftInvariants::check_durable_majority(const ReplicaView& r, const Shadow& s,
                                            Index index) const {
    const auto term = s.at(index)->term;
    std::set<ReplicaId> have;
    for (const auto& other : replicas) {
        const auto& disk = *other.disk;
        if ((disk.snapshot && disk.snapshot->index >= index) || disk.term_at(index) == term) {
            have.insert(other.id);
        }
    }
    const auto holds = [&](const Membership& m) {
        return is_majority(m.voters, have) && (!m.joint() || is_majority(m.outgoing, have));
    };
    if (!holds(s.config()) && !holds(s.config_at(index))) {
        fail("leader completeness", "{} commits {} that no majority of voters has on disk",
             r.id.value, index.value);
    }
}

void RaftInvariants::applied(ReplicaId id, const raft::Entry& entry) {
    const auto hash = entry.kind == EntryKind::kNoop ? 0 : content_hash(entry);
    const auto at = entry.index.value - 1;
    if (at == content_.size()) {
        content_.push_back(hash);
        prefix_.push_back(mix(prefix_.back(), hash));
        if (entry.proposal.sequence != 0 &&
            !proposals_.try_emplace(entry.proposal, entry.index).second &&
            check_promises_to_clients) {
            fail("a proposal is applied once", "{} of replica {} at {} again",
                 entry.proposal.sequence, entry.proposal.proposer.value, entry.index.value);
        }
    } else if (content_.at(at) != hash) {
        fail("state machine safety", "{} applies something else at {} than others", id.value,
             entry.index.value);
    }
}

void RaftInvariants::check_snapshot(ReplicaId id, const raft::Snapshot& snapshot) {
    if (snapshot.index.value == 0 || snapshot.index.value > committed_.size() ||
        committed_[snapshot.index.value - 1].term != snapshot.term) {
        fail("snapshot = prefix of the committed log", "{} has a snapshot of uncommitted {}",
             id.value, snapshot.index.value);
    }
    Writer out;
    encode(out, snapshot);
    const auto [it, is_new] = snapshots_.try_emplace(snapshot.index, out.take());
    if (is_new) {
        return;
    }
    Writer again;
    encode(again, snapshot);
    if (it->second == again.take()) {
        return;
    }
    Reader in(it->second);
    const auto other = raft::decode_snapshot(in);
    fail(other->membership != snapshot.membership ? "configuration chain"
                                                  : "snapshot = prefix of the committed log",
         "{} has another snapshot of {} than others", id.value, snapshot.index.value);
}

void RaftInvariants::compacted(ReplicaId id, const raft::Snapshot& snapshot) {
    auto& s = shadows_[id];
    if (snapshot.index > s.applied || s.config_at(snapshot.index) != snapshot.membership) {
        fail("configuration chain", "{} takes a snapshot of {} with a configuration not of then",
             id.value, snapshot.index.value);
    }
    check_snapshot(id, snapshot);
    const auto config = s.config_at(snapshot.index);
    s.snapshot_term = s.at(snapshot.index)->term;
    s.snapshot_index = snapshot.index;
    while (s.first <= snapshot.index) {
        s.log.pop_front();
        ++s.first.value;
    }
    std::erase_if(s.configs, [&](const auto& c) { return c.first <= snapshot.index; });
    s.configs.insert(s.configs.begin(), {snapshot.index, config});
}

// --- What leaves a node --------------------------------------------------------------------------

void RaftInvariants::left(ReplicaId id, const raft::Message& m) {
    const auto& r = view(id);
    auto& s = shadows_[id];
    switch (m.kind) {
        case MessageKind::kVote:
            check_voted(r, s, m.term, id);
            break;
        case MessageKind::kVoteReply:
            if (!m.reject) {
                check_voted(r, s, m.term, m.to);
            }
            break;
        case MessageKind::kAppendReply:
            if (!m.reject) {
                check_acknowledged(r, s, m);
            }
            break;
        case MessageKind::kHeartbeatReply:
        case MessageKind::kSnapshotReply:
            break;
        default:
            return;
    }
    s.promised = std::max(s.promised, m.term);
}

void RaftInvariants::check_voted(const ReplicaView& r, Shadow& s, Term term, ReplicaId candidate) {
    const auto [it, is_new] = s.votes.try_emplace(term, candidate);
    if (it->second != candidate) {
        fail("term and vote monotonic", "{} votes for {} and {} in term {}", r.id.value,
             it->second.value, candidate.value, term.value);
    }
    const auto& state = r.disk->hard_state;
    if (state.term < term || (state.term == term && state.vote != candidate)) {
        fail("term and vote monotonic", "{} votes in term {} before that is durable", r.id.value,
             term.value);
    }
}

void RaftInvariants::check_acknowledged(const ReplicaView& r, Shadow& s, const raft::Message& m) {
    const auto& state = r.disk->hard_state;
    if (state.term < m.term || (state.term == m.term && r.disk->last() < m.index)) {
        fail("durable acknowledgement", "{} acknowledges {} in term {}, its disk ends at {}",
             r.id.value, m.index.value, m.term.value, r.disk->last().value);
    }
    if (m.term > s.acked_term) {
        s.acked_term = m.term;
        s.acked = m.index;
    } else if (m.term == s.acked_term) {
        s.acked = std::max(s.acked, m.index);
    }
}

// --- What a node is, after each step -------------------------------------------------------------

void RaftInvariants::after_step(ReplicaId id) {
    const auto& r = view(id);
    auto& s = shadows_[id];
    if (r.node->committed() < s.commit) {
        fail("commit monotonic", "{} falls from {} to {}", id.value, s.commit.value,
             r.node->committed().value);
    }
    s.commit = r.node->committed();
    check_promises(r, s);
    check_log(r, s);
    check_role(r, s);
    if (overlap_due_) {
        overlap_due_ = false;
        check_quorum_overlap();
    }
}

void RaftInvariants::check_promises(const ReplicaView& r, Shadow& s) const {
    if (r.node->term() < s.promised) {
        fail("term and vote monotonic", "{} is in term {} after it answered in {}", r.id.value,
             r.node->term().value, s.promised.value);
    }
    const auto last = r.node->last_index();
    if (last < s.acked) {
        if (r.node->term() <= s.acked_term) {
            fail("durable acknowledgement", "{} ends at {} after it acknowledged {} in term {}",
                 r.id.value, last.value, s.acked.value, s.acked_term.value);
        }
        s.acked = {};  // a later leader replaced what the earlier one never committed
    }
}

void RaftInvariants::check_log(const ReplicaView& r, const Shadow& s) const {
    const auto& node = *r.node;
    if (node.last_index() != s.last() || node.term_at(s.last()) != s.last_term()) {
        fail("log matching", "{} ends at {}, what it wrote at {}", r.id.value,
             node.last_index().value, s.last().value);
    }
    if (node.snapshot_index() != s.snapshot_index ||
        node.first_index().value > s.snapshot_index.value + 1 ||
        node.term_at(s.snapshot_index) != s.snapshot_term) {
        fail("snapshot = prefix of the committed log", "{} does not begin behind its snapshot {}",
             r.id.value, s.snapshot_index.value);
    }
    if (node.membership() != s.config()) {
        fail("configuration chain", "{} has a configuration in force that is not that of its log",
             r.id.value);
    }
}

void RaftInvariants::check_role(const ReplicaView& r, Shadow& s) {
    if (r.node->role() != raft::Role::kLeader) {
        return;
    }
    const auto term = r.node->term();
    if (const auto it = leaders_.try_emplace(term, r.id).first; it->second != r.id) {
        fail("election safety", "{} and {} lead term {}", it->second.value, r.id.value, term.value);
    }
    s.leader_last = s.last();
    if (s.leader_term == term) {
        return;
    }
    s.leader_term = term;
    overlap_due_ = true;
    for (auto i = s.snapshot_index.value + 1; i <= committed_.size(); ++i) {
        const auto& entry = committed_[i - 1];
        if (entry.by < term && !s.has(Index{i}, entry.term)) {
            fail("leader completeness", "{} leads term {} without entry {} committed in term {}",
                 r.id.value, term.value, i, entry.by.value);
        }
    }
}

void RaftInvariants::read_done(Index asked_at_commit, Index answered) const {
    if (answered < asked_at_commit && check_promises_to_clients) {
        fail("linearizable reads", "a read asked when {} was committed may miss what follows {}",
             asked_at_commit.value, answered.value);
    }
}

std::vector<Membership> RaftInvariants::configurations() const {
    std::vector<Membership> out;
    for (const auto& [id, s] : shadows_) {
        out.push_back(s.config());
    }
    return out;
}

// Nobody who lacks a committed entry may be able to win an election any more (Figure 3.7).
void RaftInvariants::check_rivals(const Committed& entry, Index index) const {
    for (const auto& [id, s] : shadows_) {
        if (s.last_term() > entry.term && !s.has(index, entry.term) && !view(id).gone &&
            can_be_elected(electors(), id)) {
            fail("leader completeness",
                 "{} lacks entry {} of term {}, committed in term {}, and "
                 "could be elected",
                 id.value, index.value, entry.term.value, entry.by.value);
        }
    }
}

std::vector<Elector> RaftInvariants::electors() const {
    std::vector<Elector> out;
    for (const auto& r : replicas) {
        const auto it = shadows_.find(r.id);
        if (!r.gone && it != shadows_.end()) {
            const auto& s = it->second;
            out.push_back({r.id, s.last_term(), s.last(), &s.config()});
        }
    }
    return out;
}

void RaftInvariants::check_quorum_overlap() const {
    if (const auto clash = disjoint_quorums(electors())) {
        fail("quorum overlap",
             "{} and {} could both be elected, by quorums without a common member",
             clash->first.value, clash->second.value);
    }
}

}  // namespace nbos::testing
