#include "replica/cell_machine.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace nbos::replica {
namespace {

void add_void(std::vector<Event>& events, std::string why) {
    events.push_back(Void{std::move(why)});
}

std::size_t bytes_of(const Finished& finished) {
    return finished.reply.size() + finished.outputs.size() + finished.reason.size();
}

}  // namespace

CellMachine::CellMachine(Limits limits) : limits_(limits) {}

std::vector<Event> CellMachine::apply(Term term, Index index, std::string_view command) {
    Events events;
    if (command.empty()) {
        return events;
    }
    const auto entry = decode_cell_entry(command);
    if (!entry) {
        add_void(events, fmt::format("malformed entry of {} bytes", command.size()));
        return events;
    }
    std::visit([&](const auto& body) { on(body, Fence{term, index}, events); }, *entry);
    return events;
}

CellNumber CellMachine::next_cell() const {
    return queue_.empty() ? CellNumber{last_submitted_.value + 1} : queue_.front().number;
}

bool CellMachine::knows(const std::string& session, const std::string& msg_id) const {
    const Id id{session, msg_id};
    return queued_ids_.contains(id) || ended_at_.contains(id);
}

bool CellMachine::had_session(const std::string& session) const {
    return session == session_ ||
           std::find(past_sessions_.begin(), past_sessions_.end(), session) != past_sessions_.end();
}

bool CellMachine::will_not_run(const std::string& session, const std::string& msg_id) const {
    if (ended_at_.contains(Id{session, msg_id})) {
        return true;
    }
    return std::any_of(queue_.begin(), queue_.end(), [&](const auto& cell) {
        return cell.msg_id == msg_id && cell.session == session && cancelled_.contains(cell.number);
    });
}

std::optional<std::string> CellMachine::asker(const std::string& msg_id) const {
    const auto same = [&](const auto& cell) { return cell.msg_id == msg_id; };
    if (const auto at = std::find_if(queue_.begin(), queue_.end(), same); at != queue_.end()) {
        return at->session;
    }
    const auto at = std::find_if(ended_.rbegin(), ended_.rend(), same);
    return at == ended_.rend() ? std::nullopt : std::optional(at->session);
}

std::vector<std::string> CellMachine::ended_cells(const std::string& session,
                                                  std::size_t max) const {
    std::vector<std::string> out;
    for (auto at = ended_.rbegin(); at != ended_.rend() && at->kept && out.size() < max; ++at) {
        if (at->session == session) {
            out.push_back(at->msg_id);
        }
    }
    std::reverse(out.begin(), out.end());
    return out;
}

std::optional<Finished> CellMachine::finished(const std::string& session,
                                              const std::string& msg_id) const {
    const auto found = ended_at_.find(Id{session, msg_id});
    if (found == ended_at_.end()) {
        return std::nullopt;
    }
    return ended_[static_cast<std::size_t>(found->second - ended_dropped_)].answer;
}

void CellMachine::on(const Configure& entry, Fence, Events& events) {
    if (options_) {
        return add_void(events, "the kernel is configured already");
    }
    options_ = entry.options;
    session_ = entry.options.session;
    events.push_back(Configured{});
}

void CellMachine::on(const Submit& entry, Fence, Events& events) {
    if (entry.msg_id.empty()) {
        return add_void(events, "a Submit without a message id");
    }
    const Id id{entry.session, entry.msg_id};
    if (queued_ids_.contains(id)) {
        events.push_back(SubmitRepeated{entry.session, entry.msg_id, std::nullopt});
        return;
    }
    if (ended_at_.contains(id)) {
        events.push_back(
            SubmitRepeated{entry.session, entry.msg_id, finished(entry.session, entry.msg_id)});
        return;
    }
    QueuedCell cell{.session = entry.session,
                    .msg_id = entry.msg_id,
                    .stop_on_error = entry.stop_on_error,
                    .numbered = entry.numbered,
                    .request = entry.request};
    if (entry.incarnation != kAnyIncarnation && entry.incarnation < incarnation_) {
        end_unqueued(std::move(cell), "the kernel was restarted before this cell reached it",
                     events);
        return;
    }
    const bool too_many = queue_.size() >= limits_.queued_cells_max;
    // A single request above the limit is still served: only a queue can be too long.
    const bool too_large =
        !queue_.empty() && queued_bytes_ + entry.request.size() > limits_.queued_bytes_max;
    if (too_many || too_large) {
        end_unqueued(std::move(cell),
                     fmt::format("{} cells are waiting already; run this one again when some of "
                                 "them have ended",
                                 queue_.size()),
                     events);
        return;
    }
    cell.number = CellNumber{++last_submitted_.value};
    queued_bytes_ += cell.request.size();
    queued_ids_.insert(id);
    events.push_back(CellQueued{cell.number});
    queue_.push_back(std::move(cell));
}

void CellMachine::on(const Claim& entry, Fence fence, Events& events) {
    if (!options_) {
        return add_void(events, "a claim before the kernel is configured");
    }
    if (queue_.empty() || entry.cell != queue_.front().number) {
        return add_void(events, fmt::format("a claim of cell {}, but the next one is {}",
                                            entry.cell.value, next_cell().value));
    }
    if (entry.epoch != epoch_) {
        return add_void(events, fmt::format("a claim of epoch {} in epoch {}", entry.epoch.value,
                                            epoch_.value));
    }
    if (standing_) {
        return add_void(events, fmt::format("cell {} is claimed by replica {} already",
                                            entry.cell.value, standing_->replica.value));
    }
    if (entry.replica == ReplicaId{}) {
        return add_void(events, "a claim for nobody");
    }
    standing_ = Standing{entry.cell, entry.epoch, entry.replica, fence};
    events.push_back(CellClaimed{*standing_, queue_.front()});
}

void CellMachine::on(const Yield& entry, Fence, Events& events) {
    if (auto why = why_not_standing(entry.cell, entry.epoch, entry.replica); !why.empty()) {
        return add_void(events, std::move(why));
    }
    end_claim();
    events.push_back(ClaimEnded{entry.cell});
    end_cancelled_heads(events);
}

void CellMachine::on(const ResultPart& entry, Fence, Events& events) {
    if (auto why = why_not_standing(entry.cell, entry.epoch, entry.replica); !why.empty()) {
        return add_void(events, std::move(why));
    }
    // In any order: proposals that reach the leader over another host may overtake each other.
    if (!parts_.emplace(entry.number, entry.slice).second) {
        return add_void(events, fmt::format("part {} is here already", entry.number));
    }
    if (held_ && parts_complete(*held_)) {
        const auto result = *std::exchange(held_, std::nullopt);
        accept(result, events);
    }
}

void CellMachine::on(const Result& entry, Fence, Events& events) {
    if (auto why = why_not_standing(entry.cell, entry.epoch, entry.replica); !why.empty()) {
        return add_void(events, std::move(why));
    }
    if (entry.base != sequence_) {
        return add_void(events, fmt::format("a result for sequence {} at sequence {}",
                                            entry.base.value, sequence_.value));
    }
    if (held_) {
        return add_void(events, "a repeated result, whose parts are still to come");
    }
    if (parts_complete(entry)) {
        return accept(entry, events);
    }
    if (!parts_.empty() && parts_.rbegin()->first >= entry.parts) {
        return add_void(events, fmt::format("a result of {} parts, but part {} is here",
                                            entry.parts, parts_.rbegin()->first));
    }
    held_ = entry;
}

bool CellMachine::parts_complete(const Result& entry) const {
    return parts_.size() == entry.parts &&
           (parts_.empty() || parts_.rbegin()->first == entry.parts - 1);
}

void CellMachine::accept(const Result& entry, Events& events) {
    std::string delta;
    for (const auto& [number, slice] : parts_) {
        delta.append(slice.view());
    }
    delta.append(entry.delta.view());
    if (const auto applied = table_.apply(delta); !applied) {
        parts_.clear();  // whatever the executor proposes next begins anew
        return add_void(events, applied.error().what);
    }
    const bool diverged = table_.digest() != entry.digest;
    const bool stop = entry.outcome == Outcome::kError && queue_.front().stop_on_error;
    sequence_ = Sequence{sequence_.value + 1};
    last_executor_ = entry.replica;
    standing_.reset();
    parts_.clear();
    if (!delta.empty()) {
        spent_counts_ = 0;  // the executor has left them out, and its delta says so
    }
    end_first(Finished{.cell = entry.cell,
                       .outcome = entry.outcome,
                       .reply = entry.reply,
                       .outputs = entry.outputs},
              events);
    auto& ended = std::get<CellEnded>(events.back());
    ended.executor = entry.replica;
    ended.delta = Bytes(std::move(delta));
    if (diverged) {
        events.push_back(Diverged{sequence_});
    }
    if (stop) {
        end_all(Ending::kAborted, fmt::format("cell {} failed before it", entry.cell.value),
                events);
    }
    end_cancelled_heads(events);
}

void CellMachine::on(const ExecutorLost& entry, Fence, Events& events) {
    if (!standing_ || standing_->cell != entry.cell || standing_->epoch != entry.epoch) {
        return add_void(events, fmt::format("no claim of cell {} in epoch {} stands",
                                            entry.cell.value, entry.epoch.value));
    }
    const auto executor = standing_->replica;
    if (last_executor_ == executor) {
        last_executor_ = ReplicaId{};
    }
    const auto lost = queue_.front();
    spent_counts_ += lost.numbered ? 1 : 0;
    end_claim();
    end_first(Finished{.cell = entry.cell,
                       .ending = Ending::kExecutorLost,
                       .outcome = Outcome::kError,
                       .reason = entry.reason},
              events);
    std::get<CellEnded>(events.back()).executor = executor;
    if (lost.stop_on_error) {
        cancel_queue_of(lost.session, fmt::format("cell {} was lost before it", entry.cell.value));
    }
    end_cancelled_heads(events);
}

// "Run all" must not go on without what a lost cell would have done. Other clients' cells stay:
// they may have been sent long after the cell ran, while its loss was not known yet.
void CellMachine::cancel_queue_of(const std::string& session, const std::string& reason) {
    for (const auto& cell : queue_) {
        if (cell.session == session) {
            cancelled_.emplace(cell.number, reason);
        }
    }
}

void CellMachine::on(const Cancel& entry, Fence, Events& events) {
    const Id id{entry.session, entry.msg_id};
    if (ended_at_.contains(id)) {
        return add_void(events, "a cancelled cell has ended already");
    }
    if (!queued_ids_.contains(id)) {  // should it still come, it is a repeated one
        end_unqueued({.session = entry.session, .msg_id = entry.msg_id}, entry.reason, events);
        return;
    }
    const auto cell = std::find_if(queue_.begin(), queue_.end(), [&](const auto& queued) {
        return queued.msg_id == entry.msg_id && queued.session == entry.session;
    });
    if (standing_ && standing_->cell == cell->number) {
        return add_void(events, fmt::format("cell {} is claimed", cell->number.value));
    }
    // Cells end in number order (rule 5): one in mid-queue waits for its turn to end.
    if (!cancelled_.emplace(cell->number, entry.reason).second) {
        return add_void(events, fmt::format("cell {} is cancelled already", cell->number.value));
    }
    end_cancelled_heads(events);
}

// It gets no number: numbers end in order and without gaps (rule 5), and this one ends ahead of
// those that wait.
void CellMachine::end_unqueued(QueuedCell cell, const std::string& reason, Events& events) {
    Finished answer{.ending = Ending::kCancelled, .outcome = Outcome::kAborted, .reason = reason};
    remember(Ended{cell.session, cell.msg_id, answer});
    events.push_back(CellEnded{.ending = Ending::kCancelled,
                               .cell = std::move(cell),
                               .finished = std::move(answer),
                               .sequence = sequence_});
}

void CellMachine::on(const Reset& entry, Fence, Events& events) {
    if (!options_) {
        return add_void(events, "a reset before the kernel is configured");
    }
    if (entry.session.empty() || had_session(entry.session)) {
        return add_void(events, "this reset has been done already");
    }
    if (standing_) {
        const auto executor = standing_->replica;
        const auto cell = standing_->cell;
        end_claim();
        end_first(Finished{.cell = cell,
                           .ending = Ending::kReset,
                           .outcome = Outcome::kError,
                           .reason = "the kernel was restarted while this cell ran"},
                  events);
        std::get<CellEnded>(events.back()).executor = executor;
    }
    end_all(Ending::kCancelled, "the kernel was restarted", events);
    past_sessions_.push_back(session_);
    if (past_sessions_.size() > limits_.past_sessions_max) {
        past_sessions_.pop_front();
    }
    session_ = entry.session;
    ++incarnation_;
    // A number of its own, so that no late delta of the old state fits the new one.
    sequence_ = Sequence{sequence_.value + 1};
    spent_counts_ = 0;
    table_.clear();
    events.push_back(WasReset{session_});
}

std::string CellMachine::why_not_standing(CellNumber cell, Epoch epoch, ReplicaId replica) const {
    if (standing_ && standing_->cell == cell && standing_->epoch == epoch &&
        standing_->replica == replica) {
        return {};
    }
    return fmt::format("replica {} does not hold cell {} in epoch {}", replica.value, cell.value,
                       epoch.value);
}

void CellMachine::end_claim() {
    standing_.reset();
    parts_.clear();
    held_.reset();
    epoch_ = Epoch{epoch_.value + 1};
}

void CellMachine::end_first(Finished finished, Events& events) {
    NBOS_CHECK(!queue_.empty() && !standing_, "only the first cell can end, its claim before it");
    auto cell = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= cell.request.size();
    queued_ids_.erase(Id{cell.session, cell.msg_id});
    cancelled_.erase(cell.number);
    remember(Ended{cell.session, cell.msg_id, finished});
    events.push_back(CellEnded{.ending = finished.ending,
                               .cell = std::move(cell),
                               .finished = std::move(finished),
                               .sequence = sequence_});
}

void CellMachine::end_cancelled_heads(Events& events) {
    while (!standing_ && !queue_.empty()) {
        const auto cancelled = cancelled_.find(queue_.front().number);
        if (cancelled == cancelled_.end()) {
            return;
        }
        end_first(Finished{.cell = cancelled->first,
                           .ending = Ending::kCancelled,
                           .outcome = Outcome::kAborted,
                           .reason = cancelled->second},
                  events);
    }
}

void CellMachine::end_all(Ending ending, const std::string& reason, Events& events) {
    while (!queue_.empty()) {
        end_first(Finished{.cell = queue_.front().number,
                           .ending = ending,
                           .outcome = Outcome::kAborted,
                           .reason = reason},
                  events);
    }
}

void CellMachine::remember(Ended ended) {
    ended_at_[Id{ended.session, ended.msg_id}] = ended_dropped_ + ended_.size();
    if (ended.kept) {
        ++answers_;
        answer_bytes_ += bytes_of(ended.answer);
    }
    ended_.push_back(std::move(ended));
    trim();
}

void CellMachine::forget_answer(Ended& ended) {
    answer_bytes_ -= bytes_of(ended.answer);
    --answers_;
    ended.kept = false;
    ended.answer.reply = Bytes();
    ended.answer.outputs = Bytes();
    ended.answer.reason = "this cell ended so long ago that its reply is not kept any more";
}

void CellMachine::trim() {
    while (answers_ > limits_.finished_cells_max ||
           (answers_ > 1 && answer_bytes_ > limits_.finished_bytes_max)) {
        forget_answer(ended_[ended_.size() - answers_]);
    }
    while (ended_.size() > limits_.remembered_ids_max) {
        if (ended_.front().kept) {
            forget_answer(ended_.front());
        }
        ended_at_.erase(Id{ended_.front().session, ended_.front().msg_id});
        ended_.pop_front();
        ++ended_dropped_;
    }
}

}  // namespace nbos::replica
