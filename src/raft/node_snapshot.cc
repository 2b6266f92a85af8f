// Snapshots on their way to a follower that needs what has been compacted away: cut into chunks, a
// few in flight, resumed at the last one acknowledged.
#include <algorithm>
#include <utility>

#include "raft/node_impl.h"

namespace nbos::raft {
namespace {

constexpr std::size_t kChunksInFlight = 4;

}  // namespace

void Node::Impl::begin_snapshot(Follower& f) {
    const auto& snapshot = log.snapshot();
    require(snapshot.index.value != 0, "the log was cut without a snapshot");
    auto outgoing = outgoing_.lock();
    if (!outgoing || outgoing->index != snapshot.index) {
        Writer out;
        encode(out, snapshot);
        outgoing = std::make_shared<const OutgoingSnapshot>(
            OutgoingSnapshot{snapshot.index, snapshot.term, out.take_bytes()});
        outgoing_ = outgoing;
    }
    f.to_snapshot(std::move(outgoing));
}

void Node::Impl::send_chunks(ReplicaId id, Follower& f) {
    const auto all = f.snapshot->encoded.view();
    const auto window = kChunksInFlight * options.snapshot_chunk_bytes;
    while (f.chunk_sent < all.size() && f.chunk_sent - f.chunk_acked < window) {
        auto m = message(MessageKind::kSnapshotChunk, id);
        m.index = f.snapshot->index;
        m.log_term = f.snapshot->term;
        m.offset = f.chunk_sent;
        m.chunk = Bytes::copy(all.substr(f.chunk_sent, options.snapshot_chunk_bytes));
        f.chunk_sent += m.chunk.size();
        m.last_chunk = f.chunk_sent == all.size();
        m.round = ++f.round;
        m.bulk = true;
        send(std::move(m));
    }
}

void Node::Impl::on_snapshot_reply(const Message& m) {
    const auto it = followers_.find(m.from);
    if (role != Role::kLeader || it == followers_.end()) {
        return;
    }
    auto& f = it->second;
    if (f.mode != Follower::Mode::kSnapshot || m.index != f.snapshot->index ||
        m.log_term != f.snapshot->term || m.round < f.mode_round) {
        return;
    }
    entries_due_ = true;
    const auto size = f.snapshot->encoded.size();
    if (m.reject || m.offset > size) {  // it lost what it had, or does not understand it
        f.chunk_acked = 0;
        f.chunk_sent = 0;
        f.mode_round = f.round + 1;  // answers to what was sent before speak of what it has lost
        return;
    }
    if (m.offset == size) {  // installed, durably
        f.match = std::max(f.match, m.index);
        f.to_replicate();
        maybe_commit();
        return;
    }
    if (m.offset > f.chunk_acked) {
        f.chunk_acked = m.offset;
        f.chunk_sent = std::max(f.chunk_sent, f.chunk_acked);
        f.quiet_ticks = 0;
    }
}

void Node::Impl::on_snapshot_chunk(const Message& m) {
    heard_from_leader(m.from);
    if (m.index <= commit) {
        acknowledge(m, commit);
        return;
    }
    // We have those entries: commit them. Installing would throw away the tail behind them, which
    // we may have acknowledged (section 7 of the paper).
    if (log.matches(m.index, m.log_term)) {
        set_commit(m.index);
        acknowledge(m, m.index);
        return;
    }
    const bool continues = incoming_ && incoming_->from == m.from && incoming_->index == m.index &&
                           incoming_->term == m.log_term;
    auto reply = message(MessageKind::kSnapshotReply, m.from);
    reply.index = m.index;
    reply.log_term = m.log_term;
    reply.round = m.round;
    if (!continues) {
        if (m.offset != 0) {
            reply.reject = true;  // begin again
            send_after_hard_state(std::move(reply));
            return;
        }
        incoming_ = IncomingSnapshot{m.from, m.index, m.log_term, {}};
    }
    if (m.offset == incoming_->data.size()) {
        incoming_->data.append(m.chunk.view());
        if (m.last_chunk) {
            finish_snapshot(m, std::move(reply));
            return;
        }
    }
    reply.offset = incoming_->data.size();
    send_after_hard_state(std::move(reply));
}

void Node::Impl::finish_snapshot(const Message& m, Message reply) {
    const auto data = std::move(incoming_->data);
    incoming_.reset();
    Reader in(data);
    auto snapshot = decode_snapshot(in);
    if (!snapshot || !in.done() || snapshot->index != m.index || snapshot->term != m.log_term) {
        reply.reject = true;
        send_after_hard_state(std::move(reply));
        return;
    }
    log.install(*std::move(snapshot));
    install_ = log.snapshot();
    commit = m.index;
    applied_table_ = install_->applied_proposals;
    pending_.drop_applied(applied_table_);
    stable_ = Index{};
    unsaved_from_ = Index{m.index.value + 1};
    for (auto& batch : batches_) {
        batch.last = Index{};
    }
    reply.offset = data.size();
    send_after_persist(std::move(reply));
}

}  // namespace nbos::raft
