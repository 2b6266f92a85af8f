// What a follower does with a leader's appends and heartbeats (thesis 3.5).
#include <algorithm>
#include <utility>

#include "raft/node_impl.h"

namespace nbos::raft {
namespace {

bool is_contiguous(const Message& m) {
    auto expected = m.index.value;
    for (const auto& entry : m.entries) {
        if (entry.index.value != ++expected || entry.term > m.term) {
            return false;
        }
    }
    return true;
}

}  // namespace

void Node::Impl::on_append(const Message& m) {
    if (!is_contiguous(m)) {
        return;
    }
    heard_from_leader(m.from);
    const Index last_new{m.index.value + m.entries.size()};
    const bool clip = m.index < commit && !NBOS_MUTANT(mutants, append_over_snapshot);
    if (clip && last_new <= commit) {
        acknowledge(m, commit);
        return;
    }
    std::size_t known = 0;
    if (clip) {
        // What is committed, and perhaps compacted, is neither compared nor written again (rule 7).
        known = commit.value - m.index.value;
        require(log.matches(commit, m.entries[known - 1].term),
                "a leader's log differs from what we know to be committed");
    } else if (!log.matches(m.index, m.log_term) &&
               !(NBOS_MUTANT(mutants, append_over_snapshot) && m.index < log.snapshot().index)) {
        reject_append(m);
        return;
    }
    while (known < m.entries.size() && log.matches(m.entries[known].index, m.entries[known].term)) {
        ++known;
    }
    if (known < m.entries.size()) {
        append_new({m.entries.begin() + static_cast<std::ptrdiff_t>(known), m.entries.end()});
    }
#ifdef NBOS_RAFT_MUTANTS
    if (mutants.stale_append_truncates && last_new < log.last()) {
        log.truncate_from(Index{last_new.value + 1});
        log_changed(Index{last_new.value + 1});
    }
#endif
    // Not min(commit, last()): a tail behind the last new entry may be of an older term.
    const auto bound = NBOS_MUTANT(mutants, commit_beyond_match) ? log.last() : last_new;
    set_commit(std::min(m.commit, bound));
    acknowledge(m, last_new);
}

void Node::Impl::append_new(std::vector<Entry> entries) {
    const auto front = entries.front().index;
    require(front > commit || NBOS_MUTANT(mutants, append_over_snapshot),
            "an append would replace a committed entry");
    if (front <= log.last()) {
        log_changed(front);
    }
    log.append(std::move(entries));
}

void Node::Impl::reject_append(const Message& m) {
    auto reply = message(MessageKind::kAppendReply, m.from);
    reply.reject = true;
    reply.round = m.round;
    reply.hint_index = log.last_at_or_below(Index{m.index.value - 1}, m.log_term);
    reply.hint_term = log.term_at(reply.hint_index).value_or(Term{});
    send_after_hard_state(std::move(reply));
}

void Node::Impl::acknowledge(const Message& m, Index match) {
    auto reply = message(MessageKind::kAppendReply, m.from);
    reply.index = match;
    reply.round = m.round;
    if (NBOS_MUTANT(mutants, ack_before_fsync)) {
        send(std::move(reply));
        return;
    }
    // One acknowledgement answers for all before it that wait for the same write.
    if (!after_persist_.empty()) {
        auto& before = after_persist_.back();
        if (before.kind == MessageKind::kAppendReply && !before.reject && before.to == m.from &&
            before.term == term) {
            reply.index = std::max(reply.index, before.index);
            before = std::move(reply);
            return;
        }
    }
    send_after_persist(std::move(reply));
}

void Node::Impl::on_heartbeat(const Message& m) {
    heard_from_leader(m.from);
    // The leader knows that our log agrees with its own up to there.
    require(m.commit <= log.last(), "a leader counts on entries that we do not have");
    set_commit(m.commit);
    if (m.round != 0) {
        auto reply = message(MessageKind::kHeartbeatReply, m.from);
        reply.round = m.round;
        reply.index = m.index;
        reply.hint_index = log.last();
        send_after_hard_state(std::move(reply));
    }
}

}  // namespace nbos::raft
