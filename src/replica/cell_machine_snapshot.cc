// CellMachine to bytes and back. A snapshot comes over the network: it is checked like any input.
#include <utility>

#include "base/wire.h"
#include "replica/cell_machine.h"

namespace nbos::replica {
namespace {

constexpr std::uint8_t kVersion = 1;

void put(Writer& out, const QueuedCell& cell) {
    out.put(cell.number).put(cell.session).put(cell.msg_id).put(cell.stop_on_error);
    out.put(cell.numbered).put(cell.request);
}

QueuedCell get_queued_cell(Reader& in) {
    QueuedCell cell;
    cell.number = in.id<CellNumber>();
    cell.session = in.string();
    cell.msg_id = in.string();
    cell.stop_on_error = get_bool(in);
    cell.numbered = get_bool(in);
    cell.request = in.bytes();
    return cell;
}

void put(Writer& out, const Standing& claim) {
    out.put(claim.cell).put(claim.epoch).put(claim.replica);
    out.put(claim.fence.term).put(claim.fence.index);
}

Standing get_standing(Reader& in) {
    Standing claim;
    claim.cell = in.id<CellNumber>();
    claim.epoch = in.id<Epoch>();
    claim.replica = in.id<ReplicaId>();
    claim.fence.term = in.id<Term>();
    claim.fence.index = in.id<Index>();
    return claim;
}

void put(Writer& out, const Finished& finished) {
    out.put(finished.cell).put(finished.ending).put(finished.outcome).put(finished.reply);
    out.put(finished.outputs).put(finished.reason);
}

Finished get_finished(Reader& in) {
    Finished finished;
    finished.cell = in.id<CellNumber>();
    finished.ending = in.get<Ending>();
    if (finished.ending > Ending::kReset) {
        in.fail();
    }
    finished.outcome = get_outcome(in);
    finished.reply = in.bytes();
    finished.outputs = in.bytes();
    finished.reason = in.string();
    return finished;
}

template <class Container>
void put_count(Writer& out, const Container& container) {
    out.put(static_cast<std::uint32_t>(container.size()));
}

Error damaged(std::string_view what) {
    return {Errc::kInvalid, Certainty::kDidNotHappen,
            "kernel snapshot: " + std::string(what) + "; fetch it again from another replica"};
}

}  // namespace

Bytes CellMachine::snapshot() const {
    Writer out;
    out.put(kVersion).put(options_.has_value());
    if (options_) {
        encode(out, *options_);
    }
    out.put(session_).put(incarnation_);
    put_count(out, past_sessions_);
    for (const auto& session : past_sessions_) {
        out.put(session);
    }
    out.put(last_submitted_).put(epoch_).put(sequence_).put(last_executor_).put(spent_counts_);
    put_count(out, queue_);
    for (const auto& cell : queue_) {
        put(out, cell);
    }
    put_count(out, cancelled_);
    for (const auto& [cell, reason] : cancelled_) {
        out.put(cell).put(reason);
    }
    out.put(standing_.has_value());
    if (standing_) {
        put(out, *standing_);
    }
    put_count(out, parts_);
    for (const auto& [number, slice] : parts_) {
        out.put(number).put(slice);
    }
    out.put(held_ ? encode(*held_) : Bytes());
    put_count(out, ended_);
    for (const auto& ended : ended_) {
        out.put(ended.session).put(ended.msg_id).put(ended.kept);
        put(out, ended.answer);
    }
    out.put(table_.as_delta()).put(table_.digest());
    return out.take_bytes();
}

nbos::Result<CellMachine> CellMachine::restore(std::string_view snapshot, Limits limits) {
    Reader in(snapshot);
    if (in.get<std::uint8_t>() != kVersion) {
        return damaged("its version is not known here");
    }
    CellMachine machine(limits);
    if (get_bool(in)) {
        machine.options_ = decode_kernel_options(in);
    }
    machine.session_ = in.string();
    machine.incarnation_ = in.get<std::uint64_t>();
    for (auto n = in.count(sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        machine.past_sessions_.push_back(in.string());
    }
    machine.last_submitted_ = in.id<CellNumber>();
    machine.epoch_ = in.id<Epoch>();
    machine.sequence_ = in.id<Sequence>();
    machine.last_executor_ = in.id<ReplicaId>();
    machine.spent_counts_ = in.get<std::uint32_t>();
    machine.restore_queue(in);
    for (auto n = in.count(sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        const auto number = in.get<std::uint32_t>();
        machine.parts_[number] = in.bytes();
    }
    machine.restore_held(in);
    machine.restore_ended(in);
    const auto delta = in.text();
    const auto digest = in.get<std::uint64_t>();
    if (!in.done()) {
        return damaged("it is malformed");
    }
    if (auto applied = machine.table_.apply(delta); !applied) {
        return damaged(applied.error().what);
    }
    if (machine.table_.digest() != digest) {
        return damaged("its state does not have the digest it names");
    }
    return machine;
}

void CellMachine::restore_queue(Reader& in) {
    for (auto n = in.count(sizeof(std::uint64_t)); n > 0 && in.ok(); --n) {
        auto cell = get_queued_cell(in);
        // Consecutive, and the last one is the last one submitted; ids are unique.
        if (cell.number.value + n - 1 != last_submitted_.value ||
            !queued_ids_.insert(Id{cell.session, cell.msg_id}).second) {
            in.fail();
        }
        queued_bytes_ += cell.request.size();
        queue_.push_back(std::move(cell));
    }
    for (auto n = in.count(sizeof(std::uint64_t)); n > 0 && in.ok(); --n) {
        const auto cell = in.id<CellNumber>();
        cancelled_[cell] = in.string();
    }
    if (get_bool(in)) {
        standing_ = get_standing(in);
        if (queue_.empty() || standing_->cell != queue_.front().number) {
            in.fail();
        }
    }
}

void CellMachine::restore_held(Reader& in) {
    const auto bytes = in.text();
    if (bytes.empty()) {
        return;
    }
    const auto entry = decode_cell_entry(bytes);
    const auto* result = entry ? std::get_if<Result>(&*entry) : nullptr;
    if (result == nullptr || !standing_) {
        in.fail();
        return;
    }
    held_ = *result;
}

void CellMachine::restore_ended(Reader& in) {
    bool answers_began = false;
    for (auto n = in.count(2 * sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        Ended ended;
        ended.session = in.string();
        ended.msg_id = in.string();
        ended.kept = get_bool(in);
        ended.answer = get_finished(in);
        // remember() counts on answers being those of the newest, and on unique ids.
        if ((answers_began && !ended.kept) || ended_at_.contains(Id{ended.session, ended.msg_id})) {
            in.fail();
            return;
        }
        answers_began = ended.kept;
        remember(std::move(ended));
    }
}

}  // namespace nbos::replica
